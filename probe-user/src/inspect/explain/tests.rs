use super::*;

fn names() -> Names {
    Names::of(Some(&["netfilter_drop", "qdisc_overlimit", "brand_new", "qdisc_brand_new"].map(str::to_owned).into()))
}

fn kinds(name: &str) -> Vec<&'static str> {
    let kind = |found: &Explanation| match found {
        Explanation::DropReason { .. } => "drop",
        Explanation::MalformedReason { .. } => "malformed",
        Explanation::DropClass { .. } => "class",
        Explanation::RetransmitType { .. } => "retransmit",
        Explanation::WireEvent { .. } => "event",
        Explanation::Verdict { .. } => "verdict",
        Explanation::LossCause { place, .. } => place,
    };
    names().explain(name).unwrap().iter().map(kind).collect()
}

#[test]
fn a_name_is_looked_up_everywhere() {
    for (name, expected) in [
        ("qdisc_overlimit", &["drop"][..]),
        ("QDISC_OVERLIMIT", &["drop"]),
        ("SKB_DROP_REASON_QDISC_OVERLIMIT", &["drop"]),
        ("tcp_flags", &["drop", "malformed"]),
        ("ip4_csum", &["malformed"]),
        ("malformed", &["class"]),
        ("unknown", &["retransmit", "class", "verdict"]),
        ("network_in", &["verdict"]),
        ("LOCAL_RX", &["verdict"]),
        ("tail_probe", &["retransmit"]),
        ("hole_opened", &["event"]),
        ("missed", &["device"]),
        ("ingress/missed", &["device"]),
        ("udp/no_port", &["protocol"]),
        ("no_port", &["protocol"]),
        ("arp/table_full", &["protocol"]),
        ("fq_codel", &["queue"]),
        ("qdisc", &["queue"]),
        ("backlog", &["cpu", "protocol"]),
        ("cpumap", &["xdp"]),
        ("not_specified", &["drop"]),
        ("ovs_drop_meter", &["drop"]),
        ("psp_input", &["drop"]),
    ] {
        assert_eq!(kinds(name), expected, "{name}");
    }
}

#[test]
fn what_the_kernel_has_and_the_table_has_not_is_new() {
    for (name, expected_class, expected_new, expected_here, expected_by) in [
        ("qdisc_overlimit", "capacity", false, Some(true), "name"),
        ("netfilter_drop", "policy", false, Some(true), "class"),
        ("brand_new", "unknown", true, Some(true), "class"),
        ("qdisc_brand_new", "capacity", true, Some(true), "class"),
        ("ip_csum", "malformed", false, Some(false), "name"),
    ] {
        let found = names().explain(name).unwrap();
        let Explanation::DropReason { class, new, in_this_kernel, explained_by, .. } = &found[0] else {
            unreachable!("{found:?}")
        };
        assert_eq!(
            (*class, *new, *in_this_kernel, *explained_by),
            (expected_class, expected_new, expected_here, expected_by),
            "{name}"
        );
    }
    let silent = Names::of(None).explain("ip_csum").unwrap();
    assert!(matches!(silent[0], Explanation::DropReason { in_this_kernel: None, new: false, .. }), "{silent:?}");
}

#[test]
fn a_name_that_is_none_is_answered_with_those_near_it() {
    for (name, expected) in [
        ("qdisc_overlimt", "`qdisc_overlimit`"),
        ("overlimit", "`qdisc_overlimit`"),
        ("nois", "`noise`"),
        ("ip4_scum", "`ip4_csum`"),
    ] {
        let said = names().explain(name).unwrap_err().to_string();
        assert!(said.contains(&format!("did you mean {expected}")), "{said}");
        assert!(said.contains("without a name"), "{said}");
    }
    let said = names().explain("\x1b[31m").unwrap_err().to_string();
    assert!(!said.contains('\x1b') && !said.contains("did you mean"), "{said}");
}

#[test]
fn every_name_is_explained_within_the_width() {
    let names = names();
    let page = text::Page { width: 72, colour: false };
    let malformed = Malformed::ALL.iter().map(|reason| reason.id().to_owned());
    let classes = Class::ALL.iter().map(|class| class.id().to_owned());
    let retransmits = Retransmit::ALL.iter().map(|kind| kind.id().to_owned());
    let causes = cause::all().into_iter().map(|known| known.name);
    let verdicts = Name::ALL.iter().map(|verdict| verdict.id().to_owned());
    let all = names.drops.keys().cloned().chain(malformed).chain(classes).chain(retransmits).chain(causes);
    for name in all.chain(verdicts) {
        let shown = page.explanations(&names.explain(&name).unwrap());
        assert!(shown.contains("Next steps:"), "{shown}");
        let commands = shown.lines().filter(|line| line.starts_with("  ") && !line.starts_with("    "));
        let commands: BTreeSet<_> = commands.collect();
        let long = shown.lines().find(|line| line.chars().count() > 72 && !commands.contains(line));
        assert_eq!(long, None, "{name}");
    }
}

#[test]
fn a_drop_without_a_reason_is_told_by_its_function() {
    let shown = text::Page { width: 100, colour: false }.explanations(&names().explain("not_specified").unwrap());
    assert!(shown.contains("kernel function") && shown.contains("multicast"), "{shown}");
}

#[test]
fn lists_have_what_was_asked_for() {
    let page = text::Page { width: 100, colour: false };
    let list = names().list(Listed::All);
    let shown = page.list(&list);
    for part in [
        "Types of TCP's retransmits",
        "Other causes",
        "conntrack/table_full",
        "Drop reasons",
        "Malformed reasons",
        "Classes of drop reasons",
        "Verdicts",
        "brand_new",
        "(not in this kernel)",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let drops = serde_json::to_value(names().list(Listed::Drops)).unwrap();
    assert_eq!(drops["schema"], 1);
    assert!(drops.get("reasons").is_none() && drops["drops"].as_array().unwrap().len() > 120, "{drops}");
}
