//! What drivers count and are set to, from ethtool: the standard groups and settings by netlink, their own counters by
//! ioctl.

mod ioctl;
mod standard;

use std::collections::BTreeMap;

use anyhow::Result;

use self::ioctl::Ethtool;
pub use self::standard::{Counters, counters, offloads, rings};
use super::causes::{Key, Meaning, matches, strings};

/// The strings of drivers, by interface index: their names are asked for once and whenever their number changes.
#[derive(Debug, Default)]
pub struct DriverCounters {
    ethtool: Option<Ethtool>,
    devices: BTreeMap<u32, Names>,
}

/// Which of a device's counters matter, by position.
#[derive(Debug)]
struct Names {
    count: usize,
    wanted: Vec<(usize, Meaning)>,
}

impl DriverCounters {
    /// Packets that the driver says were lost, and evidence, since the device was made; nothing of a driver whose strings
    /// are not in the table.
    ///
    /// # Errors
    /// The device is gone, or the kernel refuses.
    pub fn read(&mut self, ifindex: u32, device: &str, driver: &str) -> Result<Counters> {
        if strings(driver).next().is_none() {
            return Ok(Counters::default());
        }
        let ethtool = match &mut self.ethtool {
            Some(ethtool) => ethtool,
            none => none.insert(Ethtool::open()?),
        };
        if let Some(names) = self.devices.get(&ifindex)
            && let Some(values) = ethtool.values(device, names.count)?
        {
            return Ok(names.sums(&values));
        }
        let names = Names::of(driver, &ethtool.names(device)?);
        let values = if names.count == 0 { None } else { ethtool.values(device, names.count)? };
        let counters = values.map_or_else(Counters::default, |values| names.sums(&values));
        self.devices.insert(ifindex, names);
        Ok(counters)
    }

    /// Forgets devices that are gone.
    pub fn retain(&mut self, is_there: impl Fn(u32) -> bool) {
        self.devices.retain(|ifindex, _| is_there(*ifindex));
    }
}

impl Names {
    fn of(driver: &str, names: &[String]) -> Self {
        let known: Vec<_> = strings(driver).collect();
        let meanings = |(at, name): (usize, &String)| {
            let meant =
                known.iter().filter(|(pattern, _)| matches(pattern, name)).map(move |(_, meaning)| (at, *meaning));
            meant.collect::<Vec<_>>()
        };
        Self { count: names.len(), wanted: names.iter().enumerate().flat_map(meanings).collect() }
    }

    fn sums(&self, values: &[u64]) -> Counters {
        let mut counters = Counters::default();
        let mut elsewhere = BTreeMap::<Key, u64>::new();
        for (at, meaning) in &self.wanted {
            let value = values.get(*at).copied().unwrap_or(0);
            match meaning {
                Meaning::Lost(key) => *counters.lost.entry(*key).or_default() += value,
                Meaning::NotLost(key) => *elsewhere.entry(*key).or_default() += value,
                Meaning::Evidence(name) => *counters.evidence.entry(name).or_default() += value,
            }
        }
        for (key, value) in elsewhere {
            counters.lost.entry(key).and_modify(|lost| *lost = lost.saturating_sub(value));
        }
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::causes::{Cause, Way},
        *,
    };

    fn sums(driver: &str, strings: &[(&str, u64)]) -> BTreeMap<Key, u64> {
        let names: Vec<String> = strings.iter().map(|(name, _)| (*name).to_owned()).collect();
        let values: Vec<u64> = strings.iter().map(|(_, value)| *value).collect();
        Names::of(driver, &names).sums(&values).lost
    }

    #[test]
    fn recorded_strings() {
        let rx = |cause| (Way::Ingress, cause);
        for (name, driver, strings, expected) in [
            (
                "two queues",
                "veth",
                &[
                    ("peer_ifindex", 9),
                    ("rx_queue_0_xdp_packets", 50),
                    ("rx_queue_0_drops", 1),
                    ("rx_queue_0_xdp_drops", 20),
                    ("rx_queue_1_drops", 2),
                    ("rx_queue_1_xdp_drops", 22),
                    ("tx_queue_0_xdp_xmit_errors", 7),
                ][..],
                &[(rx(Cause::NoBuffer), 3), (rx(Cause::XdpDrop), 42)][..],
            ),
            (
                "drops of XDP are in `drops`, and sums are left out",
                "virtio_net",
                &[("rx_drops", 12), ("rx_xdp_drops", 9), ("rx0_drops", 12), ("rx0_xdp_drops", 9), ("tx0_kicks", 4)],
                &[(rx(Cause::NoBuffer), 3), (rx(Cause::XdpDrop), 9)],
            ),
            (
                "allowances",
                "ena",
                &[
                    ("bw_in_allowance_exceeded", 1),
                    ("bw_out_allowance_exceeded", 2),
                    ("pps_allowance_exceeded", 4),
                    ("conntrack_allowance_exceeded", 8),
                    ("linklocal_allowance_exceeded", 16),
                    ("conntrack_allowance_available", 99_999),
                ],
                &[
                    (rx(Cause::ProviderLimit), 1),
                    ((Way::Egress, Cause::ProviderLimit), 18),
                    ((Way::Both, Cause::ProviderLimit), 12),
                ],
            ),
            ("not what it seems", "igb", &[("rx_no_buffer_count", 7)], &[]),
            ("unknown driver", "new_net", &[("rx0_drops", 7)], &[]),
        ] {
            assert_eq!(sums(driver, strings), expected.iter().copied().collect(), "{name}");
        }
        let names: Vec<String> = ["rx_prio0_pause", "rx_prio3_pause"].map(str::to_owned).into();
        let evidence = Names::of("mlx5_core", &names).sums(&[3, 4]).evidence;
        assert_eq!(evidence, BTreeMap::from([("pfc_pause_received", 7)]));
    }
}
