use super::*;
use crate::snapshot::{
    Attachment, BadChecksums, Drop, Malformed, MapUpdateFailed, Retransmitted, Tcp, Traffic, XdpFailed,
};

fn snapshot() -> Snapshot {
    let attached = |hook: &str| Attachment { hook: hook.into(), ..Attachment::default() };
    let drop = |netns: &str, interface: &str, reason: &str, class: &str, packets| Drop {
        netns: netns.into(),
        interface: interface.into(),
        reason: reason.into(),
        class: class.into(),
        packets,
        ..Drop::default()
    };
    let site = |netns: &str, interface: &str, reason: &str, class: &str, function: &str, packets| DropSite {
        netns: netns.into(),
        interface: interface.into(),
        reason: reason.into(),
        class: class.into(),
        function: function.into(),
        packets,
    };
    let malformed = |reason: &str, severity: &str, frames| Malformed {
        direction: "ingress".into(),
        reason: reason.into(),
        severity: severity.into(),
        frames,
        ..Malformed::default()
    };
    let mut snapshot = Snapshot {
        schema: SCHEMA,
        uptime_ms: 10_000,
        interfaces: vec![
            Interface {
                name: "eth0".into(),
                ifindex: 2,
                role: "uplink".into(),
                attached: vec![attached("tc_ingress"), attached("tc_egress")],
                ingress: Traffic { frames: 1_234_567, bytes: 987_654_321, ..Traffic::default() },
                malformed: vec![malformed("tcp_flags", "warning", 7), malformed("ip4_csum", "error", 3)],
                ..Interface::default()
            },
            Interface {
                name: "e\x1b[31m\u{202e}x".into(),
                ifindex: 3,
                role: "port".into(),
                refused: "an ingress qdisc is there".into(),
                ..Interface::default()
            },
        ],
        drops: vec![
            drop("own", "eth0", "no_socket", "noise", 5000),
            drop("own", "eth0", "netfilter_drop", "policy", 40),
            drop("other", "x", "netfilter_drop", "policy", 2),
        ],
        drop_sites: vec![
            site("own", "eth0", "no_socket", "noise", "tcp_v4_rcv+0x2a", 5000),
            site("own", "eth0", "netfilter_drop", "policy", "nf_hook_slow+0x9c", 40),
            site("other", "", "netfilter_drop", "policy", "", 2),
        ],
        xdp_failed: vec![
            XdpFailed { interface: "eth0".into(), cause: "redirect".into(), port: false, packets: 30 },
            XdpFailed { cause: "cpumap".into(), packets: 1, ..XdpFailed::default() },
        ],
        tcp: Tcp {
            sent_segments: Some(1000),
            bad_checksums: vec![BadChecksums { interface: "eth0".into(), segments: 6 }],
            retransmitted: vec![Retransmitted {
                interface: "eth0".into(),
                kind: "syn".into(),
                segments: 5,
                port: false,
            }],
        },
        ..Snapshot::default()
    };
    let failed = |map: &str, count| MapUpdateFailed { map: map.into(), cause: "full".into(), count };
    snapshot.probe.map_update_failed = vec![failed("drops", 9), failed("senders", 4), MapUpdateFailed::default()];
    snapshot
}

/// Two and a half seconds earlier.
fn earlier() -> Snapshot {
    let mut before = snapshot();
    before.uptime_ms = 7_500;
    before.interfaces[0].ingress = Traffic { frames: 1_234_557, bytes: 987_651_821, ..Traffic::default() };
    before.interfaces[0].malformed.truncate(1);
    before.drops[1].packets = 39;
    before.tcp.sent_segments = Some(500);
    before.tcp.bad_checksums[0].segments = 1;
    before.xdp_failed.truncate(1);
    before
}

#[test]
fn totals() {
    let expected = "\
interface             role    in frames     in bytes  out frames  out bytes
----------------------------------------------------------------------------
eth0                  uplink  1,234,567  987,654,321           0          0
e\\u{1b}[31m\\u{202e}x  port            –            –           –          –

interface           what               reason          class      packets
--------------------------------------------------------------------------
eth0                TCP bad checksum   –               malformed        6
eth0                malformed in       ip4_csum        error            3
eth0                dropped            netfilter_drop  policy          40
eth0                XDP failed         redirect        –               30
eth0                malformed in       tcp_flags       warning          7
eth0                TCP retransmitted  syn             –                5
(other namespaces)  dropped            netfilter_drop  policy           2
(none or other)     XDP failed         cpumap          –                1
eth0                dropped            no_socket       noise        5,000

dropped in kernel function  interface  reason          class   packets
-----------------------------------------------------------------------
tcp_v4_rcv+0x2a             eth0       no_socket       noise     5,000
nf_hook_slow+0x9c           eth0       netfilter_drop  policy       40

TCP of this namespace: 1,000 segments sent, 5 retransmitted: 0.50 % of all, first times and retransmits together.
e\\u{1b}[31m\\u{202e}x is not watched as asked: an ingress qdisc is there
The probe lost 9 counts: map drops (full). Figures above are too low.
Nobody is named as the sender of 4 malformed frames (full); they are counted.
";
    assert_eq!(render_table(&snapshot(), None, None, false), expected);
}

#[test]
fn rates_are_per_second() {
    let (now, before) = (snapshot(), earlier());
    let table = render_table(&now, Some(&before), None, false);
    let row = |start: &[&str]| {
        let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        row.into_iter().find(|row| row.starts_with(start)).unwrap_or_else(|| panic!("{start:?} in {table}"))
    };
    assert_eq!(row(&["eth0", "uplink"])[2..], ["1,234,567", "4.0", "1,000", "0", "0", "0"]);
    assert_eq!(row(&["eth0", "malformed", "in", "ip4_csum"])[4..], ["error", "3", "1.2"], "was not there before");
    assert_eq!(row(&["eth0", "malformed", "in", "tcp_flags"])[4..], ["warning", "7", "0"]);
    assert_eq!(row(&["eth0", "dropped", "netfilter_drop"])[3..], ["policy", "40", "0.4"]);
}

#[test]
fn no_rates_across_a_restart_of_the_agent() {
    let mut before = earlier();
    before.uptime_ms = 20_000;
    assert_eq!(render_table(&snapshot(), Some(&before), None, false), render_table(&snapshot(), None, None, false));
    assert!(!render_json(&snapshot(), Some(&before)).contains("rates"));
}

#[test]
fn colours_say_the_same_as_none() {
    let (plain, coloured) = (render_table(&snapshot(), None, None, false), render_table(&snapshot(), None, None, true));
    let stripped = ["\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m"]
        .iter()
        .fold(coloured.clone(), |text, code| text.replace(code, ""));
    assert_eq!(stripped, plain);
    assert!(coloured.lines().any(|line| line.starts_with("\x1b[2meth0") && line.contains("no_socket")), "noise is dim");
    assert!(coloured.lines().any(|line| line.starts_with("\x1b[31meth0") && line.contains("ip4_csum")));
}

#[test]
fn a_narrow_terminal_cuts_texts_and_no_figures() {
    let mut long = snapshot();
    long.interfaces[0].name = "a-name-as-long-as-they-get-in-the-kernel".into();
    let table = render_table(&long, Some(&earlier()), Some(100), false);
    let tables = table.split("\nTCP of").next().unwrap();
    assert!(tables.lines().all(|line| line.chars().count() <= 100), "{table}");
    assert!(table.contains("1,234,567") && table.contains('…'), "{table}");
    assert_eq!(table.lines().count(), render_table(&long, Some(&earlier()), None, false).lines().count());
}

/// A repeated SYN-ACK is among the segments sent, another repeated segment is not.
#[test]
fn what_is_sent_again_is_a_part_of_what_is_sent() {
    let mut snapshot = snapshot();
    for (kind, note) in [("fast", "950 segments sent, 50 retransmitted: 5.00 % of all"), ("synack", ": 5.26 % of all")]
    {
        snapshot.tcp.sent_segments = Some(950);
        snapshot.tcp.retransmitted =
            vec![Retransmitted { kind: kind.into(), segments: 50, ..Retransmitted::default() }];
        let table = render_table(&snapshot, None, None, false);
        assert!(table.contains(note), "{table}");
    }
}

#[test]
fn nothing_to_tell() {
    let text = render_table(&Snapshot::default(), None, Some(80), true);
    assert_eq!(text, "No interface is selected.\n\nNothing malformed, nothing dropped, nothing retransmitted.\n");
}

#[test]
fn json() {
    let (now, before) = (snapshot(), earlier());
    let once: serde_json::Value = serde_json::from_str(&render_json(&now, None)).unwrap();
    assert_eq!((&once["schema"], once.get("rates")), (&1.into(), None));
    assert_eq!(serde_json::from_value::<Snapshot>(once["snapshot"].clone()).unwrap(), now);
    let line = render_json(&now, Some(&before));
    assert!(!line.contains('\n'));
    let rates = serde_json::from_str::<serde_json::Value>(&line).unwrap()["rates"].take();
    assert_eq!(rates["seconds"], 2.5);
    assert_eq!(rates["interfaces"][0]["ingress"], serde_json::json!({"frames": 4.0, "bytes": 1000.0}));
    assert_eq!(rates["interfaces"][0]["malformed"][1]["frames"], 1.2);
    assert_eq!(rates["tcp"]["sent_segments"], 200.0);
    assert_eq!(rates["tcp"]["retransmitted"][0]["type"], "syn");
    assert_eq!(rates["tcp"]["bad_checksums"][0]["segments"], 2.0);
    assert_eq!((&rates["xdp_failed"][0]["packets"], &rates["xdp_failed"][1]["packets"]), (&0.0.into(), &0.4.into()));
    let policy =
        rates["drops"].as_array().unwrap().iter().find(|row| row["class"] == "policy" && row["netns"] == "own");
    assert_eq!(policy.unwrap()["packets"], 0.4);
}

#[test]
fn figures() {
    for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (u64::MAX, "18,446,744,073,709,551,615")] {
        assert_eq!(grouped(number), expected);
    }
    for (per_second, expected) in [(0.0, "0"), (0.04, "0.0"), (9.94, "9.9"), (10.4, "10"), (1234.5, "1,235")] {
        assert_eq!(rate(per_second), expected);
    }
}
