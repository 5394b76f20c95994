//! Tunnels over UDP, and which ports are theirs.

use std::{fmt, str::FromStr};

use probe_ebpf::classify::TunnelPorts;

/// What a tunnel's packets carry in front of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunnelKind {
    /// RFC 7348.
    Vxlan,
    /// RFC 8926.
    Geneve,
}

impl TunnelKind {
    const ALL: [(Self, &'static str); 2] = [(Self::Vxlan, "vxlan"), (Self::Geneve, "geneve")];

    /// As `ip -d link` names it.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

/// A tunnel's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelPort {
    /// What is behind the UDP header.
    pub kind: TunnelKind,
    /// The destination port, not 0.
    pub port: u16,
}

impl fmt::Display for TunnelPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = TunnelKind::ALL.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, name)| name);
        write!(f, "{name} on UDP port {}", self.port)
    }
}

/// GENEVE's own port (IANA); every other one is taken for VXLAN's.
const GENEVE_PORT: u16 = 6081;

impl FromStr for TunnelPort {
    type Err = String;

    /// `PORT` or `PORT:KIND`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (port, kind) = text.split_once(':').map_or((text, None), |(port, kind)| (port, Some(kind)));
        let port = port.parse().ok().filter(|port| *port != 0);
        let port =
            port.ok_or_else(|| format!("`{text}` begins with no UDP port; write 1 to 65535, as in 4789:vxlan"))?;
        let kind = match kind {
            None if port == GENEVE_PORT => TunnelKind::Geneve,
            None => TunnelKind::Vxlan,
            Some(name) => TunnelKind::of(name)
                .ok_or_else(|| format!("`{name}` is no kind of tunnel; write vxlan or geneve, as in {port}:geneve"))?,
        };
        Ok(Self { kind, port })
    }
}

/// For the classifier, and those for which it has no room.
#[must_use]
pub fn ports(tunnels: impl IntoIterator<Item = TunnelPort>) -> (TunnelPorts, Vec<TunnelPort>) {
    let (mut ports, mut left_out) = (TunnelPorts::NONE, Vec::new());
    for tunnel in tunnels {
        let places = match tunnel.kind {
            TunnelKind::Vxlan => &mut ports.vxlan,
            TunnelKind::Geneve => &mut ports.geneve,
        };
        match places.iter_mut().find(|place| matches!(**place, 0) || **place == tunnel.port) {
            Some(place) => *place = tunnel.port,
            None => left_out.push(tunnel),
        }
    }
    (ports, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(text: &str) -> TunnelPort {
        text.parse().unwrap()
    }

    #[test]
    fn a_port_names_its_kind_or_is_known_by_its_number() {
        for (text, expected) in [
            ("4789", "vxlan on UDP port 4789"),
            ("6081", "geneve on UDP port 6081"),
            ("6081:vxlan", "vxlan on UDP port 6081"),
            ("1:geneve", "geneve on UDP port 1"),
        ] {
            assert_eq!(port(text).to_string(), expected);
        }
        for wrong in ["", "0", "65536", "x", "4789:", "4789:gre", ":vxlan", "4789:vxlan:1"] {
            assert!(wrong.parse::<TunnelPort>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn there_is_room_for_two_of_each_kind() {
        let (found, left_out) = ports(["4789", "8472", "4789", "6081", "1", "2:geneve"].map(port));
        assert_eq!(found, TunnelPorts { vxlan: [4789, 8472], geneve: [6081, 2] });
        assert_eq!(left_out, [port("1")]);
        assert_eq!(ports([]), (TunnelPorts::NONE, Vec::new()));
    }
}
