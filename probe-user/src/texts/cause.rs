//! Causes that `lossprobe stats --losses` shows besides drop reasons: what devices, XDP, queues, CPUs and protocols count.
//! One sentence for each; what to type next follows from who counts it. Facts: struct rtnl_link_stats64 (linux/if_link.h),
//! RFC 4293, 4022 and 4113, net/ipv4/proc.c, Linux 6.18.

/// What a device's cause means, by its label.
#[must_use]
pub fn of_device(cause: &str) -> Option<&'static str> {
    Some(match cause {
        "missed" => {
            "The device had nowhere in the host's memory to put a good packet: its ring was full, because CPUs did not empty it fast enough."
        }
        "fifo" => "A queue inside of the device, or of a tap's reader, overflowed.",
        "no_buffer" => {
            "The driver had no buffer or descriptor for a packet: want of memory, or the other end did not take it."
        }
        "xdp_drop" => "An XDP program dropped it, by its own will or because it failed.",
        "provider_limit" => {
            "The provider's virtual card did not take it: an allowance of this machine (bandwidth, packets, connections) is used up."
        }
        "nohandler" => "Nobody takes packets from this device, as from the inactive slave of a bond: no loss.",
        "otherhost" => {
            "A unicast packet for another station's address, flooded by a switch or seen in promiscuous mode: no loss."
        }
        "crc" => {
            "The frame check sequence is wrong: cable, transceiver, port or a switch that cut through a bad frame."
        }
        "frame" => "The frame was no whole number of bytes, or the driver could not take it apart.",
        "length" => "The frame was too short, too long for the MTU, or not as long as it says.",
        "over" => "The frame did not fit into one receive buffer.",
        "aborted" => "The device gave up sending it: too many collisions, or a fault of its own.",
        "carrier" => "There was no carrier while it was to be sent.",
        "heartbeat" => "The transceiver's self test failed (10 Mb/s Ethernet).",
        "window" => {
            "A collision came too late: one end is in half duplex and the other is not, or the cable is too long."
        }
        "internal_mac" => "It was lost inside of the MAC, for a reason that the hardware does not tell.",
        _ => return None,
    })
}

/// What a failure of XDP means, by its label.
#[must_use]
pub fn of_xdp(cause: &str) -> Option<&'static str> {
    Some(match cause {
        "exception_aborted" => {
            "An XDP program ended with XDP_ABORTED, which programs do when something went wrong in them."
        }
        "exception_drop" => "A driver met a fault while it carried out XDP_DROP.",
        "exception_pass" => "A driver could not make a packet for the stack of a frame that an XDP program let pass.",
        "exception_tx" => {
            "A frame that an XDP program sent back (XDP_TX) could not be queued: the transmit ring was full, or there is none."
        }
        "exception_redirect" => "A frame that an XDP program redirected could not go there.",
        "exception_unknown" => "An XDP program ended with a number that is no action.",
        "redirect" => {
            "A redirect failed: no entry in the map, a target that is down, of another namespace or without XDP, or a frame that is too long."
        }
        "devmap" => {
            "The device that frames were redirected to did not take all of a batch: its transmit ring was full."
        }
        "tx" => "The device did not take all frames of a batch that XDP sent back: its ring was full.",
        "cpumap" => "The queue to another CPU was full: that CPU does not keep up.",
        _ => return None,
    })
}

/// What a protocol's error means, by its label.
#[must_use]
pub fn of_protocol(cause: &str) -> Option<&'static str> {
    Some(match cause {
        "header" => {
            "A header with an error: wrong version or length, an option that is none, or a TTL that ran out here."
        }
        "checksum" => "The checksum is wrong.",
        "truncated" => "The packet is shorter than it says.",
        "address" => "An address that must not be there, or is not this host's while it does not forward.",
        "unknown_protocol" => "Nobody here speaks the protocol inside of it.",
        "in_discard" => "A good packet that came in was discarded, as for want of memory.",
        "out_discard" => "A good packet that was to go out was discarded, as for want of memory or by a packet filter.",
        "in_no_route" => "A packet came in for which there is no route.",
        "out_no_route" => "A packet was to go out, and there is no route for it.",
        "reverse_path" => "Its sender would be answered by another interface, which rp_filter forbids.",
        "reassembly" => "Fragments could not be put together: pieces that do not fit, or no room.",
        "reassembly_timeout" => "Not all fragments of a packet came in time.",
        "reassembly_overlap" => "Fragments overlap, which is forbidden: an attack or a broken sender.",
        "fragmentation" => "A packet was too long for the way out and must not, or could not, be cut.",
        "too_big" => "A packet to be forwarded was longer than the next link's MTU.",
        "error" => "It could not be taken or made, for a reason that no counter of its own tells.",
        "out_error" => "A message could not be made or sent, mostly for want of a buffer.",
        "listen_overflow" => {
            "A listening socket's queue of finished connections was full: the program does not accept fast enough."
        }
        "listen_drop" => "A listening socket refused a connection for another reason than a full queue.",
        "request_queue" => "A listening socket's queue of half-open connections was full, and SYN cookies are off.",
        "backlog" => "Segments came faster than the socket's owner let go of it, beyond its backlog.",
        "receive_queue" => "A segment was dropped because the socket's receive queue had no room.",
        "receive_pruned" => "Data that had come was thrown away because the receive buffer was over its limit.",
        "out_of_order" => "A segment that came out of order was dropped for want of room.",
        "zero_window" => "A segment came while the socket's window was closed.",
        "memory" => {
            "There was no memory for it: the protocol's limit (tcp_mem, udp_mem), or the reserve for emergencies."
        }
        "minimum_ttl" => "It had passed more routers than the socket allows (IP_MINTTL).",
        "paws" => "Its timestamp is older than what has been seen: a duplicate, or clocks behind one address.",
        "retransmit_failed" => "A segment that was to be sent again could not be handed to the device.",
        "write_queue" => "A socket's queue of segments to be sent again has become too long to cut further.",
        "receive_buffer" => "The socket's receive buffer was full: the program does not read fast enough.",
        "send_buffer" => "A packet could not be sent for want of room in a send buffer or in the device's queue.",
        "no_port" => "Nobody listens on the port.",
        "table_full" => "The table took no more entries (of conntrack also what a helper dropped).",
        "insert_failed" => {
            "A connection could not be put into the table: two packets of it raced, or ports for translation ran out."
        }
        "early_drop" => "A tracked connection was forgotten to make room for another one.",
        "unresolved_discard" => {
            "Packets that waited for a neighbour's address were thrown away: too many, or nobody answered."
        }
        "upcall_lost" => {
            "Open vSwitch's daemon did not take a packet that matched no flow in the kernel: it does not keep up."
        }
        _ => return None,
    })
}

/// What the drops of a queueing discipline mean.
pub const QDISC: &str = "A queueing discipline dropped packets that were to leave the interface: its queue was full, its shaper's rate \
                         exceeded, or its algorithm keeps waiting short. The row's name is the kind of discipline; the kernel has mostly \
                         dropped the packet with a reason, too.";
/// What the drops of a CPU's input queue mean.
pub const BACKLOG: &str = "A CPU's input queue (softnet) had no room: packets came faster than its softirq passed them on. They are \
                           drops of reason cpu_backlog as well.";
