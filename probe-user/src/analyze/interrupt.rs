//! Ctrl-C ends a capture as its last byte does, so that what was read until then is shown.

use std::{
    fs::File,
    io::{Read, Result},
    os::fd::AsFd as _,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

/// A file or stream that ends at the first Ctrl-C, also while nothing comes; the second one ends this program.
pub(super) struct Interruptible {
    from: File,
    signals: SignalFd,
    is_interrupted: bool,
}

impl Interruptible {
    /// From now on the signal is waited for where `from` is read, on this thread.
    pub(super) fn new(from: File) -> Result<Self> {
        let interrupt = SigSet::from(Signal::SIGINT);
        interrupt.thread_block()?;
        Ok(Self { from, signals: SignalFd::with_flags(&interrupt, SfdFlags::SFD_CLOEXEC)?, is_interrupted: false })
    }

    pub(super) const fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }
}

impl Read for Interruptible {
    fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        if self.is_interrupted {
            return Ok(0);
        }
        let mut either = [self.signals.as_fd(), self.from.as_fd()].map(|end| PollFd::new(end, PollFlags::POLLIN));
        poll(&mut either, PollTimeout::NONE)?;
        if either[0].any() == Some(true) {
            // Taken, or it would end this program when it is no longer held back.
            self.signals.read_signal()?;
            SigSet::from(Signal::SIGINT).thread_unblock()?;
            self.is_interrupted = true;
            return Ok(0);
        }
        self.from.read(to)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use nix::{sys::signal::raise, unistd::pipe};

    use super::*;

    #[test]
    fn a_stream_ends_at_the_signal() {
        let (out, into) = pipe().unwrap();
        let (mut stream, mut writer) = (Interruptible::new(out.into()).unwrap(), File::from(into));
        let mut bytes = [0; 8];
        writer.write_all(b"abc").unwrap();
        assert_eq!((stream.read(&mut bytes).unwrap(), stream.is_interrupted()), (3, false));
        // Sent to this thread alone.
        raise(Signal::SIGINT).unwrap();
        assert_eq!((stream.read(&mut bytes).unwrap(), stream.is_interrupted()), (0, true));
        assert!(!SigSet::thread_get_mask().unwrap().contains(Signal::SIGINT), "the next one would be held back");
        writer.write_all(b"def").unwrap();
        assert_eq!(stream.read(&mut bytes).unwrap(), 0, "it has ended");
    }
}
