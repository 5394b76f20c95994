//! `lossprobe stats --losses`: everything that was lost in this host, by place, each packet once; beside it what others
//! have counted of the same, and the two laws per device.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::stats::{Listing, Page, Style, dropped_on, grouped, printable};
use crate::{
    conservation::{Law, laws},
    export::samples::{DropKey, drops},
    snapshot::{DeviceCounter, Interface, SCHEMA, Snapshot, State, XdpFailed},
};

/// The document of `--output json`.
#[derive(Debug, PartialEq, Serialize)]
pub struct Losses<'s> {
    /// Version of the form, as a snapshot's.
    schema: u32,
    /// Time of the snapshot.
    time: &'s str,
    /// What was lost was lost in so many milliseconds.
    uptime_ms: u64,
    /// Whether anything is being counted.
    state: State,
    /// Packets lost: noise, what somebody decided to drop and what has no known reason left out.
    lost_packets: u64,
    /// Packets that a rule or a program dropped as it was told to: no loss if the decision is right.
    policy_packets: u64,
    /// Packets dropped for a reason that the kernel does not name, or whose class is not known.
    unknown_packets: u64,
    /// By place and cause, the most first, noise last.
    lost: Vec<Loss<'s>>,
    /// What others have counted, mostly of the same packets: not to be added.
    witnesses: Vec<Loss<'s>>,
    /// Both laws of each interface.
    laws: Vec<Law>,
    /// Sum of what the laws leave unexplained, whatever its sign; `None` where no law holds.
    unexplained_packets: Option<u64>,
    /// By interface, or `host`: what neither kernel nor driver tell of.
    not_observable: BTreeMap<&'s str, &'s [String]>,
}

/// One row.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Loss<'s> {
    /// `kernel`, `device`, `xdp`, `queue`, `cpu`, `protocol` or `switch`.
    place: &'static str,
    /// `""` where it belongs to none; of other namespaces as in `netns`.
    interface: &'s str,
    /// `own` or `other`.
    netns: &'s str,
    /// Reason, cause, or kind of discipline.
    cause: String,
    /// `""` of a witness that does not tell.
    class: &'s str,
    packets: u64,
}

impl<'s> Losses<'s> {
    /// Puts together what a snapshot has.
    #[must_use]
    pub fn of(snapshot: &'s Snapshot) -> Self {
        let (mut lost, mut witnesses) = (Vec::new(), Vec::new());
        let drops = drops(snapshot);
        for (key, packets) in &drops {
            let packets = *packets;
            let row = |packets| Loss {
                place: "kernel",
                interface: key.interface,
                netns: key.netns,
                cause: key.reason.to_owned(),
                class: key.class,
                packets,
            };
            // By the function, where that is known: what else the kernel drops there without a reason is no one's decision.
            let is_told = key.class == "policy" || !drops.contains_key(&DropKey { class: "policy", ..*key });
            let named = if is_told { packets.min(named_by_driver(snapshot, key)) } else { 0 };
            lost.push(row(packets - named));
            witnesses.push(row(named));
        }
        for interface in &snapshot.interfaces {
            for counter in &interface.device.counters {
                let to = if is_dropped_too(interface, counter) { &mut witnesses } else { &mut lost };
                to.push(Loss {
                    class: &counter.class,
                    ..own(
                        "device",
                        &interface.name,
                        format!("{}/{}", counter.direction, counter.cause),
                        counter.packets,
                    )
                });
            }
            for qdisc in &interface.qdiscs {
                witnesses.push(own("queue", &interface.name, qdisc.kind.clone(), qdisc.dropped_packets));
            }
        }
        for failed in &snapshot.xdp_failed {
            let to = if is_told_by_another(snapshot, failed) { &mut witnesses } else { &mut lost };
            let class = class_of_xdp(&failed.cause);
            to.push(Loss { class, ..own("xdp", &failed.interface, failed.cause.clone(), failed.packets) });
        }
        if let Some(softnet) = &snapshot.softnet {
            witnesses.push(own("cpu", "", "backlog".to_owned(), softnet.dropped_packets));
        }
        for error in &snapshot.protocols {
            witnesses.push(own("protocol", "", format!("{}/{}", error.protocol, error.cause), error.count));
        }
        for trap in &snapshot.host.devlink_traps {
            let dropped = trap.dropped_packets.unwrap_or(0);
            witnesses.push(own("switch", &trap.device, trap.name.clone(), dropped));
        }
        for rows in [&mut lost, &mut witnesses] {
            rows.retain(|row| row.packets > 0);
            rows.sort_by(|one, other| {
                (one.class == "noise", other.packets, one.interface, &one.cause).cmp(&(
                    other.class == "noise",
                    one.packets,
                    other.interface,
                    &other.cause,
                ))
            });
        }
        let laws = laws(snapshot);
        let remainders: Vec<u64> = laws.iter().filter_map(|law| law.remainder_packets).map(i64::unsigned_abs).collect();
        let of_devices = snapshot.interfaces.iter().map(|interface| (interface.name.as_str(), &interface.device));
        let blind = of_devices.map(|(name, device)| (name, device.not_observable.as_slice()));
        let blind = blind.chain([("host", snapshot.host.not_observable.as_slice())]);
        Self {
            schema: SCHEMA,
            time: &snapshot.time,
            uptime_ms: snapshot.uptime_ms,
            state: snapshot.state,
            lost_packets: of_class(&lost, |class| !matches!(class, "noise" | "policy" | "unknown")),
            policy_packets: of_class(&lost, |class| class == "policy"),
            unknown_packets: of_class(&lost, |class| class == "unknown"),
            lost,
            witnesses,
            laws,
            unexplained_packets: (!remainders.is_empty()).then(|| remainders.iter().sum()),
            not_observable: blind.filter(|(_, causes)| !causes.is_empty()).collect(),
        }
    }

    /// One line of JSON without a newline.
    #[must_use]
    pub fn json(&self) -> String {
        // Only maps with keys that are no strings fail, and there are none.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Tables for people; ends with a newline.
    #[must_use]
    pub fn table(&self, width: Option<u16>, colour: bool) -> String {
        let page = Page { width, colour };
        let mut text = String::new();
        if self.lost.is_empty() {
            text.push_str("Nothing was lost.\n");
        } else {
            page.table(&mut text, rows(&self.lost, "lost in"));
            let figures = [self.lost_packets, self.policy_packets, self.unknown_packets].map(grouped);
            let [lost, policy, unknown] = figures;
            let _infallible = writeln!(
                text,
                "\n{lost} packets lost in this host; besides, {policy} dropped by policy and {unknown} of unknown class; noise \
                 left out."
            );
        }
        if !self.witnesses.is_empty() {
            text.push_str("\nCounted beside it, mostly of the same packets:\n\n");
            page.table(&mut text, rows(&self.witnesses, "counted by"));
        }
        let holds: Vec<&Law> = self.laws.iter().filter(|law| law.remainder_packets.is_some()).collect();
        if !holds.is_empty() {
            text.push('\n');
            page.table(&mut text, balance(&holds));
        }
        let mut notes = String::new();
        if self.state != State::Running {
            let _infallible = writeln!(notes, "The agent is {}: nothing is counted.", self.state.id());
        }
        for (reason, interfaces) in self.without_law() {
            let _infallible = writeln!(notes, "Device and hook cannot be compared ({reason}): {interfaces}.");
        }
        for (causes, interfaces) in self.blind() {
            let _infallible = writeln!(notes, "Not observable on {interfaces}: {causes}.");
        }
        if !notes.is_empty() {
            text.push('\n');
            text.push_str(&notes);
        }
        text
    }

    /// Why no law holds, and for which interfaces.
    fn without_law(&self) -> BTreeMap<String, String> {
        let mut by_reason = BTreeMap::<String, Vec<&str>>::new();
        for law in self.laws.iter().filter(|law| law.remainder_packets.is_none()) {
            let names = by_reason.entry(printable(&law.not_observable)).or_default();
            if names.last() != Some(&law.interface.as_str()) {
                names.push(&law.interface);
            }
        }
        by_reason.into_iter().map(|(reason, names)| (reason, some_of(&names))).collect()
    }

    /// What is not observable, and on which interfaces.
    fn blind(&self) -> BTreeMap<String, String> {
        let mut by_causes = BTreeMap::<String, Vec<&str>>::new();
        for (name, causes) in &self.not_observable {
            by_causes.entry(printable(&causes.join(", "))).or_default().push(name);
        }
        by_causes.into_iter().map(|(causes, names)| (causes, some_of(&names))).collect()
    }
}

/// Names that a line shows.
const NAMES_SHOWN: usize = 5;

fn some_of(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(NAMES_SHOWN).map(|name| printable(name)).collect();
    match names.len().checked_sub(NAMES_SHOWN) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}

fn of_class(rows: &[Loss<'_>], wanted: impl Fn(&str) -> bool) -> u64 {
    rows.iter().filter(|row| wanted(row.class)).map(|row| row.packets).sum()
}

fn own<'s>(place: &'static str, interface: &'s str, cause: String, packets: u64) -> Loss<'s> {
    Loss { place, interface, netns: "own", cause, class: "", packets }
}

/// How many of these drops have no reason because the driver has one: a veth frees the packet that an XDP program drops
/// without saying why (seen on 6.18: 200 of 200 are `not_specified`), and counts it among its own. A frame that another
/// device has redirected to it is no packet of the kernel's, so its own count is the greater one.
fn named_by_driver(snapshot: &Snapshot, drop: &DropKey<'_>) -> u64 {
    if drop.netns != "own" || drop.reason != "not_specified" {
        return 0;
    }
    let mut interfaces = snapshot.interfaces.iter();
    let veth = interfaces.find(|interface| interface.name == drop.interface && interface.driver == "veth");
    let counters = veth.into_iter().flat_map(|veth| &veth.device.counters);
    counters.filter(|counter| counter.cause == "xdp_drop").map(|counter| counter.packets).sum()
}

/// Whether the kernel has dropped these packets with a reason, too: then they are among its drops.
fn is_dropped_too(interface: &Interface, counter: &DeviceCounter) -> bool {
    match (counter.direction.as_str(), counter.cause.as_str()) {
        // In netif_receive_skb; packets that the driver was handed.
        (_, "nohandler" | "otherhost") | ("egress", "fifo" | "no_buffer" | "length") => true,
        // Where there is no ring, there was a packet of the kernel's.
        (_, "no_buffer" | "frame") => matches!(interface.driver.as_str(), "veth" | "tun"),
        _lost_elsewhere => false,
    }
}

/// The class of a failure of XDP: a queue was full, or something is set up so that it cannot work.
pub(super) fn class_of_xdp(cause: &str) -> &'static str {
    if matches!(cause, "devmap" | "tx" | "cpumap") { "capacity" } else { "config" }
}

/// Whether frames that XDP lost are counted under another name: drivers count what a program aborts among its drops, and
/// some say of one frame that its redirect failed both as an error and as an exception.
fn is_told_by_another(snapshot: &Snapshot, failed: &XdpFailed) -> bool {
    let of_interface = |interface: &&Interface| interface.name == failed.interface;
    let counts_drops =
        |interface: &Interface| interface.device.counters.iter().any(|counter| counter.cause == "xdp_drop");
    match failed.cause.as_str() {
        "exception_aborted" | "exception_drop" | "exception_unknown" => {
            snapshot.interfaces.iter().find(of_interface).is_some_and(counts_drops)
        }
        "exception_redirect" => {
            snapshot.xdp_failed.iter().any(|other| other.interface == failed.interface && other.cause == "redirect")
        }
        _other => false,
    }
}

fn rows(losses: &[Loss<'_>], place: &'static str) -> Listing {
    let row = |loss: &Loss<'_>| {
        let style = match loss.class {
            "noise" => Style::Dim,
            "capacity" | "malformed" => Style::Error,
            _other => Style::Plain,
        };
        let interface =
            if loss.place == "kernel" { dropped_on(loss.netns, loss.interface) } else { or_dash(loss.interface) };
        let cells = [loss.place, interface, &loss.cause, or_dash(loss.class)].map(printable);
        (style, cells.into_iter().chain([grouped(loss.packets)]).collect())
    };
    Listing {
        header: vec![place, "interface", "cause", "class", "packets"],
        texts: 4,
        rows: losses.iter().map(row).collect(),
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "–" } else { text }
}

fn balance(laws: &[&Law]) -> Listing {
    let row = |law: &&Law| {
        let remainder = law.remainder_packets.unwrap_or(0);
        let sign = if remainder < 0 { "-" } else { "" };
        let figure = |count: Option<u64>| count.map_or_else(|| "–".to_owned(), grouped);
        let explained = law.explained.iter().map(|part| part.packets).sum();
        let cells = vec![
            printable(&law.interface),
            law.direction.to_owned(),
            figure(law.device_packets),
            figure(law.hook_packets),
            grouped(explained),
            format!("{sign}{}", grouped(remainder.unsigned_abs())),
        ];
        (if remainder == 0 { Style::Plain } else { Style::Error }, cells)
    };
    let header = vec!["interface", "direction", "by the device", "at the hook", "explained", "remainder"];
    Listing { header, texts: 2, rows: laws.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Balance, Device, Drop, Explained, ProtocolError, Qdisc, Side, Softnet};

    fn snapshot() -> Snapshot {
        let drop = |netns: &str, interface: &str, reason: &str, class: &str, packets| Drop {
            netns: netns.into(),
            interface: interface.into(),
            reason: reason.into(),
            class: class.into(),
            packets,
            ..Drop::default()
        };
        let lost = |direction: &str, cause: &str, class: &str, packets| DeviceCounter {
            direction: direction.into(),
            cause: cause.into(),
            class: class.into(),
            packets,
            ..DeviceCounter::default()
        };
        let side = Side {
            device_packets: 10_000,
            hook_packets: 9_000,
            slack_packets: 5,
            explained: vec![Explained { what: "xdp_drop".into(), packets: 990 }],
        };
        Snapshot {
            time: "2026-01-02T03:04:05Z".into(),
            uptime_ms: 60_000,
            drops: vec![
                drop("own", "eth0", "no_socket", "noise", 5000),
                drop("own", "eth0", "qdisc_drop", "capacity", 40),
                drop("other", "x", "netfilter_drop", "policy", 2),
                drop("own", "", "not_specified", "unknown", 4),
                drop("own", "veth1", "not_specified", "policy", 9),
                drop("own", "veth1", "not_specified", "unknown", 2),
            ],
            interfaces: vec![
                Interface {
                    name: "eth0".into(),
                    driver: "igb".into(),
                    device: Device {
                        counters: vec![
                            lost("ingress", "missed", "capacity", 1_234),
                            lost("ingress", "crc", "malformed", 0),
                            lost("ingress", "otherhost", "noise", 7),
                        ],
                        not_observable: vec!["ingress/xdp_drop".into()],
                        ..Device::default()
                    },
                    qdiscs: vec![Qdisc { kind: "fq_codel".into(), dropped_packets: 30, ..Qdisc::default() }],
                    balance: Balance { ingress: Some(side), egress: None, not_observable: "one direction only".into() },
                    ..Interface::default()
                },
                Interface {
                    name: "veth1".into(),
                    driver: "veth".into(),
                    device: Device {
                        counters: vec![
                            lost("ingress", "xdp_drop", "policy", 9),
                            lost("ingress", "no_buffer", "capacity", 3),
                        ],
                        ..Device::default()
                    },
                    balance: Balance {
                        not_observable: "veth counts packets of any size as one".into(),
                        ..Balance::default()
                    },
                    ..Interface::default()
                },
            ],
            xdp_failed: [("veth1", "exception_aborted", 8), ("veth1", "redirect", 5), ("eth0", "exception_aborted", 1)]
                .map(|(interface, cause, packets)| XdpFailed {
                    interface: interface.into(),
                    cause: cause.into(),
                    packets,
                    ..XdpFailed::default()
                })
                .into(),
            softnet: Some(Softnet { dropped_packets: 6, ..Softnet::default() }),
            protocols: vec![
                ProtocolError { protocol: "udp".into(), cause: "no_port".into(), count: 5000 },
                ProtocolError { protocol: "udp".into(), cause: "memory".into(), count: 0 },
            ],
            ..Snapshot::default()
        }
    }

    #[test]
    fn each_packet_once() {
        let snapshot = snapshot();
        let losses = Losses::of(&snapshot);
        let names = |rows: &[Loss<'_>]| -> Vec<String> {
            rows.iter().map(|row| format!("{} {} {} {}", row.place, row.interface, row.cause, row.packets)).collect()
        };
        assert_eq!(
            names(&losses.lost),
            [
                "device eth0 ingress/missed 1234",
                "kernel eth0 qdisc_drop 40",
                "device veth1 ingress/xdp_drop 9",
                "xdp veth1 redirect 5",
                "kernel  not_specified 4",
                "kernel  netfilter_drop 2",
                "kernel veth1 not_specified 2",
                "xdp eth0 exception_aborted 1",
                "kernel eth0 no_socket 5000",
            ]
        );
        assert_eq!((losses.lost_packets, losses.policy_packets, losses.unknown_packets), (1_280, 11, 6));
        assert_eq!(
            names(&losses.witnesses),
            [
                "protocol  udp/no_port 5000",
                "queue eth0 fq_codel 30",
                "kernel veth1 not_specified 9",
                "xdp veth1 exception_aborted 8",
                "cpu  backlog 6",
                "device veth1 ingress/no_buffer 3",
                "device eth0 ingress/otherhost 7",
            ]
        );
        assert_eq!(losses.unexplained_packets, Some(10));
        let json: serde_json::Value = serde_json::from_str(&losses.json()).unwrap();
        assert_eq!(
            (&json["lost_packets"], &json["policy_packets"], &json["laws"][0]["remainder_packets"]),
            (&1_280.into(), &11.into(), &10.into())
        );
        assert_eq!(json["not_observable"]["eth0"][0], "ingress/xdp_drop");
    }

    /// More than the kernel has dropped there without a reason: frames that another device has redirected.
    #[test]
    fn what_a_veth_drops_for_a_program_is_told_by_the_function_where_that_is_known() {
        let mut snapshot = snapshot();
        snapshot.interfaces[1].device.counters[0].packets = 100;
        let of_kernel = |snapshot: &Snapshot| -> (u64, u64) {
            let losses = Losses::of(snapshot);
            let of = |rows: &[Loss<'_>]| {
                let here = rows.iter().filter(|row| (row.place, row.interface) == ("kernel", "veth1"));
                here.map(|row| row.packets).sum()
            };
            (of(&losses.lost), of(&losses.witnesses))
        };
        assert_eq!(of_kernel(&snapshot), (2, 9));
        for drop in snapshot.drops.iter_mut().filter(|drop| drop.interface == "veth1") {
            drop.class = "unknown".into();
        }
        assert_eq!(of_kernel(&snapshot), (0, 11));
    }

    #[test]
    fn table() {
        let expected = "\
lost in  interface           cause              class     packets
------------------------------------------------------------------
device   eth0                ingress/missed     capacity    1,234
kernel   eth0                qdisc_drop         capacity       40
device   veth1               ingress/xdp_drop   policy          9
xdp      veth1               redirect           config          5
kernel   (none)              not_specified      unknown         4
kernel   (other namespaces)  netfilter_drop     policy          2
kernel   veth1               not_specified      unknown         2
xdp      eth0                exception_aborted  config          1
kernel   eth0                no_socket          noise       5,000

1,280 packets lost in this host; besides, 11 dropped by policy and 6 of unknown class; noise left out.

Counted beside it, mostly of the same packets:

counted by  interface  cause              class     packets
------------------------------------------------------------
protocol    –          udp/no_port        –           5,000
queue       eth0       fq_codel           –              30
kernel      veth1      not_specified      policy          9
xdp         veth1      exception_aborted  config          8
cpu         –          backlog            –               6
device      veth1      ingress/no_buffer  capacity        3
device      eth0       ingress/otherhost  noise           7

interface  direction  by the device  at the hook  explained  remainder
-----------------------------------------------------------------------
eth0       ingress           10,000        9,000        990         10

Device and hook cannot be compared (one direction only): eth0.
Device and hook cannot be compared (veth counts packets of any size as one): veth1.
Not observable on eth0: ingress/xdp_drop.
";
        assert_eq!(Losses::of(&snapshot()).table(None, false), expected);
    }

    #[test]
    fn nothing_to_tell() {
        let nothing = Snapshot::default();
        let losses = Losses::of(&nothing);
        assert_eq!(losses.table(Some(80), true), "Nothing was lost.\n");
        assert_eq!((losses.lost_packets, losses.unexplained_packets), (0, None), "no law, no zero");
        let names: Vec<String> = (0..7).map(|number| format!("tap{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(some_of(&names), "tap0, tap1, tap2, tap3, tap4 and 2 more");
        assert_eq!(some_of(&names[..5]), "tap0, tap1, tap2, tap3, tap4");
    }
}
