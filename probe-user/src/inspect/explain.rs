//! `lossprobe explain`: what a drop reason, a malformed reason, a type of retransmit, another cause, a class or a verdict means. It
//! needs no agent and no privilege; the running kernel is asked only for its own names.

mod cause;
mod finding;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{ErrorKind, IsTerminal as _, Write as _},
};

use anyhow::{Context as _, Result, anyhow};
use probe_ebpf::{abi::Retransmit, flow::TcpEvent, reason::Malformed};
use serde::Serialize;

use crate::{
    classes::{self, Class, class_of},
    cli::{ExplainArgs, Lines, Listed},
    config::did_you_mean,
    detect::verdict::Name,
    kernel::types::KernelTypes,
    texts::{self, Text},
};

/// Version of the JSON form. Keys are added, never renamed.
const SCHEMA: u32 = 1;
/// What the kernel writes in front of a reason's name.
const PREFIX: &str = "skb_drop_reason_";

/// Explains what was asked for.
///
/// # Errors
/// If nothing has this name.
pub fn run(args: &ExplainArgs) -> Result<()> {
    let names = Names::of(running_kernel().as_ref());
    let mut out = std::io::stdout().lock();
    let page = text::Page {
        width: terminal_size::terminal_size_of(&out).map_or(text::WIDTH, |(width, _)| usize::from(width.0)),
        colour: out.is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let shown = match (&args.name, args.list) {
        (Some(name), _) => {
            let found = names.explain(name)?;
            match args.output {
                Lines::Json => serde_json::to_string(&Document { schema: SCHEMA, explanations: found })?,
                Lines::Text => page.explanations(&found),
            }
        }
        (None, listed) => {
            let list = names.list(listed.unwrap_or_default());
            match args.output {
                Lines::Json => serde_json::to_string(&list)?,
                Lines::Text => page.list(&list),
            }
        }
    };
    match writeln!(out, "{}", shown.trim_end()) {
        // `head` has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.context("write to standard output"),
    }
}

/// The drop reasons of the running kernel, `None` if it does not show them.
pub(super) fn running_kernel() -> Option<BTreeSet<String>> {
    let types = KernelTypes::running().ok()?;
    let is_reason = |name: &&str| *name != "max" && !name.starts_with("subsys_");
    Some(types.reasons.names().filter(is_reason).map(str::to_owned).collect())
}

/// All names that can be explained.
struct Names {
    /// By name; whether the running kernel has it, `None` if it does not tell.
    drops: BTreeMap<String, Option<bool>>,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    explanations: Vec<Explanation>,
}

/// Everything that is known about one name.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Explanation {
    DropReason {
        name: String,
        class: &'static str,
        in_this_kernel: Option<bool>,
        /// The kernel has it, and this version of lossprobe does not know it.
        new: bool,
        /// `name`: written for this reason; `class`: what holds for all of its class.
        explained_by: &'static str,
        #[serde(flatten)]
        advice: Advice,
    },
    MalformedReason {
        name: &'static str,
        severity: &'static str,
        layer: &'static str,
        scope: &'static str,
        standard: &'static str,
        #[serde(flatten)]
        advice: Advice,
        /// Frames like this that are all right, each with whether it is reported.
        exceptions: &'static [&'static str],
        #[serde(flatten)]
        elsewhere: Elsewhere,
    },
    RetransmitType {
        name: &'static str,
        #[serde(flatten)]
        advice: Advice,
    },
    /// What a followed TCP segment says.
    WireEvent {
        name: &'static str,
        #[serde(flatten)]
        advice: Advice,
    },
    /// What `stats --losses` shows besides drop reasons.
    LossCause {
        name: String,
        /// As there: `device`, `xdp`, `queue`, `cpu` or `protocol`.
        place: &'static str,
        /// `""` where it is a witness only.
        class: &'static str,
        #[serde(flatten)]
        advice: Advice,
    },
    DropClass {
        name: &'static str,
        reasons: Vec<String>,
        #[serde(flatten)]
        advice: Advice,
    },
    Verdict {
        name: &'static str,
        #[serde(flatten)]
        advice: Advice,
    },
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Advice {
    meaning: String,
    causes: Vec<&'static str>,
    next_steps: Vec<NextStep>,
}

/// What others call it; empty where they have no name for it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Elsewhere {
    /// Display filters.
    wireshark: &'static [&'static str],
    /// Decoder events and keywords of rules.
    suricata: &'static [&'static str],
    /// Drop reasons, and counters as `nstat` names them.
    kernel: &'static [&'static str],
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct NextStep {
    command: String,
    purpose: String,
}

impl Advice {
    fn of(text: &'static Text) -> Self {
        let step = |(command, purpose): &(&str, &str)| NextStep::new(*command, *purpose);
        Self {
            meaning: text.meaning.to_owned(),
            causes: text.causes.to_vec(),
            next_steps: text.next_steps.iter().map(step).collect(),
        }
    }

    /// With a step by which everybody begins, unless a text has it in its own words.
    fn starting_with(mut self, command: String, purpose: &str) -> Self {
        if !self.next_steps.iter().any(|step| step.command.starts_with(&command)) {
            self.next_steps.insert(0, NextStep::new(command, purpose));
        }
        self
    }
}

impl NextStep {
    fn new(command: impl Into<String>, purpose: impl Into<String>) -> Self {
        Self { command: command.into(), purpose: purpose.into() }
    }
}

/// What there is to explain.
#[derive(Default, Serialize)]
struct List {
    schema: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    drops: Option<Vec<DropLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasons: Option<Vec<ReasonLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retransmits: Option<Vec<NameLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<NameLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causes: Option<Vec<CauseLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<Vec<NameLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdicts: Option<Vec<NameLine>>,
}

#[derive(Serialize)]
struct DropLine {
    name: String,
    class: &'static str,
    in_this_kernel: Option<bool>,
}

#[derive(Serialize)]
struct ReasonLine {
    name: &'static str,
    severity: &'static str,
    layer: &'static str,
    scope: &'static str,
    meaning: &'static str,
}

#[derive(Serialize)]
struct CauseLine {
    name: String,
    place: &'static str,
    meaning: &'static str,
}

#[derive(Serialize)]
struct NameLine {
    name: &'static str,
    meaning: &'static str,
}

impl Names {
    fn of(kernel: Option<&BTreeSet<String>>) -> Self {
        let is_here = |name: &String| kernel.map(|kernel| kernel.contains(name));
        let known = classes::known_names().map(str::to_owned).chain(kernel.into_iter().flatten().cloned());
        Self { drops: known.map(|name| (name.clone(), is_here(&name))).collect() }
    }

    /// Everything of this name: a drop reason, a malformed reason, a class and others can have the same.
    fn explain(&self, asked: &str) -> Result<Vec<Explanation>> {
        let name = asked.trim().to_lowercase();
        let name = name.strip_prefix(PREFIX).unwrap_or(&name);
        let drop = self.drops.get(name).map(|here| drop_reason(name, *here));
        let malformed =
            Malformed::ALL.iter().find(|reason| reason.id() == name).and_then(|reason| finding::of(*reason));
        let class = Class::from_id(name).map(|class| self.class(class));
        let retransmit = Retransmit::ALL.iter().map(|kind| kind.id()).find(|id| *id == name).and_then(retransmit_type);
        let event = TcpEvent::ALL.iter().find(|event| event.id() == name).map(|event| wire_event(*event));
        let verdict = Name::ALL.iter().find(|verdict| verdict.id() == name).map(|name| verdict(*name));
        let found: Vec<_> =
            [drop, malformed, retransmit, event, class, verdict].into_iter().flatten().chain(cause::of(name)).collect();
        if found.is_empty() { Err(self.unknown(name)) } else { Ok(found) }
    }

    fn unknown(&self, name: &str) -> anyhow::Error {
        let malformed = Malformed::ALL.iter().map(|reason| reason.id());
        let classes = Class::ALL.iter().map(|class| class.id());
        let retransmits = Retransmit::ALL.iter().map(|kind| kind.id());
        let causes = cause::all();
        let causes = causes.iter().map(|known| known.name.as_str());
        let all = self.drops.keys().map(String::as_str).chain(malformed).chain(classes);
        let events = TcpEvent::ALL.iter().map(|event| event.id());
        let verdicts = Name::ALL.iter().map(|verdict| verdict.id());
        let all = all.chain(retransmits).chain(events).chain(causes).chain(verdicts).collect();
        anyhow!(
            "nothing is called `{}`; {}`lossprobe explain` without a name shows all that can be explained",
            name.escape_debug(),
            did_you_mean(name, &all)
        )
    }

    fn class(&self, class: Class) -> Explanation {
        let reasons = self.drops.keys().filter(|name| class_of(name) == class).cloned().collect();
        Explanation::DropClass { name: class.id(), reasons, advice: Advice::of(texts::of_class(class)) }
    }

    fn list(&self, listed: Listed) -> List {
        let drop = |(name, here): (&String, &Option<bool>)| DropLine {
            name: name.clone(),
            class: class_of(name).id(),
            in_this_kernel: *here,
        };
        let reason = |reason: &Malformed| ReasonLine {
            name: reason.id(),
            severity: reason.severity().id(),
            layer: reason.layer(),
            scope: reason.scope().id(),
            meaning: reason.meaning(),
        };
        let retransmit =
            |kind: &Retransmit| Some(NameLine { name: kind.id(), meaning: texts::of_retransmit(kind.id())?.meaning });
        let event = |event: &TcpEvent| NameLine { name: event.id(), meaning: event.meaning() };
        let cause = |known: cause::Known| CauseLine { name: known.name, place: known.place, meaning: known.meaning };
        let class = |class: &Class| NameLine { name: class.id(), meaning: texts::of_class(*class).meaning };
        let verdict = |name: &Name| NameLine { name: name.id(), meaning: texts::of_verdict(*name).meaning };
        let wants = |what| listed == Listed::All || listed == what;
        List {
            schema: SCHEMA,
            drops: wants(Listed::Drops).then(|| self.drops.iter().map(drop).collect()),
            reasons: wants(Listed::Reasons).then(|| Malformed::ALL.iter().map(reason).collect()),
            retransmits: wants(Listed::Retransmits).then(|| Retransmit::ALL.iter().filter_map(retransmit).collect()),
            events: wants(Listed::Events).then(|| TcpEvent::ALL.iter().map(event).collect()),
            causes: wants(Listed::Causes).then(|| cause::all().into_iter().map(cause).collect()),
            classes: wants(Listed::Classes).then(|| Class::ALL.iter().map(class).collect()),
            verdicts: wants(Listed::Verdicts).then(|| Name::ALL.iter().map(verdict).collect()),
        }
    }
}

fn drop_reason(name: &str, in_this_kernel: Option<bool>) -> Explanation {
    let class = class_of(name);
    let text = texts::of_reason(name);
    let advice = Advice::of(text.unwrap_or_else(|| texts::of_class(class)));
    Explanation::DropReason {
        name: name.to_owned(),
        class: class.id(),
        in_this_kernel,
        new: in_this_kernel == Some(true) && !classes::known_names().any(|known| known == name),
        explained_by: if text.is_some() { "name" } else { "class" },
        advice: advice.starting_with(
            format!("lossprobe watch --reason {name}"),
            "which packets, and the kernel function that dropped them",
        ),
    }
}

fn retransmit_type(name: &'static str) -> Option<Explanation> {
    Some(Explanation::RetransmitType { name, advice: Advice::of(texts::of_retransmit(name)?) })
}

fn verdict(name: Name) -> Explanation {
    Explanation::Verdict { name: name.id(), advice: Advice::of(texts::of_verdict(name)) }
}

fn wire_event(event: TcpEvent) -> Explanation {
    let advice = Advice {
        meaning: event.meaning().to_owned(),
        causes: Vec::new(),
        next_steps: vec![
            NextStep::new("lossprobe flows", "the connections that lose most, and on which side"),
            NextStep::new("lossprobe analyze FILE --events", "the very segments, in a capture"),
        ],
    };
    Explanation::WireEvent { name: event.id(), advice }
}

#[cfg(test)]
mod tests;
