//! Agents that are killed, stand still, are asked too often, or are two.

use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::{
    fcntl::OFlag,
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::signal::Signal,
};
use probe_ebpf::abi::INERT_AFTER_SECONDS;
use tests::{
    agent::Agent,
    link::{End, veth},
    run::{is_full, kernel_version},
    simulation::random::Random,
    statistics::median_of,
    topology::{Pair, RIGHT},
    wait::eventually,
};

use super::{
    super::{
        counts::{Counts, SOON, counts_exactly},
        harm::tcx_programs,
    },
    FRAME, Folder, counts, send, unwritten,
};

/// Killed while it starts, counts, writes or attaches: nothing of it stays active, and its successor, which gets its socket
/// and its state folder, counts from nothing.
pub(super) fn killed_at_any_time() -> Result<()> {
    // Ready after half a second here; under emulation it is killed while it starts every time.
    const LONGEST_LIFE_MS: u64 = 1500;
    const SEED: u64 = 9;
    let rounds = if is_full() { 100 } else { 5 };
    let has_tcx = kernel_version()?.0 >= (6, 6);
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let _sink = right.udp((RIGHT, 5000))?;
    let folder = Folder::new("killed")?;
    let (socket, state) = (format!("{}/socket", folder.text()?), format!("{}/state", folder.text()?));
    let arguments = ["--interface", "b", "--socket", &socket, "--state-dir", &state];
    let hooks = |expected: usize| {
        eventually(SOON, &format!("{expected} programs are attached"), || {
            let attached = tcx_programs(right, "b")?;
            ensure!(attached == expected, "{attached}");
            Ok(())
        })
    };
    println!("{rounds} agents are killed at times by seed {SEED}");
    let mut random = Random::new(SEED);
    for round in 0..rounds {
        let lives = Duration::from_millis(random.below(LONGEST_LIFE_MS));
        let check = || -> Result<()> {
            let agent = Agent::spawn(right, &arguments)?;
            let born = Instant::now();
            while born.elapsed() < lives {
                send(&pair, 10)?;
            }
            agent.kill_9()?;
            if has_tcx {
                hooks(0)?;
            }
            let successor = Agent::start(right, &arguments)?;
            let before = Counts::of(&successor.metrics()?, "b", "ingress");
            ensure!(before == Counts::default(), "the successor starts at {before:?}");
            counts(&pair, &successor, 100)?;
            if has_tcx {
                hooks(2)?;
            }
            ensure!(unwritten(&successor)? == 0.0, "the state folder is not the successor's");
            successor.kill_9()
        };
        check().with_context(|| format!("round {round}, killed after {lives:?}"))?;
    }
    Ok(())
}

/// An agent that stands still (SIGSTOP, a starved CPU) misses nothing for 10 s; and after that, as with `--full`, it says for
/// how long nothing was counted. (`heartbeat::programs_rest_without_it` always looks just behind the 10 s.)
pub(super) fn stopped_and_continued() -> Result<()> {
    const FRAMES: usize = 1000;
    let still = Duration::from_secs(if is_full() { 60 } else { 3 });
    let pair = Pair::new()?;
    let _sink = pair.right.udp((RIGHT, 5000))?;
    let agent = Agent::start(&pair.right, &["--interface", "b"])?;
    counts(&pair, &agent, FRAMES)?;
    let is_noticed = still > Duration::from_secs(INERT_AFTER_SECONDS);
    // Of those that pass at the end the first are counted only if it was short.
    let expected = if is_noticed { FRAMES } else { 2 * FRAMES } as u64;
    counts_exactly(&agent, ("b", "ingress"), Counts::new(expected, expected * FRAME), || {
        agent.signal(Signal::SIGSTOP)?;
        let sent = send(&pair, FRAMES);
        // The time is what is tested.
        thread::sleep(still);
        let sent = sent.and_then(|()| send(&pair, FRAMES));
        agent.signal(Signal::SIGCONT)?;
        sent
    })?;
    let uncounted = Duration::from_millis(agent.snapshot()?.probe.uncounted_ms);
    if is_noticed {
        // It was told to count for 10 s at most a second before it was stopped.
        let least = still - Duration::from_secs(INERT_AFTER_SECONDS);
        let range = least..least + Duration::from_secs(3);
        ensure!(range.contains(&uncounted), "uncounted for {uncounted:?}, not {range:?}");
        let exported = agent.metrics()?.sum("lossprobe_uncounted_seconds_total", &[]);
        ensure!(exported == uncounted.as_secs() as f64, "{exported} in the metrics, {uncounted:?} in the snapshot");
    } else {
        ensure!(uncounted.is_zero(), "uncounted for {uncounted:?}");
    }
    counts(&pair, &agent, FRAMES)?;
    agent.stop()
}

/// Whoever sends SIGHUP to a daemon wants files to be read again. Where there are none that is said, and nothing else happens.
pub(super) fn hang_up() -> Result<()> {
    let pair = Pair::new()?;
    let _sink = pair.right.udp((RIGHT, 5000))?;
    let agent = Agent::start(&pair.right, &["--interface", "b"])?;
    for times in 1..=2 {
        agent.signal(Signal::SIGHUP)?;
        eventually(SOON, "it is said that nothing is read again", || {
            let said = agent.log().matches("no --web-config is given").count();
            ensure!(said == times, "{said} times: {}", agent.log());
            Ok(())
        })?;
        counts(&pair, &agent, 100)?;
    }
    agent.stop()
}

/// An agent that was started in a terminal ends in order when that is gone, as it does by Ctrl-C; while it is there SIGHUP means
/// what it means to any daemon.
pub(super) fn terminal_goes_away() -> Result<()> {
    let pair = Pair::new()?;
    let _sink = pair.right.udp((RIGHT, 5000))?;
    let terminal = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    let script = format!("exec \"$0\" \"$@\" 2> {}", ptsname_r(&terminal)?);
    let mut agent = Agent::start_by(&pair.right, &["sh", "-c", &script], &["--interface", "b*"])?;
    agent.signal(Signal::SIGHUP)?;
    counts(&pair, &agent, 100)?;
    drop(terminal);
    // What it logs nobody can read any more, and that is all.
    veth(End::new(&pair.right, "b2"), End::new(&pair.left, "a2"))?;
    eventually(SOON, "another interface is counted", || {
        let sent = agent.metrics()?.select("lossprobe_frames_total", &[("interface", "b2")]).count();
        ensure!(sent > 0, "not yet");
        Ok(())
    })?;
    counts(&pair, &agent, 100)?;
    agent.signal(Signal::SIGHUP)?;
    let status = agent.ended(SOON)?;
    ensure!(status.success(), "it ended with {status}");
    if kernel_version()?.0 >= (6, 6) {
        ensure!(tcx_programs(&pair.right, "b")? == 0, "programs are still attached");
    }
    Ok(())
}

/// Each counts everything, also when the other one is killed.
pub(super) fn two_on_one_interface() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let _sink = right.udp((RIGHT, 5000))?;
    let first = Agent::start(right, &["--interface", "b"])?;
    let second = Agent::start(right, &["--interface", "b", "--listen", "127.0.0.1:9977"])?;
    let expected = Counts::new(1000, 1000 * FRAME);
    counts_exactly(&first, ("b", "ingress"), expected, || counts(&pair, &second, 1000))?;
    second.kill_9()?;
    counts(&pair, &first, 1000)?;
    first.stop()
}

/// The folder is the first one's, undisturbed; the second one counts without it, and says so.
pub(super) fn two_on_one_state_folder() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let _sink = right.udp((RIGHT, 5000))?;
    let folder = Folder::new("shared")?;
    let state = folder.text()?;
    let first = Agent::start(right, &["--interface", "b", "--state-dir", state])?;
    let second = Agent::start(right, &["--interface", "b", "--state-dir", state, "--listen", "127.0.0.1:9977"])?;
    ensure!((unwritten(&first)?, unwritten(&second)?) == (0.0, 1.0), "the second agent has written there");
    ensure!(second.log().contains("another agent's"), "{}", second.log());
    counts(&pair, &second, 100)?;
    counts(&pair, &first, 100)?;
    first.stop()?;
    second.stop()?;
    let third = Agent::start(right, &["--interface", "b", "--state-dir", state])?;
    ensure!(unwritten(&third)? == 0.0, "the folder is still taken");
    third.stop()
}

/// A hundred scrapes a second from four sides cost no count, and none fails. How long they took is printed.
pub(super) fn a_storm_of_scrapes() -> Result<()> {
    const CLIENTS: u32 = 4;
    const PER_SECOND: u32 = 100;
    let lasts = Duration::from_secs(if is_full() { 60 } else { 5 });
    let pair = Pair::new()?;
    let _sink = pair.right.udp((RIGHT, 5000))?;
    let agent = Agent::start(&pair.right, &["--interface", "b"])?;
    let times = Mutex::new(Vec::new());
    let storm = || -> Result<()> {
        let scrapes = lasts.as_secs() as u32 * PER_SECOND / CLIENTS;
        let started = Instant::now();
        for number in 0..scrapes {
            // A machine that is behind catches up.
            let due = started + Duration::from_secs(1) * number * CLIENTS / PER_SECOND;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            agent.metrics().with_context(|| format!("scrape {number}"))?;
            times.lock().map_err(|_| anyhow!("a scraper panicked"))?.push(asked.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(())
    };
    let before = Counts::of(&agent.metrics()?, "b", "ingress");
    let frames = thread::scope(|scope| -> Result<u64> {
        let scrapers: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(storm)).collect();
        let mut frames = 0;
        while scrapers.iter().any(|scraper| !scraper.is_finished()) {
            send(&pair, 100)?;
            frames += 100;
        }
        for scraper in scrapers {
            scraper.join().map_err(|_| anyhow!("a scraper panicked"))??;
        }
        Ok(frames)
    })?;
    let expected = Counts::new(frames, frames * FRAME);
    eventually(SOON, "all is counted", || {
        let counted = Counts::of(&agent.metrics()?, "b", "ingress").since(before);
        ensure!(counted == expected, "{counted:?}, not {expected:?}");
        Ok(())
    })?;
    let times = times.into_inner().map_err(|_| anyhow!("a scraper panicked"))?;
    let longest = times.iter().copied().fold(0.0, f64::max);
    let median = median_of(times.iter().copied());
    println!("{} scrapes in {lasts:?}: median {median:.1} ms, longest {longest:.0} ms", times.len());
    let snapshot = agent.snapshot()?;
    ensure!(snapshot.probe.uncounted_ms == 0, "nothing was counted for {} ms", snapshot.probe.uncounted_ms);
    counts(&pair, &agent, 100)?;
    agent.stop()
}
