//! Links that come, go, change their name and move: the agent follows, and no counter gets a wrong name.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    frames::{A, Mac, ethernet},
    link::{End, veth},
    metrics::Metrics,
    namespace::Namespace,
    run::{is_full, requires_kernel, trial},
    wait::eventually,
    wire::PacketSocket,
};

use super::counts::{Counts, SOON, counts_exactly, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("links::appear_and_vanish", appear_and_vanish),
        trial("links::renamed", renamed),
        trial("links::down_and_up", down_and_up),
        trial("links::moved_away_and_back", moved_away_and_back),
        trial("links::excluded", excluded),
        trial("links::many_while_scraping", many_while_scraping),
    ]
}

const ELSEWHERE: Mac = [2, 0, 0, 0, 0, 0x0c];

fn attached(metrics: &Metrics) -> BTreeSet<&str> {
    let names = metrics.select("lossprobe_attached", &[]).filter(|sample| sample.value > 0.0);
    names.filter_map(|sample| sample.labels.get("interface").map(String::as_str)).collect()
}

/// A slot that has lost its link rests for 10 s before the next owner takes it, and waiting links get it then.
const AFTER_GRACE: Duration = Duration::from_secs(25);

fn reaches(agent: &Agent<'_>, expected: &[&str]) -> Result<()> {
    let expected: BTreeSet<_> = expected.iter().copied().collect();
    eventually(AFTER_GRACE, &format!("attached to {expected:?}"), || {
        let metrics = agent.metrics()?;
        let now = attached(&metrics);
        ensure!(now == expected, "attached to {now:?}");
        Ok(())
    })
}

/// 100 frames into the link at its far end are counted under `name`, and under no other name.
fn counts_under(agent: &Agent<'_>, name: &str, far: (&Namespace, &str)) -> Result<()> {
    let frame = ethernet(ELSEWHERE, A).ip4().udp(1, 2).payload(50).bytes();
    let others =
        |metrics: &Metrics| metrics.sum("lossprobe_frames_total", &[]) - Counts::of(metrics, name, "ingress").frames;
    let before = others(&agent.metrics()?);
    counts_exactly(agent, (name, "ingress"), Counts::new(100, 100 * frame.len() as u64), || {
        PacketSocket::sender(far.0, far.1)?.send_copies(&frame, 100)
    })?;
    let after = others(&agent.metrics()?);
    ensure!(before == after, "{} frames counted elsewhere", after - before);
    Ok(())
}

/// The far end's carrier comes back on a kernel thread; until then its queue swallows frames without an error.
fn carrier_is_back(agent: &Agent<'_>, name: &str, far: (&Namespace, &str)) -> Result<()> {
    eventually(SOON, "a frame arrives", || {
        let frames = || Ok::<_, anyhow::Error>(Counts::of(&agent.metrics()?, name, "ingress").frames);
        let before = frames()?;
        PacketSocket::sender(far.0, far.1)?.send_copies(&[0; 64], 1)?;
        ensure!(frames()? > before, "none counted");
        Ok(())
    })
}

fn appear_and_vanish() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    // A pattern that matches nothing yet is a wish for the future, not an error.
    let agent = Agent::start(&here, &["--interface", "x*"])?;
    reaches(&agent, &[])?;
    veth(End::new(&here, "x1"), End::new(&there, "p1"))?;
    veth(End::new(&here, "other"), End::new(&there, "p2"))?;
    reaches(&agent, &["x1"])?;
    counts_under(&agent, "x1", (&there, "p1"))?;
    here.delete("x1")?;
    reaches(&agent, &[])?;
    // The same name again is another link, whose counters start at nothing.
    veth(End::new(&here, "x1"), End::new(&there, "p1"))?;
    reaches(&agent, &["x1"])?;
    counts_under(&agent, "x1", (&there, "p1"))?;
    lost_nothing(&agent)?;
    agent.stop()
}

fn renamed() -> Result<()> {
    requires_kernel(6, 4, "renaming a link that is up")?;
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    veth(End::new(&here, "x1"), End::new(&there, "p1"))?;
    let agent = Agent::start(&here, &["--interface", "x*"])?;
    counts_under(&agent, "x1", (&there, "p1"))?;
    here.rename("x1", "x2")?;
    reaches(&agent, &["x2"])?;
    counts_under(&agent, "x2", (&there, "p1"))?;
    // Out of the pattern, and into it again.
    here.rename("x2", "y")?;
    reaches(&agent, &[])?;
    here.rename("y", "x3")?;
    reaches(&agent, &["x3"])?;
    counts_under(&agent, "x3", (&there, "p1"))?;
    agent.stop()
}

fn down_and_up() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    veth(End::new(&here, "x1"), End::new(&there, "p1"))?;
    let agent = Agent::start(&here, &["--interface", "x1"])?;
    counts_under(&agent, "x1", (&there, "p1"))?;
    here.down("x1")?;
    here.up("x1")?;
    reaches(&agent, &["x1"])?;
    carrier_is_back(&agent, "x1", (&there, "p1"))?;
    counts_under(&agent, "x1", (&there, "p1"))?;
    agent.stop()
}

fn moved_away_and_back() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    veth(End::new(&here, "x1"), End::new(&there, "p1"))?;
    let agent = Agent::start(&here, &["--interface", "x1"])?;
    counts_under(&agent, "x1", (&there, "p1"))?;
    here.move_link("x1", &there)?;
    reaches(&agent, &[])?;
    there.move_link("x1", &here)?;
    here.up("x1")?;
    reaches(&agent, &["x1"])?;
    carrier_is_back(&agent, "x1", (&there, "p1"))?;
    counts_under(&agent, "x1", (&there, "p1"))?;
    agent.stop()
}

fn excluded() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    for (name, peer) in [("x1", "p1"), ("x2", "p2"), ("y1", "p3")] {
        veth(End::new(&here, name), End::new(&there, peer))?;
    }
    let agent = Agent::start(&here, &["--interface", "x*", "--interface", "y1", "--exclude", "*2"])?;
    reaches(&agent, &["x1", "y1"])?;
    agent.stop()
}

/// Names and slots are used again and again while they are being read: by 200 links, by a thousand with `--full`.
fn many_while_scraping() -> Result<()> {
    let rounds = if is_full() { 100 } else { 20 };
    const LINKS: usize = 10;
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    veth(End::new(&here, "x"), End::new(&there, "p"))?;
    let agent = Agent::start(&here, &["--interface", "x*"])?;
    counts_under(&agent, "x", (&there, "p"))?;
    let known: BTreeSet<String> =
        (0..LINKS).map(|link| format!("x{link}")).chain(["x".to_owned(), String::new(), "lo".to_owned()]).collect();
    let done = AtomicBool::new(false);
    let scrapes = thread::scope(|scope| {
        let scraper = scope.spawn(|| -> Result<usize> {
            let mut scrapes = 0;
            while !done.load(Ordering::Relaxed) {
                let metrics = agent.metrics()?;
                let names = metrics.samples().iter().filter_map(|sample| sample.labels.get("interface"));
                let strange: BTreeSet<_> = names.filter(|name| !known.contains(*name)).collect();
                ensure!(strange.is_empty(), "interfaces that never were: {strange:?}");
                scrapes += 1;
            }
            Ok(scrapes)
        });
        let churn = (0..rounds).try_for_each(|_| {
            (0..LINKS).try_for_each(|link| {
                veth(End::new(&here, &format!("x{link}")), End::new(&there, &format!("p{link}")))
            })?;
            (0..LINKS).try_for_each(|link| here.delete(&format!("x{link}")))
        });
        done.store(true, Ordering::Relaxed);
        let scrapes = scraper.join().map_err(|_| anyhow::anyhow!("the scraper panicked"))?;
        churn.context("churn")?;
        scrapes
    })?;
    ensure!(scrapes > 0, "not one scrape");
    reaches(&agent, &["x"])?;
    counts_under(&agent, "x", (&there, "p"))?;
    veth(End::new(&here, "x0"), End::new(&there, "p0"))?;
    reaches(&agent, &["x", "x0"])?;
    counts_under(&agent, "x0", (&there, "p0"))?;
    lost_nothing(&agent)?;
    agent.stop()
}
