//! What attaching must not change: the features and queues of a device, and the packets on their way.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::{
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
use tests::{
    agent::Agent,
    link::{End, veth},
    namespace::Namespace,
    program,
    pump::{self, Datagrams},
    run::{kernel_version, trial},
    topology::{Bridged, Pair, RIGHT},
    wait::eventually,
};

use super::super::counts::SOON;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("harm::features_and_queues_stay", features_and_queues_stay),
        trial("harm::attach_100_times_under_traffic", attach_100_times_under_traffic),
    ]
}

/// All that ethtool and sysfs say of a device, but its statistics.
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
    // The kernel says some time after a link has come up that it has.
    let before = eventually(SOON, "all links are up", || {
        let texts = look()?;
        ensure!(texts.iter().all(|text| text.contains("operstate: up")), "not yet: {texts:?}");
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

/// Attached to the ends of a path in turns and taken off again, while numbered datagrams pass: each once, in order.
///
/// Below tcx on a clsact qdisc that is there: to add or delete one, these kernels stop the device's transmit queues for
/// a moment (`qdisc_graft` calls `dev_deactivate`, seen on 5.10), and what is sent in that moment is lost.
fn attach_100_times_under_traffic() -> Result<()> {
    const TIMES: usize = 100;
    const SLOT: u32 = 1;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let ends = [(left, "a", left.index("a")?), (right, "b", right.index("b")?)];
    if kernel_version()?.0 < (6, 6) {
        for (namespace, name, _) in ends {
            program::run(namespace, "tc", &["qdisc", "add", "dev", name, "clsact"], "")?;
        }
    }
    let mut loaded = right.run(|| load(Capacity::for_interfaces(32)))?;
    let mut maps = Maps::take(&mut loaded.ebpf)?;
    for (_, _, ifindex) in ends {
        // With a slot, so that the programs do all of their work.
        let slot =
            Slot { ifindex, slot: SLOT, mtu_bytes: 1500, link_kind: LinkKind::Ethernet as u8, ..Slot::default() };
        maps.set_slot(ifindex, slot)?;
    }
    let is_over = AtomicBool::new(false);
    let path = pump::Path { sender: left, receiver: right, to: (RIGHT, 5000).into() };
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
        for time in 0..TIMES {
            let (namespace, name, ifindex) = ends[time % ends.len()];
            // On one thread, because what is no link by itself is taken off in the namespace of the thread.
            let target = Target { name, ifindex, kind: "veth", link_kind: LinkKind::Ethernet, xdp: false };
            namespace
                .run(|| {
                    let _attached = Attached::new(&mut loaded.ebpf, target)?;
                    // At last for as long as it takes to count: a slow machine may let no datagram pass in between.
                    if time + ends.len() < TIMES {
                        Ok(())
                    } else {
                        eventually(SOON, "a datagram is counted", has_counted(name))
                    }
                })
                .with_context(|| format!("time {time}"))?;
        }
        Ok(())
    };
    let passed = thread::scope(|scope| {
        let traffic = scope.spawn(traffic);
        let outcome = again_and_again();
        is_over.store(true, Ordering::Relaxed);
        let passed = traffic.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        outcome.and(passed)
    })?;
    for direction in Direction::ALL {
        let counted = maps.traffic(SLOT, direction)?.frames;
        ensure!((1..=passed).contains(&counted), "{counted} of {passed} datagrams counted at {}", direction.id());
    }
    eprintln!("{passed} datagrams passed");
    Ok(())
}
