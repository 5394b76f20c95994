//! What a drop reason means, what usually causes it and what to do: hand-written for every reason of the classes
//! capacity, malformed and config, by class for all others; in [`frame`] what a malformed reason means, and what a verdict does.
//!
//! Beside [`crate::classes`], whose table says which reasons there are; a test asserts that no text is missing and none
//! is left over. Upper-case words in commands (`DEV`, `ADDRESS`) stand for what the reader puts there. Facts are those of
//! include/net/dropreason-core.h, net/openvswitch/drop.h and the places that use the reasons, Linux 6.18.

mod capacity;
pub mod cause;
mod class;
mod config;
pub mod frame;
mod malformed;
mod retransmit;
mod verdict;

pub use self::{class::of_class, verdict::of_verdict};

/// What can be said to somebody who has met a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// A drop reason, or a class.
    pub name: &'static str,
    /// What has happened, in a sentence or two.
    pub meaning: &'static str,
    /// What usually causes it, the likeliest first.
    pub causes: &'static [&'static str],
    /// Commands to type, and what each shows or does.
    pub next_steps: &'static [(&'static str, &'static str)],
}

/// The hand-written text for a drop reason, `None` where only its class is known.
#[must_use]
pub fn of_reason(reason: &str) -> Option<&'static Text> {
    all().chain([&class::NOT_SPECIFIED]).find(|text| text.name == reason)
}

/// The text for a type of retransmit.
#[must_use]
pub fn of_retransmit(kind: &str) -> Option<&'static Text> {
    retransmit::TEXTS.iter().find(|text| text.name == kind)
}

/// All hand-written texts of classes that are explained reason by reason.
pub fn all() -> impl Iterator<Item = &'static Text> {
    [capacity::TEXTS, malformed::TEXTS, config::TEXTS].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use probe_ebpf::abi::{Fault, Retransmit};

    use super::*;
    use crate::classes::{Class, class_of, known_names};
    use crate::collect::{causes, conntrack, mib, neighbour};
    use crate::detect::verdict::Name;

    #[test]
    fn every_reason_that_is_a_loss_or_a_fault_has_a_text_and_no_text_is_left_over() {
        let explained = |class| matches!(class, Class::Capacity | Class::Malformed | Class::Config);
        let wanted: BTreeSet<&str> = known_names().filter(|name| explained(class_of(name))).collect();
        let written: BTreeSet<&str> = all().map(|text| text.name).collect();
        assert_eq!(wanted.difference(&written).collect::<Vec<_>>(), Vec::<&&str>::new(), "without a text");
        assert_eq!(written.difference(&wanted).collect::<Vec<_>>(), Vec::<&&str>::new(), "of no such reason");
        assert_eq!(written.len(), all().count(), "a name has two texts");
        for (class, texts) in
            [(Class::Capacity, capacity::TEXTS), (Class::Malformed, malformed::TEXTS), (Class::Config, config::TEXTS)]
        {
            for text in texts {
                assert_eq!(class_of(text.name), class, "{} is in the wrong file", text.name);
            }
            assert!(texts.is_sorted_by_key(|text| text.name), "{class:?} is not in order");
        }
    }

    #[test]
    fn everything_that_is_shown_has_a_text() {
        for name in Name::ALL {
            assert_eq!(of_verdict(name).name, name.id());
        }
        for kind in Retransmit::ALL {
            assert!(of_retransmit(kind.id()).is_some(), "{}", kind.id());
        }
        for cause in causes::Cause::ALL {
            assert!(cause::of_device(cause.id()).is_some(), "{}", cause.id());
        }
        for fault in Fault::ALL.iter().filter(|fault| **fault != Fault::TcpBadChecksum) {
            assert!(cause::of_xdp(fault.id()).is_some(), "{}", fault.id());
        }
        let protocols = mib::causes().map(|(_, cause, _)| cause).chain(conntrack::causes());
        for cause in protocols.chain(neighbour::causes().map(|(_, cause)| cause)).chain(["upcall_lost"]) {
            assert!(cause::of_protocol(cause).is_some_and(|meaning| meaning.ends_with('.')), "{cause}");
        }
    }

    #[test]
    fn texts_are_whole_and_none_is_another_s() {
        let classes = Class::ALL.map(of_class).into_iter().chain(Name::ALL.map(of_verdict));
        let mut seen = BTreeSet::new();
        for text in all().chain(classes).chain(retransmit::TEXTS).chain([&class::NOT_SPECIFIED]) {
            assert!(text.meaning.len() >= 40 && text.meaning.ends_with('.'), "{}: {}", text.name, text.meaning);
            assert!((2..=4).contains(&text.causes.len()), "{}: causes", text.name);
            assert!((2..=4).contains(&text.next_steps.len()), "{}: next steps", text.name);
            let steps = text.next_steps.iter().flat_map(|(command, purpose)| [*command, *purpose]);
            for part in text.causes.iter().copied().chain(steps).chain([text.meaning]) {
                assert!(!part.is_empty() && !part.contains("  ") && part.trim() == part, "{}: {part:?}", text.name);
            }
            assert!(seen.insert(text.meaning), "{}: somebody else's meaning", text.name);
            let causes: Vec<_> = text.causes.to_vec();
            assert!(all().filter(|other| other.causes == causes).count() <= 1, "{}: somebody else's causes", text.name);
        }
    }
}
