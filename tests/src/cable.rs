//! A wire between two taps, on which nothing moves but when it is told to: by the thread that also sends and receives.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
};

use anyhow::{Context as _, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::{
    namespace::Namespace,
    raw::{TunKind, open_tun},
};

/// Two taps and what is between them: as a virtual machine's emulator does between the host's tap and its guest's card,
/// somebody has to carry the frames.
pub struct Cable([File; 2]);

impl Cable {
    /// Makes a tap in each namespace, up.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn new(ends: [(&Namespace, &str); 2]) -> Result<Self> {
        let open = |(namespace, name): (&Namespace, &str)| -> Result<File> {
            let tap = namespace.run(|| open_tun(name, TunKind::Tap))?;
            fcntl(&tap, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("make a tap's file not block")?;
            namespace.up(name)?;
            namespace.wait_for_carrier(name)?;
            Ok(tap)
        };
        let [one, other] = ends;
        Ok(Self([open(one)?, open(other)?]))
    }

    /// Carries what waits at either end, and what that brings about, until nothing waits.
    ///
    /// # Errors
    /// When a tap is gone, or does not take a whole frame.
    pub fn carry(&self) -> Result<()> {
        let [one, other] = &self.0;
        while carry_to(one, other)? | carry_to(other, one)? {}
        Ok(())
    }
}

/// Whether there was anything to carry.
fn carry_to(mut from: &File, mut to: &File) -> Result<bool> {
    // More than a frame of Ethernet: nobody has told the kernel that it may leave them uncut.
    let (mut frame, mut any) = ([0; 2048], false);
    loop {
        match moved(from.read(&mut frame)).context("take a frame from a tap")? {
            0 => return Ok(any),
            length => to.write_all(&frame[..length]).context("give a frame to a tap")?,
        }
        any = true;
    }
}

/// Bytes that a file took or gave at once.
pub(crate) fn moved(result: std::io::Result<usize>) -> Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => Ok(other?),
    }
}
