//! Whose fault it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::snapshot::Share;

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

/// What there is to say at one instant (`GET /api/v1/verdict`). Keys are added, never renamed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Version of the JSON form.
    pub schema: u32,
    /// Wall-clock time, RFC 3339, UTC.
    pub time: String,
    /// Whose fault.
    pub verdict: Name,
    /// One sentence for a tired human.
    pub sentence: String,
    /// What it rests on, the most telling first.
    pub evidence: Vec<String>,
    /// What to do next.
    pub next_steps: Vec<String>,
    /// Track group or interface that it is about, `""` if nothing is wrong.
    pub unit: String,
    /// Interfaces that are affected.
    pub affected: Vec<String>,
    /// Uplinks and track points that are not.
    pub unaffected: Vec<String>,
    /// Of all that is lost beyond what is usual, the share of each part, by verdict.
    pub shares: BTreeMap<String, Share>,
    /// Segments lost in the last 5 s beyond what is usual, and all of them.
    pub lost_segments: u64,
    /// Segments that were followed in that time.
    pub segments: u64,
    /// Share of all frames whose connections were followed: how much of the traffic this verdict can see.
    pub judged_ratio: Option<f64>,
    /// Sources without which no outside party may be named and that are missing.
    pub missing: Vec<String>,
    /// What cannot be seen from here and changes nothing in the verdict.
    pub blind_spots: Vec<String>,
    /// `network` (most peers), `one_remote`, or `""` where it is not known.
    pub scope: String,
}
