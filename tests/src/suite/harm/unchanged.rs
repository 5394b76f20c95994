//! What attaching must not change: the features and queues of a device, and the packets on their way.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::{
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use probe_ebpf::{
    abi::{Direction, Slot},
    classify::LinkKind,
};
use probe_user::kernel::{
    attach::{Attached, Target},
    load::{Capacity, load},
    read::Maps,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use tests::{
    agent::Agent,
    cpu::pinned,
    link::{End, veth},
    namespace::Namespace,
    program,
    pump::{self, Datagrams},
    run::{is_full, kernel_version, requires_kernel, trial},
    shape::{self, SHAPES},
    topology::{Bridged, Pair, RIGHT},
    wait::eventually,
};

use super::super::counts::SOON;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("harm::features_and_queues_stay", features_and_queues_stay),
        trial("harm::attach_again_and_again_by_tcx", || {
            requires_kernel(6, 6, "tcx")?;
            attach_again_and_again(true)
        }),
        trial("harm::attach_again_and_again_by_clsact", || attach_again_and_again(false)),
    ];
    trials.extend(
        SHAPES.map(|shape| trial(&format!("harm::passes_unchanged_{}", shape.0), move || passes_unchanged(shape))),
    );
    trials
}

/// How long a million packets may take, on a machine that is busy.
const PASSAGE: Duration = Duration::from_mins(10);
/// Bytes of payload that every shape carries in one piece: a VXLAN device has 50 bytes less than Ethernet's 1,500.
const LONGEST: usize = 1422;

/// Numbered datagrams of all lengths there and back, before an agent comes, while it does, while it counts a million of them,
/// while it goes and afterwards: each comes once, in order, byte by byte as it was sent, and no device of the node is other than
/// it was.
fn passes_unchanged((name, make): shape::Kind) -> Result<()> {
    let count = if is_full() { 1_000_000 } else { 20_000 };
    let shape = make()?;
    let node = shape.node();
    let look = || shape.interfaces.iter().map(|name| look(node, name)).collect::<Result<Vec<_>>>();
    let before = eventually(SOON, "all links are up", || {
        let texts = look()?;
        ensure!(texts.iter().all(|text| text.contains("carrier: 1\n")), "not yet: {texts:?}");
        Ok(texts)
    })?;
    keep_qdiscs(shape.interfaces.iter().map(|name| (node, *name)))?;
    let (passed, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let watched = || -> Result<()> {
        let have_passed = |count: u64| {
            let wanted = passed.load(Ordering::Relaxed) + count;
            eventually(PASSAGE, "datagrams pass", || {
                let (passed, over) = (passed.load(Ordering::Relaxed), is_over.load(Ordering::Relaxed));
                // What has ended will say why.
                ensure!(over || passed >= wanted, "{passed} of {wanted}");
                Ok(())
            })
        };
        have_passed(1000)?;
        let interfaces = shape.interfaces.iter().flat_map(|name| ["--interface", name]);
        let uplinks = shape.uplinks.iter().flat_map(|name| ["--track", name]);
        let arguments: Vec<_> = interfaces.chain(uplinks).chain(["--ports", "each"]).collect();
        let agent = Agent::start(node, &arguments)?;
        have_passed(count)?;
        assert_eq!(before, look()?, "while the agent runs");
        let metrics = agent.metrics()?;
        for (interface, direction) in shape.passed().flat_map(|name| ["ingress", "egress"].map(|way| (name, way))) {
            let labels = [("interface", interface), ("direction", direction)];
            let counted = metrics.sum("lossprobe_frames_total", &labels);
            let (sent, open) = (count / 2, 64);
            ensure!(counted >= (sent - open) as f64, "{counted} frames of {sent} counted at {interface} {direction}");
        }
        agent.stop()?;
        have_passed(1000)
    };
    let traffic = || -> Result<u64> {
        let (mut there, mut back) =
            (Datagrams::up_to(&shape.path(), LONGEST)?, Datagrams::up_to(&shape.way_back(), LONGEST)?);
        while !is_over.load(Ordering::Relaxed) {
            there.pass(64)?;
            back.pass(64)?;
            passed.fetch_add(128, Ordering::Relaxed);
        }
        Ok(there.finish()? + back.finish()?)
    };
    let passed = beside(traffic, &is_over, watched).with_context(|| name)?;
    assert_eq!(before, look()?, "after the agent has ended");
    eprintln!("{name}: {passed} datagrams passed");
    Ok(())
}

/// Does `work` while `traffic` goes on, until one of them fails or `work` is done. A failure of the traffic is told first.
fn beside<T: Send>(
    traffic: impl FnOnce() -> Result<T> + Send,
    is_over: &AtomicBool,
    work: impl FnOnce() -> Result<()>,
) -> Result<T> {
    /// Also when its holder panics.
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let _ends = Ends(is_over);
            pinned(traffic)
        });
        let outcome = {
            let _ends = Ends(is_over);
            work()
        };
        let passed = traffic.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        outcome.map(|()| passed)
    })
}

/// Below tcx: to add or delete a clsact qdisc, these kernels stop the device's transmit queues for a moment (`qdisc_graft`
/// calls `dev_deactivate`, seen on 5.10), and what is sent in that moment is lost. So it is there already.
fn keep_qdiscs<'n>(devices: impl Iterator<Item = (&'n Namespace, &'n str)>) -> Result<()> {
    if kernel_version()?.0 < (6, 6) {
        add_clsact(devices)?;
    }
    Ok(())
}

fn add_clsact<'n>(mut devices: impl Iterator<Item = (&'n Namespace, &'n str)>) -> Result<()> {
    devices.try_for_each(|(namespace, name)| {
        program::run(namespace, "tc", &["qdisc", "add", "dev", name, "clsact"], "").map(drop)
    })
}

/// All that ethtool and sysfs say of a device, but its statistics, and its state, which the kernel says some time after a link
/// has come up.
fn look(namespace: &Namespace, name: &str) -> Result<String> {
    let features = program::run(namespace, "ethtool", &["-k", name], "")?;
    // A bridge has no channels, and says so.
    let channels = program::output(namespace, "ethtool", &["-l", name], "")?;
    let channels = String::from_utf8_lossy(&channels.stdout).into_owned();
    let attributes = namespace.run(|| {
        // sysfs shows the network namespace of whoever mounted it: here for this thread alone.
        unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS)")?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).context("mount sysfs")?;
        let device = Path::new("/sys/class/net").join(name);
        Ok(attributes(&device)? + &attributes(&device.join("queues"))?)
    })?;
    Ok(features + &channels + &attributes)
}

/// The names in a folder of sysfs, with the contents of the files.
fn attributes(folder: &Path) -> Result<String> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut lines = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name() == "operstate" {
            continue;
        }
        // Some can only be written, some do not suit every kind of device: that stays so.
        let content = fs::read_to_string(entry.path()).unwrap_or_else(|error| error.kind().to_string());
        lines.push(format!("{}: {}\n", entry.file_name().display(), content.trim()));
    }
    lines.sort();
    Ok(lines.concat())
}

/// On a veth with several queues, a bridge and its port.
fn features_and_queues_stay() -> Result<()> {
    let bridged = Bridged::new()?;
    let switch = &bridged.switch;
    let far = Namespace::new("far")?;
    veth(End::new(switch, "wide").queues(4), End::new(&far, "narrow"))?;
    let names = ["wide", "br", "p1"];
    let look = || names.iter().map(|name| look(switch, name)).collect::<Result<Vec<_>>>();
    let before = eventually(SOON, "all links are up", || {
        let texts = look()?;
        ensure!(texts.iter().all(|text| text.contains("carrier: 1\n")), "not yet: {texts:?}");
        Ok(texts)
    })?;
    for text in ["tx-checksumming: ", "tx-3: ", "mtu: 1500", "flags: "] {
        ensure!(before[0].contains(text), "no {text:?} in {}", before[0]);
    }
    let arguments: Vec<_> = names.iter().flat_map(|name| ["--interface", name]).collect();
    let agent = Agent::start(switch, &arguments)?;
    let with = look()?;
    assert_eq!(before, with, "while the agent runs");
    agent.stop()?;
    assert_eq!(before, look()?, "after it has ended");
    switch.offloads("wide", &[("tso", false)])?;
    ensure!(before != look()?, "a change of offloads does not show");
    Ok(())
}

/// From now on bpf(2) makes no link for the calling thread, as where the kernel has no tcx.
fn without_links() -> Result<()> {
    const BPF_LINK_CREATE: u64 = 28;
    let link = SeccompCondition::new(0, Dword, SeccompCmpOp::Eq, BPF_LINK_CREATE)?;
    let rules = BTreeMap::from([(libc::SYS_bpf, vec![SeccompRule::new(vec![link])?])]);
    let refuse = SeccompAction::Errno(libc::EINVAL.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    Ok(seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?)
}

/// Attached to the ends of a path in turns and taken off again, while numbered datagrams pass: each once, in order. What hangs
/// on a clsact qdisc hangs on one that is there.
fn attach_again_and_again(by_tcx: bool) -> Result<()> {
    const SLOT: u32 = 1;
    let times = if is_full() { 1000 } else { 100 };
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let ends = [(left, "a", left.index("a")?), (right, "b", right.index("b")?)];
    add_clsact(ends.iter().map(|(namespace, name, _)| (*namespace, *name)))?;
    let mut loaded = right.run(|| load(Capacity::for_interfaces(32)))?;
    let mut maps = Maps::take(&mut loaded.ebpf)?;
    for (_, _, ifindex) in ends {
        // With a slot, so that the programs do all of their work.
        let slot =
            Slot { ifindex, slot: SLOT, mtu_bytes: 1500, link_kind: LinkKind::Ethernet as u8, ..Slot::default() };
        maps.set_slot(ifindex, slot)?;
    }
    let is_over = AtomicBool::new(false);
    let path = pump::Path::new(left, right, (RIGHT, 5000));
    let traffic = || -> Result<u64> {
        let mut datagrams = Datagrams::new(&path)?;
        while !is_over.load(Ordering::Relaxed) {
            datagrams.pass(64)?;
        }
        datagrams.finish()
    };
    // Datagrams leave one end and arrive at the other.
    let has_counted = |name| {
        let direction = if name == "a" { Direction::Egress } else { Direction::Ingress };
        let maps = &maps;
        move || {
            ensure!(maps.traffic(SLOT, direction)?.frames > 0, "none at {}", direction.id());
            Ok(())
        }
    };
    let mut again_and_again = || -> Result<()> {
        for time in 0..times {
            let (namespace, name, ifindex) = ends[time % ends.len()];
            // On one thread, because what is no link by itself is taken off in the namespace of the thread.
            let target = Target { name, ifindex, kind: "veth", link_kind: LinkKind::Ethernet, xdp: false };
            namespace
                .run(|| {
                    if !by_tcx {
                        without_links()?;
                    }
                    let attached = Attached::new(&mut loaded.ebpf, target)?;
                    assert_eq!(attached.is_tcx(), by_tcx);
                    // At last for as long as it takes to count: a slow machine may let no datagram pass in between.
                    if time + ends.len() < times {
                        Ok(())
                    } else {
                        eventually(SOON, "a datagram is counted", has_counted(name))
                    }
                })
                .with_context(|| format!("time {time}"))?;
            ensure!(!is_over.load(Ordering::Relaxed), "the traffic has ended at time {time}");
        }
        Ok(())
    };
    let passed = beside(traffic, &is_over, &mut again_and_again)?;
    for direction in Direction::ALL {
        let counted = maps.traffic(SLOT, direction)?.frames;
        ensure!((1..=passed).contains(&counted), "{counted} of {passed} datagrams counted at {}", direction.id());
    }
    eprintln!("attached {times} times: {passed} datagrams passed");
    Ok(())
}
