//! Flags of `lossprobe watch`.

use std::{net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use globset::GlobSet;

use probe_ebpf::{abi::Retransmit, reason::Malformed};

use super::{
    Fault, Origin, UsageError, agent_socket,
    selection::{Pattern, Selection, flag_globs, glob_set},
};
use crate::{
    classes::{self, Class},
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
    /// By reason; `None`: all.
    pub reasons: Option<Reasons>,
    /// By protocol: `ipv4` and `ipv6` also mean what lies in them.
    pub protocols: Vec<&'static str>,
    /// By the address of either end.
    pub addresses: Vec<Network>,
    /// By the port of either end.
    pub ports: Vec<u16>,
}

/// Names and patterns of reasons, in lower case.
#[derive(Clone, Debug)]
pub struct Reasons {
    patterns: Vec<Pattern>,
    set: GlobSet,
}

impl Reasons {
    /// Validates what was typed; the kernel's own spelling means the same, as `explain` takes it.
    fn from_flags(globs: &[String]) -> Result<Self, UsageError> {
        let lower = |glob: &String| {
            let glob = glob.to_lowercase();
            glob.strip_prefix("skb_drop_reason_").unwrap_or(&glob).to_owned()
        };
        let lower: Vec<String> = globs.iter().map(lower).collect();
        let patterns = flag_globs(&lower, "--reason")?;
        let set = glob_set(&patterns).map_err(|fault| fault.at("--reason"))?;
        Ok(Self { patterns, set })
    }

    /// Whether a reason is meant.
    #[must_use]
    pub fn is_match(&self, reason: &str) -> bool {
        self.set.is_match(reason)
    }

    /// What matches none of these names: each as it is understood, and whether it is a plain name.
    pub fn unmatched<'n>(&self, known: impl Iterator<Item = &'n str>) -> Vec<(&str, bool)> {
        let mut found = vec![false; self.patterns.len()];
        known.flat_map(|name| self.set.matches(name)).for_each(|index| found[index] = true);
        let unmatched = self.patterns.iter().zip(found).filter(|(_, found)| !found);
        unmatched.map(|(pattern, _)| (pattern.glob.glob(), pattern.is_name)).collect()
    }
}

/// All names that reasons of one kind can have; of drops those that are known without asking the kernel.
pub(crate) fn reasons_of(kind: Kind) -> Box<dyn Iterator<Item = &'static str>> {
    match kind {
        Kind::Drop => Box::new(classes::known_names()),
        Kind::Retransmit => Box::new(Retransmit::ALL.iter().map(|kind| kind.id())),
        Kind::Malformed => Box::new(Malformed::ALL.iter().map(|reason| reason.id())),
    }
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
        let class = |id: &String| {
            Class::from_id(&id.to_lowercase()).ok_or_else(|| {
                let known = Class::ALL.map(Class::id).join(", ");
                Fault::new(format!("unknown class `{id}`"), format!("write one of {known}")).at("--class")
            })
        };
        let filter = Filter {
            selection: selection.clone(),
            kinds: args.kind.iter().map(|kind| (*kind).into()).collect(),
            classes: args.class.iter().map(class).collect::<Result<_, _>>()?,
            reasons: if args.reason.is_empty() { None } else { Some(Reasons::from_flags(&args.reason)?) },
            protocols: args.protocol.iter().map(|protocol| protocol.id()).collect(),
            addresses: args.address.clone(),
            ports: args.port.clone(),
        };
        filter.check()?;
        Ok(Self {
            filter,
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

impl Filter {
    /// What an event can be that passes: only drops have a class.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let asked = |kind: &Kind| self.kinds.is_empty() || self.kinds.contains(kind);
        let all = [Kind::Drop, Kind::Retransmit, Kind::Malformed].into_iter().filter(asked);
        all.filter(|kind| self.classes.is_empty() || *kind == Kind::Drop).collect()
    }

    /// Refuses what no event can pass, whatever happens: silence would look like good news. Whether the running kernel has
    /// a reason is asked later, and which class a reason has is the agent's to say.
    fn check(&self) -> Result<(), UsageError> {
        let kinds = self.kinds();
        if kinds.is_empty() {
            let fault = Fault::new("only drops have a class, and --type asks for none", "leave one of the two out");
            return Err(fault.at("--class"));
        }
        if let Some(reasons) = &self.reasons {
            let own: Vec<&str> = kinds.iter().flat_map(|kind| reasons_of(*kind)).collect();
            for (reason, is_name) in reasons.unmatched(own.iter().copied()) {
                let shown = kinds.iter().map(|kind| kind.id()).collect::<Vec<_>>().join(" and ");
                let of = |kind: &Kind| reasons_of(*kind).any(|name| is_name && name == reason);
                let elsewhere = [Kind::Drop, Kind::Retransmit, Kind::Malformed].into_iter().find(of);
                let cause = match elsewhere {
                    Some(kind) => format!("`{reason}` is a reason of type {}, and only {shown} is shown", kind.id()),
                    // The kernel may have one that is not known here.
                    None if kinds.contains(&Kind::Drop) => continue,
                    None => format!("`{reason}` matches no reason of type {shown}"),
                };
                return Err(Fault::new(cause, "look at --type and --class, or leave it out").at("--reason"));
            }
        }
        if !self.ports.is_empty() && !self.can_be(&["tcp", "udp", "sctp", "ipv4", "ipv6"]) {
            let protocols = self.protocols.join(" and ");
            let fault = Fault::new(
                format!("{protocols} has no ports"),
                "ask for tcp, udp or sctp, or leave one of the two out",
            );
            return Err(fault.at("--port"));
        }
        let has_family = |network: &Network| match network.address {
            IpAddr::V4(_) => self.can_be(&["ipv4", "tcp", "udp", "sctp", "icmp", "fragment", "arp"]),
            IpAddr::V6(_) => self.can_be(&["ipv6", "tcp", "udp", "sctp", "icmpv6", "fragment"]),
        };
        if !self.addresses.is_empty() && !self.addresses.iter().any(has_family) {
            let protocols = self.protocols.join(" and ");
            let cause = format!("{protocols} has no such addresses");
            return Err(Fault::new(cause, "leave --protocol or --address out").at("--address"));
        }
        Ok(())
    }

    fn can_be(&self, protocols: &[&str]) -> bool {
        self.protocols.is_empty() || self.protocols.iter().any(|protocol| protocols.contains(protocol))
    }
}

impl crate::cli::Protocol {
    /// As events have it.
    fn id(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
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
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

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
    fn what_no_event_can_pass_is_refused() {
        for (flags, expected) in [
            ("--class policy --type retransmit", Some("--class: only drops have a class")),
            ("--class policy --type retransmit --type drop", None),
            ("--class POLICY --type DROP --protocol UDP --reason NetFilter_Drop", None),
            ("--class capacity --reason ip4_csum", Some("--reason: `ip4_csum` is a reason of type malformed")),
            ("--type drop --reason tail_probe", Some("--reason: `tail_probe` is a reason of type retransmit")),
            ("--type malformed --reason netfilter_drop", Some("--reason: `netfilter_drop` is a reason of type drop")),
            ("--type retransmit --reason some*", Some("--reason: `some*` matches no reason of type retransmit")),
            ("--type malformed --reason tcp_flags", None),
            ("--class malformed --reason tcp_flags", None),
            ("--class capacity --reason brand_new", None),
            ("--reason tail_probe --reason ip4_csum", None),
            ("--protocol icmp --port 53", Some("--port: icmp has no ports")),
            ("--protocol arp --protocol icmp --port 53", Some("--port: arp and icmp has no ports")),
            ("--protocol icmp --protocol tcp --port 53", None),
            ("--protocol ipv6 --port 53", None),
            ("--protocol icmpv6 --address 192.0.2.1", Some("--address: icmpv6 has no such addresses")),
            ("--protocol arp --address 2001:db8::/32", Some("--address: arp has no such addresses")),
            ("--protocol other --address 192.0.2.1", Some("--address: other has no such addresses")),
            ("--protocol icmpv6 --address 192.0.2.1 --address 2001:db8::1", None),
        ] {
            let line = ["lossprobe", "watch"].into_iter().chain(flags.split(' '));
            let Ok(Cli { command: Command::Watch(args) }) = Cli::try_parse_from(line) else { unreachable!("{flags}") };
            let said = WatchConfig::from_args(&args).err().map(|error| error.to_string());
            assert_eq!(said.is_some(), expected.is_some(), "{flags}: {said:?}");
            assert!(said.as_deref().unwrap_or_default().starts_with(expected.unwrap_or_default()), "{flags}: {said:?}");
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
