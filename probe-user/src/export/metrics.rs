//! The metric contract: every name, type, unit, label and help text, in one list. The exposition and the README's table
//! are both derived from [`METRICS`]; a metric is one entry here.
//!
//! Nothing is kept between scrapes: a scrape reads a [`Snapshot`] and writes it down. What could not be looked at is
//! absent, never 0. Addresses, ports, MACs and flows are never labels.

use std::{collections::BTreeMap, fmt, fmt::Write as _, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, LabelSetEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{
    format::{Format, to_text},
    samples,
};
use crate::{
    detect::verdict::Name,
    snapshot::{IncidentCount, Snapshot, State},
};

/// What a metric's value does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the agent runs; series that become equal are added.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Always 1; the labels are the information. A gauge in text format 0.0.4.
    Info,
}

impl Kind {
    /// What the name of every sample of this kind ends with.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Gauge => "",
            Self::Info => "_info",
        }
    }

    const fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Info => MetricType::Info,
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name of its samples, in full.
    pub name: &'static str,
    /// What its value does.
    pub kind: Kind,
    /// What is counted, `""` where the name says it all. It stands in the name, before the kind's suffix.
    pub unit: &'static str,
    /// Names of the labels, in the order of the values that `samples` gives.
    pub labels: &'static [&'static str],
    /// One or two sentences.
    pub help: &'static str,
    /// Takes its samples from a snapshot.
    samples: for<'s> fn(&'s Snapshot, &mut Samples<'s>),
}

/// The series of one metric by label values, sorted; no two are equal.
pub(super) struct Samples<'s> {
    kind: Kind,
    series: BTreeMap<Vec<&'s str>, Value>,
}

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Whole(u64),
    Ratio(f64),
}

impl<'s> Samples<'s> {
    /// Adds one sample. Equal series are merged: names that are not UTF-8 may look alike.
    pub(super) fn add<const N: usize>(&mut self, labels: [&'s str; N], value: u64) {
        self.put(labels.to_vec(), Value::Whole(value));
    }

    /// Adds one sample of a gauge that is a ratio.
    pub(super) fn add_ratio<const N: usize>(&mut self, labels: [&'s str; N], value: f64) {
        self.put(labels.to_vec(), Value::Ratio(value));
    }

    fn put(&mut self, labels: Vec<&'s str>, value: Value) {
        let merged = match (self.kind, self.series.get(&labels), value) {
            (Kind::Counter, Some(Value::Whole(sum)), Value::Whole(value)) => Value::Whole(sum.wrapping_add(value)),
            (_, Some(Value::Whole(other)), Value::Whole(value)) => Value::Whole(value.max(*other)),
            (_, Some(Value::Ratio(other)), Value::Ratio(value)) => Value::Ratio(value.max(*other)),
            (_, _, value) => value,
        };
        self.series.insert(labels, merged);
    }
}

macro_rules! once_per_interface {
    ($what:literal) => {
        concat!(
            $what,
            " Counted once per interface passed; for node totals select role=\"uplink\" through \
             lossprobe_interface_info."
        )
    };
}

/// Every metric, in the order of the exposition.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "lossprobe_build_info",
        kind: Kind::Info,
        unit: "",
        labels: &["version", "arch"],
        help: "The running lossprobe.",
        samples: |_, to| to.add([env!("CARGO_PKG_VERSION"), std::env::consts::ARCH], 1),
    },
    Metric {
        name: "lossprobe_interface_info",
        kind: Kind::Info,
        unit: "",
        labels: &["interface", "kind", "role", "master", "lower", "driver", "alias"],
        help: "A selected interface; role is uplink, port, internal or tunnel, alias is its IFLA_IFALIAS. Ports of one \
               bridge are one, BRIDGE/ports of kind ports, unless --ports says otherwise.",
        samples: samples::interface_info,
    },
    Metric {
        name: "lossprobe_aggregated_ports",
        kind: Kind::Gauge,
        unit: "",
        labels: &["interface"],
        help: "Ports that are in BRIDGE/ports now; the sums of those that have left stay in it.",
        samples: samples::aggregated_ports,
    },
    Metric {
        name: "lossprobe_frames_total",
        kind: Kind::Counter,
        unit: "frames",
        labels: &["interface", "direction"],
        help: once_per_interface!("Wire segments (a GSO packet counts as its segments)."),
        samples: samples::frames,
    },
    Metric {
        name: "lossprobe_bytes_total",
        kind: Kind::Counter,
        unit: "bytes",
        labels: &["interface", "direction"],
        help: once_per_interface!(
            "Bytes as on the wire: from the MAC header, stripped VLAN tags included, without FCS."
        ),
        samples: samples::bytes,
    },
    Metric {
        name: "lossprobe_malformed_frames_total",
        kind: Kind::Counter,
        unit: "frames",
        labels: &["interface", "direction", "reason", "severity"],
        help: once_per_interface!("Frames that contradict themselves, by their gravest and outermost finding."),
        samples: samples::malformed,
    },
    Metric {
        name: "lossprobe_l4_checksums_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["interface", "result"],
        help: "Transport checksums (TCP, UDP, ICMP) of packets that came in at a track point: good and bad were looked at \
               here, hardware by the network card or left for it to finish, gro by the kernel, budget by nobody (no budget left, or UDP without one).",
        samples: samples::checksums,
    },
    Metric {
        name: "lossprobe_dropped_packets_total",
        kind: Kind::Counter,
        unit: "packets",
        labels: &["interface", "reason", "class", "netns"],
        help: "Packets that the kernel dropped, in wire segments. The reason is the running kernel's own name and not \
               stable: alert on class. Interfaces are named for the agent's own network namespace (netns=\"own\").",
        samples: samples::dropped,
    },
    Metric {
        name: "lossprobe_xdp_failed_packets_total",
        kind: Kind::Counter,
        unit: "packets",
        labels: &["interface", "cause"],
        help: "Frames that XDP programs, whoever has loaded them, wanted to go somewhere and that were lost: exceptions by action, redirect errors, what a devmap's target, the device itself or another CPU did not take. interface=\"\" for cpumap and other network namespaces. XDP_DROP, a program's own will, is not visible here.",
        samples: samples::xdp_failed,
    },
    Metric {
        name: "lossprobe_nic_dropped_packets_total",
        kind: Kind::Counter,
        unit: "packets",
        labels: &["interface", "direction", "cause"],
        help: "Good packets that a device dropped, as it counts them, from one source for each cause; an XDP program's \
               drops are cause xdp_drop, a provider's allowances provider_limit. Absent where it cannot be observed.",
        samples: samples::nic_dropped,
    },
    Metric {
        name: "lossprobe_nic_errors_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["interface", "direction", "cause"],
        help: "Packets that a device lost because something was wrong with them or with the link, from one source for \
               each cause. Absent where it cannot be observed.",
        samples: samples::nic_errors,
    },
    Metric {
        name: "lossprobe_qdisc_dropped_packets_total",
        kind: Kind::Counter,
        unit: "packets",
        labels: &["interface", "kind"],
        help: "Packets that queueing disciplines dropped, a GSO packet being one; what a root repeats of its leaves is \
               left out, and kind is `other` for what is not the kernel's own (a BPF program). The kernel has mostly \
               dropped them with a reason, too: do not add.",
        samples: samples::qdisc_dropped,
    },
    Metric {
        name: "lossprobe_softnet_dropped_packets_total",
        kind: Kind::Counter,
        unit: "packets",
        labels: &[],
        help: "Packets for which a CPU's input queue had no room, of all network namespaces.",
        samples: samples::softnet_dropped,
    },
    Metric {
        name: "lossprobe_softnet_squeezed_total",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Rounds in which a CPU left received packets waiting, for want of time or budget.",
        samples: samples::softnet_squeezed,
    },
    Metric {
        name: "lossprobe_protocol_errors_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["protocol", "cause"],
        help: "Errors that the kernel's protocols count (MIB) in this network namespace, one event under one cause. The \
               kernel has mostly dropped the packet with a reason, too: do not add.",
        samples: samples::protocol_errors,
    },
    Metric {
        name: "lossprobe_tcp_sent_segments_total",
        kind: Kind::Counter,
        unit: "segments",
        labels: &[],
        help: "TCP segments sent by this network namespace's own sockets, since the agent's start; those that only repeat data are not among them, repeated SYN-ACKs are.",
        samples: |snapshot, to| {
            if let Some(segments) = snapshot.tcp.sent_segments {
                to.add([], segments);
            }
        },
    },
    Metric {
        name: "lossprobe_tcp_retransmitted_segments_total",
        kind: Kind::Counter,
        unit: "segments",
        labels: &["interface", "type"],
        help: "TCP segments retransmitted by this network namespace's own sockets, by the interface of their route (interface=\"\" for most SYN-ACKs) and by occasion; type is fast, timeout, tail_probe, syn, synack or unknown.",
        samples: samples::retransmitted,
    },
    Metric {
        name: "lossprobe_wire_tcp_segments_total",
        kind: Kind::Counter,
        unit: "segments",
        labels: &["interface", "direction"],
        help: once_per_interface!(
            "TCP segments of connections that are followed, whoever's they are. Track points only."
        ),
        samples: samples::wire::segments,
    },
    Metric {
        name: "lossprobe_wire_tcp_events_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["interface", "direction", "event"],
        help: once_per_interface!(
            "What followed TCP segments say of those before them, in wire segments; `lossprobe explain EVENT` says what each means."
        ),
        samples: samples::wire::events,
    },
    Metric {
        name: "lossprobe_path_lost_segments_total",
        kind: Kind::Counter,
        unit: "segments",
        labels: &["interface", "side"],
        help: "TCP segments of followed connections that were lost, by side of this interface: network_in before its ingress, network_out after its egress, inside on this host's side; what this host itself has dropped is taken off. Two seconds late.",
        samples: samples::wire::lost,
    },
    Metric {
        name: "lossprobe_path_loss_ratio",
        kind: Kind::Gauge,
        unit: "ratio",
        labels: &["interface", "side"],
        help: "Share of followed TCP segments lost on this side in the last 10 s; absent if nothing has passed.",
        samples: samples::wire::loss_ratio,
    },
    Metric {
        name: "lossprobe_judged_ratio",
        kind: Kind::Gauge,
        unit: "ratio",
        labels: &["interface"],
        help: "Share of all frames of the last 10 s whose TCP connections were followed: how much of the traffic path loss can speak of.",
        samples: samples::wire::judged,
    },
    Metric {
        name: "lossprobe_flow_quality_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["cause"],
        help: "How often following connections saw less than there was, by cause.",
        samples: |snapshot, to| {
            snapshot.probe.flow_quality.iter().for_each(|(cause, count)| to.add([cause], *count));
        },
    },
    Metric {
        name: "lossprobe_hook_coverage_ratio",
        kind: Kind::Gauge,
        unit: "ratio",
        labels: &["interface", "direction"],
        help: "Segments at the hook for each packet that an uplink's device has counted, over 10 s; below 1 frames pass \
               by (hardware offload, SR-IOV, AF_XDP). Only where the driver counts wire frames and enough passes.",
        samples: samples::coverage,
    },
    Metric {
        name: "lossprobe_paused",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "1 while nothing is counted because of `lossprobe pause` or `lossprobe detach`, else 0.",
        samples: |snapshot, to| to.add([], u64::from(snapshot.state != State::Running)),
    },
    Metric {
        name: "lossprobe_attached",
        kind: Kind::Gauge,
        unit: "",
        labels: &["interface", "hook", "mode", "position"],
        help: "1 for every hook that is attached, how, and where among the hook's programs; of BRIDGE/ports, the number of ports.",
        samples: samples::attached,
    },
    Metric {
        name: "lossprobe_refused_interfaces",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Selected interfaces that are not watched as asked: no counter is free, or a hook is missing. `lossprobe stats` \
               says which and why.",
        samples: |snapshot, to| {
            let refused = snapshot.interfaces.iter().filter(|interface| !interface.refused.is_empty());
            to.add([], refused.count() as u64);
        },
    },
    Metric {
        name: "lossprobe_feature_available",
        kind: Kind::Gauge,
        unit: "",
        labels: &["feature"],
        help: "Whether this kernel gives a feature: 1 yes, 0 no.",
        samples: samples::features,
    },
    Metric {
        name: "lossprobe_map_entries",
        kind: Kind::Gauge,
        unit: "",
        labels: &["map"],
        help: "Entries in use of a bounded map.",
        samples: |snapshot, to| snapshot.probe.maps.iter().for_each(|map| to.add([&map.name], map.entries)),
    },
    Metric {
        name: "lossprobe_map_capacity",
        kind: Kind::Gauge,
        unit: "",
        labels: &["map"],
        help: "Entries that a bounded map can hold.",
        samples: |snapshot, to| snapshot.probe.maps.iter().for_each(|map| to.add([&map.name], map.capacity)),
    },
    Metric {
        name: "lossprobe_map_update_failed_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["map", "cause"],
        help: "Counts that were lost because a kernel map took no more; of map senders only whose frames they were.",
        samples: |snapshot, to| {
            snapshot.probe.map_update_failed.iter().for_each(|lost| to.add([&lost.map, &lost.cause], lost.count));
        },
    },
    Metric {
        name: "lossprobe_program_missed_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["program"],
        help: "Runs of a program that the kernel skipped because it was already running on that CPU.",
        samples: |snapshot, to| {
            snapshot.probe.program_missed.iter().for_each(|(program, runs)| to.add([program], *runs));
        },
    },
    Metric {
        name: "lossprobe_drop_members_total",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Drop events that were members of a packet already counted, and so were not counted again.",
        samples: |snapshot, to| to.add([], snapshot.probe.drop_members),
    },
    Metric {
        name: "lossprobe_drop_storm_packets_total",
        kind: Kind::Counter,
        unit: "packets",
        labels: &[],
        help: "Dropped packets, in wire segments, that came faster than 100,000 a second on one CPU: counted by reason, \
               their interface is that of a sample of one in 64.",
        samples: |snapshot, to| to.add([], snapshot.probe.drop_storm_packets),
    },
    Metric {
        name: "lossprobe_drop_storm_waiting_packets",
        kind: Kind::Gauge,
        unit: "packets",
        labels: &[],
        help: "Packets of a drop storm that are not in lossprobe_dropped_packets_total yet: the next drop for the same \
               reason on the same CPU brings them.",
        samples: |snapshot, to| to.add([], snapshot.probe.drop_storm_waiting_packets),
    },
    Metric {
        name: "lossprobe_uncounted_seconds_total",
        kind: Kind::Counter,
        unit: "seconds",
        labels: &[],
        help: "Time in which nothing was counted because the agent stood still for more than 10 s.",
        samples: |snapshot, to| to.add([], snapshot.probe.uncounted_ms / 1000),
    },
    Metric {
        name: "lossprobe_evidence_lost_total",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Malformed frames that were to be kept as evidence and found no room, or could not be copied. They are \
               counted.",
        samples: |snapshot, to| to.add([], snapshot.probe.evidence_lost),
    },
    Metric {
        name: "lossprobe_verdict",
        kind: Kind::Gauge,
        unit: "",
        labels: &["verdict"],
        help: "Whose fault it is: 1 for the verdict of the last second, 0 for the others; none if nothing is wrong.",
        samples: |snapshot, to| {
            if let Some(judgement) = &snapshot.judgement {
                Name::ALL.iter().for_each(|name| to.add([name.id()], u64::from(judgement.verdict == name.id())));
            }
        },
    },
    Metric {
        name: "lossprobe_incident_active",
        kind: Kind::Gauge,
        unit: "",
        labels: &["verdict"],
        help: "Incidents that are not over, by verdict; unknown while nobody is named.",
        samples: |snapshot, to| by_verdict(snapshot, to, |count| count.active),
    },
    Metric {
        name: "lossprobe_incidents_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["verdict"],
        help: "Incidents by the first verdict that named somebody, unknown if none did until they were over.",
        samples: |snapshot, to| by_verdict(snapshot, to, |count| count.total),
    },
    Metric {
        name: "lossprobe_detector_alarmed",
        kind: Kind::Gauge,
        unit: "",
        labels: &["unit", "kind"],
        help: "Whether more is lost, or comes malformed, than usual; unit is a track group or an uplink.",
        samples: |snapshot, to| {
            let detectors = snapshot.judgement.iter().flat_map(|judgement| &judgement.detectors);
            detectors.for_each(|detector| to.add([&detector.unit, &detector.kind], detector.alarmed.into()));
        },
    },
    Metric {
        name: "lossprobe_push_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["result"],
        help: "Changes of incidents that were told to the receiver of --push-url: delivered, rejected (it does not want \
               them), dropped (too many waited); retried are attempts that failed and were followed by another.",
        samples: |snapshot, to| {
            let pushed = snapshot.judgement.iter().filter_map(|judgement| judgement.pushed.as_ref()).flatten();
            pushed.for_each(|(result, changes)| to.add([result], *changes));
        },
    },
    Metric {
        name: "lossprobe_incident_write_failed_total",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Times that an incident or its bundle could not be written to the state folder; absent without --state-dir.",
        samples: |snapshot, to| {
            let failed = snapshot.judgement.iter().filter_map(|judgement| judgement.not_written);
            failed.for_each(|times| to.add([], times));
        },
    },
    Metric {
        name: "lossprobe_web_config_current",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "1 while the HTTP address is protected as the file of --web-config and those it names say now, 0 where something is \
               wrong with them and an earlier state is served; absent without such a file.",
        samples: |snapshot, to| {
            let current = snapshot.probe.web_config_current;
            current.into_iter().for_each(|current| to.add([], u64::from(current)));
        },
    },
    Metric {
        name: "lossprobe_collect_errors_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["source"],
        help: "Reads of a source that failed.",
        samples: |snapshot, to| {
            snapshot.probe.collect_errors.iter().for_each(|(source, errors)| to.add([source], *errors));
        },
    },
];

fn by_verdict<'s>(snapshot: &Snapshot, to: &mut Samples<'s>, of: impl Fn(&IncidentCount) -> u64) {
    if let Some(judgement) = &snapshot.judgement {
        for name in Name::ALL.iter().filter(|name| **name != Name::None) {
            to.add([name.id()], judgement.incidents.get(name.id()).map_or(0, &of));
        }
    }
}

/// The README's table of metrics: Markdown, one row per metric, ends with a newline.
#[must_use]
pub fn table() -> String {
    let mut table = String::from("| metric | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n");
    for metric in METRICS {
        let Metric { name, unit, help, .. } = metric;
        let or_dash = |text: String| if text.is_empty() { "–".to_owned() } else { text };
        let (unit, labels) = (or_dash((*unit).to_owned()), or_dash(metric.labels.join(", ")));
        let (kind, help) = (metric.kind.metric_type(), help.replace('|', "\\|"));
        // Writing to a String cannot fail.
        let _infallible = writeln!(table, "| `{name}` | {} | {unit} | {labels} | {help} |", kind.as_str());
    }
    table
}

/// Writes the exposition of a snapshot that is obtained for each scrape.
#[derive(Debug)]
pub struct Exporter {
    registry: Registry,
}

impl Exporter {
    /// An exporter of what `read` gives at the time of a scrape.
    pub fn new(read: impl Fn() -> Arc<Snapshot> + Send + Sync + 'static) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(SnapshotCollector { read }));
        Self { registry }
    }

    /// Reads a snapshot and writes it in `format`.
    ///
    /// # Errors
    /// When a value cannot be formatted, which no value of [`METRICS`] is.
    pub fn expose(&self, format: Format) -> Result<String, fmt::Error> {
        let mut exposition = String::new();
        text::encode(&mut exposition, &self.registry)?;
        Ok(match format {
            Format::OpenMetrics => exposition,
            Format::Text => to_text(&exposition),
        })
    }
}

struct SnapshotCollector<R> {
    read: R,
}

impl<R> fmt::Debug for SnapshotCollector<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SnapshotCollector")
    }
}

impl<R: Fn() -> Arc<Snapshot> + Send + Sync + 'static> Collector for SnapshotCollector<R> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = (self.read)();
        METRICS.iter().try_for_each(|metric| metric.encode(&snapshot, &mut encoder))
    }
}

impl Metric {
    /// The name as prometheus-client wants it: it appends `_` and the unit, then the kind's suffix.
    fn stem(&self) -> &'static str {
        let family = self.name.strip_suffix(self.kind.suffix()).unwrap_or(self.name);
        let stem = family.strip_suffix(self.unit).unwrap_or(family);
        stem.strip_suffix('_').unwrap_or(stem)
    }

    fn read<'s>(&self, snapshot: &'s Snapshot) -> BTreeMap<Vec<&'s str>, Value> {
        let mut samples = Samples { kind: self.kind, series: BTreeMap::new() };
        (self.samples)(snapshot, &mut samples);
        samples.series
    }

    fn encode(&self, snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let series = self.read(snapshot);
        if series.is_empty() {
            return Ok(());
        }
        let unit = (!self.unit.is_empty()).then(|| Unit::Other(self.unit.to_owned()));
        // prometheus-client writes help as it is; OpenMetrics wants these escaped (backslashes and newlines do not
        // occur, a test says).
        let help = self.help.replace('"', "\\\"");
        let mut family = encoder.encode_descriptor(self.stem(), &help, unit.as_ref(), self.kind.metric_type())?;
        for (values, value) in &series {
            let labels = Labels { names: self.labels, values };
            match (self.kind, value) {
                (Kind::Info, _) => family.encode_info(&labels)?,
                // The library's empty family would write empty braces.
                (Kind::Counter, Value::Whole(value)) if values.is_empty() => {
                    family.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                }
                (Kind::Counter, Value::Whole(value)) => {
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                }
                (Kind::Gauge, Value::Whole(value)) if values.is_empty() => family.encode_gauge(value)?,
                (Kind::Gauge, Value::Whole(value)) => family.encode_family(&labels)?.encode_gauge(value)?,
                (Kind::Counter | Kind::Gauge, Value::Ratio(value)) => {
                    family.encode_family(&labels)?.encode_gauge(value)?;
                }
            }
        }
        Ok(())
    }
}

struct Labels<'s> {
    names: &'static [&'static str],
    values: &'s [&'s str],
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.names.iter().zip(self.values).try_for_each(|(name, value)| (*name, *value).encode(encoder.encode_label()))
    }
}

#[cfg(test)]
mod tests;
