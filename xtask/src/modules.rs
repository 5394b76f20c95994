//! Kernel modules for a guest that has no modprobe: which, what they depend on, decompressed, in order of insertion.
//!
//! Debian's packages carry no modules.dep (depmod writes it at installation), so the dependencies are read from the
//! modules themselves.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What the tests use. Absent ones are built into the kernel or do not exist in that version; `prefix*` takes all.
const WANTED: &[&str] = &[
    // libcrc32c of 5.10 asks for it by a soft dependency, and nf_tables for libcrc32c.
    "crc32c_generic",
    "crc32c_intel",
    // the guest's network cards
    "virtio_pci",
    "virtio_net",
    // link kinds
    "veth",
    "dummy",
    "tun",
    "bridge",
    "br_netfilter",
    "8021q",
    "bonding",
    "team",
    "team_mode_*",
    "openvswitch",
    "vxlan",
    "geneve",
    "macvlan",
    "ifb",
    "vrf",
    "ip_gre",
    "ip6_gre",
    "ipip",
    "sit",
    "wireguard",
    "netkit",
    // traffic control
    "sch_ingress",
    "sch_tbf",
    "sch_netem",
    "sch_htb",
    "sch_prio",
    "sch_fq",
    "sch_fq_codel",
    "cls_bpf",
    "cls_u32",
    "cls_matchall",
    "act_bpf",
    "act_mirred",
    "act_gact",
    "act_police",
    // packet filter
    "nf_tables",
    "nft_*",
    "nf_conntrack",
    "nf_nat",
    "nf_reject_*",
    "nf_log_syslog",
    // sockets
    "tcp_diag",
    "udp_diag",
    "af_packet_diag",
    "sctp",
];

/// Whether the kernel whose modules are below `folder` has no module `name`: neither as a file nor built in.
pub(crate) fn lacks(folder: &Path, name: &str) -> Result<bool> {
    let mut files = HashMap::new();
    find(folder, &mut files)?;
    let list = folder.join("modules.builtin");
    let built_in = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    let file = |line: &str| Some(line.rsplit_once('/')?.1.strip_suffix(".ko")?.replace('-', "_"));
    Ok(!files.contains_key(name) && !built_in.lines().any(|line| file(line).as_deref() == Some(name)))
}

/// One module, ready for `init_module`.
pub(crate) struct Module {
    /// File name in the guest: `veth.ko`.
    pub(crate) file: String,
    pub(crate) image: Vec<u8>,
}

/// The wanted modules below `folder` and everything they need, dependencies first.
pub(crate) fn collect(folder: &Path) -> Result<Vec<Module>> {
    let mut files = HashMap::new();
    find(folder, &mut files)?;
    let mut names: Vec<&str> = files.keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut collected = Collected { files: &files, done: Vec::new(), modules: Vec::new() };
    for wanted in WANTED {
        let fits = |name: &&&str| match wanted.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *name == wanted,
        };
        for name in names.iter().filter(fits) {
            collected.add(name)?;
        }
    }
    Ok(collected.modules)
}

struct Collected<'a> {
    files: &'a HashMap<String, PathBuf>,
    done: Vec<String>,
    modules: Vec<Module>,
}

impl Collected<'_> {
    /// Adds a module behind what it depends on; a dependency without a file is built in.
    fn add(&mut self, name: &str) -> Result<()> {
        let Some(file) = self.files.get(name).filter(|_| !self.done.iter().any(|done| done == name)) else {
            return Ok(());
        };
        self.done.push(name.to_owned());
        let image = read(file)?;
        for dependency in dependencies(&image) {
            self.add(&dependency)?;
        }
        self.modules.push(Module { file: format!("{name}.ko"), image });
        Ok(())
    }
}

/// Every module file below `folder`, by its name as the kernel spells it.
fn find(folder: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find(&entry.path(), files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let tool = match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return fs::read(file).with_context(|| format!("read {}", file.display())),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        other => bail!("{}: compressed by a method that is not known here: {other:?}", file.display()),
    };
    let done = Command::new(tool).args(["--decompress", "--stdout", "--quiet"]).arg(file).output();
    let done = done.with_context(|| format!("start {tool} to unpack {}", file.display()))?;
    anyhow::ensure!(done.status.success(), "{tool} cannot unpack {} ({})", file.display(), done.status);
    Ok(done.stdout)
}

/// `depends=a,b` of the module's .modinfo section, a list of NUL-terminated strings.
fn dependencies(image: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = image.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = image.iter().skip(start + KEY.len()).take_while(|&&byte| byte != 0).copied().collect();
    let names = String::from_utf8(value).unwrap_or_default();
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn reads_dependencies() {
        let rows: [(&[u8], &[&str]); 3] = [
            (b"x\0depends=llc,nf-nat\0intree=Y\0", &["llc", "nf_nat"]),
            (b"x\0depends=\0intree=Y\0", &[]),
            (b"no modinfo", &[]),
        ];
        for (image, expected) in rows {
            assert_eq!(dependencies(image), expected);
        }
    }
}
