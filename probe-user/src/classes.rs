//! What kind of event a kernel drop reason is: the one table from reason names to classes. Everything that shows or
//! judges drops uses it, so that "lost for want of capacity" and "nobody wanted it" are never one number.
//!
//! Names, never numbers: the enum is renumbered between releases. A name is the kernel's in lower case without
//! `skb_drop_reason_`. Names that are not in the table are [`Class::Unknown`]: a new reason must not be taken for loss
//! or for noise before somebody has looked at it.
//! Source: include/net/dropreason-core.h (complete for Linux 6.18), net/openvswitch/drop.h; algorithms.md §4.3.

use std::collections::BTreeMap;

/// What a dropped packet means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A queue, buffer or limit of this machine was full: real loss, and local.
    Capacity,
    /// The packet contradicts itself or a standard.
    Malformed,
    /// Routing, neighbours or devices are set up so that it could not go on.
    Config,
    /// Somebody decided that it be dropped: firewall, filter, BPF.
    Policy,
    /// Not a loss: nobody wanted it, or what it carried had already arrived.
    Noise,
    /// The name says nothing, or is not known here.
    Unknown,
}

impl Class {
    /// All, in the order of tables.
    pub const ALL: [Self; 6] =
        [Self::Capacity, Self::Malformed, Self::Config, Self::Policy, Self::Noise, Self::Unknown];

    /// The metric label `class`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Malformed => "malformed",
            Self::Config => "config",
            Self::Policy => "policy",
            Self::Noise => "noise",
            Self::Unknown => "unknown",
        }
    }

    /// The class with this id.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.id() == id)
    }
}

/// Names by class. A name that ends in `*` is a prefix; a whole name wins over every prefix.
const TABLE: [(Class, &[&str]); 5] = [
    (
        Class::Capacity,
        &[
            "cake_*",
            "cpu_backlog",
            // The device is down or its queue is detached: what was under way to it is lost here.
            "dev_ready",
            "dualpi2_*",
            "fq_*",
            "full_ring",
            "neigh_queuefull",
            "nomem",
            "ovs_drop_deferred_limit",
            "pfmemalloc",
            "proto_mem",
            "qdisc_*",
            // Zero-copy data could not be copied: no memory, or the writer's pages are gone.
            "skb_ucopy_fault",
            "socket_backlog",
            "socket_rcvbuff",
            "tcp_listen_overflow",
            "tcp_ofo_queue_prune",
        ],
    ),
    (
        Class::Malformed,
        &[
            "dev_hdr",
            "dup_frag",
            // A reassembly that timed out lost a fragment before this machine.
            "frag_*",
            "hdr_trunc",
            "icmp_csum",
            "invalid_proto",
            "ip_csum",
            // Also the hop limit that ran out while forwarding: the kernel has no other name for it.
            "ip_inhdr",
            "ip_invalid_dest",
            "ip_invalid_source",
            "ip_localnet",
            "ipv6_bad_exthdr",
            "ipv6_ndisc_*",
            "mac_invalid_source",
            "ovs_drop_frag_invalid_proto",
            "pkt_too_big",
            "pkt_too_small",
            "skb_csum",
            "tcp_auth_hdr",
            "tcp_csum",
            "tcp_flags",
            "udp_csum",
            "vxlan_invalid_hdr",
        ],
    ),
    (
        Class::Config,
        &[
            "bridge_*",
            "ip_inaddrerrors",
            "ip_innoroutes",
            "ip_local_source",
            "ip_outnoroutes",
            "ip_rpfilter",
            // Congestion was marked on a tunnel whose passenger cannot carry the mark (RFC 6040 §4.2).
            "ip_tunnel_ecn",
            "ipv6disabled",
            "neigh_createfail",
            "neigh_dead",
            "neigh_failed",
            "neigh_hh_fillfail",
            "no_tx_target",
            "ovs_drop_action_error",
            "ovs_drop_explicit_with_error",
            "ovs_drop_frag_l2_too_long",
            "ovs_drop_recursion_limit",
            "recursion_limit",
            "skb_gso_seg",
            // The two ends disagree on keys (RFC 2385, RFC 5925).
            "tcp_aofailure",
            "tcp_aokeynotfound",
            "tcp_aonotfound",
            "tcp_aounexpected",
            "tcp_md5failure",
            "tcp_md5notfound",
            "tcp_md5unexpected",
            "tunnel_txinfo",
            "vxlan_vni_not_found",
        ],
    ),
    (
        Class::Policy,
        &[
            "arp_pvlan_disable",
            "bpf_cgroup_egress",
            "netfilter_drop",
            "ovs_drop_conntrack",
            "ovs_drop_explicit",
            "ovs_drop_last_action",
            "ovs_drop_meter",
            "psp_*",
            "security_hook",
            "socket_filter",
            "tap_filter",
            "tap_txfilter",
            "tc_*",
            "tcp_minttl",
            "xdp",
            "xfrm_policy",
        ],
    ),
    (
        Class::Noise,
        &[
            "can_*",
            "canfd_*",
            "canxl_*",
            "ip_noproto",
            "ipv6_ndisc_ns_otherhost",
            "local_mac",
            // PAUSE and other frames between two ports, never for a host (IEEE 802.3 annex 31).
            "mac_ieee_mac_control",
            "no_socket",
            "otherhost",
            "ovs_drop_ip_ttl",
            "packet_sock_error",
            // The name of unhandled_proto in Linux 5.18.
            "ptype_absent",
            "queue_purge",
            // Not drops; the enum's first two members, which have no prefix in the kernel.
            "skb_consumed",
            "skb_not_dropped_yet",
            "socket_close",
            "tcp_abort_on_data",
            "tcp_ack_unsent_data",
            "tcp_close",
            "tcp_fastopen",
            "tcp_invalid_*",
            "tcp_ofo_drop",
            "tcp_ofomerge",
            "tcp_old_*",
            // Outside the window that this end has granted: probes, late duplicates, or blind injection.
            "tcp_overwindow",
            "tcp_reset",
            "tcp_rfc7323_*",
            "tcp_too_old_ack",
            "tcp_zerowindow",
            "unhandled_proto",
            "unicast_in_l2_multicast",
            "unix_*",
            "vxlan_entry_exists",
        ],
    ),
];

/// Functions that give packets up at somebody's word and without a reason, by class.
const BY_FUNCTION: [(Class, &[&str]); 1] = [(
    Class::Policy,
    &[
        // XDP_DROP of a program in generic mode; the first has the second inlined in most kernels.
        "do_xdp_generic",
        "netif_receive_generic_xdp",
        // The same of one on a veth; in Linux 5.10 the first has the second inlined, and frees nothing else.
        "veth_poll",
        "veth_xdp_rcv_skb",
    ],
)];

/// Every reason of Linux 6.18.44, from its BTF.
const LINUX_6_18: &str = "\
    skb_not_dropped_yet skb_consumed not_specified no_socket socket_close socket_filter socket_rcvbuff \
    unix_disconnect unix_skip_oob pkt_too_small tcp_csum udp_csum netfilter_drop otherhost ip_csum ip_inhdr \
    ip_rpfilter unicast_in_l2_multicast xfrm_policy ip_noproto proto_mem tcp_auth_hdr tcp_md5notfound \
    tcp_md5unexpected tcp_md5failure tcp_aonotfound tcp_aounexpected tcp_aokeynotfound tcp_aofailure \
    socket_backlog tcp_flags tcp_abort_on_data tcp_zerowindow tcp_old_data tcp_overwindow tcp_ofomerge \
    tcp_rfc7323_paws tcp_rfc7323_paws_ack tcp_rfc7323_tw_paws tcp_rfc7323_tsecr tcp_listen_overflow \
    tcp_old_sequence tcp_invalid_sequence tcp_invalid_end_sequence tcp_invalid_ack_sequence tcp_reset \
    tcp_invalid_syn tcp_close tcp_fastopen tcp_old_ack tcp_too_old_ack tcp_ack_unsent_data tcp_ofo_queue_prune \
    tcp_ofo_drop ip_outnoroutes bpf_cgroup_egress ipv6disabled neigh_createfail neigh_failed neigh_queuefull \
    neigh_dead neigh_hh_fillfail tc_egress security_hook qdisc_drop qdisc_overlimit qdisc_congested cake_flood \
    fq_band_limit fq_horizon_limit fq_flow_limit cpu_backlog xdp tc_ingress unhandled_proto skb_csum skb_gso_seg \
    skb_ucopy_fault dev_hdr dev_ready full_ring nomem hdr_trunc tap_filter tap_txfilter icmp_csum invalid_proto \
    ip_inaddrerrors ip_innoroutes ip_local_source ip_invalid_source ip_localnet ip_invalid_dest pkt_too_big \
    dup_frag frag_reasm_timeout frag_too_far tcp_minttl ipv6_bad_exthdr ipv6_ndisc_frag ipv6_ndisc_hop_limit \
    ipv6_ndisc_bad_code ipv6_ndisc_bad_options ipv6_ndisc_ns_otherhost queue_purge tc_cookie_error \
    packet_sock_error tc_chain_notfound tc_reclassify_loop vxlan_invalid_hdr vxlan_vni_not_found \
    mac_invalid_source vxlan_entry_exists no_tx_target ip_tunnel_ecn tunnel_txinfo local_mac arp_pvlan_disable \
    mac_ieee_mac_control bridge_ingress_stp_state can_rx_invalid_frame canfd_rx_invalid_frame \
    canxl_rx_invalid_frame pfmemalloc dualpi2_step_drop psp_input psp_output recursion_limit";

/// Every reason that this version knows by its whole name, in no order, some twice: those of the table and of Linux 6.18.
pub fn known_names() -> impl Iterator<Item = &'static str> {
    let table = TABLE.iter().flat_map(|(_, names)| names.iter().copied());
    table.filter(|name| !name.ends_with('*')).chain(LINUX_6_18.split_whitespace())
}

/// The class of a drop reason: the kernel's name in lower case without `skb_drop_reason_`.
#[must_use]
pub fn class_of(reason: &str) -> Class {
    let names = || TABLE.iter().flat_map(|(class, names)| names.iter().map(move |name| (*class, *name)));
    let whole = names().find(|(_, name)| *name == reason);
    let by_prefix = || names().find(|(_, name)| name.strip_suffix('*').is_some_and(|start| reason.starts_with(start)));
    whole.or_else(by_prefix).map_or(Class::Unknown, |(class, _)| class)
}

/// Whether a drop in this function is XDP_DROP: all that are listed are.
#[must_use]
pub fn is_xdp_drop(function: &str) -> bool {
    functions().any(|known| known == function)
}

/// The functions that tell the class of a drop that has no reason.
pub fn functions() -> impl Iterator<Item = &'static str> {
    BY_FUNCTION.iter().flat_map(|(_, functions)| functions.iter().copied())
}

/// The table with what the operator has decided otherwise (`[drop_classes]` of the configuration file).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    overrides: BTreeMap<String, Class>,
}

impl Classes {
    /// With these classes by whole reason name before the table's.
    #[must_use]
    pub const fn new(overrides: BTreeMap<String, Class>) -> Self {
        Self { overrides }
    }

    /// The class of a drop by its reason, see [`class_of`]; where that says nothing by the function, `""` if that is not known.
    #[must_use]
    pub fn of(&self, reason: &str, function: &str) -> Class {
        let decided = self.overrides.get(reason).copied();
        let by_name = || Some(class_of(reason)).filter(|class| *class != Class::Unknown);
        let mut functions = BY_FUNCTION.iter().filter(|(_, functions)| functions.contains(&function));
        let by_function = || functions.next().map(|(class, _)| *class);
        decided.or_else(by_name).or_else(by_function).unwrap_or(Class::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_class_for_every_reason_of_linux_6_18() {
        let unknown: Vec<_> =
            LINUX_6_18.split_whitespace().filter(|reason| class_of(reason) == Class::Unknown).collect();
        assert_eq!(unknown, ["not_specified"]);
        assert_eq!(LINUX_6_18.split_whitespace().count(), 128);
    }

    /// A newer kernel's new reasons are no failure (their class is `unknown`, as promised), but they are shown.
    #[test]
    fn reasons_of_the_running_kernel() {
        let btf = std::fs::read("/sys/kernel/btf/vmlinux").expect("this kernel has no BTF: CONFIG_DEBUG_INFO_BTF");
        let reasons: BTreeSet<String> = btf
            .split(|byte| *byte == 0)
            .filter_map(|string| std::str::from_utf8(string).ok()?.strip_prefix("SKB_DROP_REASON_"))
            .filter(|name| *name != "MAX" && !name.starts_with("SUBSYS_"))
            .map(str::to_lowercase)
            .collect();
        let unknown: Vec<_> = reasons.iter().filter(|reason| class_of(reason) == Class::Unknown).collect();
        println!("{} reasons, unknown: {unknown:?}", reasons.len());
    }

    #[test]
    fn whole_names_win_over_prefixes() {
        for (reason, expected) in [
            ("ipv6_ndisc_ns_otherhost", Class::Noise),
            ("ipv6_ndisc_bad_code", Class::Malformed),
            ("tc_ingress", Class::Policy),
            ("tcp_something_new", Class::Unknown),
            ("qdisc_something_new", Class::Capacity),
            ("netfilter_drop", Class::Policy),
            ("netfilter_drop_", Class::Unknown),
            ("", Class::Unknown),
        ] {
            assert_eq!(class_of(reason), expected, "{reason}");
        }
    }

    #[test]
    fn no_name_has_two_classes() {
        let mut seen = BTreeSet::new();
        for name in TABLE.iter().flat_map(|(_, names)| names.iter()) {
            assert!(seen.insert(name), "{name} is twice in the table");
        }
    }

    #[test]
    fn overrides_win() {
        let classes = Classes::new([("neigh_failed".to_owned(), Class::Noise)].into());
        assert_eq!(classes.of("neigh_failed", ""), Class::Noise);
        assert_eq!(classes.of("neigh_dead", ""), Class::Config);
    }

    #[test]
    fn a_function_tells_where_the_reason_says_nothing() {
        let classes = Classes::default();
        for (reason, function, expected) in [
            ("not_specified", "", Class::Unknown),
            ("not_specified", "nf_hook_slow", Class::Unknown),
            ("not_specified", "veth_xdp_rcv_skb", Class::Policy),
            ("nomem", "veth_xdp_rcv_skb", Class::Capacity),
        ] {
            assert_eq!(classes.of(reason, function), expected, "{reason} {function}");
        }
        let decided = Classes::new([("not_specified".to_owned(), Class::Noise)].into());
        assert!(functions().all(|function| decided.of("not_specified", function) == Class::Noise));
    }

    #[test]
    fn ids_lead_back() {
        for class in Class::ALL {
            assert_eq!(Class::from_id(class.id()), Some(class));
        }
        assert_eq!(Class::from_id("Noise"), None);
    }
}
