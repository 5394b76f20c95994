//! What the running kernel calls the reasons of drops.
//!
//! Names come from its type information: the core's `enum skb_drop_reason`, and the enumerations of subsystems
//! (openvswitch, mac80211 …), also those of modules, whose numbers bear the subsystem in their upper half (Linux 6.4 and
//! later). A kernel without reasons (before 5.17) tells which function gave the packet up; where that says why, the drop
//! gets the name that later kernels have for it.

use std::{collections::BTreeMap, fs, path::Path};

use probe_ebpf::abi::DropKey;
use tracing::debug;

use super::{btf::Btf, symbols::Symbols};

const PREFIX: &str = "SKB_DROP_REASON_";
/// `SKB_DROP_REASON_SUBSYS_MASK`.
const SUBSYSTEM: u64 = 0xffff_0000;
const NOT_SPECIFIED: &str = "not_specified";

/// Functions that give packets up for one reason only, in kernels that do not name it, and the name of later ones.
/// Functions with several reasons are left out on purpose: a wrong name is worse than none, and the function is shown
/// beside the drop.
const BY_FUNCTION: [(&str, &str); 15] = [
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

/// Names of drop reasons: the kernel's own in lower case, the core's without prefix.
#[derive(Clone, Debug, Default)]
pub struct Reasons {
    names: BTreeMap<u32, String>,
}

impl Reasons {
    /// The core's, and those of subsystems that are not modules.
    #[must_use]
    pub fn of_kernel(btf: &Btf<'_>) -> Self {
        let core = btf.enumeration("skb_drop_reason").into_iter().filter_map(|(name, value)| {
            // `SKB_NOT_DROPPED_YET` and `SKB_CONSUMED` bear no prefix.
            let short = name.strip_prefix(PREFIX).unwrap_or(&name);
            Some((u32::try_from(value).ok()?, short.to_lowercase()))
        });
        let mut reasons = Self { names: core.collect() };
        reasons.add_subsystems(btf);
        reasons
    }

    /// Those of subsystems that are modules, whose type information lies in `folder` beside the kernel's.
    pub fn add_modules(&mut self, kernel: &Btf<'_>, folder: &Path) {
        if self.is_empty() {
            return;
        }
        let modules = fs::read_dir(folder).into_iter().flatten().flatten();
        for path in modules.map(|entry| entry.path()).filter(|path| path.file_name() != Some("vmlinux".as_ref())) {
            let data = fs::read(&path).unwrap_or_default();
            match Btf::parse_module(data, kernel) {
                Ok(btf) => self.add_subsystems(&btf),
                Err(error) => debug!("{}: {error}", path.display()),
            }
        }
    }

    fn add_subsystems(&mut self, btf: &Btf<'_>) {
        let is_wanted = |name: &str| name.ends_with("drop_reason") && name != "skb_drop_reason";
        for (name, value) in btf.enumerations(is_wanted).flatten().filter(|(_, value)| value & SUBSYSTEM != 0) {
            if let Ok(number) = u32::try_from(value) {
                self.names.entry(number).or_insert_with(|| name.trim_start_matches('_').to_lowercase());
            }
        }
    }

    /// Whether the kernel names no reasons.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How many have names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// All names, in the order of the numbers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.values().map(String::as_str)
    }

    /// The number of a drop's reason, for [`Self::name`]. Where the kernel has none it is found by the function.
    #[must_use]
    pub fn number(&self, drop: &DropKey, symbols: &Symbols) -> u32 {
        if !self.is_empty() {
            return drop.reason;
        }
        let position = symbols.known(drop.location).and_then(|(function, _)| {
            // Compilers split functions and name the parts `NAME.part.0`, `NAME.isra.3`, `NAME.cold`.
            let whole = function.split('.').next().unwrap_or(function);
            BY_FUNCTION.iter().position(|(name, _)| *name == whole)
        });
        position.map_or(0, |position| position as u32 + 1)
    }

    /// The name of a reason; a number that the kernel does not name stays visible as `reason_0xN`.
    #[must_use]
    pub fn name(&self, number: u32) -> String {
        if self.is_empty() {
            let known = (number as usize).checked_sub(1).and_then(|position| BY_FUNCTION.get(position));
            return known.map_or(NOT_SPECIFIED, |(_, name)| name).to_owned();
        }
        self.names.get(&number).cloned().unwrap_or_else(|| format!("reason_{number:#x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classes::{Class, class_of},
        kernel::btf::VMLINUX,
    };

    #[test]
    fn names_of_the_running_kernel() {
        let kernel = Btf::from_file(Path::new(VMLINUX)).unwrap();
        let mut reasons = Reasons::of_kernel(&kernel);
        reasons.add_modules(&kernel, Path::new("/sys/kernel/btf"));
        assert!(reasons.is_empty() || reasons.names().any(|name| name == "netfilter_drop"));
        assert_eq!(reasons.name(0xffff_fff0), if reasons.is_empty() { "not_specified" } else { "reason_0xfffffff0" });
    }

    #[test]
    fn a_kernel_without_reasons() {
        let reasons = Reasons::default();
        let name = |number| reasons.name(number);
        assert_eq!(name(0), "not_specified");
        assert_eq!(name(1), "netfilter_drop");
        assert_eq!(name(BY_FUNCTION.len() as u32), "unix_disconnect");
        assert_eq!(name(99), "not_specified");
        for (function, name) in BY_FUNCTION {
            assert_ne!(class_of(name), Class::Unknown, "{function}");
        }
    }

    /// Type information with these enumerations and nothing else (Documentation/bpf/btf.rst).
    fn type_information(enumerations: &[(&str, Vec<(String, u32)>)]) -> Vec<u8> {
        const ENUM: u32 = 6;
        let (mut types, mut strings) = (Vec::new(), vec![0]);
        let mut string = |text: &str| {
            let at = strings.len() as u32;
            strings.extend(text.bytes().chain([0]));
            at
        };
        for (name, members) in enumerations {
            let size = 4;
            types.extend([string(name), ENUM << 24 | members.len() as u32, size]);
            types.extend(members.iter().flat_map(|(name, value)| [string(name), *value]));
        }
        let (types_bytes, strings_bytes) = (types.len() as u32 * 4, strings.len() as u32);
        let magic_and_version = 0x1_eb9f;
        let header = [magic_and_version, 24, 0, types_bytes, types_bytes, strings_bytes];
        let words = header.into_iter().chain(types).flat_map(u32::to_le_bytes);
        words.chain(strings).collect()
    }

    /// Were a single number compiled in, one of these orders would show it: the same names, each time under others.
    #[test]
    fn names_follow_the_kernels_numbers() {
        const NAMES: [&str; 7] =
            ["NOT_SPECIFIED", "NO_SOCKET", "NETFILTER_DROP", "CPU_BACKLOG", "QDISC_DROP", "XDP", "SOMETHING_NEW"];
        const OTHERS: [&str; 3] = ["OVS_DROP_METER", "OVS_DROP_IP_TTL", "OVS_DROP_EXPLICIT"];
        for turn in 0..NAMES.len() as u32 {
            let number = |position: usize, of: usize| (position as u32 * 3 + turn) % of as u32 + 2;
            let core = NAMES.iter().enumerate().map(|(at, name)| (format!("{PREFIX}{name}"), number(at, NAMES.len())));
            let ovs = OTHERS.iter().enumerate();
            let ovs = ovs.map(|(at, name)| ((*name).to_owned(), 3 << 16 | number(at, OTHERS.len() + 1)));
            let (core, ovs): (Vec<_>, Vec<_>) = (core.collect(), ovs.collect());
            let data = type_information(&[
                ("skb_drop_reason", core.clone()),
                ("something_else", vec![("NOBODY".to_owned(), 3 << 16 | 9)]),
                ("ovs_drop_reason", ovs.clone()),
            ]);
            let reasons = Reasons::of_kernel(&Btf::parse(data).unwrap());
            assert_eq!(reasons.len(), NAMES.len() + OTHERS.len(), "turn {turn}");
            for (name, value) in core.iter().chain(&ovs) {
                let name = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
                assert_eq!(reasons.name(*value), name, "turn {turn}");
                let drop = DropKey { location: 0, netns: 1, ifindex: 2, reason: *value, family: 1, pad: [0; 3] };
                assert_eq!(reasons.number(&drop, &Symbols::default()), *value);
            }
            assert_eq!(reasons.name(1), "reason_0x1");
        }
    }

    #[test]
    fn the_kernels_number_stands_where_it_has_one() {
        let reasons = Reasons { names: [(7, "nomem".to_owned())].into() };
        let drop = DropKey { location: 0, netns: 1, ifindex: 2, reason: 7, family: 1, pad: [0; 3] };
        assert_eq!(reasons.name(reasons.number(&drop, &Symbols::default())), "nomem");
    }
}
