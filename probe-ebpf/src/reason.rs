//! The closed lists: what can be wrong with a frame, and how sure and how local that is.
//!
//! A malformed kind is one entry of `reasons!`; everything else (metric label, severity, scope, help text, counter
//! key) is derived from it. The ids are a contract (metric label `reason`); so is the order only within one build.

/// How much a finding says about the health of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Severity {
    /// Worth knowing by API, never a metric.
    Info = 1,
    /// Suspicious; scanners and old equipment make such frames too.
    Warning = 2,
    /// Must never happen on a healthy wire.
    Error = 3,
}

impl Severity {
    /// The metric label.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Who can have made a malformed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// No router forwards it (RFC 1812 5.2.2): its maker is on this segment.
    Local,
    /// It may come from anywhere.
    Path,
}

impl Scope {
    /// The word used in API and CLI.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Path => "path",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident $id:literal $severity:ident $layer:literal $scope:ident $standard:literal $meaning:literal;)+) => {
        /// What contradicts itself in a frame. The number is the counter key between kernel and agent of one build.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Malformed {
            $(#[doc = $meaning] $variant,)+
        }

        impl Malformed {
            /// Every kind, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The metric label `reason`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)+ }
            }

            /// How much it says.
            #[must_use]
            #[inline(always)]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }

            /// The protocol whose rule is broken.
            #[must_use]
            pub const fn layer(self) -> &'static str {
                match self { $(Self::$variant => $layer,)+ }
            }

            /// Who can have made it.
            #[must_use]
            pub const fn scope(self) -> Scope {
                match self { $(Self::$variant => Scope::$scope,)+ }
            }

            /// The rule's source.
            #[must_use]
            pub const fn standard(self) -> &'static str {
                match self { $(Self::$variant => $standard,)+ }
            }

            /// One sentence for a human: the condition and its legitimate exceptions.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

reasons! {
    EthShort "eth_short" Error "ethernet" Local "IEEE 802.3 3.1" "the frame has fewer than 14 bytes";
    EthRunt "eth_runt" Warning "ethernet" Local "IEEE 802.3 4A.4.2" "the frame has fewer than 60 bytes at the ingress of a device with a parent device (a stripped tag excepted)";
    EthSrcGroup "eth_src_group" Error "ethernet" Local "IEEE 802.3 3.2.3" "the group bit is set in the source address";
    EthSrcZero "eth_src_zero" Warning "ethernet" Local "IEEE 802 8.2" "the source address is 00:00:00:00:00:00 (loopback excepted)";
    EthSameAddr "eth_same_addr" Warning "ethernet" Local "IEEE 802 8.2" "source and destination address are equal (loopback and the loop test 0x9000 excepted)";
    EthTypeGap "eth_type_gap" Error "ethernet" Local "IEEE 802.3 3.2.6" "the type field is between 1501 and 1535: neither a length nor a type";
    EthLenGt "eth_len_gt" Error "ethernet" Local "IEEE 802.3 3.2.6" "the 802.3 length reaches beyond the frame";
    LlcShort "llc_short" Error "ethernet" Local "IEEE 802.2 3.2" "an 802.3 frame has fewer than 3 LLC bytes (raw IPX, 0xFFFF, excepted)";
    EthUnknownType "eth_unknown_type" Info "ethernet" Local "IEEE EtherType registry" "the EtherType is not in the list";
    EthTrailer "eth_trailer" Warning "ethernet" Local "IEEE 802.3 3.2.7" "bytes follow the IP datagram of a frame that needs no padding (4 = kept FCS and 6 = PRP/HSR excepted)";
    EthOversize "eth_oversize" Warning "ethernet" Local "IEEE 802.3 3.2.7" "the frame is longer than the device's MTU + 22 (GSO, GRO and LRO excepted)";

    VlanShort "vlan_short" Error "vlan" Local "IEEE 802.1Q 9" "the VLAN tag is cut";
    Vlan4095 "vlan_4095" Error "vlan" Local "IEEE 802.1Q table 9-2" "the VLAN id is 0xFFF, which is reserved";
    Vlan0 "vlan_0" Info "vlan" Local "IEEE 802.1Q table 9-2" "the tag carries only a priority (VLAN id 0)";
    VlanDepth "vlan_depth" Warning "vlan" Local "IEEE 802.1ad" "the frame has more than two VLAN tags";
    VlanOrder "vlan_order" Warning "vlan" Local "IEEE 802.1ad" "a customer tag stands outside a service tag";
    VlanLenGt "vlan_len_gt" Error "vlan" Local "IEEE 802.3 3.2.6" "the 802.3 length behind a tag reaches beyond the frame";

    MplsShort "mpls_short" Error "mpls" Local "RFC 3032 2.1" "a label is cut";
    MplsNoBottom "mpls_no_bottom" Error "mpls" Local "RFC 3032 2.1" "none of 8 labels is the bottom of the stack";
    MplsReserved "mpls_reserved" Warning "mpls" Local "RFC 3032 2.1, RFC 7274" "a reserved label stands where it may not (GAL, ELI and OAM excepted)";
    MplsImplicitNull "mpls_implicit_null" Error "mpls" Local "RFC 3032 2.1" "label 3 is on the wire, which only signalling may use";

    ArpShort "arp_short" Error "arp" Local "RFC 826" "the ARP packet has fewer than 28 bytes";
    ArpHdr "arp_hdr" Error "arp" Local "RFC 826" "hardware type, protocol type or an address length is not Ethernet/IPv4's (hardware type 6, IEEE 802, excepted)";
    ArpOp "arp_op" Warning "arp" Local "RFC 826, RFC 5494" "the operation is none of 1, 2, 3, 4, 8, 9";
    ArpSha "arp_sha" Info "arp" Local "RFC 826" "the sender hardware address is not the Ethernet source (proxy ARP, VRRP and bonding do this)";
    ArpShaGroup "arp_sha_group" Warning "arp" Local "RFC 826" "the sender hardware address has the group bit set";

    Ip4Short "ip4_short" Error "ipv4" Local "RFC 791 3.1, RFC 1812 5.2.2" "fewer than 20 bytes follow where an IPv4 header must be";
    Ip4Ver "ip4_ver" Error "ipv4" Local "RFC 1122 3.2.1.1, RFC 1812 5.2.2" "the version is not 4 behind EtherType 0x0800";
    Ip4Ihl "ip4_ihl" Error "ipv4" Local "RFC 1812 5.2.2" "the header length is under 20 bytes or beyond the bytes present";
    Ip4LenLtHdr "ip4_len_lt_hdr" Error "ipv4" Local "RFC 1812 5.2.2" "the total length is under the header length (0 on a GSO packet excepted)";
    Ip4Trunc "ip4_trunc" Error "ipv4" Local "RFC 791 3.1, RFC 1812 5.2.2" "the total length reaches beyond the bytes present";
    Ip4Csum "ip4_csum" Error "ipv4" Local "RFC 1122 3.2.1.2, RFC 1812 5.2.2" "the header checksum is wrong";
    Ip4Opt "ip4_opt" Error "ipv4" Path "RFC 791 3.1" "an option is shorter than 2 bytes, runs past the header, or has a bad pointer";
    Ip4SourceRoute "ip4_source_route" Warning "ipv4" Path "RFC 7126" "a loose or strict source route is present";
    Ip4Resv "ip4_resv" Warning "ipv4" Path "RFC 791 3.1" "the reserved flag is set";
    Ip4FragAlign "ip4_frag_align" Error "ipv4" Path "RFC 791 3.2" "more fragments follow but the payload is not a multiple of 8 bytes";
    Ip4FragBig "ip4_frag_big" Error "ipv4" Path "RFC 791 3.2" "fragment offset plus length exceed 65,535 bytes";
    Ip4FragTiny "ip4_frag_tiny" Warning "ipv4" Path "RFC 1858 3, RFC 3128" "a first fragment carries under 16 bytes of TCP, or TCP continues at offset 8";
    Ip4DfMf "ip4_df_mf" Warning "ipv4" Path "RFC 791 3.1, RFC 6864" "don't-fragment and more-fragments are both set";
    Ip4Src "ip4_src" Warning "ipv4" Path "RFC 1122 3.2.1.3, RFC 1812 5.3.7" "the source is multicast, limited broadcast, class E, or 127/8 off loopback (0.0.0.0 is legal)";
    Ip4Ttl0 "ip4_ttl0" Warning "ipv4" Local "RFC 1122 3.2.1.7" "the time to live is 0";
    Ip4Land "ip4_land" Warning "ipv4" Path "RFC 1122 3.2.1.3" "source and destination address are equal (loopback excepted)";

    Ip6Short "ip6_short" Error "ipv6" Local "RFC 8200 3" "fewer than 40 bytes follow where an IPv6 header must be";
    Ip6Ver "ip6_ver" Error "ipv6" Local "RFC 8200 3" "the version is not 6 behind EtherType 0x86DD";
    Ip6Trunc "ip6_trunc" Error "ipv6" Local "RFC 8200 3" "the payload length reaches beyond the bytes present";
    Ip6Plen0 "ip6_plen0" Warning "ipv6" Local "RFC 8200 3, RFC 2675" "the payload length is 0 without jumbo option (next header 59 and GSO packets excepted)";
    Ip6ExtTrunc "ip6_ext_trunc" Error "ipv6" Path "RFC 8200 4" "an extension header runs past the end";
    Ip6HbhPos "ip6_hbh_pos" Warning "ipv6" Path "RFC 8200 4.1" "a hop-by-hop header is not the first";
    Ip6Dup "ip6_dup" Warning "ipv6" Path "RFC 8200 4.1" "an extension header is repeated (destination options may occur twice)";
    Ip6Rh0 "ip6_rh0" Warning "ipv6" Path "RFC 5095" "a routing header of type 0 is present";
    Ip6OptLen "ip6_opt_len" Error "ipv6" Path "RFC 8200 4.2" "an option runs past its extension header";
    Ip6FragAlign "ip6_frag_align" Error "ipv6" Path "RFC 8200 4.5" "more fragments follow but the length is not a multiple of 8 bytes";
    Ip6FragBig "ip6_frag_big" Error "ipv6" Path "RFC 8200 4.5" "the reassembled length would exceed 65,535 bytes";
    Ip6FragResv "ip6_frag_resv" Info "ipv6" Path "RFC 8200 4.5, RFC 6946" "reserved bits of the fragment header are set, or the fragment is atomic";
    Ip6FirstFrag "ip6_first_frag" Error "ipv6" Path "RFC 7112" "a first fragment does not hold the whole header chain";
    Ip6NoNext "ip6_nonext" Warning "ipv6" Path "RFC 8200 4.7" "bytes follow next header 59 (no next header)";
    Ip6Src "ip6_src" Warning "ipv6" Path "RFC 4291 2.5.3, 2.7" "the source is multicast, or ::1 off loopback";
    Ip6Chain "ip6_chain" Warning "ipv6" Path "RFC 8883 2.1" "the packet has more than 8 extension headers";

    TcpShort "tcp_short" Error "tcp" Path "RFC 9293 3.1" "the segment has fewer than 20 bytes";
    TcpDoff "tcp_doff" Error "tcp" Path "RFC 9293 3.1" "the data offset is under 20 bytes or beyond the segment";
    TcpOpt "tcp_opt" Error "tcp" Path "RFC 9293 3.2, 7323, 2018, 2385, 5925" "an option is shorter than 2 bytes, runs past the header, or has the wrong length for its kind (empty SACK excepted)";
    TcpOptSyn "tcp_opt_syn" Warning "tcp" Path "RFC 9293 3.7.1, 7323 2, 2018 2" "an option that belongs to the SYN stands elsewhere or twice, or the window scale is over 14";
    TcpNop4 "tcp_nop4" Warning "tcp" Path "RFC 9293 3.2" "four NOPs in a row: a middlebox blanked an option";
    TcpFlags "tcp_flags" Warning "tcp" Path "RFC 9293 3.10.7" "the flags contradict each other: SYN+FIN, SYN+RST, FIN+RST, none, or FIN, URG or PSH without ACK";
    TcpPort0 "tcp_port0" Warning "tcp" Path "RFC 6335 6" "a port is 0";
    TcpAckNz "tcp_ack_nz" Info "tcp" Path "RFC 9293 3.1" "the acknowledgement number is set without the ACK flag";
    TcpUrgNz "tcp_urg_nz" Info "tcp" Path "RFC 9293 3.1" "the urgent pointer is set without the URG flag";
    TcpCsum "tcp_csum" Error "tcp" Path "RFC 9293 3.1" "the checksum is wrong (unfinished ones of packets that never left this machine excepted)";

    UdpShort "udp_short" Error "udp" Path "RFC 768" "the datagram has fewer than 8 bytes";
    UdpLenLt8 "udp_len_lt8" Error "udp" Path "RFC 768, RFC 2675 4" "the length is 1 to 7 (0 is a jumbogram's)";
    UdpLenGt "udp_len_gt" Error "udp" Path "RFC 768" "the length reaches beyond the IP payload (first fragments and GSO packets excepted)";
    UdpSurplus "udp_surplus" Info "udp" Path "RFC 9868" "bytes of the IP payload follow the datagram";
    Udp6Csum0 "udp6_csum0" Warning "udp" Path "RFC 8200 8.1, RFC 6935" "the checksum is zero over IPv6 (tunnels excepted)";
    UdpCsum "udp_csum" Error "udp" Path "RFC 768, RFC 1122 4.1.3.4" "the checksum is neither zero nor right (unfinished ones excepted)";

    IcmpShort "icmp_short" Error "icmp" Path "RFC 792" "the message has fewer than 8 bytes";
    IcmpCsum "icmp_csum" Error "icmp" Path "RFC 792, RFC 1122 3.2.2" "the checksum is wrong";
    IcmpQuote "icmp_quote" Warning "icmp" Path "RFC 792, RFC 1812 4.3.2.3" "an error does not quote an IP header and 8 bytes, or what it quotes contradicts itself";
    IcmpFamily "icmp_family" Warning "icmp" Path "RFC 792, RFC 4443" "ICMP in IPv6 or ICMPv6 in IPv4";
    Icmp6Short "icmp6_short" Error "icmpv6" Path "RFC 4443 2.1" "the message has fewer than 4 bytes";
    Icmp6Csum "icmp6_csum" Error "icmpv6" Path "RFC 4443 2.3" "the checksum is wrong (unfinished ones excepted)";
    NdHopLimit "nd_hop_limit" Error "icmpv6" Local "RFC 4861 6.1, 7.1" "neighbour discovery with a hop limit under 255";
    NdCode "nd_code" Error "icmpv6" Local "RFC 4861 6.1, 7.1" "neighbour discovery with a code other than 0";
    NdOptLen "nd_opt_len" Error "icmpv6" Local "RFC 4861 4.6, 6.1, 7.1" "an option of neighbour discovery has length 0 or runs past the end";

    SctpShort "sctp_short" Error "sctp" Path "RFC 9260 3.1" "the packet has fewer than 12 bytes";
    SctpChunkLen "sctp_chunk_len" Error "sctp" Path "RFC 9260 3.2" "a chunk is shorter than 4 bytes or runs past the end";
    SctpInit "sctp_init" Warning "sctp" Path "RFC 9260 6.10, 8.5.1" "an INIT chunk is not alone, or the packet has a verification tag";

    GreShort "gre_short" Error "gre" Path "RFC 2784 2, RFC 2890 2" "the header or an optional field of it is cut";
    GreVer "gre_ver" Error "gre" Path "RFC 2784 2.3.1, RFC 2637 4.1" "the version is over 1";
    GreResv "gre_resv" Warning "gre" Path "RFC 2784 2.3, RFC 2637 4.1" "reserved bits are set, or version 1 has no key";

    VxlanShort "vxlan_short" Error "vxlan" Path "RFC 7348 5" "the header is cut, or fewer than 14 bytes of a frame follow it";
    VxlanNoVni "vxlan_no_vni" Error "vxlan" Path "RFC 7348 5" "the flag that says that there is a network identifier is clear";
    VxlanResv "vxlan_resv" Warning "vxlan" Path "RFC 7348 5" "reserved bits are set (VXLAN-GPE and a group policy excepted)";

    GeneveShort "geneve_short" Error "geneve" Path "RFC 8926 3.4" "the header is cut, or its options run past the end";
    GeneveVer "geneve_ver" Error "geneve" Path "RFC 8926 3.4" "the version is not 0";
    GeneveOptLen "geneve_opt_len" Error "geneve" Path "RFC 8926 3.5" "an option runs past the options";
}

impl Malformed {
    /// Whether hooks look for it in every frame. The others are found in evidence and in captures only.
    #[must_use]
    pub const fn is_judged_at_hooks(self) -> bool {
        !matches!(self, Self::MplsReserved | Self::MplsImplicitNull | Self::IcmpQuote | Self::NdOptLen)
    }

    /// The kind behind a counter key, or `None` where another build wrote it.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions_and_ids_are_unique() {
        for (position, reason) in Malformed::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, position);
            assert_eq!(Malformed::from_number(*reason as u8), Some(*reason));
            assert!(Malformed::ALL[..position].iter().all(|other| other.id() != reason.id()), "{} twice", reason.id());
        }
        assert_eq!(Malformed::from_number(255), None);
    }
}
