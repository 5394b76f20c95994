use std::path::PathBuf;

use super::*;
use crate::kernel::btf::VMLINUX;

/// What drops of this number are shown as; `None` where they wait.
fn shown(reasons: &Reasons, number: u32) -> Option<String> {
    reasons.of(number, 0).map(|reason| reasons.name(reason))
}

fn learn(reasons: &mut Reasons, numbers: &[u32], vmlinux: &Path) {
    reasons.learn(numbers.iter().map(|number| (*number, 0)), &mut Symbols::default(), vmlinux);
}

#[test]
fn names_of_the_running_kernel() {
    let kernel = Btf::from_file(Path::new(VMLINUX)).unwrap();
    let mut reasons = Reasons::of_kernel(&kernel);
    reasons.add_modules(&kernel, Path::new("/sys/kernel/btf"));
    assert!(reasons.is_empty() || reasons.names().any(|name| name == "netfilter_drop"));
    learn(&mut reasons, &[0xffff_fff0], Path::new(VMLINUX));
    let expected = if reasons.is_empty() { "not_specified" } else { "reason_0xfffffff0" };
    assert_eq!(shown(&reasons, 0xffff_fff0).as_deref(), Some(expected));
}

#[test]
fn a_kernel_without_reasons() {
    let [filter, other] = [0xffff_ffff_8100_0010, 0xffff_ffff_8100_0110];
    let mut symbols = Symbols::of("ffffffff81000000 T nf_hook_slow.part.0\nffffffff81000100 t other\n");
    let mut reasons = Reasons::default();
    reasons.learn([(0, filter), (0, other)], &mut symbols, Path::new(VMLINUX));
    let name = |address| reasons.of(0, address).map(|reason| reasons.name(reason));
    assert_eq!([filter, other, 0].map(name).map(Option::unwrap), ["netfilter_drop", "not_specified", "not_specified"]);
    assert_eq!(name(filter + 1), None, "not learned yet");
    assert_eq!(reasons.places().0, 2);
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
            assert_eq!(shown(&reasons, *value), Some(name), "turn {turn}");
        }
        assert_eq!(shown(&reasons, 1).as_deref(), Some("reason_0x1"));
    }
}

#[test]
fn the_function_counts_where_the_kernels_number_says_nothing() {
    let [filter, xdp] = [0xffff_ffff_8100_0010, 0xffff_ffff_8100_0110];
    let mut symbols = Symbols::of("ffffffff81000000 T nf_hook_slow\nffffffff81000100 t do_xdp_generic\n");
    let names = [(2, "not_specified".to_owned()), (7, "nomem".to_owned())];
    let mut reasons = Reasons { names: names.into(), ..Reasons::default() };
    assert_eq!(reasons.of(2, xdp), None, "not learned yet");
    reasons.learn([(7, filter), (2, xdp), (2, filter)], &mut symbols, Path::new(VMLINUX));
    for (number, address, name, function) in [
        (7, filter, "nomem", ""),
        (2, xdp, "not_specified", "do_xdp_generic"),
        (2, filter, "not_specified", "nf_hook_slow"),
        (2, 0, "not_specified", ""),
    ] {
        let reason = reasons.of(number, address).unwrap();
        assert_eq!((reasons.name(reason).as_str(), reason.function), (name, function));
    }
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

fn a_minute_ago() -> Option<Instant> {
    Instant::now().checked_sub(READ_AGAIN)
}

#[test]
fn a_module_that_comes_later_is_named_before_it_is_shown() {
    let kernel = Shown::new("later");
    kernel.load("there", &[("THERE_DROP_ONE", 3 << 16 | 1)]);
    let mut reasons = kernel.reasons();
    let names = |reasons: &Reasons| {
        [3 << 16 | 1, 4 << 16 | 1, 4 << 16 | 2, 5 << 16 | 1].map(|number| shown(reasons, number).unwrap_or_default())
    };
    assert_eq!(names(&reasons), ["there_drop_one", "", "", ""]);
    kernel.load("later", &[("LATER_DROP_ONE", 4 << 16 | 1), ("LATER_DROP_TWO", 4 << 16 | 2)]);
    kernel.load("unmet", &[("UNMET_DROP_ONE", 5 << 16 | 1)]);
    learn(&mut reasons, &[7, 3 << 16 | 1, 4 << 16 | 1], &kernel.vmlinux());
    assert_eq!(names(&reasons), ["there_drop_one", "later_drop_one", "later_drop_two", "unmet_drop_one"]);
}

#[test]
fn a_number_keeps_its_name() {
    let kernel = Shown::new("keeps");
    kernel.load("there", &[("THERE_DROP_ONE", 3 << 16 | 1)]);
    let mut reasons = kernel.reasons();
    learn(&mut reasons, &[3 << 16 | 2, 4 << 16 | 1, 4 << 16 | 2], &kernel.vmlinux());
    let names = |reasons: &Reasons| {
        [3 << 16 | 1, 3 << 16 | 2, 4 << 16 | 1, 4 << 16 | 2].map(|number| shown(reasons, number).unwrap_or_default())
    };
    let before = ["there_drop_one", "reason_0x30002", "reason_0x40001", "reason_0x40002"];
    assert_eq!(names(&reasons), before);
    // Another version of the one, and the other at last.
    kernel.load("there", &[("THERE_DROP_OTHER", 3 << 16 | 1), ("THERE_DROP_TWO", 3 << 16 | 2)]);
    kernel.load("later", &[("LATER_DROP_ONE", 4 << 16 | 1), ("LATER_DROP_TWO", 4 << 16 | 2)]);
    kernel.load("third", &[("THIRD_DROP_ONE", 5 << 16 | 1)]);
    reasons.read_again = a_minute_ago();
    learn(&mut reasons, &[5 << 16 | 1], &kernel.vmlinux());
    assert_eq!(shown(&reasons, 5 << 16 | 1).as_deref(), Some("third_drop_one"));
    assert_eq!(names(&reasons), before);
}

/// Else drops without a name would have megabytes read every second.
#[test]
fn modules_are_looked_through_once_for_a_subsystem_and_at_most_once_a_minute() {
    let kernel = Shown::new("bounded");
    let mut reasons = kernel.reasons();
    let mut looks = |number, read_again: Option<Instant>| {
        reasons.read_again = read_again;
        learn(&mut reasons, &[number], &kernel.vmlinux());
        (reasons.read_again != read_again, shown(&reasons, number).is_some())
    };
    let (now, long_ago) = (Some(Instant::now()), a_minute_ago());
    assert!(long_ago.is_some(), "the machine runs for a minute");
    assert_eq!(looks(3 << 16 | 1, None), (true, true));
    assert_eq!(looks(3 << 16 | 2, long_ago), (false, true));
    assert_eq!(looks(4 << 16 | 1, now), (false, false), "held back");
    assert_eq!(looks(4 << 16 | 1, long_ago), (true, true));
    assert_eq!([7, 8].map(|number| looks(number, long_ago)), [(false, true); 2]);
}

#[test]
fn what_cannot_be_looked_for_is_shown_by_its_number() {
    let mut reasons = Shown::new("gone").reasons();
    learn(&mut reasons, &[3 << 16 | 1], Path::new("/no/such/folder/vmlinux"));
    assert_eq!(shown(&reasons, 3 << 16 | 1).as_deref(), Some("reason_0x30001"));
}
