//! Standard output: a terminal's width and colours where it is one, and a reader that has seen enough.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};

use super::stats::Page;

/// Prints what `render` makes of the terminal, or of there being none. Returns whether somebody still reads: `head` has
/// seen enough some time, which is no failure.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn print(render: impl FnOnce(&Page) -> Result<String>) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    let width = terminal_size::terminal_size_of(&out).map(|(width, _)| width.0);
    let text = render(&Page { width, colour: out.is_terminal() && std::env::var_os("NO_COLOR").is_none() })?;
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        outcome => outcome.map(|()| true).context("write to standard output"),
    }
}
