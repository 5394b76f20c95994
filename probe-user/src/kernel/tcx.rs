//! Programs on tcx hooks (Linux 6.6 and later): bpf_links, which go with the process that holds them.

use anyhow::{Context as _, Result};
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    tc::{SchedClassifierLink, TcAttachOptions},
};
use nix::libc;
use probe_ebpf::abi::Direction;

use super::query;

/// A program of ours on a tcx hook. Dropped, it is taken off.
#[derive(Debug)]
pub(super) struct Tcx {
    /// Held for what its end does.
    _link: SchedClassifierLink,
    ifindex: u32,
    pub(super) direction: Direction,
    program: u32,
}

impl Tcx {
    /// Attaches first at ingress, last at egress. `None` where the kernel has no tcx, which is tried and never concluded
    /// from a version.
    ///
    /// # Errors
    /// If the kernel refuses for another reason.
    pub(super) fn attach(
        program: &mut SchedClassifier,
        (name, ifindex): (&str, u32),
        direction: Direction,
    ) -> Result<Option<Self>> {
        let (hook, order) = match direction {
            Direction::Ingress => (TcAttachType::Ingress, LinkOrder::first()),
            Direction::Egress => (TcAttachType::Egress, LinkOrder::last()),
        };
        let link = match program.attach_with_options(name, hook, TcAttachOptions::TcxOrder(order)) {
            Err(error) if is_unsupported(&error) => return Ok(None),
            outcome => program.take_link(outcome?)?,
        };
        let program = program.info().context("ask for our program's number")?.id();
        Ok(Some(Self { _link: link, ifindex, direction, program }))
    }

    /// Our place among the hook's programs and their number; `None` if ours is gone.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(super) fn place(&self) -> Result<Option<(usize, usize)>> {
        let programs = query::tcx_programs(self.ifindex, self.direction)?;
        Ok(programs.iter().position(|program| *program == self.program).map(|place| (place, programs.len())))
    }
}

/// Whether the kernel does not know tcx: it refuses the attach type.
fn is_unsupported(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(call) if call.io_error.raw_os_error() == Some(libc::EINVAL))
}
