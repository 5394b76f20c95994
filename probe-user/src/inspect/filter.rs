//! What passes the filters.

use crate::{config::Filter, event::Event};

impl Filter {
    /// Whether an event is to be shown.
    pub(super) fn admits(&self, event: &Event) -> bool {
        self.admits_interface(&event.interface)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && (self.classes.is_empty() || self.classes.iter().any(|class| event.class.as_deref() == Some(class.id())))
            && self.reasons.as_ref().is_none_or(|reasons| reasons.is_match(&event.reason))
            && (self.protocols.is_empty() || self.protocols.iter().any(|protocol| is_of(event, protocol)))
            && self.admits_ends(event)
    }

    fn admits_interface(&self, name: &str) -> bool {
        match name {
            "" => self.selection.is_default(),
            // A loopback may have another name only in a namespace that somebody has renamed it in.
            _ => self.selection.selects(name, name == "lo"),
        }
    }

    fn admits_ends(&self, event: &Event) -> bool {
        let ends = || event.source.iter().chain(&event.destination);
        let has_address = || ends().any(|end| self.addresses.iter().any(|network| network.contains(end.address)));
        let has_port = || ends().any(|end| end.port.is_some_and(|port| self.ports.contains(&port)));
        (self.addresses.is_empty() || has_address()) && (self.ports.is_empty() || has_port())
    }
}

fn is_of(event: &Event, protocol: &str) -> bool {
    let has_address = |is_ipv4: bool| {
        event.protocol != "arp" && event.source.is_some_and(|source| source.address.is_ipv4() == is_ipv4)
    };
    event.protocol == protocol
        || (protocol == "ipv4" && has_address(true))
        || (protocol == "ipv6" && has_address(false))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        config::WatchConfig,
        event::tests::example,
    };

    fn filter(flags: &str) -> Filter {
        let line = ["lossprobe", "watch"].into_iter().chain(flags.split_whitespace());
        let Command::Watch(args) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
        WatchConfig::from_args(&args).unwrap().filter
    }

    /// A datagram from 192.0.2.1:4000 to 192.0.2.2:53 that netfilter dropped on eth0.
    #[test]
    fn flags_decide() {
        for (flags, expected) in [
            ("", true),
            ("--interface eth*", true),
            ("--interface eth* --exclude eth0", false),
            ("--interface tap*", false),
            ("--type drop", true),
            ("--type malformed --type retransmit", false),
            ("--class policy", true),
            ("--class capacity --class policy", true),
            ("--class noise", false),
            ("--reason netfilter_*", true),
            ("--reason NETFILTER_DROP", true),
            ("--reason netfilter", false),
            ("--protocol udp", true),
            ("--protocol tcp --protocol ipv4", true),
            ("--protocol ipv6", false),
            ("--protocol arp", false),
            ("--address 192.0.2.1", true),
            ("--address 192.0.2.2", true),
            ("--address 192.0.2.3 --address 2001:db8::/32", false),
            ("--address 192.0.2.0/30", true),
            ("--port 53", true),
            ("--port 4000", true),
            ("--port 80", false),
            ("--port 53 --address 192.0.2.9", false),
            ("--type drop --class policy --protocol udp --port 53 --interface eth0 --reason *", true),
        ] {
            assert_eq!(filter(flags).admits(&example()), expected, "{flags}");
        }
    }

    #[test]
    fn what_is_not_known_passes_only_where_it_was_not_asked_for() {
        let nameless = Event { interface: String::new(), source: None, destination: None, class: None, ..example() };
        for (flags, expected) in [
            ("", true),
            ("--interface *", false),
            ("--exclude eth0", true),
            ("--port 53", false),
            ("--class policy", false),
        ] {
            assert_eq!(filter(flags).admits(&nameless), expected, "{flags}");
        }
        let loopback = Event { interface: "lo".to_owned(), ..example() };
        assert!(!filter("").admits(&loopback) && filter("--interface lo").admits(&loopback));
    }
}
