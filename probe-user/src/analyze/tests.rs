use probe_ebpf::checksum;

use super::*;

fn analysed(file: &[u8]) -> (Summary, String) {
    let mut events = Vec::new();
    let summary = analyze(
        file,
        &Options { inside: Vec::new(), tunnels: TunnelPorts::NONE, top: 10 },
        Some(&mut events),
        |_, _| {},
    )
    .unwrap();
    (summary, String::from_utf8(events).unwrap())
}

/// A pcap file of Ethernet frames, captured whole.
fn file(frames: &[&[u8]]) -> Vec<u8> {
    let mut file =
        [&0xa1b2_c3d4_u32.to_le_bytes()[..], &[2, 0, 4, 0], &[0; 8], &65_535_u32.to_le_bytes(), &1_u32.to_le_bytes()]
            .concat();
    for frame in frames {
        let length = (frame.len() as u32).to_le_bytes();
        file.extend([&1_700_000_000_u32.to_le_bytes()[..], &[0; 4], &length, &length, frame].concat());
    }
    file
}

/// From 02:…:0a to 02:…:0b, of this type.
fn ethernet(ether_type: u16, body: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa][..], &ether_type.to_be_bytes(), body].concat()
}

/// An IPv4 header without options, and what follows, with right checksums of the header and of TCP.
fn ipv4(total_length: u16, protocol: u8, source: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let mut rest = rest.to_vec();
    if protocol == 6 {
        let addresses = checksum::sum(&source) + checksum::sum(&[192, 0, 2, 1]);
        let sum = addresses + checksum::pseudo(6, rest.len() as u32) + checksum::sum(&rest);
        rest[16..18].copy_from_slice(&(!checksum::fold(sum)).to_ne_bytes());
    }
    let mut header =
        [&[0x45, 0][..], &total_length.to_be_bytes(), &[0, 1, 0x40, 0, 64, protocol, 0, 0], &source, &[192, 0, 2, 1]]
            .concat();
    let sum = checksum::fold(checksum::sum(&header));
    header[10..12].copy_from_slice(&(!sum).to_ne_bytes());
    [header, rest].concat()
}

#[test]
fn findings_are_counted_and_told() {
    let short = ethernet(0x0800, &ipv4(30, 17, [10, 0, 0, 1], &[0; 2]));
    let group = [&[2, 0, 0, 0, 0, 0xb, 3][..], &[0; 20]].concat();
    let unknown = ethernet(0x4321, &[0; 46]);
    let (summary, events) = analysed(&file(&[&short, &group, &unknown, &short]));
    let counted: Vec<_> = summary.malformed.iter().map(|(reason, count)| (*reason, *count)).collect();
    assert_eq!(counted, [("eth_src_group", 1), ("eth_unknown_type", 1), ("ip4_trunc", 2)]);
    let events: Vec<_> = events.lines().collect();
    assert_eq!(events.len(), 4);
    let expected = r#"{"frame":1,"type":"malformed","name":"ip4_trunc","severity":"error","offset":16}"#;
    assert_eq!(events[0], expected);
    assert!(events[2].contains(r#""severity":"info""#), "{}", events[2]);
    assert_eq!((summary.frames, summary.other_frames, summary.unseen_frames), (4, 1, 0));
}

/// The offset counts from the first captured byte, whatever stands in front of the frame.
#[test]
fn offsets_count_from_the_first_byte() {
    let mut cooked =
        file(&[
            &[&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0][..], &ipv4(30, 17, [10, 0, 0, 1], &[0; 2])].concat()
        ]);
    cooked[20] = 113;
    let (_, events) = analysed(&cooked);
    assert!(events.ends_with("\"name\":\"ip4_trunc\",\"severity\":\"error\",\"offset\":18}\n"), "{events}");
}

/// Frames as Linux' loopback device has them are judged as such.
#[test]
fn a_loopback_needs_no_addresses() {
    let body = ipv4(28, 17, [127, 0, 0, 1], &[0, 9, 0, 9, 0, 8, 0, 0]);
    let loopback = [&[0; 12][..], &[8, 0], &body].concat();
    let (summary, _) = analysed(&file(&[&loopback]));
    assert!(summary.malformed.is_empty(), "{:?}", summary.malformed);
    let (summary, _) = analysed(&file(&[&ethernet(0x0800, &body)]));
    assert!(summary.malformed.contains_key("ip4_src"), "{:?}", summary.malformed);
}

/// Sent by a host whose network card cuts it up: without length, and longer than any frame.
#[test]
fn merged_packets_need_no_length() {
    let tcp = [&[0, 9, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0][..], &[0; 12_000]].concat();
    let (summary, _) = analysed(&file(&[&ethernet(0x0800, &ipv4(0, 6, [10, 0, 0, 1], &tcp))]));
    assert!(summary.malformed.is_empty() && summary.tcp_segments > 1, "{:?}", summary.malformed);
    let (summary, _) = analysed(&file(&[&ethernet(0x0800, &ipv4(0, 6, [10, 0, 0, 1], &tcp[..100]))]));
    assert!(summary.malformed.contains_key("ip4_len_lt_hdr"), "{:?}", summary.malformed);
}

/// Checksums are looked at in frames that are there whole, and follow the network card's habits.
#[test]
fn checksums() {
    let tcp = [&[0, 9, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0][..], &[7; 2000]].concat();
    let ordinary = ethernet(0x0800, &ipv4(140, 6, [10, 0, 0, 1], &tcp[..120]));
    let jumbo = ethernet(0x0800, &ipv4(2040, 6, [10, 0, 0, 1], &tcp));
    let damaged = |frame: &[u8], at: usize| {
        let mut frame = frame.to_vec();
        frame[at] ^= 1;
        frame
    };
    for (name, frame, is_wrong) in [
        ("right", ordinary.clone(), false),
        ("its data damaged", damaged(&ordinary, 150), true),
        ("itself damaged", damaged(&ordinary, 51), true),
        ("as long as no frame, right", jumbo.clone(), false),
        ("as long as no frame, merged perhaps", damaged(&jumbo, 2000), false),
    ] {
        let (summary, events) = analysed(&file(&[&frame]));
        let expected = r#"{"frame":1,"type":"malformed","name":"tcp_csum","severity":"error","offset":50}"#;
        assert_eq!(events.contains(expected), is_wrong, "{name}: {events}");
        assert_eq!(summary.malformed.len(), usize::from(is_wrong), "{name}: {:?}", summary.malformed);
        assert!(summary.tcp_segments > 0, "{name}: a connection is followed whatever its checksums");
    }
    let mut cut = file(&[&damaged(&ordinary, 51)]);
    cut.pop();
    cut[32..36].copy_from_slice(&153_u32.to_le_bytes());
    let (summary, _) = analysed(&cut);
    assert!(summary.malformed.is_empty() && summary.cut_frames == 1, "{:?}", summary.malformed);
}

/// What was not captured is not missing.
#[test]
fn cut_frames_are_not_malformed() {
    let tcp = [&[0, 9, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0][..], &[0; 100]].concat();
    let frame = ethernet(0x0800, &ipv4(140, 6, [10, 0, 0, 1], &tcp));
    for (captured, unseen, segments) in [(154, 0, 1), (54, 0, 1), (53, 1, 0), (20, 1, 0), (5, 1, 0), (0, 1, 0)] {
        let mut bytes = file(&[&frame]);
        bytes[32..36].copy_from_slice(&(captured as u32).to_le_bytes());
        bytes.truncate(40 + captured);
        let (summary, events) = analysed(&bytes);
        assert_eq!((summary.unseen_frames, summary.tcp_segments, &*events), (unseen, segments, ""), "{captured}");
        assert_eq!((summary.cut_frames, summary.bytes), (u64::from(captured < 154), 154));
    }
}

#[test]
fn documents() {
    let short = ethernet(0x0800, &ipv4(30, 17, [10, 0, 0, 1], &[0; 2]));
    let mut bytes = file(&[&short, &short]);
    bytes.truncate(bytes.len() - 1);
    let (summary, _) = analysed(&bytes);
    let json: serde_json::Value = serde_json::from_str(&summary.json("a \"file\"")).unwrap();
    let at = 24 + 16 + short.len();
    for (key, expected) in [
        ("/schema", serde_json::json!(1)),
        ("/file", "a \"file\"".into()),
        ("/format", "pcap".into()),
        ("/frames", 1.into()),
        ("/malformed/ip4_trunc", 1.into()),
        ("/tcp/retransmit_seen", 0.into()),
        ("/loss/before/lost", 0.into()),
        ("/loss/after/ratio", serde_json::Value::Null),
        ("/first_time", "2023-11-14T22:13:20Z".into()),
        ("/truncated", true.into()),
        ("/truncated_at", at.into()),
        ("/corrupt", serde_json::Value::Null),
        ("/flows", serde_json::json!([])),
        ("/skipped_link_types", serde_json::json!([])),
    ] {
        assert_eq!(json.pointer(key), Some(&expected), "{key} in {json}");
    }
    assert!(json["loss"].get("network_in").is_none(), "{json}");
    let table = summary.table("a\u{1b}[31mfile", Some(80), false);
    assert!(table.starts_with(r"a\u{1b}[31mfile: pcap, 1 frames, "), "{table}");
    assert!(table.contains("ip4_trunc") && table.lines().all(|line| line.chars().count() <= 130), "{table}");
}

/// Events that nobody can take end the analysis.
#[test]
fn a_reader_that_has_gone() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let short = ethernet(0x0800, &ipv4(30, 17, [10, 0, 0, 1], &[0; 2]));
    let failed = analyze(
        &file(&[&short])[..],
        &Options { inside: Vec::new(), tunnels: TunnelPorts::NONE, top: 0 },
        Some(&mut Gone),
        |_, _| {},
    );
    assert!(matches!(&failed, Err(Failure::Unwritten(error)) if error.kind() == ErrorKind::BrokenPipe), "{failed:?}");
}

#[test]
fn bars_have_templates() {
    for template in BARS {
        assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
    }
}

/// A segment in a tunnel, and less of it once more: a connection there where the port is a tunnel's.
#[test]
fn what_a_tunnel_carries() {
    let segment = |payload_bytes: u16| {
        let header = [3, 232, 1, 187, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0];
        let tcp = [&header[..], &vec![7; payload_bytes.into()]].concat();
        let inner = ethernet(0x0800, &ipv4(40 + payload_bytes, 6, [10, 0, 0, 1], &tcp));
        let [high, low] = (70 + payload_bytes).to_be_bytes();
        let udp = [&[195, 80, 0x12, 0xb5, high, low, 0, 0, 8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat();
        ethernet(0x0800, &ipv4(90 + payload_bytes, 17, [10, 9, 0, 1], &udp))
    };
    let file = file(&[&segment(40), &segment(30)]);
    for (tunnels, expected) in [
        (TunnelPorts { vxlan: [4789, 0], ..TunnelPorts::NONE }, vec![("10.0.0.1:1000".to_owned(), Some(7))]),
        (TunnelPorts::NONE, vec![]),
    ] {
        let options = Options { inside: Vec::new(), tunnels, top: 10 };
        let summary = analyze(&file[..], &options, None, |_, _| {}).unwrap();
        let flows: Vec<_> = summary.flows.iter().map(|flow| (flow.source.clone(), flow.tunnel)).collect();
        assert_eq!(flows, expected);
        assert!(summary.malformed.is_empty(), "{:?}", summary.malformed);
    }
}
