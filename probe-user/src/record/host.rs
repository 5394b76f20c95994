//! What machine it was: `host.txt` of a bundle, for whoever reads it elsewhere.

use std::fmt::Write as _;

use nix::sys::utsname::uname;

use crate::snapshot::{Interface, Snapshot};

/// What does not change while the agent runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name, `""` if it has none.
    pub name: String,
    /// Kernel: name, release, version, machine.
    pub kernel: String,
    /// As its distribution calls itself, `""` if it does not say.
    pub system: String,
    /// CPUs that this process may use.
    pub cpus: usize,
}

impl Host {
    /// Asks the machine. What it does not tell is left out.
    #[must_use]
    pub fn read() -> Self {
        let kernel = uname().map_or_else(
            |_unlikely| String::new(),
            |names| {
                let parts = [names.sysname(), names.release(), names.version(), names.machine()];
                parts.map(|part| part.to_string_lossy()).join(" ")
            },
        );
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let system = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        Self {
            name: name(),
            kernel,
            system: system.unwrap_or_default().trim_matches('"').to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        }
    }

    /// The file's text: the machine, its network devices, and what the probe can see here.
    #[must_use]
    pub fn describe(&self, snapshot: &Snapshot) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                let _infallible = writeln!(text, "{name:<12} {}", one_line(value));
            }
        };
        line("time", &snapshot.time);
        line("host", &self.name);
        line("kernel", &self.kernel);
        line("system", &self.system);
        line("cpus", &self.cpus.to_string());
        line("lossprobe", env!("CARGO_PKG_VERSION"));
        line("up", &format!("{} s", snapshot.uptime_ms / 1_000));
        line("state", snapshot.state.id());
        let absent = snapshot.probe.features.iter().filter(|(_, is_there)| !**is_there).map(|(name, _)| name.as_str());
        line("missing", &absent.collect::<Vec<_>>().join(", "));
        line("not seen", &snapshot.host.not_observable.join(", "));
        for interface in &snapshot.interfaces {
            text.push('\n');
            describe(interface, &mut text);
        }
        text
    }
}

/// This machine's name, as `uname -n` says it; `""` if it has none.
#[must_use]
pub fn name() -> String {
    let name = uname().map_or_else(|_unlikely| String::new(), |names| names.nodename().to_string_lossy().into_owned());
    if name == "(none)" { String::new() } else { name }
}

fn describe(interface: &Interface, text: &mut String) {
    let device = &interface.device;
    let _infallible = writeln!(text, "interface {}", one_line(&interface.name));
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _infallible = writeln!(text, "  {name:<10} {}", one_line(value));
        }
    };
    line("kind", &interface.kind);
    line("role", &format!("{} ({})", interface.role, interface.role_reason));
    line("group", &interface.track);
    line("driver", &interface.driver);
    line("master", &interface.master);
    line("lower", &interface.lower);
    line("alias", &interface.alias);
    let carrier = device.carrier.map_or("", |carrier| if carrier { ", carrier" } else { ", no carrier" });
    line("state", &format!("{}{carrier}", if interface.up { "up" } else { "down" }));
    if let Some(rings) = &device.rings {
        let size = |size: Option<u64>| size.map_or_else(|| "?".to_owned(), |size| size.to_string());
        let [rx, rx_max, tx, tx_max] = [rings.rx, rings.rx_max, rings.tx, rings.tx_max].map(size);
        line("rings", &format!("rx {rx} of {rx_max}, tx {tx} of {tx_max}"));
    }
    line("offloads", &device.offloads.join(", "));
    line("qdiscs", &interface.qdiscs.iter().map(|qdisc| qdisc.kind.as_str()).collect::<Vec<_>>().join(", "));
    let attached = interface.attached.iter().map(|hook| format!("{} by {} ({})", hook.hook, hook.mode, hook.position));
    line("attached", &attached.collect::<Vec<_>>().join(", "));
    line("refused", &interface.refused);
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "?".to_owned(), |ratio| format!("{ratio:.3}"));
    if interface.coverage.ingress.or(interface.coverage.egress).is_some() {
        let [ingress, egress] = [interface.coverage.ingress, interface.coverage.egress].map(ratio);
        line("coverage", &format!("in {ingress}, out {egress}"));
    }
    line("not seen", &device.not_observable.join(", "));
}

/// Names and aliases can be anything, and are one line here.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Attachment, Device, Qdisc, Rings};

    #[test]
    fn one_machine() {
        let rings = Rings { rx: Some(256), rx_max: Some(4096), tx: Some(256), tx_max: None };
        let device = Device {
            rings: Some(rings),
            offloads: vec!["gro".to_owned(), "tso".to_owned()],
            carrier: Some(true),
            ..Device::default()
        };
        let interface = Interface {
            name: "eth0".to_owned(),
            kind: "ethernet".to_owned(),
            role: "uplink".to_owned(),
            role_reason: "default route".to_owned(),
            driver: "virtio_net".to_owned(),
            alias: "to\nrack 7".to_owned(),
            up: true,
            attached: vec![Attachment {
                hook: "tc_ingress".to_owned(),
                mode: "tcx".to_owned(),
                position: "first".to_owned(),
            }],
            qdiscs: vec![Qdisc { kind: "fq_codel".to_owned(), ..Qdisc::default() }],
            device,
            ..Interface::default()
        };
        let mut snapshot = Snapshot { uptime_ms: 61_000, interfaces: vec![interface], ..Snapshot::default() };
        snapshot.probe.features.extend([("tcx".to_owned(), true), ("drop_reasons".to_owned(), false)]);
        let host = Host { name: "node7".to_owned(), kernel: "Linux 6.18".to_owned(), cpus: 2, ..Host::default() };
        let expected = [
            "host         node7",
            "kernel       Linux 6.18",
            "cpus         2",
            concat!("lossprobe    ", env!("CARGO_PKG_VERSION")),
            "up           61 s",
            "state        running",
            "missing      drop_reasons",
            "",
            "interface eth0",
            "  kind       ethernet",
            "  role       uplink (default route)",
            "  driver     virtio_net",
            "  alias      to\u{fffd}rack 7",
            "  state      up, carrier",
            "  rings      rx 256 of 4096, tx 256 of ?",
            "  offloads   gro, tso",
            "  qdiscs     fq_codel",
            "  attached   tc_ingress by tcx (first)",
        ];
        assert_eq!(host.describe(&snapshot).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let host = Host::read();
        assert!(host.kernel.starts_with("Linux ") && host.cpus > 0, "{host:?}");
    }
}
