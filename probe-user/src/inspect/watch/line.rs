//! An event as one line for people.

use crate::{
    event::{Event, Kind, Message, Notice, Suppressor},
    inspect::stats::printable,
    snapshot::State,
};

pub(super) struct Page {
    pub(super) colour: bool,
}

/// How a reason looks on a terminal.
#[derive(Clone, Copy)]
enum Style {
    Red,
    Yellow,
    Dim,
    Plain,
}

impl Page {
    /// Without a newline: nothing in an event can begin another line, or steer the terminal.
    pub(super) fn line(&self, message: &Message) -> String {
        match message {
            Message::Event(event) => self.event(event),
            Message::Notice(Notice::Start { .. }) => String::new(),
            Message::Notice(Notice::State { state: State::Running }) => {
                self.styled(Style::Dim, "… the agent counts again")
            }
            Message::Notice(Notice::State { state }) => {
                let text = format!("… the agent is {}: nothing is shown until `lossprobe resume`", state.id());
                self.styled(Style::Red, &text)
            }
            Message::Notice(Notice::Suppressed { by, events }) => {
                let why = match by {
                    Suppressor::Kernel => "not shown by the kernel, whatever the filters: too many of a kind at once",
                    Suppressor::Agent => "not shown by the agent, whatever the filters: this reader is too slow",
                    Suppressor::Rate => "more that match, not shown (--rate)",
                };
                self.styled(Style::Dim, &format!("… {events} {why}"))
            }
        }
    }

    fn event(&self, event: &Event) -> String {
        let (qualifier, style) = match event.kind {
            Kind::Drop => (event.class.as_deref(), by_class(event.class.as_deref())),
            Kind::Retransmit => (None, Style::Yellow),
            Kind::Malformed if event.severity.as_deref() == Some("error") => (event.severity.as_deref(), Style::Red),
            Kind::Malformed => (event.severity.as_deref(), Style::Yellow),
        };
        let reason = match qualifier {
            Some(qualifier) => format!("{} ({qualifier})", event.reason),
            None => event.reason.clone(),
        };
        let place = match event.netns.as_str() {
            "own" if event.interface.is_empty() => "-".to_owned(),
            "own" => event.interface.clone(),
            "" => "?".to_owned(),
            inode => format!("netns:{inode}"),
        };
        // Padded before it is coloured: escapes have no width.
        let reason = self.styled(style, &format!("{:32}", printable(&reason)));
        let (time, kind) = (printable(time_of_day(&event.time)), event.kind.id());
        let mut line = format!("{time:12} {kind:10} {reason} {:15} {}", printable(&place), printable(&way(event)));
        line += &format!("  {} bytes", event.packet_bytes);
        if event.segments > 1 {
            line += &format!(", {} segments", event.segments);
        }
        if let (Some(direction), Some(offset)) = (&event.direction, event.offset) {
            line += &format!("  {} at byte {offset}", printable(direction));
        }
        if let Some(location) = &event.location {
            line += &format!("  in {}", printable(location));
        }
        line
    }

    fn styled(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Red => "31",
            Style::Yellow => "33",
            Style::Dim => "2",
            Style::Plain => return text.to_owned(),
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn by_class(class: Option<&str>) -> Style {
    match class {
        Some("capacity" | "malformed") => Style::Red,
        Some("config") => Style::Yellow,
        Some("noise") => Style::Dim,
        _ => Style::Plain,
    }
}

/// Hours to milliseconds, UTC, of an RFC 3339 time.
fn time_of_day(time: &str) -> &str {
    let clock = time.split_once('T').map_or(time, |(_, clock)| clock).trim_end_matches('Z');
    clock.get(..12).unwrap_or(clock)
}

fn way(event: &Event) -> String {
    match (event.source, event.destination) {
        (Some(source), Some(destination)) => format!("{} {source} > {destination}", event.protocol),
        _ => event.protocol.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Endpoint, tests::example};

    fn line(event: Event) -> String {
        Page { colour: false }.line(&Message::Event(Box::new(event)))
    }

    #[test]
    fn one_line_for_each() {
        assert_eq!(
            line(example()),
            "21:00:00.123 drop       netfilter_drop (policy)          eth0            \
             udp 192.0.2.1:4000 > 192.0.2.2:53  60 bytes  in nft_do_chain+0x12"
        );
        let again =
            Event { kind: Kind::Retransmit, reason: "syn".to_owned(), class: None, location: None, ..example() };
        assert_eq!(
            line(Event { segments: 3, interface: String::new(), ..again }),
            "21:00:00.123 retransmit syn                              -               \
             udp 192.0.2.1:4000 > 192.0.2.2:53  60 bytes, 3 segments"
        );
        let malformed = Event {
            kind: Kind::Malformed,
            reason: "ip4_csum".to_owned(),
            severity: Some("error".to_owned()),
            direction: Some("ingress".to_owned()),
            offset: Some(24),
            class: None,
            location: None,
            source: None,
            ..example()
        };
        assert_eq!(
            line(malformed),
            "21:00:00.123 malformed  ip4_csum (error)                 eth0            \
             udp  60 bytes  ingress at byte 24"
        );
        assert!(line(Event { netns: "4026532999".to_owned(), ..example() }).contains("netns:4026532999"));
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        let hostile = "e\x1b[31m\n\u{202e}";
        let shown = line(Event {
            interface: hostile.to_owned(),
            reason: hostile.to_owned(),
            location: Some(hostile.to_owned()),
            time: hostile.to_owned(),
            protocol: hostile.to_owned(),
            ..example()
        });
        assert!(!shown.contains(['\x1b', '\n', '\u{202e}']), "{shown:?}");
    }

    #[test]
    fn colour_only_where_it_is_wanted() {
        let page = Page { colour: true };
        let drop = Event { class: Some("capacity".to_owned()), ..example() };
        assert!(page.line(&Message::Event(Box::new(drop.clone()))).contains("\x1b[31m"));
        assert!(!line(drop).contains('\x1b'));
        let told = |notice: Notice| Page { colour: false }.line(&notice.into());
        let notice = Notice::Suppressed { by: Suppressor::Rate, events: 7 };
        assert_eq!(told(notice), "… 7 more that match, not shown (--rate)");
        let paused = "… the agent is paused: nothing is shown until `lossprobe resume`";
        assert_eq!(told(Notice::State { state: State::Paused }), paused);
        assert_eq!(told(Notice::State { state: State::Running }), "… the agent counts again");
    }

    #[test]
    fn ends_are_shown_together_or_not_at_all() {
        let end = Endpoint { address: "2001:db8::1".parse().unwrap(), port: None };
        let icmp = Event { protocol: "icmpv6".to_owned(), source: Some(end), destination: Some(end), ..example() };
        assert!(line(icmp).contains("icmpv6 2001:db8::1 > 2001:db8::1  60 bytes"));
    }
}
