//! What the operator says of interfaces: which are the uplinks, which are tracked, how ports are shown.

use globset::{GlobMatcher, GlobSet};
use probe_ebpf::classify::TunnelPorts;

use super::{
    Fault, UsageError,
    selection::{Pattern, UnknownInterface, glob_set, missing_names, pattern},
};
use crate::tunnel::{self, TunnelPort};

/// The group of all track points unless told otherwise.
const NODE: &str = "node";
/// Longest name of a track group, in bytes.
const GROUP_BYTES: usize = 32;

/// What the operator says of interfaces; by default nothing, and it is found out.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    uplinks: Vec<Pattern>,
    uplink_set: GlobSet,
    tracking: Tracking,
    tunnels: Vec<TunnelPort>,
}

/// What is tracked.
#[derive(Clone, Debug, Default)]
enum Tracking {
    /// The points that were found or named as uplinks.
    #[default]
    Points,
    None,
    /// All but loopbacks.
    All,
    /// The first that matches gives the group.
    Listed(Vec<(GlobMatcher, String)>),
}

impl Roles {
    pub(super) fn new(
        uplinks: Vec<Pattern>,
        tracked: Vec<Tracked>,
        tunnels: Vec<TunnelPort>,
    ) -> Result<Self, UsageError> {
        let uplink_set = glob_set(&uplinks).map_err(|fault| fault.at("--uplink"))?;
        tunnel_ports(&tunnels)?;
        Ok(Self { uplinks, uplink_set, tracking: Tracking::of(tracked)?, tunnels })
    }

    /// Ports of tunnels on every track point, besides those of this namespace's own.
    #[must_use]
    pub fn tunnels(&self) -> &[TunnelPort] {
        &self.tunnels
    }

    /// Whether no interface is tracked, whatever comes.
    #[must_use]
    pub const fn tracks_nothing(&self) -> bool {
        matches!(self.tracking, Tracking::None)
    }

    /// Whether only what leads out is tracked.
    #[must_use]
    pub const fn tracks_points_only(&self) -> bool {
        matches!(self.tracking, Tracking::Points)
    }

    /// Whether the uplinks are named instead of found.
    #[must_use]
    pub const fn names_uplinks(&self) -> bool {
        !self.uplinks.is_empty()
    }

    /// Whether this is one of the named uplinks.
    #[must_use]
    pub fn is_uplink(&self, name: &str) -> bool {
        self.uplink_set.is_match(name)
    }

    /// The track group of an interface, `""` if it is not tracked. `is_point`: it is one that is tracked by default.
    #[must_use]
    pub fn track_group(&self, name: &str, is_loopback: bool, is_point: bool) -> &str {
        let node = |tracked| if tracked { NODE } else { "" };
        match &self.tracking {
            Tracking::Points => node(is_point),
            Tracking::None => "",
            Tracking::All => node(!is_loopback),
            Tracking::Listed(listed) => {
                listed.iter().find(|(glob, _)| glob.is_match(name)).map_or("", |(_, group)| group)
            }
        }
    }

    /// As [`super::Selection::check_against`], of the named uplinks.
    ///
    /// # Errors
    /// The first plain name that no interface has.
    pub fn check_against(&self, existing: &[String]) -> Result<Vec<String>, UnknownInterface> {
        missing_names(&self.uplinks, &self.uplink_set, existing)
    }
}

/// One `--track`.
#[derive(Clone, Debug)]
pub(super) enum Tracked {
    All,
    None,
    Glob(GlobMatcher, String),
}

impl Tracking {
    fn of(tracked: Vec<Tracked>) -> Result<Self, UsageError> {
        let (count, mut listed) = (tracked.len(), Vec::new());
        for each in tracked {
            match each {
                Tracked::Glob(glob, group) => listed.push((glob, group)),
                Tracked::All if count == 1 => return Ok(Self::All),
                Tracked::None if count == 1 => return Ok(Self::None),
                Tracked::All | Tracked::None => {
                    let fault =
                        Fault::new("`all` or `none` stands beside another value", "give it alone, or globs only");
                    return Err(fault.at("--track"));
                }
            }
        }
        Ok(if listed.is_empty() { Self::Points } else { Self::Listed(listed) })
    }
}

/// `GLOB`, `GLOB:GROUP`, `all` or `none`. A colon cannot be in an interface's name.
pub(super) fn tracked(text: &str) -> Result<Tracked, Fault> {
    let (glob, group) = match text.rsplit_once(':') {
        None if text == "all" => return Ok(Tracked::All),
        None if text == "none" => return Ok(Tracked::None),
        None => (text, NODE),
        Some(split) => split,
    };
    let in_shape = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if group.is_empty() || group.len() > GROUP_BYTES || !group.chars().all(in_shape) {
        return Err(Fault::new(
            format!("`{group}` is no name of a track group"),
            format!("write letters, digits, `_`, `-` or `.`, at most {GROUP_BYTES}, as in eth*:lan"),
        ));
    }
    Ok(Tracked::Glob(pattern(glob)?.glob.compile_matcher(), group.to_owned()))
}

pub(super) fn flag_tracked(values: &[String]) -> Result<Vec<Tracked>, UsageError> {
    values.iter().map(|value| tracked(value).map_err(|fault| fault.at("--track"))).collect()
}

/// `PORT` or `PORT:KIND`.
pub(super) fn tunnel_port(text: &str) -> Result<TunnelPort, Fault> {
    text.parse().map_err(|error: String| match error.split_once("; ") {
        Some((cause, next_step)) => Fault::new(cause, next_step),
        None => Fault::new(error, "write 4789:vxlan"),
    })
}

/// For the classifier.
///
/// # Errors
/// If there are too many.
pub fn tunnel_ports(tunnels: &[TunnelPort]) -> Result<TunnelPorts, UsageError> {
    match tunnel::ports(tunnels.iter().copied()) {
        (ports, left_out) if left_out.is_empty() => Ok(ports),
        (_, left_out) => {
            let fault = Fault::new(format!("no room for {}", left_out[0]), "name two ports of each kind at most");
            Err(fault.at("--tunnel-port"))
        }
    }
}

pub(super) fn flag_tunnels(values: &[String]) -> Result<Vec<TunnelPort>, UsageError> {
    values.iter().map(|value| tunnel_port(value).map_err(|fault| fault.at("--tunnel-port"))).collect()
}
