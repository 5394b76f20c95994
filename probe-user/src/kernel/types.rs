//! What the running kernel is, as far as the programs need to know: offsets, reason names, tracepoint shapes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader},
    ops::Range,
};

use probe_ebpf::abi::{ABSENT, Offsets};

use super::btf::Btf;

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
    /// Drop reasons: the kernel's own names in lower case, without prefix; empty where it has none.
    pub drop_reasons: BTreeMap<u32, String>,
    /// Arguments of each tracepoint that exists.
    pub tracepoint_arguments: BTreeMap<&'static str, usize>,
}

impl KernelTypes {
    /// Looks up everything.
    #[must_use]
    pub fn from_btf(btf: &Btf) -> Self {
        let arguments = |name: &'static str| Some((name, btf.tracepoint_arguments(name)?));
        Self {
            offsets: offsets(btf),
            drop_reasons: drop_reasons(btf),
            tracepoint_arguments: TRACEPOINTS.into_iter().filter_map(arguments).collect(),
        }
    }

    /// The name of a drop reason; a number that the kernel does not name stays visible as `reason_N`.
    #[must_use]
    pub fn drop_reason(&self, number: u32) -> String {
        match self.drop_reasons.get(&number) {
            Some(name) => name.clone(),
            None if self.drop_reasons.is_empty() => "not_specified".into(),
            None => format!("reason_{number:#x}"),
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
            ("sk_buff.data_len", offsets.sk_buff_data_len),
            ("sk_buff.ip_summed", offsets.sk_buff_ip_summed),
            ("net_device.ifindex", offsets.net_device_ifindex),
            ("net_device.nd_net", offsets.net_device_nd_net),
            ("net.ns.inum", offsets.net_ns_inum),
            ("dst_entry.dev", offsets.dst_entry_dev),
            ("sock.__sk_common.skc_net", offsets.sock_skc_net),
            ("sock.__sk_common.skc_state", offsets.sock_skc_state),
            ("sock.sk_dst_cache", offsets.sock_sk_dst_cache),
        ]
        .into_iter()
        .filter_map(|(name, offset)| (offset == ABSENT).then_some(name))
        .collect()
    }
}

fn offsets(btf: &Btf) -> Offsets {
    let at = |structure, path| btf.offset(structure, path).unwrap_or(ABSENT);
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
        sk_buff_data_len: at("sk_buff", "data_len"),
        sk_buff_ip_summed: ip_summed,
        sk_buff_ip_summed_shift: ip_summed_shift,
        skb_shared_info_gso_segs: at("skb_shared_info", "gso_segs"),
        net_device_ifindex: at("net_device", "ifindex"),
        net_device_nd_net: at("net_device", "nd_net.net"),
        net_ns_inum: at("net", "ns.inum"),
        dst_entry_dev: at("dst_entry", "dev"),
        sock_skc_net: at("sock", "__sk_common.skc_net.net"),
        sock_skc_state: at("sock", "__sk_common.skc_state"),
        sock_sk_dst_cache: at("sock", "sk_dst_cache"),
        request_sock_skc_bound_dev_if: at("request_sock", "__req_common.skc_bound_dev_if"),
        inet_connection_sock_icsk_ca_state: ca_state,
        inet_connection_sock_icsk_ca_state_shift: ca_state_shift,
        inet_connection_sock_icsk_pending: at("inet_connection_sock", "icsk_pending"),
    }
}

fn drop_reasons(btf: &Btf) -> BTreeMap<u32, String> {
    const PREFIX: &str = "SKB_DROP_REASON_";
    let name = |(name, value): (String, u64)| {
        // `SKB_NOT_DROPPED_YET` and `SKB_CONSUMED` bear no prefix.
        let short = name.strip_prefix(PREFIX).unwrap_or(&name);
        Some((u32::try_from(value).ok()?, short.to_lowercase()))
    };
    btf.enumeration("skb_drop_reason").into_iter().filter_map(name).collect()
}

/// The addresses of a kernel function, `None` if the kernel does not show them (needs `CAP_SYSLOG`).
#[must_use]
pub fn function_addresses(function: &str) -> Option<Range<u64>> {
    let symbol = |line: String| {
        let mut words = line.split_ascii_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((address, words.nth(1)? == function))
    };
    let symbols = || Some(BufReader::new(File::open("/proc/kallsyms").ok()?).lines().map_while(Result::ok));
    let start =
        symbols()?.filter_map(symbol).find_map(|(address, found)| (found && address != 0).then_some(address))?;
    let end = symbols()?.filter_map(symbol).map(|(address, _)| address).filter(|address| *address > start).min()?;
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kernel::btf::VMLINUX;

    #[test]
    fn the_running_kernel_has_all_offsets() {
        let types = KernelTypes::from_btf(&Btf::from_file(Path::new(VMLINUX)).unwrap());
        assert_eq!(types.missing_offsets(), Vec::<&str>::new());
        assert!(types.tracepoint_arguments[KFREE_SKB] >= 2);
        assert!(types.tells_occasions());
        assert_ne!(types.offsets.request_sock_skc_bound_dev_if, ABSENT);
        assert!(types.drop_reasons.is_empty() || types.drop_reasons.values().any(|name| name == "netfilter_drop"));
    }
}
