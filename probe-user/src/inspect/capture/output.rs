//! Where a capture goes: a file, a named pipe, standard output.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Seek as _},
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
};

use anyhow::{Context as _, Result};

use crate::{
    config::Destination,
    inspect::pipe,
    kernel::preflight,
    record::{frame::Frame, pcapng::Writer},
};

/// Only who captures may read what others have sent.
const MODE: u32 = 0o600;

/// A place for a capture, which has not begun.
pub(super) struct Output {
    file: File,
    name: String,
    is_stdout: bool,
}

impl Output {
    /// What the file had before is still there. A named pipe is waited for until somebody reads it.
    pub(super) fn open(destination: &Destination) -> Result<Self> {
        match destination {
            Destination::Stdout => {
                let file = std::io::stdout().as_fd().try_clone_to_owned().context("cannot use standard output")?;
                Ok(Self { file: file.into(), name: "standard output".to_owned(), is_stdout: true })
            }
            Destination::File(path) => {
                let name = path.display().to_string();
                let file = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(path);
                Ok(Self { file: file.with_context(|| format!("cannot write {name}"))?, name, is_stdout: false })
            }
        }
    }

    /// Whether it is standard output, and a program reads it: what that shows is not to be mixed with anything.
    pub(super) fn is_read_by_program(&self) -> bool {
        self.is_stdout && self.file.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo())
    }

    /// Begins the capture in the place of what the file had before.
    pub(super) fn begin(self) -> Result<Recording> {
        let Self { file, name, is_stdout } = self;
        let is_own_file = !is_stdout && file.metadata().is_ok_and(|metadata| metadata.is_file());
        let written = || format!("write {name}");
        if is_own_file {
            file.set_len(0).with_context(written)?;
        }
        let system = format!("Linux {}", preflight::release()?);
        let writer = Writer::begin(file, system).with_context(written)?;
        let mut recording = Recording { writer, name, is_own_file, whole_bytes: 0, is_read: true };
        recording.note_whole();
        Ok(recording)
    }
}

/// A capture that is being written.
pub(super) struct Recording {
    writer: Writer<File>,
    pub(super) name: String,
    /// A file that was named, and not a device or a pipe.
    is_own_file: bool,
    /// How much of it are whole blocks.
    whole_bytes: u64,
    /// Whoever reads it has not seen enough.
    pub(super) is_read: bool,
}

impl Recording {
    /// Adds a frame. A pipe's reader that has gone is no error.
    pub(super) fn add(&mut self, frame: &Frame<'_>) -> Result<()> {
        match self.writer.write(frame) {
            Ok(()) => {
                self.note_whole();
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_read = false;
                Ok(())
            }
            Err(error) => {
                if self.is_own_file {
                    // What stays are whole frames; where not even that is possible, the cause is said anyway.
                    let _cut = self.writer.get_ref().set_len(self.whole_bytes);
                }
                Err(error).with_context(|| format!("write {}", self.name))
            }
        }
    }

    /// Whether a frame can be written at once.
    pub(super) fn has_room(&self) -> bool {
        pipe::has_room(self.writer.get_ref().as_fd())
    }

    pub(super) fn look_for_reader(&mut self) {
        self.is_read &= pipe::has_reader(self.writer.get_ref().as_fd());
    }

    fn note_whole(&mut self) {
        if self.is_own_file {
            self.whole_bytes = self.writer.get_ref().stream_position().unwrap_or(self.whole_bytes);
        }
    }
}
