//! Whether anybody still reads what is written: a command that waits for events has nothing to write that would find out.

use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// `false` only for a pipe whose other end nobody has open any more.
pub(super) fn has_reader(to: BorrowedFd<'_>) -> bool {
    let mut to = [PollFd::new(to, PollFlags::empty())];
    let looked = poll(&mut to, PollTimeout::ZERO);
    let has_gone = to[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR));
    !(looked.is_ok() && has_gone)
}

#[cfg(test)]
mod tests {
    use std::{io::pipe, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn a_reader_that_goes_is_noticed() {
        let (reader, writer) = pipe().unwrap();
        assert!(has_reader(writer.as_fd()));
        drop(reader);
        assert!(!has_reader(writer.as_fd()));
        assert!(has_reader(std::fs::File::create("/dev/null").unwrap().as_fd()));
    }
}
