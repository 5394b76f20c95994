//! The guest's file system: the integration binary as /init, the agent, three programs with their libraries, and the
//! kernel modules, in one uncompressed `newc` archive (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::modules::Module;
use crate::workspace::find_program;

/// Programs that the tests call in the guest.
const PROGRAMS: [&str; 3] = ["nft", "tc", "ethtool"];
/// nft resolves the names of protocols through the C library.
const PROTOCOLS: &str = "icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\nsctp 132 SCTP\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CONSOLE: u32 = 0o020_600;

/// Writes the archive for one kernel. `init` and `agent` must be static.
pub(crate) fn write(to: &Path, init: &Path, agent: &Path, modules: &[Module]) -> Result<()> {
    let mut archive = Newc::default();
    for folder in ["dev", "etc", "modules", "proc", "run", "sys", "tmp"] {
        archive.folder(folder);
    }
    archive.entry("dev/console", CONSOLE, (5, 1), &[]);
    archive.file("etc/hosts", FILE, HOSTS.as_bytes());
    archive.file("etc/protocols", FILE, PROTOCOLS.as_bytes());
    archive.file("init", PROGRAM, &read(init)?);
    archive.file("bin/lossprobe", PROGRAM, &read(agent)?);
    let mut libraries = BTreeSet::new();
    for name in PROGRAMS {
        let program = find_program(name).with_context(|| format!("find the program {name} for the guest"))?;
        archive.file(&format!("bin/{name}"), PROGRAM, &read(&program)?);
        libraries.extend(shared_libraries(&program)?);
    }
    for library in libraries {
        archive.file(&library.to_string_lossy(), PROGRAM, &read(&library)?);
    }
    let mut list = String::new();
    for module in modules {
        let path = format!("modules/{}", module.file);
        archive.file(&path, FILE, &module.image);
        list.push_str(&format!("/{path}\n"));
    }
    archive.file("modules.list", FILE, list.as_bytes());
    fs::write(to, archive.finish()).with_context(|| format!("write {}", to.display()))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}", file.display()))
}

/// The dynamic loader and all libraries of a program, as ldd names them.
fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let done = Command::new("ldd").arg(program).output().context("start ldd")?;
    let text = String::from_utf8_lossy(&done.stdout);
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(text.lines().filter_map(path).collect())
}

/// A cpio archive in the format `newc` (magic 070701): a header of thirteen 8-digit hexadecimal fields, the name and
/// the content, each padded to 4 bytes.
#[derive(Default)]
struct Newc {
    bytes: Vec<u8>,
    entries: u32,
    folders: BTreeSet<String>,
}

impl Newc {
    /// A folder and those above it, once.
    fn folder(&mut self, path: &str) {
        if path.is_empty() || !self.folders.insert(path.to_owned()) {
            return;
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        self.entry(path, FOLDER, (0, 0), &[]);
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let path = path.trim_start_matches('/');
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        self.entry(path, mode, (0, 0), content);
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let links = 1;
        let fields = [
            self.entries,
            mode,
            0, // uid
            0, // gid
            links,
            0, // time of modification: the same input gives the same archive
            u32::try_from(content.len()).unwrap_or(u32::MAX),
            0, // device of the file itself
            0,
            device.0,
            device.1,
            u32::try_from(path.len() + 1).unwrap_or(u32::MAX),
            0, // checksum, unused in this format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{FILE, Newc};

    #[test]
    fn entries_are_aligned_and_folders_come_first() {
        let mut archive = Newc::default();
        archive.file("/a/b/c", FILE, b"hello");
        archive.file("a/b/d", FILE, b"");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let order: Vec<_> =
            ["a\0", "a/b\0", "a/b/c\0", "hello", "a/b/d\0", "TRAILER!!!"].map(|s| text.find(s)).to_vec();
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}");
        assert_eq!(text.matches("070701").count(), 5);
    }
}
