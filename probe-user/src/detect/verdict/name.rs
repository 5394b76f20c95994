//! What a verdict can be.

use serde::{Deserialize, Serialize};

/// Where it is lost, or who makes what is malformed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// Nothing is wrong.
    #[default]
    None,
    /// This host, receiving: ring, XDP, input queue, stack.
    LocalRx,
    /// This host, sending: queueing discipline, device queue.
    LocalTx,
    /// This host, because somebody wants it so: packet filter, XDP, BPF.
    LocalPolicy,
    /// This host, because it is set up so: routes, neighbours, filters by address.
    LocalConfig,
    /// In a guest, or between it and the uplink.
    Inside,
    /// In the network, before it came here.
    NetworkIn,
    /// In the network, after it had left.
    NetworkOut,
    /// A device of the segment before this machine makes malformed frames.
    NetworkMalformed,
    /// Somebody far away sends malformed frames. Never pages.
    RemoteMalformed,
    /// Cable, optics or port.
    Link,
    /// More than one of these, none of which leads.
    Mixed,
    /// What would be needed to say it is not seen.
    Unknown,
}

impl Name {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::None,
        Self::LocalRx,
        Self::LocalTx,
        Self::LocalPolicy,
        Self::LocalConfig,
        Self::Inside,
        Self::NetworkIn,
        Self::NetworkOut,
        Self::NetworkMalformed,
        Self::RemoteMalformed,
        Self::Link,
        Self::Mixed,
        Self::Unknown,
    ];

    /// The metric label `verdict`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::LocalRx => "local_rx",
            Self::LocalTx => "local_tx",
            Self::LocalPolicy => "local_policy",
            Self::LocalConfig => "local_config",
            Self::Inside => "inside",
            Self::NetworkIn => "network_in",
            Self::NetworkOut => "network_out",
            Self::NetworkMalformed => "network_malformed",
            Self::RemoteMalformed => "remote_malformed",
            Self::Link => "link",
            Self::Mixed => "mixed",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it names this host.
    #[must_use]
    pub const fn is_local(self) -> bool {
        matches!(self, Self::LocalRx | Self::LocalTx | Self::LocalPolicy | Self::LocalConfig)
    }

    /// Whether it names somebody who is not this host, and whom it takes certainty to name.
    #[must_use]
    pub const fn accuses(self) -> bool {
        matches!(self, Self::NetworkIn | Self::NetworkOut | Self::NetworkMalformed | Self::Inside | Self::Link)
    }

    /// Whether it says that the network's side is to be asked.
    #[must_use]
    pub const fn is_network(self) -> bool {
        matches!(self, Self::NetworkIn | Self::NetworkOut | Self::NetworkMalformed)
    }

    /// Of verdicts about several units the greatest leads.
    pub(super) const fn weight(self) -> u8 {
        match self {
            Self::None => 0,
            Self::RemoteMalformed => 1,
            Self::Unknown => 2,
            Self::Mixed => 3,
            _ => 4,
        }
    }
}
