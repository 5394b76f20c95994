//! The arrangements that nearly every test uses, with permanent neighbours, so that nothing is on the wire but
//! what the test puts there.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::Result;

use crate::{
    frames::{A, B, Mac},
    link::{End, veth},
    namespace::Namespace,
    wait::eventually,
};

/// Two namespaces and a veth pair (destructure it by reference: the end that `..` drops takes the pair with it): `a` (10.0.0.1, fd00::1, hardware address [`A`]) and `b` (10.0.0.2, fd00::2, [`B`]).
pub struct Pair {
    /// Where `a` is.
    pub left: Namespace,
    /// Where `b` is.
    pub right: Namespace,
}

/// The address of `a`.
pub const LEFT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The address of `b`.
pub const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The IPv6 address of `a`, after [`Pair::with_ipv6`].
pub const LEFT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
/// The IPv6 address of `b`, after [`Pair::with_ipv6`].
pub const RIGHT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

impl Pair {
    /// Makes it.
    ///
    /// # Errors
    /// Without the privilege.
    pub fn new() -> Result<Self> {
        let pair = Self { left: Namespace::new("left")?, right: Namespace::new("right")? };
        veth(End::new(&pair.left, "a").mac(A), End::new(&pair.right, "b").mac(B))?;
        for (namespace, name, address, neighbour, mac) in pair.ends() {
            namespace.address(name, address, 24)?;
            namespace.neighbour(name, neighbour, mac)?;
        }
        Ok(pair)
    }

    /// Gives both ends an IPv6 address. Multicast listener reports (and all other ICMPv6) are kept off the wire by a
    /// packet filter, in front of every egress hook.
    ///
    /// # Errors
    /// When the kernel has no IPv6.
    pub fn with_ipv6(self) -> Result<Self> {
        for (namespace, name, address, neighbour, mac) in
            [(&self.left, "a", LEFT6, RIGHT6, B), (&self.right, "b", RIGHT6, LEFT6, A)]
        {
            namespace.nft(
                "table ip6 quiet {
                    chain out {
                        type filter hook output priority 0
                        meta l4proto icmpv6 drop
                    }
                }",
            )?;
            namespace.enable_ipv6(name)?;
            namespace.address(name, address, 64)?;
            // Even without duplicate address detection an address is tentative for a moment.
            eventually(Duration::from_secs(5), "the IPv6 address is usable", || namespace.udp((address, 0)))?;
            namespace.neighbour(name, neighbour, mac)?;
        }
        Ok(self)
    }

    fn ends(&self) -> [(&Namespace, &'static str, Ipv4Addr, Ipv4Addr, Mac); 2] {
        [(&self.left, "a", LEFT, RIGHT, B), (&self.right, "b", RIGHT, LEFT, A)]
    }
}

/// `client` (10.0.1.1 on `c`) - `router` (10.0.1.254 on `r1`, 10.0.2.254 on `r2`) - `server` (10.0.2.1 on `s`).
pub struct Routed {
    /// Where `c` is.
    pub client: Namespace,
    /// Forwards between `r1` and `r2`.
    pub router: Namespace,
    /// Where `s` is.
    pub server: Namespace,
}

/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
/// The server's address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
/// The router's address on the client's side.
pub const ROUTER1: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 254);
/// The router's address on the server's side.
pub const ROUTER2: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 254);
/// The hardware address of `c`.
pub const CLIENT_MAC: Mac = [2, 0, 0, 0, 1, 1];
/// The hardware address of `s`.
pub const SERVER_MAC: Mac = [2, 0, 0, 0, 2, 1];
/// The hardware address of `r1`.
pub const ROUTER1_MAC: Mac = [2, 0, 0, 0, 1, 0xfe];
/// The hardware address of `r2`.
pub const ROUTER2_MAC: Mac = [2, 0, 0, 0, 2, 0xfe];

impl Routed {
    /// Makes it.
    ///
    /// # Errors
    /// Without the privilege.
    pub fn new() -> Result<Self> {
        let routed = Self {
            client: Namespace::new("client")?,
            router: Namespace::new("router")?,
            server: Namespace::new("server")?,
        };
        let Self { client, router, server } = &routed;
        veth(End::new(client, "c").mac(CLIENT_MAC), End::new(router, "r1").mac(ROUTER1_MAC))?;
        veth(End::new(server, "s").mac(SERVER_MAC), End::new(router, "r2").mac(ROUTER2_MAC))?;
        for (namespace, name, address, neighbour, mac) in [
            (client, "c", CLIENT, ROUTER1, ROUTER1_MAC),
            (router, "r1", ROUTER1, CLIENT, CLIENT_MAC),
            (router, "r2", ROUTER2, SERVER, SERVER_MAC),
            (server, "s", SERVER, ROUTER2, ROUTER2_MAC),
        ] {
            namespace.address(name, address, 24)?;
            namespace.neighbour(name, neighbour, mac)?;
        }
        client.route(Ipv4Addr::UNSPECIFIED.into(), 0, ROUTER1.into())?;
        server.route(Ipv4Addr::UNSPECIFIED.into(), 0, ROUTER2.into())?;
        router.sysctl("net.ipv4.ip_forward", "1")?;
        Ok(routed)
    }
}

/// Two namespaces as in [`Pair`], with the ports `p1` and `p2` of the bridge `br` of a third one between `a` and `b`.
pub struct Bridged {
    /// Where `a` is.
    pub left: Namespace,
    /// Where the bridge is.
    pub switch: Namespace,
    /// Where `b` is.
    pub right: Namespace,
}

impl Bridged {
    /// Makes it.
    ///
    /// # Errors
    /// Without the privilege.
    pub fn new() -> Result<Self> {
        let bridged =
            Self { left: Namespace::new("left")?, switch: Namespace::new("switch")?, right: Namespace::new("right")? };
        let Self { left, switch, right } = &bridged;
        switch.bridge("br")?;
        switch.up("br")?;
        for (namespace, name, mac, port) in [(left, "a", A, "p1"), (right, "b", B, "p2")] {
            veth(End::new(namespace, name).mac(mac), End::new(switch, port))?;
            switch.enslave(port, "br")?;
        }
        for (namespace, name, address, neighbour, mac) in [(left, "a", LEFT, RIGHT, B), (right, "b", RIGHT, LEFT, A)] {
            namespace.address(name, address, 24)?;
            namespace.neighbour(name, neighbour, mac)?;
        }
        Ok(bridged)
    }
}
