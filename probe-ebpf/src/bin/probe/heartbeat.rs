//! The agent's sign of life. Filters can outlive the agent (below Linux 6.6); what has lost its agent does nothing.

use aya_ebpf::{bindings::xdp_action::XDP_PASS, macros::xdp, programs::XdpContext};

use crate::maps;

/// Run by the agent every second, through `BPF_PROG_TEST_RUN`: jiffies cannot be read in user space. As XDP, because the
/// packet of a tc test run is a dropped one to whoever watches `kfree_skb`.
#[xdp]
fn lossprobe_beat(_context: XdpContext) -> u32 {
    maps::beat();
    XDP_PASS
}
