//! Flags of `lossprobe watch`.

use std::{net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use globset::GlobSet;

use super::{
    Fault, Origin, UsageError, agent_socket,
    selection::{Selection, flag_globs, glob_set},
};
use crate::{
    classes::Class,
    cli::{Lines, WatchArgs},
    event::Kind,
};

/// Lines a second unless told otherwise: as many as somebody can follow.
pub const DEFAULT_RATE: u32 = 50;

/// What `lossprobe watch` is to do.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// Which interfaces an agent of its own is to count.
    pub selection: Selection,
    /// What to show.
    pub filter: Filter,
    /// How to show it.
    pub output: Lines,
    /// Where events come from: never a URL.
    pub origin: Origin,
    /// Events to show in a second, 0 for all.
    pub rate: u32,
    /// Events after which to end.
    pub count: Option<u64>,
    /// Time after which to end.
    pub duration: Option<Duration>,
}

/// What to show: everything that every one of these lets pass. What is empty lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// By interface; an event without one passes where no interface was asked for.
    pub selection: Selection,
    /// By what happened.
    pub kinds: Vec<Kind>,
    /// By class: drops only.
    pub classes: Vec<Class>,
    /// By reason, in lower case.
    pub reasons: Option<GlobSet>,
    /// By protocol: `ipv4` and `ipv6` also mean what lies in them.
    pub protocols: Vec<&'static str>,
    /// By the address of either end.
    pub addresses: Vec<Network>,
    /// By the port of either end.
    pub ports: Vec<u16>,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// Bits that are alike.
    prefix: u32,
}

impl Network {
    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let differing = |own: u128, other: u128, bits: u32| {
            // A shift by all bits is none.
            own.checked_shr(bits - self.prefix).unwrap_or(0) ^ other.checked_shr(bits - self.prefix).unwrap_or(0)
        };
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => differing(own.to_bits().into(), other.to_bits().into(), 32) == 0,
            (IpAddr::V6(own), IpAddr::V6(other)) => differing(own.to_bits(), other.to_bits(), 128) == 0,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let advice = "write it as in 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32";
        let address: IpAddr = address.parse().map_err(|_| format!("`{address}` is no IP address; {advice}"))?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix.map(str::parse) {
            None => bits,
            Some(Ok(prefix)) if prefix <= bits => prefix,
            Some(_) => return Err(format!("a prefix has 0 to {bits} bits; {advice}")),
        };
        Ok(Self { address, prefix })
    }
}

impl WatchConfig {
    /// Validates flags.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn from_args(args: &WatchArgs) -> Result<Self, UsageError> {
        let selection = Selection::from_flags(&args.selection.interface, &args.selection.exclude)?;
        // As `explain` takes them: the kernel's own spelling, too.
        let lower = |glob: &String| {
            let glob = glob.to_lowercase();
            glob.strip_prefix("skb_drop_reason_").unwrap_or(&glob).to_owned()
        };
        let lower: Vec<String> = args.reason.iter().map(lower).collect();
        let reasons = flag_globs(&lower, "--reason")?;
        let set = || glob_set(&reasons).map_err(|fault| fault.at("--reason"));
        let class = |id: &String| {
            Class::from_id(id).ok_or_else(|| {
                let known = Class::ALL.map(Class::id).join(", ");
                Fault::new(format!("unknown class `{id}`"), format!("write one of {known}")).at("--class")
            })
        };
        Ok(Self {
            filter: Filter {
                selection: selection.clone(),
                kinds: args.kind.iter().map(|kind| (*kind).into()).collect(),
                classes: args.class.iter().map(class).collect::<Result<_, _>>()?,
                reasons: if reasons.is_empty() { None } else { Some(set()?) },
                protocols: args.protocol.iter().map(|protocol| protocol.id()).collect(),
                addresses: args.address.clone(),
                ports: args.port.clone(),
            },
            selection,
            output: args.output,
            origin: match &args.socket {
                Some(path) => Origin::Socket(agent_socket(path)?),
                None => Origin::Any,
            },
            rate: args.rate,
            count: args.count,
            duration: args.duration,
        })
    }

    /// The one agent's socket that was named.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        match &self.origin {
            Origin::Socket(path) => path.clone(),
            Origin::Any | Origin::Url(_) => super::DEFAULT_SOCKET.into(),
        }
    }
}

impl crate::cli::Protocol {
    /// As events have it.
    fn id(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
            Self::Fragment => "fragment",
            Self::Arp => "arp",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Other => "other",
        }
    }
}

impl From<crate::cli::WatchKind> for Kind {
    fn from(kind: crate::cli::WatchKind) -> Self {
        use crate::cli::WatchKind;
        match kind {
            WatchKind::Drop => Self::Drop,
            WatchKind::Retransmit => Self::Retransmit,
            WatchKind::Malformed => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (network, address, expected) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.7/24", "192.0.3.7", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db9::1", true),
            ("::/0", "0.0.0.0", false),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{network} {address}");
        }
        for wrong in ["", "nowhere", "192.0.2.1/33", "::/129", "192.0.2.1/", "192.0.2.1/-1", "192.0.2/24"] {
            let said = wrong.parse::<Network>().unwrap_err();
            assert!(said.contains("write it as in"), "{wrong}: {said}");
        }
    }

    #[test]
    fn reasons_as_the_kernel_spells_them() {
        for glob in ["netfilter_drop", "SKB_DROP_REASON_NETFILTER_DROP", "skb_drop_reason_netfilter_*", "NETFILTER*"] {
            let args = WatchArgs { reason: vec![glob.to_owned()], ..WatchArgs::default() };
            let reasons = WatchConfig::from_args(&args).unwrap().filter.reasons.unwrap();
            assert!(reasons.is_match("netfilter_drop") && !reasons.is_match("no_socket"), "{glob}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, expected) in [
            (WatchArgs { class: vec!["bad".to_owned()], ..WatchArgs::default() }, "--class: unknown class `bad`"),
            (WatchArgs { reason: vec!["[a".to_owned()], ..WatchArgs::default() }, "--reason: bad glob `[a`"),
            (WatchArgs { socket: Some("none".into()), ..WatchArgs::default() }, "--socket"),
        ] {
            let said = WatchConfig::from_args(&args).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{said}");
        }
    }
}
