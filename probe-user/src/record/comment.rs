//! What is said of a malformed frame where it is kept: a provider's engineer reads it beside the bytes, without lossprobe.

use std::fmt::Write as _;

use probe_ebpf::reason::Malformed;

use crate::event::Event;

/// One line: what is wrong, where, by which standard, and who has sent it last.
#[must_use]
pub fn comment(event: &Event) -> String {
    let mut text = format!("{}: {}", event.reason, explanation(event));
    if let Some(source_mac) = &event.source_mac {
        let vlan = event.vlan.map_or_else(String::new, |vlan| format!(" vlan {vlan}"));
        let _infallible = write!(text, "; last sender on this segment {source_mac}{vlan}");
    }
    text
}

fn explanation(event: &Event) -> String {
    let known = Malformed::ALL.iter().find(|reason| reason.id() == event.reason);
    let place = event.offset.map(|offset| format!("at byte {offset}"));
    let standard = known.map(|reason| reason.standard().to_owned());
    let weight = [event.severity.as_deref(), event.scope.as_deref()].into_iter().flatten().collect::<Vec<_>>();
    let weight = Some(weight.join(", ")).filter(|weight| !weight.is_empty());
    [place, standard, weight].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::malformed;

    #[test]
    fn what_where_why_and_who() {
        assert_eq!(
            comment(&malformed()),
            "ip4_csum: at byte 24; RFC 1122 3.2.1.2, RFC 1812 5.2.2; error, local; \
             last sender on this segment 02:00:00:00:00:07 vlan 5"
        );
        assert_eq!(
            comment(&Event { vlan: None, ..malformed() }),
            "ip4_csum: at byte 24; RFC 1122 3.2.1.2, RFC 1812 5.2.2; error, local; \
             last sender on this segment 02:00:00:00:00:07"
        );
        let of_another_build = Event { reason: "brand_new".to_owned(), source_mac: None, ..malformed() };
        assert_eq!(comment(&of_another_build), "brand_new: at byte 24; error, local");
    }
}
