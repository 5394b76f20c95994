//! `lossprobe stats --senders`: who has sent malformed frames last, as a running agent knows it.

use anyhow::Result;
use serde::Serialize;

use super::{
    client,
    print::print,
    stats::{Listing, Page, Style, grouped, printable},
};
use crate::{
    agent,
    cli::Output,
    config::StatsConfig,
    snapshot::{SCHEMA, Senders},
};

/// The JSON form. Keys are added, never renamed.
#[derive(Serialize)]
struct Document<'s> {
    schema: u32,
    senders: &'s [Senders],
}

/// Shows what an agent knows of the interfaces that are selected.
///
/// # Errors
/// If no agent answers.
pub fn run(config: &StatsConfig) -> Result<()> {
    let mut senders = agent::runtime()?.block_on(client::evidence(&config.origin.socket()))?.senders;
    // Where a loopback has any, it was named to the agent.
    senders.retain(|at| config.selection.selects(&at.interface, false));
    print(|page| {
        Ok(match config.output {
            Output::Json => serde_json::to_string(&Document { schema: SCHEMA, senders: &senders })?,
            Output::Table => render(&senders, page),
        })
    })
    .map(|_| ())
}

fn render(senders: &[Senders], page: &Page) -> String {
    if senders.is_empty() {
        return "Nobody has sent malformed frames.\n".to_owned();
    }
    let mut text = String::new();
    page.table(&mut text, listing(senders));
    text + &page.styled(
        Style::Dim,
        "The last senders on each segment, which need not be the devices that have damaged the frames.",
    ) + "\n"
}

/// A row for each sender, and one for those of an interface who found no place.
fn listing(senders: &[Senders]) -> Listing {
    let mut rows = Vec::new();
    for at in senders {
        for sender in &at.senders {
            let vlan = sender.vlan.map_or_else(|| "–".to_owned(), |vlan| vlan.to_string());
            let texts = [printable(&at.interface), printable(&sender.source_mac), vlan, printable(&sender.reason)];
            rows.push((Style::Plain, texts.into_iter().chain([grouped(sender.frames)]).collect()));
        }
        if at.other_frames > 0 {
            let texts = [&at.interface, "(others)", "–", "–"].map(printable);
            rows.push((Style::Dim, texts.into_iter().chain([grouped(at.other_frames)]).collect()));
        }
    }
    Listing { header: vec!["interface", "last sender", "vlan", "reason", "frames"], texts: 4, rows }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Sender;

    #[test]
    fn tables() {
        let page = Page { width: None, colour: false };
        let sender =
            |vlan| Sender { reason: "ip4_csum".into(), source_mac: "02:00:00:00:00:07".into(), vlan, frames: 12_345 };
        let senders =
            [Senders { interface: "eth0".into(), senders: vec![sender(Some(5)), sender(None)], other_frames: 3 }];
        let text = render(&senders, &page);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[2], ["eth0", "02:00:00:00:00:07", "5", "ip4_csum", "12,345"]);
        assert_eq!(rows[3][2..4], ["–", "ip4_csum"]);
        assert_eq!(rows[4], ["eth0", "(others)", "–", "–", "3"]);
        assert_eq!(rows[5][..3], ["The", "last", "senders"]);
        assert_eq!(render(&[], &page), "Nobody has sent malformed frames.\n");
    }
}
