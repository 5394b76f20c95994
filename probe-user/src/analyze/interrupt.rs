//! Ctrl-C ends a capture as its last byte does, so that what was read until then is shown.

use std::{
    fs::File,
    io::{PipeReader, PipeWriter, Read, Result, pipe},
    os::fd::AsFd as _,
    thread::{self, park},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

/// A file or stream that ends at the first Ctrl-C, also while nothing comes; the second one ends this program, also while
/// nobody takes what it writes.
pub(super) struct Interruptible {
    from: File,
    /// Its other end is closed by the signal.
    interrupt: PipeReader,
    is_interrupted: bool,
}

impl Interruptible {
    /// From now on the signal is waited for by a thread of its own, since this one may be held up by whoever reads.
    pub(super) fn new(from: File) -> Result<Self> {
        let signal = SigSet::from(Signal::SIGINT);
        signal.thread_block()?;
        let signals = SignalFd::with_flags(&signal, SfdFlags::SFD_CLOEXEC)?;
        let (interrupt, end) = pipe()?;
        thread::Builder::new().name("interrupt".to_owned()).spawn(move || wait(&signals, signal, end))?;
        Ok(Self { from, interrupt, is_interrupted: false })
    }

    pub(super) const fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }
}

/// Takes the first signal and leaves the second one to the kernel, which asks any thread that does not hold it back.
fn wait(signals: &SignalFd, signal: SigSet, end: PipeWriter) {
    let _taken = signals.read_signal();
    drop(end);
    let _free = signal.thread_unblock();
    loop {
        park();
    }
}

impl Read for Interruptible {
    fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        if self.is_interrupted {
            return Ok(0);
        }
        let either = [self.interrupt.as_fd(), self.from.as_fd()];
        let mut either = either.map(|end| PollFd::new(end, PollFlags::POLLIN));
        poll(&mut either, PollTimeout::NONE)?;
        if either[0].any() == Some(true) {
            self.is_interrupted = true;
            return Ok(0);
        }
        self.from.read(to)
    }
}
