//! What the running kernel calls the reasons of drops.
//!
//! Names come from its type information: the core's `enum skb_drop_reason`, and the enumerations of subsystems
//! (openvswitch, mac80211 …), also those of modules, whose numbers bear the subsystem in their upper half (Linux 6.4 and
//! later). A kernel without reasons (before 5.17) tells which function gave the packet up; where that says why, the drop
//! gets the name that later kernels have for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use probe_ebpf::abi::DropKey;
use tracing::{debug, warn};

use super::{btf::Btf, heap, symbols::Symbols};

const PREFIX: &str = "SKB_DROP_REASON_";
/// `SKB_DROP_REASON_SUBSYS_MASK`.
const SUBSYSTEM: u32 = 0xffff_0000;
/// How often the modules' type information is read again: the kernel's, which it builds on, has megabytes.
const READ_AGAIN: Duration = Duration::from_mins(1);
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
///
/// What was shown under a name keeps it, else a counter would fall: a subsystem is looked for before the first of its
/// numbers is shown, and once only.
#[derive(Clone, Debug, Default)]
pub struct Reasons {
    names: BTreeMap<u32, String>,
    /// Upper halves of numbers of which all is known that ever will be.
    settled: BTreeSet<u32>,
    /// When modules were last looked through because of a number.
    read_again: Option<Instant>,
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
        let mut reasons = Self { names: core.collect(), ..Self::default() };
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
        self.settled.extend(self.names.keys().map(|number| number & SUBSYSTEM));
    }

    fn add_subsystems(&mut self, btf: &Btf<'_>) {
        let is_wanted = |name: &str| name.ends_with("drop_reason") && name != "skb_drop_reason";
        for (name, value) in btf.enumerations(is_wanted).flatten() {
            let Ok(number) = u32::try_from(value) else { continue };
            if number & SUBSYSTEM != 0 && !self.settled.contains(&(number & SUBSYSTEM)) {
                self.names.entry(number).or_insert_with(|| name.trim_start_matches('_').to_lowercase());
            }
        }
    }

    /// Looks for subsystems that were not there, or not loaded, at the start: once for each, all at once, and at most once a
    /// minute. The kernel shows its type information in `vmlinux` and that of modules beside it.
    pub fn learn(&mut self, numbers: impl IntoIterator<Item = u32>, vmlinux: &Path) {
        let new: BTreeSet<u32> = numbers.into_iter().filter(|number| !self.is_settled(*number)).collect();
        let is_due = self.read_again.is_none_or(|read| read.elapsed() >= READ_AGAIN);
        if new.is_empty() || !is_due {
            return;
        }
        self.read_again = Some(Instant::now());
        match Btf::from_file(vmlinux) {
            Ok(kernel) => self.add_modules(&kernel, vmlinux.parent().unwrap_or(vmlinux)),
            Err(error) => warn!("drop reasons of modules that were loaded since the start have no names: {error:#}"),
        }
        self.settled.extend(new.into_iter().map(|number| number & SUBSYSTEM));
        heap::give_back();
    }

    /// Whether a number is called for good what [`Self::name`] says; else it is not to be shown before [`Self::learn`] has
    /// looked for it.
    #[must_use]
    pub fn is_settled(&self, number: u32) -> bool {
        let subsystem = number & SUBSYSTEM;
        self.is_empty() || subsystem == 0 || self.settled.contains(&subsystem) || self.names.contains_key(&number)
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

    /// The number of a drop's reason, for [`Self::name`]; `None` as long as it is not settled. Where the kernel has none it
    /// is found by the function.
    #[must_use]
    pub fn number(&self, drop: &DropKey, symbols: &Symbols) -> Option<u32> {
        if !self.is_empty() {
            return self.is_settled(drop.reason).then_some(drop.reason);
        }
        let position = symbols.known(drop.location).and_then(|(function, _)| {
            // Compilers split functions and name the parts `NAME.part.0`, `NAME.isra.3`, `NAME.cold`.
            let whole = function.split('.').next().unwrap_or(function);
            BY_FUNCTION.iter().position(|(name, _)| *name == whole)
        });
        Some(position.map_or(0, |position| position as u32 + 1))
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
    use std::path::PathBuf;

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

    /// Type information with these enumerations and nothing else (Documentation/bpf/btf.rst), which goes on where one ends
    /// that has so many bytes of names.
    fn type_information(enumerations: &[(&str, Vec<(String, u32)>)], base_bytes: usize) -> Vec<u8> {
        const ENUM: u32 = 6;
        let (mut types, mut strings) = (Vec::new(), vec![0]);
        let mut string = |text: &str| {
            let at = (base_bytes + strings.len()) as u32;
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
            let enumerations = [
                ("skb_drop_reason", core.clone()),
                ("something_else", vec![("NOBODY".to_owned(), 3 << 16 | 9)]),
                ("ovs_drop_reason", ovs.clone()),
            ];
            let data = type_information(&enumerations, 0);
            let reasons = Reasons::of_kernel(&Btf::parse(data).unwrap());
            assert_eq!(reasons.len(), NAMES.len() + OTHERS.len(), "turn {turn}");
            for (name, value) in core.iter().chain(&ovs) {
                let name = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
                assert_eq!(reasons.name(*value), name, "turn {turn}");
                let drop = DropKey { location: 0, netns: 1, ifindex: 2, reason: *value, family: 1, pad: [0; 3] };
                assert_eq!(reasons.number(&drop, &Symbols::default()), Some(*value));
            }
            assert_eq!(reasons.name(1), "reason_0x1");
        }
    }

    #[test]
    fn the_kernels_number_stands_where_it_has_one() {
        let reasons = Reasons { names: [(7, "nomem".to_owned())].into(), ..Reasons::default() };
        let drop = DropKey { location: 0, netns: 1, ifindex: 2, reason: 7, family: 1, pad: [0; 3] };
        assert_eq!(reasons.number(&drop, &Symbols::default()).map(|number| reasons.name(number)).unwrap(), "nomem");
    }

    /// A folder as `/sys/kernel/btf`, of a kernel whose own reason is 7.
    struct Shown {
        folder: PathBuf,
        base_bytes: usize,
    }

    impl Shown {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("lossprobe-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            let vmlinux = type_information(&[("skb_drop_reason", vec![(format!("{PREFIX}NOMEM"), 7)])], 0);
            let base_bytes = u32::from_le_bytes(*vmlinux[20..].first_chunk().unwrap()) as usize;
            fs::write(folder.join("vmlinux"), vmlinux).unwrap();
            Self { folder, base_bytes }
        }

        fn load(&self, module: &str, reasons: &[(&str, u32)]) {
            let reasons = reasons.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
            let data = type_information(&[("some_drop_reason", reasons)], self.base_bytes);
            fs::write(self.folder.join(module), data).unwrap();
        }

        fn vmlinux(&self) -> PathBuf {
            self.folder.join("vmlinux")
        }

        /// As at the agent's start.
        fn reasons(&self) -> Reasons {
            let kernel = Btf::from_file(&self.vmlinux()).unwrap();
            let mut reasons = Reasons::of_kernel(&kernel);
            reasons.add_modules(&kernel, &self.folder);
            reasons
        }
    }

    impl Drop for Shown {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.folder).unwrap();
        }
    }

    const A_MINUTE_AGO: fn() -> Option<Instant> = || Instant::now().checked_sub(READ_AGAIN);

    #[test]
    fn a_module_that_comes_later_is_named_before_it_is_shown() {
        let shown = Shown::new("later");
        shown.load("there", &[("THERE_DROP_ONE", 3 << 16 | 1)]);
        let mut reasons = shown.reasons();
        assert_eq!((reasons.name(3 << 16 | 1), reasons.is_settled(4 << 16 | 1)), ("there_drop_one".to_owned(), false));
        shown.load("later", &[("LATER_DROP_ONE", 4 << 16 | 1), ("LATER_DROP_TWO", 4 << 16 | 2)]);
        shown.load("unmet", &[("UNMET_DROP_ONE", 5 << 16 | 1)]);
        reasons.learn([7, 3 << 16 | 1, 4 << 16 | 1], &shown.vmlinux());
        for (number, name) in [(4 << 16 | 1, "later_drop_one"), (4 << 16 | 2, "later_drop_two"), (5 << 16 | 1, "unmet_drop_one")] {
            assert!(reasons.is_settled(number), "{number:#x}");
            assert_eq!(reasons.name(number), name);
        }
    }

    #[test]
    fn a_number_keeps_its_name() {
        let shown = Shown::new("keeps");
        shown.load("there", &[("THERE_DROP_ONE", 3 << 16 | 1)]);
        let mut reasons = shown.reasons();
        let nameless = [3 << 16 | 2, 4 << 16 | 1, 4 << 16 | 2];
        reasons.learn(nameless, &shown.vmlinux());
        let names = |reasons: &Reasons| nameless.map(|number| reasons.is_settled(number).then(|| reasons.name(number)));
        let before = names(&reasons);
        assert_eq!(before.each_ref().map(Option::as_deref), ["reason_0x30002", "reason_0x40001", "reason_0x40002"].map(Some));
        // Another version of the one, and the other at last.
        shown.load("there", &[("THERE_DROP_OTHER", 3 << 16 | 1), ("THERE_DROP_TWO", 3 << 16 | 2)]);
        shown.load("later", &[("LATER_DROP_ONE", 4 << 16 | 1), ("LATER_DROP_TWO", 4 << 16 | 2)]);
        shown.load("third", &[("THIRD_DROP_ONE", 5 << 16 | 1)]);
        reasons.read_again = A_MINUTE_AGO();
        reasons.learn([5 << 16 | 1], &shown.vmlinux());
        assert_eq!(reasons.name(5 << 16 | 1), "third_drop_one");
        assert_eq!((names(&reasons), reasons.name(3 << 16 | 1)), (before, "there_drop_one".to_owned()));
    }

    /// Else drops without a name would have megabytes read every second.
    #[test]
    fn modules_are_looked_through_once_for_a_subsystem_and_at_most_once_a_minute() {
        let shown = Shown::new("bounded");
        let mut reasons = shown.reasons();
        let mut is_read_for = |number, read_again: Option<Instant>| {
            reasons.read_again = read_again;
            reasons.learn([number], &shown.vmlinux());
            (reasons.read_again != read_again, reasons.is_settled(number))
        };
        let (now, long_ago) = (Some(Instant::now()), A_MINUTE_AGO());
        assert!(long_ago.is_some(), "the machine runs for a minute");
        assert_eq!(is_read_for(3 << 16 | 1, None), (true, true));
        assert_eq!(is_read_for(3 << 16 | 2, long_ago), (false, true));
        assert_eq!(is_read_for(4 << 16 | 1, now), (false, false), "held back");
        assert_eq!(is_read_for(4 << 16 | 1, long_ago), (true, true));
        assert_eq!([7, 8].map(|number| is_read_for(number, long_ago)), [(false, true); 2]);
    }

    #[test]
    fn what_cannot_be_looked_for_is_shown_by_its_number() {
        let mut reasons = Shown::new("gone").reasons();
        reasons.learn([3 << 16 | 1], Path::new("/no/such/folder/vmlinux"));
        assert_eq!((reasons.is_settled(3 << 16 | 1), reasons.name(3 << 16 | 1)), (true, "reason_0x30001".to_owned()));
    }
}
