use nix::libc;

use super::{
    message::{Device, Seen, event, text},
    *,
};
use crate::netlink::messages;

// Messages of Linux 6.18.44 behind their netlink header, statistics and per-protocol settings cut out.
/// virtio-net.
const ETH0: &str = "00000100040000004310010000000000090003006574683000000000050010000600000008000400780500000a00010002fc0000000100000a000200ffffffffffff00000c00380076697274696f32000b00390076697274696f0000";
const LO: &str = "00000403010000000800000000000000070003006c6f0000050010000200000008000400000001000a00010000000000000000000a0002000000000000000000";
const BR0: &str = "000001000200000002100000000000000800030062723000050010000200000008000400dc0500000a000100ba00b0fcb1e000000a000200ffffffffffff0000100012000b0001006272696467650000";
const T0: &str =
    "0000feff0300000090100000000000000700030074300000050010000200000008000400dc0500000c0012000800010074756e00";
/// A port of br0 with an alias; its other end is device 4 of the same namespace.
const V0: &str = "000001000500000003100000000000000700030076300000050010000300000008000400dc05000008000a000200000009001400766d2d31000000000a000100ba00b0fcb1e000000a000200ffffffffffff0000100012000900010076657468000000000800050004000000";
const X0: &str = "000001000600000002100000000000000700030078300000050010000200000008000400aa0500000a000100fae1fe2d003d00000a000200ffffffffffff0000100012000a00010076786c616e000000";
/// What `ip link set v0 nomaster` made the bridge say, as RTM_NEWLINK and as RTM_DELLINK.
const PORT_OF_BRIDGE: &str = "07000100050000000310000000000000070003007630000008000a000200000008000400dc05000005001000030000000a000100ba00b0fcb1e000000800050004000000";

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
        .collect()
}

fn device(hex: &str) -> Device {
    match event(libc::RTM_NEWLINK, &bytes(hex)).expect("well formed") {
        Some(Seen::Device(device)) => *device,
        other => panic!("{other:?}"),
    }
}

#[test]
fn recorded_devices() {
    for (hex, name, kind, link_kind, flags) in [
        (ETH0, "eth0", "ethernet", LinkKind::Ethernet, 0),
        (LO, "lo", "loopback", LinkKind::Ethernet, LOOPBACK),
        (BR0, "br0", "bridge", LinkKind::Ethernet, 0),
        (T0, "t0", "tun", LinkKind::Network, 0),
        (V0, "v0", "veth", LinkKind::Ethernet, 0),
        (X0, "x0", "vxlan", LinkKind::Ethernet, 0),
    ] {
        let link = device(hex).link;
        assert_eq!((link.name.as_str(), link.kind.as_str()), (name, kind));
        assert_eq!((link.link_kind(), link.flags()), (link_kind, flags), "{name}");
    }
}

#[test]
fn every_field() {
    let expected = Link {
        tunnel: None,
        ifindex: 5,
        name: "v0".to_owned(),
        kind: "veth".to_owned(),
        device_type: 1,
        mtu_bytes: 1500,
        up: true,
        master: Some(2),
        lower: None,
        has_parent_device: false,
        parent_bus: String::new(),
        port_name: String::new(),
        driver: String::new(),
        carrier: None,
        carrier_changes: None,
        alias: "vm-1".to_owned(),
    };
    assert_eq!(device(V0).link, expected);
}

/// `eth0` with another bus in place of virtio's, which is its last attribute.
#[test]
fn only_a_wire_pads() {
    let on_bus = |bus: Option<&str>| {
        let attribute = bus.map_or_else(String::new, |bus| {
            let mut attribute = vec![u8::try_from(4 + bus.len() + 1).expect("short"), 0, 0x39, 0];
            attribute.extend(bus.bytes().chain([0]));
            attribute.resize(attribute.len().next_multiple_of(4), 0);
            attribute.iter().map(|byte| format!("{byte:02x}")).collect()
        });
        device(&ETH0.replace("0b00390076697274696f0000", &attribute)).link
    };
    for (bus, expected) in [
        (Some("pci"), FROM_WIRE),
        (Some("platform"), FROM_WIRE),
        (Some("virtio"), 0),
        (Some("xen"), 0),
        (Some("xen-backend"), 0),
        (Some("vmbus"), 0),
        (None, 0),
    ] {
        let link = on_bus(bus);
        assert_eq!((link.parent_bus.as_str(), link.flags()), (bus.unwrap_or_default(), expected));
        assert!(link.is_physical(), "{bus:?}");
    }
    let parentless = Link { parent_bus: "pci".to_owned(), ..Link::default() };
    assert_eq!(parentless.flags(), 0);
}

/// What a wireless driver tells of scans and associations has the device's name, and nothing else of it.
#[test]
fn what_tells_nothing_of_the_device_changes_nothing() {
    const WIRELESS: &str = "08000b00198b0000";
    let name = "0900030065746830"; // eth0
    let header = &ETH0[..32];
    assert!(matches!(event(libc::RTM_NEWLINK, &bytes(&format!("{header}{name}00000000{WIRELESS}"))), Ok(None)));
    assert!(matches!(event(libc::RTM_NEWLINK, &bytes(&format!("{header}{name}00000000"))), Ok(Some(_))));
}

#[test]
fn a_function_of_a_virtual_machine_is_no_end_of_a_cable() {
    for (port_name, expected) in [
        ("", true),
        ("p0", true),
        ("p1s0", true),
        ("pf0", true),
        ("pf0vf1", false),
        ("c1pf0vf12", false),
        ("pf1sf88", false),
    ] {
        let link = Link { has_parent_device: true, port_name: port_name.to_owned(), ..Link::default() };
        assert_eq!(link.is_physical(), expected, "{port_name}");
    }
    assert!(!Link::default().is_physical());
}

#[test]
fn a_bridge_speaks_of_ports_and_not_of_devices() {
    assert_eq!(event(libc::RTM_DELLINK, &bytes(PORT_OF_BRIDGE)).expect("well formed"), None);
    assert_eq!(event(libc::RTM_NEWLINK, &bytes(PORT_OF_BRIDGE)).expect("well formed"), None);
    assert_eq!(event(libc::RTM_DELLINK, &bytes(V0)).expect("well formed"), Some(Seen::Gone(5)));
    assert_eq!(event(libc::RTM_NEWADDR, &bytes(V0)).expect("not looked into"), None);
}

/// With `IFLA_LINK` 4 in place of the veth's last attribute.
#[test]
fn the_device_below() {
    let vlan = |netnsid: &str, lower: &str| {
        device(&format!("{}{netnsid}08000500{lower}", X0.replace("76786c616e", "766c616e00"))).link.lower
    };
    assert_eq!(vlan("", "04000000"), Some(4));
    assert_eq!(vlan("0800250000000000", "04000000"), None, "in another namespace");
    assert_eq!(vlan("", "06000000"), None, "itself");
    assert_eq!(vlan("", "00000000"), None, "none");
}

#[test]
fn broken_messages() {
    let whole = bytes(V0);
    for bytes in 0..whole.len() {
        // Cut between attributes it is a shorter message, elsewhere an error; never a panic.
        let _ = event(libc::RTM_NEWLINK, &whole[..bytes]);
    }
    assert!(event(libc::RTM_NEWLINK, &whole[..15]).is_err());
    assert!(event(libc::RTM_NEWLINK, &whole[..16]).is_err(), "no name");
    assert!(event(libc::RTM_NEWLINK, &whole[..whole.len() - 1]).is_err());
    assert_eq!(messages(&[1, 2, 3]).filter(Result::is_err).count(), 1);
    assert_eq!(messages(&[0; 64]).filter(Result::is_err).count(), 1);
    assert_eq!(messages(&[]).count(), 0);
}

#[test]
fn names_are_c_strings() {
    for (value, expected) in [(&b"eth0\0"[..], "eth0"), (b"eth0", "eth0"), (b"", ""), (b"\xff\0", "\u{fffd}")] {
        assert_eq!(text(value), expected);
    }
}

#[test]
fn the_running_kernel() {
    let links = list().expect("rtnetlink answers");
    let loopback = links.iter().find(|link| link.is_loopback()).expect("every namespace has one");
    assert_eq!((loopback.name.as_str(), loopback.ifindex, loopback.driver.as_str()), ("lo", 1, ""));
}

/// `x0` with the data of its kind: group, lower device, port (the last two are looked for).
#[test]
fn tunnels_over_udp() {
    let told = |kind: &str, data: &[(u16, &[u8])]| {
        let attribute = |number: u16, value: &[u8]| {
            let mut bytes = [&(4 + value.len() as u16).to_le_bytes()[..], &number.to_le_bytes(), value].concat();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let data: Vec<u8> = data.iter().flat_map(|(number, value)| attribute(*number, value)).collect();
        let name = [kind.as_bytes(), &[0]].concat();
        let info = [attribute(libc::IFLA_INFO_KIND, &name), attribute(libc::IFLA_INFO_DATA, &data)].concat();
        let message =
            [bytes(X0)[..16].to_vec(), attribute(libc::IFLA_IFNAME, b"t\0"), attribute(libc::IFLA_LINKINFO, &info)];
        match event(libc::RTM_NEWLINK, &message.concat()).expect("well formed") {
            Some(Seen::Device(device)) => (device.link.tunnel.map(|tunnel| tunnel.to_string()), device.link.lower),
            other => panic!("{other:?}"),
        }
    };
    let port = |port: u16| port.to_be_bytes();
    let vxlan = |number: u16| Some(format!("vxlan on UDP port {number}"));
    assert_eq!(told("vxlan", &[(2, &[1; 4]), (3, &[9, 0, 0, 0]), (15, &port(4789))]), (vxlan(4789), Some(9)));
    assert_eq!(told("vxlan", &[(15, &port(8472))]), (vxlan(8472), None));
    assert_eq!(told("geneve", &[(5, &port(6081)), (3, &[9, 0, 0, 0])]).0.as_deref(), Some("geneve on UDP port 6081"));
    assert_eq!(told("geneve", &[(5, &port(6081)), (3, &[9, 0, 0, 0])]).1, None);
    assert_eq!(told("vxlan", &[(15, &port(0))]), (None, None));
    assert_eq!(told("vxlan", &[(15, &[1])]), (None, None));
    assert_eq!(told("bridge", &[(15, &port(4789))]), (None, None));
}
