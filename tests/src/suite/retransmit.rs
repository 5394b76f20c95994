//! Retransmissions of a namespace's own sockets: the tracepoints' sum is the kernel's own counter.

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    namespace::Namespace,
    run::trial,
    topology::{CLIENT, Routed, SERVER},
    wait::{eventually, settled},
};

use super::{
    counts::{SOON, lost_nothing, missed_retransmits},
    retransmit_types::Mib,
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("retransmit::identity_under_random_loss", identity_under_random_loss),
        trial("retransmit::lost_syn", lost_syn),
        trial("retransmit::lost_synack", lost_synack),
    ]
}

pub(super) const DEADLINE: Duration = Duration::from_secs(90);
pub(super) const METRIC: &str = "lossprobe_tcp_retransmitted_segments_total";

/// RetransSegs counts attempts; those that failed to leave are in TCPRetransFail and fire no counted event.
pub(super) fn kernel_count(namespace: &Namespace) -> Result<f64> {
    Ok(namespace.mib("Tcp", "RetransSegs")? as f64 - namespace.mib("TcpExt", "TCPRetransFail")? as f64)
}

/// After the connection has come to rest both counts are the same, but for [`missed_retransmits`]. Returns the agent's.
pub(super) fn identity(agent: &Agent<'_>, namespace: &Namespace, before: f64) -> Result<f64> {
    let expected = settled(SOON, Duration::from_millis(500), || kernel_count(namespace))? - before;
    let counted = eventually(SOON, "the agent's sum is the kernel's", || {
        let metrics = agent.metrics()?;
        let (sum, missed) = (metrics.sum(METRIC, &[]), missed_retransmits(agent)? as f64);
        let series: Vec<_> = metrics.select(METRIC, &[]).collect();
        let is_kernels = sum <= expected && expected <= sum + missed;
        ensure!(is_kernels, "{sum} counted, {missed} missed, {expected} by the kernel; {series:?}");
        Ok(sum)
    })?;
    lost_nothing(agent)?;
    Ok(counted)
}

/// Once more where it fails. On Linux 6.18, in ten of about 1,800 runs on a busy machine, TCP's counters (`RetransSegs`,
/// `TCPFastRetrans`) have had a burst of 1 to 47 segments for which the kernel ran no program of the tracepoint and counted
/// none as skipped; why is not known. What the agent loses by chance can hide behind that: suite `retransmit_types` and the
/// rows of `losses`, which make each type on purpose, are asked once.
fn identity_under_random_loss() -> Result<()> {
    under_random_loss().or_else(|first| {
        eprintln!("once more: {first:#}");
        under_random_loss()
    })
}

fn under_random_loss() -> Result<()> {
    const PAYLOAD: usize = 6 << 20;
    let net = Routed::new()?;
    let Routed { client, router, server } = &net;
    router.nft(
        "table ip t {
            chain c {
                type filter hook forward priority 0
                meta l4proto tcp numgen random mod 100 < 2 drop
            }
        }",
    )?;
    // Segments one by one, so that losses are single and not whole packets of 64 KiB.
    client.offloads("c", &[("tso", false), ("gso", false)])?;
    server.offloads("s", &[("tso", false), ("gso", false)])?;
    let agent = Agent::start(client, &["--interface", "c"])?;
    let (before, mib) = (kernel_count(client)?, Mib::of(client)?);
    let sent_before = client.mib("Tcp", "OutSegs")? as f64;
    let sent =
        |agent: &Agent<'_>| Ok::<_, anyhow::Error>(agent.metrics()?.sum("lossprobe_tcp_sent_segments_total", &[]));
    let counted_before = sent(&agent)?;
    client.tcp_transfer(server, (SERVER, 5001).into(), PAYLOAD, DEADLINE)?;
    server.tcp_transfer(client, (CLIENT, 5001).into(), PAYLOAD / 4, DEADLINE)?;
    let retransmitted = identity(&agent, client, before)?;
    ensure!(retransmitted >= 10.0, "only {retransmitted} segments retransmitted at 2 % loss");
    // A slow machine sends segments of the scrapes again, too, on the loopback; a handshake loses its SYN-ACK now and
    // then, and the route of that one is kept nowhere.
    let metrics = agent.metrics()?;
    let named: f64 = ["c", "lo"].map(|name| metrics.sum(METRIC, &[("interface", name)])).iter().sum();
    let answers = metrics.sum(METRIC, &[("interface", ""), ("type", "synack")]);
    ensure!(named + answers >= retransmitted, "{named} of {retransmitted} retransmissions have the interface's name");
    mib.agrees_with(&agent, client)?;
    // The scrapes themselves are TCP on loopback, so that the kernel's counter runs ahead of any number in a scrape.
    let (counted, kernel) = (sent(&agent)? - counted_before, client.mib("Tcp", "OutSegs")? as f64 - sent_before);
    ensure!(counted > 4000.0 && counted <= kernel, "{counted} segments sent, {kernel} by the kernel");
    agent.stop()
}

pub(super) fn drop_first(flags: &str) -> String {
    format!(
        "table ip t {{
            chain c {{
                type filter hook forward priority 0
                tcp flags & (syn | ack) == {flags} numgen inc mod 1000 < 1 drop
            }}
        }}"
    )
}

fn lost_syn() -> Result<()> {
    let net = Routed::new()?;
    let Routed { client, router, server } = &net;
    router.nft(&drop_first("syn"))?;
    let agent = Agent::start(client, &["--interface", "c"])?;
    let before = kernel_count(client)?;
    client.tcp_transfer(server, (SERVER, 5001).into(), 1000, DEADLINE)?;
    assert_eq!(identity(&agent, client, before)?, 1.0);
    assert_eq!(agent.metrics()?.sum(METRIC, &[("interface", "c"), ("type", "syn")]), 1.0);
    agent.stop()
}

fn lost_synack() -> Result<()> {
    let net = Routed::new()?;
    let Routed { client, router, server } = &net;
    router.nft(&drop_first("(syn | ack)"))?;
    let agent = Agent::start(server, &["--interface", "s"])?;
    let before = kernel_count(server)?;
    client.tcp_transfer(server, (SERVER, 5001).into(), 1000, DEADLINE)?;
    let retransmitted = identity(&agent, server, before)?;
    ensure!(retransmitted >= 1.0, "the SYN-ACK was not retransmitted");
    let named = agent.metrics()?.sum(METRIC, &[("type", "synack")]);
    ensure!(named == retransmitted, "{named} of {retransmitted} are SYN-ACKs");
    agent.stop()
}
