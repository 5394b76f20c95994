//! Functions that tell something of the packets they give up where the kernel gives no reason.

use std::collections::BTreeMap;

use tracing::warn;

use crate::{classes, kernel::symbols::Symbols};

/// Functions that give packets up for one reason only, in kernels that do not name it, and the name of later ones.
/// Functions with several reasons are left out on purpose: a wrong name is worse than none, and the function is shown
/// beside the drop.
const NAMES: [(&str, &str); 15] = [
    ("nf_hook_slow", "netfilter_drop"),
    ("enqueue_to_backlog", "cpu_backlog"),
    ("netif_rx_internal", "cpu_backlog"),
    ("__udp_queue_rcv_skb", "socket_rcvbuff"),
    ("__udpv6_queue_rcv_skb", "socket_rcvbuff"),
    ("ip_error", "ip_innoroutes"),
    ("ip6_pkt_drop", "ip_innoroutes"),
    ("arp_error_report", "neigh_failed"),
    ("ndisc_error_report", "neigh_failed"),
    ("inet_frag_rbtree_purge", "frag_reasm_timeout"),
    ("ip_expire", "frag_reasm_timeout"),
    ("tcp_prune_ofo_queue", "tcp_ofo_queue_prune"),
    ("skb_queue_purge", "queue_purge"),
    ("unix_release_sock", "unix_disconnect"),
    ("unix_stream_connect", "unix_disconnect"),
];

/// The reason that a function stands for.
pub(super) fn name_of(function: &str) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == function).map(|(_, name)| *name)
}

/// The function, of those that tell a reason or a class, that this one is or is a part of; `""` if it is of none.
fn telling(function: &str) -> &'static str {
    // Compilers split functions and name the parts `NAME.part.0`, `NAME.isra.3`, `NAME.cold`.
    let whole = function.split('.').next().unwrap_or(function);
    NAMES.iter().map(|(known, _)| *known).chain(classes::functions()).find(|known| *known == whole).unwrap_or("")
}

/// The functions that tell something, by an address in which packets were given up. What was said of an address first holds for good:
/// else a drop would change its name when a module comes or goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Functions {
    by_address: BTreeMap<u64, &'static str>,
}

impl Functions {
    /// Addresses that are remembered: a kernel has some hundred places that drop.
    pub(super) const MOST: usize = 2048;

    /// Looks up an address that is new. One that the kernel's symbols may yet tell of waits for that.
    pub(super) fn learn(&mut self, address: u64, symbols: &mut Symbols) {
        if address == 0 || self.is_full() || self.by_address.contains_key(&address) {
            return;
        }
        let function = match symbols.resolve(address).map(|(function, _)| telling(function)) {
            Some(function) => function,
            None if symbols.may_yet_tell(address) => return,
            None => "",
        };
        self.by_address.insert(address, function);
        if self.is_full() {
            warn!(
                "{} places in the kernel have dropped packets: of further ones the function tells nothing",
                Self::MOST
            );
        }
    }

    /// The function at an address, `""` if it tells nothing; `None` before it was learned.
    pub(super) fn at(&self, address: u64) -> Option<&'static str> {
        let known = self.by_address.get(&address).copied();
        known.or_else(|| (address == 0 || self.is_full()).then_some(""))
    }

    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }

    fn is_full(&self) -> bool {
        self.by_address.len() >= Self::MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classes::{Class, class_of};

    #[test]
    fn every_reason_has_a_class() {
        for (function, name) in NAMES {
            assert_ne!(class_of(name), Class::Unknown, "{function}");
            assert_eq!((telling(&format!("{function}.isra.0")), name_of(function)), (function, Some(name)));
        }
        assert_eq!((telling("kfree_skb_reason"), name_of("")), ("", None));
        assert!(classes::functions().all(|function| telling(function) == function && name_of(function).is_none()));
    }

    #[test]
    fn the_first_answer_holds() {
        let [filter, backlog, late] = [0xffff_ffff_8100_0010, 0xffff_ffff_8100_0110, 0xffff_ffff_c000_0010];
        let kernel = "ffffffff81000000 T nf_hook_slow\nffffffff81000100 t other\n";
        let mut symbols = Symbols::of(kernel);
        let mut functions = Functions::default();
        let mut learned = |symbols: &mut Symbols| {
            [filter, backlog, late, 0].map(|address| {
                functions.learn(address, symbols);
                functions.at(address)
            })
        };
        assert_eq!(learned(&mut symbols), [Some("nf_hook_slow"), Some(""), Some(""), Some("")]);
        // Everything is told otherwise from now on, a module has come.
        let changed =
            "ffffffff81000000 T other\nffffffff81000100 t enqueue_to_backlog\nffffffffc0000000 t ip_error\t[m]\n";
        assert_eq!(learned(&mut Symbols::of(changed)), [Some("nf_hook_slow"), Some(""), Some(""), Some("")]);
    }

    /// Within a minute of a look into the symbols: the drop is shown when they have been looked into again.
    #[test]
    fn an_address_that_may_yet_be_told_waits() {
        let address = 0xffff_ffff_c000_0010;
        let mut symbols = Symbols::of("ffffffff81000000 T nf_hook_slow\n");
        symbols.resolve(0xffff_ffff_c100_0000);
        let mut functions = Functions::default();
        functions.learn(address, &mut symbols);
        assert_eq!((functions.at(address), functions.len()), (None, 0));
    }

    #[test]
    fn what_finds_no_room_tells_nothing() {
        let mut symbols = Symbols::of("ffffffff81000000 T nf_hook_slow\n");
        let mut functions = Functions::default();
        let first = 0xffff_ffff_8100_0000;
        (0..Functions::MOST as u64 + 1).for_each(|at| functions.learn(first + at, &mut symbols));
        let last = first + Functions::MOST as u64;
        assert_eq!((functions.at(last - 1), functions.at(last)), (Some("nf_hook_slow"), Some("")));
        assert_eq!(functions.len(), Functions::MOST);
    }
}
