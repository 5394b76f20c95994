//! Packets that a switch or card dropped by itself and says why (devlink-trap(8), Linux 5.4): traps whose action is to
//! drop, or whose packets the host was too slow for.

use anyhow::Result;

use crate::{
    genetlink::{attributes, counter, list, text},
    snapshot::Trap,
};

/// The family's name.
pub const FAMILY: &str = "devlink";

// uapi/linux/devlink.h.
const TRAP_GET: u8 = 61;
const ATTR_BUS: u16 = 1;
const ATTR_DEVICE: u16 = 2;
const ATTR_STATS: u16 = 129;
const ATTR_TRAP: u16 = 130;
const STATS_RX_PACKETS: u16 = 0;
const STATS_RX_DROPPED: u16 = 2;
/// Traps that are kept: a switch has some hundred.
const MOST: usize = 1024;

/// Traps that have counted something, since their device was made.
///
/// # Errors
/// The kernel refuses.
pub fn traps(family: u16) -> Result<Vec<Trap>> {
    let mut traps = Vec::new();
    list(family, TRAP_GET, &[], |answer| {
        let trap = parse(answer)?.filter(|trap| trap.packets > 0 || trap.dropped_packets.is_some_and(|lost| lost > 0));
        traps.extend(trap.filter(|_| traps.len() < MOST));
        Ok(())
    })?;
    Ok(traps)
}

fn parse(answer: &[u8]) -> Result<Option<Trap>> {
    let (mut trap, mut place) = (Trap::default(), [String::new(), String::new()]);
    for (kind, value) in attributes(answer)? {
        match kind {
            ATTR_BUS => place[0] = text(&value),
            ATTR_DEVICE => place[1] = text(&value),
            ATTR_TRAP => trap.name = text(&value),
            ATTR_STATS => {
                for (kind, value) in attributes(&value)? {
                    match kind {
                        STATS_RX_PACKETS => trap.packets = counter(&value).unwrap_or(0),
                        STATS_RX_DROPPED => trap.dropped_packets = counter(&value),
                        _other => {}
                    }
                }
            }
            _other => {}
        }
    }
    trap.device = place.join("/");
    Ok((!trap.name.is_empty()).then_some(trap))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::DefaultNla;

    use super::*;
    use crate::genetlink::{emitted, families, nest};

    #[test]
    fn an_answer_of_the_kernel() {
        let word = |kind, value: &str| DefaultNla::new(kind, [value.as_bytes(), &[0]].concat());
        let figure = |kind, value: u64| DefaultNla::new(kind, value.to_ne_bytes().to_vec());
        let message = [
            word(ATTR_BUS, "pci"),
            word(ATTR_DEVICE, "0000:03:00.0"),
            word(ATTR_TRAP, "ttl_value_is_too_small"),
            nest(ATTR_STATS, &[figure(STATS_RX_PACKETS, 5), figure(1, 320), figure(STATS_RX_DROPPED, 2)]),
        ];
        let bytes = emitted(&message);
        let expected = Trap {
            device: "pci/0000:03:00.0".into(),
            name: "ttl_value_is_too_small".into(),
            packets: 5,
            dropped_packets: Some(2),
        };
        assert_eq!(parse(&bytes).unwrap(), Some(expected));
        assert_eq!(parse(&[]).unwrap(), None);
        assert!(parse(&bytes[..bytes.len() - 3]).is_err(), "cut");
    }

    /// Where there is devlink, it answers.
    #[test]
    fn the_running_kernel() {
        if let Some(family) = families().unwrap().get(FAMILY) {
            traps(*family).unwrap();
        }
    }
}
