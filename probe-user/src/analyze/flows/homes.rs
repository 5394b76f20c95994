//! Where a connection's losses count when a capture has it at several interfaces: what was lost before the first of them is
//! missing at all of them.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::BuildHasherDefault,
};

use super::{Flow, Spread, link};

/// The first interface of each direction, by connection.
#[derive(Default)]
pub(super) struct Homes(HashMap<u64, [Option<Home>; 2], BuildHasherDefault<Spread>>);

#[derive(Clone, Copy)]
struct Home {
    point: u32,
    sent: Option<bool>,
    /// Elsewhere packets were seen on the other way: in and out.
    passes: bool,
}

impl Homes {
    /// Whether the direction `side` of the connection `name` counts where this frame of it was seen.
    pub(super) fn claim(&mut self, name: u64, side: usize, frame: &link::Frame<'_>) -> bool {
        let first = &mut self.0.entry(name).or_default()[side];
        let home = first.get_or_insert(Home { point: frame.point, sent: frame.sent, passes: false });
        home.passes |= home.sent.zip(frame.sent).is_some_and(|(here, there)| here != there);
        home.point == frame.point
    }

    /// Whether it passes the capturing machine.
    pub(super) fn passes(&self, name: u64) -> bool {
        self.0.get(&name).is_some_and(|homes| homes.iter().flatten().any(|home| home.passes))
    }

    /// Forgets what `flow` has claimed.
    pub(super) fn forget(&mut self, name: u64, flow: &Flow) {
        if let Entry::Occupied(mut entry) = self.0.entry(name) {
            for home in entry.get_mut() {
                *home = home.filter(|home| home.point != flow.key.group);
            }
            if entry.get().iter().all(Option::is_none) {
                entry.remove();
            }
        }
    }
}
