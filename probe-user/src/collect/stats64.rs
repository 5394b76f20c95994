//! What every device counts for the kernel (`struct rtnl_link_stats64`), from rtnetlink: one list of all devices.

use std::{collections::BTreeMap, ops::ControlFlow};

use anyhow::{Context as _, Result, bail};
use netlink_packet_core::NlasIterator;
use netlink_packet_route::{
    RouteNetlinkMessage,
    stats::{StatsFilterMask, StatsMessage},
};

use super::causes::{FIELDS, Key};
use crate::netlink::list;

// uapi/linux/rtnetlink.h and if_link.h.
const RTM_NEWSTATS: u16 = 92;
const IFLA_STATS_LINK_64: u16 = 1;
/// `struct if_stats_msg`.
const HEADER_BYTES: usize = 12;
/// Fields of the structure as of Linux 6.18; older kernels have fewer.
const FIELD_COUNT: usize = 25;

/// One device's counters since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats64 {
    fields: [u64; FIELD_COUNT],
    known: usize,
}

impl Stats64 {
    /// What [`all`] finds of a device.
    pub(crate) fn parse(value: &[u8]) -> Self {
        let mut fields = [0; FIELD_COUNT];
        let (words, _) = value.as_chunks::<8>();
        let known = words.len().min(FIELD_COUNT);
        for (field, word) in fields.iter_mut().zip(words) {
            *field = u64::from_ne_bytes(*word);
        }
        Self { fields, known }
    }

    /// Packets received and sent, as the driver counts them.
    #[must_use]
    pub const fn packets(&self) -> [u64; 2] {
        [self.fields[0], self.fields[1]]
    }

    /// What was lost, by cause, as far as this kernel has the field.
    pub fn lost(&self) -> impl Iterator<Item = (Key, u64)> {
        FIELDS.iter().filter(|(at, _)| *at < self.known).filter_map(|(at, key)| Some((*key, *self.fields.get(*at)?)))
    }
}

/// Of every device of this namespace, by index.
///
/// # Errors
/// The kernel refuses.
pub fn all() -> Result<BTreeMap<u32, Stats64>> {
    let mut ask = StatsMessage::default();
    ask.header.filter_mask = StatsFilterMask::Link64;
    let mut devices = BTreeMap::new();
    // One that is missing because something changed meanwhile is in the next list.
    list(RouteNetlinkMessage::GetStats(ask), |message_type, payload| {
        if message_type == RTM_NEWSTATS {
            devices.extend(parse(payload)?);
        }
        Ok(ControlFlow::Continue(()))
    })
    .context("list the counters of all devices by rtnetlink")?;
    Ok(devices)
}

fn parse(payload: &[u8]) -> Result<Option<(u32, Stats64)>> {
    let (Some(ifindex), Some(attributes)) =
        (payload.get(4..).and_then(<[u8]>::first_chunk), payload.get(HEADER_BYTES..))
    else {
        bail!("a statistics message of {} bytes", payload.len());
    };
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.context("a statistics message's attribute")?;
        if attribute.kind() == IFLA_STATS_LINK_64 {
            return Ok(Some((u32::from_ne_bytes(*ifindex), Stats64::parse(attribute.value()))));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::{
        super::causes::{Cause, Way},
        *,
    };

    fn message(fields: &[u64]) -> Vec<u8> {
        let mut payload = [&[0, 0, 0, 0][..], &7_u32.to_ne_bytes(), &[1, 0, 0, 0]].concat();
        payload.extend(u16::try_from(4 + 8 * fields.len()).unwrap().to_ne_bytes());
        payload.extend(IFLA_STATS_LINK_64.to_ne_bytes());
        payload.extend(fields.iter().flat_map(|field| field.to_ne_bytes()));
        payload
    }

    #[test]
    fn messages_of_the_kernel() {
        // Each field holds its position.
        let whole: Vec<u64> = (0..25).collect();
        let (ifindex, stats) = parse(&message(&whole)).unwrap().unwrap();
        assert_eq!((ifindex, stats.packets()), (7, [0, 1]));
        let lost: BTreeMap<_, _> = stats.lost().collect();
        for (way, cause, at) in [
            (Way::Ingress, Cause::Length, 10),
            (Way::Ingress, Cause::Crc, 12),
            (Way::Ingress, Cause::Fifo, 14),
            (Way::Ingress, Cause::Missed, 15),
            (Way::Egress, Cause::Carrier, 17),
            (Way::Egress, Cause::Fifo, 18),
            (Way::Egress, Cause::Window, 20),
            (Way::Ingress, Cause::Nohandler, 23),
            (Way::Ingress, Cause::Otherhost, 24),
        ] {
            assert_eq!(lost.get(&(way, cause)), Some(&at), "{way:?} {cause:?}");
        }
        // The sums that mix causes (4 to 7) are in none of them.
        assert!(lost.values().all(|value| !(4..=7).contains(value)));
        let (_, older) = parse(&message(&whole[..24])).unwrap().unwrap();
        assert_eq!(older.lost().count(), 12, "Linux 5.10 has no rx_otherhost_dropped");
        let (_, newer) = parse(&message(&[&whole[..], &[25]].concat())).unwrap().unwrap();
        assert_eq!(newer, stats);
        assert!(parse(&message(&whole)[..11]).is_err() && parse(&message(&whole)[..30]).is_err(), "cut");
        assert_eq!(parse(&message(&whole)[..12]).unwrap(), None);
    }

    #[test]
    fn the_running_kernel() {
        assert!(all().unwrap().contains_key(&1), "the loopback");
    }
}
