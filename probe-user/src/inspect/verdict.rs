//! `lossprobe verdict`: is it us? From a running agent, or by attaching and watching for a while.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{
    client::{self, FetchError},
    print::print,
    stats::{Page, Style, printable},
};
use crate::{
    agent,
    cli::{Output, VerdictArgs},
    config::{Config, DEFAULT_SOCKET, Selection, control_socket},
    detect::{
        Detection,
        incident::{Kept, Thresholds},
        verdict::{Name, Verdict},
    },
    kernel::preflight,
    probe::peers::Lookup,
};

/// How long to watch where there is no agent that has watched before.
const WATCHED_FOR: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_secs(1);

/// Judges, and prints what there is to say. Returns the exit code.
///
/// # Errors
/// If there is no agent where one was named, or attaching is not possible.
pub fn run(args: &VerdictArgs) -> Result<u8> {
    let socket = control_socket(args.socket.as_deref())?;
    let selection = Selection::from_flags(&args.selection.interface, &args.selection.exclude)?;
    let verdict = agent::runtime()?.block_on(async {
        let mut ending = agent::Ending::of_command()?;
        tokio::select! {
            verdict = judge(args, &socket, &selection) => verdict.map(Some),
            () = ending.wait() => Ok(None),
        }
    })?;
    let Some(verdict) = verdict else { return Ok(crate::cli::INTERRUPTED) };
    print(|page| {
        Ok(match args.output {
            Output::Json => serde_json::to_string(&verdict)?,
            Output::Table => render(&verdict, page),
        })
    })?;
    Ok(exit_code(verdict.verdict))
}

/// 0: nothing, or a matter of this host, its guests or its cable. 3: of the network. 4: not known.
const fn exit_code(name: Name) -> u8 {
    match name {
        _ if name.is_network() => 3,
        Name::Unknown | Name::Mixed => 4,
        _ => 0,
    }
}

async fn judge(args: &VerdictArgs, socket: &Path, selection: &Selection) -> Result<Verdict> {
    match client::verdict(socket).await {
        Err(FetchError::NoAgent { .. }) if args.socket.is_none() => {
            preflight::check()?;
            let duration = args.watch.unwrap_or(WATCHED_FOR);
            eprintln!("no agent answers at {DEFAULT_SOCKET}; attached, watching for {duration:?} (--for)");
            watch(selection, duration).await
        }
        verdict => {
            let mut leading = Leading::default();
            leading.add(verdict?);
            let end = Instant::now() + args.watch.unwrap_or_default();
            while Instant::now() + TICK <= end {
                sleep_until(Instant::now() + TICK).await;
                leading.add(client::verdict(socket).await?);
            }
            leading.verdict().context("the agent says nothing")
        }
    }
}

/// With programs of our own.
async fn watch(selection: &Selection, duration: Duration) -> Result<Verdict> {
    let (mut probe, mut links) = agent::start(Arc::new(Config::for_stats(selection))).await?;
    let mut detection = Detection::new(Thresholds::default(), 100.0, Kept::default());
    let (mut leading, mut lookup) = (Leading::default(), Lookup::default());
    let end = Instant::now() + duration;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = sleep_until(end) => break,
            event = links.next() => probe.apply(event.context("follow the interfaces")?),
            _ = ticks.tick() => {
                probe.beat()?;
                probe.look_around()?;
                probe.verify();
                probe.evidence(usize::MAX)?;
                let affected = lookup.affected(&probe, detection.is_alarmed())?;
                detection.add(&Arc::new(probe.snapshot()?), affected);
                leading.add(detection.verdict().clone());
            }
        }
    }
    leading.verdict().context("nothing was looked at: watch for some seconds")
}

/// Of the verdicts of some time the one that was there for the longest; that nothing is wrong only if nothing ever was.
#[derive(Default)]
struct Leading {
    by_name: BTreeMap<Name, (u32, Verdict)>,
    /// Where nothing was looked at yet.
    blind: Option<Verdict>,
}

impl Leading {
    fn add(&mut self, verdict: Verdict) {
        if verdict.is_blind() {
            self.blind = Some(verdict);
            return;
        }
        let (count, latest) = self.by_name.entry(verdict.verdict).or_default();
        (*count, *latest) = (*count + 1, verdict);
    }

    fn verdict(self) -> Option<Verdict> {
        // One that names nobody is what is said until there is enough to name somebody.
        let rank = |name: Name| match name {
            Name::None => 0,
            Name::Unknown | Name::Mixed => 1,
            _ => 2,
        };
        let leading = self.by_name.into_iter().max_by_key(|(name, (count, _))| (rank(*name), *count));
        leading.map(|(_, (_, verdict))| verdict).or(self.blind)
    }
}

fn render(verdict: &Verdict, page: &Page) -> String {
    let style = match exit_code(verdict.verdict) {
        0 if verdict.verdict == Name::None => Style::Plain,
        _ => Style::Bold,
    };
    let mut text = page.styled(style, &format!("{}: {}", verdict.verdict.id(), printable(&verdict.sentence))) + "\n";
    for (title, lines) in [
        ("Evidence", &verdict.evidence),
        ("Next", &verdict.next_steps),
        ("Not affected", &verdict.unaffected),
        ("Missing", &verdict.missing),
        ("Not seen from here", &verdict.blind_spots),
    ] {
        if !lines.is_empty() {
            let _infallible = writeln!(text, "\n{}", page.styled(Style::Bold, title));
            lines.iter().for_each(|line| {
                let _infallible = writeln!(text, "  {}", printable(line));
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[Name]) -> Option<Name> {
        let mut leading = Leading::default();
        for name in names {
            leading.add(Verdict { verdict: *name, unit: "uplinks".into(), ..Verdict::default() });
        }
        leading.verdict().map(|verdict| verdict.verdict)
    }

    #[test]
    fn who_was_named_leads() {
        use Name::{LocalTx, NetworkIn, None as Nothing, Unknown};
        for (names, expected) in [
            (&[][..], None),
            (&[Nothing, Nothing], Some(Nothing)),
            (&[Nothing, Nothing, Unknown], Some(Unknown)),
            (&[Unknown, Unknown, NetworkIn, Nothing], Some(NetworkIn)),
            (&[NetworkIn, LocalTx, LocalTx], Some(LocalTx)),
        ] {
            assert_eq!(of(names), expected, "{names:?}");
        }
    }

    #[test]
    fn the_first_second_says_nothing() {
        let blind = Verdict { verdict: Name::Unknown, ..Verdict::default() };
        let mut leading = Leading::default();
        leading.add(blind.clone());
        assert_eq!(leading.verdict(), Some(blind.clone()));
        let mut leading = Leading::default();
        leading.add(blind);
        leading.add(Verdict::default());
        assert_eq!(leading.verdict().map(|verdict| verdict.verdict), Some(Name::None));
    }

    #[test]
    fn exit_codes() {
        let codes = Name::ALL.map(exit_code);
        assert_eq!(codes, [0, 0, 0, 0, 0, 0, 3, 3, 3, 0, 0, 4, 4]);
    }

    #[test]
    fn what_a_human_reads() {
        let verdict = Verdict {
            verdict: Name::NetworkIn,
            sentence: "The network loses packets.".into(),
            evidence: vec!["1 % of 5,000".into()],
            ..Verdict::default()
        };
        let text = render(&verdict, &Page { width: None, colour: false });
        assert_eq!(text, "network_in: The network loses packets.\n\nEvidence\n  1 % of 5,000\n");
    }
}
