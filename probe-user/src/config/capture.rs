//! Flags of `lossprobe capture`.

use std::{
    collections::BTreeSet,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Fault, Filter, Origin, Reasons, UsageError,
    selection::{Selection, did_you_mean},
    watch::reasons_of,
};
use crate::{cli::CaptureArgs, event::Kind};

/// What `lossprobe capture` is to do.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// Which interfaces an agent of its own is to count.
    pub selection: Selection,
    /// Which malformed frames are meant.
    pub filter: Filter,
    /// Where frames come from: never a URL.
    pub origin: Origin,
    /// Where they go; `None`: nowhere, they are only counted.
    pub write: Option<Destination>,
    /// What the agent has kept, and nothing that is yet to come.
    pub kept: bool,
    /// Frames after which to end.
    pub count: Option<u64>,
    /// Time after which to end.
    pub duration: Option<Duration>,
}

/// Where a capture goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output, which is no terminal.
    Stdout,
    /// A file or a named pipe.
    File(PathBuf),
}

impl CaptureConfig {
    /// Validates flags.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn from_args(args: &CaptureArgs) -> Result<Self, UsageError> {
        let selection = Selection::from_flags(&args.selection.interface, &args.selection.exclude)?;
        let filter = Filter {
            selection: selection.clone(),
            kinds: vec![Kind::Malformed],
            reasons: if args.reason.is_empty() { None } else { Some(known_reasons(&args.reason)?) },
            ..Filter::default()
        };
        let write = args.write.as_deref().map(|path| destination(path, std::io::stdout().is_terminal()));
        Ok(Self {
            filter,
            selection,
            origin: Origin::of_socket(args.socket.as_deref())?,
            write: write.transpose()?,
            kept: args.kept,
            count: args.count,
            duration: args.duration,
        })
    }
}

fn destination(path: &Path, is_on_terminal: bool) -> Result<Destination, UsageError> {
    if path.as_os_str().is_empty() {
        return Err(Fault::new("the name is empty", "name a file, or `-` for standard output").at("--write"));
    }
    match (path == Path::new("-"), is_on_terminal) {
        (false, _) => Ok(Destination::File(path.to_owned())),
        (true, false) => Ok(Destination::Stdout),
        (true, true) => {
            let fault = Fault::new(
                "standard output is a terminal, and a capture is no text",
                "name a file, or add `| tshark -r -`; without --write the findings are only counted",
            );
            Err(fault.at("--write"))
        }
    }
}

/// The list of malformed reasons is closed: what matches none of them captures nothing for ever.
fn known_reasons(globs: &[String]) -> Result<Reasons, UsageError> {
    let reasons = Reasons::from_flags(globs)?;
    let known: BTreeSet<&str> = reasons_of(Kind::Malformed).collect();
    let Some((reason, _)) = reasons.unmatched(known.iter().copied()).into_iter().next() else { return Ok(reasons) };
    let elsewhere =
        [Kind::Drop, Kind::Retransmit].into_iter().find(|kind| reasons_of(*kind).any(|name| name == reason));
    let (cause, next_step) = match elsewhere {
        Some(kind) => {
            let cause = format!("`{reason}` is a reason of type {}, and only malformed frames are captured", kind.id());
            (cause, "`lossprobe watch` shows others".to_owned())
        }
        None => {
            let cause = format!("no malformed reason matches `{}`", reason.escape_debug());
            (cause, did_you_mean(reason, &known) + "`lossprobe explain --list reasons` shows all")
        }
    };
    Err(Fault::new(cause, next_step).at("--reason"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn config(flags: &str) -> Result<CaptureConfig, String> {
        let line = ["lossprobe", "capture"].into_iter().chain(flags.split_whitespace());
        let Ok(Cli { command: Command::Capture(args) }) = Cli::try_parse_from(line) else { unreachable!("{flags}") };
        CaptureConfig::from_args(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (flags, expected) in [
            ("--reason ip4_csm", "--reason: no malformed reason matches `ip4_csm`; did you mean `ip4_csum`? "),
            ("--reason tcp_csum --reason tcq_*", "--reason: no malformed reason matches `tcq_*`; "),
            ("--reason netfilter_drop", "--reason: `netfilter_drop` is a reason of type drop, and only malformed"),
            ("--reason tail_probe", "--reason: `tail_probe` is a reason of type retransmit"),
            ("--reason [a", "--reason: bad glob `[a`"),
            ("--interface [a", "--interface: bad glob `[a`"),
            ("--socket none", "--socket: `none` is no agent's socket"),
        ] {
            let said = config(flags).unwrap_err();
            assert!(said.starts_with(expected), "{flags}: {said}");
        }
    }

    #[test]
    fn only_what_is_asked_for_is_meant() {
        let all = config("").unwrap();
        assert!(all.filter.reasons.is_none() && all.write.is_none() && all.origin == Origin::Any);
        let some = config("--reason TCP_* -w x.pcapng --count 3 --kept --socket /run/x").unwrap();
        let reasons = some.filter.reasons.unwrap();
        assert!(reasons.is_match("tcp_csum") && !reasons.is_match("udp_csum"));
        assert_eq!((some.filter.kinds, some.count, some.kept), (vec![Kind::Malformed], Some(3), true));
        assert_eq!(some.write, Some(Destination::File("x.pcapng".into())));
    }

    #[test]
    fn a_capture_is_not_for_a_terminal() {
        let said = destination(Path::new("-"), true).unwrap_err().to_string();
        assert!(said.starts_with("--write: standard output is a terminal"), "{said}");
        assert_eq!(destination(Path::new("-"), false), Ok(Destination::Stdout));
        assert_eq!(destination(Path::new("./-"), true), Ok(Destination::File("./-".into())));
        assert!(destination(Path::new(""), false).is_err());
    }
}
