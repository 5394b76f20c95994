//! Causes of losses besides drop reasons, as `lossprobe stats --losses` names them.

use probe_ebpf::abi::Fault;

use super::{Advice, Explanation, NextStep};
use crate::{
    collect::{causes, conntrack, mib, neighbour, qdisc},
    inspect::losses::class_of_xdp,
    texts::cause,
};

/// One cause at one place.
pub(super) struct Known {
    /// As in the rows' column.
    pub(super) place: &'static str,
    /// As in the rows' column, but for devices without the direction.
    pub(super) name: String,
    class: &'static str,
    pub(super) meaning: &'static str,
    next_steps: Vec<NextStep>,
}

/// All, place by place.
pub(super) fn all() -> Vec<Known> {
    let devices = causes::Cause::ALL.into_iter().filter_map(|known| {
        let steps = [
            ("lossprobe stats --losses", "which interface, and whether the kernel counts them too"),
            ("ip -s -s link show dev DEV; ethtool -S DEV", "the device's own counters"),
            ("ethtool -g DEV; ethtool -l DEV", "its rings and queues"),
        ];
        Some(Known::new("device", known.id(), known.class(), cause::of_device(known.id())?, &steps))
    });
    let xdp = Fault::ALL.iter().filter_map(|fault| {
        let steps = [("lossprobe stats --losses", "at which interface"), ("bpftool net show", "whose program it is")];
        Some(Known::new("xdp", fault.id(), class_of_xdp(fault.id()), cause::of_xdp(fault.id())?, &steps))
    });
    let queues = qdisc::kinds().map(|kind| {
        let steps = [
            ("tc -s qdisc show dev DEV", "drops, overlimits and backlog of each discipline, and its settings"),
            ("lossprobe watch --reason 'qdisc*' --interface DEV", "whose packets"),
        ];
        Known::new("queue", kind, "", cause::QDISC, &steps)
    });
    let steps = [
        ("cat /proc/net/softnet_stat", "one line for each CPU: column 2 is dropped"),
        ("lossprobe explain cpu_backlog", "the drop reason, with causes and what to do"),
    ];
    let cpu = Known::new("cpu", "backlog", "", cause::BACKLOG, &steps);
    devices.chain(xdp).chain(queues).chain([cpu]).chain(protocols()).collect()
}

fn protocols() -> impl Iterator<Item = Known> {
    let counted = mib::causes().map(|(protocol, name, counter)| (protocol, name, format!("nstat -az {counter}")));
    let tables = conntrack::causes().map(|name| ("conntrack", name, "conntrack -S".to_owned()));
    let neighbours = neighbour::causes().map(|(protocol, name)| (protocol, name, "ip -s ntable show".to_owned()));
    let switch = [("openvswitch", "upcall_lost", "ovs-appctl dpctl/show -s".to_owned())];
    counted.chain(tables).chain(neighbours).chain(switch).filter_map(|(protocol, name, command)| {
        let steps = [
            (command.as_str(), "the kernel's own counter"),
            ("lossprobe stats", "drop reasons that go with it: most of these packets were dropped with one"),
        ];
        Some(Known::new("protocol", &format!("{protocol}/{name}"), "", cause::of_protocol(name)?, &steps))
    })
}

impl Known {
    fn new(
        place: &'static str,
        name: &str,
        class: &'static str,
        meaning: &'static str,
        steps: &[(&str, &str)],
    ) -> Self {
        let next_steps = steps.iter().map(|(command, purpose)| NextStep::new(*command, *purpose)).collect();
        Self { place, name: name.to_owned(), class, meaning, next_steps }
    }

    /// Whether a row of this name is meant, or all rows of this cause.
    pub(super) fn is_called(&self, asked: &str) -> bool {
        let (prefix, cause) = asked.split_once('/').unwrap_or(("", asked));
        match self.place {
            "device" => self.name == cause && matches!(prefix, "" | "ingress" | "egress" | "both"),
            "queue" if asked == "qdisc" => true,
            "protocol" if prefix.is_empty() => self.name.split_once('/').is_some_and(|(_, name)| name == cause),
            _ => self.name == asked,
        }
    }

    pub(super) fn explained(self) -> Explanation {
        let advice = Advice { meaning: self.meaning.to_owned(), causes: Vec::new(), next_steps: self.next_steps };
        Explanation::LossCause { name: self.name, place: self.place, class: self.class, advice }
    }
}

/// Those that a name stands for; a word that many share is explained once.
pub(super) fn of(asked: &str) -> Vec<Explanation> {
    let mut found: Vec<Known> = all().into_iter().filter(|known| known.is_called(asked)).collect();
    found.dedup_by(|next, known| next.place == known.place && next.meaning == known.meaning);
    found.into_iter().map(Known::explained).collect()
}
