//! What would be attached to each interface, and what is there already. Only questions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use nix::libc;
use probe_ebpf::{abi::Direction, classify::LinkKind};
use serde::Serialize;

use super::Status;
use crate::{
    collect::links::Link,
    config::Config,
    kernel::{
        attach::{self, Target},
        foreign, query,
        slots::Slots,
        xdp,
    },
    topology::Place,
    tunnel,
};

/// Said where foreign programs have numbers only.
pub(super) const NO_NAMES: &str = "names not visible without CAP_SYS_ADMIN";
/// Programs that one hook takes (`BPF_MPROG_MAX`).
const MOST_PROGRAMS: usize = 64;

/// What would become of one interface.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Name.
    pub name: String,
    /// Index in this network namespace.
    pub ifindex: u32,
    /// As in `lossprobe_interface_info`.
    pub kind: String,
    /// `uplink`, `port`, `internal` or `tunnel`.
    pub role: String,
    /// Why it has this role.
    pub role_reason: String,
    /// Track group, `""` if it is no track point.
    pub track: String,
    /// How its frames are read: `ethernet`, `network`, `network_ingress`, or `opaque` (counted, not looked into).
    pub link: String,
    /// The gravest of what follows.
    pub status: Status,
    /// Frames that come in.
    pub ingress: Hook,
    /// Frames that go out.
    pub egress: Hook,
    /// XDP programs, which see frames before the probe does; `null` where the kernel does not tell.
    pub xdp: Option<Vec<Program>>,
    /// What is worth knowing, for people.
    pub notes: Vec<String>,
}

/// One hook of one interface.
#[derive(Clone, Debug, Serialize)]
pub struct Hook {
    /// `xdp`, `tcx`, `clsact`, `none` (not possible) or `unknown` (not allowed to look).
    pub plan: String,
    /// Why it is not what was to be expected.
    pub why: String,
    /// Programs on the tcx hook, in their order; `null` where there is no tcx, or it may not be looked at.
    pub programs: Option<Vec<Program>>,
    /// Filters on the qdisc in clsact's place; `null` where the kernel does not tell.
    pub filters: Option<BTreeSet<String>>,
}

/// A program that is there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Number, as in `bpftool prog`.
    pub id: u32,
    /// Name; `null` where it is not visible.
    pub name: Option<String>,
}

impl Plan {
    fn take_place(&mut self, place: &Place) {
        self.role = place.role.id().to_owned();
        self.role_reason.clone_from(&place.reason);
        self.track.clone_from(&place.track);
        let (_, left_out) = tunnel::ports(place.tunnels.iter().copied());
        self.notes.extend(place.tunnels.iter().map(|tunnel| match left_out.contains(tunnel) {
            false => format!("carries {tunnel}: what is inside is judged"),
            true => format!("carries {tunnel}: not looked into, two ports of a kind are enough"),
        }));
    }

    /// Native XDP was asked for; the driver, which has the last word, is not asked.
    fn ask_for_xdp(&mut self, link: &Link) {
        if !matches!(&*self.ingress.plan, "tcx" | "clsact") {
            return;
        }
        let (name, ifindex, kind) = (link.name.as_str(), link.ifindex, link.kind.as_str());
        match xdp::refusal(Target { name, ifindex, kind, link_kind: link.link_kind(), xdp: true }) {
            Ok(()) => {
                self.ingress.plan = "xdp".to_owned();
                self.notes.push("native XDP at ingress if the driver takes it, else tc".to_owned());
            }
            Err(error) => {
                self.status = self.status.max(Status::Warning);
                self.notes.push(format!("no native XDP, tc ingress instead: {error:#}"));
            }
        }
    }

    /// Whether frames are counted in at least one direction.
    pub(super) fn is_counted(&self) -> bool {
        [&self.ingress, &self.egress].iter().any(|hook| matches!(&*hook.plan, "xdp" | "tcx" | "clsact"))
    }
}

/// Whether the kernel has tcx, as far as its answers tell, and in words.
pub(super) fn has_tcx(plans: &[Plan]) -> (Option<bool>, &'static str) {
    let mut hooks = plans.iter().flat_map(|plan| [&plan.ingress, &plan.egress]);
    if hooks.clone().any(|hook| hook.programs.is_some()) {
        (Some(true), "the kernel answers for its hooks")
    } else if hooks.any(|hook| hook.plan == "clsact" || hook.why == INGRESS_QDISC) {
        (Some(false), "the kernel does not know its hooks")
    } else {
        (None, "not looked: see the interfaces")
    }
}

/// A plan for each interface, as an agent with so many counters would make it.
pub(super) fn of(links: &[&Link], places: &BTreeMap<u32, Place>, config: &Config, max_interfaces: u32) -> Vec<Plan> {
    let names = foreign::program_names();
    let xdp = foreign::xdp_programs();
    let mut slots = Slots::new(max_interfaces);
    let plan = |link: &&Link| {
        let slot = slots.take(link.ifindex, Instant::now()).map(drop).map_err(|error| error.to_string());
        let slot = slot.and_then(|()| attach::check_name(link.ifindex).map_err(|error| error.to_string()));
        let xdp = xdp.as_ref().ok().map(|all| all.get(&link.ifindex).cloned().unwrap_or_default());
        let mut plan = one(link, &slot, xdp, names.as_ref());
        plan.take_place(&places.get(&link.ifindex).cloned().unwrap_or_default());
        if config.wants_xdp(&link.name) {
            plan.ask_for_xdp(link);
        }
        plan
    };
    links.iter().map(plan).collect()
}

type Names = BTreeMap<u32, String>;

fn one(link: &Link, slot: &Result<(), String>, xdp: Option<BTreeSet<u32>>, names: Option<&Names>) -> Plan {
    let hook = |direction| match slot {
        Ok(()) => hook(link.ifindex, direction, names),
        Err(refused) => Hook { plan: "none".to_owned(), why: refused.clone(), programs: None, filters: None },
    };
    let (ingress, egress) = (hook(Direction::Ingress), hook(Direction::Egress));
    let xdp = xdp.map(|ids| programs(ids, names));
    let mut notes = Vec::new();
    let mut status = Status::Ok;
    for (direction, hook) in [("ingress", &ingress), ("egress", &egress)] {
        match &*hook.plan {
            "none" => {
                status = status.max(Status::Warning);
                notes.push(format!("{direction} is not counted: {}", hook.why));
            }
            "unknown" => {
                status = status.max(Status::Unknown);
                notes.push(format!("{direction}: {}", hook.why));
            }
            _ => {}
        }
        match &hook.programs {
            Some(others) if !others.is_empty() => {
                notes.push(format!("on tcx {direction}: {}", list(others)));
            }
            _ => {}
        }
        match &hook.filters {
            Some(filters) if !filters.is_empty() => {
                let filters: Vec<_> = filters.iter().map(String::as_str).collect();
                notes.push(format!("tc filters at {direction}: {}", filters.join(", ")));
            }
            _ => {}
        }
    }
    match &xdp {
        Some(xdp) if !xdp.is_empty() => {
            status = status.max(Status::Warning);
            notes.push(format!("XDP program {}: frames that it drops or redirects are not seen", list(xdp)));
        }
        Some(_) => {}
        None => notes.push("the kernel does not tell whether an XDP program is attached".to_owned()),
    }
    if egress.plan == "clsact" && foreign::qdisc_in_place(link.ifindex).is_ok_and(|found| found.is_none()) {
        notes.push("to add the clsact qdisc, and to take it away at the end, stops its queues for a moment".to_owned());
        notes.push(
            "while it is there, nobody can add an ingress qdisc; --exclude keeps it off the interface".to_owned(),
        );
    }
    if link.link_kind() == LinkKind::Opaque {
        notes.push("frames are counted, not looked into: no parser for this kind of link".to_owned());
    }
    if [&ingress, &egress].iter().all(|hook| hook.plan == "none") {
        status = Status::Failure;
    }
    Plan {
        name: link.name.clone(),
        ifindex: link.ifindex,
        kind: link.kind.clone(),
        role: String::new(),
        role_reason: String::new(),
        track: String::new(),
        link: link.link_kind().id().to_owned(),
        status,
        ingress,
        egress,
        xdp,
        notes,
    }
}

const INGRESS_QDISC: &str = "an ingress qdisc stands where clsact would be";

fn hook(ifindex: u32, direction: Direction, names: Option<&Names>) -> Hook {
    let filters = || foreign::filters(ifindex, direction).ok();
    let hook = |plan: &str, why: String, programs| Hook { plan: plan.to_owned(), why, programs, filters: filters() };
    match query::tcx_programs(ifindex, direction) {
        Ok(ids) if ids.len() >= MOST_PROGRAMS => {
            let why = format!("{MOST_PROGRAMS} programs are on the hook, and no more fit");
            hook("none", why, Some(programs(ids, names)))
        }
        Ok(ids) => hook("tcx", String::new(), Some(programs(ids, names))),
        // The kernel does not know the attach type: no tcx.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => match foreign::qdisc_in_place(ifindex) {
            Ok(qdisc) => match qdisc.as_deref() {
                None | Some("clsact") => hook("clsact", String::new(), None),
                Some("ingress") if direction == Direction::Ingress => hook("clsact", String::new(), None),
                Some("ingress") => hook("none", INGRESS_QDISC.to_owned(), None),
                Some(other) => hook("none", format!("a qdisc of kind {other} stands where clsact would be"), None),
            },
            Err(error) => hook("unknown", format!("cannot ask for qdiscs: {error:#}"), None),
        },
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            hook("unknown", "not allowed to ask for programs: needs CAP_NET_ADMIN and CAP_BPF".to_owned(), None)
        }
        Err(error) => hook("unknown", format!("cannot ask for programs: {error}"), None),
    }
}

fn programs(ids: impl IntoIterator<Item = u32>, names: Option<&Names>) -> Vec<Program> {
    let program = |id| Program { id, name: names.and_then(|names| names.get(&id).cloned()) };
    ids.into_iter().map(program).collect()
}

fn list(programs: &[Program]) -> String {
    let one = |program: &Program| match &program.name {
        Some(name) => format!("{} ({name})", program.id),
        None => program.id.to_string(),
    };
    let listed = programs.iter().map(one).collect::<Vec<_>>().join(", ");
    let hidden = programs.iter().any(|program| program.name.is_none());
    if hidden { format!("{listed} ({NO_NAMES})") } else { listed }
}
