//! `lossprobe flows`: the connections that have lost most, as a running agent knows them.

use std::path::Path;

use anyhow::Result;

use super::{
    client,
    print::print,
    stats::{Listing, Page, Style, printable},
};
use crate::{
    agent,
    cli::Output,
    snapshot::{Flow, Flows},
};

/// Shows the `top` worst connections of the agent on `socket`.
///
/// # Errors
/// If no agent answers there.
pub fn run(socket: &Path, top: usize, output: Output) -> Result<()> {
    let mut flows = agent::runtime()?.block_on(client::flows(socket))?;
    flows.flows.truncate(top);
    print(|page| {
        Ok(match output {
            Output::Json => serde_json::to_string(&flows)?,
            Output::Table => render(&flows, page),
        })
    })
    .map(|_| ())
}

fn render(flows: &Flows, page: &Page) -> String {
    if flows.capacity == 0 {
        return "No connections are followed: the agent was started with --flows 0 or --track none.\n".to_owned();
    }
    let mut text = String::new();
    if flows.flows.is_empty() {
        text.push_str("No connection has passed a track point yet.\n");
    } else {
        page.table(&mut text, listing(&flows.flows));
    }
    let known = format!("{} of at most {} connections are known.", flows.known, flows.capacity);
    text + &page.styled(Style::Dim, &known) + "\n"
}

/// Where a connection passes: interface, VLANs from the outermost on, the tunnel's network.
pub(crate) fn seen_at(interface: &str, vlans: &[u16], tunnel: Option<u32>) -> String {
    let vlans = vlans.iter().map(|vlan| format!("vlan {vlan}"));
    let tunnel = tunnel.map(|tunnel| format!("vni {tunnel}"));
    let interface = Some(printable(interface)).filter(|name| !name.is_empty());
    interface.into_iter().chain(vlans).chain(tunnel).collect::<Vec<_>>().join(" ")
}

/// Two rows a connection: what came in, and what went out.
fn listing(flows: &[Flow]) -> Listing {
    let row = |flow: &Flow, way: &str, at: usize| {
        let direction = [&flow.ingress, &flow.egress][at];
        let has_lost = direction.lost_before + direction.seen_again > direction.not_needed;
        let figures = [direction.segments, direction.lost_before, direction.seen_again, direction.not_needed]
            .map(|n| n.to_string());
        let place = seen_at(&direction.interface, &flow.vlans, flow.tunnel);
        let texts = [flow.outside.clone(), flow.inside.clone(), place, way.to_owned()];
        let style = if has_lost { Style::Plain } else { Style::Dim };
        (style, texts.into_iter().chain(figures).collect())
    };
    Listing {
        header: vec!["OUTSIDE", "INSIDE", "INTERFACE", "WAY", "SEGMENTS", "LOST BEFORE", "SEEN AGAIN", "NOT NEEDED"],
        texts: 4,
        rows: flows.iter().flat_map(|flow| [row(flow, "in", 0), row(flow, "out", 1)]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::FlowDirection;

    #[test]
    fn tables() {
        let page = Page { width: None, colour: false };
        let flow = Flow {
            outside: "192.0.2.1:443".into(),
            inside: "10.0.0.7:40000".into(),
            ingress: FlowDirection { interface: "eth0".into(), segments: 1_000, lost_before: 7, ..Default::default() },
            egress: FlowDirection {
                interface: "eth0".into(),
                segments: 500,
                seen_again: 3,
                not_needed: 1,
                ..Default::default()
            },
            ..Flow::default()
        };
        let text = render(&Flows { known: 1, capacity: 32_768, flows: vec![flow] }, &page);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[2], ["192.0.2.1:443", "10.0.0.7:40000", "eth0", "in", "1000", "7", "0", "0"]);
        assert_eq!(rows[3], ["192.0.2.1:443", "10.0.0.7:40000", "eth0", "out", "500", "0", "3", "1"]);
        assert_eq!(text.lines().last(), Some("1 of at most 32768 connections are known."));
        assert!(render(&Flows::default(), &page).contains("--flows 0"));
        assert_eq!(seen_at("eth0", &[5, 6], None), "eth0 vlan 5 vlan 6");
        assert_eq!(seen_at("", &[], Some(7)), "vni 7");
    }
}
