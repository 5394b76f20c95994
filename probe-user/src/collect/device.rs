//! What a device itself has counted, from rtnetlink, where that is wire frames.

use anyhow::{Context as _, Result};
use netlink_packet_core::{NLM_F_ACK, NlasIterator};
use netlink_packet_route::{
    RouteNetlinkMessage,
    stats::{StatsFilterMask, StatsMessage},
};
use probe_ebpf::abi::Direction;

use crate::netlink::request;

/// Drivers whose packet counters (`struct rtnl_link_stats64`) count frames on the wire, by direction, as their
/// sources have it; none could be tried. All others are left out: most virtual devices (veth, tun, virtio_net, xen_netfront, vmxnet3,
/// ena …) count packets as they are handed over, a GSO packet as one, and of some it is not known.
const WIRE_FRAMES: [(&str, [bool; 2]); 9] = [
    // The hardware's registers of good packets (GPRC, GPTC) in e1000_update_stats, e1000e_update_stats.
    ("e1000", [true, true]),
    ("e1000e", [true, true]),
    // One for each received frame (this hardware merges none); gso_segs of each sent packet in *_clean_tx_irq.
    ("igb", [true, true]),
    ("igc", [true, true]),
    ("i40e", [true, true]),
    ("iavf", [true, true]),
    ("ice", [true, true]),
    // The same, but received frames may have been merged by the hardware (RSC) and count as one.
    ("ixgbe", [false, true]),
    // lro_num_seg of what it has merged in mlx5e_build_rx_skb, gso_segs of what it sends in mlx5e_txwqe_build_eseg.
    ("mlx5_core", [true, true]),
];

/// Whether what the driver counts in this direction is wire frames.
#[must_use]
pub fn counts_wire_frames(driver: &str, direction: Direction) -> bool {
    WIRE_FRAMES.iter().any(|(name, counts)| *name == driver && counts[direction as usize])
}

/// Packets that the device has received and sent since it was made.
///
/// # Errors
/// There is no such device, or the kernel refuses.
pub fn packets(ifindex: u32) -> Result<[u64; 2]> {
    let mut ask = StatsMessage::default();
    ask.header.ifindex = ifindex;
    ask.header.filter_mask = StatsFilterMask::Link64;
    let mut packets = None;
    request(RouteNetlinkMessage::GetStats(ask), NLM_F_ACK, |message_type, payload| {
        if message_type == RTM_NEWSTATS {
            packets = read(payload)?;
        }
        Ok(())
    })?;
    packets.context("the kernel's answer has no packet counters")
}

// uapi/linux/rtnetlink.h and if_link.h.
const RTM_NEWSTATS: u16 = 92;
const IFLA_STATS_LINK_64: u16 = 1;
/// `struct if_stats_msg`.
const HEADER_BYTES: usize = 12;

/// `rx_packets` and `tx_packets`, which come first in `struct rtnl_link_stats64`.
fn read(payload: &[u8]) -> Result<Option<[u64; 2]>> {
    for attribute in NlasIterator::new(payload.get(HEADER_BYTES..).unwrap_or_default()) {
        let attribute = attribute.context("a statistics message's attribute")?;
        if attribute.kind() == IFLA_STATS_LINK_64 {
            let counter = |at: usize| attribute.value().get(8 * at..)?.first_chunk().copied().map(u64::from_ne_bytes);
            return Ok(counter(0).zip(counter(1)).map(<[u64; 2]>::from));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_counts_wire_frames() {
        for (driver, expected) in [
            ("e1000e", [true, true]),
            ("igb", [true, true]),
            ("ixgbe", [false, true]),
            ("virtio_net", [false, false]),
            ("veth", [false, false]),
            ("tun", [false, false]),
            ("vmxnet3", [false, false]),
            ("xen_netfront", [false, false]),
            ("", [false, false]),
        ] {
            assert_eq!(Direction::ALL.map(|direction| counts_wire_frames(driver, direction)), expected, "{driver}");
        }
    }

    #[test]
    fn a_message_of_the_kernel() {
        let mut payload = vec![0; HEADER_BYTES];
        payload.extend([20, 0, 1, 0]);
        payload.extend([7_u64.to_ne_bytes(), 9_u64.to_ne_bytes()].concat());
        assert_eq!(read(&payload).unwrap(), Some([7, 9]));
        assert_eq!(read(&payload[..HEADER_BYTES]).unwrap(), None);
        assert!(read(&payload[..HEADER_BYTES + 9]).is_err(), "cut");
    }

    #[test]
    fn the_running_kernel() {
        assert!(packets(1).is_ok(), "the loopback");
        assert!(packets(0x7fff_fffe).is_err(), "no such device");
    }
}
