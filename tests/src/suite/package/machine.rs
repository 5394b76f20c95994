//! What is handed out on a machine with systemd: the Debian package installed, started by the unit, killed, updated, removed, purged;
//! then the tarball. The machine is a container with the programs of this one, written over in memory, and with nothing else of it: no
//! settings, no services, no disks.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tests::{child, http, namespace::Namespace, program, topology::Pair, wait::eventually};

use super::{Scratch, artefact, contained, source};

const BOOT: Duration = Duration::from_secs(60);
const START: Duration = Duration::from_secs(60);
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9976);
/// Bits of the two capabilities that stay, CAP_BPF and CAP_NET_ADMIN, as `/proc` shows them.
const KEPT: &str = "0000008000001000";

pub(super) fn are_started_by_systemd() -> Result<()> {
    let pair = Pair::new()?;
    let scratch = Scratch::new("machine")?;
    fs::copy(artefact(".deb")?, scratch.path.join("lossprobe.deb")).context("copy the package")?;
    fs::copy(artefact(".tar.gz")?, scratch.path.join("lossprobe.tar.gz")).context("copy the tarball")?;
    let machine = Machine::boot(&pair.right, &scratch)?;
    // What it depends on is there, but this machine's list of packages is empty.
    machine.run(&["dpkg", "--install", "--force-depends", "/mnt/lossprobe.deb"])?;
    machine.serves()?;
    contained::counts(&pair, ADDRESS).with_context(|| machine.journal())?;
    ensure!(machine.run(&["systemctl", "is-enabled", "lossprobe"])?.trim() == "enabled", "it is not enabled");
    let status = machine.run(&["cat", &format!("/proc/{}/status", machine.property("MainPID")?)])?;
    let is = |line: &str| status.lines().any(|said| said.split_whitespace().eq(line.split(' ')));
    for line in [&format!("CapPrm: {KEPT}"), &format!("CapEff: {KEPT}"), "NoNewPrivs: 1", "Seccomp: 2"] {
        ensure!(is(line), "no {line:?} in {status}");
    }
    ensure!(!is("Uid: 0 0 0 0"), "it runs as root: {status}");

    machine.run(&["systemctl", "kill", "--signal=KILL", "lossprobe"])?;
    // Until it is started anew, after RestartSec.
    eventually(START, "what it left is taken away", || {
        let cleaned = machine.property("ExecStopPost")?;
        ensure!(
            cleaned.contains("/usr/bin/lossprobe detach") && cleaned.contains("code=exited ; status=0"),
            "{cleaned}"
        );
        Ok(())
    })?;
    eventually(START, "it is started again", || {
        ensure!(machine.property("NRestarts")? == "1");
        Ok(())
    })?;
    machine.serves()?;

    let before = machine.property("MainPID")?;
    machine.run(&["dpkg", "--install", "--force-depends", "/mnt/lossprobe.deb"])?;
    ensure!(machine.property("MainPID")? != before, "an update leaves the old agent running");
    machine.serves()?;

    machine.run(&["dpkg", "--remove", "lossprobe"])?;
    ensure!(http::get(&pair.right, ADDRESS, "/healthz", &[]).is_err(), "removed, and yet it answers");
    let failed = machine.run(&["systemctl", "list-units", "--failed", "--no-legend", "--plain"])?;
    ensure!(failed.is_empty(), "failed: {failed}");
    machine.run(&["dpkg", "--purge", "lossprobe"])?;
    let left = machine.run(&[
        "find",
        "/etc",
        "/usr",
        "/var",
        "/run",
        "-name",
        "*lossprobe*",
        "-not",
        "-path",
        "/run/credentials/*",
    ])?;
    ensure!(left.is_empty(), "purged, and yet there: {left}");

    let typed = fs::read_to_string(source("deploy/README.md")).context("read how the tarball is installed")?;
    let (_, typed) = typed.split_once("```sh\ninstall ").context("no commands for the tarball")?;
    let (typed, _) = typed.split_once("```").context("the commands do not end")?;
    let unpack =
        "mkdir /root/new && tar --extract --file /mnt/lossprobe.tar.gz --strip-components 1 --directory /root/new";
    machine.run(&["sh", "-euc", &format!("{unpack}\ncd /root/new\ninstall {typed}")])?;
    machine.serves()
}

/// Killed when dropped, and everything in it.
struct Machine<'n> {
    namespace: &'n Namespace,
    child: Child,
    /// Its first process, as seen from here.
    init: String,
    cgroup: PathBuf,
    log: PathBuf,
}

/// `$1` is an empty folder, `$2` what the machine sees at /mnt. What systemd wants of a container is in its own documentation
/// (CONTAINER_INTERFACE): /proc, /sys (read-only), /dev, /run and a cgroup of its own. A policy by which nothing is started, as images for
/// containers have it, is not this machine's.
const SET_UP: &str = r#"
mount --make-rprivate /
mount -t tmpfs -o mode=755 machine "$1"
cd "$1"
mkdir -p usr etc proc sys dev run mnt tmp root old .over .work var/log var/lib/dpkg/info var/lib/dpkg/updates
chmod 1777 tmp
mount -t overlay -o "lowerdir=/usr,upperdir=$1/.over,workdir=$1/.work" machine usr
rm -f usr/sbin/policy-rc.d
for folder in bin sbin lib lib64; do ln -s usr/$folder $folder; done
: > var/lib/dpkg/status
: > etc/machine-id
echo 'root:x:0:0::/root:/bin/sh' > etc/passwd
echo 'root:x:0:' > etc/group
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for device in null zero full random urandom tty; do : > dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 run run
mount --bind "$2" mnt
pivot_root . old
exec chroot . env -i container=tests PATH=/usr/sbin:/usr/bin sh -c \
    'umount -l /old && exec /lib/systemd/systemd --unit=basic.target --log-target=console'
"#;

impl<'n> Machine<'n> {
    fn boot(namespace: &'n Namespace, scratch: &Scratch) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts").context("read the mounts")?;
        let cgroups = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let cgroups = cgroups.filter(|mount| mount.get(2) == Some(&"cgroup2")).find_map(|mount| mount.get(1).copied());
        let cgroup = PathBuf::from(cgroups.context("no cgroup2 is mounted")?)
            .join(format!("lossprobe-tests-{}", std::process::id()));
        fs::create_dir(&cgroup).with_context(|| format!("make {}", cgroup.display()))?;
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", cgroup.display());
        let log = scratch.path.join("console");
        let (root, shared) = (scratch.folder("root")?, scratch.path.display().to_string());
        let child = child::command(namespace, "sh")?
            .args([
                "-euc",
                &enter,
                "sh",
                "unshare",
                "--cgroup",
                "--mount",
                "--pid",
                "--ipc",
                "--uts",
                "--fork",
                "--kill-child",
            ])
            .args(["sh", "-euc", SET_UP, "sh", &root.display().to_string(), &shared])
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .context("start a machine")?;
        let mut machine = Self { namespace, child, init: String::new(), cgroup, log };
        let booted = eventually(BOOT, "systemd is there", || {
            let children = format!("/proc/{0}/task/{0}/children", machine.child.id());
            machine.init = fs::read_to_string(&children).with_context(|| children.clone())?.trim().to_owned();
            ensure!(machine.run(&["systemctl", "is-active", "basic.target"])?.trim() == "active", "not yet");
            Ok(())
        });
        booted.with_context(|| fs::read_to_string(&machine.log).unwrap_or_default())?;
        Ok(machine)
    }

    /// What a command says in it.
    fn run(&self, command: &[&str]) -> Result<String> {
        let inside = ["--target", &self.init, "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--"];
        program::run(self.namespace, "nsenter", &[&inside[..], command].concat(), "")
    }

    /// Of the service.
    fn property(&self, name: &str) -> Result<String> {
        let said = self.run(&["systemctl", "show", "--value", "--property", name, "lossprobe"])?;
        Ok(said.trim().to_owned())
    }

    fn serves(&self) -> Result<()> {
        let ready = eventually(START, "the agent is ready", || {
            let response = http::get(self.namespace, ADDRESS, "/readyz", &[])?;
            ensure!(response.status == 200, "/readyz says {}: {}", response.status, response.body);
            Ok(())
        });
        ready.with_context(|| self.journal())
    }

    fn journal(&self) -> String {
        self.run(&["journalctl", "--no-pager", "--unit", "lossprobe"]).unwrap_or_else(|error| format!("{error:#}"))
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // Its end is that of the first process, and with it of all others.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        let _left = eventually(Duration::from_secs(5), "its cgroups are empty", || remove(&self.cgroup));
    }
}

/// A cgroup with those below it.
fn remove(cgroup: &PathBuf) -> Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let path = entry?.path();
        if path.is_dir() {
            remove(&path)?;
        }
    }
    Ok(fs::remove_dir(cgroup)?)
}
