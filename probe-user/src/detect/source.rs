//! What of a unit's losses can be seen from here. A loss that this host could have made unseen must not be the network's, so
//! each kind of device has sources that a verdict requires before it names anybody outside; one table says which. What only
//! makes a verdict poorer is a blind spot. Deliberately absent: how much was lost.

use std::collections::{BTreeMap, BTreeSet};

use super::{hint::hints, second::Unit, verdict::Name};
use crate::{
    classes::Class,
    collect::causes::is_repeater,
    conservation::is_beyond_hooks,
    snapshot::{Drop, Interface, Snapshot, State},
    topology::Role,
};

/// Hook segments for each of the device's packets, below which too much passes the hooks by.
const LEAST_COVERAGE: f64 = 0.98;
/// Of all frames, below which a verdict rests on a small part of the traffic.
const SMALL_PART: f64 = 0.1;
/// Texts of one unit at most; a node of many interfaces would repeat itself.
const MOST_TEXTS: usize = 32;
/// The variants of the program that sees what the kernel drops begin like this.
const DROP_PROGRAM: &str = "lossprobe_drop";

/// What a device is to whoever asks what it may lose unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DeviceKind {
    /// A card of this machine's own, or one that nothing is known of.
    Physical = 0,
    /// A card that a hypervisor has made: what is below it belongs to somebody else.
    Virtual = 1,
    /// One end of a pair of the kernel's own making, or a program's (tap): it has neither cable nor ring.
    Pair = 2,
    /// It bundles others, whose losses count as its own.
    Bundle = 3,
    /// It lies on others, whose losses are not known here.
    Stacked = 4,
}

/// Drivers of cards that a hypervisor has made, and of virtual functions. `e1000`, `8139cp` and `pcnet32` are the cards that
/// emulators show. Drivers that a card and its virtual functions share (`mlx5_core`, `bnxt_en`) are not told apart.
const VIRTUAL: [&str; 18] = [
    "8139cp",
    "e1000",
    "ena",
    "fm10kvf",
    "gve",
    "hv_netvsc",
    "i40evf",
    "iavf",
    "idpf",
    "igbvf",
    "ixgbevf",
    "mana",
    "pcnet32",
    "vif",
    "virtio_net",
    "vmxnet3",
    "xen-netfront",
    "xen_netfront",
];
/// Kinds without a device below them in this namespace.
const PAIRS: [&str; 10] =
    ["dummy", "ifb", "ipvlan", "ipvtap", "loopback", "macvlan", "macvtap", "netkit", "tun", "veth"];
impl DeviceKind {
    /// What this interface is.
    #[must_use]
    pub fn of(interface: &Interface) -> Self {
        let (kind, driver) = (interface.kind.as_str(), interface.driver.as_str());
        if is_repeater(kind) {
            Self::Bundle
        } else if !interface.lower.is_empty() {
            Self::Stacked
        } else if PAIRS.contains(&kind) {
            Self::Pair
        } else if VIRTUAL.contains(&driver) {
            Self::Virtual
        } else if matches!(kind, "ethernet" | "other" | "") {
            Self::Physical
        } else {
            // A bridge, a switch, a tunnel.
            Self::Stacked
        }
    }
}

/// How much a kind of device needs a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Required,
    Optional,
    /// Such a device has nothing of the sort.
    Nothing,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// The place where packets are followed.
    Point,
    /// Each device there, or that it bundles.
    Device,
}

/// A source, and who needs it.
struct Source {
    /// What it shows, in words that follow "not seen:".
    shows: &'static str,
    of: Of,
    /// By [`DeviceKind`] `Physical`, `Virtual` and `Pair`.
    need: [Need; 3],
    /// Verdicts that require it where it is required.
    verdicts: &'static [Name],
    is_seen: fn(&Sight<'_>) -> bool,
}

const R: Need = Need::Required;
const O: Need = Need::Optional;
const N: Need = Need::Nothing;

const WIRE: &[Name] = &[Name::NetworkIn, Name::NetworkOut, Name::Inside];
const CAME: &[Name] = &[Name::NetworkIn];
const ALL: &[Name] = &[Name::NetworkIn, Name::NetworkOut, Name::Inside, Name::NetworkMalformed];

/// The one table. Who adds a source adds a row, and a row to the tests.
const SOURCES: [Source; 20] = [
    Source {
        shows: "anything, while the agent is paused, detached or stands still",
        of: Of::Point,
        need: [R, R, R],
        verdicts: ALL,
        is_seen: |sight| sight.counts(),
    },
    Source {
        shows: "what comes in (no hook is attached)",
        of: Of::Point,
        need: [R, R, R],
        verdicts: ALL,
        is_seen: |sight| sight.both(|_, interface| has_hook(interface, &["tc_ingress", "xdp"])),
    },
    Source {
        shows: "what goes out (no hook is attached)",
        of: Of::Point,
        need: [R, R, R],
        verdicts: WIRE,
        is_seen: |sight| sight.both(|_, interface| has_hook(interface, &["tc_egress"])),
    },
    Source {
        shows: "what its frames contain (its kind of link is not known)",
        of: Of::Point,
        need: [R, R, R],
        verdicts: ALL,
        is_seen: |sight| sight.both(|_, interface| interface.link != "opaque"),
    },
    Source {
        shows: "its TCP connections (they are not followed)",
        of: Of::Point,
        need: [R, R, R],
        verdicts: WIRE,
        is_seen: |sight| sight.both(|_, interface| interface.wire.is_some()),
    },
    Source {
        shows: "what the kernel drops (tracepoint kfree_skb)",
        of: Of::Point,
        need: [R, R, R],
        verdicts: WIRE,
        is_seen: |sight| sight.both(|snapshot, _| has_feature(snapshot, "kfree_skb")),
    },
    Source {
        shows: "where the kernel drops (it tells neither reasons nor functions)",
        of: Of::Point,
        need: [R, R, R],
        verdicts: WIRE,
        is_seen: |sight| {
            sight.both(|snapshot, _| has_feature(snapshot, "drop_reasons") || has_feature(snapshot, "drop_functions"))
        },
    },
    Source {
        shows: "what passes the hooks by on the way in (offload to the card, SR-IOV, AF_XDP)",
        of: Of::Point,
        need: [R, R, R],
        verdicts: WIRE,
        is_seen: |sight| sight.is_covered(0),
    },
    Source {
        shows: "what passes the hooks by on the way out (offload to the card, SR-IOV, AF_XDP)",
        of: Of::Point,
        need: [R, R, R],
        verdicts: WIRE,
        is_seen: |sight| sight.is_covered(1),
    },
    Source {
        shows: "what the devices below it have lost",
        of: Of::Device,
        need: [R, R, R],
        verdicts: WIRE,
        is_seen: |sight| DeviceKind::of(sight.later.1) != DeviceKind::Stacked,
    },
    Source {
        shows: "what its receive ring had no room for (missed, fifo, no_buffer)",
        of: Of::Device,
        need: [R, O, N],
        verdicts: CAME,
        is_seen: |sight| ["missed", "fifo", "no_buffer"].iter().any(|cause| sight.has_counter(cause)),
    },
    Source {
        shows: "frames that arrived damaged (crc)",
        of: Of::Device,
        need: [R, N, N],
        verdicts: CAME,
        is_seen: |sight| sight.has_counter("crc"),
    },
    Source {
        shows: "what an XDP program that is not ours drops (its driver has no counter of it)",
        of: Of::Device,
        need: [R, R, R],
        verdicts: WIRE,
        is_seen: |sight| !sight.either(|interface| interface.device.foreign_xdp) || sight.has_counter("xdp_drop"),
    },
    Source {
        shows: "whether rules have been offloaded to the card, which may drop by them",
        of: Of::Device,
        need: [O, O, N],
        verdicts: WIRE,
        is_seen: |sight| {
            let coverage = sight.later.1.coverage;
            !sight.either(|interface| interface.device.offloads.iter().any(|name| name == "hw-tc-offload"))
                || (coverage.ingress.is_some() && coverage.egress.is_some())
        },
    },
    Source {
        shows: "what is lost below this machine's virtual network card",
        of: Of::Device,
        need: [N, O, N],
        verdicts: WIRE,
        is_seen: |_| false,
    },
    Source {
        shows: "the reasons of what the kernel drops",
        of: Of::Point,
        need: [O, O, O],
        verdicts: WIRE,
        is_seen: |sight| sight.both(|snapshot, _| has_feature(snapshot, "drop_reasons")),
    },
    Source {
        shows: "what queueing disciplines and the CPUs' input queues count (reading them fails)",
        of: Of::Point,
        need: [O, O, O],
        verdicts: WIRE,
        is_seen: |sight| !sight.fails("qdisc") && !sight.fails("softnet"),
    },
    Source {
        shows: "all interfaces of what was dropped: there were too many drops to look at each",
        of: Of::Point,
        need: [O, O, O],
        verdicts: WIRE,
        is_seen: |sight| !sight.grows(|snapshot| snapshot.probe.drop_storm_packets),
    },
    Source {
        shows: "all malformed frames by reason: the table of them is full",
        of: Of::Point,
        need: [O, O, O],
        verdicts: WIRE,
        is_seen: |sight| !sight.grows(|snapshot| failed(snapshot, &["malformed", "scratch"])),
    },
    Source {
        shows: "most of its traffic: under a tenth of its frames are of connections that are followed",
        of: Of::Point,
        need: [O, O, O],
        verdicts: WIRE,
        is_seen: |sight| {
            let judged = sight.later.1.wire.as_ref().and_then(|wire| wire.judged_ratio);
            judged.is_none_or(|judged| judged >= SMALL_PART)
        },
    },
];

fn has_hook(interface: &Interface, hooks: &[&str]) -> bool {
    interface.attached.iter().any(|attachment| hooks.contains(&attachment.hook.as_str()))
}

fn has_feature(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.probe.features.get(name).copied().unwrap_or(false)
}

/// Counts that these maps have lost.
fn failed(snapshot: &Snapshot, maps: &[&str]) -> u64 {
    let lost = snapshot.probe.map_update_failed.iter().filter(|failed| maps.contains(&failed.map.as_str()));
    lost.map(|failed| failed.count).sum()
}

/// Drops that nobody has counted: the map took no more, or the program was skipped.
fn uncounted_drops(snapshot: &Snapshot) -> u64 {
    let missed = snapshot.probe.program_missed.iter().filter(|(name, _)| name.starts_with(DROP_PROGRAM));
    failed(snapshot, &["drops"]) + missed.map(|(_, runs)| runs).sum::<u64>()
}

fn dropped_inside(snapshot: &Snapshot) -> u64 {
    let is_outer = |interface: &&Interface| !interface.track.is_empty() || interface.role == Role::Uplink.id();
    let outer = snapshot.interfaces.iter().filter(is_outer);
    let outer: BTreeSet<&str> = outer.flat_map(|interface| devices(snapshot, interface)).map(|of| &*of.name).collect();
    let is_inside = |drop: &&Drop| drop.netns == "own" && !outer.contains(&*drop.interface) && !is_beyond_hooks(drop);
    let drops = snapshot.drops.iter().filter(is_inside).filter(|drop| drop.class != Class::Noise.id());
    drops.map(|drop| drop.packets).sum()
}

/// One interface in two snapshots.
struct Sight<'s> {
    earlier: (&'s Snapshot, &'s Interface),
    later: (&'s Snapshot, &'s Interface),
}

impl Sight<'_> {
    fn both(&self, is_seen: impl Fn(&Snapshot, &Interface) -> bool) -> bool {
        is_seen(self.earlier.0, self.earlier.1) && is_seen(self.later.0, self.later.1)
    }

    fn either(&self, is_so: impl Fn(&Interface) -> bool) -> bool {
        is_so(self.earlier.1) || is_so(self.later.1)
    }

    fn grows(&self, total: impl Fn(&Snapshot) -> u64) -> bool {
        total(self.later.0) > total(self.earlier.0)
    }

    fn counts(&self) -> bool {
        self.both(|snapshot, _| snapshot.state == State::Running)
            && !self.grows(|snapshot| snapshot.probe.uncounted_ms)
            && !self.fails("maps")
    }

    /// Reading a source has failed in between: what it had shown stays, and says nothing.
    fn fails(&self, source: &str) -> bool {
        self.grows(|snapshot| snapshot.probe.collect_errors.get(source).copied().unwrap_or(0))
    }

    /// Whether the device tells of this cause at ingress.
    fn has_counter(&self, cause: &str) -> bool {
        let of = |interface: &Interface| {
            let counters = interface.device.counters.iter();
            let found = counters.filter(|counter| counter.direction == "ingress" && counter.cause == cause);
            let sources: Vec<_> = found.map(|counter| counter.source.as_str()).collect();
            !sources.is_empty()
                && sources.iter().all(|source| !self.fails(if *source == "stats64" { "device" } else { "ethtool" }))
        };
        of(self.earlier.1) && of(self.later.1)
    }

    /// Whether the hooks see what the device counts. What is known to have been lost in between is not missing.
    #[expect(clippy::cast_precision_loss, reason = "what passes in seconds is far below 2^53")]
    fn is_covered(&self, direction: usize) -> bool {
        let coverage = self.later.1.coverage;
        let Some(ratio) = [coverage.ingress, coverage.egress][direction] else { return true };
        if ratio >= LEAST_COVERAGE {
            return true;
        }
        let side = |interface: &Interface| {
            let side = [&interface.balance.ingress, &interface.balance.egress][direction].as_ref()?;
            let known: u64 = side.explained.iter().map(|part| part.packets).sum();
            // Going out, what is known to be lost is lost behind the hook.
            Some((side.device_packets, side.hook_packets + if direction == 0 { known } else { 0 }))
        };
        let (Some(before), Some(now)) = (side(self.earlier.1), side(self.later.1)) else { return false };
        let (device, seen) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
        seen as f64 >= LEAST_COVERAGE * device as f64
    }
}

/// What can be seen of one unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnitSources {
    /// Its interfaces, by name.
    pub interfaces: Vec<String>,
    /// What is required and not seen, by the verdicts that it makes unreachable.
    pub missing: BTreeMap<Name, Vec<String>>,
    /// What is not seen and changes nothing.
    pub blind_spots: Vec<String>,
    /// What else has happened, of its devices and of the host.
    pub hints: Vec<String>,
    /// An interface is a card that a hypervisor has made.
    pub is_virtual: bool,
    /// Every interface is one end of a pair of the kernel's own making.
    pub is_pair: bool,
    /// Share of all frames whose connections were followed, of the interface with the least.
    pub judged_ratio: Option<f64>,
}

/// What can be seen of every unit, between two snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// By unit: track groups, and interfaces that are uplinks.
    pub units: BTreeMap<Unit, UnitSources>,
    /// Drops that the probe itself has missed in that time: this host may have lost as many more.
    pub uncounted_drops: u64,
    /// What this host has dropped in that time on its own side of all units: of what guests and local senders had sent. At an
    /// uplink it looks like a loss inside.
    pub dropped_inside: u64,
}

impl Sources {
    /// As far as one snapshot tells.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        Self::between(snapshot, snapshot)
    }

    /// What was seen all the time from one snapshot to another.
    #[must_use]
    pub fn between(earlier: &Snapshot, later: &Snapshot) -> Self {
        let mut units = BTreeMap::<Unit, UnitSources>::new();
        let mut members = BTreeMap::<&str, Vec<&Interface>>::new();
        for interface in &later.interfaces {
            if !interface.track.is_empty() {
                members.entry(&interface.track).or_default().push(interface);
            }
        }
        let mut shared = BTreeMap::new();
        for (group, interfaces) in &members {
            let mut own = unit(earlier, later, interfaces);
            shared.insert(*group, own.missing.clone());
            own.must_lead_out(interfaces);
            units.insert(Unit::Group((*group).to_owned()), own);
        }
        for interface in later.interfaces.iter().filter(|interface| interface.role == Role::Uplink.id()) {
            let mut own = unit(earlier, later, &[interface]);
            // A connection may pass any interface of the group: what one does not see looks like a loss at the others.
            if let Some(missing) = shared.get(interface.track.as_str()) {
                own.missing.clone_from(missing);
            }
            units.insert(Unit::Interface(interface.name.clone()), own);
        }
        let grown = |of: fn(&Snapshot) -> u64| of(later).saturating_sub(of(earlier));
        Self { units, uncounted_drops: grown(uncounted_drops), dropped_inside: grown(dropped_inside) }
    }
}

fn unit(earlier: &Snapshot, later: &Snapshot, interfaces: &[&Interface]) -> UnitSources {
    let all: Vec<&Interface> = interfaces.iter().flat_map(|interface| devices(later, interface)).collect();
    let kinds = || all.iter().map(|device| DeviceKind::of(device));
    let judged = interfaces.iter().filter_map(|interface| interface.wire.as_ref()?.judged_ratio);
    let mut unit = UnitSources {
        interfaces: interfaces.iter().map(|interface| interface.name.clone()).collect(),
        is_virtual: kinds().any(|kind| kind == DeviceKind::Virtual),
        is_pair: kinds().all(|kind| kind == DeviceKind::Pair),
        judged_ratio: judged.min_by(f64::total_cmp),
        hints: hints(earlier, later, &all),
        ..UnitSources::default()
    };
    for interface in interfaces {
        unit.look(earlier, later, interface, Of::Point);
        let devices = devices(later, interface);
        if devices.is_empty() {
            unit.miss(ALL, &format!("{}: the devices that it bundles", interface.name));
        }
        devices.iter().for_each(|device| unit.look(earlier, later, device, Of::Device));
    }
    unit
}

/// Whose losses count as this interface's.
fn devices<'s>(snapshot: &'s Snapshot, interface: &'s Interface) -> Vec<&'s Interface> {
    if DeviceKind::of(interface) == DeviceKind::Bundle {
        snapshot.interfaces.iter().filter(|member| member.master == interface.name).collect()
    } else {
        vec![interface]
    }
}

impl UnitSources {
    /// Of a unit that is not known.
    #[must_use]
    pub fn nothing() -> Self {
        let mut nothing = Self::default();
        nothing.miss(ALL, "anything: this unit is not known here");
        nothing
    }

    fn look(&mut self, earlier: &Snapshot, later: &Snapshot, interface: &Interface, of: Of) {
        let Some(before) = earlier.interfaces.iter().find(|before| before.name == interface.name) else {
            return self.miss(ALL, &format!("{}: what it did before it came", interface.name));
        };
        let sight = Sight { earlier: (earlier, before), later: (later, interface) };
        let column = (DeviceKind::of(interface) as usize).min(DeviceKind::Pair as usize);
        for source in SOURCES.iter().filter(|source| source.of == of && !(source.is_seen)(&sight)) {
            let text = format!("{}: {}", interface.name, source.shows);
            match source.need[column] {
                Need::Required => self.miss(source.verdicts, &text),
                Need::Optional if self.blind_spots.len() < MOST_TEXTS => self.blind_spots.push(text),
                Need::Optional | Need::Nothing => {}
            }
        }
    }

    /// What is lost before it comes in from a guest is not lost in the network.
    fn must_lead_out(&mut self, interfaces: &[&Interface]) {
        for interface in interfaces.iter().filter(|interface| interface.role != Role::Uplink.id()) {
            let text =
                format!("{}: the network, for it leads to a guest or another device of this host", interface.name);
            self.miss(ALL, &text);
        }
    }

    fn miss(&mut self, verdicts: &[Name], text: &str) {
        for verdict in verdicts {
            let missing = self.missing.entry(*verdict).or_default();
            if missing.len() < MOST_TEXTS {
                missing.push(text.to_owned());
            }
        }
    }

    /// What is missing for this verdict.
    #[must_use]
    pub fn missing_for(&self, verdict: Name) -> &[String] {
        self.missing.get(&verdict).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
pub(super) mod tests;
