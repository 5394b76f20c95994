//! Segments that this namespace's sockets have sent, which the kernel counts whether the agent does or not.

use anyhow::{Context as _, Result};

use crate::collect::snmp;

/// `OutSegs` as the agent shows it: from its start on, and not while it stands still.
#[derive(Debug)]
pub(super) struct Sent {
    /// What is not the agent's.
    before: Option<u64>,
    /// What was sent when it came to stand still.
    until: Option<u64>,
}

impl Sent {
    pub(super) fn from_now() -> Self {
        Self { before: read().ok(), until: None }
    }

    /// Begins or ends a time that is left out.
    pub(super) fn stand_still(&mut self, still: bool) {
        match (still, self.until) {
            (true, None) => self.until = read().ok(),
            (false, Some(until)) => {
                let now = read().ok();
                self.before = self.before.zip(now).map(|(before, now)| before + now.saturating_sub(until));
                self.until = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Segments; `None` where the kernel's counter could not be read at the start.
    ///
    /// # Errors
    /// If it cannot be read now.
    pub(super) fn segments(&self) -> Result<Option<u64>> {
        let now = match self.until {
            Some(until) => until,
            None => read()?,
        };
        Ok(self.before.and_then(|before| now.checked_sub(before)))
    }
}

fn read() -> Result<u64> {
    let segments = snmp::read()?.get("Tcp", "OutSegs").context("the kernel counts no OutSegs")?;
    u64::try_from(segments).context("a negative number of segments")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_while_it_stands_still_is_left_out() {
        let now = read().unwrap();
        let mut sent = Sent { before: Some(now.saturating_sub(100)), until: Some(now.saturating_sub(60)) };
        assert_eq!(sent.segments().unwrap(), Some(40), "as when it came to stand still");
        sent.stand_still(true);
        assert_eq!(sent.segments().unwrap(), Some(40));
        sent.stand_still(false);
        // Others send too.
        assert!((40..1000).contains(&sent.segments().unwrap().unwrap()));
    }
}
