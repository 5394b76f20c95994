//! Where programs are attached, whether that is noticed when it changes, and what is left of an agent that was killed.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType,
    tc::{NlOptions, TcAttachOptions, TcHandle},
};
use libtest_mimic::Trial;
use probe_ebpf::abi::{Direction, program};
use probe_user::kernel::{
    leftovers::Marker,
    load::{Capacity, Loaded, load},
};
use serde_json::Value;
use tests::{
    agent::{Agent, lossprobe},
    namespace::Namespace,
    program::run,
    run::{requires_kernel, requires_kernel_before, trial},
    topology::{Pair, RIGHT},
    wait::eventually,
};

use super::counts::{Counts, SOON, counts_exactly};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("attach::positions_of_three_agents", positions_of_three_agents),
        trial("attach::filters_taken_off_are_put_back", filters_taken_off_are_put_back),
        trial("attach::filters_beside_foreign_ones", filters_beside_foreign_ones),
        trial("attach::filters_of_a_killed_agent", filters_of_a_killed_agent),
        trial("attach::who_brought_the_qdisc", who_brought_the_qdisc),
        trial("attach::leftovers", leftovers),
    ]
}

/// With a program that guests do not have.
pub(super) fn host_trials() -> Vec<Trial> {
    vec![trial("attach::links_taken_off_are_put_back", links_taken_off_are_put_back)]
}

/// Programs are verified once a second, and taken off programs are put back every 10 s.
const PUT_BACK: Duration = Duration::from_secs(30);

/// `hook position` of what hangs on an interface, in the order of the hooks' names.
fn positions(agent: &Agent<'_>, interface: &str) -> Result<Vec<String>> {
    let metrics = agent.metrics()?;
    let label = |labels: &std::collections::BTreeMap<String, String>, name: &str| labels[name].clone();
    let here = [("interface", interface)];
    let samples = metrics.select("lossprobe_attached", &here);
    let mut positions: Vec<_> = samples
        .map(|sample| format!("{} {}", label(&sample.labels, "hook"), label(&sample.labels, "position")))
        .collect();
    positions.sort();
    Ok(positions)
}

fn comes_to_be_at(agent: &Agent<'_>, ingress: &str, egress: &str) -> Result<()> {
    let expected = vec![format!("tc_egress {egress}"), format!("tc_ingress {ingress}")];
    eventually(SOON, &format!("{expected:?}"), || {
        let positions = positions(agent, "b")?;
        ensure!(positions == expected, "{positions:?}");
        Ok(())
    })
}

/// Each newcomer asks for the first place at ingress and for the last at egress, and the others notice.
fn positions_of_three_agents() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let start = |port: &str| Agent::start(right, &["--interface", "b", "--listen", &format!("127.0.0.1:{port}")]);
    let first = start("9001")?;
    comes_to_be_at(&first, "only", "only")?;
    let second = start("9002")?;
    comes_to_be_at(&second, "first", "last")?;
    comes_to_be_at(&first, "last", "first")?;
    let third = start("9003")?;
    comes_to_be_at(&third, "first", "last")?;
    comes_to_be_at(&second, "middle", "middle")?;
    comes_to_be_at(&first, "last", "first")?;
    let (_sink, frame) = (right.udp((RIGHT, 5000))?, 14 + 20 + 8 + 10);
    for agent in [&first, &second, &third] {
        counts_exactly(agent, ("b", "ingress"), Counts::new(10, 10 * frame), || left.send_udp((RIGHT, 5000), 10, 10))?;
    }
    first.stop()?;
    comes_to_be_at(&second, "last", "first")?;
    third.stop()?;
    comes_to_be_at(&second, "only", "only")?;
    second.stop()?;
    ensure!(qdiscs(right)?.is_empty(), "left: {}", qdiscs(right)?);
    Ok(())
}

/// The clsact and ingress qdiscs of `b`.
fn qdiscs(namespace: &Namespace) -> Result<String> {
    let all = run(namespace, "tc", &["qdisc", "show", "dev", "b"], "")?;
    Ok(all.lines().filter(|line| line.contains("clsact") || line.contains("ingress")).collect())
}

fn filters(namespace: &Namespace, hook: &str) -> Result<String> {
    run(namespace, "tc", &["filter", "show", "dev", "b", hook], "")
}

fn tc(namespace: &Namespace, arguments: &str) -> Result<()> {
    run(namespace, "tc", &arguments.split(' ').collect::<Vec<_>>(), "").map(drop)
}

fn refused(agent: &Agent<'_>) -> Result<String> {
    let snapshot = agent.json("/api/v1/snapshot")?;
    let interfaces = snapshot["interfaces"].as_array().context("no interfaces")?;
    let b = interfaces.iter().find(|interface| interface["name"] == "b").context("no interface b")?;
    Ok(b["refused"].as_str().context("no reason")?.to_owned())
}

/// Somebody takes programs off four times; three times they come back, and the fourth time they stay away, each time
/// with the reason named. No counter falls.
fn is_put_back_three_times(agent: &Agent<'_>, take_off: impl Fn() -> Result<()>) -> Result<()> {
    let before = agent.metrics()?;
    for time in 1..=4 {
        let attached = positions(agent, "b")?;
        take_off()?;
        eventually(PUT_BACK, "the loss is noticed", || {
            let refused = refused(agent)?;
            let said = if time < 4 { format!("({time} of 3)") } else { "left alone".to_owned() };
            ensure!(refused.contains("was taken off by somebody else") && refused.contains(&said), "{refused:?}");
            Ok(())
        })?;
        let left = positions(agent, "b")?;
        ensure!(left.len() < attached.len(), "taken off, and yet attached: {left:?}");
        if time < 4 {
            eventually(PUT_BACK, "it is put back", || {
                let (now, refused) = (positions(agent, "b")?, refused(agent)?);
                ensure!(now == attached && refused.is_empty(), "{now:?} {refused:?}");
                Ok(())
            })?;
        }
    }
    let after = agent.metrics()?;
    for direction in ["ingress", "egress"] {
        let (before, after) = (Counts::of(&before, "b", direction), Counts::of(&after, "b", direction));
        ensure!(
            after.frames >= before.frames && after.bytes >= before.bytes,
            "{direction}: {before:?}, then {after:?}"
        );
    }
    Ok(())
}

fn links_taken_off_are_put_back() -> Result<()> {
    requires_kernel(6, 6, "tcx")?;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let _sink = right.udp((RIGHT, 5000))?;
    let frame = 14 + 20 + 8 + 10;
    let counted = || {
        counts_exactly(&agent, ("b", "ingress"), Counts::new(10, 10 * frame), || left.send_udp((RIGHT, 5000), 10, 10))
    };
    counted()?;
    is_put_back_three_times(&agent, || {
        counted()?;
        let program = right.run(|| {
            let (_, programs) = SchedClassifier::query_tcx("b", TcAttachType::Ingress)?;
            Ok(programs.first().context("no program on the hook")?.id())
        })?;
        let links: Value = serde_json::from_str(&run(right, "bpftool", &["-j", "link", "show"], "")?)?;
        let links = links.as_array().context("no list of links")?;
        let link = links.iter().find(|link| link["prog_id"] == program).context("no link of the program")?;
        run(right, "bpftool", &["link", "detach", "id", &link["id"].to_string()], "").map(drop)
    })?;
    comes_to_be_only_at_egress(&agent)?;
    agent.stop()
}

fn comes_to_be_only_at_egress(agent: &Agent<'_>) -> Result<()> {
    let left = positions(agent, "b")?;
    ensure!(left == ["tc_egress only"], "{left:?}");
    Ok(())
}

/// The qdisc goes with our filters on it. What somebody puts into its place is somebody's.
fn filters_taken_off_are_put_back() -> Result<()> {
    requires_kernel_before(6, 6, "clsact, the agent uses tcx")?;
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    is_put_back_three_times(&agent, || tc(right, "qdisc del dev b clsact"))?;
    ensure!(qdiscs(right)?.is_empty(), "{}", qdiscs(right)?);
    tc(right, "qdisc add dev b clsact")?;
    agent.stop()?;
    ensure!(qdiscs(right)?.contains("clsact"), "a foreign qdisc went with the agent");

    // One of the two filters alone.
    let agent = Agent::start(right, &["--interface", "b"])?;
    tc(right, "filter del dev b ingress")?;
    eventually(PUT_BACK, "it is noticed", || {
        let refused = refused(&agent)?;
        ensure!(refused.starts_with("tc_ingress was taken off"), "{refused:?}");
        Ok(())
    })?;
    comes_to_be_only_at_egress(&agent)?;
    comes_to_be_at(&agent, "only", "only")?;
    agent.stop()?;
    ensure!(qdiscs(right)?.contains("clsact"), "a foreign qdisc went with the agent");
    Ok(())
}

/// Foreign filters of another kind hold the first and the last priority: ours come as near as they can, and leave them as
/// they were.
fn filters_beside_foreign_ones() -> Result<()> {
    requires_kernel_before(6, 6, "clsact, the agent uses tcx")?;
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    tc(right, "qdisc add dev b clsact")?;
    for place in ["ingress pref 1", "ingress pref 40", "egress pref 1", "egress pref 65535"] {
        tc(right, &format!("filter add dev b {place} protocol all u32 match u32 0 0 flowid 1:1"))?;
    }
    let look = || Ok::<_, anyhow::Error>(filters(right, "ingress")? + &filters(right, "egress")?);
    let before = look()?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    comes_to_be_at(&agent, "middle", "middle")?;
    tc(right, "filter del dev b ingress pref 1")?;
    comes_to_be_at(&agent, "first", "middle")?;
    tc(right, "filter del dev b egress pref 65535")?;
    comes_to_be_at(&agent, "first", "last")?;
    tc(right, "filter add dev b ingress pref 1 protocol all u32 match u32 0 0 flowid 1:1")?;
    tc(right, "filter add dev b egress pref 65535 protocol all u32 match u32 0 0 flowid 1:1")?;
    comes_to_be_at(&agent, "middle", "middle")?;
    agent.stop()?;
    // The kernel numbers u32 tables by interface, not by hook; nothing else may differ.
    let unnumbered = |text: String| -> Vec<String> {
        text.lines().map(|line| line.split(" fh ").next().unwrap_or(line).to_owned()).collect()
    };
    assert_eq!(unnumbered(before), unnumbered(look()?));
    Ok(())
}

/// Below tcx filters survive a killed agent. The next one removes them, and so does `lossprobe detach`; a living agent's
/// filters are not touched.
fn filters_of_a_killed_agent() -> Result<()> {
    requires_kernel_before(6, 6, "clsact, the agent uses tcx")?;
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let start = |port: &str| Agent::start(right, &["--interface", "b", "--listen", &format!("127.0.0.1:{port}")]);
    // One line for the priority, one for the filter.
    let ours = |hook: &str| -> Result<usize> {
        let filters = filters(right, hook)?;
        Ok(filters.lines().filter(|line| line.contains(" handle 0x105") && line.contains("lossprobe_")).count())
    };
    start("9001")?.kill_9()?;
    let left = (ours("ingress")?, ours("egress")?);
    ensure!(left == (1, 1), "a killed agent has left {left:?} filters: {}", filters(right, "ingress")?);
    let living = start("9001")?;
    ensure!((ours("ingress")?, ours("egress")?) == (1, 1), "leftovers beside the new agent's filters");
    let other = start("9002")?;
    comes_to_be_at(&living, "last", "first")?;
    other.kill_9()?;
    ensure!(ours("ingress")? == 2, "gone with a killed agent");
    let said = detach_without_an_agent(right)?;
    ensure!(said.contains("b: 2 filters") && !said.contains("qdisc"), "{said}");
    comes_to_be_at(&living, "only", "only")?;
    living.kill_9()?;
    let said = detach_without_an_agent(right)?;
    ensure!(said.contains("b: 2 filters and the clsact qdisc"), "{said}");
    ensure!(qdiscs(right)?.is_empty(), "{}", qdiscs(right)?);
    Ok(())
}

/// The last lossprobe takes away the qdisc that the first one brought, and leaves one that was there before.
fn who_brought_the_qdisc() -> Result<()> {
    requires_kernel_before(6, 6, "clsact, the agent uses tcx")?;
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let start = |port: &str| Agent::start(right, &["--interface", "b", "--listen", &format!("127.0.0.1:{port}")]);
    let (first, second) = (start("9001")?, start("9002")?);
    first.stop()?;
    comes_to_be_at(&second, "only", "only")?;
    second.stop()?;
    ensure!(qdiscs(right)?.is_empty(), "{}", qdiscs(right)?);
    tc(right, "qdisc add dev b clsact")?;
    start("9001")?.kill_9()?;
    start("9001")?.stop()?;
    ensure!(qdiscs(right)?.contains("clsact"), "a foreign qdisc went with the agent");
    ensure!(filters(right, "ingress")?.is_empty() && filters(right, "egress")?.is_empty(), "something stays");
    Ok(())
}

/// Standard output of `lossprobe detach` where nobody listens.
fn detach_without_an_agent(namespace: &Namespace) -> Result<String> {
    let output = lossprobe(namespace, &["detach", "--socket", "/nonexistent/lossprobe.sock"])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// Filters as a lossprobe below Linux 6.6 makes them, on any kernel: this process is the one that is gone, or the one that
/// lives.
struct Dummy {
    loaded: Loaded,
}

impl Dummy {
    fn new(namespace: &Namespace) -> Result<Self> {
        Ok(Self { loaded: namespace.run(|| load(Capacity::for_interfaces(1)))? })
    }

    /// Puts the program `name` on a hook of `b`; it stays.
    fn filter(&mut self, namespace: &Namespace, (name, direction): (&str, Direction), handle: u32) -> Result<()> {
        let hook = match direction {
            Direction::Ingress => TcAttachType::Ingress,
            Direction::Egress => TcAttachType::Egress,
        };
        let program = self.loaded.ebpf.program_mut(name).context("no such program")?;
        let program: &mut SchedClassifier = program.try_into()?;
        match program.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
            Err(error) => bail!(error),
        }
        let options = NlOptions { handle: TcHandle::from(handle), ..NlOptions::default() };
        namespace.run(|| {
            let link = program.attach_with_options("b", hook, TcAttachOptions::Netlink(options))?;
            std::mem::forget(program.take_link(link)?);
            Ok(())
        })
    }
}

/// The numbers of filters that say whether their lossprobe had found or brought the qdisc.
const FOUND: u32 = 0x1055;
const BROUGHT: u32 = 0x1056;

fn leftovers() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let nothing = detach_without_an_agent(right)?;
    ensure!(nothing.starts_with("Nothing"), "{nothing}");
    let (ingress, egress) = ((program::INGRESS, Direction::Ingress), (program::EGRESS, Direction::Egress));

    // Theirs: the qdisc, and a foreign bpf filter.
    tc(right, "qdisc add dev b clsact")?;
    let mut gone = Dummy::new(right)?;
    gone.filter(right, ingress, FOUND)?;
    gone.filter(right, (program::EMPTY, Direction::Ingress), 1)?;
    let said = detach_without_an_agent(right)?;
    ensure!(said == "Removed from b: 1 filter.\n", "{said}");
    ensure!(filters(right, "ingress")?.contains("lossprobe_none"), "a foreign filter is gone");
    ensure!(detach_without_an_agent(right)?.starts_with("Nothing"), "what is foreign is taken for a leftover");

    // Brought, and used by somebody else by now: the qdisc stays.
    gone.filter(right, ingress, BROUGHT)?;
    gone.filter(right, egress, BROUGHT)?;
    let said = detach_without_an_agent(right)?;
    ensure!(said == "Removed from b: 2 filters.\n", "{said}");
    ensure!(qdiscs(right)?.contains("clsact"), "a used qdisc is gone");

    // Of a lossprobe that lives: everything stays.
    tc(right, "filter del dev b ingress")?;
    let mut living = Dummy::new(right)?;
    let marker = right.run(|| Marker::set(&mut living.loaded.ebpf))?;
    living.filter(right, ingress, BROUGHT)?;
    living.filter(right, egress, BROUGHT)?;
    gone.filter(right, egress, FOUND)?;
    let said = detach_without_an_agent(right)?;
    ensure!(said == "Removed from b: 1 filter.\n", "{said}");

    // It dies: everything goes, by the next agent's start too.
    drop(marker);
    Agent::start(right, &["--interface", "b"])?.stop()?;
    ensure!(qdiscs(right)?.is_empty(), "{}", qdiscs(right)?);
    Ok(())
}
