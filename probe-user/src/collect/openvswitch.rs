//! Packets that Open vSwitch's datapath had to ask about and could not (`n_lost`): the queue to user space was full.

use anyhow::Result;

use crate::genetlink::{attributes, counter, list};

/// The family's name.
pub const FAMILY: &str = "ovs_datapath";

// uapi/linux/openvswitch.h.
const DATAPATH_GET: u8 = 3;
const ATTR_STATS: u16 = 3;
/// `struct ovs_header`: the datapath's interface, 0 for all.
const HEADER_BYTES: usize = 4;
/// Position of `n_lost` in `struct ovs_dp_stats`, in bytes.
const LOST_AT: usize = 16;

/// Upcalls lost, of all datapaths of this namespace since they were made; `None` if there is no datapath.
///
/// # Errors
/// The kernel refuses.
pub fn lost(family: u16) -> Result<Option<u64>> {
    let mut lost = None;
    list(family, DATAPATH_GET, &[0; HEADER_BYTES], |answer| {
        if let Some(of_one) = parse(answer)? {
            lost = Some(lost.unwrap_or(0) + of_one);
        }
        Ok(())
    })?;
    Ok(lost)
}

fn parse(answer: &[u8]) -> Result<Option<u64>> {
    let attributes = attributes(answer.get(HEADER_BYTES..).unwrap_or_default())?;
    let stats = attributes.iter().find(|(kind, _)| *kind == ATTR_STATS);
    Ok(stats.and_then(|(_, stats)| counter(stats.get(LOST_AT..)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genetlink::families;

    #[test]
    fn an_answer_of_the_kernel() {
        let mut answer = 5_u32.to_ne_bytes().to_vec();
        answer.extend([36, 0, 3, 0]);
        answer.extend([10_u64, 20, 30, 40].iter().flat_map(|value| value.to_ne_bytes()));
        assert_eq!(parse(&answer).unwrap(), Some(30));
        assert_eq!(parse(&answer[..4]).unwrap(), None);
        assert!(parse(&answer[..20]).is_err(), "cut");
    }

    /// Where there is Open vSwitch, it answers.
    #[test]
    fn the_running_kernel() {
        if let Some(family) = families().unwrap().get(FAMILY) {
            lost(*family).unwrap();
        }
    }
}
