//! Drop reasons of class capacity: a queue, buffer or limit of this machine was full.

use super::Text;

pub(super) const TEXTS: &[Text] = &[
    Text {
        name: "cake_flood",
        meaning: "The CAKE queue threw the packet away because its flow keeps sending although it was marked and dropped \
                  before: the part of the queue that stops senders which do not slow down.",
        causes: &[
            "one flow without congestion control (a UDP stream, an attack, a test tool) fills the shaped link",
            "the shaper's bandwidth is set far below what the link carries",
        ],
        next_steps: &[
            ("tc -s qdisc show dev DEV", "drops and marks of each tin, and the bandwidth that is set"),
            ("lossprobe watch --reason cake_flood --interface DEV", "whose flow it is"),
            ("tc qdisc change root dev DEV cake bandwidth RATE", "if the rate is wrong"),
        ],
    },
    Text {
        name: "cpu_backlog",
        meaning: "A CPU's input queue was full: packets came faster than the softirq of that CPU passed them to the stack, \
                  or its flow limit cut a single large flow.",
        causes: &[
            "one CPU does all the work: a single receive queue, RPS to few CPUs, or veth and loopback traffic of one sender",
            "net.core.netdev_max_backlog is small for the packet rate",
            "the CPU was held up: real-time tasks, CPU steal, interrupts disabled for long",
        ],
        next_steps: &[
            (
                "cat /proc/net/softnet_stat",
                "one line for each CPU: column 2 is dropped, 3 is out of budget, 11 is flow limit",
            ),
            ("sysctl -w net.core.netdev_max_backlog=4096", "a longer queue, where bursts are the cause"),
            ("cat /sys/class/net/DEV/queues/rx-*/rps_cpus", "whether the work can be spread over more CPUs"),
        ],
    },
    Text {
        name: "dev_ready",
        meaning: "The device could not take the packet at that moment: it was down, or the queue at its other end was gone. \
                  What was under way to it is lost.",
        causes: &[
            "the interface, or the other end of a veth, was set down or deleted while packets passed",
            "a virtual machine or program that reads a tap device has detached its queue, or has not opened it yet",
            "a peer in another network namespace is not up",
        ],
        next_steps: &[
            ("ip -d link show dev DEV", "whether it is up, its carrier and its peer"),
            ("ip -s link show dev DEV", "whether its own drop counters grow too"),
            ("journalctl -k --since -1h | grep DEV", "when it changed its state"),
        ],
    },
    Text {
        name: "dualpi2_step_drop",
        meaning: "The DualPI2 queue dropped a packet of its low-latency part that had waited longer than the step threshold \
                  and could not be marked instead.",
        causes: &[
            "the sender uses the low-latency (L4S) queue without really answering to congestion marks",
            "the step threshold is shorter than what the link's bursts need",
        ],
        next_steps: &[
            ("tc -s qdisc show dev DEV", "step marks, drops and the delay of both queues"),
            ("lossprobe watch --reason dualpi2_step_drop --output json", "which sender"),
            ("tc qdisc change root dev DEV dualpi2 step_thresh 5ms", "more room, if latency allows it"),
        ],
    },
    Text {
        name: "fq_band_limit",
        meaning: "The fq queue was full for the packet's priority band: its limit holds for each band by itself.",
        causes: &[
            "the device sends more slowly than its sockets, for long enough to fill the band (10,000 packets by default)",
            "much unpaced UDP, or forwarded traffic, that nothing slows down",
        ],
        next_steps: &[
            ("tc -s qdisc show dev DEV", "band_drops, backlog and the limit that is set"),
            ("tc qdisc replace dev DEV root fq limit 20000", "a longer queue, if it is bursts"),
            ("ethtool DEV", "whether the link has come up at a lower speed than usual"),
        ],
    },
    Text {
        name: "fq_flow_limit",
        meaning: "One flow alone had its share of the fq queue full (100 packets by default); other flows were not hit.",
        causes: &[
            "a UDP sender, a tunnel or a forwarded aggregate puts more into the device than leaves it",
            "all traffic of a tunnel is one flow to fq, so the share is too small for it",
        ],
        next_steps: &[
            ("tc -s qdisc show dev DEV", "flows_plimit counts these drops; flow_limit is what is set"),
            ("lossprobe watch --reason fq_flow_limit --interface DEV", "which flow"),
            ("tc qdisc replace dev DEV root fq flow_limit 1000", "where the flow is an aggregate"),
        ],
    },
    Text {
        name: "fq_horizon_limit",
        meaning: "The packet carried a sending time further in the future than fq's horizon allows, and the queue is set \
                  to drop such packets.",
        causes: &[
            "an application sets SO_TXTIME or a pacing rate that is extremely low",
            "a BPF program (bandwidth limits of containers) delays packets beyond the horizon: the limit is far exceeded",
            "the clock of the sending time is another one than fq's",
        ],
        next_steps: &[
            ("tc -s qdisc show dev DEV", "horizon_drops, and the horizon that is set (10 s by default)"),
            ("bpftool net show dev DEV", "whether a BPF program sets sending times"),
            ("tc qdisc replace dev DEV root fq horizon_cap", "send at the horizon instead of dropping"),
        ],
    },
    Text {
        name: "full_ring",
        meaning: "The queue of a tun or tap device was full: the program behind it, a virtual machine or a VPN, did not \
                  fetch packets fast enough.",
        causes: &[
            "the guest or its vhost thread gets too little CPU, or was stopped",
            "bursts longer than the queue (txqueuelen, 1,000 packets by default for tap)",
            "one queue for a guest that has several CPUs",
        ],
        next_steps: &[
            ("ip -s link show dev DEV", "TX dropped grows with it"),
            ("ip link set dev DEV txqueuelen 10000", "more room for bursts"),
            ("top -H", "whether a vhost or VPN thread is at 100 %, or the guest is starved"),
        ],
    },
    Text {
        name: "neigh_queuefull",
        meaning: "Packets waited for the link-layer address of their next hop, and more came than the neighbour's queue \
                  holds (net.ipv4.neigh.DEV.unres_qlen_bytes).",
        causes: &[
            "the next hop does not answer ARP or neighbour solicitations, or answers late",
            "a burst to a neighbour whose entry was not there or had aged out",
            "a scan of a directly connected subnet",
        ],
        next_steps: &[
            ("ip neigh show dev DEV", "entries in INCOMPLETE or FAILED"),
            ("lossprobe watch --reason neigh_queuefull --interface DEV", "which next hop"),
            ("sysctl -w net.ipv4.neigh.DEV.unres_qlen_bytes=1048576", "only where answers are merely slow"),
        ],
    },
    Text {
        name: "nomem",
        meaning: "The kernel had no memory for the packet at the moment it needed some: to copy it, to add a header or to \
                  queue it.",
        causes: &[
            "memory that may be taken without waiting ran out under a burst (vm.min_free_kbytes)",
            "a container's memory limit was reached while its socket sent or received",
            "memory is fragmented and large packets need contiguous pages",
        ],
        next_steps: &[
            ("journalctl -k | grep -i 'page allocation failure'", "the kernel's own report, with the order asked for"),
            ("grep -E 'MemFree|MemAvailable' /proc/meminfo", "how much is left"),
            ("sysctl -w vm.min_free_kbytes=131072", "a larger reserve for what cannot wait"),
        ],
    },
    Text {
        name: "ovs_drop_deferred_limit",
        meaning: "Open vSwitch had too many recirculations of one packet waiting on a CPU and let this one go.",
        causes: &[
            "a pipeline that recirculates many times for each packet (conntrack, tunnels, many output ports)",
            "a flow that sends packets around in a circle",
        ],
        next_steps: &[
            ("ovs-appctl dpctl/dump-flows -m", "flows with several recirc() actions"),
            ("ovs-appctl ofproto/trace BRIDGE 'in_port=PORT,…'", "how often a packet of this kind goes round"),
        ],
    },
    Text {
        name: "pfmemalloc",
        meaning: "The packet lay in memory that the kernel keeps for emergencies, and its receiver is not one that helps to \
                  free memory (swap over network): so it was dropped to get the memory back.",
        causes: &[
            "this machine is very short of memory",
            "the driver's receive buffers are refilled from the reserve because vm.min_free_kbytes is small",
        ],
        next_steps: &[
            ("nstat -az TcpExtPFMemallocDrop", "the kernel's count of the same"),
            ("cat /proc/pressure/memory", "how long tasks wait for memory"),
            ("sysctl -w vm.min_free_kbytes=262144", "so that receive buffers come from ordinary memory"),
        ],
    },
    Text {
        name: "proto_mem",
        meaning: "All sockets of the protocol together hold as much memory as net.ipv4.udp_mem or tcp_mem allows, or the \
                  memory limit of the socket's cgroup does: the packet had no place although its own socket had room.",
        causes: &[
            "many sockets whose programs do not read",
            "large receive buffers for many connections, on a machine with little memory",
            "a container's memory limit that its sockets count against",
        ],
        next_steps: &[
            ("cat /proc/net/sockstat", "pages in use (mem), to compare with the next line"),
            ("sysctl net.ipv4.tcp_mem net.ipv4.udp_mem", "low, pressure and limit, in pages"),
            ("ss -ampn | sort -k2 -n | tail", "the sockets that hold most"),
        ],
    },
    Text {
        name: "qdisc_congested",
        meaning: "A queue that manages delay (fq_codel, codel, pie, cake, red) dropped the packet to tell its sender to slow \
                  down, before the queue was full.",
        causes: &[
            "the link or its shaper is the bottleneck of the path: with TCP a few of these are how it finds its rate",
            "many of them: a sender that does not slow down, or a rate that is set too low",
        ],
        next_steps: &[
            ("tc -s qdisc show dev DEV", "drops, marks and delay against the target that is set"),
            (
                "lossprobe stats --interface DEV --interval 1",
                "their share in what is sent: up to about 0.1 % is ordinary",
            ),
            ("sysctl -w net.ipv4.tcp_ecn=1", "lets senders be told by marks instead of losses, where paths allow it"),
        ],
    },
    Text {
        name: "qdisc_drop",
        meaning: "The queueing discipline of the outgoing device refused the packet and gave no closer reason (before Linux \
                  6.13 the only reason that queues have).",
        causes: &[
            "the queue is full: the link or a shaper (tbf, htb) is slower than what is offered",
            "a policer or a class that has no leaf took it",
            "a burst longer than a short queue, as of pfifo with a small limit",
        ],
        next_steps: &[
            ("tc -s qdisc show dev DEV", "which qdisc drops; a root repeats what its leaves count"),
            ("tc -s class show dev DEV", "which class, its rate and its overlimits"),
            ("ip -s link show dev DEV", "what the device sends meanwhile"),
        ],
    },
    Text {
        name: "qdisc_overlimit",
        meaning: "The queue of the outgoing device was at its limit, in packets or bytes, when the packet came.",
        causes: &[
            "more is sent than the link or its shaper (tbf, htb, cake) lets through, for longer than the queue lasts",
            "the limit is small for the burst: pfifo limit, tbf limit or latency, fq_codel limit",
            "the device stands still: pause frames, a stopped transmit queue, a guest that does not read its tap",
        ],
        next_steps: &[
            ("tc -s qdisc show dev DEV", "dropped, overlimits and backlog of each qdisc"),
            ("tc -s class show dev DEV", "where there are classes: rate, ceil and which one is full"),
            ("ethtool -S DEV | grep -iE 'pause|stop|busy'", "whether the device itself is held up"),
        ],
    },
    Text {
        name: "skb_ucopy_fault",
        meaning: "The data of the packet lies in memory of a program (zero copy), and the kernel could not copy it when it \
                  had to: no memory, or the pages are gone.",
        causes: &[
            "memory pressure while a virtual machine sends through vhost with zero copy",
            "the sending program or guest ended or unmapped its buffers while the packet was under way",
        ],
        next_steps: &[
            ("cat /sys/module/vhost_net/parameters/experimental_zcopytx", "whether guests send with zero copy"),
            ("journalctl -k | grep -iE 'out of memory|allocation failure'", "whether memory was short"),
            ("cat /proc/pressure/memory", "whether it is now"),
        ],
    },
    Text {
        name: "socket_backlog",
        meaning: "The socket was locked by its program, so packets queued up behind it, and that queue reached the limit of \
                  receive and send buffer together.",
        causes: &[
            "a program spends long in a system call on the socket while much arrives for it",
            "a receive buffer that is small for the rate of the connection",
            "many small segments: each takes a whole buffer's overhead",
        ],
        next_steps: &[
            ("nstat -az TcpExtTCPBacklogDrop", "TCP's count of the same"),
            ("ss -tmi dst ADDRESS", "skmem: d is what this socket dropped, bl its backlog"),
            ("sysctl net.ipv4.tcp_rmem net.core.rmem_max", "what a buffer may grow to"),
        ],
    },
    Text {
        name: "socket_rcvbuff",
        meaning: "The receive buffer of the socket was full: its program does not read as fast as packets come.",
        causes: &[
            "a UDP receiver that is too slow, or was not scheduled: DNS, syslog, NTP, statsd and VPN servers under load",
            "a buffer of default size (net.core.rmem_default) under bursts",
            "a raw or packet socket (a capture, a routing daemon) that nobody reads",
        ],
        next_steps: &[
            ("ss -uampn", "Recv-Q, and d in skmem: drops of each socket, with its program"),
            ("nstat -az UdpRcvbufErrors Udp6RcvbufErrors", "the sum for UDP"),
            ("sysctl -w net.core.rmem_max=8388608", "then let the program ask for more with SO_RCVBUF"),
        ],
    },
    Text {
        name: "tcp_listen_overflow",
        meaning: "A handshake was complete, but the listening socket's queue of connections to accept was full; the client \
                  believes that it is connected and sends again.",
        causes: &[
            "the program does not accept fast enough: all workers busy, or it hangs",
            "the backlog given to listen(), or net.core.somaxconn which caps it, is small for the rate of connections",
            "a flood of connections",
        ],
        next_steps: &[
            ("ss -ltn", "of a listener Recv-Q is what waits and Send-Q what may wait"),
            ("nstat -az TcpExtListenOverflows TcpExtListenDrops", "how many so far"),
            ("sysctl -w net.core.somaxconn=4096", "and a larger backlog in the program's own settings"),
        ],
    },
    Text {
        name: "tcp_ofo_queue_prune",
        meaning: "TCP segments that had come early, behind a gap, were thrown out to free receive memory; the sender must \
                  send them again.",
        causes: &[
            "loss or reordering on the path, with a receive buffer too small to keep what follows the gap",
            "the memory of all TCP sockets is near its limit (net.ipv4.tcp_mem)",
        ],
        next_steps: &[
            ("nstat -az TcpExtOfoPruned TcpExtTCPRcvQDrop TcpExtRcvPruned", "how much was pruned"),
            ("cat /proc/net/sockstat", "TCP's mem against net.ipv4.tcp_mem"),
            ("sysctl net.ipv4.tcp_rmem", "the third figure is what a connection's buffer may grow to"),
        ],
    },
];
