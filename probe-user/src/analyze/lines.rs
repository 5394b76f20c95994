//! `--events`: one JSON object a line for each thing that was found, in the order of the frames.

use std::io::{self, Write};

use probe_ebpf::{classify::Finding, flow::TcpEvent};

/// Where they go, if anybody wants them.
pub(super) struct Lines<'o> {
    out: Option<&'o mut dyn Write>,
    /// Number of the frame that is being judged, from 1.
    pub(super) frame: u64,
    /// What came of writing: after an error nothing is written.
    outcome: io::Result<()>,
}

impl<'o> Lines<'o> {
    pub(super) fn new(out: Option<&'o mut dyn Write>) -> Self {
        Self { out, frame: 0, outcome: Ok(()) }
    }

    fn put(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        if let Some(out) = &mut self.out
            && self.outcome.is_ok()
        {
            self.outcome = write(*out);
        }
    }

    /// A contradiction; its offset counts from the first byte that was captured. Nothing here needs escaping.
    #[cold]
    pub(super) fn malformed(&mut self, finding: Finding, link_bytes: u16) {
        let (frame, offset) = (self.frame, u32::from(finding.at) + u32::from(link_bytes));
        let (name, severity) = (finding.reason.id(), finding.reason.severity().id());
        self.put(|out| {
            writeln!(
                out,
                r#"{{"frame":{frame},"type":"malformed","name":"{name}","severity":"{severity}","offset":{offset}}}"#
            )
        });
    }

    /// What a segment says about those before it.
    #[cold]
    pub(super) fn tcp(&mut self, event: TcpEvent, segments: u32, direction: &str) {
        let (frame, name) = (self.frame, event.id());
        self.put(|out| {
            writeln!(
                out,
                r#"{{"frame":{frame},"type":"tcp","name":"{name}","direction":"{direction}","segments":{segments}}}"#
            )
        });
    }

    /// The first error since it was last asked.
    pub(super) fn take_outcome(&mut self) -> io::Result<()> {
        std::mem::replace(&mut self.outcome, Ok(()))
    }
}
