//! Another judge: what tshark 4.0 marks in the frames of the rows, with all checksums looked at. The rules that both have
//! are in one table; where they differ on a row, the row stands in another, with the reason.
//!
//! Both say more than one thing: a frame of ours has its gravest finding, tshark tells of all. So a mark of tshark's that a
//! finding as grave as it may hide is no difference.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::id,
};

use anyhow::{Context as _, Result, ensure};
use probe_ebpf::{
    classify::Meta,
    reason::{Malformed, Severity},
};
use serde_json::Value;
use tests::{
    agent::lossprobe,
    capture::{Record, write_pcap},
    namespace::Namespace,
    program,
};

use super::{super::wire::collection, rows};

/// Fields changed in later versions; Debian 12 has this one.
const VERSION: &str = "4.0.";

/// Reasons that are one rule for tshark, and its fields for that.
pub(super) struct Rule {
    pub(super) reasons: &'static [Malformed],
    fields: &'static [&'static str],
}

const fn rule(reasons: &'static [Malformed], fields: &'static [&'static str]) -> Rule {
    Rule { reasons, fields }
}

pub(super) const RULES: &[Rule] = &[
    rule(&[Malformed::EthSrcGroup], &["eth.src_not_group"]),
    rule(&[Malformed::EthTypeGap], &["eth.invalid_lentype.expert"]),
    rule(&[Malformed::EthLenGt], &["eth.len.past_end"]),
    rule(&[Malformed::VlanLenGt], &["vlan.len.past_end"]),
    rule(&[Malformed::Ip4Ver], &["ip.bogus_ip_version"]),
    rule(&[Malformed::Ip4Ihl], &["ip.bogus_header_length"]),
    rule(&[Malformed::Ip4LenLtHdr, Malformed::Ip4Trunc], &["ip.bogus_ip_length"]),
    rule(&[Malformed::Ip4Csum], &["ip.checksum_bad.expert"]),
    rule(&[Malformed::Ip4Opt], &["ip.opt.len.invalid", "ip.opt.ptr.before_address", "ip.opt.ptr.middle_address"]),
    rule(&[Malformed::Ip4Resv], &["ip.evil_packet"]),
    rule(&[Malformed::Ip6Ver], &["ipv6.bogus_ipv6_version"]),
    rule(&[Malformed::Ip6Trunc], &["ipv6.plen_exceeds_framing"]),
    rule(&[Malformed::Ip6Plen0], &["ipv6.plen_zero", "ipv6.opt.jumbo.missing"]),
    rule(&[Malformed::Ip6HbhPos], &["ipv6.hopopts.not_first"]),
    rule(&[Malformed::Ip6Rh0], &["ipv6.routing.deprecated"]),
    rule(&[Malformed::Ip6OptLen], &["ipv6.opt.invalid_len"]),
    rule(&[Malformed::TcpShort, Malformed::TcpDoff], &["tcp.bogus_header_length", "tcp.short_segment"]),
    rule(&[Malformed::TcpOpt], &["tcp.option.len.invalid", "tcp.suboption_malformed"]),
    rule(&[Malformed::TcpOptSyn], &["tcp.options.mss.present", "tcp.options.wscale.shift.invalid"]),
    rule(&[Malformed::TcpNop4], &["tcp.nop"]),
    rule(&[Malformed::TcpAckNz], &["tcp.ack.nonzero"]),
    rule(&[Malformed::TcpUrgNz], &["tcp.urgent_pointer.non_zero"]),
    rule(&[Malformed::TcpCsum], &["tcp.checksum_bad.expert"]),
    rule(&[Malformed::UdpLenLt8, Malformed::UdpLenGt], &["udp.length.bad"]),
    rule(&[Malformed::Udp6Csum0], &["udp.checksum.zero"]),
    rule(&[Malformed::UdpCsum], &["udp.checksum.bad"]),
    rule(&[Malformed::IcmpCsum], &["icmp.checksum_bad"]),
    rule(&[Malformed::Icmp6Csum], &["icmpv6.checksum_bad.expert"]),
    rule(&[Malformed::NdOptLen], &["icmpv6.invalid_option_length"]),
    rule(&[Malformed::SctpChunkLen], &["sctp.chunk_length.bad"]),
    rule(&[Malformed::GeneveVer], &["geneve.version.unknown"]),
    rule(&[Malformed::GeneveOptLen], &["geneve.option.length.invalid"]),
    rule(SHORT, &[]),
];

/// Reasons for which tshark has nothing but an exception of its dissector.
const SHORT: &[Malformed] = &[
    Malformed::EthShort,
    Malformed::LlcShort,
    Malformed::VlanShort,
    Malformed::MplsShort,
    Malformed::ArpShort,
    Malformed::Ip4Short,
    Malformed::Ip6Short,
    Malformed::Ip6ExtTrunc,
    Malformed::UdpShort,
    Malformed::IcmpShort,
    Malformed::Icmp6Short,
    Malformed::SctpShort,
    Malformed::GreShort,
    Malformed::VxlanShort,
    Malformed::GeneveShort,
];
/// The field for that. It agrees with every error; alone it says nothing, for tshark also looks into payloads.
const EXCEPTION: &str = "_ws.malformed.expert";

/// Rows on which the two differ, by the rule's first reason, with the cause. See `tests/corpus/README.md`.
const DIFFERENCES: &[(Malformed, &str, &[&str])] = &[
    (
        Malformed::Udp6Csum0,
        "tshark knows no tunnel that may leave it out (RFC 6935)",
        &[
            "AMT without checksum over IPv6",
            "GENEVE without checksum over IPv6",
            "GRE in UDP without checksum over IPv6",
            "GTP-U without checksum over IPv6",
            "GUE without checksum over IPv6",
            "LISP without checksum over IPv6",
            "MPLS in UDP without checksum over IPv6",
            "RoCEv2 without checksum over IPv6",
            "VXLAN of older kernels without checksum over IPv6",
            "VXLAN without checksum over IPv6",
            "VXLAN-GPE without checksum over IPv6",
        ],
    ),
    (
        Malformed::TcpCsum,
        "unfinished: the network card of the sender makes it right",
        &[
            "an unfinished TCP checksum",
            "an unfinished TCP checksum over IPv6",
            "an unfinished checksum in a tunnel that counts on it",
            "an unfinished checksum in a tunnel without one",
        ],
    ),
    (
        Malformed::UdpCsum,
        "unfinished, or that of what is unfinished",
        &["an unfinished checksum in a tunnel that counts on it", "an unfinished checksum of a tunnel"],
    ),
    (Malformed::Icmp6Csum, "unfinished", &["an unfinished ICMPv6 checksum"]),
    (
        Malformed::TcpCsum,
        "made with another address than the header's, and here not looked at",
        &[
            "a TCP checksum for the end of a route",
            "a TCP checksum for the end of a source route",
            "a TCP checksum with a home address",
        ],
    ),
    (Malformed::UdpCsum, "the same", &["loose source route"]),
    (
        Malformed::IcmpCsum,
        "here the wrong family is all that is said",
        &["ICMP in IPv6", "ICMP in IPv6 behind options"],
    ),
    (Malformed::Icmp6Csum, "the same", &["ICMPv6 in IPv4"]),
    (Malformed::Ip4Ihl, "tshark judges quoted headers, too: here `icmp_quote`", &["a quoted header of 16 bytes"]),
    (Malformed::Ip4Csum, "the same", &["a quoted header of 24 bytes in 28"]),
    (Malformed::Ip4LenLtHdr, "the same", &["a quoted total length of 19"]),
    (
        Malformed::TcpShort,
        "tshark looks for a TCP header in any fragment: here `ip4_frag_tiny`",
        &["TCP goes on at offset 8"],
    ),
    (
        Malformed::Ip4Ver,
        "tshark looks into GRE whose version has no checksum: here `gre_resv`, and nothing behind it",
        &["enhanced GRE with a checksum"],
    ),
    (Malformed::Ip4Ihl, "tshark says it of the total length", &["header of 60 bytes in 40"]),
    (Malformed::Ip4LenLtHdr, "tshark takes 0 for that of a segmented packet", &["total length 0"]),
    (Malformed::Ip6Plen0, "a jumbogram has 65,536 bytes at least; the row's has not", &["jumbogram"]),
    (
        Malformed::TcpOptSyn,
        "tshark has it of MSS outside of a SYN and of the window scale's number only",
        &["MSS twice", "SACK permitted without SYN", "time stamps twice", "window scale without SYN"],
    ),
    (Malformed::TcpNop4, "tshark gives up at the empty SACK in front", &["four NOPs behind an option"]),
    (Malformed::Ip4Opt, "tshark does not look at that pointer", &["time stamps point at their flags"]),
    (Malformed::Ip6OptLen, "tshark cuts padding off where its header ends", &["IPv6 option past its header"]),
    (
        Malformed::EthShort,
        "tshark has no rule, and gets by without these bytes",
        &["enhanced GRE without the acknowledgement that it has", "length 0"],
    ),
];

/// What tshark says of a frame.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Numbers of the rules that it breaks.
    broken: BTreeSet<usize>,
    /// It could not be dissected to its end.
    is_exception: bool,
}

/// What tshark says, by the number of the frame.
pub(super) fn marks(file: &Path) -> Result<BTreeMap<u64, Marks>> {
    let here = Namespace::of_this_process()?;
    let version = program::run(&here, "tshark", &["--version"], "")?;
    let first = version.lines().next().unwrap_or_default();
    ensure!(first.contains(VERSION), "the fields are those of tshark {VERSION}x, this is {first}");
    let file = file.to_str().context("a file name in UTF-8")?;
    let mut arguments: Vec<String> = ["-n", "-r", file, "-T", "fields", "-e", "frame.number"].map(str::to_owned).into();
    for preference in ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum", "ip.security_flag"] {
        arguments.extend(["-o".to_owned(), format!("{preference}:TRUE")]);
    }
    arguments.extend(["-e", EXCEPTION].map(str::to_owned));
    let fields =
        RULES.iter().enumerate().flat_map(|(number, rule)| rule.fields.iter().map(move |field| (number, field)));
    let fields: Vec<_> = fields.collect();
    arguments.extend(fields.iter().flat_map(|(_, field)| ["-e".to_owned(), (**field).to_owned()]));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let text = program::run(&here, "tshark", &arguments, "")?;
    let mut marks = BTreeMap::new();
    for line in text.lines() {
        let mut values = line.split('\t');
        let number = values.next().unwrap_or_default().parse().with_context(|| format!("tshark's line {line:?}"))?;
        let is_exception = values.next().is_some_and(|value| !value.is_empty());
        let broken = fields.iter().zip(values).filter(|(_, value)| !value.is_empty()).map(|((rule, _), _)| *rule);
        marks.insert(number, Marks { broken: broken.collect(), is_exception });
    }
    Ok(marks)
}

/// How the two differ on one frame: by the number of the rule, whether it is tshark that says it.
pub(super) fn differences(finding: Option<Malformed>, theirs: &Marks) -> Vec<(usize, bool)> {
    let severity = finding.map(Malformed::severity);
    let differs = |(number, rule): (usize, &Rule)| {
        let is_ours = finding.is_some_and(|finding| rule.reasons.contains(&finding));
        let is_theirs = theirs.broken.contains(&number);
        let may_be_hidden = severity >= rule.reasons.iter().map(|reason| reason.severity()).min();
        let agrees = match (is_ours, is_theirs) {
            (true, false) => theirs.is_exception && severity == Some(Severity::Error),
            (false, true) => may_be_hidden,
            (true, true) | (false, false) => true,
        };
        (!agrees).then_some((number, is_theirs))
    };
    RULES.iter().enumerate().filter_map(differs).collect()
}

/// Frames whose verdict needs nothing that tshark is not told.
pub(super) fn agrees_on_the_rows() -> Result<()> {
    let is_told = |meta: &Meta| {
        let Meta { frame_bytes, mtu_bytes, tunnels, .. } = *meta;
        *meta == Meta { frame_bytes, mtu_bytes, tunnels, ..Meta::default() }
    };
    let rows: Vec<_> = rows().into_iter().filter(|row| is_told(&row.meta)).collect();
    let path = env::temp_dir().join(format!("lossprobe-tests-{}-rows.pcap", id()));
    let record = |frame: &Vec<u8>| Record { nanoseconds: 0, outgoing: false, frame: frame.clone() };
    write_pcap(&path, rows.iter().map(|row| record(&row.frame)))?;
    let marks = marks(&path)?;
    ensure!(marks.len() == rows.len(), "tshark has read {} of {} frames", marks.len(), rows.len());
    let mut found = BTreeSet::new();
    let mut compared = BTreeSet::new();
    for (row, theirs) in rows.iter().zip(marks.values()) {
        let ours = row.expected.finding().map(|finding| finding.reason);
        let rule = ours.and_then(|reason| RULES.iter().position(|rule| rule.reasons.contains(&reason)));
        compared.extend(rule);
        found.extend(differences(ours, theirs).into_iter().map(|(rule, is_theirs)| (row.name, rule, is_theirs)));
    }
    let line = |(row, rule, is_theirs): &(&str, usize, bool)| {
        let who = if *is_theirs { "only tshark" } else { "not tshark" };
        format!("{row:?}: {} says {}", who, RULES[*rule].reasons[0].id())
    };
    let explained = |rule: usize, row: &str| {
        let of_rule = DIFFERENCES.iter().filter(|(reason, ..)| RULES[rule].reasons[0] == *reason);
        of_rule.flat_map(|(.., rows)| *rows).any(|name| *name == row)
    };
    let unexplained: Vec<_> = found.iter().filter(|(row, rule, _)| !explained(*rule, row)).map(line).collect();
    ensure!(unexplained.is_empty(), "in {}:\n{}", path.display(), unexplained.join("\n"));
    let happens = |reason: Malformed, name: &str| {
        found.iter().any(|(row, rule, _)| name == *row && RULES[*rule].reasons[0] == reason)
    };
    let named = DIFFERENCES.iter().flat_map(|(reason, _, rows)| rows.iter().map(|row| (*reason, *row)));
    let left_over: Vec<_> = named.filter(|(reason, row)| !happens(*reason, row)).collect();
    ensure!(left_over.is_empty(), "they agree on {left_over:?}");
    ensure!(compared.len() == RULES.len(), "only {} of {} rules were compared", compared.len(), RULES.len());
    fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
}

/// The same on captures of other people, all together: whatever is called malformed here, tshark marks as well, but for
/// few. The other way around there is more, and it is shown: unfinished checksums, and what is wrapped in protocols that
/// are not looked into here.
pub(super) fn agrees_on_the_collection(folder: &Path) -> Result<()> {
    const AGREES_PERCENT: u64 = 98;
    let mut tallies = vec![[0_u64; 3]; RULES.len()];
    let mut unread = 0;
    for file in collection::captures(folder)? {
        // Of a link type without IP, or broken on purpose, for one of the two.
        let (Ok(ours), Ok(marks)) = (findings(&file), marks(&file)) else {
            unread += 1;
            continue;
        };
        for (number, theirs) in &marks {
            let ours = ours.get(number).copied();
            let rule = ours.and_then(|reason| RULES.iter().position(|rule| rule.reasons.contains(&reason)));
            let differing = differences(ours, theirs);
            for (rule, is_theirs) in &differing {
                tallies[*rule][1 + usize::from(*is_theirs)] += 1;
            }
            if let Some(rule) = rule.filter(|rule| !differing.contains(&(*rule, false))) {
                tallies[rule][0] += 1;
            }
        }
    }
    println!("{unread} captures not read; frames that both mark, only lossprobe, only tshark:");
    for (rule, [both, ours, theirs]) in RULES.iter().zip(&tallies).filter(|(_, tally)| **tally != [0; 3]) {
        println!("{:16} {both:6} {ours:6} {theirs:6}", rule.reasons[0].id());
    }
    let [both, ours] = [0, 1].map(|column| tallies.iter().map(|tally| tally[column]).sum::<u64>());
    ensure!(both > 0, "nothing is malformed in {}", folder.display());
    ensure!(100 * both >= AGREES_PERCENT * (both + ours), "tshark does not mark {ours} of {} frames", both + ours);
    Ok(())
}

/// What `lossprobe analyze` says, by the number of the frame. Captures with link types that it skips are not compared.
fn findings(file: &Path) -> Result<BTreeMap<u64, Malformed>> {
    let here = Namespace::of_this_process()?;
    let file = file.to_str().context("a file name in UTF-8")?;
    let tunnels = ["--tunnel-port", "4789", "--tunnel-port", "8472", "--tunnel-port", "6081:geneve"];
    let output = lossprobe(&here, &[&["analyze", file, "--events", "--output", "json"][..], &tunnels].concat())?;
    ensure!(output.status.success(), "lossprobe analyze {file} ended with {}", output.status);
    let mut findings = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let value: Value = serde_json::from_str(line).with_context(|| format!("read {line:?}"))?;
        if value["type"] == "malformed" {
            let reason = Malformed::ALL.iter().find(|reason| value["name"] == reason.id()).context("a known reason")?;
            findings.insert(value["frame"].as_u64().context("no frame")?, *reason);
        } else if let Some(skipped) = value["skipped_link_types"].as_array() {
            ensure!(skipped.is_empty(), "{file} has link types that are skipped");
        }
    }
    Ok(findings)
}
