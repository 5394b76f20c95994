//! Which kernel function an address lies in, by `/proc/kallsyms`.
//!
//! Only functions, and of programs that are loaded into the kernel (`[bpf]`) none. The file is opened while the agent may
//! see addresses (`CAP_SYSLOG`): the kernel decides by who opened it, so modules that come later are found, too.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead as _, BufReader, Read, Seek as _},
    ops::Range,
    time::{Duration, Instant},
};

use tracing::debug;

use super::heap;

const KALLSYMS: &str = "/proc/kallsyms";
/// Longer than any function: what lies further behind a symbol belongs to something that is not known.
const LONGEST_FUNCTION_BYTES: u64 = 64 << 10;
/// Modules lie in pages of their own, of this size or more: the next one may begin in the page behind a module's last
/// function.
const PAGE_BYTES: u64 = 4096;
/// Of what lies in front of a function and is never run (`CONFIG_CALL_PADDING`, since Linux 6.2): half of all symbols.
const PADDING: &str = "__pfx_";
/// The name of what lies behind a module.
const NOTHING: u32 = u32::MAX;
const READ_BYTES: usize = 64 << 10;
/// Addresses that are remembered as unknown.
const MOST_UNKNOWN: usize = 1024;
/// How often the file is read again because of an address that nothing is known of. It has megabytes.
const READ_AGAIN: Duration = Duration::from_mins(1);

/// The kernel's functions by address; empty where addresses are hidden.
#[derive(Debug, Default)]
pub struct Symbols {
    file: Option<File>,
    table: Table,
    /// When the file was last read again because of an address.
    read_again: Option<Instant>,
    /// Addresses that the file did not tell either, of modules that are gone: it is not read again for them.
    unknown: BTreeSet<u64>,
    /// Addresses that wait for the next reading, which answers for all of them.
    asked: BTreeSet<u64>,
}

impl Symbols {
    /// Reads them all.
    #[must_use]
    pub fn read() -> Self {
        let mut symbols = Self { file: File::open(KALLSYMS).ok(), ..Self::default() };
        symbols.read_file();
        symbols
    }

    fn read_file(&mut self) {
        let Some(file) = &mut self.file else { return };
        match file.rewind().and_then(|()| Table::read(&*file)) {
            Ok(table) => self.table = table,
            Err(error) => debug!("{KALLSYMS} is not read: {error}"),
        }
    }

    /// The function that an address lies in, and how far behind its start. An address that nothing is known of, perhaps
    /// of a module that was loaded since, costs a look into the file once a minute.
    pub fn resolve(&mut self, address: u64) -> Option<(&str, u64)> {
        let is_due = self.read_again.is_none_or(|read| read.elapsed() >= READ_AGAIN);
        if is_due && self.may_yet_tell(address) {
            self.read_again = Some(Instant::now());
            self.read_file();
            heap::give_back();
            let asked = std::mem::take(&mut self.asked);
            let unknown = asked.into_iter().chain([address]).filter(|asked| self.table.resolve(*asked).is_none());
            self.unknown.extend(unknown);
        } else if self.may_yet_tell(address) {
            self.asked.insert(address);
        }
        self.table.resolve(address)
    }

    /// Whether nothing is known of an address, but may be when the file is read the next time.
    #[must_use]
    pub fn may_yet_tell(&self, address: u64) -> bool {
        let is_new = self.unknown.len() + self.asked.len() < MOST_UNKNOWN && !self.unknown.contains(&address);
        is_new && !self.table.functions.is_empty() && self.table.resolve(address).is_none()
    }

    /// Those of a file with this text, which is read once.
    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        Self { table: Table::read(text.as_bytes()).unwrap_or_default(), ..Self::default() }
    }
}

/// The addresses of one function of the kernel itself, `None` if there is none of this name or the kernel hides them. Keeps
/// nothing: for who needs no other.
#[must_use]
pub fn addresses_of(name: &str) -> Option<Range<u64>> {
    addresses_in(File::open(KALLSYMS).ok()?, name)
}

/// The kernel lists itself by address.
fn addresses_in(source: impl Read, name: &str) -> Option<Range<u64>> {
    let lines = BufReader::with_capacity(READ_BYTES, source).lines().map_while(Result::ok);
    let mut addresses = lines.filter_map(|line| function(&line).map(|(address, found, _)| (address, found == name)));
    let (start, _) = addresses.find(|(_, found)| *found)?;
    let end = addresses.map(|(address, _)| address).find(|address| *address > start);
    Some(start..end.unwrap_or(start + LONGEST_FUNCTION_BYTES))
}

/// Kernel and modules lie within 4 GiB, so addresses are kept as distances from the first: there are 150,000.
#[derive(Debug, Default)]
struct Table {
    first: u64,
    /// Distance, and where the name begins in `names`, or [`NOTHING`]; by distance.
    functions: Vec<(u32, u32)>,
    /// Each ends with a newline.
    names: String,
}

impl Table {
    fn read(source: impl Read) -> std::io::Result<Self> {
        let (mut found, mut names) = (Vec::new(), String::new());
        let (mut lines, mut line) = (BufReader::with_capacity(READ_BYTES, source), String::new());
        let (mut module, mut modules) = (String::new(), 0_u32);
        while lines.read_line(&mut line)? > 0 {
            if let Some((address, name, owner)) = function(&line) {
                // The file lists one module after the other.
                if owner != module {
                    owner.clone_into(&mut module);
                    modules += 1;
                }
                found.push((address, names.len(), modules));
                names.push_str(name);
                names.push('\n');
            }
            line.clear();
        }
        found.sort_unstable();
        let first = found.first().map_or(0, |(address, ..)| *address);
        let mut functions = Vec::with_capacity(found.len());
        for (at, (address, name, module)) in found.iter().enumerate() {
            let next = found.get(at + 1);
            let is_last = next.is_none_or(|(_, _, other)| other != module);
            let end = (address | (PAGE_BYTES - 1)).saturating_add(1);
            let near = |address: u64| u32::try_from(address - first).ok();
            functions.extend(near(*address).zip(u32::try_from(*name).ok()));
            if is_last && next.is_none_or(|(address, ..)| *address > end) {
                functions.extend(near(end).map(|end| (end, NOTHING)));
            }
        }
        names.shrink_to_fit();
        Ok(Self { first, functions, names })
    }

    fn name(&self, at: u32) -> &str {
        self.names.get(at as usize..).and_then(|rest| rest.lines().next()).unwrap_or_default()
    }

    fn resolve(&self, address: u64) -> Option<(&str, u64)> {
        let distance = address.checked_sub(self.first)?;
        let behind = self.functions.partition_point(|(start, _)| u64::from(*start) <= distance);
        let (start, name) = *self.functions.get(behind.checked_sub(1)?)?;
        let offset = distance - u64::from(start);
        (offset < LONGEST_FUNCTION_BYTES && name != NOTHING).then(|| (self.name(name), offset))
    }
}

/// Address, name and module, as in `ffffffff81a2b3c0 T kfree_skb_list_reason` or `… t nft_do_chain\t[nf_tables]`.
fn function(line: &str) -> Option<(u64, &str, &str)> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok().filter(|address| *address != 0)?;
    words.next().filter(|kind| matches!(*kind, "t" | "T" | "w" | "W"))?;
    let name = words.next().filter(|name| !name.starts_with(PADDING))?;
    let module = words.next().unwrap_or_default();
    (module != "[bpf]").then_some((address, name, module))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000100 t kfree_skb_one
ffffffff81000170 t __pfx_skb_release_data
ffffffff81000180 T skb_release_data
ffffffff81000200 d some_data
ffffffff81000300 W weak_one
ffffffffc0001000 t nft_do_chain\t[nf_tables]
ffffffffc0004f00 t nf_tables_module_exit\t[nf_tables]
ffffffffc0005000 t ip_set_add\t[ip_set]
ffffffffc0009000 t bpf_prog_0123456789abcdef\t[bpf]
";

    #[test]
    fn functions_by_address() {
        let table = Table::read(TEXT.as_bytes()).unwrap();
        for (address, expected) in [
            (0xffff_ffff_8100_0175, Some(("kfree_skb_one", 0x75))),
            (0xffff_ffff_8100_0180, Some(("skb_release_data", 0))),
            (0xffff_ffff_8100_02ff, Some(("skb_release_data", 0x17f))),
            (0xffff_ffff_8100_0300, Some(("weak_one", 0))),
            (0xffff_ffff_8200_0300, None),
            (0xffff_ffff_c000_1002, Some(("nft_do_chain", 2))),
            (0xffff_ffff_c000_4eff, Some(("nft_do_chain", 0x3eff))),
            (0xffff_ffff_c000_4fff, Some(("nf_tables_module_exit", 0xff))),
            (0xffff_ffff_c000_5000, Some(("ip_set_add", 0))),
            // A module that came when this was read already.
            (0xffff_ffff_c000_6000, None),
            (0xffff_ffff_8100_1000, None),
            (0xffff_ffff_8000_0000, None),
            (0, None),
        ] {
            assert_eq!(table.resolve(address), expected, "{address:#x}");
        }
        let addresses = |name| addresses_in(TEXT.as_bytes(), name);
        assert_eq!(addresses("kfree_skb_one"), Some(0xffff_ffff_8100_0100..0xffff_ffff_8100_0180));
        assert_eq!(addresses("skb_release_data"), Some(0xffff_ffff_8100_0180..0xffff_ffff_8100_0300));
        assert_eq!(addresses("no_such_function"), None);
    }

    #[test]
    fn hidden_addresses_are_none() {
        let table = Table::read("0000000000000000 T _text\n".as_bytes()).unwrap();
        assert!(table.functions.is_empty());
        assert_eq!(table.resolve(1), None);
    }

    /// Else drops at an address of a module that is gone would have megabytes read every minute.
    #[test]
    fn an_address_that_the_file_does_not_tell_is_looked_for_once() {
        const GONE: [u64; 2] = [0xffff_ffff_8200_0300, 0xffff_ffff_8300_0300];
        let path = std::env::temp_dir().join(format!("lossprobe-symbols-{}", std::process::id()));
        std::fs::write(&path, TEXT).unwrap();
        let file = File::open(&path).ok();
        std::fs::remove_file(&path).unwrap();
        let mut symbols = Symbols { file, ..Symbols::default() };
        symbols.read_file();
        let long_ago = Instant::now().checked_sub(READ_AGAIN);
        let mut is_read_for = |address| {
            symbols.read_again = long_ago;
            assert_eq!(symbols.resolve(address), None);
            symbols.read_again != long_ago
        };
        assert!(long_ago.is_some(), "the machine runs for a minute");
        assert_eq!(
            [GONE[0], GONE[0], GONE[1], GONE[0], GONE[1]].map(&mut is_read_for),
            [true, false, true, false, false]
        );
    }

    #[test]
    fn the_running_kernel() {
        let mut symbols = Symbols::read();
        let range = addresses_of("skb_release_data").unwrap();
        assert_eq!(symbols.resolve(range.start + 4), Some(("skb_release_data", 4)));
        assert!(range.end - range.start < LONGEST_FUNCTION_BYTES);
    }
}
