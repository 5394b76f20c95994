//! Flags and the TOML file become one validated value. Nothing behind it validates again, and nothing here touches the
//! network: whether a named interface exists is asked at the start by [`Selection::check_against`].
//!
//! The file's keys are the flags' names with `_` for `-`; a flag wins over the file, and `--interface` or `--exclude`
//! replaces the file's list instead of adding to it.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use globset::{Glob, GlobSet};
use hyper::Uri;
use serde::Deserialize;
use toml::Spanned;
use tracing::level_filters::LevelFilter;

use crate::{
    classes::{Class, Classes},
    cli::{AgentArgs, LogFormat, LogLevel, Output, StatsArgs},
};

/// Where the metrics are served unless told otherwise.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9976);
/// Where agent and `stats` meet unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/lossprobe/lossprobe.sock";
/// Where no number is set, counters are reserved for four times the interfaces that exist, within these bounds.
pub const DEFAULT_MAX_INTERFACES: RangeInclusive<u32> = 128..=1024;
/// Most interfaces that can be asked for: the kernel side finds an interface in a table of so many lines.
pub const MAX_INTERFACES: u32 = probe_ebpf::abi::SLOT_LINES;
/// How long `stats` watches without an agent unless told otherwise.
pub const DEFAULT_WATCH: Duration = Duration::from_secs(5);
/// Longest path that `struct sockaddr_un` holds with its final NUL, in bytes (unix(7)).
const SOCKET_PATH_BYTES: usize = 107;
/// Interface names that an error lists at most.
const NAMES_SHOWN: usize = 20;

/// A flag or the configuration file is wrong: `WHERE: CAUSE; NEXT STEP`, where WHERE is a flag, or
/// `FILE:LINE:COLUMN: key KEY`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {cause}; {next_step}", cause = fault.cause, next_step = fault.next_step)]
pub struct UsageError {
    place: String,
    fault: Fault,
}

/// What is wrong with one value, wherever it was written, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    cause: String,
    next_step: String,
}

impl Fault {
    fn new(cause: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { cause: cause.into(), next_step: next_step.into() }
    }

    fn at(self, place: impl Into<String>) -> UsageError {
        UsageError { place: place.into(), fault: self }
    }
}

/// What `lossprobe agent` is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which interfaces to watch.
    pub selection: Selection,
    /// Where to serve HTTP.
    pub listen: SocketAddr,
    /// Where to serve the API on a unix socket, `None`: nowhere.
    pub socket: Option<PathBuf>,
    /// Nobody asked for this very path: if it cannot be served, that is worth a warning and no failure.
    pub socket_is_default: bool,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Least important log lines to show.
    pub log_level: LevelFilter,
    /// Interfaces to watch at a time, 1 to [`MAX_INTERFACES`]. `None`: by the number that exist at the start, see [`Self::interfaces_for`].
    pub max_interfaces: Option<u32>,
    /// Classes of drop reasons.
    pub classes: Classes,
    /// Whether to print a summary every few seconds.
    pub summary: bool,
}

impl Config {
    /// Reads the file that `args` names, lays the flags over it and validates the whole.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn from_args(args: &AgentArgs) -> Result<Self, UsageError> {
        let text = match &args.config {
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                Fault::new(format!("cannot read {} ({error})", path.display()), "name a TOML file that can be read")
                    .at("--config")
            })?,
            None => String::new(),
        };
        let path = args.config.as_deref().unwrap_or(Path::new(""));
        Self::merge(args, &Source { path, text: &text }, std::io::stderr().is_terminal())
    }

    /// What the probe of `lossprobe stats` is to do where there is no agent: count these interfaces, serve nothing.
    #[must_use]
    pub fn for_stats(selection: &Selection) -> Self {
        Self {
            selection: selection.clone(),
            listen: DEFAULT_LISTEN,
            socket: None,
            socket_is_default: true,
            log_format: LogFormat::Text,
            log_level: LevelFilter::WARN,
            max_interfaces: None,
            classes: Classes::default(),
            summary: false,
        }
    }

    /// Interfaces to reserve counters for where `existing` are there now: room to grow without asking for memory that
    /// a small node does not have.
    #[must_use]
    pub fn interfaces_for(&self, existing: usize) -> u32 {
        let (least, most) = (*DEFAULT_MAX_INTERFACES.start(), *DEFAULT_MAX_INTERFACES.end());
        let room = u32::try_from(existing).unwrap_or(most).saturating_mul(4).clamp(least, most).next_power_of_two();
        self.max_interfaces.unwrap_or(room)
    }

    fn merge(args: &AgentArgs, source: &Source<'_>, on_terminal: bool) -> Result<Self, UsageError> {
        // Everything in the file is validated, also what a flag replaces: a broken file must not hide behind a flag.
        let file = source.parse()?;
        let file_include = source.globs(&file.interface)?;
        let file_exclude = source.globs(&file.exclude)?;
        let file_listen = source.value(file.listen.as_ref(), |text| listen(text))?;
        let file_socket = source.value(file.socket.as_ref(), |text| socket(Path::new(text)))?;
        let file_format = source.value(file.log_format.as_ref(), |text| choice::<LogFormat>(text))?;
        let file_level = source.value(file.log_level.as_ref(), |text| choice::<LogLevel>(text))?;
        let file_max = source.value(file.max_interfaces.as_ref(), |number| max_interfaces(*number))?;
        let classes = source.classes(&file.drop_classes)?;

        let or = |flags: Vec<Pattern>, file| if flags.is_empty() { file } else { flags };
        let include = or(flag_globs(&args.selection.interface, "--interface")?, file_include);
        let exclude = or(flag_globs(&args.selection.exclude, "--exclude")?, file_exclude);
        let flag_socket = args.socket.as_deref().map(socket).transpose().map_err(|fault| fault.at("--socket"))?;
        let socket = flag_socket.or(file_socket);
        let default_format = if on_terminal { LogFormat::Text } else { LogFormat::Json };
        Ok(Self {
            selection: Selection::new(include, &exclude)?,
            listen: args.listen.or(file_listen).unwrap_or(DEFAULT_LISTEN),
            socket_is_default: socket.is_none(),
            socket: socket.unwrap_or_else(|| Some(DEFAULT_SOCKET.into())),
            log_format: args.log_format.or(file_format).unwrap_or(default_format),
            log_level: args.log_level.or(file_level).unwrap_or_default().into(),
            max_interfaces: args.max_interfaces.or(file_max),
            classes,
            summary: args.summary,
        })
    }
}

/// What `lossprobe stats` is to do.
#[derive(Clone, Debug)]
pub struct StatsConfig {
    /// Which interfaces to show.
    pub selection: Selection,
    /// How to show them.
    pub output: Output,
    /// Where the numbers come from.
    pub origin: Origin,
    /// `Some`: repeat with rates, that far apart. `None`: show once.
    pub interval: Option<Duration>,
    /// How long to watch before showing once, where there is no agent.
    pub watch: Duration,
}

/// Where `stats` gets its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The agent on [`DEFAULT_SOCKET`] if one answers, else attach without an agent.
    Any,
    /// The agent on this unix socket and no other.
    Socket(PathBuf),
    /// The agent at this `http` URL, which has a host.
    Url(Uri),
}

impl StatsConfig {
    /// Validates flags.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn from_args(args: &StatsArgs) -> Result<Self, UsageError> {
        let origin = match (&args.socket, &args.agent) {
            (Some(path), _) => match socket(path).map_err(|fault| fault.at("--socket"))? {
                Some(path) => Origin::Socket(path),
                None => return Err(Fault::new("`none` is no agent's socket", "name its path").at("--socket")),
            },
            (None, Some(url)) => Origin::Url(agent_url(url).map_err(|fault| fault.at("--agent"))?),
            (None, None) => Origin::Any,
        };
        Ok(Self {
            selection: Selection::from_flags(&args.selection.interface, &args.selection.exclude)?,
            output: args.output,
            origin,
            interval: args.interval,
            watch: args.watch.unwrap_or(DEFAULT_WATCH),
        })
    }
}

/// Which interfaces are meant.
#[derive(Clone, Debug)]
pub struct Selection {
    include: Vec<Pattern>,
    include_set: GlobSet,
    exclude_set: GlobSet,
}

/// `interface` was named, and there is none of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no interface `{interface}`; {hint}")]
pub struct UnknownInterface {
    /// The name.
    pub interface: String,
    hint: String,
}

impl Selection {
    /// From globs; no `interface` at all means every interface but loopbacks.
    ///
    /// # Errors
    /// A glob that is none.
    pub fn from_flags(interface: &[String], exclude: &[String]) -> Result<Self, UsageError> {
        Self::new(flag_globs(interface, "--interface")?, &flag_globs(exclude, "--exclude")?)
    }

    fn new(include: Vec<Pattern>, exclude: &[Pattern]) -> Result<Self, UsageError> {
        let set = |patterns: &[Pattern], flag: &str| {
            // Each glob is good by itself; together they can be too many for one automaton.
            GlobSet::new(patterns.iter().map(|pattern| &pattern.glob))
                .map_err(|error| Fault::new(error.to_string(), "use fewer or simpler globs").at(flag))
        };
        let (include_set, exclude_set) = (set(&include, "--interface")?, set(exclude, "--exclude")?);
        Ok(Self { include, include_set, exclude_set })
    }

    /// Whether an interface is meant. A loopback is only if an `--interface` matches it.
    #[must_use]
    pub fn selects(&self, name: &str, is_loopback: bool) -> bool {
        let included = if self.include.is_empty() { !is_loopback } else { self.include_set.is_match(name) };
        included && !self.exclude_set.is_match(name)
    }

    /// Compares with the interfaces that exist at the start. Returns the globs that match none of them: not wrong (such
    /// an interface can appear later), but worth a warning.
    ///
    /// # Errors
    /// The first plain name that no interface has.
    pub fn check_against(&self, existing: &[String]) -> Result<Vec<String>, UnknownInterface> {
        let mut found = vec![false; self.include.len()];
        for name in existing {
            for index in self.include_set.matches(name) {
                found[index] = true;
            }
        }
        let missing = || self.include.iter().zip(&found).filter(|(_, found)| !**found).map(|(pattern, _)| pattern);
        match missing().find(|pattern| pattern.is_name) {
            Some(pattern) => Err(UnknownInterface::new(pattern.glob.glob(), existing)),
            None => Ok(missing().map(|pattern| pattern.glob.glob().to_owned()).collect()),
        }
    }
}

impl UnknownInterface {
    fn new(interface: &str, existing: &[String]) -> Self {
        // An edit or two in a short name; a third of a long one.
        let bound = (interface.chars().count() / 3).max(2);
        let mut near: Vec<_> = existing
            .iter()
            .map(|name| (strsim::damerau_levenshtein(interface, name), name))
            .filter(|(edits, name)| *edits <= bound && *edits < name.chars().count())
            .collect();
        near.sort();
        let near: Vec<_> = near.iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
        let mut hint = if near.is_empty() { String::new() } else { format!("did you mean {}? ", near.join(" or ")) };
        hint += "interfaces here: ";
        hint += &existing.iter().take(NAMES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        if let Some(more) = existing.len().checked_sub(NAMES_SHOWN + 1) {
            hint += &format!(" and {} more", more + 1);
        }
        Self { interface: interface.to_owned(), hint }
    }
}

/// A valid glob.
#[derive(Clone, Debug)]
struct Pattern {
    glob: Glob,
    /// Without any special character: exactly one interface is meant.
    is_name: bool,
}

fn pattern(text: &str) -> Result<Pattern, Fault> {
    if text.is_empty() {
        return Err(Fault::new("the glob is empty", "name an interface, or `*` for all"));
    }
    let glob = Glob::new(text).map_err(|error| {
        let at = text.chars().take(fault_offset(text, error.kind())).count() + 1;
        Fault::new(
            format!("bad glob `{text}` at character {at}: {}", error.kind()),
            "write a name, or a pattern with `*`, `?`, `[abc]` or `{a,b}`; `\\` before a character means itself",
        )
    })?;
    Ok(Pattern { glob, is_name: !text.contains(['*', '?', '[', ']', '{', '}', '\\']) })
}

/// Characters before the one that a glob's fault is about; the library does not say.
fn fault_offset(text: &str, fault: &globset::ErrorKind) -> usize {
    let byte = match fault {
        globset::ErrorKind::UnclosedClass => text.rfind('['),
        globset::ErrorKind::InvalidRange(from, to) => text.find(&format!("{from}-{to}")),
        globset::ErrorKind::UnopenedAlternates => text.find('}'),
        globset::ErrorKind::UnclosedAlternates => text.find('{'),
        globset::ErrorKind::DanglingEscape => text.rfind('\\'),
        _ => None,
    };
    byte.map_or(0, |byte| text[..byte].chars().count())
}

fn flag_globs(globs: &[String], flag: &str) -> Result<Vec<Pattern>, UsageError> {
    globs.iter().map(|glob| pattern(glob).map_err(|fault| fault.at(flag))).collect()
}

/// `ADDR:PORT`, numeric: whoever listens on a name does not know where.
///
/// # Errors
/// What is wrong, and how to write it.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    listen(text).map_err(|fault| format!("{}; {}", fault.cause, fault.next_step))
}

fn listen(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| {
        Fault::new(format!("`{text}` is no ADDR:PORT"), "write numbers, as in 127.0.0.1:9976 or [::1]:9976")
    })
}

/// The path of a unix socket; `None` for `none`.
fn socket(path: &Path) -> Result<Option<PathBuf>, Fault> {
    match path.as_os_str().len() {
        0 => Err(Fault::new("the path is empty", "name a path, or `none` for no socket")),
        bytes if bytes > SOCKET_PATH_BYTES => Err(Fault::new(
            format!("the path has {bytes} bytes, and a unix socket's may have {SOCKET_PATH_BYTES}"),
            "choose a shorter one",
        )),
        _ => Ok((path.as_os_str() != "none").then(|| path.to_owned())),
    }
}

fn max_interfaces(number: i64) -> Result<u32, Fault> {
    u32::try_from(number).ok().filter(|number| (1..=MAX_INTERFACES).contains(number)).ok_or_else(|| {
        Fault::new(format!("{number} is outside of 1 to {MAX_INTERFACES}"), "each interface needs one line of a table")
    })
}

fn choice<T: ValueEnum>(text: &str) -> Result<T, Fault> {
    T::from_str(text, false).map_err(|_| {
        let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let values = values.map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(", ");
        Fault::new(format!("unknown value `{text}`"), format!("write one of {values}"))
    })
}

fn agent_url(url: &str) -> Result<Uri, Fault> {
    let fault = |cause: &str| Fault::new(format!("`{url}` {cause}"), "write it as in http://127.0.0.1:9976");
    let uri: Uri = url.parse().map_err(|_| fault("is no URL"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(host)) if !host.is_empty() => Ok(uri),
        (Some("http") | None, _) => Err(fault("has no scheme or no host")),
        (Some(_), _) => Err(fault("is not http, which is what the agent speaks")),
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// The file as it is spelled. Each value keeps its place for the error message.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    interface: Vec<Spanned<String>>,
    exclude: Vec<Spanned<String>>,
    listen: Option<Spanned<String>>,
    socket: Option<Spanned<String>>,
    log_format: Option<Spanned<String>>,
    log_level: Option<Spanned<String>>,
    max_interfaces: Option<Spanned<i64>>,
    drop_classes: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// The text of the file and where it came from.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn parse(&self) -> Result<File, UsageError> {
        toml::from_str(self.text).map_err(|error| {
            let next_step = if error.message().starts_with("unknown field") {
                "correct the key or remove it (`lossprobe agent --help` lists them)"
            } else {
                "`lossprobe agent --help` shows an example"
            };
            let cause = error.message().trim_end().replace('\n', ", ");
            Fault::new(cause, next_step).at(self.place(error.span().unwrap_or(0..0)))
        })
    }

    fn value<T, V>(
        &self,
        value: Option<&Spanned<T>>,
        parse: impl FnOnce(&T) -> Result<V, Fault>,
    ) -> Result<Option<V>, UsageError> {
        value.map(|value| parse(value.get_ref()).map_err(|fault| fault.at(self.place(value.span())))).transpose()
    }

    fn globs(&self, globs: &[Spanned<String>]) -> Result<Vec<Pattern>, UsageError> {
        globs.iter().map(|glob| pattern(glob.get_ref()).map_err(|fault| fault.at(self.place(glob.span())))).collect()
    }

    fn classes(&self, spelled: &BTreeMap<Spanned<String>, Spanned<String>>) -> Result<Classes, UsageError> {
        let mut overrides = BTreeMap::new();
        for (reason, class) in spelled {
            let name = reason.get_ref();
            let in_shape = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || !name.chars().all(in_shape) || name.starts_with("skb_drop_reason_") {
                let fault = Fault::new(
                    format!("`{name}` is no drop reason"),
                    "write it in lower case without the kernel's prefix, as in netfilter_drop",
                );
                return Err(fault.at(self.place(reason.span())));
            }
            let class = Class::from_id(class.get_ref()).ok_or_else(|| {
                let fault = Fault::new(
                    format!("unknown class `{}`", class.get_ref()),
                    format!("write one of {}", Class::ALL.map(Class::id).join(", ")),
                );
                fault.at(self.place(class.span()))
            })?;
            overrides.insert(name.clone(), class);
        }
        Ok(Classes::new(overrides))
    }

    /// `FILE:LINE:COLUMN: key KEY` of a byte range; lines and columns count characters from 1. The key is the one
    /// whose `=` stands before the range, or the range itself where that is a key.
    fn place(&self, span: Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before[line_start..].chars().count() + 1;
        let rest = self.text.get(line_start..).unwrap_or_default();
        let own_line = rest.lines().next().unwrap_or_default();
        let assignment = std::iter::once(own_line).chain(before.lines().rev()).find_map(|line| line.split_once('='));
        let key = assignment.map(|(key, _)| key.trim()).filter(|key| !key.is_empty() && !key.contains(['#', '"']));
        let key = key.map_or_else(String::new, |key| format!(": key {key}"));
        format!("{}:{line}:{column}{key}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str, args: &AgentArgs) -> Result<Config, String> {
        let source = Source { path: Path::new("a.toml"), text };
        Config::merge(args, &source, false).map_err(|error| error.to_string())
    }

    fn selection(interface: &[&str], exclude: &[&str]) -> Result<Selection, String> {
        let strings = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Selection::from_flags(&strings(interface), &strings(exclude)).map_err(|error| error.to_string())
    }

    #[test]
    fn which_interfaces() {
        for (interface, exclude, name, expected) in [
            (&[][..], &[][..], "eth0", true),
            (&[], &[], "lo", false),
            (&[], &["eth*"], "eth0", false),
            (&[], &["eth*"], "tap0", true),
            (&["lo"], &[], "lo", true),
            (&["l*"], &[], "lo", true),
            (&["lo"], &[], "eth0", false),
            (&["eth0", "tap?"], &[], "tap7", true),
            (&["eth0", "tap?"], &[], "tap77", false),
            (&["{eth,tap}*"], &["tap1"], "tap1", false),
            (&["eth0"], &[], "eth01", false),
            (&["eth0"], &["eth0"], "eth0", false),
            (&["ens[0-9]"], &[], "ens3", true),
        ] {
            let selection = selection(interface, exclude).expect("good globs");
            assert_eq!(selection.selects(name, name == "lo"), expected, "{interface:?} {exclude:?} {name}");
        }
    }

    #[test]
    fn what_exists() {
        let existing = ["lo", "eth0", "wlan0", "br-8f2a"].map(str::to_owned);
        for (interface, expected) in [
            (&["eth0"][..], Ok(vec![])),
            (&["tap*", "eth*"], Ok(vec!["tap*".to_owned()])),
            (
                &["eht0"],
                Err("no interface `eht0`; did you mean `eth0`? interfaces here: lo, eth0, wlan0, br-8f2a".to_owned()),
            ),
            (&["tap*", "zzzzz"], Err("no interface `zzzzz`; interfaces here: lo, eth0, wlan0, br-8f2a".to_owned())),
        ] {
            let outcome = selection(interface, &[]).expect("good globs").check_against(&existing);
            assert_eq!(outcome.map_err(|error| error.to_string()), expected, "{interface:?}");
        }
        let many: Vec<_> = (0..1000).map(|n| format!("tap{n}")).collect();
        let error = selection(&["lo"], &[]).expect("good").check_against(&many).expect_err("not there").to_string();
        assert!(error.ends_with("tap19 and 980 more"), "{error}");
    }

    #[test]
    fn bad_globs() {
        for (glob, expected) in [
            ("eth[0", "--interface: bad glob `eth[0` at character 4: unclosed character class; missing ']'"),
            ("é{a,b", "--interface: bad glob `é{a,b` at character 2: unclosed alternate group"),
            ("a}", "--interface: bad glob `a}` at character 2: unopened alternate group"),
            ("e[z-a]", "--interface: bad glob `e[z-a]` at character 3: invalid range"),
            ("eth\\", "--interface: bad glob `eth\\` at character 4: dangling"),
            ("", "--interface: the glob is empty; name an interface"),
        ] {
            let error = selection(&[glob], &[]).expect_err(glob);
            assert!(error.starts_with(expected), "{glob:?}: {error}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let text = "interface = ['tap*']\nlisten = '[::]:1'\nsocket = 'none'\nlog_format = 'text'\n\
                    log_level = 'debug'\nmax_interfaces = 7\n[drop_classes]\nneigh_failed = 'noise'\n";
        let config_of_file = config(text, &AgentArgs::default()).expect("a good file");
        assert_eq!(config_of_file.listen, "[::]:1".parse().expect("an address"));
        assert_eq!((config_of_file.socket, config_of_file.socket_is_default), (None, false));
        assert_eq!(config_of_file.log_format, LogFormat::Text);
        assert_eq!(config_of_file.log_level, LevelFilter::DEBUG);
        assert_eq!(config_of_file.max_interfaces, Some(7));
        assert_eq!(config_of_file.classes.of("neigh_failed"), Class::Noise);
        assert!(config_of_file.selection.selects("tap1", false) && !config_of_file.selection.selects("eth0", false));

        let mut args = AgentArgs { max_interfaces: Some(8), socket: Some("/x".into()), ..AgentArgs::default() };
        args.selection.interface = vec!["eth0".to_owned()];
        let of_both = config(text, &args).expect("a good file");
        assert_eq!((of_both.max_interfaces, of_both.socket), (Some(8), Some("/x".into())));
        assert!(of_both.selection.selects("eth0", false) && !of_both.selection.selects("tap1", false));
    }

    #[test]
    fn defaults() {
        let config = config("", &AgentArgs::default()).expect("nothing is wrong");
        assert_eq!((config.listen, config.max_interfaces), (DEFAULT_LISTEN, None));
        assert_eq!((config.socket, config.socket_is_default), (Some(DEFAULT_SOCKET.into()), true));
        assert_eq!((config.log_format, config.log_level), (LogFormat::Json, LevelFilter::INFO));
    }

    #[test]
    fn bad_files() {
        for (text, expected) in [
            ("listen = '127.0.0.1'", "a.toml:1:10: key listen: `127.0.0.1` is no ADDR:PORT; write numbers, as in"),
            ("\nlisten = 5", "a.toml:2:10: key listen: invalid type: integer `5`, expected a string; "),
            ("listne = 'x'", "a.toml:1:1: key listne: unknown field `listne`, expected one of `interface`,"),
            ("interface = [\n  'eth0',\n  'e['\n]", "a.toml:3:3: key interface: bad glob `e[` at character 2: "),
            ("max_interfaces = 4097", "a.toml:1:18: key max_interfaces: 4097 is outside of 1 to 4096; "),
            ("max_interfaces = -1", "a.toml:1:18: key max_interfaces: -1 is outside of 1 to 4096; "),
            ("log_level = 'loud'", "a.toml:1:13: key log_level: unknown value `loud`; write one of error, warn, "),
            ("socket = ''", "a.toml:1:10: key socket: the path is empty; "),
            ("[drop_classes]\nxdp = 'bad'", "a.toml:2:7: key xdp: unknown class `bad`; write one of capacity, "),
            ("[drop_classes]\nXDP = 'noise'", "a.toml:2:1: key XDP: `XDP` is no drop reason; write it in lower case"),
            ("listen = ", "a.toml:1:"),
            ("listen", "a.toml:1:"),
            ("listen = 'a'\nlisten = 'b'", "a.toml:2:1: key listen: duplicate key; "),
            ("interface = 'eth0'", "a.toml:1:13: key interface: invalid type: string \"eth0\", expected a sequence; "),
        ] {
            let error = config(text, &AgentArgs::default()).err().unwrap_or_default();
            println!("{error}");
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn origins() {
        for (url, accepted) in [
            ("http://127.0.0.1:9976", true),
            ("http://[::1]:9976/", true),
            ("http://node", true),
            ("https://node", false),
            ("127.0.0.1:9976", false),
            ("http://", false),
            ("", false),
        ] {
            assert_eq!(agent_url(url).is_ok(), accepted, "{url}");
        }
        let args = StatsArgs { socket: Some("none".into()), ..StatsArgs::default() };
        assert!(StatsConfig::from_args(&args).is_err());
    }
}
