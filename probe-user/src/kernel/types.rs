//! What the running kernel is, as far as the programs need to know: offsets, reason names, tracepoint shapes.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use probe_ebpf::abi::{ABSENT, Offsets};

use super::{
    btf::{Btf, VMLINUX},
    reasons::Reasons,
};

/// Tracepoints that programs attach to.
pub const KFREE_SKB: &str = "kfree_skb";
/// See [`KFREE_SKB`].
pub const TCP_RETRANSMIT_SKB: &str = "tcp_retransmit_skb";
/// See [`KFREE_SKB`].
pub const TCP_RETRANSMIT_SYNACK: &str = "tcp_retransmit_synack";
/// See [`KFREE_SKB`].
pub const TCP_BAD_CSUM: &str = "tcp_bad_csum";
/// See [`KFREE_SKB`].
pub const XDP_EXCEPTION: &str = "xdp_exception";
/// See [`KFREE_SKB`].
pub const XDP_REDIRECT_ERR: &str = "xdp_redirect_err";
/// See [`KFREE_SKB`].
pub const XDP_DEVMAP_XMIT: &str = "xdp_devmap_xmit";
/// See [`KFREE_SKB`].
pub const XDP_BULK_TX: &str = "xdp_bulk_tx";
/// See [`KFREE_SKB`].
pub const XDP_CPUMAP_ENQUEUE: &str = "xdp_cpumap_enqueue";
/// All of them.
pub const TRACEPOINTS: [&str; 9] = [
    KFREE_SKB,
    TCP_RETRANSMIT_SKB,
    TCP_RETRANSMIT_SYNACK,
    TCP_BAD_CSUM,
    XDP_EXCEPTION,
    XDP_REDIRECT_ERR,
    XDP_DEVMAP_XMIT,
    XDP_BULK_TX,
    XDP_CPUMAP_ENQUEUE,
];

/// Everything that was learned from BTF.
#[derive(Clone, Debug)]
pub struct KernelTypes {
    /// For the programs.
    pub offsets: Offsets,
    /// Names of drop reasons.
    pub reasons: Reasons,
    /// Arguments of each tracepoint that exists.
    pub tracepoint_arguments: BTreeMap<&'static str, usize>,
}

impl KernelTypes {
    /// Those of the running kernel and its modules.
    ///
    /// # Errors
    /// If the kernel shows no type information, or it cannot be read.
    pub fn running() -> Result<Self> {
        let vmlinux = Path::new(VMLINUX);
        let btf = Btf::from_file(vmlinux)?;
        let mut types = Self::from_btf(&btf);
        types.reasons.add_modules(&btf, vmlinux.parent().unwrap_or(vmlinux));
        Ok(types)
    }

    /// Looks up everything.
    #[must_use]
    pub fn from_btf(btf: &Btf<'_>) -> Self {
        let arguments = |name: &'static str| Some((name, btf.tracepoint_arguments(name)?));
        Self {
            offsets: offsets(btf),
            reasons: Reasons::of_kernel(btf),
            tracepoint_arguments: TRACEPOINTS.into_iter().filter_map(arguments).collect(),
        }
    }

    /// Whether it is known on what occasion a segment is sent again.
    #[must_use]
    pub const fn tells_occasions(&self) -> bool {
        let offsets = &self.offsets;
        offsets.inet_connection_sock_icsk_ca_state != ABSENT && offsets.inet_connection_sock_icsk_pending != ABSENT
    }

    /// Names of the offsets that drops and retransmits cannot be attributed without, and that this kernel lacks.
    #[must_use]
    pub fn missing_offsets(&self) -> Vec<&'static str> {
        let offsets = &self.offsets;
        [
            ("sk_buff.dev", offsets.sk_buff_dev),
            ("sk_buff.sk", offsets.sk_buff_sk),
            ("sk_buff.skb_iif", offsets.sk_buff_skb_iif),
            ("sk_buff.protocol", offsets.sk_buff_protocol),
            ("sk_buff._skb_refdst", offsets.sk_buff_skb_refdst),
            ("sk_buff.head", offsets.sk_buff_head),
            ("sk_buff.end", offsets.sk_buff_end),
            ("sk_buff.data", offsets.sk_buff_data),
            ("sk_buff.tail", offsets.sk_buff_tail),
            ("sk_buff.len", offsets.sk_buff_len),
            ("sk_buff.cb", offsets.sk_buff_cb),
            ("sk_buff.network_header", offsets.sk_buff_network_header),
            ("sk_buff.transport_header", offsets.sk_buff_transport_header),
            ("sk_buff.data_len", offsets.sk_buff_data_len),
            ("sk_buff.ip_summed", offsets.sk_buff_ip_summed),
            ("net_device.ifindex", offsets.net_device_ifindex),
            ("net_device.nd_net", offsets.net_device_nd_net),
            ("net.ns.inum", offsets.net_ns_inum),
            ("dst_entry.dev", offsets.dst_entry_dev),
            ("sock.__sk_common.skc_net", offsets.sock_skc_net),
            ("sock.__sk_common.skc_state", offsets.sock_skc_state),
            ("sock.__sk_common.skc_family", offsets.sock_skc_family),
            ("sock.__sk_common.skc_daddr", offsets.sock_skc_daddr),
            ("sock.__sk_common.skc_rcv_saddr", offsets.sock_skc_rcv_saddr),
            ("sock.__sk_common.skc_dport", offsets.sock_skc_dport),
            ("sock.__sk_common.skc_num", offsets.sock_skc_num),
            ("sock.sk_dst_cache", offsets.sock_sk_dst_cache),
        ]
        .into_iter()
        .filter_map(|(name, offset)| (offset == ABSENT).then_some(name))
        .collect()
    }
}

fn offsets(btf: &Btf<'_>) -> Offsets {
    let at = |structure, path| btf.offset(structure, path).unwrap_or(ABSENT);
    let common = |member: &str| btf.offset("sock", &format!("__sk_common.{member}")).unwrap_or(ABSENT);
    let gso = |member| at("skb_shared_info", member);
    let (ca_state, ca_state_shift) = btf.bit_field("inet_connection_sock", "icsk_ca_state").unwrap_or((ABSENT, ABSENT));
    let (ip_summed, ip_summed_shift) = btf.bit_field("sk_buff", "ip_summed").unwrap_or((ABSENT, ABSENT));
    Offsets {
        sk_buff_dev: at("sk_buff", "dev"),
        sk_buff_sk: at("sk_buff", "sk"),
        sk_buff_skb_iif: at("sk_buff", "skb_iif"),
        sk_buff_protocol: at("sk_buff", "protocol"),
        sk_buff_skb_refdst: at("sk_buff", "_skb_refdst"),
        sk_buff_head: at("sk_buff", "head"),
        sk_buff_end: at("sk_buff", "end"),
        sk_buff_data: at("sk_buff", "data"),
        sk_buff_tail: at("sk_buff", "tail"),
        sk_buff_len: at("sk_buff", "len"),
        sk_buff_cb: at("sk_buff", "cb"),
        sk_buff_network_header: at("sk_buff", "network_header"),
        sk_buff_transport_header: at("sk_buff", "transport_header"),
        sk_buff_data_len: at("sk_buff", "data_len"),
        sk_buff_ip_summed: ip_summed,
        sk_buff_ip_summed_shift: ip_summed_shift,
        // Both are read at once.
        skb_shared_info_gso_size: match (gso("gso_size"), gso("gso_segs")) {
            (size, segments) if size.checked_add(2) == Some(segments) => size,
            _ => ABSENT,
        },
        skb_shared_info_gso_type: gso("gso_type"),
        net_device_ifindex: at("net_device", "ifindex"),
        net_device_nd_net: at("net_device", "nd_net.net"),
        net_ns_inum: at("net", "ns.inum"),
        dst_entry_dev: at("dst_entry", "dev"),
        sock_skc_net: at("sock", "__sk_common.skc_net.net"),
        sock_skc_state: common("skc_state"),
        sock_skc_family: common("skc_family"),
        sock_skc_daddr: common("skc_daddr"),
        sock_skc_rcv_saddr: common("skc_rcv_saddr"),
        sock_skc_v6_daddr: common("skc_v6_daddr"),
        sock_skc_v6_rcv_saddr: common("skc_v6_rcv_saddr"),
        sock_skc_dport: common("skc_dport"),
        sock_skc_num: common("skc_num"),
        sock_sk_dst_cache: at("sock", "sk_dst_cache"),
        request_sock_skc_bound_dev_if: at("request_sock", "__req_common.skc_bound_dev_if"),
        inet_connection_sock_icsk_ca_state: ca_state,
        inet_connection_sock_icsk_ca_state_shift: ca_state_shift,
        inet_connection_sock_icsk_pending: at("inet_connection_sock", "icsk_pending"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_all_offsets() {
        let types = KernelTypes::running().unwrap();
        assert_eq!(types.missing_offsets(), Vec::<&str>::new());
        assert!(types.tracepoint_arguments[KFREE_SKB] >= 2);
        assert!(types.tells_occasions());
        assert_ne!(types.offsets.request_sock_skc_bound_dev_if, ABSENT);
    }
}
