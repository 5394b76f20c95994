use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use super::*;
use crate::snapshot::{
    AttachedPorts, Attachment, BadChecksums, Coverage, DetectorState, Device, DeviceCounter, Drop, IncidentCount,
    Interface, Judgement, Malformed, Map, MapUpdateFailed, PortGroup, Probe, ProtocolError, Qdisc, Retransmitted,
    SCHEMA, Share, SideLoss, Softnet, Tcp, Traffic, Wire, XdpFailed,
};

/// Connections of which something was lost before they came in.
fn wire() -> Wire {
    let share = Share { ratio: 0.25, lower: 0.1, upper: 0.5 };
    let lost = |segments, share| SideLoss { segments, share };
    Wire {
        ingress: [("hole_opened".into(), 2), ("spurious".into(), 0)].into(),
        egress: [("hole_opened".into(), 0)].into(),
        lost: [("network_in".into(), lost(2, Some(share))), ("inside".into(), lost(0, None))].into(),
        judged_ratio: Some(0.6),
    }
}

/// An uplink that is attached, a port of which only ingress is, and an interface that is not; hostile names.
fn snapshot() -> Snapshot {
    let attached = |hook: &str| Attachment { hook: hook.into(), mode: "tcx".into(), position: "first".into() };
    let malformed = |direction: &str, reason: &str, severity: &str, frames| Malformed {
        direction: direction.into(),
        reason: reason.into(),
        severity: severity.into(),
        scope: "local".into(),
        frames,
    };
    let drop = |netns: &str, interface: &str, reason: &str, family: &str, packets| Drop {
        netns: netns.into(),
        interface: interface.into(),
        reason: reason.into(),
        class: if reason == "no_socket" { "noise".into() } else { "policy".into() },
        family: family.into(),
        port: false,
        xdp: false,
        packets,
    };
    let xdp_failed = |interface: &str, cause: &str, port, packets| XdpFailed {
        interface: interface.into(),
        cause: cause.into(),
        port,
        packets,
    };
    let lost = |kind: &str, cause: &str, packets| DeviceCounter {
        direction: "ingress".into(),
        cause: cause.into(),
        kind: kind.into(),
        packets,
        ..DeviceCounter::default()
    };
    let counters = vec![lost("dropped", "missed", 7), lost("dropped", "xdp_drop", 0), lost("error", "crc", 0)];
    let device = Device { counters, not_observable: vec!["ingress/fifo".into()], ..Device::default() };
    let qdisc = |kind: &str, dropped_packets| Qdisc { kind: kind.into(), dropped_packets, ..Qdisc::default() };
    Snapshot {
        softnet: Some(Softnet { dropped_packets: 3, squeezed: 4, ..Softnet::default() }),
        protocols: vec![ProtocolError { protocol: "udp".into(), cause: "receive_buffer".into(), count: 12 }],
        state: State::Paused,
        schema: SCHEMA,
        time: "2026-01-02T03:04:05Z".into(),
        uptime_ms: 1000,
        interfaces: vec![
            Interface {
                name: "eth0".into(),
                ifindex: 2,
                kind: "ethernet".into(),
                role: "uplink".into(),
                driver: "virtio_net".into(),
                alias: "a \"quoted\" \\ back\nslash } 1".into(),
                link: "network".into(),
                attached: vec![attached("tc_ingress"), attached("tc_egress")],
                ingress: Traffic { frames: 10, bytes: 1000, tcp_segments: 6, ..Traffic::default() },
                wire: Some(wire()),
                checksums: Some([("bad".to_owned(), 1), ("gro".to_owned(), 0)].into()),
                malformed: vec![
                    malformed("ingress", "ip4_csum", "error", 3),
                    malformed("egress", "tcp_flags", "warning", 2),
                    malformed("ingress", "udp_surplus", "info", 9),
                ],
                coverage: Coverage { ingress: Some(0.75), egress: None },
                device: device.clone(),
                qdiscs: vec![qdisc("fq_codel", 0)],
                ..Interface::default()
            },
            Interface {
                name: "we\"ird\\".into(),
                role: "port".into(),
                link: "ethernet".into(),
                attached: vec![attached("tc_ingress")],
                ingress: Traffic { frames: 1, bytes: 60, ..Traffic::default() },
                device,
                qdiscs: vec![qdisc("pfifo", 9), qdisc("tbf", 0)],
                ..Interface::default()
            },
            Interface { name: "off0".into(), role: "uplink".into(), link: "ethernet".into(), ..Interface::default() },
        ],
        ports: "each".into(),
        port_groups: vec![PortGroup {
            name: "br0/ports".into(),
            master: "br0".into(),
            ports: 40,
            attached: vec![AttachedPorts { attachment: attached("tc_ingress"), ports: 39 }],
            ingress: Traffic { frames: 700, bytes: 42_000, ..Traffic::default() },
            malformed: vec![malformed("ingress", "ip4_csum", "error", 5)],
            drops: vec![drop("own", "br0/ports", "netfilter_drop", "ipv4", 8)],
            retransmitted: vec![Retransmitted {
                interface: "br0/ports".into(),
                kind: "syn".into(),
                segments: 6,
                port: true,
            }],
            xdp_failed: vec![xdp_failed("br0/ports", "exception_tx", true, 9)],
            ..PortGroup::default()
        }],
        drops: vec![
            drop("own", "eth0", "netfilter_drop", "ipv4", 4),
            drop("own", "eth0", "netfilter_drop", "ipv6", 1),
            drop("own", "", "no_socket", "ipv4", 2),
            drop("other", "eth7", "netfilter_drop", "ipv4", 20),
            drop("other", "", "netfilter_drop", "ipv4", 1),
        ],
        drop_sites: Vec::new(),
        foreign_drops: Vec::new(),
        xdp_failed: vec![xdp_failed("", "cpumap", false, 3), xdp_failed("eth0", "exception_aborted", false, 4)],
        tcp: Tcp {
            sent_segments: Some(50),
            bad_checksums: vec![BadChecksums { interface: "eth0".into(), segments: 7 }],
            retransmitted: vec![Retransmitted {
                interface: "eth0".into(),
                kind: "syn".into(),
                segments: 1,
                port: false,
            }],
        },
        probe: Probe {
            features: [("tcx".into(), true), ("drop_reason".into(), false)].into(),
            maps: vec![Map { name: "drops".into(), entries: 5, capacity: 4096 }],
            map_update_failed: vec![MapUpdateFailed { map: "drops".into(), cause: "full".into(), count: 0 }],
            program_missed: [("kfree_skb".into(), 0)].into(),
            drop_members: 6,
            flow_quality: [("table_full".into(), 5)].into(),
            evidence_lost: 4,
            uncounted_ms: 1_500,
            drop_storm_packets: 8,
            drop_storm_waiting_packets: 2,
            collect_errors: [("netlink".into(), 1)].into(),
            web_config_current: Some(true),
            ..Probe::default()
        },
        judgement: Some(Judgement {
            verdict: "network_in".into(),
            incidents: [("network_in".into(), IncidentCount { active: 1, total: 2 })].into(),
            detectors: vec![DetectorState {
                unit: "uplinks".into(),
                kind: "network_in".into(),
                alarmed: true,
                ..DetectorState::default()
            }],
            pushed: Some([("delivered".to_owned(), 3)].into()),
            not_written: Some(1),
        }),
        ..Snapshot::default()
    }
}

fn expose(snapshot: Snapshot, format: Format) -> String {
    let snapshot = Arc::new(snapshot);
    Exporter::new(move || Arc::clone(&snapshot)).expose(format).unwrap()
}

/// The exposition without the zeros of closed lists.
fn without_zeros(exposition: &str) -> String {
    let is_listed = |line: &str| line.starts_with("lossprobe_malformed_frames_total") || line.contains("{verdict=");
    let zero = |line: &str| is_listed(line) && line.ends_with(" 0");
    exposition.split_inclusive('\n').filter(|line| !zero(line.trim_end())).collect()
}

fn golden(openmetrics: bool) -> String {
    const HOOK: &str =
        "Counted once per interface passed; for node totals select role=\"uplink\" through lossprobe_interface_info.";
    let mut golden = String::new();
    let mut family = |name: &str, kind: &str, unit: &str, help: &str, samples: &[&str]| {
        let (suffix, older) = match kind {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            same => ("", same),
        };
        if openmetrics {
            golden += &format!("# HELP {name} {}\n# TYPE {name} {kind}\n", help.replace('"', "\\\""));
            if !unit.is_empty() {
                golden += &format!("# UNIT {name} {unit}\n");
            }
        } else {
            golden += &format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {older}\n");
        }
        for sample in samples {
            golden += &format!("{name}{suffix}{sample}\n");
        }
    };
    let build = format!("{{version=\"{}\",arch=\"{}\"}} 1", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    family("lossprobe_build", "info", "", "The running lossprobe.", &[&build]);
    family(
        "lossprobe_interface",
        "info",
        "",
        "A selected interface; role is uplink, port, internal or tunnel, alias is its IFLA_IFALIAS. Ports of one bridge \
         are one, BRIDGE/ports of kind ports, unless --ports says otherwise.",
        &[
            r#"{interface="eth0",kind="ethernet",role="uplink",master="",lower="",driver="virtio_net",alias="a \"quoted\" \\ back\nslash } 1"} 1"#,
            r#"{interface="off0",kind="",role="uplink",master="",lower="",driver="",alias=""} 1"#,
            r#"{interface="we\"ird\\",kind="",role="port",master="",lower="",driver="",alias=""} 1"#,
        ],
    );
    family(
        "lossprobe_frames",
        "counter",
        "frames",
        &format!("Wire segments (a GSO packet counts as its segments). {HOOK}"),
        &[
            r#"{interface="eth0",direction="egress"} 0"#,
            r#"{interface="eth0",direction="ingress"} 10"#,
            r#"{interface="we\"ird\\",direction="ingress"} 1"#,
        ],
    );
    family(
        "lossprobe_bytes",
        "counter",
        "bytes",
        &format!("Bytes as on the wire: from the MAC header, stripped VLAN tags included, without FCS. {HOOK}"),
        &[
            r#"{interface="eth0",direction="egress"} 0"#,
            r#"{interface="eth0",direction="ingress"} 1000"#,
            r#"{interface="we\"ird\\",direction="ingress"} 60"#,
        ],
    );
    family(
        "lossprobe_malformed_frames",
        "counter",
        "frames",
        &format!("Frames that contradict themselves, by their gravest and outermost finding. {HOOK}"),
        &[
            r#"{interface="eth0",direction="egress",reason="tcp_flags",severity="warning"} 2"#,
            r#"{interface="eth0",direction="ingress",reason="ip4_csum",severity="error"} 3"#,
        ],
    );
    family(
        "lossprobe_l4_checksums",
        "counter",
        "",
        "Transport checksums (TCP, UDP, ICMP) of packets that came in at a track point: good and bad were looked at here, \
         hardware by the network card or left for it to finish, gro by the kernel, budget by nobody (no budget left, or UDP without one).",
        &[r#"{interface="eth0",result="bad"} 1"#, r#"{interface="eth0",result="gro"} 0"#],
    );
    family(
        "lossprobe_dropped_packets",
        "counter",
        "packets",
        "Packets that the kernel dropped, in wire segments. The reason is the running kernel's own name and not \
         stable: alert on class. Interfaces are named for the agent's own network namespace (netns=\"own\").",
        &[
            r#"{interface="",reason="netfilter_drop",class="policy",netns="other"} 21"#,
            r#"{interface="",reason="no_socket",class="noise",netns="own"} 2"#,
            r#"{interface="eth0",reason="netfilter_drop",class="policy",netns="own"} 5"#,
        ],
    );
    family(
        "lossprobe_xdp_failed_packets",
        "counter",
        "packets",
        "Frames that XDP programs, whoever has loaded them, wanted to go somewhere and that were lost: exceptions by action, redirect errors, what a devmap's target, the device itself or another CPU did not take. interface=\"\" for cpumap and other network namespaces. XDP_DROP, a program's own will, is not visible here.",
        &[r#"{interface="",cause="cpumap"} 3"#, r#"{interface="eth0",cause="exception_aborted"} 4"#],
    );
    family(
        "lossprobe_nic_dropped_packets",
        "counter",
        "packets",
        "Good packets that a device dropped, as it counts them, from one source for each cause; an XDP program's drops \
         are cause xdp_drop, a provider's allowances provider_limit. Absent where it cannot be observed.",
        &[
            r#"{interface="eth0",direction="ingress",cause="missed"} 7"#,
            r#"{interface="eth0",direction="ingress",cause="xdp_drop"} 0"#,
            r#"{interface="we\"ird\\",direction="ingress",cause="missed"} 7"#,
        ],
    );
    family(
        "lossprobe_nic_errors",
        "counter",
        "",
        "Packets that a device lost because something was wrong with them or with the link, from one source for each \
         cause. Absent where it cannot be observed.",
        &[r#"{interface="eth0",direction="ingress",cause="crc"} 0"#],
    );
    family(
        "lossprobe_qdisc_dropped_packets",
        "counter",
        "packets",
        "Packets that queueing disciplines dropped, a GSO packet being one; what a root repeats of its leaves is left \
         out, and kind is `other` for what is not the kernel's own (a BPF program). The kernel has mostly dropped them \
         with a reason, too: do not add.",
        &[r#"{interface="eth0",kind="fq_codel"} 0"#, r#"{interface="we\"ird\\",kind="pfifo"} 9"#],
    );
    family(
        "lossprobe_softnet_dropped_packets",
        "counter",
        "packets",
        "Packets for which a CPU's input queue had no room, of all network namespaces.",
        &[" 3"],
    );
    family(
        "lossprobe_softnet_squeezed",
        "counter",
        "",
        "Rounds in which a CPU left received packets waiting, for want of time or budget.",
        &[" 4"],
    );
    family(
        "lossprobe_protocol_errors",
        "counter",
        "",
        "Errors that the kernel's protocols count (MIB) in this network namespace, one event under one cause. The \
         kernel has mostly dropped the packet with a reason, too: do not add.",
        &[r#"{protocol="udp",cause="receive_buffer"} 12"#],
    );
    family(
        "lossprobe_tcp_sent_segments",
        "counter",
        "segments",
        "TCP segments sent by this network namespace's own sockets, since the agent's start; those that only repeat data are not among them, repeated SYN-ACKs are.",
        &[" 50"],
    );
    family(
        "lossprobe_tcp_retransmitted_segments",
        "counter",
        "segments",
        "TCP segments retransmitted by this network namespace's own sockets, by the interface of their route (interface=\"\" for most SYN-ACKs) and by occasion; type is fast, timeout, tail_probe, syn, synack or unknown.",
        &[r#"{interface="eth0",type="syn"} 1"#],
    );
    family(
        "lossprobe_wire_tcp_segments",
        "counter",
        "segments",
        "TCP segments of connections that are followed, whoever's they are. Track points only. Counted once per \
         interface passed; for node totals select role=\"uplink\" through lossprobe_interface_info.",
        &[r#"{interface="eth0",direction="egress"} 0"#, r#"{interface="eth0",direction="ingress"} 6"#],
    );
    family(
        "lossprobe_wire_tcp_events",
        "counter",
        "",
        "What followed TCP segments say of those before them, in wire segments; `lossprobe explain EVENT` says what each \
         means. Counted once per interface passed; for node totals select role=\"uplink\" through \
         lossprobe_interface_info.",
        &[
            r#"{interface="eth0",direction="egress",event="hole_opened"} 0"#,
            r#"{interface="eth0",direction="ingress",event="hole_opened"} 2"#,
            r#"{interface="eth0",direction="ingress",event="spurious"} 0"#,
        ],
    );
    family(
        "lossprobe_path_lost_segments",
        "counter",
        "segments",
        "TCP segments of followed connections that were lost, by side of this interface: network_in before its ingress, \
         network_out after its egress, inside on this host's side; what this host itself has dropped is taken off. Two \
         seconds late.",
        &[r#"{interface="eth0",side="inside"} 0"#, r#"{interface="eth0",side="network_in"} 2"#],
    );
    family(
        "lossprobe_path_loss_ratio",
        "gauge",
        "ratio",
        "Share of followed TCP segments lost on this side in the last 10 s; absent if nothing has passed.",
        &[r#"{interface="eth0",side="network_in"} 0.25"#],
    );
    family(
        "lossprobe_judged_ratio",
        "gauge",
        "ratio",
        "Share of all frames of the last 10 s whose TCP connections were followed: how much of the traffic path loss can \
         speak of.",
        &[r#"{interface="eth0"} 0.6"#],
    );
    family(
        "lossprobe_flow_quality",
        "counter",
        "",
        "How often following connections saw less than there was, by cause.",
        &[r#"{cause="table_full"} 5"#],
    );
    family(
        "lossprobe_hook_coverage_ratio",
        "gauge",
        "ratio",
        "Segments at the hook for each packet that an uplink's device has counted, over 10 s; below 1 frames pass by \
         (hardware offload, SR-IOV, AF_XDP). Only where the driver counts wire frames and enough passes.",
        &[r#"{interface="eth0",direction="ingress"} 0.75"#],
    );
    family(
        "lossprobe_paused",
        "gauge",
        "",
        "1 while nothing is counted because of `lossprobe pause` or `lossprobe detach`, else 0.",
        &[" 1"],
    );
    family(
        "lossprobe_attached",
        "gauge",
        "",
        "1 for every hook that is attached, how, and where among the hook's programs; of BRIDGE/ports, the number of ports.",
        &[
            r#"{interface="eth0",hook="tc_egress",mode="tcx",position="first"} 1"#,
            r#"{interface="eth0",hook="tc_ingress",mode="tcx",position="first"} 1"#,
            r#"{interface="we\"ird\\",hook="tc_ingress",mode="tcx",position="first"} 1"#,
        ],
    );
    family(
        "lossprobe_refused_interfaces",
        "gauge",
        "",
        "Selected interfaces that are not watched as asked: no counter is free, or a hook is missing. `lossprobe stats` says which and why.",
        &[" 0"],
    );
    family(
        "lossprobe_feature_available",
        "gauge",
        "",
        "Whether this kernel gives a feature: 1 yes, 0 no.",
        &[r#"{feature="drop_reason"} 0"#, r#"{feature="tcx"} 1"#],
    );
    family("lossprobe_map_entries", "gauge", "", "Entries in use of a bounded map.", &[r#"{map="drops"} 5"#]);
    family("lossprobe_map_capacity", "gauge", "", "Entries that a bounded map can hold.", &[r#"{map="drops"} 4096"#]);
    family(
        "lossprobe_map_update_failed",
        "counter",
        "",
        "Counts that were lost because a kernel map took no more; of map senders only whose frames they were.",
        &[r#"{map="drops",cause="full"} 0"#],
    );
    family(
        "lossprobe_program_missed",
        "counter",
        "",
        "Runs of a program that the kernel skipped because it was already running on that CPU.",
        &[r#"{program="kfree_skb"} 0"#],
    );
    family(
        "lossprobe_drop_members",
        "counter",
        "",
        "Drop events that were members of a packet already counted, and so were not counted again.",
        &[" 6"],
    );
    family(
        "lossprobe_drop_storm_packets",
        "counter",
        "packets",
        "Dropped packets, in wire segments, that came faster than 100,000 a second on one CPU: counted by reason, their interface is that of a sample of one in 64.",
        &[" 8"],
    );
    family(
        "lossprobe_drop_storm_waiting_packets",
        "gauge",
        "packets",
        "Packets of a drop storm that are not in lossprobe_dropped_packets_total yet: the next drop for the same reason on the same CPU brings them.",
        &[" 2"],
    );
    family(
        "lossprobe_uncounted_seconds",
        "counter",
        "seconds",
        "Time in which nothing was counted because the agent stood still for more than 10 s.",
        &[" 1"],
    );
    family(
        "lossprobe_evidence_lost",
        "counter",
        "",
        "Malformed frames that were to be kept as evidence and found no room, or could not be copied. They are counted.",
        &[" 4"],
    );
    family(
        "lossprobe_verdict",
        "gauge",
        "",
        "Whose fault it is: 1 for the verdict of the last second, 0 for the others; none if nothing is wrong.",
        &[r#"{verdict="network_in"} 1"#],
    );
    family(
        "lossprobe_incident_active",
        "gauge",
        "",
        "Incidents that are not over, by verdict; unknown while nobody is named.",
        &[r#"{verdict="network_in"} 1"#],
    );
    family(
        "lossprobe_incidents",
        "counter",
        "",
        "Incidents by the first verdict that named somebody, unknown if none did until they were over.",
        &[r#"{verdict="network_in"} 2"#],
    );
    family(
        "lossprobe_detector_alarmed",
        "gauge",
        "",
        "Whether more is lost, or comes malformed, than usual; unit is a track group or an uplink.",
        &[r#"{unit="uplinks",kind="network_in"} 1"#],
    );
    family(
        "lossprobe_push",
        "counter",
        "",
        "Changes of incidents that were told to the receiver of --push-url: delivered, rejected (it does not want them), dropped (too many waited); retried are attempts that failed and were followed by another.",
        &[r#"{result="delivered"} 3"#],
    );
    family(
        "lossprobe_incident_write_failed",
        "counter",
        "",
        "Times that an incident or its bundle could not be written to the state folder; absent without --state-dir.",
        &[" 1"],
    );
    family(
        "lossprobe_web_config_current",
        "gauge",
        "",
        "1 while the HTTP address is protected as the file of --web-config and those it names say now, 0 where something is wrong with them and an earlier state is served; absent without such a file.",
        &[" 1"],
    );
    family("lossprobe_collect_errors", "counter", "", "Reads of a source that failed.", &[r#"{source="netlink"} 1"#]);
    if openmetrics {
        golden += "# EOF\n";
    }
    golden
}

#[test]
fn exposition_in_both_formats() {
    assert_eq!(without_zeros(&expose(snapshot(), Format::OpenMetrics)), golden(true));
    assert_eq!(without_zeros(&expose(snapshot(), Format::Text)), golden(false));
}

#[test]
fn ports_together_or_not_at_all() {
    let mut snapshot = snapshot();
    snapshot.interfaces[1].role = "port".into();
    snapshot.drops[0].port = true;
    let lines_of = |ports: &str, name: &str| -> Vec<String> {
        let text = expose(Snapshot { ports: ports.into(), ..snapshot.clone() }, Format::Text);
        text.lines().filter(|line| line.contains(&format!("interface=\"{name}"))).map(str::to_owned).collect()
    };
    let (port, group) = ("we\\\"ird", "br0/ports");
    assert_eq!((lines_of("each", port).len(), lines_of("each", group).len()), (6, 0));
    assert_eq!((lines_of("none", port).len(), lines_of("none", group).len()), (0, 0));
    assert_eq!(lines_of("aggregate", port), Vec::<String>::new());
    assert_eq!(
        lines_of("aggregate", group),
        [
            r#"lossprobe_interface_info{interface="br0/ports",kind="ports",role="port",master="br0",lower="",driver="",alias=""} 1"#,
            r#"lossprobe_aggregated_ports{interface="br0/ports"} 40"#,
            r#"lossprobe_frames_total{interface="br0/ports",direction="ingress"} 700"#,
            r#"lossprobe_bytes_total{interface="br0/ports",direction="ingress"} 42000"#,
            r#"lossprobe_malformed_frames_total{interface="br0/ports",direction="ingress",reason="ip4_csum",severity="error"} 5"#,
            r#"lossprobe_dropped_packets_total{interface="br0/ports",reason="netfilter_drop",class="policy",netns="own"} 8"#,
            r#"lossprobe_xdp_failed_packets_total{interface="br0/ports",cause="exception_tx"} 9"#,
            r#"lossprobe_tcp_retransmitted_segments_total{interface="br0/ports",type="syn"} 6"#,
            r#"lossprobe_attached{interface="br0/ports",hook="tc_ingress",mode="tcx",position="first"} 39"#,
        ]
    );
    // A drop of a port is in its group alone.
    let drops = |ports: &str| lines_of(ports, "eth0").into_iter().find(|line| line.contains("dropped")).unwrap();
    assert!(drops("each").ends_with(" 5") && drops("aggregate").ends_with(" 1") && drops("none").ends_with(" 1"));
}

#[test]
fn zeros_only_for_errors_that_were_looked_for() {
    let text = expose(snapshot(), Format::Text);
    let zeros: Vec<_> =
        text.lines().filter(|line| line.starts_with("lossprobe_malformed") && line.ends_with(" 0")).collect();
    let has = |reason: &str| zeros.iter().any(|line| line.contains(&format!("reason=\"{reason}\"")));
    assert!(zeros.iter().all(|line| line.contains(r#"interface="eth0",direction="ingress""#)), "uplink ingress only");
    assert!(zeros.iter().all(|line| line.contains(r#"severity="error""#)), "errors only");
    assert!(has("ip4_trunc") && has("tcp_doff"));
    assert!(!has("eth_short") && !has("arp_hdr"), "eth0 has no link layer here");
    assert!(!has("ip4_csum"), "was seen");
}

#[test]
fn what_could_not_be_looked_at_is_absent() {
    let mut blind = snapshot();
    blind.tcp.sent_segments = None;
    blind.probe.maps.clear();
    (blind.softnet, blind.protocols) = (None, Vec::new());
    let text = expose(blind, Format::Text);
    assert!(!text.contains("lossprobe_tcp_sent_segments"));
    assert!(!text.contains("lossprobe_map_capacity"));
    assert!(!text.contains("lossprobe_softnet") && !text.contains("lossprobe_protocol_errors"));
    assert!(!text.contains("cause=\"fifo\""), "not observable");
    assert!(!text.contains(r#"lossprobe_frames_total{interface="off0""#));
}

#[test]
fn loss_on_the_wire() {
    let text = expose(snapshot(), Format::Text);
    for line in [
        r#"lossprobe_wire_tcp_segments_total{interface="eth0",direction="ingress"} 6"#,
        r#"lossprobe_wire_tcp_events_total{interface="eth0",direction="ingress",event="hole_opened"} 2"#,
        r#"lossprobe_wire_tcp_events_total{interface="eth0",direction="ingress",event="spurious"} 0"#,
        r#"lossprobe_path_lost_segments_total{interface="eth0",side="network_in"} 2"#,
        r#"lossprobe_path_loss_ratio{interface="eth0",side="network_in"} 0.25"#,
        r#"lossprobe_judged_ratio{interface="eth0"} 0.6"#,
        r#"lossprobe_flow_quality_total{cause="table_full"} 5"#,
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in {text}");
    }
    assert!(!text.contains(r#"lossprobe_path_loss_ratio{interface="eth0",side="inside""#), "nothing has passed");
    assert!(!text.contains(r#"lossprobe_judged_ratio{interface="off0""#), "its connections are not followed");
}

#[test]
fn names_that_look_alike_become_one_series() {
    let mut twice = snapshot();
    let again = twice.interfaces[1].clone();
    twice.interfaces.push(again);
    let text = expose(twice, Format::Text);
    let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut names: Vec<_> = series.iter().filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), series.len(), "every series once");
    assert!(text.contains("lossprobe_frames_total{interface=\"we\\\"ird\\\\\",direction=\"ingress\"} 2\n"), "{text}");
    assert!(text.contains("interface=\"we\\\"ird\\\\\",hook=\"tc_ingress\",mode=\"tcx\",position=\"first\"} 1\n"));
}

#[test]
fn every_entry_of_the_list_is_consistent() {
    let (snapshot, mut aggregated) = (snapshot(), snapshot());
    aggregated.ports = "aggregate".into();
    for metric in METRICS {
        let Metric { name, unit, help, .. } = metric;
        let rebuilt = [metric.stem(), unit].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_");
        assert_eq!(rebuilt + metric.kind.suffix(), *name);
        assert!(help.ends_with('.') && !help.contains(['\\', '\n']), "{name}: help");
        assert_eq!(METRICS.iter().filter(|other| other.name == *name).count(), 1, "{name} twice");
        let series = metric.read(if metric.name == "lossprobe_aggregated_ports" { &aggregated } else { &snapshot });
        assert!(!series.is_empty(), "{name}: the test's snapshot has none");
        assert!(series.keys().all(|values| values.len() == metric.labels.len()), "{name}: values for its labels");
    }
}

#[test]
fn the_table_has_every_metric() {
    let table = table();
    assert_eq!(table.lines().count(), METRICS.len() + 2);
    assert!(table.lines().all(|line| line.matches('|').count() == 6));
    assert!(table.contains("| `lossprobe_bytes_total` | counter | bytes | interface, direction | Bytes as on"));
    assert!(table.contains("| `lossprobe_drop_members_total` | counter | – | – | Drop events"));
}

#[test]
fn promtool_has_nothing_to_say() {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: install the package `prometheus` (`cargo xtask setup` does)");
    promtool.stdin.take().unwrap().write_all(expose(snapshot(), Format::Text).as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!((said.as_ref(), output.status.success()), ("", true));
}
