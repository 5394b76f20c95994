//! Flags and the TOML file become one validated value. Nothing behind it validates again, and nothing here touches the
//! network: whether a named interface exists is asked at the start by [`Selection::check_against`].
//!
//! The file's keys are the flags' names with `_` for `-`; a flag wins over the file, and a repeatable one replaces
//! the file's list instead of adding to it.

mod capture;
mod file;
mod incidents;
mod push;
mod record;
mod roles;
mod selection;
#[cfg(test)]
mod tests;
mod watch;
mod web;

use std::{
    ffi::OsString,
    io::IsTerminal,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use hyper::Uri;
use probe_ebpf::abi::EVIDENCE_BYTES;
use tracing::level_filters::LevelFilter;

pub use self::{
    capture::{CaptureConfig, Destination},
    incidents::{DEFAULT_OBJECTIVE_PERCENT, IncidentConfig},
    push::{PushConfig, Receiver},
    record::RecordConfig,
    roles::{Roles, tunnel_ports},
    selection::{Selection, UnknownInterface},
    watch::{DEFAULT_RATE, Filter, Network, Reasons, WatchConfig},
    web::{Clients, PasswordHash, TlsConfig, WebConfig},
};
use self::{
    file::Source,
    roles::{flag_tracked, flag_tunnels, tracked, tunnel_port},
    selection::{Pattern, flag_globs, pattern},
};
pub(crate) use self::{selection::did_you_mean, watch::reasons_of};
use crate::{
    classes::Classes,
    cli::{AgentArgs, LogFormat, LogLevel, Output, Ports, StatsArgs},
    kernel::load::{Capacity, DEFAULT_TRACKS, MAX_TRACKS, Proof},
};

/// Where the metrics are served unless told otherwise.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9976);
/// Where agent and `stats` meet unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/lossprobe/lossprobe.sock";
/// Where no number is set, counters are reserved for four times the interfaces that exist, within these bounds.
pub const DEFAULT_MAX_INTERFACES: RangeInclusive<u32> = 64..=1024;
/// Most interfaces that can be asked for: the kernel side finds an interface in a table of so many lines.
pub const MAX_INTERFACES: u32 = probe_ebpf::abi::SLOT_LINES;
/// Connections that are followed unless told otherwise.
pub const DEFAULT_FLOWS: u32 = 32_768;
/// Most that can be asked for: a gigabyte is not this tool's to take.
pub const MAX_FLOWS: u32 = 1 << 20;
/// Where an agent's incidents are looked for unless told otherwise: systemd's `StateDirectory=lossprobe`.
pub const DEFAULT_STATE: &str = "/var/lib/lossprobe";
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
    /// Which are the uplinks and what is tracked.
    pub roles: Roles,
    /// How ports of bridges appear in the metrics.
    pub ports: Ports,
    /// Where native XDP is asked for; see [`Self::wants_xdp`].
    xdp: Selection,
    /// Where to serve HTTP.
    pub listen: SocketAddr,
    /// Where to serve the API on a unix socket, `None`: nowhere.
    pub socket: Option<PathBuf>,
    /// Nobody asked for this very path: if it cannot be served, that is worth a warning and no failure.
    pub socket_is_default: bool,
    /// The group that may open it, by number; `None`: that of the process or folder.
    pub socket_group: Option<u32>,
    /// What protects [`Self::listen`], see [`WebConfig`]; `None`: nothing.
    pub web_config: Option<PathBuf>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Least important log lines to show.
    pub log_level: LevelFilter,
    /// Interfaces to watch at a time, 1 to [`MAX_INTERFACES`]. `None`: by the number that exist at the start, see [`Self::interfaces_for`].
    pub max_interfaces: Option<u32>,
    /// Connections to follow at a time, 0: none.
    pub flows: u32,
    /// Of so many connections one is followed.
    pub flow_sample: u32,
    /// How much of a malformed frame is kept as evidence.
    pub proof: Proof,
    /// What is kept of incidents.
    pub record: RecordConfig,
    /// To whom incidents are told.
    pub push: PushConfig,
    /// Classes of drop reasons.
    pub classes: Classes,
    /// What an incident is, and where incidents are kept.
    pub incidents: IncidentConfig,
    /// Whether to print a summary every few seconds.
    pub summary: bool,
}

/// What decides where neither flag nor file does.
#[derive(Clone, Debug, Default)]
struct Surroundings {
    /// Standard error is a terminal.
    on_terminal: bool,
    /// The folder that systemd has made for a unit with `StateDirectory=`.
    state_directory: Option<OsString>,
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
        let surroundings = Surroundings {
            on_terminal: std::io::stderr().is_terminal(),
            state_directory: std::env::var_os("STATE_DIRECTORY"),
        };
        Self::merge(args, &Source { path, text: &text }, &surroundings)
    }

    /// Validates a file's text as it stands, without any flag; `path` appears in errors only.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn from_toml(path: &Path, text: &str) -> Result<Self, UsageError> {
        Self::merge(&AgentArgs::default(), &Source { path, text }, &Surroundings::default())
    }

    /// What the probe of `lossprobe stats` is to do where there is no agent: count these interfaces, serve nothing.
    #[must_use]
    pub fn for_stats(selection: &Selection) -> Self {
        Self {
            selection: selection.clone(),
            roles: Roles::default(),
            ports: Ports::default(),
            xdp: Selection::default(),
            listen: DEFAULT_LISTEN,
            socket: None,
            socket_is_default: true,
            socket_group: None,
            web_config: None,
            log_format: LogFormat::Text,
            log_level: LevelFilter::WARN,
            max_interfaces: None,
            flows: DEFAULT_FLOWS,
            flow_sample: 1,
            proof: Proof::default(),
            record: RecordConfig::default(),
            push: PushConfig::default(),
            classes: Classes::default(),
            incidents: IncidentConfig::default(),
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

    /// What the maps must hold where `existing` interfaces are there now.
    #[must_use]
    pub fn capacity(&self, existing: usize) -> Capacity {
        let interfaces = self.interfaces_for(existing);
        let tracks = if self.roles.tracks_points_only() { DEFAULT_TRACKS } else { MAX_TRACKS };
        let flows = if self.roles.tracks_nothing() { 0 } else { self.flows };
        Capacity {
            flows,
            flow_sample: self.flow_sample,
            tracks: if self.roles.tracks_nothing() { 1 } else { tracks.min(interfaces) },
            proof: self.proof,
            ..Capacity::for_interfaces(interfaces)
        }
    }

    /// Compares all that names interfaces with those that exist at the start. Returns the globs that match none of them:
    /// not wrong, since such an interface can appear later, but worth a warning.
    ///
    /// # Errors
    /// The first plain name that no interface has.
    pub fn check_against(&self, existing: &[String]) -> Result<Vec<String>, UnknownInterface> {
        let mut unmatched = self.selection.check_against(existing)?;
        unmatched.extend(self.roles.check_against(existing)?);
        unmatched.extend(self.xdp.check_against(existing)?);
        Ok(unmatched)
    }

    /// Whether native XDP is asked for on this interface.
    #[must_use]
    pub fn wants_xdp(&self, name: &str) -> bool {
        // As a loopback is selected: only by a glob that matches.
        self.xdp.selects(name, true)
    }

    /// Whether it is on any.
    #[must_use]
    pub const fn xdp_is_asked_for(&self) -> bool {
        !self.xdp.is_default()
    }

    fn merge(args: &AgentArgs, source: &Source<'_>, surroundings: &Surroundings) -> Result<Self, UsageError> {
        // Everything in the file is validated, also what a flag replaces: a broken file must not hide behind a flag.
        let file = source.parse()?;
        let file_include = source.list(&file.interface, pattern)?;
        let file_exclude = source.list(&file.exclude, pattern)?;
        let file_uplinks = source.list(&file.uplink, pattern)?;
        let file_tracked = source.list(&file.track, tracked)?;
        let file_tunnels = source.list(&file.tunnel_port, tunnel_port)?;
        let file_ports = source.value(file.ports.as_ref(), |text| choice::<Ports>(text))?;
        let file_xdp = source.list(&file.xdp, pattern)?;
        let file_listen = source.value(file.listen.as_ref(), |text| listen(text))?;
        let file_socket = source.value(file.socket.as_ref(), |text| socket(Path::new(text)))?;
        let file_group = source.value(file.socket_group.as_ref(), |text| group(text))?;
        let file_format = source.value(file.log_format.as_ref(), |text| choice::<LogFormat>(text))?;
        let file_level = source.value(file.log_level.as_ref(), |text| choice::<LogLevel>(text))?;
        let file_max = source.value(file.max_interfaces.as_ref(), |number| max_interfaces(*number))?;
        let file_flows = source.value(file.flows.as_ref(), |number| flows(*number))?;
        let file_sample = source.value(file.flow_sample.as_ref(), |number| flow_sample(*number))?;
        let file_payload = source.value(file.evidence_payload.as_ref(), |number| evidence_payload(*number))?;
        let file_record = RecordConfig::of_file(source, &file)?;
        let file_push = push::Written::in_file(source, &file)?;
        let classes = source.classes(&file.drop_classes)?;
        let state_directory = surroundings.state_directory.as_deref();
        let incidents = IncidentConfig::new(args.state_dir.as_deref(), source, &file, state_directory)?;

        let or = |flags: Vec<Pattern>, file| if flags.is_empty() { file } else { flags };
        let include = or(flag_globs(&args.selection.interface, "--interface")?, file_include);
        let exclude = or(flag_globs(&args.selection.exclude, "--exclude")?, file_exclude);
        let uplinks = or(flag_globs(&args.plan.uplink, "--uplink")?, file_uplinks);
        let tracked = if args.plan.track.is_empty() { file_tracked } else { flag_tracked(&args.plan.track)? };
        let tunnels =
            if args.plan.tunnel_port.is_empty() { file_tunnels } else { flag_tunnels(&args.plan.tunnel_port)? };
        let flag_socket = args.socket.as_deref().map(socket).transpose().map_err(|fault| fault.at("--socket"))?;
        let socket = flag_socket.or(file_socket);
        let flag_group = args.socket_group.as_deref().map(group).transpose();
        let socket_group = flag_group.map_err(|fault| fault.at("--socket-group"))?.or(file_group);
        if socket_group.is_some() && socket == Some(None) {
            let fault = Fault::new("there is no socket", "leave it out, or `--socket none`");
            return Err(fault.at("--socket-group"));
        }
        let web_config = args.web_config.clone().or(file.web_config);
        // What is wrong with it is said now; what it names is read when privileges have been given up.
        web_config.as_deref().map(WebConfig::from_file).transpose()?;
        let default_format = if surroundings.on_terminal { LogFormat::Text } else { LogFormat::Json };
        let redact = args.redact || file.redact.unwrap_or(false);
        Ok(Self {
            selection: Selection::new(include, &exclude)?,
            roles: Roles::new(uplinks, tracked, tunnels)?,
            ports: args.ports.or(file_ports).unwrap_or_default(),
            xdp: Selection::new(or(flag_globs(&args.plan.xdp, "--xdp")?, file_xdp), &[])?,
            listen: args.listen.or(file_listen).unwrap_or(DEFAULT_LISTEN),
            socket_is_default: socket.is_none(),
            socket: socket.unwrap_or_else(|| Some(DEFAULT_SOCKET.into())),
            socket_group,
            web_config,
            log_format: args.log_format.or(file_format).unwrap_or(default_format),
            log_level: args.log_level.or(file_level).unwrap_or_default().into(),
            max_interfaces: args.max_interfaces.or(file_max),
            flows: args.flows.or(file_flows).unwrap_or(DEFAULT_FLOWS),
            flow_sample: args.flow_sample.or(file_sample).unwrap_or(1),
            record: file_record.with_flags(args.record),
            proof: proof(redact, args.evidence_payload.or(file_payload))?,
            push: PushConfig::new(push::Written::as_flags(&args.push)?.or(file_push), redact)?,
            classes,
            incidents,
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
    /// Losses by place instead of what was counted by interface.
    pub losses: bool,
    /// Senders of malformed frames instead.
    pub senders: bool,
    /// Where the numbers come from.
    pub origin: Origin,
    /// `Some`: repeat with rates, that far apart. `None`: show once.
    pub interval: Option<Duration>,
    /// How long to watch before showing once, where there is no agent.
    pub watch: Duration,
}

/// Which agent is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The agent on [`DEFAULT_SOCKET`] if one answers, else attach without an agent.
    Any,
    /// The agent on this unix socket and no other.
    Socket(PathBuf),
    /// The agent at this `http` URL, which has a host.
    Url(Uri),
}

impl Origin {
    /// What `--socket` says.
    fn of_socket(path: Option<&Path>) -> Result<Self, UsageError> {
        path.map_or(Ok(Self::Any), |path| agent_socket(path).map(Self::Socket))
    }

    /// The one agent's socket that is meant.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        match self {
            Self::Socket(path) => path.clone(),
            Self::Any | Self::Url(_) => DEFAULT_SOCKET.into(),
        }
    }
}

impl StatsConfig {
    /// Validates flags.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn from_args(args: &StatsArgs) -> Result<Self, UsageError> {
        let origin = match (&args.socket, &args.agent) {
            (Some(path), _) => Origin::Socket(agent_socket(path)?),
            (None, Some(url)) => Origin::Url(agent_url(url).map_err(|fault| fault.at("--agent"))?),
            (None, None) => Origin::Any,
        };
        Ok(Self {
            selection: Selection::from_flags(&args.selection.interface, &args.selection.exclude)?,
            output: args.output,
            losses: args.losses,
            senders: args.senders,
            origin,
            interval: args.interval,
            watch: args.watch.unwrap_or(DEFAULT_WATCH),
        })
    }
}

/// Where the agent is that an order or a question is for.
///
/// # Errors
/// What is wrong, and what to do.
pub fn control_socket(socket: Option<&Path>) -> Result<PathBuf, UsageError> {
    socket.map_or_else(|| Ok(DEFAULT_SOCKET.into()), agent_socket)
}

/// The path of an agent's unix socket.
fn agent_socket(path: &Path) -> Result<PathBuf, UsageError> {
    let path = socket(path).map_err(|fault| fault.at("--socket"))?;
    path.ok_or_else(|| Fault::new("`none` is no agent's socket", "name its path").at("--socket"))
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

/// A group's number, or its name in `/etc/group`: a static program cannot ask the directories that there may be besides.
fn group(text: &str) -> Result<u32, Fault> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    // group(5): name, password, number, members.
    let number = |line: &str| line.strip_prefix(text)?.strip_prefix(':')?.split(':').nth(1)?.parse().ok();
    groups.lines().find_map(number).ok_or_else(|| {
        Fault::new(format!("no group `{text}` in /etc/group"), "write its number, or add it (`groupadd --system NAME`)")
    })
}

fn max_interfaces(number: i64) -> Result<u32, Fault> {
    u32::try_from(number).ok().filter(|number| (1..=MAX_INTERFACES).contains(number)).ok_or_else(|| {
        Fault::new(format!("{number} is outside of 1 to {MAX_INTERFACES}"), "each interface needs one line of a table")
    })
}

fn flows(number: i64) -> Result<u32, Fault> {
    u32::try_from(number).ok().filter(|number| *number <= MAX_FLOWS).ok_or_else(|| {
        Fault::new(format!("{number} is outside of 0 to {MAX_FLOWS}"), "each connection takes 344 bytes of memory")
    })
}

fn flow_sample(number: i64) -> Result<u32, Fault> {
    u32::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Fault::new(format!("{number} is not 1 or more"), "write N to follow one of N connections"))
}

fn evidence_payload(number: i64) -> Result<u32, Fault> {
    u32::try_from(number).ok().filter(|number| *number <= EVIDENCE_BYTES as u32).ok_or_else(|| {
        Fault::new(
            format!("{number} is outside of 0 to {EVIDENCE_BYTES}"),
            "a frame is kept up to so many bytes in all",
        )
    })
}

/// How much is kept of malformed frames.
fn proof(redact: bool, payload_bytes: Option<u32>) -> Result<Proof, UsageError> {
    match (redact, payload_bytes) {
        (false, None) => Ok(Proof::default()),
        (false, Some(payload_bytes)) => Ok(Proof { payload_bytes, ..Proof::default() }),
        (true, None | Some(0)) => Ok(Proof { payload_bytes: 0, whole_bytes: 0 }),
        (true, Some(_)) => {
            let cause = "evidence cannot be redacted and have payload";
            Err(Fault::new(cause, "leave one of redact and evidence_payload out").at("--redact"))
        }
    }
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
        (Some(_), _) => Err(fault("is not http; one that speaks https is asked by its --socket")),
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
