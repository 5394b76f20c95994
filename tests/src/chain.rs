//! Two ends and three routers in a row, `a` - `r1` - `r2` - `r3` - `b`: an observer in the middle (`r2`), and a place for
//! losses on each side of it.
//!
//! Link n, counted from `a`, is 10.0.n.0/24 and fd00:n::/64; its western end is .1 and its eastern one .2. Neighbours are
//! permanent and ICMPv6 is kept off the wire, so that nothing but the test's own traffic passes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::Result;

use crate::{
    frames::Mac,
    link::{End, veth},
    namespace::Namespace,
    relay::{Relay, Side},
    wait::{eventually, settled},
};

/// What a new address has multicast listeners told is over when nothing came for so long.
const SILENCE: Duration = Duration::from_millis(2_500);
const CHATTER: Duration = Duration::from_secs(15);

/// The arrangement.
pub struct Chain {
    // First of all, so that it ends while there is something to relay between.
    relay: Option<Relay>,
    /// The western end, on the link `a`.
    pub a: Namespace,
    /// Routes between `r1a` and `r1b`.
    pub r1: Namespace,
    /// Routes between `r2a` and `r2b`.
    pub r2: Namespace,
    /// Routes between `r3a` and `r3b`.
    pub r3: Namespace,
    /// The eastern end, on the link `b`.
    pub b: Namespace,
    /// Between `a` and `r1`, where a relay was asked for.
    middle: Option<Namespace>,
}

/// The names of the four links' western and eastern ends.
const LINKS: [[&str; 2]; 4] = [["a", "r1a"], ["r1b", "r2a"], ["r2b", "r3a"], ["r3b", "b"]];

/// The western end's address, and its IPv6 address.
pub const WEST: (Ipv4Addr, Ipv6Addr) = ends(1).0;
/// The eastern end's address, and its IPv6 address.
pub const EAST: (Ipv4Addr, Ipv6Addr) = ends(4).1;

/// The addresses of a link's western and eastern end.
const fn ends(link: u8) -> ((Ipv4Addr, Ipv6Addr), (Ipv4Addr, Ipv6Addr)) {
    const fn end(link: u8, number: u8) -> (Ipv4Addr, Ipv6Addr) {
        (Ipv4Addr::new(10, 0, link, number), Ipv6Addr::new(0xfd00, link as u16, 0, 0, 0, 0, 0, number as u16))
    }
    (end(link, 1), end(link, 2))
}

fn mac(link: u8, end: usize) -> Mac {
    [2, 0, 0, 0, link, end as u8]
}

impl Chain {
    /// Makes it.
    ///
    /// # Errors
    /// Without the privilege, or when the kernel has no IPv6.
    pub fn new() -> Result<Self> {
        Self::make(None::<fn(Side, &[u8]) -> Duration>)
    }

    /// As [`Chain::new`], where each frame between `a` and `r1` is held for as long as `delay` says.
    ///
    /// # Errors
    /// As [`Chain::new`].
    pub fn with_relay(delay: impl FnMut(Side, &[u8]) -> Duration + Send + 'static) -> Result<Self> {
        Self::make(Some(delay))
    }

    fn make(delay: Option<impl FnMut(Side, &[u8]) -> Duration + Send + 'static>) -> Result<Self> {
        let middle = delay.is_some().then(|| Namespace::new("relay")).transpose()?;
        let [a, r1, r2, r3, b] = ["a", "r1", "r2", "r3", "b"].map(Namespace::new);
        let mut chain = Self { relay: None, a: a?, r1: r1?, r2: r2?, r3: r3?, b: b?, middle };
        for (number, names) in (1..).zip(LINKS) {
            chain.link(number, names)?;
        }
        chain.routes()?;
        if let (Some(middle), Some(delay)) = (&chain.middle, delay) {
            chain.relay = Some(Relay::start(middle, ["west", "east"], delay)?);
        }
        Ok(chain)
    }

    fn nodes(&self) -> [&Namespace; 5] {
        [&self.a, &self.r1, &self.r2, &self.r3, &self.b]
    }

    fn link(&self, number: u8, names: [&str; 2]) -> Result<()> {
        let at = usize::from(number) - 1;
        let nodes = [self.nodes()[at], self.nodes()[at + 1]];
        let end = |side: usize| End::new(nodes[side], names[side]).mac(mac(number, side));
        match &self.middle {
            Some(middle) if number == 1 => {
                veth(end(0), End::new(middle, "west"))?;
                veth(end(1), End::new(middle, "east"))?;
            }
            _ => veth(end(0), end(1))?,
        }
        let (west, east) = ends(number);
        for (side, (own, other)) in [(west, east), (east, west)].into_iter().enumerate() {
            let (node, name) = (nodes[side], names[side]);
            node.address(name, own.0, 24)?;
            node.neighbour(name, other.0, mac(number, 1 - side))?;
            node.without_icmpv6()?;
            node.enable_ipv6(name)?;
            node.address(name, own.1, 64)?;
            // Even without duplicate address detection an address is tentative for a moment.
            eventually(Duration::from_secs(5), "the IPv6 address is usable", || node.udp((own.1, 0)))?;
            node.neighbour(name, other.1, mac(number, 1 - side))?;
        }
        Ok(())
    }

    fn routes(&self) -> Result<()> {
        let all = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
        for (node, link) in [(&self.a, 1), (&self.r1, 2), (&self.r2, 3)] {
            node.routes_to(all, 0, ends(link).1)?;
        }
        for (node, link) in [(&self.b, 4), (&self.r3, 3)] {
            node.routes_to(all, 0, ends(link).0)?;
        }
        let west = (Ipv4Addr::new(10, 0, 1, 0), Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0));
        self.r2.routes_to(west, 1, ends(2).0)?;
        for router in [&self.r1, &self.r2, &self.r3] {
            router.sysctl("net.ipv4.ip_forward", "1")?;
            router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        }
        Ok(())
    }

    /// Waits until `r2` has nothing more to say itself: what a packet filter keeps from saying it is a drop, too.
    ///
    /// # Errors
    /// When it does not end.
    pub fn until_silent(&self) -> Result<()> {
        let hushed = || Ok(self.r2.nft_counter("ip6 quiet", "hushed")?.0);
        settled(CHATTER, SILENCE, hushed).map(|_| ())
    }

    /// Switches offloads of every link's both ends.
    ///
    /// # Errors
    /// As [`Namespace::offloads`].
    pub fn offloads(&self, features: &[(&str, bool)]) -> Result<()> {
        for (at, names) in LINKS.into_iter().enumerate() {
            for (node, name) in self.nodes()[at..].iter().zip(names) {
                node.offloads(name, features)?;
            }
        }
        for name in self.middle.as_ref().map_or(&[][..], |_| &["west", "east"]) {
            self.middle.iter().try_for_each(|middle| middle.offloads(name, features))?;
        }
        Ok(())
    }
}

impl Namespace {
    /// Packet filter in front of every egress hook: no multicast listener reports, no neighbour solicitations.
    fn without_icmpv6(&self) -> Result<()> {
        self.nft(
            "table ip6 quiet
             delete table ip6 quiet
             table ip6 quiet {
                counter hushed {}
                chain out {
                    type filter hook output priority 0
                    meta l4proto icmpv6 counter name hushed drop
                }
            }",
        )
    }

    /// Of both protocols; a prefix is that of one link (1) or everything (0).
    fn routes_to(&self, to: (Ipv4Addr, Ipv6Addr), links: u8, gateway: (Ipv4Addr, Ipv6Addr)) -> Result<()> {
        self.route(IpAddr::V4(to.0), 24 * links, IpAddr::V4(gateway.0))?;
        self.route(IpAddr::V6(to.1), 64 * links, IpAddr::V6(gateway.1))
    }
}
