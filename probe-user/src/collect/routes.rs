//! Which devices carry a route, from rtnetlink.
//!
//! A router's table has a million routes, so they are neither listed nor followed one by one: for each device that
//! matters the kernel is asked for the unicast routes through it (it looks through multipath legs and nexthop objects
//! itself), and the answer is read until enough is known. What a device without a route costs is one walk through the
//! table inside the kernel; the pauses between rounds are so long that all of it stays a small share of the time.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use netlink_packet_core::{NlasIterator, parse_u32};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAttribute, RouteMessage, RouteType},
};
use nix::libc;

use crate::netlink::{errno, list};

/// What a device carries; the more the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carried {
    /// Routes to some networks.
    Route,
    /// The route to everywhere else, of IPv4 or IPv6.
    DefaultRoute,
}

/// Routes of one device and family that are read in search of the default route. IPv4's comes first in its table.
pub const LOOK_AT: u32 = 4096;
/// Longest round; it is all that the agent does meanwhile.
const ROUND: Duration = Duration::from_millis(300);
/// Shortest pause after a link has changed, and where nothing has; the longest is asked for by large tables.
const PAUSE_AFTER_CHANGE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_secs(3);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pauses are so many times longer than the round before.
const IDLE_FACTOR: u32 = 300;

/// What is known of routes, and when to ask again.
#[derive(Debug, Default)]
pub struct Routes {
    known: BTreeMap<u32, Carried>,
    /// When the last round ended, and how long it was.
    asked: Option<(Instant, Duration)>,
    links_changed: bool,
}

impl Routes {
    /// What each device carries, by index; those that carry nothing are left out.
    #[must_use]
    pub const fn known(&self) -> &BTreeMap<u32, Carried> {
        &self.known
    }

    /// A link has changed, and with it perhaps its routes.
    pub const fn link_changed(&mut self) {
        self.links_changed = true;
    }

    /// Whether it is time to ask again.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        let Some((ended, round)) = self.asked else { return true };
        let shortest = if self.links_changed { PAUSE_AFTER_CHANGE } else { PAUSE };
        now.duration_since(ended) >= (round * IDLE_FACTOR).clamp(shortest, LONGEST_PAUSE)
    }

    /// Asks for the routes of these devices, the important ones first.
    ///
    /// # Errors
    /// The kernel refuses, or the tables are so large that not every device could be asked for in time; what was known of
    /// the rest is kept.
    pub fn ask(&mut self, devices: &[u32]) -> Result<()> {
        let started = Instant::now();
        let asked = devices.iter().try_for_each(|device| {
            if started.elapsed() > ROUND {
                bail!("the routing tables are too large to ask for {} devices in {ROUND:?}", devices.len());
            }
            match carried(*device).context("ask for routes by rtnetlink")?.carried {
                Some(carried) => self.known.insert(*device, carried),
                None => self.known.remove(device),
            };
            Ok(())
        });
        if asked.is_ok() {
            self.known.retain(|device, _| devices.contains(device));
        }
        self.asked = Some((Instant::now(), started.elapsed()));
        self.links_changed = false;
        asked
    }
}

/// What is known of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// `None` where it carries nothing.
    pub carried: Option<Carried>,
    /// Routes that were read to know it: at most [`LOOK_AT`] for each family.
    pub read: u32,
}

/// What one device carries.
///
/// # Errors
/// The kernel refuses.
pub fn carried(ifindex: u32) -> Result<Answer> {
    let mut best = Answer::default();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        if best.carried < Some(Carried::DefaultRoute) {
            let answer = carried_of(family, ifindex)?;
            best = Answer { carried: best.carried.max(answer.carried), read: best.read + answer.read };
        }
    }
    Ok(best)
}

fn carried_of(family: AddressFamily, ifindex: u32) -> Result<Answer> {
    let mut ask = RouteMessage::default();
    ask.header.address_family = family;
    ask.header.kind = RouteType::Unicast;
    ask.attributes.push(RouteAttribute::Oif(ifindex));
    let (mut best, mut read) = (None, 0);
    let listed = list(RouteNetlinkMessage::GetRoute(ask), |message_type, payload| {
        if message_type == libc::RTM_NEWROUTE {
            best = best.max(counted(payload)?);
            read += 1;
        }
        let enough = best == Some(Carried::DefaultRoute) || read >= LOOK_AT;
        Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    match listed {
        // Gone meanwhile.
        Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(Answer::default()),
        outcome => outcome.map(|_| Answer { carried: best, read }),
    }
}

/// What a route message adds: nothing for routes that every device has by itself.
fn counted(payload: &[u8]) -> Result<Option<Carried>> {
    // struct rtmsg, include/uapi/linux/rtnetlink.h.
    let Some((&[family, destination_bits, _, _, table, _, _, kind, ..], attributes)) =
        payload.split_first_chunk::<ROUTE_HEADER_BYTES>()
    else {
        bail!("a route message of {} bytes", payload.len());
    };
    let is_v6 = i32::from(family) == libc::AF_INET6;
    let (mut table, mut is_own) = (u32::from(table), false);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.context("a route message's attribute")?;
        match attribute.kind() {
            libc::RTA_TABLE => table = parse_u32(attribute.value()).context("RTA_TABLE")?,
            // ff00::/8 and fe80::/10.
            libc::RTA_DST => is_own = is_v6 && matches!(attribute.value(), [0xff, ..] | [0xfe, 0x80..=0xbf, ..]),
            _ => {}
        }
    }
    if kind != libc::RTN_UNICAST || table == u32::from(libc::RT_TABLE_LOCAL) || is_own {
        return Ok(None);
    }
    Ok(Some(if destination_bits == 0 { Carried::DefaultRoute } else { Carried::Route }))
}

const ROUTE_HEADER_BYTES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    /// A route message as the kernel makes it.
    fn message(family: i32, bits: u8, (table, kind): (u8, u8), attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![u8::try_from(family).unwrap(), bits, 0, 0, table, 2, 0, kind, 0, 0, 0, 0];
        for (attribute, value) in attributes {
            bytes.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            bytes.extend(attribute.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn what_counts() {
        const MAIN: (u8, u8) = (libc::RT_TABLE_MAIN, libc::RTN_UNICAST);
        let (route, default) = (Some(Carried::Route), Some(Carried::DefaultRoute));
        let (v4, v6) = (libc::AF_INET, libc::AF_INET6);
        let to = |address: &'static [u8]| vec![(libc::RTA_DST, address)];
        let v6_to = |first: u8, second: u8| {
            let address = std::net::Ipv6Addr::new(u16::from_be_bytes([first, second]), 0, 0, 0, 0, 0, 0, 0);
            to(address.octets().to_vec().leak())
        };
        let in_table = |table: u32| vec![(libc::RTA_TABLE, &*table.to_ne_bytes().to_vec().leak())];
        for (name, family, bits, place, attributes, expected) in [
            ("default", v4, 0, MAIN, vec![], default),
            ("default", v6, 0, MAIN, vec![], default),
            ("network", v4, 24, MAIN, to(&[10, 0, 0, 0]), route),
            ("254.128.0.0/9 is no fe80::", v4, 9, MAIN, to(&[0xfe, 0x80, 0, 0]), route),
            ("network", v6, 64, MAIN, v6_to(0xfd, 0), route),
            ("link-local", v6, 64, MAIN, v6_to(0xfe, 0x80), None),
            ("multicast", v6, 8, MAIN, v6_to(0xff, 0), None),
            ("table local", v4, 32, (libc::RT_TABLE_LOCAL, libc::RTN_UNICAST), to(&[10, 0, 0, 1]), None),
            ("broadcast", v4, 32, (libc::RT_TABLE_MAIN, libc::RTN_BROADCAST), to(&[10, 0, 0, 255]), None),
            ("a table beyond 255", v4, 0, (libc::RT_TABLE_COMPAT, libc::RTN_UNICAST), in_table(1000), default),
            ("local by attribute", v4, 0, (libc::RT_TABLE_COMPAT, libc::RTN_UNICAST), in_table(255), None),
        ] {
            assert_eq!(counted(&message(family, bits, place, &attributes)).unwrap(), expected, "{name}");
        }
        assert!(counted(&[2, 0, 0]).is_err());
    }

    #[test]
    fn large_tables_are_asked_for_rarely() {
        let now = Instant::now();
        let due = |round_ms: u64, links_changed: bool, after_ms: u64| {
            let asked = Some((now, Duration::from_millis(round_ms)));
            let routes = Routes { asked, links_changed, ..Routes::default() };
            routes.is_due(now + Duration::from_millis(after_ms))
        };
        assert!(Routes::default().is_due(now));
        for (round_ms, links_changed, pause_ms) in [
            (0, true, 500),
            (0, false, 3000),
            (20, true, 6000),
            (20, false, 6000),
            (300, true, 30_000),
            (9999, false, 30_000),
        ] {
            let row = format!("round of {round_ms} ms, links changed: {links_changed}");
            assert!(due(round_ms, links_changed, pause_ms), "{row}");
            assert!(!due(round_ms, links_changed, pause_ms - 1), "{row}");
        }
    }

    #[test]
    fn the_running_kernel() {
        // The loopback's routes are all in the table `local`, or IPv6's own.
        assert_eq!(carried(1).unwrap().carried, None);
        assert_eq!(carried(0x7fff_fffe).unwrap(), Answer::default(), "no such device");
    }
}
