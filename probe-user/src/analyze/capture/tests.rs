use super::*;

/// Numbers in one order of bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Endian {
    Little,
    Big,
}

impl Endian {
    const BOTH: [Self; 2] = [Self::Little, Self::Big];

    fn u32(self, number: u32) -> [u8; 4] {
        if self == Self::Big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn u16(self, number: u16) -> [u8; 2] {
        if self == Self::Big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    /// A pcap file's header.
    fn pcap(self, magic: u32, snap_bytes: u32, link_type: u32) -> Vec<u8> {
        let version = [self.u16(2), self.u16(4)].concat();
        [&self.u32(magic)[..], &version, &[0; 8], &self.u32(snap_bytes), &self.u32(link_type)].concat()
    }

    /// A pcap record: seconds, fraction, and the first bytes of a frame.
    fn record(self, (seconds, fraction): (u32, u32), frame_bytes: u32, captured: &[u8]) -> Vec<u8> {
        let header = [seconds, fraction, captured.len() as u32, frame_bytes].map(|number| self.u32(number)).concat();
        [&header, captured].concat()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = self.u32(body.len() as u32 + 12);
        [&self.u32(kind)[..], &length, &body, &length].concat()
    }

    fn section(self) -> Vec<u8> {
        let versions = [self.u16(1), self.u16(0)].concat();
        self.block(0x0a0d_0d0a, &[&self.u32(0x1a2b_3c4d)[..], &versions, &[0xff; 8]].concat())
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut option = [&self.u16(code)[..], &self.u16(value.len() as u16), value].concat();
        option.resize(option.len().next_multiple_of(4), 0);
        option
    }

    fn interface(self, link_type: u16, snap_bytes: u32, options: &[u8]) -> Vec<u8> {
        self.block(1, &[&self.u16(link_type)[..], &[0, 0], &self.u32(snap_bytes), options].concat())
    }

    fn enhanced(self, interface: u32, ticks: u64, frame_bytes: u32, captured: &[u8], options: &[u8]) -> Vec<u8> {
        let numbers = [interface, (ticks >> 32) as u32, ticks as u32, captured.len() as u32, frame_bytes];
        let mut body = numbers.map(|number| self.u32(number)).concat();
        body.extend(captured);
        body.resize(body.len().next_multiple_of(4), 0);
        self.block(6, &[&body, options].concat())
    }

    fn simple(self, frame_bytes: u32, captured: &[u8]) -> Vec<u8> {
        self.block(3, &[&self.u32(frame_bytes)[..], captured].concat())
    }

    /// The block that the enhanced one has replaced.
    fn obsolete(self, interface: u16, ticks: u64, captured: &[u8]) -> Vec<u8> {
        let length = captured.len() as u32;
        let numbers = [(ticks >> 32) as u32, ticks as u32, length, length].map(|number| self.u32(number)).concat();
        self.block(2, &[&self.u16(interface)[..], &[0; 2], &numbers, captured].concat())
    }
}

/// A record without its borrow: bytes, length, time, link type, interface, sent.
type Owned = (Vec<u8>, u32, u64, u32, u32, Option<bool>);

/// All records of a file, and how it ended.
fn all(file: &[u8]) -> (Vec<Owned>, Option<Broken>) {
    let mut records = Vec::new();
    let mut capture = match Capture::open(file) {
        Ok(capture) => capture,
        Err(broken) => return (records, Some(broken)),
    };
    loop {
        match capture.next() {
            Ok(Some(Record { bytes, frame_bytes, time_ns, link_type, interface, sent })) => {
                records.push((bytes.to_vec(), frame_bytes, time_ns, link_type, interface, sent));
            }
            Ok(None) => return (records, None),
            Err(broken) => return (records, Some(broken)),
        }
    }
}

/// All records of a file that is as it should be.
fn whole(file: &[u8]) -> Vec<Owned> {
    let (records, broken) = all(file);
    assert!(broken.is_none(), "{broken:?}");
    records
}

#[test]
fn pcap_in_all_its_forms() {
    for endian in Endian::BOTH {
        for (magic, unit_ns, patched) in [(0xa1b2_c3d4, 1000, 0), (0xa1b2_3c4d, 1, 0), (0xa1b2_cd34, 1000, 8)] {
            let mut record = endian.record((7, 5), 60, &[1, 2, 3]);
            record.splice(16..16, vec![9; patched]);
            // Above the link type: a checksum of four bytes.
            let file =
                [endian.pcap(magic, 96, 0x2400_0001), record, endian.record((8, 0), 0, &[])[..0].to_vec()].concat();
            let expected = (vec![1, 2, 3], 60, 7_000_000_000 + 5 * unit_ns, 1, 0, None);
            assert_eq!(whole(&file), [expected], "{magic:#x}");
        }
    }
}

#[test]
fn lengths_that_writers_get_wrong() {
    let le = Endian::Little;
    let file = [le.pcap(0xa1b2_c3d4, 4, 1), le.record((0, 0), 0, &[1; 9]), le.record((0, 0), 4, &[])].concat();
    let frames: Vec<_> = whole(&file).into_iter().map(|(bytes, frame_bytes, ..)| (bytes.len(), frame_bytes)).collect();
    assert_eq!(frames, [(9, 9), (0, 4)]);
    // A length without the padding.
    let mut block = le.enhanced(0, 1, 3, &[1, 2, 3], &[]);
    let end = block.len() - 4;
    for at in [4, end] {
        block[at] -= 1;
    }
    let file = [le.section(), le.interface(1, 0, &[]), block, le.enhanced(0, 2, 1, &[4], &[])].concat();
    // The body ends with the padding.
    assert_eq!(whole(&file).into_iter().map(|(bytes, ..)| bytes).collect::<Vec<_>>(), [vec![1, 2, 3], vec![4]]);
}

#[test]
fn pcapng_interfaces_of_their_own() {
    for endian in Endian::BOTH {
        let flags = |number: u32| endian.option(2, &endian.u32(number));
        let offset = if endian == Endian::Big { 3_i64.to_be_bytes() } else { 3_i64.to_le_bytes() };
        let file = [
            endian.section(),
            endian.interface(1, 0, &[]),
            endian.interface(
                113,
                0,
                &[endian.option(2, b"eth0"), endian.option(9, &[9]), endian.option(0, &[])].concat(),
            ),
            endian.interface(101, 4, &[endian.option(9, &[0x80 | 10]), endian.option(14, &offset)].concat()),
            // What is not a frame.
            endian.block(5, &[0; 20]),
            endian.block(0x0bad, &[0; 100]),
            endian.enhanced(0, 1 << 33, 100, &[1; 5], &flags(1)),
            endian.enhanced(1, 7, 4, &[2; 4], &[endian.option(1, b"a comment"), flags(2 | 0xfc)].concat()),
            endian.enhanced(2, 512, 1, &[3], &flags(0)),
            endian.simple(9, &[4; 9]),
            endian.simple(9, &[4; 8]),
            endian.obsolete(2, 1024, &[5; 7]),
        ]
        .concat();
        assert_eq!(
            whole(&file),
            [
                (vec![1; 5], 100, (1 << 33) * 1000, 1, 0, Some(false)),
                (vec![2; 4], 4, 7, 113, 1, Some(true)),
                (vec![3], 1, 3_500_000_000, 101, 2, None),
                (vec![4; 9], 9, 0, 1, 0, None),
                (vec![4; 8], 9, 0, 1, 0, None),
                (vec![5; 7], 7, 4_000_000_000, 101, 2, None),
            ]
        );
        let mut capture = Capture::open(&file[..]).unwrap();
        while capture.next().unwrap().is_some() {}
        assert_eq!(capture.interface(1).unwrap().name, "eth0");
        assert!(capture.interface(3).is_none());
    }
}

#[test]
fn sections_begin_anew() {
    let [little, big] = Endian::BOTH;
    let named = |endian: Endian, name: &[u8]| endian.interface(1, 0, &endian.option(2, name));
    let of = |number| little.enhanced(number, 1, 1, &[1], &[]);
    let rows = [
        little.section(),
        named(little, b"eth0"),
        named(little, b"eth1"),
        of(1),
        little.section(),
        little.interface(1, 96, &little.option(2, b"eth0")),
        named(little, b"wlan0"),
        [of(0), of(1)].concat(),
    ];
    let rows = rows.concat();
    let mut capture = Capture::open(&rows[..]).unwrap();
    let mut numbers = Vec::new();
    while let Some(record) = capture.next().unwrap() {
        numbers.push(record.interface);
    }
    let names = numbers.iter().map(|number| capture.interface(*number).unwrap().name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["eth1", "eth0", "wlan0"]);
    assert_eq!(numbers, [1, 0, 2], "what is described alike is the same");
    let file = [
        little.section(),
        little.interface(1, 0, &[]),
        little.enhanced(0, 1, 1, &[1], &[]),
        big.section(),
        big.interface(101, 2, &[]),
        big.simple(9, &[2; 2]),
    ]
    .concat();
    assert_eq!(whole(&file), [(vec![1], 1, 1000, 1, 0, None), (vec![2; 2], 9, 0, 101, 1, None)]);
    let (records, broken) = all(&[&file[..], &little.section(), &little.enhanced(0, 1, 1, &[1], &[])].concat());
    let Some(Broken::Corrupt { at, cause }) = broken else { panic!("{broken:?}") };
    assert_eq!((records.len(), at), (2, file.len() as u64 + 28));
    assert!(cause.contains("interface 0"), "{cause}");
}

/// Wherever a file ends: all records before are there, and the one that is cut is named.
#[test]
fn files_that_end_too_early() {
    let endian = Endian::Little;
    let records: Vec<Vec<u8>> = (1..5).map(|length| endian.record((1, 2), 60, &vec![length; length.into()])).collect();
    let blocks: Vec<Vec<u8>> =
        (1..5).map(|length| endian.enhanced(0, 1, 9, &vec![length; length.into()], &[])).collect();
    let head = [endian.section(), endian.interface(1, 0, &[])].concat();
    for (head, records) in [(endian.pcap(0xa1b2_c3d4, 9, 1), records), (head, blocks)] {
        let file = [head.clone(), records.concat()].concat();
        let mut boundaries = vec![head.len()];
        for record in &records {
            boundaries.push(boundaries[boundaries.len() - 1] + record.len());
        }
        for length in head.len()..=file.len() {
            let (seen, broken) = all(&file[..length]);
            let complete = boundaries.iter().filter(|end| **end <= length).count() - 1;
            assert_eq!(seen.len(), complete, "{length} of {} bytes", file.len());
            match broken {
                None => assert_eq!(boundaries[complete], length),
                Some(Broken::Truncated { at }) => {
                    assert_eq!((at, length > at as usize), (boundaries[complete] as u64, true));
                }
                Some(other) => panic!("{other} of {length} bytes"),
            }
        }
        for length in 4..head.len() {
            let (seen, broken) = all(&file[..length]);
            let ends_with_block = length == endian.section().len() && head.len() > 24;
            assert!(seen.is_empty() && matches!(broken, Some(Broken::Truncated { .. })) != ends_with_block, "{length}");
        }
    }
}

#[test]
fn files_that_are_corrupt() {
    let le = Endian::Little;
    let pcap = |snap_bytes| [le.pcap(0xa1b2_c3d4, snap_bytes, 1), le.record((0, 0), 1, &[1])].concat();
    let ng = [le.section(), le.interface(1, 0, &[]), le.enhanced(0, 0, 1, &[1], &[])].concat();
    let named = |captured: u32, frame: u32| [0, 0, captured, frame].map(|number| le.u32(number)).concat();
    let mut mismatch = le.enhanced(0, 0, 1, &[1], &[]);
    let last = mismatch.len() - 4;
    mismatch[last] ^= 4;
    // Too long for being looked at in one piece, with another frame behind it.
    let mut long_mismatch = le.block(9, &[0; 1 << 20]);
    let last = long_mismatch.len() - 4;
    long_mismatch[last] ^= 4;
    let padded = le.enhanced(0, 0, 1, &[1], &[0; 300_000]);
    let mut beyond = le.enhanced(0, 0, 1, &[1], &[]);
    beyond[20] = 5;
    for (name, start, rest, expected) in [
        ("longer than any", pcap(96), named(262_145, 262_145), "262145"),
        ("longer than any, whatever it says", pcap(u32::MAX), named((128 << 20) + 1, 1), "134217729"),
        ("longer than the frame, and not there", pcap(0), named(9, 8), "9 bytes of a frame of 8"),
        ("longer than was to be captured, and not there", pcap(96), named(97, 97), "97 bytes of a frame of 97"),
        ("a block of no length", ng.clone(), [le.u32(6), le.u32(0), le.u32(0)].concat(), "type 0x6 and 0 bytes"),
        ("a block too short", ng.clone(), [le.u32(6), le.u32(28), le.u32(0)].concat(), "type 0x6 and 28 bytes"),
        ("a block too long", ng.clone(), [le.u32(9), le.u32(u32::MAX), le.u32(0)].concat(), "4294967295 bytes"),
        ("two lengths", ng.clone(), mismatch, "begins as one of 36 bytes and ends as one of 32"),
        (
            "two lengths, far apart",
            ng.clone(),
            long_mismatch,
            "begins as one of 1048588 bytes and ends as one of 1048584",
        ),
        ("more around a frame than there can be", ng.clone(), padded, "bytes around a frame of 1 is not"),
        ("a frame beyond its block", ng.clone(), beyond, "cannot hold a frame of 5"),
        ("no such interface", ng.clone(), le.enhanced(1, 0, 1, &[1], &[]), "interface 1"),
        ("no magic number", ng.clone(), le.block(0x0a0d_0d0a, &[0; 16]), "magic"),
    ] {
        let (records, broken) = all(&[&start[..], &rest, &[0; 4]].concat());
        let Some(Broken::Corrupt { at, cause }) = broken else { panic!("{name}: {broken:?}") };
        assert_eq!((records.len(), at), (1, start.len() as u64), "{name}: {cause}");
        assert!(cause.contains(expected), "{name}: {cause}");
    }
}

#[test]
fn what_is_no_capture() {
    for (bytes, expected) in [
        (&b""[..], "empty"),
        (b"abc", "fewer than 4"),
        (b"hello", "68 65 6c 6c"),
        (&[0x1f, 0x8b, 8, 0], "zcat FILE | lossprobe analyze -"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstdcat"),
    ] {
        let Err(Broken::Corrupt { at: 0, cause }) = Capture::open(bytes) else { panic!("{bytes:?}") };
        assert!(cause.contains(expected), "{cause}");
    }
}

/// More than the window holds: the first bytes are there, and the next record is found.
#[test]
fn records_of_any_length() {
    let le = Endian::Little;
    let long: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    let pcap = [
        le.pcap(0xa1b2_c3d4, u32::MAX, 1),
        le.record((0, 0), 3_000_000, &long),
        le.record((0, 0), 250_000, &long[..250_000]),
        le.record((0, 0), 3, &[1, 2, 3]),
    ]
    .concat();
    let ng = [
        le.section(),
        le.interface(1, 0, &[]),
        le.enhanced(0, 0, 3_000_000, &long, &[]),
        le.block(0x0bad, &long),
        le.enhanced(0, 0, 250_000, &long[..250_000], &[]),
        le.enhanced(0, 0, 3, &[1, 2, 3], &[]),
    ]
    .concat();
    for file in [pcap, ng] {
        let records = whole(&file);
        let lengths: Vec<_> = records.iter().map(|(_, frame_bytes, ..)| *frame_bytes).collect();
        assert_eq!(lengths, [3_000_000, 250_000, 3]);
        assert!(records[0].0.len() >= 65_536 && records[0].0[..65_536] == long[..65_536]);
        assert_eq!((records[1].0.len(), &records[2].0[..]), (250_000, &[1, 2, 3][..]));
        let (records, broken) = all(&file[..2_000_000]);
        assert!(records.len() == 1 && matches!(broken, Some(Broken::Truncated { at: 24 | 48 })), "{broken:?}");
    }
}

/// Any bytes: no panic, and no record that was not there.
#[test]
fn bytes_at_random() {
    let le = Endian::Little;
    let ng = [
        le.section(),
        le.interface(1, 0, &le.option(9, &[6])),
        le.enhanced(0, 9, 60, &[1; 21], &le.option(2, &[1, 0, 0, 0])),
        le.simple(5, &[2; 5]),
        le.obsolete(0, 9, &[3; 9]),
    ]
    .concat();
    let pcap = [le.pcap(0xa1b2_c3d4, 96, 1), le.record((1, 2), 60, &[1; 21]), le.record((1, 2), 60, &[2; 5])].concat();
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for file in [ng, pcap] {
        for _ in 0..20_000 {
            let mut bytes = file.clone();
            for _ in 0..=random() % 3 {
                let at = random() % bytes.len();
                bytes[at] = random() as u8;
            }
            let (records, _) = all(&bytes);
            assert!(records.len() <= bytes.len() / 16);
        }
    }
}

/// What `lossprobe capture` writes, nothing is lost of.
#[test]
fn our_own_captures_are_read() {
    use crate::{
        event::{Event, tests::malformed},
        record::{frame::Frame, pcapng::Writer},
    };
    let mut file = Vec::new();
    let mut writer = Writer::begin(&mut file, "Linux".to_owned()).unwrap();
    let egress = || Some("egress".to_owned());
    let events = [
        malformed(),
        Event { interface: "tun0".to_owned(), link_type: Some(101), direction: egress(), ..malformed() },
        Event { bytes: String::new(), direction: None, ..malformed() },
    ];
    for event in &events {
        writer.write(&Frame::of(event).unwrap()).unwrap();
    }
    let bytes: Vec<u8> = (0..15).collect();
    let time = 1_795_640_400_123_456_789;
    let expected = [
        (bytes.clone(), 1514, time, 1, 0, Some(false)),
        (bytes, 1514, time, 101, 1, Some(true)),
        (Vec::new(), 1514, time, 1, 0, None),
    ];
    assert_eq!(whole(&file), expected);
    let mut capture = Capture::open(&file[..]).unwrap();
    while capture.next().unwrap().is_some() {}
    let names = [0, 1].map(|index| capture.interface(index).map(|interface| interface.name.clone()));
    assert_eq!(names, [Some("eth0".to_owned()), Some("tun0".to_owned())]);
}
