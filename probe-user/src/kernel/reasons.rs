//! What the running kernel calls the reasons of drops.
//!
//! Names come from its type information: the core's `enum skb_drop_reason`, and the enumerations of subsystems
//! (openvswitch, mac80211 …), also those of modules, whose numbers bear the subsystem in their upper half (Linux 6.4 and
//! later). A kernel without reasons (before 5.17) tells which function gave the packet up; where that says why, the drop
//! gets the name that later kernels have for it.

mod functions;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use tracing::{debug, warn};

use self::functions::Functions;
use super::{btf::Btf, heap, symbols::Symbols};

const PREFIX: &str = "SKB_DROP_REASON_";
/// `SKB_DROP_REASON_SUBSYS_MASK`.
const SUBSYSTEM: u32 = 0xffff_0000;
/// How often the modules' type information is read again: the kernel's, which it builds on, has megabytes.
const READ_AGAIN: Duration = Duration::from_mins(1);
const NOT_SPECIFIED: &str = "not_specified";

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// The kernel's number.
    pub(crate) number: u32,
    /// Where that says nothing, the function that does; `""` where none does.
    pub(crate) function: &'static str,
}

/// Names of drop reasons: the kernel's own in lower case, the core's without prefix.
///
/// What was shown under a name keeps it, else a counter would fall: a subsystem or a function is looked for before the first
/// of its drops is shown, and once only.
#[derive(Clone, Debug, Default)]
pub struct Reasons {
    names: BTreeMap<u32, String>,
    /// Upper halves of numbers of which all is known that ever will be.
    settled: BTreeSet<u32>,
    /// When modules were last looked through because of a number.
    read_again: Option<Instant>,
    functions: Functions,
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

    /// Looks for what is not known yet of drops, by the kernel's number and the address of the function. Subsystems that were
    /// not loaded at the start: once for each, all at once, and at most once a minute; the kernel shows its type information
    /// in `vmlinux` and that of modules beside it.
    pub fn learn(&mut self, drops: impl IntoIterator<Item = (u32, u64)>, symbols: &mut Symbols, vmlinux: &Path) {
        let mut new = BTreeSet::new();
        for (number, address) in drops {
            if self.says_nothing(number) {
                self.functions.learn(address, symbols);
            } else if !self.is_settled(number) {
                new.insert(number & SUBSYSTEM);
            }
        }
        let is_due = self.read_again.is_none_or(|read| read.elapsed() >= READ_AGAIN);
        if new.is_empty() || !is_due {
            return;
        }
        self.read_again = Some(Instant::now());
        match Btf::from_file(vmlinux) {
            Ok(kernel) => self.add_modules(&kernel, vmlinux.parent().unwrap_or(vmlinux)),
            Err(error) => warn!("drop reasons of modules that were loaded since the start have no names: {error:#}"),
        }
        self.settled.extend(new);
        heap::give_back();
    }

    /// The reason of drops of this number at this address, 0 if that is not known; `None` as long as [`Self::learn`] has not
    /// found out what there is to know: they are not to be shown yet.
    #[must_use]
    pub fn of(&self, number: u32, address: u64) -> Option<Reason> {
        let function = if self.says_nothing(number) {
            self.functions.at(address)?
        } else {
            self.is_settled(number).then_some("")?
        };
        Some(Reason { number, function })
    }

    fn says_nothing(&self, number: u32) -> bool {
        self.is_empty() || self.names.get(&number).is_some_and(|name| name == NOT_SPECIFIED)
    }

    fn is_settled(&self, number: u32) -> bool {
        let subsystem = number & SUBSYSTEM;
        subsystem == 0 || self.settled.contains(&subsystem) || self.names.contains_key(&number)
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

    /// The name of a reason; a number that the kernel does not name stays visible as `reason_0xN`.
    #[must_use]
    pub fn name(&self, Reason { number, function }: Reason) -> String {
        if self.is_empty() {
            return functions::name_of(function).unwrap_or(NOT_SPECIFIED).to_owned();
        }
        self.names.get(&number).cloned().unwrap_or_else(|| format!("reason_{number:#x}"))
    }

    /// How many places in the kernel are known by their function, and how many can be.
    #[must_use]
    pub fn places(&self) -> (usize, usize) {
        (self.functions.len(), Functions::MOST)
    }
}

#[cfg(test)]
mod tests;
