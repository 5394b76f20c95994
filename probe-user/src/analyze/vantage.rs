//! Which side of the capture point is which.

use std::{net::IpAddr, str::FromStr};

use serde::Serialize;

use super::link;
use crate::config::Network;

/// Something that lies inside, behind the capture point as seen from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// These addresses.
    Network(Network),
    /// Whoever is behind the interface of this hardware address.
    Interface([u8; 6]),
}

impl FromStr for Inside {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Vec<&str> = text.split(':').collect();
        if bytes.len() == 6
            && bytes.iter().all(|byte| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit()))
        {
            let byte = |text: &&str| u8::from_str_radix(text, 16);
            if let Ok(Ok(address)) = bytes.iter().map(byte).collect::<Result<Vec<_>, _>>().map(TryInto::try_into) {
                return Ok(Self::Interface(address));
            }
        }
        text.parse()
            .map(Self::Network)
            .map_err(|said| format!("{said}; or a hardware address, as in 02:00:00:00:00:01"))
    }
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Heading {
    /// From outside to what lies inside.
    In,
    /// From inside to the outside.
    Out,
    /// Neither is known, or both ends lie on one side.
    #[default]
    Across,
}

impl Heading {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::In, Self::Out, Self::Across];

    /// The other way.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::In => Self::Out,
            Self::Out => Self::In,
            Self::Across => Self::Across,
        }
    }
}

/// What lies inside; where nothing was said, what the capture says of its own machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Vantage {
    pub(super) inside: Vec<Inside>,
}

impl Vantage {
    /// Which way a packet goes.
    pub(super) fn heading(&self, source: IpAddr, destination: IpAddr, frame: &link::Frame<'_>) -> Heading {
        let (from, to) = if self.inside.is_empty() {
            (frame.sent == Some(true), frame.sent == Some(false))
        } else {
            let mac = |at: usize| if frame.meta.first_protocol == 0 { frame.bytes.get(at..at + 6) } else { None };
            let is_inside = |address: IpAddr, mac: Option<&[u8]>| {
                self.inside.iter().any(|inside| match inside {
                    Inside::Network(network) => network.contains(address),
                    Inside::Interface(interface) => mac == Some(interface),
                })
            };
            (is_inside(source, mac(6)), is_inside(destination, mac(0)))
        };
        match (from, to) {
            (false, true) => Heading::In,
            (true, false) => Heading::Out,
            _ => Heading::Across,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::capture::Record;

    #[test]
    fn what_lies_inside_can_be_written() {
        assert_eq!("02:00:00:00:00:0B".parse(), Ok(Inside::Interface([2, 0, 0, 0, 0, 11])));
        assert!(matches!("2001:db8::/32".parse(), Ok(Inside::Network(_))));
        assert!(matches!("10.0.0.0/8".parse(), Ok(Inside::Network(_))));
        for wrong in ["", "eth0", "02:00:00:00:00:0g", "02:00:00:00:00", "10.0.0.0/33", "+2:00:00:00:00:01"] {
            let said = wrong.parse::<Inside>().unwrap_err();
            assert!(said.contains("10.0.0") || said.contains("192.0.2.0/24"), "{wrong}: {said}");
            assert!(said.contains("hardware address"), "{wrong}: {said}");
        }
    }

    #[test]
    fn headings() {
        let bytes = [&[2, 0, 0, 0, 0, 0xb][..], &[2, 0, 0, 0, 0, 0xa], &[8, 0]].concat();
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        for (inside, sent, expected) in [
            (vec![], None, Heading::Across),
            (vec![], Some(true), Heading::Out),
            (vec![], Some(false), Heading::In),
            (vec!["10.0.0.0/8"], Some(false), Heading::Out),
            (vec!["192.0.2.0/24"], None, Heading::In),
            (vec!["192.0.2.0/24", "10.0.0.1"], None, Heading::Across),
            (vec!["203.0.113.0/24"], None, Heading::Across),
            (vec!["02:00:00:00:00:0a"], None, Heading::Out),
            (vec!["02:00:00:00:00:0b"], None, Heading::In),
        ] {
            let vantage = Vantage { inside: inside.iter().map(|text| text.parse().unwrap()).collect() };
            let record = Record { bytes: &bytes, frame_bytes: 14, time_ns: 0, link_type: 1, interface: 0, sent };
            let link::Opened::Frame(frame) = link::open(&record) else { panic!("no frame") };
            assert_eq!(vantage.heading(a, b, &frame), expected, "{inside:?} {sent:?}");
            assert_eq!(vantage.heading(b, a, &frame).reversed().reversed(), vantage.heading(b, a, &frame));
        }
    }
}
