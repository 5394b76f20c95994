//! The command line: what can be typed, and what `--help` teaches. Nothing is decided here: raw arguments become a
//! validated [`Config`](crate::config::Config) or [`StatsConfig`](crate::config::StatsConfig) in [`crate::config`].
//!
//! Exit codes: 0 done, 1 failed, 2 usage (a flag or the configuration file is wrong); 130 where Ctrl-C came before the end.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    analyze::Inside,
    config::{DEFAULT_RATE, Network, UsageError, listen_address},
    tunnel::TunnelPort,
};

/// The exit code of a command that Ctrl-C has kept from its end: what a shell says of one that SIGINT has ended.
pub const INTERRUPTED: u8 = 130;

/// The exit code of an error that reached `main`: 2 if what was typed or configured is wrong, else 1.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<UsageError>() { 2 } else { 1 }
}

/// Names, counts and attributes packet loss on Linux.
///
/// `agent` counts for as long as it runs and exports Prometheus metrics; `stats` shows the same counters on the
/// terminal, from a running agent or by attaching for a few seconds; `watch` shows losses one by one as they happen; `capture` writes malformed frames to a file for Wireshark; `explain` says what a name in them means; `analyze` judges a capture file by the
/// same rules; `verdict`, `incidents` and `report` tell what went wrong, when, and whose fault it was; `doctor` says what is possible on this machine; `pause`, `resume` and `detach` control a running agent. All only look: no frame is changed, held back or dropped, and
/// nothing stays attached after they end.
#[derive(Debug, Parser)]
#[command(name = "lossprobe", version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Count on this machine until SIGINT or SIGTERM and export metrics.
    Agent(AgentArgs),
    /// Show what was counted, once or every few seconds.
    Stats(StatsArgs),
    /// Show drops, retransmits and malformed frames as they happen, one line each.
    Watch(WatchArgs),
    /// Write malformed frames to a capture file (pcapng), each with a comment that says what is wrong.
    ///
    /// What it writes is proof for whoever is on the other end of a cable: the bytes, the time, the interface and direction,
    /// the contradiction and the standard it breaks, and who sent the frame last on this segment.
    Capture(CaptureArgs),
    /// Say what a name in the other commands means, and what to do about it.
    Explain(ExplainArgs),
    /// Judge a capture file (pcap, pcapng) as the agent judges frames: what is malformed, what TCP has lost and on which
    /// side of the capture point.
    Analyze(AnalyzeArgs),
    /// Tell the running agent to count nothing; its programs stay attached and do nothing.
    ///
    /// For when you want to know whether the probe is to blame: from one moment to the next every program returns at once,
    /// without anything being attached or detached. Counters keep their values. /readyz and the metric lossprobe_paused
    /// say that nothing is counted.
    #[command(after_help = PAUSE_EXAMPLES)]
    Pause(ControlArgs),
    /// Tell the running agent to count again, after `pause` or `detach`.
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(ControlArgs),
    /// Take lossprobe's programs off all interfaces; the agent keeps running.
    ///
    /// Without a running agent it removes what one that was killed has left behind. That can only be below Linux 6.6:
    /// filters, which do nothing ten seconds after their agent's end, and the clsact qdisc that was brought for them. Filters
    /// of a lossprobe that runs, and everything of others, are left alone.
    #[command(after_help = DETACH_EXAMPLES)]
    Detach(ControlArgs),
    /// List the TCP connections that have lost most, on which side of this node.
    ///
    /// Asks a running agent, which follows the connections that pass its track points (`lossprobe doctor` lists them), whoever
    /// they belong to. Addresses are shown to who may open the agent's socket, and are never metrics.
    #[command(after_help = FLOWS_EXAMPLES)]
    Flows(FlowsArgs),
    /// Is it us? Say whose fault it is, if anything is wrong
    #[command(after_help = VERDICT_EXAMPLES)]
    Verdict(VerdictArgs),
    /// List what went wrong on this node: when, for how long, how badly, and whose fault it was.
    ///
    /// Asks a running agent; where none answers, the folder in which one has kept them.
    #[command(after_help = INCIDENTS_EXAMPLES)]
    Incidents(IncidentsArgs),
    /// Write an incident down: timeline, graphs, verdict with its evidence, what was not affected, and a text for the
    /// provider's support.
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Examine this machine: what the agent could count here, and what would be missing.
    Doctor(DoctorArgs),
    /// For the build, not for people.
    #[command(hide = true, subcommand)]
    Internal(Internal),
}

/// For the build, not for people.
#[derive(Debug, Subcommand)]
pub enum Internal {
    /// Print the README's table of metrics.
    MetricsTable,
}

const EXAMPLES: &str = "\
Examples:
  lossprobe agent                        every interface but the loopback, metrics on 127.0.0.1:9976
  curl -s http://127.0.0.1:9976/metrics  what the agent has counted
  lossprobe stats                        the same as a table; without an agent it watches for 5 s
  lossprobe stats --interval 2           rates every 2 seconds until Ctrl-C
  lossprobe pause                        is it the probe? make it do nothing, then `lossprobe resume`
  lossprobe doctor                       what can be counted here, and what would be missing
  lossprobe watch --class capacity       packets that were lost for want of room, as it happens
  lossprobe capture -w proof.pcapng      malformed frames for Wireshark, until Ctrl-C
  lossprobe explain qdisc_overlimit      what a reason means, and what to do about it
  lossprobe analyze trace.pcapng         what is wrong in a capture, and on which side of it TCP loses
  lossprobe incidents                    what went wrong here, when, and whose fault it was
  lossprobe report -o incident.html      the latest incident as a page with graphs

Exit codes: 0 done, 1 failed, 2 usage.";

const AGENT_EXAMPLES: &str = "\
Examples:
  lossprobe agent --interface eth0 --interface 'tap*'  one interface by name, all taps by pattern
  lossprobe agent --exclude 'veth*' --exclude docker0  everything but these (and the loopback)
  lossprobe agent --interface lo                       the loopback, only when it is asked for
  lossprobe agent --uplink bond0 --ports each          bond0 leads out; each port has series
  lossprobe agent --listen 0.0.0.0:9976                let Prometheus on another machine scrape
  lossprobe agent --config /etc/lossprobe.toml         settings from a file; flags win over it
  lossprobe agent --listen 0.0.0.0:9976 --web-config /etc/lossprobe/web.yml  by TLS, for users

Configuration file (TOML; keys are the flags' names with `_` for `-`, unknown keys are errors):
  interface = [\"eth*\", \"tap*\"]
  exclude = [\"tap-test*\"]
  uplink = [\"eth0\"]
  track = [\"eth0\", \"tap*:guests\"]
  tunnel_port = [\"4789:vxlan\"]
  ports = \"aggregate\"
  xdp = [\"eth0\"]
  listen = \"127.0.0.1:9976\"
  socket = \"/run/lossprobe/lossprobe.sock\"
  socket_group = \"adm\"
  web_config = \"/etc/lossprobe/web.yml\"
  log_format = \"json\"
  log_level = \"info\"
  max_interfaces = 256
  flows = 32768
  flow_sample = 1
  evidence_payload = 16
  redact = false
  state_dir = \"/var/lib/lossprobe\"
  history = 30
  keep_incidents = 50
  keep_mib = 256
  push_url = \"https://alerts.example.net/lossprobe\"
  push_format = \"json\"
  push_ca_file = \"/etc/lossprobe/ca.pem\"
  push_header_file = \"/etc/lossprobe/push-header\"
  [objective]  # what was promised, in percent of 30 days, and what may be lost in good time
  percent = 99.9
  acceptable_loss_percent = 0.5
  [incident]  # how long it must be better to ease, and as usual to be over
  eases_after = \"1m\"
  closes_after = \"10m\"
  [drop_classes]  # by the kernel's reason: capacity, malformed, config, policy, noise or unknown
  neigh_failed = \"noise\"

Web configuration (YAML; relative paths begin at its folder):
  tls_server_config:
    cert_file: server.pem
    key_file: server.key
    client_auth_type: RequireAndVerifyClientCert  # or VerifyClientCertIfGiven, NoClientCert
    client_ca_file: clients.pem
    min_version: TLS12                            # also max_version, cipher_suites,
                                                  # curve_preferences, prefer_server_cipher_suites
  http_server_config:
    headers: {Strict-Transport-Security: max-age=31536000}
  basic_auth_users:
    prometheus: $2y$10$…                          # htpasswd -nBC 10 prometheus

Endpoints: /metrics, /healthz, /readyz, /api/v1/snapshot, /api/v1/verdict, /api/v1/incidents.
Exit codes: 0 ended by a signal, 1 failed, 2 usage.";

const STATS_EXAMPLES: &str = "\
Examples:
  lossprobe stats                                       one table
  lossprobe stats --interface eth0 --output json | jq   one interface, for programs
  lossprobe stats --interval 1                          rates every second until Ctrl-C
  lossprobe stats --for 30s                             without an agent: watch for 30 s
  lossprobe stats --losses                              what this host has lost, and where
  lossprobe stats --senders                             who has sent malformed frames last
  lossprobe stats --agent http://127.0.0.1:9976         ask an agent by HTTP

Exit codes: 0 done, 1 failed, 2 usage.";

const PAUSE_EXAMPLES: &str = "\
Examples:
  lossprobe pause                       the agent on the usual socket
  lossprobe pause --socket /tmp/x.sock  another one

Exit codes: 0 done, 1 failed (no agent answers, or you may not talk to it), 2 usage.";

const RESUME_EXAMPLES: &str = "\
Examples:
  lossprobe resume                       the agent on the usual socket
  lossprobe resume --socket /tmp/x.sock  another one

Exit codes: 0 done, 1 failed (no agent answers, or you may not talk to it), 2 usage.";

const DETACH_EXAMPLES: &str = "\
Examples:
  lossprobe detach                       let the agent let go; `lossprobe resume` attaches again
  lossprobe detach --socket /tmp/x.sock  another agent
  ExecStopPost=-/usr/bin/lossprobe detach    in a systemd unit: nothing stays after a crash

Exit codes: 0 done, also where nothing was left, 1 failed, 2 usage.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  lossprobe doctor                               everything, as the agent would find it
  lossprobe doctor --interface eth0              the attach plan of one interface
  lossprobe doctor --config /etc/lossprobe.toml  with the agent's settings
  lossprobe doctor --output json | jq .features  for programs

It attaches nothing and leaves nothing. Without privileges it reports what it can, and says what it could not look at.
Exit codes: 0 frames can be counted on at least one interface, 1 they cannot, 2 usage.";

const FLOWS_EXAMPLES: &str = "\
Examples:
  lossprobe flows                               the 20 worst
  lossprobe flows --top 5                       the 5 worst
  lossprobe flows --output json | jq .flows[0]  for programs

Columns: OUTSIDE and INSIDE are the two ends as seen from the track point; LOST BEFORE, segments
that were lost before they came by; SEEN AGAIN, those that came by twice: lost behind this
node, or behind the network on the other side; NOT NEEDED, of how many of these the receiver
said that it had them (RFC 2883).
Exit codes: 0 done, 1 failed (no agent answers, or you may not talk to it), 2 usage.";

const VERDICT_EXAMPLES: &str = "\
Examples:
  lossprobe verdict                           what the agent says now
  lossprobe verdict --for 30s                 the gravest of half a minute; without an agent by attaching
  lossprobe verdict --output json | jq -r .sentence
  lossprobe explain network_in                what a verdict means, and what to do

Exit codes: 0 nothing is wrong, or it is a matter of this host, its guests or its cable, 1 failed, 2 usage, 3 the network,
4 not known.";

const INCIDENTS_EXAMPLES: &str = "\
Examples:
  lossprobe incidents                            all that are known, the newest first
  lossprobe incidents 20240118                   the one whose name begins so: times, evidence
  lossprobe incidents --output json | jq '.incidents[] | select(.state != \"closed\")'
  lossprobe incidents --state-dir /mnt/node7     from another node's folder, without an agent

ONSET is an estimate, earlier than the moment of detection; PEAK the share of TCP segments that was
lost when it was worst.
Exit codes: 0 done, 1 failed (no agent answers and there is no folder, or no incident is called so),
2 usage.";

const REPORT_EXAMPLES: &str = "\
Examples:
  lossprobe report                               the newest incident, as Markdown
  lossprobe report 20240118 -o incident.html     one as a page with graphs that needs no network
  lossprobe report --format html >incident.html  the same by format

A report may be made while an incident goes on; it then tells what was known at that time. Times are
UTC. Of a closed one it is the report in its folder, beside which are the frames (evidence.pcapng),
the counters second by second (CSV) and the machine (host.txt); `lossprobe incidents ID` says where.
Without a folder it is made of the incident alone, which has no frames.
It has addresses of frames' senders: read it before you pass it on.
Exit codes: 0 done, 1 failed (nothing is known of it, or it cannot be written), 2 usage.";

const WATCH_EXAMPLES: &str = "\
Examples:
  lossprobe watch                                     all but what is on loopbacks, until Ctrl-C
  lossprobe watch --class capacity --class config     packets lost here for want of room or a way
  lossprobe watch --reason 'tcp_*' --interface eth0   by reason and interface
  lossprobe watch --type retransmit --address 192.0.2.0/24 --port 443
  lossprobe watch --count 1 --output json | jq .      one example with its first bytes
  lossprobe watch --for 1m --rate 0 --output json >losses.jsonl

Text: time (UTC), what happened, reason and class, interface, protocol and both ends, size,
kernel function.
JSON, one object a line: type (drop, retransmit, malformed), time, interface, netns, reason,
class, location, severity, direction, offset, protocol, source, destination, packet_bytes,
segments, bytes (hexadecimal), bytes_from (network header, frame, or socket: headers as they will
be made); where something was not shown, once a second
{\"type\":\"suppressed\",\"by\":\"rate\",\"events\":N}, also by kernel and by agent;
{\"type\":\"state\",\"state\":\"paused\"} when the agent is told to pause, detach or resume.

These are examples: of many events of one kind at once the kernel shows some and says how many
it left out, whatever the filters. `lossprobe stats` counts all. The first 128 bytes of a packet
may hold payload. Upper and lower case are alike in filters, but for interfaces. Filters that no
event can pass together are an error. At most 8 watch an agent at once.
Exit codes: 0 ended by a signal, a closed pipe, --count or --for, 1 failed, 2 usage.";

const CAPTURE_EXAMPLES: &str = "\
Examples:
  lossprobe capture -w proof.pcapng                  every malformed frame, until Ctrl-C
  lossprobe capture                                  only look: what comes, and who sent it
  lossprobe capture -w proof.pcapng --interface eth0 --reason 'ip4_*' --duration 10m
  lossprobe capture -w proof.pcapng --kept           what the agent has kept before you came
  lossprobe capture -w - --count 5 | tshark -r - -T fields -e frame.time -e frame.comment
  lossprobe capture -w - | wireshark -k -i -         live

Each frame has its interface, the time in nanoseconds, its length on the wire, its direction, and
a comment, which tshark calls frame.comment and Wireshark shows with the frame. Its sender is the
last one on this segment, which need not be the device that damaged it. Of a frame whose checksum
is wrong there are up to 2048 bytes, of others the headers and some bytes more; the agent's flags
--evidence-payload and --redact decide how much.

These are examples: of many malformed frames of one kind at once the kernel shows some. What is
not shown is counted and said at the end; `lossprobe stats` counts all. How many there were, by
reason and interface, is told on standard error: in one line while it runs on a terminal (unless
a program reads the capture), and at the end as a table.
Exit codes: 0 ended by a signal, a closed pipe, --count, --duration or --kept, 1 failed (what was
written until then can be read), 2 usage.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  lossprobe explain qdisc_overlimit                  a drop reason, as `lossprobe stats` shows it
  lossprobe explain SKB_DROP_REASON_NETFILTER_DROP   the same in the kernel's own spelling
  lossprobe explain ip4_csum                         a malformed reason
  lossprobe explain tail_probe                       a type of retransmit
  lossprobe explain udp/receive_buffer               a cause, as `lossprobe stats --losses` shows it
  lossprobe explain capacity                         a class, with its reasons
  lossprobe explain network_in                       a verdict
  lossprobe explain --list drops                     all drop reasons with their classes
  lossprobe explain --list --output json | jq .      everything, for programs

Upper-case words in commands (DEV, ADDRESS) stand for what is to be put there. It needs no agent
and no privileges. A reason that only the running kernel knows is explained by its class and
said to be new.
Exit codes: 0 explained, 1 nothing has this name, 2 usage.";

const ANALYZE_EXAMPLES: &str = "\
Examples:
  lossprobe analyze trace.pcapng                     what is malformed, what TCP says, worst flows
  zcat trace.pcap.gz | lossprobe analyze -           from standard input, also while it is made
  lossprobe analyze trace.pcap --vantage 10.0.0.0/8  these addresses are inside: whose loss is it?
  lossprobe analyze trace.pcap --output json | jq '.malformed, .tcp, .loss'
  lossprobe analyze trace.pcap --events | grep retransmit_seen | head

Where TCP loses: what the capture has twice was lost behind the capture point (retransmissions
seen, less those that the receiver reports as needless); what it never had and a retransmission
brought was lost before it (filled holes, or missing IP identifiers where they count a host's
packets). With --vantage, or where the capture says which frames its machine sent (Linux cooked,
pcapng), losses are also given by side: network_in, network_out (both outside) and inside.

JSON: one object with file, format, frames, bytes, malformed {reason: frames}, tcp {event:
segments}, loss {before, after, network_in, network_out, inside; each with lost, of, ratio and
its 95 % interval}, flows (the directions that have lost most), skipped_link_types, truncated,
truncated_at, interrupted, corrupt …
Events, one object a line:
  {\"frame\":N,\"type\":\"malformed\",\"name\":REASON,\"severity\":…,\"offset\":…}
  {\"frame\":N,\"type\":\"tcp\",\"name\":EVENT,\"direction\":…,\"segments\":…}
frame counts from 1, offset from the frame's first captured byte; direction is in or out, or where
that is not known forward (as the flow's first packet) or reverse. With --output json the summary
comes last, as a line of its own.

Link types: Ethernet (1), raw IP (12, 14, 101, 228, 229), BSD loopback (0, 108), Linux cooked
(113, 276); others are skipped and counted. A capture does not say all that a hook knows: not the
device's MTU and whether it is a physical one (so eth_oversize and eth_runt are not found), nor how
many segments the kernel has merged (which is concluded from what a handshake has agreed on).
Exit codes: 0 analysed, also if the file ends inside a record (a warning says where), 1 failed:
not readable, no capture, or corrupt in the middle (what stands before it is shown), 2 usage, 130
ended by Ctrl-C (what was read until then is shown).";

/// Flags of `lossprobe agent`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = AGENT_EXAMPLES)]
pub struct AgentArgs {
    /// Which interfaces are meant.
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// What each interface is to the node, and how its frames are counted.
    #[command(flatten)]
    pub plan: PlanArgs,

    /// How ports of bridges (veth, tap) appear in the metrics [default: aggregate]
    #[arg(long, value_name = "HOW", value_enum)]
    pub ports: Option<Ports>,

    /// Serve metrics and API by HTTP at this address [default: 127.0.0.1:9976]
    ///
    /// Port 0 takes a free port and logs it. Anybody who reaches the address can read the counters.
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub listen: Option<SocketAddr>,

    /// Serve the API on this unix socket; `none` for no socket [default: /run/lossprobe/lossprobe.sock]
    ///
    /// `lossprobe stats` finds a running agent by it. The default is used only where its directory exists or can be
    /// created, a path given here must work.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Give the unix socket, mode 0660, to this group, by name or number [default: the agent's own]
    ///
    /// Its members may ask, watch packets and give orders. Takes CAP_CHOWN at the start, or an agent that is a member.
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,

    /// Protect the HTTP address as this file says: TLS, clients' certificates, users; Prometheus' web configuration
    /// [default: plain HTTP for everybody]
    ///
    /// YAML with the keys of Prometheus' `web.config.file`, as shown below; unknown keys are errors. The file, certificates and
    /// keys are read again when they have changed, within 5 seconds or at once on SIGHUP; where something is wrong with them,
    /// what is served stays as it was, the log says why, and `lossprobe_web_config_current` is 0. They are read without any
    /// privilege: the agent's user or group must be able to. The unix socket stays as it is.
    #[arg(long, value_name = "FILE")]
    pub web_config: Option<PathBuf>,

    /// Read settings from this TOML file; flags win over it [default: no file]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How log lines look on standard error [default: text on a terminal, json otherwise]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,

    /// Least important log lines to show [default: info]
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub log_level: Option<LogLevel>,

    /// Watch at most N interfaces at a time, 1 to 4096 [default: four times what exists, 64 to 1024]
    ///
    /// Kernel memory is reserved for so many; interfaces beyond it are not watched, and counted as refused.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub max_interfaces: Option<u32>,

    /// Follow at most N TCP connections at a time, 0 to 1048576 [default: 32768]
    ///
    /// Kernel memory of 344 bytes each is reserved for them, rounded up to a power of two. A connection beyond them is not
    /// judged, and counted as such; 0 follows none.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub flows: Option<u32>,

    /// Follow one of N TCP connections [default: 1]
    ///
    /// Which ones is drawn by lot for each start; ratios refer to the segments of those that are followed.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub flow_sample: Option<u32>,

    /// Keep N bytes behind the headers of a malformed frame, 0 to 2048 [default: 16]
    ///
    /// Evidence is shown to who may open the agent's socket. Of a frame whose checksum is wrong up to 2048 bytes are kept
    /// anyway: less of it proves nothing.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=2048))]
    pub evidence_payload: Option<u32>,

    /// Keep headers only of malformed frames, also where a checksum is wrong, and tell nobody addresses [default: off]
    ///
    /// Headers have addresses: they stay in what only who runs the agent reads, `lossprobe capture` and the folder of an
    /// incident, whose report names source MACs. Without them nobody could check a frame or find its sender.
    #[arg(long, conflicts_with = "evidence_payload")]
    pub redact: bool,

    /// Keep incidents in this folder, so that a restart goes on with them; `none` for memory only [default: systemd's
    /// `STATE_DIRECTORY`, else none]
    ///
    /// It is made if it is not there. The latest 256 incidents stay, at most 16 MiB; what cannot be read is set aside in its
    /// folder `broken`.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// What is kept of incidents.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Where incidents are told.
    #[command(flatten)]
    pub push: PushArgs,

    /// Print a short summary to standard output every few seconds [default: off]
    #[arg(long)]
    pub summary: bool,
}

/// What is kept of incidents.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct RecordArgs {
    /// Remember every counter, second by second, for N minutes, 1 to 240 [default: 30]
    ///
    /// An incident's folder has what came before it. It takes at most 8 MiB, however many minutes are asked for; the older
    /// half is kept in steps of ten seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=240))]
    pub history: Option<u32>,

    /// Keep the folders of at most N incidents, 1 to 10000; the oldest go [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub keep_incidents: Option<u32>,

    /// Keep at most N MiB of them, 1 to 1048576; the oldest go, the latest stays whatever its size [default: 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub keep_mib: Option<u32>,
}

/// Where incidents are told.
#[derive(Args, Clone, Debug, Default)]
pub struct PushArgs {
    /// Tell incidents to this address by HTTP POST, `http` or `https` [default: nobody]
    ///
    /// Nothing else ever leaves this host by itself. What cannot be delivered is tried again until it is taken or refused;
    /// if the receiver is away for long, the oldest of 64 changes make room. With --redact addresses are left out. The log
    /// has a line for each change, too, with or without this flag.
    #[arg(long, value_name = "URL")]
    pub push_url: Option<String>,

    /// What is told there [default: json]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub push_format: Option<PushFormat>,

    /// Certificates (PEM) of those who may vouch for it [default: the usual authorities of the web]
    #[arg(long, value_name = "FILE")]
    pub push_ca_file: Option<PathBuf>,

    /// Header fields that go with each request, one a line, as in `Authorization: Bearer TOKEN` [default: none]
    ///
    /// The file is read for each request, so a token may change.
    #[arg(long, value_name = "FILE")]
    pub push_header_file: Option<PathBuf>,
}

/// What is told of incidents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PushFormat {
    /// Each change of an incident, as an object with the incident as it is then
    #[default]
    Json,
    /// Alerts for an Alertmanager (API v2), repeated every minute while they hold
    Alertmanager,
}

/// What each interface is to the node, and how its frames are counted.
#[derive(Args, Clone, Debug, Default)]
pub struct PlanArgs {
    /// These interfaces lead out of this node; repeatable [default: found by route, see below]
    ///
    /// An uplink is where every packet of the node passes once. Without this flag: physical devices that carry a route or
    /// are ports of a bridge, a bond in place of its slaves, and what lies below a bridge, VLAN or macvlan that carries
    /// a route; where there is no physical device, those that carry the default route. `lossprobe doctor` shows each
    /// interface's role and the reason.
    #[arg(long, value_name = "GLOB")]
    pub uplink: Vec<String>,

    /// These interfaces are track points, those of one GROUP seen as one; `all` or `none`; repeatable [default: the
    /// uplinks, as group `node`]
    ///
    /// A track point is where TCP flows are judged. `lossprobe doctor` shows each interface's group.
    #[arg(long, value_name = "GLOB[:GROUP]")]
    pub track: Vec<String>,

    /// These UDP ports are tunnels' on every track point, `vxlan` or `geneve`; repeatable, two of each kind [default: those
    /// of the VXLAN and GENEVE devices of this namespace, on what lies below them]
    ///
    /// What a tunnel carries is judged too, one level deep: the frame inside, and its TCP connection in place of none.
    /// Everywhere else these ports are anybody's. Without KIND 6081 is GENEVE, every other port VXLAN. For tunnels that end
    /// in a guest or in another namespace.
    #[arg(long, value_name = "PORT[:KIND]")]
    pub tunnel_port: Vec<String>,

    /// Count what comes in by native XDP on interfaces of this name or pattern; repeatable [default: none]
    ///
    /// Sees frames before the kernel has touched them, at the price of a place that others may want: refused, and tc used
    /// instead, on a veth, a bond or team (ask for its slaves), a tap that takes a guest's segments, beside another XDP
    /// program, and where the driver, its offloads, queues or MTU speak against it.
    /// What was refused and why is in the log and in the snapshot; `lossprobe doctor` tells some of it before.
    #[arg(long, value_name = "GLOB")]
    pub xdp: Vec<String>,
}

/// Flags of `lossprobe stats`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = STATS_EXAMPLES)]
pub struct StatsArgs {
    /// Which interfaces are meant.
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// How to show it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,

    /// Show everything that was lost in this host, by place, and whether devices and hooks agree
    ///
    /// Losses are listed once: as the kernel's drops, or a device's where the kernel never saw the packet. What queueing
    /// disciplines, input queues and protocols count beside them stands below as witnesses. For devices that count wire
    /// frames two laws hold: device − hook at ingress, hook − device at egress; what is not explained is the remainder.
    /// It is a sum since the agent's start, and so goes without --interval.
    #[arg(long, conflicts_with = "interval")]
    pub losses: bool,

    /// Show who has sent malformed frames last, by interface, MAC address, VLAN and reason
    ///
    /// The last senders on a segment need not be the devices that have damaged the frames. Only a running agent knows
    /// them (64 of each interface, the busiest), and tells them on its unix socket only.
    #[arg(long, conflicts_with_all = ["losses", "interval", "watch", "agent"])]
    pub senders: bool,

    /// Without an agent: attach and watch for so long (500ms, 5s, 2m) [default: 5s]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, conflicts_with = "interval")]
    pub watch: Option<Duration>,

    /// Repeat with rates per second until Ctrl-C; seconds, or a duration like 500ms; not with --losses or --for [default:
    /// show once]
    #[arg(long, value_name = "SECONDS", value_parser = duration)]
    pub interval: Option<Duration>,

    /// Ask the agent on this unix socket, and fail if there is none [default: /run/lossprobe/lossprobe.sock if an
    /// agent answers there, else attach without an agent]
    #[arg(long, value_name = "PATH", conflicts_with = "agent")]
    pub socket: Option<PathBuf>,

    /// Ask the agent at this URL, as in http://127.0.0.1:9976, and fail if there is none [default: the unix socket]
    #[arg(long, value_name = "URL")]
    pub agent: Option<String>,
}

/// Flags of `lossprobe doctor`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub struct DoctorArgs {
    /// Which interfaces are meant.
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// What each interface is to the node, and how its frames are counted.
    #[command(flatten)]
    pub plan: PlanArgs,

    /// How to show it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,

    /// Read the agent's settings from this TOML file; flags win over it [default: no file]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Calculate for at most N interfaces at a time, 1 to 4096 [default: as the agent does]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub max_interfaces: Option<u32>,

    /// Ask for a running agent on this unix socket; `none` to ask nowhere [default: /run/lossprobe/lossprobe.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl DoctorArgs {
    /// The agent's flags that they stand for.
    #[must_use]
    pub fn for_agent(&self) -> AgentArgs {
        AgentArgs {
            selection: self.selection.clone(),
            plan: self.plan.clone(),
            config: self.config.clone(),
            max_interfaces: self.max_interfaces,
            socket: self.socket.clone(),
            ..AgentArgs::default()
        }
    }
}

/// Flags of `lossprobe watch`. Filters of one kind are alternatives, filters of several kinds must all match.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = WATCH_EXAMPLES)]
pub struct WatchArgs {
    /// Which interfaces are meant.
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Only what happened like this; repeatable [default: all]
    #[arg(long = "type", value_name = "TYPE", value_enum, ignore_case = true)]
    pub kind: Vec<WatchKind>,

    /// Only drops of this class: capacity, malformed, config, policy, noise or unknown; repeatable [default: all]
    #[arg(long, value_name = "CLASS")]
    pub class: Vec<String>,

    /// Only reasons of this name or pattern; repeatable [default: all]
    ///
    /// Drop reasons, malformed reasons and types of retransmits, as `stats` shows them; see `lossprobe explain --list`. A
    /// plain name must be one of them; a pattern that matches none is a warning.
    #[arg(long, value_name = "GLOB")]
    pub reason: Vec<String>,

    /// Only packets of this protocol; repeatable [default: all]
    #[arg(long, value_name = "PROTOCOL", value_enum, ignore_case = true)]
    pub protocol: Vec<Protocol>,

    /// Only packets from or to this address, or one of this network; repeatable [default: all]
    #[arg(long, value_name = "IP|CIDR")]
    pub address: Vec<Network>,

    /// Only packets from or to this TCP or UDP port; repeatable [default: all]
    #[arg(long, value_name = "N")]
    pub port: Vec<u16>,

    /// Show at most N events a second, and say how many more there were; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = DEFAULT_RATE)]
    pub rate: u32,

    /// End after N events [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after so long (500ms, 5s, 2m) [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,

    /// How to show it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Lines,

    /// Watch by the agent on this unix socket, and fail if there is none [default: /run/lossprobe/lossprobe.sock if an
    /// agent answers there, else attach without an agent]
    ///
    /// Packets and addresses are shown to who may open the socket, and never by TCP.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Flags of `lossprobe capture`. Reasons are alternatives, reason and interface must both match.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = CAPTURE_EXAMPLES)]
pub struct CaptureArgs {
    /// Which interfaces are meant.
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Write the frames to this file, pcapng; `-` is standard output [default: count them only]
    ///
    /// A new file can be read by its owner only: frames hold what others have sent. One that exists is overwritten, as
    /// tcpdump does, once the capture can begin; its mode stays.
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,

    /// Only malformed reasons of this name or pattern; repeatable [default: all]
    ///
    /// See `lossprobe explain --list reasons`. What matches none of them is an error.
    #[arg(long, value_name = "GLOB")]
    pub reason: Vec<String>,

    /// End after N frames [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after so long (500ms, 5s, 2m) [default: never]
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "kept")]
    pub duration: Option<Duration>,

    /// Write what a running agent has kept (of each interface, direction and reason the first and the latest frame), then
    /// end [default: wait for frames that come]
    #[arg(long)]
    pub kept: bool,

    /// Capture by the agent on this unix socket, and fail if there is none [default: /run/lossprobe/lossprobe.sock if an
    /// agent answers there, else attach without an agent]
    ///
    /// Frames are shown to who may open the socket, and never by TCP.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// What happened to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WatchKind {
    /// The kernel dropped it
    Drop,
    /// A local TCP socket sent it again
    Retransmit,
    /// It contradicts itself
    Malformed,
}

/// A protocol, as far as a packet's first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmpv6,
    /// Any fragment
    Fragment,
    Arp,
    /// Also what lies in it
    Ipv4,
    /// Also what lies in it
    Ipv6,
    /// What is none of these
    Other,
}

/// Flags of `lossprobe explain`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub struct ExplainArgs {
    /// A drop reason, a malformed reason, a type of retransmit, a cause as `stats --losses` shows it, a class, or a verdict;
    /// upper case and the kernel's prefix do not matter [default: list what there is, by group]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,

    /// List what can be explained instead, all or one group [default where nothing is named: all]
    #[arg(long, value_name = "WHAT", value_enum, num_args = 0..=1, default_missing_value = "all", conflicts_with = "name")]
    pub list: Option<Listed>,

    /// How to show it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Lines,
}

/// What `explain --list` lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Listed {
    /// Everything
    #[default]
    All,
    /// Drop reasons: those of the running kernel, and those that are known besides
    Drops,
    /// Malformed reasons
    Reasons,
    /// Types of TCP's retransmits
    Retransmits,
    /// Events of followed TCP connections, as in `lossprobe_wire_tcp_events_total`
    Events,
    /// Other causes in `stats --losses`: of devices, XDP, queues, CPUs and protocols
    Causes,
    /// Classes of drop reasons
    Classes,
    /// Verdicts: whose fault it is
    Verdicts,
}

/// Most rows that `--top` can ask for.
const MAX_TOP: u16 = 10_000;

/// Flags of `lossprobe analyze`.
#[derive(Args, Clone, Debug)]
#[command(after_help = ANALYZE_EXAMPLES)]
pub struct AnalyzeArgs {
    /// The capture, pcap or pcapng; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// What lies inside, behind the capture point as seen from the network: addresses, or whoever is behind the interface
    /// of a hardware address; repeatable [default: the capturing machine, where the capture tells its frames]
    #[arg(long, value_name = "IP|CIDR|MAC")]
    pub vantage: Vec<Inside>,

    /// What is sent to this UDP port is a tunnel's, `vxlan` or `geneve`, and what it carries is judged too; repeatable
    /// [default: none; KIND: geneve for 6081, else vxlan]
    #[arg(long, value_name = "PORT[:KIND]")]
    pub tunnel_port: Vec<TunnelPort>,

    /// List the N directions of TCP connections that have lost most, up to 10000
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(..=i64::from(MAX_TOP)))]
    pub top: u16,

    /// Print each finding as a line of JSON, instead of the tables
    #[arg(long)]
    pub events: bool,

    /// How to show the summary
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
}

/// Flags of `lossprobe pause`, `resume` and `detach`.
#[derive(Args, Clone, Debug, Default)]
pub struct ControlArgs {
    /// The agent's unix socket; only who may open it gives orders [default: /run/lossprobe/lossprobe.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// `lossprobe flows`.
#[derive(Args, Debug)]
pub struct FlowsArgs {
    /// Show the N worst, 1 to 100
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub top: u32,

    /// The agent's unix socket [default: /run/lossprobe/lossprobe.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// How to print them
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// `lossprobe verdict`.
#[derive(Args, Clone, Debug, Default)]
pub struct VerdictArgs {
    /// Which interfaces are meant, where there is no agent.
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// How to show it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,

    /// Watch for so long (500ms, 30s, 2m) [default: say what the agent says now; without an agent 30s]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub watch: Option<Duration>,

    /// Ask the agent on this unix socket, and fail if there is none [default: /run/lossprobe/lossprobe.sock if an
    /// agent answers there, else attach without an agent]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// `lossprobe incidents`.
#[derive(Args, Debug)]
pub struct IncidentsArgs {
    /// Show only the one that is called so, or begins so, whole
    #[arg(value_name = "ID")]
    pub id: Option<String>,

    /// Who knows of them.
    #[command(flatten)]
    pub knowledge: KnowledgeArgs,

    /// How to print them
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// `lossprobe report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The one that is called so, or begins so [default: the newest]
    #[arg(value_name = "ID")]
    pub id: Option<String>,

    /// How to write it [default: html for a file that is called so, else md]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<ReportFormat>,

    /// Write it to this file; `-` for standard output [default: standard output]
    #[arg(short = 'o', long, value_name = "FILE")]
    pub write: Option<PathBuf>,

    /// Who knows of it.
    #[command(flatten)]
    pub knowledge: KnowledgeArgs,
}

/// Who knows of incidents.
#[derive(Args, Debug)]
pub struct KnowledgeArgs {
    /// The agent's unix socket, and nothing else [default: /run/lossprobe/lossprobe.sock, then the state folder]
    #[arg(long, value_name = "PATH", conflicts_with = "state_dir")]
    pub socket: Option<PathBuf>,

    /// The folder of an agent's --state-dir, without asking an agent [default: /var/lib/lossprobe if no agent answers]
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Markdown.
    Md,
    /// A page with graphs that needs no network.
    Html,
}

/// Which interfaces are meant.
#[derive(Args, Clone, Debug, Default)]
pub struct SelectionArgs {
    /// Only interfaces of this name or pattern; repeatable [default: all but loopbacks]
    ///
    /// Patterns: `*` any characters, `?` one, `[a-f0-9]` one of these, `{eth,tap}*` alternatives. Quote them, or the
    /// shell expands them. A plain name must exist at the start; a pattern also takes interfaces that appear later.
    #[arg(long, value_name = "GLOB")]
    pub interface: Vec<String>,

    /// Not interfaces of this name or pattern; repeatable, wins over --interface [default: none]
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
}

/// How ports of bridges appear in the metrics. The JSON snapshot and `stats` always have every port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Ports {
    /// One series per bridge, `interface="BRIDGE/ports"`, with the sums of its ports
    #[default]
    Aggregate,
    /// Each port by itself, as any other interface
    Each,
    /// Not at all
    None,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Least important log lines to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// How `stats` shows its findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables for people.
    #[default]
    Table,
    /// JSON, one object per line.
    Json,
}

/// How a command without tables shows its findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Lines {
    /// Text for people.
    #[default]
    Text,
    /// JSON, one object per line.
    Json,
}

/// Shortest and longest duration that a flag accepts.
const DURATION_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_hours(24));

/// A duration as people write it: `500ms`, `5s`, `1.5s`, `2m`, `1h`; a bare number is seconds. From 100ms to 24h.
///
/// # Errors
/// What is wrong, with the accepted forms.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let unit_seconds = match unit.trim_start() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("`{other}` is no unit; write ms, s, m or h, as in 500ms, 5s or 2m")),
    };
    let number: f64 = number.parse().map_err(|_| "no number; write it as in 500ms, 5s or 2m".to_owned())?;
    let (shortest, longest) = DURATION_RANGE;
    match Duration::try_from_secs_f64(number * unit_seconds) {
        Ok(value) if value >= shortest && value <= longest => Ok(value),
        Ok(_) | Err(_) => Err("outside of 100ms to 24h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        for (text, expected_ms) in [
            ("500ms", Some(500)),
            ("5s", Some(5_000)),
            ("5", Some(5_000)),
            ("1.5 s", Some(1_500)),
            ("2m", Some(120_000)),
            ("24h", Some(86_400_000)),
            ("25h", None),
            ("0", None),
            ("99ms", None),
            ("-1s", None),
            ("", None),
            ("s", None),
            ("1.2.3s", None),
            ("5 parsecs", None),
            ("1e3", None),
            ("99999999999999999999999999h", None),
        ] {
            assert_eq!(duration(text).ok(), expected_ms.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn arguments() {
        for (line, accepted) in [
            ("lossprobe agent", true),
            ("lossprobe agent --interface eth0 --interface tap* --exclude tap1 --listen [::1]:0 --summary", true),
            ("lossprobe agent --max-interfaces 4096 --log-level debug --log-format json", true),
            ("lossprobe agent --max-interfaces 0", false),
            ("lossprobe agent --max-interfaces 4097", false),
            ("lossprobe agent --listen 9976", false),
            ("lossprobe agent --uplink eth0 --uplink bond* --track all --ports each", true),
            ("lossprobe agent --ports some", false),
            ("lossprobe stats --for 5s --output json", true),
            ("lossprobe stats --for 5s --interval 1", false),
            ("lossprobe stats --losses --for 5s --output json", true),
            ("lossprobe stats --losses --interval 1", false),
            ("lossprobe stats --senders --interface eth0 --socket /tmp/x --output json", true),
            ("lossprobe stats --senders --agent http://localhost:1", false),
            ("lossprobe stats --senders --for 1s", false),
            ("lossprobe stats --socket /tmp/x --agent http://localhost:1", false),
            ("lossprobe doctor --interface eth0 --config x.toml --output json --max-interfaces 8", true),
            ("lossprobe doctor --listen 127.0.0.1:1", false),
            ("lossprobe agent --xdp eth0 --xdp tap*", true),
            ("lossprobe pause", true),
            ("lossprobe detach --socket /tmp/x", true),
            ("lossprobe resume --agent http://localhost:1", false),
            ("lossprobe watch", true),
            ("lossprobe watch --type drop --class capacity --address 192.0.2.0/24 --port 53 --protocol udp", true),
            ("lossprobe watch --rate 0 --count 1 --for 5s --output json --socket /tmp/x", true),
            ("lossprobe watch --count 0", false),
            ("lossprobe watch --port 65536", false),
            ("lossprobe watch --agent http://localhost:1", false),
            ("lossprobe capture", true),
            ("lossprobe capture -w - --reason ip4_* --interface eth0 --count 5 --duration 30s --socket /tmp/x", true),
            ("lossprobe capture --write x.pcapng --kept --count 5", true),
            ("lossprobe capture --kept --duration 1s", false),
            ("lossprobe capture --count 0", false),
            ("lossprobe capture x.pcapng", false),
            ("lossprobe explain netfilter_drop", true),
            ("lossprobe explain --list", true),
            ("lossprobe explain --list drops --output json", true),
            ("lossprobe explain --list everything", false),
            ("lossprobe explain netfilter_drop --list", false),
            ("lossprobe explain", true),
            ("lossprobe analyze x.pcap", true),
            (
                "lossprobe analyze - --vantage 10.0.0.0/8 --vantage 02:00:00:00:00:01 --top 0 --events --output json",
                true,
            ),
            ("lossprobe analyze", false),
            ("lossprobe analyze x.pcap y.pcap", false),
            ("lossprobe analyze x.pcap --vantage eth0", false),
            ("lossprobe analyze x.pcap --top 10001", false),
            ("lossprobe incidents", true),
            ("lossprobe incidents 2024 --output json --socket /tmp/x", true),
            ("lossprobe incidents --state-dir /tmp --socket /tmp/x", false),
            ("lossprobe report", true),
            ("lossprobe report 2024 --format html -o x.html --state-dir /tmp", true),
            ("lossprobe report --format pdf", false),
            ("lossprobe agent --history 5 --keep-incidents 3 --keep-mib 10", true),
            ("lossprobe agent --history 0", false),
            ("lossprobe internal metrics-table", true),
            ("lossprobe", false),
        ] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).is_ok(), accepted, "{line}");
        }
    }
}
