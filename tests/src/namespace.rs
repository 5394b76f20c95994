//! A network namespace without a name: it lives as long as this value (or a process inside it) and leaves nothing
//! behind, whatever happens to the test.

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    panic::resume_unwind,
    path::PathBuf,
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// A private network namespace with `lo` up and IPv6 off (no address, so no unasked-for frames; see
/// [`Namespace::enable_ipv6`]).
///
/// `/sys/class/net` belongs to the mount, not to the namespace: nothing here looks into it.
pub struct Namespace {
    label: String,
    handle: File,
    sees_devices: bool,
}

impl Namespace {
    /// Makes a namespace; `label` appears in error messages only.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn new(label: &str) -> Result<Self> {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare(CLONE_NEWNET): run as root")?;
            File::open("/proc/thread-self/ns/net").context("open the new namespace")
        };
        // The thread ends here; the descriptor keeps the namespace.
        let handle = in_thread(make).with_context(|| format!("make namespace {label}"))?;
        let namespace = Self { label: label.to_owned(), handle, sees_devices: false };
        for scope in ["all", "default"] {
            namespace.sysctl_if_present(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "1")?;
        }
        namespace.up("lo")?;
        Ok(namespace)
    }

    /// The namespace of this process, which is not changed by looking at it.
    ///
    /// # Errors
    /// When procfs is not mounted.
    pub fn of_this_process() -> Result<Self> {
        let handle = File::open("/proc/self/ns/net").context("open this process's network namespace")?;
        Ok(Self { label: "of this process".to_owned(), handle, sees_devices: false })
    }

    /// Programs started in it see its own devices below `/sys/class/net` (drivers, parent devices), as after
    /// `ip netns exec`; what else is mounted below `/sys` they do not see.
    #[must_use]
    pub fn seeing_devices(self) -> Self {
        Self { sees_devices: true, ..self }
    }

    /// See [`Self::seeing_devices`].
    #[must_use]
    pub fn sees_devices(&self) -> bool {
        self.sees_devices
    }

    /// The name it was made with.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its inode number, by which the kernel's structures name it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn inode(&self) -> Result<u64> {
        Ok(self.handle.metadata().with_context(|| format!("stat namespace {}", self.label))?.ino())
    }

    /// Runs `work` on a thread inside the namespace. Sockets and tun devices made there stay in it and may be used
    /// from anywhere. Panics pass through.
    ///
    /// # Errors
    /// Those of `work`, with the namespace named.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_thread(|| {
            setns(&self.handle, CloneFlags::CLONE_NEWNET).context("enter it")?;
            work()
        })
        .with_context(|| format!("in namespace {}", self.label))
    }

    /// Sets a sysctl of the namespace, in dotted notation; a dot inside an interface name is written as `/`.
    ///
    /// # Errors
    /// When there is no such sysctl or it refuses the value.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = sysctl_path(name);
        self.run(|| fs::write(&path, value).with_context(|| format!("set {name} = {value}")))
    }

    fn sysctl_if_present(&self, name: &str, value: &str) -> Result<()> {
        let path = sysctl_path(name);
        self.run(|| match fs::write(&path, value) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("set {name} = {value}"))
            }
            Ok(()) | Err(_) => Ok(()),
        })
    }

    /// Allows IPv6 on `interface` without duplicate address detection, link-local address or router solicitation.
    /// Multicast listener reports are still sent when an address is added.
    ///
    /// # Errors
    /// When the kernel has no IPv6.
    pub fn enable_ipv6(&self, interface: &str) -> Result<()> {
        let settings = [("accept_dad", "0"), ("router_solicitations", "0"), ("accept_ra", "0"), ("addr_gen_mode", "1")];
        for (name, value) in settings.into_iter().chain([("disable_ipv6", "0")]) {
            self.sysctl(&format!("net.ipv6.conf.{}.{name}", interface.replace('.', "/")), value)?;
        }
        Ok(())
    }

    /// The sum of a counter of `/proc/net/snmp` or `/proc/net/netstat`, such as `("Tcp", "RetransSegs")`.
    ///
    /// # Errors
    /// When neither file has it.
    pub fn mib(&self, group: &str, name: &str) -> Result<u64> {
        let text = self.run(|| {
            let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
            Ok(read("snmp")? + &read("netstat")?)
        })?;
        mib_value(&text, group, name).with_context(|| format!("no counter {group}: {name}"))
    }

    /// What a device has counted, by `/proc/net/dev`.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn device_counters(&self, interface: &str) -> Result<DeviceCounters> {
        let text = self.run(|| fs::read_to_string("/proc/thread-self/net/dev").context("read net/dev"))?;
        let numbers = text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'));
        let numbers = numbers.with_context(|| format!("no device {interface}"))?;
        let numbers: Vec<u64> = numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        // bytes, packets, errors, drops, fifo, frame, compressed, multicast; then as many for sending.
        let &[_, received, _, receive_drops, _, _, _, _, _, sent, _, send_drops, ..] = numbers.as_slice() else {
            bail!("{} counters of {interface}", numbers.len())
        };
        Ok(DeviceCounters { received, receive_drops, sent, send_drops })
    }

    /// A counter of `/proc/net/snmp6`, such as `"Ip6InDiscards"`.
    ///
    /// # Errors
    /// When it has none of this name.
    pub fn mib6(&self, name: &str) -> Result<u64> {
        let text = self.run(|| fs::read_to_string("/proc/thread-self/net/snmp6").context("read snmp6"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        line.with_context(|| format!("no counter {name}"))
    }

    /// The sum over all CPUs of a column of a file below `/proc/net/stat`, such as `("nf_conntrack", "drop")`.
    ///
    /// # Errors
    /// When there is no such file or column.
    pub fn cpu_sum(&self, file: &str, column: &str) -> Result<u64> {
        let path = format!("/proc/thread-self/net/stat/{file}");
        let text = self.run(|| fs::read_to_string(&path).with_context(|| format!("read {path}")))?;
        // A line of names, then one of hexadecimal values for each CPU.
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let names = lines.next().unwrap_or_default();
        let at = names.iter().position(|name| *name == column).with_context(|| format!("no {column} in {names:?}"))?;
        lines.map(|values| Ok(u64::from_str_radix(values.get(at).context("a short line")?, 16)?)).sum()
    }
}

/// Packets, by the device's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Received.
    pub received: u64,
    /// Received, and given up before any protocol had them.
    pub receive_drops: u64,
    /// Sent.
    pub sent: u64,
    /// Given up instead of being sent.
    pub send_drops: u64,
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Where procfs shows a sysctl in dotted notation.
pub(crate) fn sysctl_path(name: &str) -> PathBuf {
    let swapped = name.chars().map(|c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    PathBuf::from("/proc/sys").join(swapped.collect::<String>())
}

/// Both files are pairs of lines "Group: names…" and "Group: values…".
fn mib_value(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(": ")).filter(|(head, _)| *head == group);
    let (names, values) = (lines.next()?.1, lines.next()?.1);
    let at = names.split(' ').position(|candidate| candidate == name)?;
    values.split(' ').nth(at)?.parse().ok()
}

fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().spawn_scoped(scope, work).context("start a thread")?;
        worker.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
