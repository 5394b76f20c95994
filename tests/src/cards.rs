//! Network cards with a bus, a driver and a wire between them, where the machine has a pair for tests: the guests of
//! `cargo xtask vm` do. A veth pair shows none of that.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::ifaddrs::getifaddrs;

use crate::{frames::Mac, namespace::Namespace, run::requires_cards, wait::eventually};

/// A namespace goes on a kernel thread, and its cards come back with it.
const RETURN: Duration = Duration::from_secs(30);

/// There is one pair.
static TAKEN: Mutex<()> = Mutex::new(());

/// Both cards, taken until this value goes. A card returns to the process's own namespace by itself when the namespace
/// that it was put into ends.
pub struct Cards {
    addresses: [Mac; 2],
    home: Namespace,
    _taken: MutexGuard<'static, ()>,
}

impl Cards {
    /// Waits until nobody else has them and both are at home.
    ///
    /// # Errors
    /// A [`Skip`](crate::run::Skip) where the machine has no cards for tests.
    pub fn take() -> Result<Self> {
        let addresses = requires_cards()?;
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let cards = Self { addresses, home: Namespace::of_this_process()?, _taken: taken };
        for address in &cards.addresses {
            eventually(RETURN, "the cards are at home", || name_of(&cards.home, address))?;
        }
        Ok(cards)
    }

    /// Their hardware addresses: a card hears these and groups only.
    #[must_use]
    pub fn addresses(&self) -> [Mac; 2] {
        self.addresses
    }

    /// Moves one (0 or 1) into `namespace`, where it is called `name` and up.
    ///
    /// # Errors
    /// When it has been put somewhere before, or the name is taken.
    pub fn put(&self, card: usize, namespace: &Namespace, name: &str) -> Result<()> {
        let address = self.addresses.get(card).context("there are two cards")?;
        let home_name = name_of(&self.home, address)?;
        // Down it may be renamed on every kernel.
        self.home.down(&home_name)?;
        self.home.move_link(&home_name, namespace)?;
        if home_name != name {
            namespace.rename(&home_name, name)?;
        }
        namespace.up(name)
    }
}

fn name_of(namespace: &Namespace, address: &Mac) -> Result<String> {
    namespace.run(|| {
        let links: Vec<_> = getifaddrs()?
            .filter_map(|entry| Some((entry.interface_name, entry.address?.as_link_addr()?.addr()?)))
            .collect();
        let card = links.iter().find(|(_, found)| found == address);
        Ok(card.with_context(|| format!("no card {address:02x?} among {links:02x?}"))?.0.clone())
    })
}

/// Two namespaces with a card each: `p` on the left, `q` on the right. Programs in them see drivers and parent devices
/// ([`Namespace::seeing_devices`]).
pub struct Physical {
    /// Where `p` is.
    pub left: Namespace,
    /// Where `q` is.
    pub right: Namespace,
    /// Last, so that the namespaces have gone when the cards are free again.
    cards: Cards,
}

impl Physical {
    /// Makes it and waits until both cards have a carrier.
    ///
    /// # Errors
    /// As [`Cards::take`].
    pub fn pair() -> Result<Self> {
        let cards = Cards::take()?;
        let [left, right] = [Namespace::new("left")?, Namespace::new("right")?].map(Namespace::seeing_devices);
        for (number, namespace, name) in [(0, &left, "p"), (1, &right, "q")] {
            cards.put(number, namespace, name)?;
            namespace.wait_for_carrier(name)?;
        }
        Ok(Self { left, right, cards })
    }

    /// The hardware addresses of `p` and `q`: a card hears its own and groups only.
    #[must_use]
    pub fn addresses(&self) -> [Mac; 2] {
        self.cards.addresses
    }
}
