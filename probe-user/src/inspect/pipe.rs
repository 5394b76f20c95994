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

/// Whether a page can be written at once: a pipe whose reader does not read would hold up whoever writes into it.
pub(super) fn has_room(to: BorrowedFd<'_>) -> bool {
    let mut to = [PollFd::new(to, PollFlags::POLLOUT)];
    // What cannot be asked is written to; whoever is gone is found out by writing.
    poll(&mut to, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Write as _, pipe},
        os::fd::AsFd as _,
    };

    use super::*;

    #[test]
    fn a_reader_that_goes_is_noticed() {
        let (reader, writer) = pipe().unwrap();
        assert!(has_reader(writer.as_fd()));
        drop(reader);
        assert!(!has_reader(writer.as_fd()));
        assert!(has_reader(std::fs::File::create("/dev/null").unwrap().as_fd()));
    }

    #[test]
    fn a_reader_that_does_not_read_is_noticed() {
        let (reader, mut writer) = pipe().unwrap();
        let mut pages = 0;
        while has_room(writer.as_fd()) {
            writer.write_all(&[0; 4096]).unwrap();
            pages += 1;
            assert!(pages < 1000, "it takes everything");
        }
        assert!(pages > 0);
        drop(reader);
        assert!(has_room(writer.as_fd()), "who has gone is found out by writing");
        assert!(has_room(std::fs::File::create("/dev/null").unwrap().as_fd()));
    }
}
