//! What is wrong with one frame, in one line for a human: the reason, what was found and what was expected where the reason
//! has numbers, where, and which standard says so. Written into captures of evidence, beside the frame itself.
//!
//! ```text
//! ip4_csum: header checksum 0x1234, computed 0x5678 at byte 24; RFC 1122 3.2.1.2, RFC 1812 5.2.2
//! ```
//!
//! Where the bytes that were kept do not have the numbers, the reason's own sentence stands in their place.

use std::net::{Ipv4Addr, Ipv6Addr};

use probe_ebpf::{
    checksum,
    classify::{Cursor, Finding, Meta, classify},
    frame::Frame as _,
    reason::Malformed,
    thorough::checksum_at,
};

/// Explains a finding in a frame of which `bytes` are the first, or all. The offset counts from the first of them.
#[must_use]
pub fn explain(bytes: &[u8], meta: Meta, finding: Finding) -> String {
    let Finding { reason, at } = finding;
    let found = Found { bytes, meta, finding };
    // Exceptions to the rule stand in parentheses: none of them applies here.
    let meaning = || reason.meaning().split(" (").next().unwrap_or_default().to_owned();
    let what = found.numbers().unwrap_or_else(meaning);
    format!("{}: {what} at byte {at}; {}", reason.id(), reason.standard())
}

/// A finding and its frame.
#[derive(Clone, Copy)]
struct Found<'b> {
    bytes: &'b [u8],
    meta: Meta,
    finding: Finding,
}

impl Found<'_> {
    /// What was found and what was expected, for reasons with numbers whose bytes are there.
    fn numbers(&self) -> Option<String> {
        let at = usize::from(self.finding.at);
        Some(match self.finding.reason {
            Malformed::EthShort => self.too_short(14)?,
            Malformed::EthRunt => format!("{} bytes, not 60 or more,", self.meta.frame_bytes),
            Malformed::EthOversize if self.meta.mtu_bytes != 0 => {
                format!("a frame of {} bytes at an MTU of {}", self.meta.frame_bytes, self.meta.mtu_bytes)
            }
            Malformed::EthTrailer => {
                format!("{} bytes behind the datagram", (self.meta.frame_bytes as usize).checked_sub(at)?)
            }
            Malformed::EthSrcGroup => format!("source address {} with the group bit", self.mac(at)?),
            Malformed::EthSameAddr => format!("source and destination address {}", self.mac(at)?),
            Malformed::EthTypeGap => format!("type {}, not up to 1500 or from 1536 on,", self.two(at)?),
            Malformed::EthUnknownType => format!("type 0x{:04x}, which is not known,", self.two(at)?),
            Malformed::EthLenGt | Malformed::VlanLenGt => self.beyond("length", self.two(at)?.into(), at + 2)?,
            Malformed::LlcShort => format!("length {}, not 3 or more,", self.two(at)?),
            Malformed::ArpShort => self.too_short(28)?,
            Malformed::ArpHdr => {
                let [hardware, protocol] = [self.two(at)?, self.two(at + 2)?];
                let [hardware_bytes, protocol_bytes] = [self.one(at + 4)?, self.one(at + 5)?];
                format!(
                    "hardware type {hardware}, protocol type 0x{protocol:04x}, lengths {hardware_bytes} and \
                     {protocol_bytes}, not 1, 0x0800, 6 and 4,"
                )
            }
            Malformed::ArpOp => format!("operation {}, not 1 to 4, 8 or 9,", self.two(at)?),
            Malformed::ArpSha => {
                format!("sender hardware address {}, Ethernet source {},", self.mac(at)?, self.mac(6)?)
            }
            Malformed::ArpShaGroup => format!("sender hardware address {} with the group bit", self.mac(at)?),

            Malformed::Ip4Short | Malformed::TcpShort => self.too_short(20)?,
            Malformed::Ip4Ver => format!("version {}, not 4,", self.one(at)? >> 4),
            Malformed::Ip4Ihl => self.header_length(usize::from(self.one(at)? & 0x0f) * 4, at)?,
            Malformed::Ip4LenLtHdr => {
                let header_bytes = usize::from(self.one(at.checked_sub(2)?)? & 0x0f) * 4;
                format!("total length {}, under the header's {header_bytes},", self.two(at)?)
            }
            Malformed::Ip4Trunc => self.beyond("total length", self.two(at)?.into(), at.checked_sub(2)?)?,
            Malformed::Ip4Csum => self.header_checksum(at)?,
            Malformed::Ip4FragAlign | Malformed::Ip6FragAlign => {
                format!("{} bytes of a fragment, not a multiple of 8,", self.cursor()?.packet.payload_bytes)
            }
            Malformed::Ip4Src => format!("source {}", self.ipv4(at)?),
            Malformed::Ip4Land => format!("source and destination {}", self.ipv4(at)?),
            Malformed::Ip6Short => self.too_short(40)?,
            Malformed::Ip6Ver => format!("version {}, not 6,", self.one(at)? >> 4),
            Malformed::Ip6Trunc => self.beyond("payload length", self.two(at)?.into(), at + 36)?,
            Malformed::Ip6Src => format!("source {}", Ipv6Addr::from(self.bytes.read::<16>(at)?)),

            Malformed::TcpDoff => self.header_length(usize::from(self.one(at)? >> 4) * 4, at.checked_sub(12)?)?,
            Malformed::TcpFlags => format!("flags {}", flags(self.one(at)?)),
            Malformed::TcpPort0 => format!("ports {} and {}", self.two(at)?, self.two(at + 2)?),
            Malformed::TcpAckNz => {
                let number = u32::from_be_bytes(self.bytes.read(at)?);
                format!("acknowledgement number {number} without ACK")
            }
            Malformed::TcpUrgNz => format!("urgent pointer {} without URG", self.two(at)?),
            Malformed::UdpShort | Malformed::IcmpShort => self.too_short(8)?,
            Malformed::UdpLenLt8 => format!("length {}, not 8 or more,", self.two(at)?),
            Malformed::UdpLenGt => self.beyond("length", self.two(at)?.into(), at.checked_sub(4)?)?,
            Malformed::TcpCsum | Malformed::UdpCsum | Malformed::IcmpCsum | Malformed::Icmp6Csum => {
                let checksum = checksum_at(self.bytes, self.meta, self.finding.at)?;
                differing("checksum", checksum.found, checksum.computed)
            }
            Malformed::Icmp6Short => self.too_short(4)?,
            Malformed::NdHopLimit => format!("hop limit {}, not 255,", self.one(at)?),
            Malformed::NdCode => format!("code {}, not 0,", self.one(at)?),

            Malformed::SctpShort => self.too_short(12)?,
            Malformed::SctpChunkLen => match self.two(at) {
                Some(chunk_bytes @ ..4) => format!("chunk length {chunk_bytes}, not 4 or more,"),
                chunk_bytes => self.beyond("chunk length", chunk_bytes?.into(), at.checked_sub(2)?)?,
            },
            Malformed::GreVer => format!("version {}, not 0 or 1,", self.one(at)? & 7),
            Malformed::GreResv => format!("flags 0x{:04x}", self.two(at)?),
            Malformed::VxlanNoVni => format!("flags 0x{:02x} without 0x08", self.one(at)?),
            Malformed::VxlanResv => {
                let [a, b, c, d, .., last] = self.bytes.read::<8>(at)?;
                format!("flags {a:02x} {b:02x} {c:02x} {d:02x}, last byte {last:02x},")
            }
            Malformed::GeneveVer => format!("version {}, not 0,", self.one(at)? >> 6),
            Malformed::MplsReserved => {
                let entry = u32::from_be_bytes(self.bytes.read(at)?);
                format!("reserved label {}", entry >> 12)
            }
            _ => return None,
        })
    }

    fn one(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    fn two(&self, at: usize) -> Option<u16> {
        self.bytes.read(at).map(u16::from_be_bytes)
    }

    fn mac(&self, at: usize) -> Option<String> {
        let [a, b, c, d, e, f] = self.bytes.read::<6>(at)?;
        Some(format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
    }

    fn ipv4(&self, at: usize) -> Option<Ipv4Addr> {
        self.bytes.read::<4>(at).map(Ipv4Addr::from)
    }

    /// The classifier where it made this finding; `None` if it makes another one.
    fn cursor(&self) -> Option<Cursor> {
        let (cursor, _) = classify(self.bytes, self.meta);
        (cursor.finding() == Some(self.finding)).then_some(cursor)
    }

    /// Bytes from here on, as many as the enclosing length grants.
    fn present(&self, from: usize) -> Option<usize> {
        (self.cursor()?.end as usize).checked_sub(from)
    }

    fn too_short(&self, needed: usize) -> Option<String> {
        Some(format!("{} bytes, not {needed} or more,", self.present(self.finding.at.into())?))
    }

    fn beyond(&self, what: &str, bytes: usize, from: usize) -> Option<String> {
        Some(format!("{what} {bytes}, {} bytes present,", self.present(from)?))
    }

    fn header_length(&self, header_bytes: usize, header_at: usize) -> Option<String> {
        const SHORTEST: usize = 20;
        if header_bytes < SHORTEST {
            Some(format!("header length {header_bytes}, not {SHORTEST} or more,"))
        } else {
            self.beyond("header length", header_bytes, header_at)
        }
    }

    fn header_checksum(&self, at: usize) -> Option<String> {
        let header_at = at.checked_sub(10)?;
        let header_bytes = usize::from(self.one(header_at)? & 0x0f) * 4;
        let header = self.bytes.get(header_at..header_at + header_bytes)?;
        let found: [u8; 2] = header.read(10)?;
        let sum = checksum::sum(header) + u64::from(!u16::from_ne_bytes(found));
        Some(differing("header checksum", u16::from_be_bytes(found), checksum::to_host(!checksum::fold(sum))))
    }
}

fn differing(what: &str, found: u16, computed: u16) -> String {
    format!("{what} 0x{found:04x}, computed 0x{computed:04x}")
}

/// Names of the flags that are set, as in the header from right to left.
fn flags(byte: u8) -> String {
    const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set: Vec<_> = NAMES.iter().enumerate().filter(|(bit, _)| byte & 1 << bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { "none".to_owned() } else { set.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 02:…:0a to 02:…:0b.
    fn ethernet(ether_type: u16, body: &[u8]) -> Vec<u8> {
        [&[2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa][..], &ether_type.to_be_bytes(), body].concat()
    }

    /// From 10.0.0.1 to 10.0.0.2, with a right header checksum.
    fn ipv4(protocol: u8, body: &[u8]) -> Vec<u8> {
        let total = 20 + body.len() as u16;
        let mut header =
            [&[0x45, 0][..], &total.to_be_bytes(), &[0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]]
                .concat();
        let sum = checksum::fold(checksum::sum(&header));
        header[10..12].copy_from_slice(&(!sum).to_ne_bytes());
        ethernet(0x0800, &[header, body.to_vec()].concat())
    }

    fn ipv6(next_header: u8, body: &[u8]) -> Vec<u8> {
        let address = |last: u8| [&[0xfd][..], &[0; 14], &[last]].concat();
        let length = (body.len() as u16).to_be_bytes();
        let header = [&[0x60, 0, 0, 0, length[0], length[1], next_header, 64][..], &address(1), &address(2)].concat();
        ethernet(0x86dd, &[header, body.to_vec()].concat())
    }

    fn changed(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    }

    /// What is said of a frame, and that it is judged as that.
    fn said(frame: &[u8]) -> String {
        let meta = Meta { frame_bytes: frame.len() as u32, mtu_bytes: 1500, ..Meta::default() };
        let finding = probe_ebpf::thorough::judge(frame, meta).finding.expect("a finding");
        explain(frame, meta, finding)
    }

    /// Data offset and flags of a TCP header between ports 1 and 2.
    fn tcp(words: u8, flags: u8) -> [u8; 20] {
        [0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, words << 4, flags, 1, 0, 0, 0, 0, 0]
    }

    #[test]
    fn each_kind_has_its_numbers() {
        let udp = [0, 1, 0, 2, 0, 9, 0x4a, 0xd6, 0xa1];
        let request = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0xa, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2];
        let arp = |at: usize, bytes: &[u8]| ethernet(0x0806, &changed(request.to_vec(), at, bytes));
        let with_type = |ether_type| ethernet(ether_type, &[0x42; 46]);
        let label = |entry: u32| ethernet(0x8847, &entry.to_be_bytes());
        for (frame, expected) in [
            (with_type(0)[..9].to_vec(), "eth_short: 9 bytes, not 14 or more, at byte 0"),
            (
                changed(ipv4(17, &udp), 6, &[3]),
                "eth_src_group: source address 03:00:00:00:00:0a with the group bit at byte 6",
            ),
            (
                changed(ipv4(17, &udp), 11, &[0xb]),
                "eth_same_addr: source and destination address 02:00:00:00:00:0b at byte 6",
            ),
            (changed(ipv4(17, &udp), 6, &[0; 6]), "eth_src_zero: the source address is 00:00:00:00:00:00 at byte 6"),
            (with_type(1501), "eth_type_gap: type 1501, not up to 1500 or from 1536 on, at byte 12"),
            (with_type(0x4321), "eth_unknown_type: type 0x4321, which is not known, at byte 12"),
            (with_type(47), "eth_len_gt: length 47, 46 bytes present, at byte 12"),
            (with_type(2), "llc_short: length 2, not 3 or more, at byte 12"),
            ([ipv4(17, &udp), vec![0; 99]].concat(), "eth_trailer: 99 bytes behind the datagram at byte 43"),
            (ethernet(0x8100, &[0xf, 0xff, 8, 0]), "vlan_4095: the VLAN id is 0xFFF, which is reserved at byte 14"),
            (label(0x0000_4140), "mpls_reserved: reserved label 4 at byte 14"),
            (
                label(0x0000_3140),
                "mpls_implicit_null: label 3 is on the wire, which only signalling may use at byte 14",
            ),
            (arp(0, &[])[..41].to_vec(), "arp_short: 27 bytes, not 28 or more, at byte 14"),
            (
                arp(4, &[8]),
                "arp_hdr: hardware type 1, protocol type 0x0800, lengths 8 and 4, not 1, 0x0800, 6 and 4, at byte 14",
            ),
            (arp(7, &[5]), "arp_op: operation 5, not 1 to 4, 8 or 9, at byte 20"),
            (
                arp(9, &[7]),
                "arp_sha: sender hardware address 02:07:00:00:00:0a, Ethernet source 02:00:00:00:00:0a, at byte 22",
            ),
            (ipv4(17, &udp)[..33].to_vec(), "ip4_short: 19 bytes, not 20 or more, at byte 14"),
            (changed(ipv4(17, &udp), 14, &[0x55]), "ip4_ver: version 5, not 4, at byte 14"),
            (changed(ipv4(17, &udp), 14, &[0x44]), "ip4_ihl: header length 16, not 20 or more, at byte 14"),
            (changed(ipv4(17, &udp), 14, &[0x4f]), "ip4_ihl: header length 60, 29 bytes present, at byte 14"),
            (
                changed(ipv4(17, &udp), 16, &[0, 10]),
                "ip4_len_lt_hdr: total length 10, under the header's 20, at byte 16",
            ),
            (changed(ipv4(17, &udp), 16, &[0, 90]), "ip4_trunc: total length 90, 29 bytes present, at byte 16"),
            (
                changed(ipv4(17, &udp), 24, &[0x12, 0x34]),
                "ip4_csum: header checksum 0x1234, computed 0x26cd at byte 24",
            ),
            (ethernet(0x86dd, &[0x60; 39]), "ip6_short: 39 bytes, not 40 or more, at byte 14"),
            (changed(ipv6(17, &udp), 14, &[0x40]), "ip6_ver: version 4, not 6, at byte 14"),
            (changed(ipv6(17, &udp), 18, &[0, 10]), "ip6_trunc: payload length 10, 9 bytes present, at byte 18"),
            (changed(ipv6(59, &udp), 22, &[0xff, 2]), "ip6_src: source ff02::1 at byte 22"),
            (ipv4(6, &tcp(5, 16)[..19]), "tcp_short: 19 bytes, not 20 or more, at byte 34"),
            (ipv4(6, &tcp(4, 16)), "tcp_doff: header length 16, not 20 or more, at byte 46"),
            (ipv4(6, &tcp(6, 16)), "tcp_doff: header length 24, 20 bytes present, at byte 46"),
            (ipv6(6, &tcp(5, 16)), "tcp_csum: checksum 0x0000, computed 0xb4cb at byte 70"),
            (ipv4(17, &udp[..7]), "udp_short: 7 bytes, not 8 or more, at byte 34"),
            (changed(ipv4(17, &udp), 39, &[7]), "udp_len_lt8: length 7, not 8 or more, at byte 38"),
            (changed(ipv4(17, &udp), 39, &[10]), "udp_len_gt: length 10, 9 bytes present, at byte 38"),
            (changed(ipv4(17, &udp), 42, &[0xa2]), "udp_csum: checksum 0x4ad6, computed 0x49d6 at byte 40"),
            (ipv4(1, &[8, 0, 0xff, 0, 0, 0, 0]), "icmp_short: 7 bytes, not 8 or more, at byte 34"),
            (ipv4(1, &[8, 0, 0xf7, 0xfe, 0, 0, 0, 0]), "icmp_csum: checksum 0xf7fe, computed 0xf7ff at byte 36"),
            (ipv6(58, &[128, 0, 0]), "icmp6_short: 3 bytes, not 4 or more, at byte 54"),
            (ipv6(58, &[135, 0, 0, 0]), "nd_hop_limit: hop limit 64, not 255, at byte 21"),
            (changed(ipv6(58, &[135, 1, 0, 0]), 21, &[255]), "nd_code: code 1, not 0, at byte 55"),
            (ipv4(132, &[0; 11]), "sctp_short: 11 bytes, not 12 or more, at byte 34"),
            (
                ipv4(132, &[&[0; 12][..], &[0, 0, 0, 3]].concat()),
                "sctp_chunk_len: chunk length 3, not 4 or more, at byte 48",
            ),
            (
                ipv4(132, &[&[0; 12][..], &[0, 0, 0, 9]].concat()),
                "sctp_chunk_len: chunk length 9, 4 bytes present, at byte 48",
            ),
            (ipv4(47, &[0, 2, 8, 0]), "gre_ver: version 2, not 0 or 1, at byte 35"),
            (ipv4(47, &[0x08, 0, 0x12, 0x34]), "gre_resv: flags 0x0800 at byte 34"),
        ] {
            let said = said(&frame);
            let (what, standard) = said.split_once("; ").expect("a standard");
            assert_eq!(what, expected);
            let (id, _) = what.split_once(": ").expect("a reason");
            let reason = Malformed::ALL.iter().find(|reason| reason.id() == id).expect("a known reason");
            assert_eq!(standard, reason.standard());
        }
    }

    /// Warnings beside a checksum that would be worse.
    #[test]
    fn numbers_of_what_is_no_error() {
        let segment = |flags: u8, at: usize, bytes: &[u8]| ipv4(6, &changed(tcp(5, flags).to_vec(), at, bytes));
        for (frame, reason, at, expected) in [
            (segment(3, 0, &[]), Malformed::TcpFlags, 47, "tcp_flags: flags FIN, SYN at byte 47; RFC 9293 3.10.7"),
            (segment(0, 0, &[]), Malformed::TcpFlags, 47, "tcp_flags: flags none at byte 47; RFC 9293 3.10.7"),
            (segment(16, 0, &[0, 0]), Malformed::TcpPort0, 34, "tcp_port0: ports 0 and 2 at byte 34; RFC 6335 6"),
            (
                segment(2, 8, &[0, 0, 0, 7]),
                Malformed::TcpAckNz,
                42,
                "tcp_ack_nz: acknowledgement number 7 without ACK at byte 42; RFC 9293 3.1",
            ),
            (
                segment(16, 18, &[0, 9]),
                Malformed::TcpUrgNz,
                52,
                "tcp_urg_nz: urgent pointer 9 without URG at byte 52; RFC 9293 3.1",
            ),
        ] {
            let meta = Meta { frame_bytes: frame.len() as u32, ..Meta::default() };
            assert_eq!(explain(&frame, meta, Finding { reason, at }), expected);
        }
    }

    /// Of every reason, of any frame, however little of it was kept, something is said.
    #[test]
    fn something_is_said_of_everything() {
        for frame in [vec![], vec![0; 9], ipv4(17, &[0, 1, 0, 2, 0, 9, 0, 0, 0xa1]), ipv6(58, &[135, 0, 0, 0])] {
            for reason in Malformed::ALL {
                for at in [0, 3, 24, 40, 54, u16::MAX] {
                    let said = explain(&frame, Meta::default(), Finding { reason: *reason, at });
                    let start = format!("{}: ", reason.id());
                    let end = format!(" at byte {at}; {}", reason.standard());
                    assert!(said.starts_with(&start) && said.ends_with(&end), "{said}");
                    assert!(said.len() > start.len() + end.len() && !said.contains(['(', ')']), "{said}");
                }
            }
        }
    }
}
