//! What happens to connections on their way through five namespaces, and the places where it is counted.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use nix::sched::CpuSet;
use tests::{
    chain::{Chain, EAST, WEST},
    cpu,
    namespace::Namespace,
    relay::Side,
    run::requires_module,
    temporary::{Filter, Queue},
};

/// How long a transfer may take: some lost segments with doubling timers.
const DEADLINE: Duration = Duration::from_mins(2);

/// Connections whose data goes east; one more goes west, where packets are lost by a filter.
const EASTWARD: u16 = 3;

/// What is done to the connections of one trial.
#[derive(Clone, Copy)]
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) version6: bool,
    /// At `r1`: before `r2` for what goes east, behind it for what goes west.
    pub(super) near: Loss,
    /// At `r2`, the observer itself.
    pub(super) own: Loss,
    /// At `r3`.
    pub(super) far: Loss,
    pub(super) offloads: Offloads,
    pub(super) sack: bool,
    pub(super) timestamps: bool,
    pub(super) way: Way,
    /// Whether more than one CPU sends, so that packets overtake each other wherever they change it.
    pub(super) many_cpus: bool,
    /// Of each connection.
    pub(super) bytes: usize,
}

/// How a router loses TCP, handshakes and farewells apart.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Loss {
    None,
    /// Of a hundred packets so many, in both directions, by the packet filter.
    Random(u32),
    /// What finds no room in front of a link of so many Mbit/s, eastward.
    Tail(u32),
    /// One of a hundred packets, eastward, by netem, which delays the others by 20 ms ± 5 ms and sends a quarter at once.
    Netem,
}

/// What the devices do to packets.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Offloads {
    /// Every packet is one segment.
    Off,
    /// Senders make packets of many segments, and all devices pass them.
    Gso,
    /// Senders make segments, receivers put them together, and they are cut again when they leave.
    Gro,
}

/// The link between `a` and `r1`.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Way {
    /// Without a length.
    Direct,
    /// 5 ms each way.
    Long,
    /// As [`Loss::Netem`] eastward, without the loss.
    Wild,
    /// 2 ms each way, and every 25th packet with data later by up to 3 ms.
    Reordering,
}

/// Nothing is done to them.
pub(super) const PLAIN: Scene = Scene {
    name: "nothing",
    version6: false,
    near: Loss::None,
    own: Loss::None,
    far: Loss::None,
    offloads: Offloads::Off,
    sack: true,
    timestamps: true,
    way: Way::Direct,
    many_cpus: false,
    bytes: 2 << 20,
};

/// Packets up to this length, from the IP header on, have no data or too little of it to be counted as such.
const BARE_BYTES: usize = 200;

impl Scene {
    /// The namespaces, with everything set but the losses.
    pub(super) fn chain(&self, cpus: &CpuSet) -> Result<Chain> {
        // The relay is a part of the way.
        let chain = cpu::on(cpus, || self.path())?;
        let (gso, gro) = (self.offloads == Offloads::Gso, self.offloads == Offloads::Gro);
        chain.offloads(&[("tso", gso), ("gso", gso), ("gro", gro)])?;
        for end in [&chain.a, &chain.b] {
            end.sysctl("net.ipv4.tcp_sack", if self.sack { "1" } else { "0" })?;
            end.sysctl("net.ipv4.tcp_timestamps", if self.timestamps { "1" } else { "0" })?;
        }
        Ok(chain)
    }

    fn path(&self) -> Result<Chain> {
        match self.way {
            Way::Direct => Chain::new(),
            Way::Long => Chain::with_relay(|_, _| Duration::from_millis(5)),
            Way::Wild => {
                let mut number = 0_u64;
                Chain::with_relay(move |side, _| {
                    // Steps that are prime to the period, so that it looks like chance.
                    number = (number + 7_919) % 100_003;
                    let at_once = side == Side::Second || number.is_multiple_of(4);
                    Duration::from_micros(if at_once { 0 } else { 15_000 + number % 10_000 })
                })
            }
            Way::Reordering => {
                let mut number = 0_u64;
                Chain::with_relay(move |_, frame| {
                    number += u64::from(frame.len() > BARE_BYTES);
                    let late = if number.is_multiple_of(25) { 500 + number % 2500 } else { 0 };
                    Duration::from_micros(2000 + late)
                })
            }
        }
    }

    /// All connections, to their ends.
    pub(super) fn traffic(&self, chain: &Chain, cpus: &CpuSet) -> Result<()> {
        let address = |(four, six): (_, _)| if self.version6 { IpAddr::V6(six) } else { IpAddr::V4(four) };
        let (east, west) = (address(EAST), address(WEST));
        let transfer = |from: &Namespace, to: &Namespace, address: IpAddr, port: u16| {
            cpu::on(cpus, || from.tcp_transfer(to, SocketAddr::from((address, port)), self.bytes, DEADLINE))
        };
        thread::scope(|scope| {
            let mut all: Vec<_> = (0..EASTWARD)
                .map(|number| scope.spawn(move || transfer(&chain.a, &chain.b, east, 5001 + number)))
                .collect();
            // A queue does not tell which of what it had no room for were its acknowledgements.
            let is_counted = |loss| matches!(loss, Loss::None | Loss::Random(_));
            if is_counted(self.near) && is_counted(self.far) {
                all.push(scope.spawn(move || transfer(&chain.b, &chain.a, west, 6001)));
            }
            all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Where the ends of all connections run. Between namespaces a packet is taken all the way by the CPU that sends it.
    pub(super) fn cpus(&self) -> Result<CpuSet> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (all, mut chosen) = (cpu::allowed()?, CpuSet::new());
        let one = NEXT.fetch_add(1, Ordering::Relaxed) % all.len();
        let is_chosen = |at: usize| self.many_cpus || at == one;
        all.iter().enumerate().filter(|(at, _)| is_chosen(*at)).try_for_each(|(_, cpu)| chosen.set(*cpu))?;
        Ok(chosen)
    }

    /// Bytes of the headers of a segment with data, from the IP header on.
    fn header_bytes(&self) -> u64 {
        let ip = if self.version6 { 40 } else { 20 };
        ip + 20 + if self.timestamps { 12 } else { 0 }
    }

    /// Segments with data in so many lost packets of so many bytes in all.
    fn segments(&self, (packets, bytes): (u64, u64)) -> f64 {
        match self.offloads {
            Offloads::Off => packets as f64,
            // Of packets as they are when they are forwarded: put together, or never cut.
            Offloads::Gso | Offloads::Gro => {
                let header = self.header_bytes();
                (bytes - packets * header) as f64 / (1500 - header) as f64
            }
        }
    }
}

/// Where a scene loses packets, until dropped.
pub(super) struct Losses<'n> {
    pub(super) near: Router<'n>,
    pub(super) own: Router<'n>,
    pub(super) far: Router<'n>,
}

impl<'n> Losses<'n> {
    pub(super) fn new(scene: Scene, chain: &'n Chain) -> Result<Self> {
        let router = |loss, node, devices| Router::new(scene, loss, node, devices);
        Ok(Self {
            near: router(scene.near, &chain.r1, ["r1a", "r1b"])?,
            own: router(scene.own, &chain.r2, ["r2a", "r2b"])?,
            far: router(scene.far, &chain.r3, ["r3a", "r3b"])?,
        })
    }
}

impl Losses<'_> {
    /// Whether the senders have heard of nearly all that they had sent needlessly. A receiver that holds a report back (RFC
    /// 2883) puts the next one in its place, and of many stretches that it has it can name three or four.
    pub(super) fn are_told(&self, chain: &Chain) -> Result<bool> {
        let sum = |names: [&str; 2]| -> Result<u64> {
            let ends = [&chain.a, &chain.b].into_iter();
            ends.flat_map(|end| names.map(|name| end.mib("TcpExt", name))).sum()
        };
        let needless = sum(["TCPDSACKOldSent", "TCPDSACKOfoSent"])?;
        let heard = sum(["TCPDSACKRecv", "TCPDSACKOfoRecv"])?;
        let lost = self.near.lost("west")? + self.far.lost("east")?;
        Ok(needless.saturating_sub(heard) as f64 <= (UNTOLD * lost).max(1.0))
    }
}

/// Of what was lost, the share that may be sent again besides without anybody's word.
const UNTOLD: f64 = 0.02;

/// A router and its counters.
pub(super) struct Router<'n> {
    scene: Scene,
    node: &'n Namespace,
    filter: Option<Filter<'n>>,
    /// With its kind.
    queue: Option<(&'static str, Queue<'n>)>,
}

const TABLE: &str = "inet loss";

impl<'n> Router<'n> {
    fn new(scene: Scene, loss: Loss, node: &'n Namespace, [west, east]: [&'static str; 2]) -> Result<Self> {
        let (mut filter, mut queue) = (None, None);
        match loss {
            Loss::None => {}
            Loss::Random(percent) => {
                let rules = format!(
                    "counter east {{}}
                     counter west {{}}
                     counter bare {{}}
                     chain c {{
                        type filter hook forward priority 0
                        meta l4proto != tcp accept
                        tcp flags & (syn | fin | rst) != 0 accept
                        numgen random mod 100 >= {percent} accept
                        meta length <= {BARE_BYTES} counter name bare drop
                        iifname {west} counter name east drop
                        counter name west drop
                     }}"
                );
                filter = Some(node.filter(TABLE, &rules)?);
            }
            Loss::Tail(rate) => {
                queue = Some(("tbf", node.queue(east, &format!("tbf rate {rate}mbit burst 32kb limit 60kb"), &[])?));
            }
            Loss::Netem => {
                let made = node.queue(east, "netem limit 10000 delay 20ms 5ms loss 1% reorder 25%", &[]);
                queue = Some(("netem", requires_module("sch_netem", made)?));
            }
        }
        Ok(Self { scene, node, filter, queue })
    }

    /// Segments with data that were lost on their way east (`"east"`) or `"west"`.
    pub(super) fn lost(&self, towards: &str) -> Result<f64> {
        match (&self.filter, &self.queue) {
            (Some(_), _) => Ok(self.scene.segments(self.node.nft_counter(TABLE, towards)?)),
            (None, Some((kind, queue))) if towards == "east" => Ok(queue.drops(kind)? as f64),
            (None, _) => Ok(0.0),
        }
    }

    /// Packets lost, of all kinds.
    pub(super) fn packets(&self) -> Result<u64> {
        let counters = ["east", "west", "bare"];
        self.filter.iter().flat_map(|filter| counters.map(|counter| filter.packets(counter))).sum()
    }

    /// Says no to a scene that did not lose what it should.
    pub(super) fn has_lost(&self) -> Result<()> {
        let expected = self.filter.is_some() || self.queue.is_some();
        let lost = self.lost("east")?;
        ensure!(!expected || lost > 0.0, "{} was to lose something, and has not", self.node.label());
        Ok(())
    }
}
