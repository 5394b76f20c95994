//! What was made, what was counted, what the witness says: one row for each mechanism.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::LazyLock,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use probe_user::kernel::types::KernelTypes;
use tests::{
    agent::Agent,
    frames::Frame,
    run::kernel_version,
    topology::Routed,
    wait::{eventually, settled},
    wire::PacketSocket,
};

use crate::suite::{
    counts::{SOON, lost_nothing, missed_retransmits},
    tables::Ledger,
};

/// Nothing more comes when nothing has come for this long.
const REST: Duration = Duration::from_millis(100);

/// One way of losing packets.
#[derive(Clone, Copy)]
pub(super) struct Mechanism {
    /// What it is called in the table.
    pub(super) name: &'static str,
    /// Where the drops belong; the protocol of a [`PROTOCOL`] error.
    pub(super) interface: &'static str,
    /// The kernel's name, or the probe's where it is no drop. A kernel whose type information does not have it counts them
    /// under another one.
    pub(super) reason: &'static str,
    /// By the table of classes; [`XDP`], [`RETRANSMIT`] or [`PROTOCOL`] where it is no drop.
    pub(super) class: &'static str,
    /// How they are made.
    pub(super) way: Way,
    /// The version that first says so, where the name is older.
    since: (u32, u32),
}

/// Instead of a class: what an XDP program lost without wanting to (`lossprobe_xdp_failed_packets_total`, by cause).
pub(super) const XDP: &str = "XDP failure";
/// Instead of a class: what a socket has sent again (`lossprobe_tcp_retransmitted_segments_total`, by type).
pub(super) const RETRANSMIT: &str = "retransmit";
/// Instead of a class: what a protocol of the kernel's has counted (`lossprobe_protocol_errors_total`, by protocol and
/// cause).
pub(super) const PROTOCOL: &str = "protocol error";
/// What stands for a metric of its own instead of a class.
pub(super) const NO_CLASSES: [&str; 3] = [XDP, RETRANSMIT, PROTOCOL];

/// How packets are lost.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// [`COUNT`] copies of a frame from the client, and who else counts them.
    Frame(fn() -> Frame, Witness),
    /// The same while the router's table `ip t` consists of these chains, whose counter `seen` is the witness.
    Filtered(&'static str, fn() -> Frame),
    /// By a function that calls [`Scene::lose`], and the name of its witness.
    Own(fn(&Scene<'_>) -> Result<Loss>, &'static str),
}

/// A counter of the router's.
#[derive(Clone, Copy)]
pub(super) enum Witness {
    /// Group and name in `/proc/net/snmp` or `netstat`.
    Mib(&'static str, &'static str),
    /// Packets that a device has received.
    Received(&'static str),
    /// Packets that a device has received and given up.
    Dropped(&'static str),
}

/// Packets of a mechanism, where it has no reason for another number.
pub(super) const COUNT: u64 = 100;

/// One row of a list.
pub(super) const fn row(
    name: &'static str,
    (interface, reason, class): (&'static str, &'static str, &'static str),
    way: Way,
) -> Mechanism {
    Mechanism { name, interface, reason, class, way, since: (0, 0) }
}

impl Mechanism {
    /// Below this version the kernel has the name, for others, and not yet for this.
    pub(super) const fn since(self, major: u32, minor: u32) -> Self {
        Self { since: (major, minor), ..self }
    }

    /// Whether its drops may be called so: by their own name where the kernel has that; by any other where it has others
    /// only; where it has none at all by their own, if the function that dropped them told, or not at all.
    pub(super) fn is_right(&self, reason: &str, class: &str) -> bool {
        let named = reason == self.reason && class == self.class;
        if NO_CLASSES.contains(&self.class) {
            return named;
        }
        let is_early = || kernel_version().is_ok_and(|(version, _)| version < self.since);
        match (NAMES.is_empty(), NAMES.contains(self.reason)) {
            _ if named => true,
            (true, _) => reason == "not_specified",
            (false, true) => reason == "not_specified" && is_early(),
            (false, false) => true,
        }
    }

    /// Who else counts them, for the table.
    pub(super) fn witness(&self) -> String {
        match self.way {
            Way::Frame(_, Witness::Mib(group, name)) => format!("{group} {name}"),
            Way::Frame(_, Witness::Received(interface)) => format!("rx_packets of {interface}"),
            Way::Frame(_, Witness::Dropped(interface)) => format!("rx_dropped of {interface}"),
            Way::Filtered(..) => "nft counter".to_owned(),
            Way::Own(_, witness) => witness.to_owned(),
        }
    }

    /// Whether a count stands in the metric that has this mechanism's; one packet may stand in several of them.
    fn is_of_its_metric(&self, class: &str) -> bool {
        NO_CLASSES.into_iter().all(|other| (class == other) == (self.class == other))
    }

    fn make(&self, scene: &Scene<'_>) -> Result<Loss> {
        match self.way {
            Way::Frame(frame, witness) => scene.lose(COUNT, || scene.read(witness), || scene.send(&frame())),
            Way::Filtered(chains, frame) => {
                let filter = scene.net.router.filter("ip t", chains)?;
                scene.lose(COUNT, || filter.packets("seen"), || scene.send(&frame()))
            }
            Way::Own(make, _) => make(scene),
        }
    }
}

/// Where a mechanism runs.
pub(super) struct Scene<'a> {
    pub(super) net: &'a Routed,
    pub(super) agent: &'a Agent<'a>,
    pub(super) mechanism: &'a Mechanism,
}

/// Interface, reason and class.
type Key = (String, String, String);

/// What a mechanism did, by three counts.
pub(super) struct Loss {
    made: u64,
    witnessed: u64,
    found: BTreeMap<Key, u64>,
    /// See [`missed_retransmits`].
    missed: u64,
}

impl Scene<'_> {
    /// Runs `traffic`, of which exactly `made` packets are lost; `witness` counts them, too.
    pub(super) fn lose(
        &self,
        made: u64,
        witness: impl Fn() -> Result<u64>,
        traffic: impl FnOnce() -> Result<()>,
    ) -> Result<Loss> {
        let before = settled(SOON, REST, || self.losses()).context("before")?;
        let (witnessed_before, missed_before) = (witness()?, missed_retransmits(self.agent)?);
        traffic()?;
        let since = || Ok(difference(&before, &self.losses()?));
        // What has not come by then is a difference in the row.
        let _late = eventually(SOON, "all are counted", || {
            let counted = since()?.values().sum::<u64>();
            let missed = missed_retransmits(self.agent)? - missed_before;
            ensure!(counted + missed >= made, "{counted} of {made}, {missed} missed");
            Ok(())
        });
        let found = settled(SOON, REST, since).context("afterwards")?;
        let missed = missed_retransmits(self.agent)? - missed_before;
        Ok(Loss { made, witnessed: witness()? - witnessed_before, found, missed })
    }

    /// Those of the mechanism's metric.
    fn losses(&self) -> Result<BTreeMap<Key, u64>> {
        let mut losses = losses(self.agent)?;
        losses.retain(|(_, _, class), _| self.mechanism.is_of_its_metric(class));
        Ok(losses)
    }

    /// Sends [`COUNT`] copies of a frame from the client to the router.
    pub(super) fn send(&self, frame: &Frame) -> Result<()> {
        PacketSocket::sender(&self.net.client, "c")?.send_copies(&frame.bytes(), COUNT as usize)
    }

    /// The value of a counter of the router's.
    pub(super) fn read(&self, witness: Witness) -> Result<u64> {
        let router = &self.net.router;
        match witness {
            Witness::Mib(group, name) => router.mib(group, name),
            Witness::Received(interface) => Ok(router.device_counters(interface)?.received),
            Witness::Dropped(interface) => Ok(router.device_counters(interface)?.receive_drops),
        }
    }
}

/// All losses of the agent's namespace but those of the scrapes themselves, which are TCP on loopback.
pub(super) fn losses(agent: &Agent<'_>) -> Result<BTreeMap<Key, u64>> {
    let metrics = agent.metrics()?;
    let drops = metrics.select("lossprobe_dropped_packets_total", &[("netns", "own")]);
    let drops = drops.map(|sample| (sample, "reason", sample.labels.get("class").map_or("", String::as_str)));
    // Without an interface it is another namespace's.
    let failed = metrics.select("lossprobe_xdp_failed_packets_total", &[]);
    let failed = failed.filter(|sample| sample.labels.get("interface").is_some_and(|name| !name.is_empty()));
    let again = metrics.select("lossprobe_tcp_retransmitted_segments_total", &[]);
    let errors = metrics.select("lossprobe_protocol_errors_total", &[]);
    let others = failed.map(|sample| (sample, "cause", XDP)).chain(again.map(|sample| (sample, "type", RETRANSMIT)));
    let others = others.chain(errors.map(|sample| (sample, "cause", PROTOCOL)));
    let mut losses = BTreeMap::new();
    for (sample, name, class) in drops.chain(others) {
        let label = |name: &str| sample.labels.get(name).cloned().unwrap_or_default();
        let place = label(if class == PROTOCOL { "protocol" } else { "interface" });
        if place != "lo" {
            *losses.entry((place, label(name), class.to_owned())).or_default() += sample.value as u64;
        }
    }
    Ok(losses)
}

fn difference(before: &BTreeMap<Key, u64>, after: &BTreeMap<Key, u64>) -> BTreeMap<Key, u64> {
    let grown = after.iter().map(|(key, count)| (key.clone(), count - before.get(key).unwrap_or(&0)));
    grown.filter(|(_, count)| *count != 0).collect()
}

/// Runs all, the next one also where one fails, and says in the end which did.
pub(super) fn judge(net: &Routed, agent: &Agent<'_>, mechanisms: &[Mechanism]) -> Result<()> {
    let mut failures = String::new();
    let mut lines = Vec::new();
    for mechanism in mechanisms {
        let judged = mechanism.make(&Scene { net, agent, mechanism }).and_then(|loss| {
            let wrong = contradiction(mechanism, &loss);
            lines.push(line(mechanism, &loss, wrong.is_none()));
            wrong.map_or(Ok(()), |wrong| Err(anyhow::Error::msg(wrong)))
        });
        if let Err(error) = judged {
            let _infallible = writeln!(failures, "{}: {error:#}", mechanism.name);
        }
    }
    note(lines);
    ensure!(failures.is_empty(), "{failures}");
    lost_nothing(agent)
}

/// Names of drop reasons that the running kernel's type information has.
static NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let types = KernelTypes::running();
    types.map(|types| types.reasons.names().map(str::to_owned).collect()).unwrap_or_default()
});

/// Where the counts differ.
fn contradiction(mechanism: &Mechanism, loss: &Loss) -> Option<String> {
    let Loss { made, witnessed, found, missed } = loss;
    // Any namespace's: of ours at most so many.
    let counted: u64 = found.values().sum();
    let is_all = counted == *made || (mechanism.class == RETRANSMIT && counted < *made && counted + missed >= *made);
    let right =
        |(interface, reason, class): &Key| interface == mechanism.interface && mechanism.is_right(reason, class);
    if found.keys().all(right) && is_all && witnessed == made {
        return None;
    }
    let (Mechanism { interface, reason, class, .. }, witness) = (mechanism, mechanism.witness());
    Some(format!(
        "{made} {reason} ({class}) on {interface} made, {witnessed} by {witness}, counted {found:?}, {missed} missed"
    ))
}

/// A line of the table.
pub(super) type Line = [String; 8];

static LINES: Ledger<8> =
    Ledger::new(["mechanism", "made", "counted", "name", "class", "interface", "witness", ""], &[1, 2]);

fn line(mechanism: &Mechanism, loss: &Loss, equal: bool) -> Line {
    let of = |part: fn(&Key) -> &String| {
        let all: BTreeSet<&str> = loss.found.keys().map(|key| part(key).as_str()).collect();
        all.into_iter().collect::<Vec<_>>().join(" ")
    };
    [
        mechanism.name.to_owned(),
        loss.made.to_string(),
        loss.found.values().sum::<u64>().to_string(),
        of(|(_, reason, _)| reason),
        of(|(_, _, class)| class),
        of(|(interface, ..)| interface),
        format!("{} by {}", loss.witnessed, mechanism.witness()),
        if equal { "equal" } else { "DIFFERENT" }.to_owned(),
    ]
}

/// Adds lines to the table.
pub(super) fn note(lines: impl IntoIterator<Item = Line>) {
    LINES.note(lines);
}

/// All lines so far as a table; empty when no mechanism has run.
pub(crate) fn table() -> String {
    LINES.text()
}
