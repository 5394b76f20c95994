//! Where a connection's losses count when a capture has it at several interfaces: what was lost before the first of them
//! is missing at all of them.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::BuildHasherDefault,
};

use super::{Spread, link};

/// The first interface of each direction, by the connection's name.
#[derive(Default)]
pub(super) struct Homes(HashMap<u64, [Option<Home>; 2], BuildHasherDefault<Spread>>);

#[derive(Clone, Copy)]
struct Home {
    /// Of the connection as that interface has it.
    tag: u64,
    sent: Option<bool>,
    /// Elsewhere packets were seen on the other way: in and out.
    passes: bool,
}

impl Homes {
    /// Where the direction `side` of the connection `name` was seen first: its tag there, `tag` if this frame is the first.
    pub(super) fn of(&mut self, name: u64, side: usize, (tag, frame): (u64, &link::Frame<'_>)) -> u64 {
        let first = &mut self.0.entry(name).or_default()[side];
        let home = first.get_or_insert(Home { tag, sent: frame.sent, passes: false });
        home.passes |= home.sent.zip(frame.sent).is_some_and(|(here, there)| here != there);
        home.tag
    }

    /// Whether it passes the capturing machine.
    pub(super) fn passes(&self, name: u64) -> bool {
        self.0.get(&name).is_some_and(|homes| homes.iter().flatten().any(|home| home.passes))
    }

    /// Forgets the connection with this tag.
    pub(super) fn forget(&mut self, name: u64, tag: u64) {
        if let Entry::Occupied(mut entry) = self.0.entry(name) {
            for home in entry.get_mut() {
                *home = home.filter(|home| home.tag != tag);
            }
            if entry.get().iter().all(Option::is_none) {
                entry.remove();
            }
        }
    }
}
