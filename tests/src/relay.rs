//! A wire with a length: frames between two devices, each held for a time of its own. So there is a path with a delay,
//! and one that reorders, on kernels without netem.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

use crate::{namespace::Namespace, wire::PacketSocket};

/// How long it takes at most until an idle relay sees that it should end.
const ATTENTION: Duration = Duration::from_millis(20);

/// Where a frame came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The first of the two devices.
    First,
    /// The second one.
    Second,
}

/// A thread that takes what one device receives and sends it on the other one; dropping it ends it.
pub struct Relay {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts it between two devices of `namespace`, which should have no addresses. Offloads pass unchanged.
    ///
    /// # Errors
    /// When a device does not exist.
    pub fn start(
        namespace: &Namespace,
        devices: [&str; 2],
        mut delay: impl FnMut(Side, &[u8]) -> Duration + Send + 'static,
    ) -> Result<Self> {
        let open = |device| PacketSocket::receiver(namespace, device)?.with_virtio_headers();
        let sockets = [open(devices[0])?, open(devices[1])?];
        let end = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&end);
        let work = move || {
            // The traffic notices when this ends, and its test says so with both ends in sight.
            if let Err(error) = relay(&sockets, &asked, &mut delay) {
                eprintln!("the relay ended: {error:#}");
            }
        };
        let thread = thread::Builder::new().name("relay".to_owned()).spawn(work).context("start the relay")?;
        Ok(Self { end, thread: Some(thread) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

/// A frame by the time at which it goes on, and by its arrival among equals.
type Held = (Instant, u64, Side, Vec<u8>);

fn relay(sockets: &[PacketSocket; 2], end: &AtomicBool, delay: &mut impl FnMut(Side, &[u8]) -> Duration) -> Result<()> {
    let mut held: BinaryHeap<Reverse<Held>> = BinaryHeap::new();
    let mut number = 0;
    while !end.load(Ordering::Relaxed) {
        let next = held.peek().map_or(ATTENTION, |Reverse((due, ..))| due.saturating_duration_since(Instant::now()));
        let mut ready = sockets.each_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        ppoll(&mut ready, Some(TimeSpec::from_duration(next.min(ATTENTION))), None).context("wait for frames")?;
        for (socket, side) in sockets.iter().zip([Side::First, Side::Second]) {
            while let Some(frame) = socket.receive_waiting()? {
                if !frame.outgoing {
                    let due = Instant::now() + delay(side, frame.without_virtio_header());
                    held.push(Reverse((due, number, side, frame.bytes)));
                    number += 1;
                }
            }
        }
        while let Some(Reverse((due, _, side, bytes))) = held.pop() {
            if due > Instant::now() {
                held.push(Reverse((due, number, side, bytes)));
                break;
            }
            let to = &sockets[if side == Side::First { 1 } else { 0 }];
            to.send([bytes])?;
        }
    }
    Ok(())
}
