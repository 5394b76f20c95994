//! The agent's sign of life. Filters can outlive the agent (below Linux 6.6); what has lost its agent does nothing.

use aya_ebpf::{macros::classifier, programs::TcContext};

use crate::{maps, tc::CONTINUE};

/// Run by the agent every second, through `BPF_PROG_TEST_RUN`: jiffies cannot be read in user space.
#[classifier]
fn lossprobe_beat(_context: TcContext) -> i32 {
    maps::beat();
    CONTINUE
}
