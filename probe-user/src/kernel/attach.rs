//! Puts the tc programs on interfaces and takes them off again. Nobody else's programs are touched.
//!
//! Asked for first at ingress and last at egress. tcx is tried by attaching, never concluded from a version; where the
//! kernel has none (before 6.6), clsact carries the same programs; where an `ingress` qdisc forbids clsact, ingress only.

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions},
    },
};
use probe_ebpf::abi::{Direction, program};

use super::{clsact::Clsact, load::classifier, query};
use crate::snapshot::Attachment;

/// How a program hangs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A bpf_link, gone with the process.
    Tcx,
    /// A filter on the clsact qdisc, which outlives a killed process.
    Clsact,
}

impl Mode {
    const fn id(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// What hangs on one interface. Dropping it detaches.
#[derive(Debug)]
pub struct Attached {
    // Before the qdisc that carries them. Those that could be attached.
    links: Vec<(Direction, Mode, SchedClassifierLink)>,
    clsact: Option<Clsact>,
}

/// Priority of our clsact filters: ours comes first at ingress and last at egress.
const FIRST_PRIORITY: u16 = 1;
const LAST_PRIORITY: u16 = 0xfffe;

/// Why egress is not attached where tcx and clsact are not to be had.
const NO_EGRESS: &str = "an ingress qdisc stands where clsact would be: egress is not counted";

/// Attaches both directions to the interface that bears `name` and has the index `ifindex`; [`Attached::missing`] tells
/// if it could be but one.
///
/// # Errors
/// If the interface is gone or renamed meanwhile, or the kernel refuses; then nothing is left attached.
pub fn attach(ebpf: &mut Ebpf, name: &str, ifindex: u32) -> Result<Attached> {
    let mut attached = Attached { links: Vec::with_capacity(2), clsact: None };
    for direction in Direction::ALL {
        check_identity(name, ifindex)?;
        let link = attach_one(ebpf, (name, ifindex), direction, &mut attached.clsact)
            .with_context(|| format!("attach to {} of {name}", direction.id()))?;
        attached.links.extend(link.map(|(mode, link)| (direction, mode, link)));
        // The library attaches by name: were it renamed in between, this would be another interface.
        check_identity(name, ifindex)?;
    }
    Ok(attached)
}

fn check_identity(name: &str, ifindex: u32) -> Result<()> {
    let found = nix::net::if_::if_nametoindex(name).with_context(|| format!("interface {name} is gone"))?;
    if found != ifindex {
        bail!("interface {name} is another one now (index {found}, not {ifindex})");
    }
    Ok(())
}

/// `None` where the kernel offers no place for this direction.
fn attach_one(
    ebpf: &mut Ebpf,
    (name, ifindex): (&str, u32),
    direction: Direction,
    clsact: &mut Option<Clsact>,
) -> Result<Option<(Mode, SchedClassifierLink)>> {
    let (program, hook, order, priority) = match direction {
        Direction::Ingress => (program::INGRESS, TcAttachType::Ingress, LinkOrder::first(), FIRST_PRIORITY),
        Direction::Egress => (program::EGRESS, TcAttachType::Egress, LinkOrder::last(), LAST_PRIORITY),
    };
    let program = classifier(ebpf, program)?;
    match program.attach_with_options(name, hook, TcAttachOptions::TcxOrder(order)) {
        Ok(id) => return Ok(Some((Mode::Tcx, program.take_link(id)?))),
        Err(error) if !is_unsupported(&error) => return Err(error.into()),
        Err(_) => {}
    }
    let qdisc = match clsact {
        Some(qdisc) => qdisc,
        None => clsact.insert(Clsact::ensure(ifindex)?),
    };
    if direction == Direction::Egress && qdisc.is_ingress_only() {
        return Ok(None);
    }
    let options = NlOptions { priority, ..NlOptions::default() };
    let id = program.attach_with_options(name, hook, TcAttachOptions::Netlink(options))?;
    Ok(Some((Mode::Clsact, program.take_link(id)?)))
}

/// Whether the kernel does not know tcx: it refuses the attach type.
fn is_unsupported(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(call) if call.io_error.raw_os_error() == Some(nix::libc::EINVAL))
}

impl Attached {
    /// Whether all of it hangs on tcx links.
    #[must_use]
    pub fn is_tcx(&self) -> bool {
        self.links.iter().all(|(_, mode, _)| *mode == Mode::Tcx)
    }

    /// Why a direction is not counted, `""` if both are.
    #[must_use]
    pub fn missing(&self) -> &str {
        if self.clsact.as_ref().is_some_and(Clsact::is_ingress_only) { NO_EGRESS } else { "" }
    }

    /// What hangs where; the place among others is asked anew, since others come and go.
    #[must_use]
    pub fn describe(&self, ifindex: u32, ebpf: &Ebpf) -> Vec<Attachment> {
        self.links
            .iter()
            .map(|(direction, mode, _)| Attachment {
                hook: format!("tc_{}", direction.id()),
                mode: mode.id().to_owned(),
                position: match mode {
                    Mode::Tcx => position(ifindex, *direction, ebpf).unwrap_or("unknown").to_owned(),
                    Mode::Clsact => "unknown".to_owned(),
                },
            })
            .collect()
    }
}

/// The place of our program among those on the hook, `None` if the kernel does not tell.
fn position(ifindex: u32, direction: Direction, ebpf: &Ebpf) -> Option<&'static str> {
    let program = match direction {
        Direction::Ingress => program::INGRESS,
        Direction::Egress => program::EGRESS,
    };
    let ours: &SchedClassifier = ebpf.program(program)?.try_into().ok()?;
    let id = ours.info().ok()?.id();
    let programs = query::tcx_programs(ifindex, direction).ok()?;
    let place = programs.iter().position(|program| *program == id)?;
    Some(match (place, programs.len()) {
        (0, 1) => "only",
        (0, _) => "first",
        (place, count) if place + 1 == count => "last",
        _ => "middle",
    })
}
