//! The attach policy: which hook of an interface counts which direction, in which order kinds of attachment are tried, and
//! whether what was attached is still there. Nobody else's programs are touched.
//!
//! Asked for first at ingress and last at egress. tcx is tried by attaching, never concluded from a version; where the
//! kernel has none (before 6.6), clsact carries the same programs; where an `ingress` qdisc forbids clsact, ingress only.
//! Native XDP counts ingress where it is asked for and nothing speaks against it, in the place of tc: one hook for each
//! direction, so that nothing is counted twice.

use std::ffi::CStr;

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    programs::{
        TcAttachType,
        tc::{NlOptions, TcAttachOptions, TcHandle},
    },
};
use nix::net::if_::{if_indextoname, if_nametoindex};
use probe_ebpf::{
    abi::{Direction, program},
    classify::LinkKind,
};

use super::{
    clsact::Clsact,
    filter::{self, Own},
    load::classifier,
    tcx::Tcx,
    xdp::Native,
};
use crate::snapshot::Attachment;

/// Why egress is not attached where tcx and clsact are not to be had.
const NO_EGRESS: &str = "an ingress qdisc stands where clsact would be: egress is not counted";

/// Times that a free priority is looked for, should somebody else take it meanwhile.
const ATTEMPTS: usize = 3;

/// An interface that is to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its index, which must still bear the name.
    pub ifindex: u32,
    /// Its kind, as in `ip -d link`.
    pub kind: &'a str,
    /// How its frames are read.
    pub link_kind: LinkKind,
    /// Whether native XDP is asked for at ingress.
    pub xdp: bool,
}

/// One program on one hook. Dropping it detaches.
#[derive(Debug)]
enum Hook {
    Tcx(Tcx),
    Clsact(Own),
    Xdp(Native),
}

impl Hook {
    const fn direction(&self) -> Direction {
        match self {
            Self::Xdp(_) => Direction::Ingress,
            Self::Tcx(tcx) => tcx.direction,
            Self::Clsact(filter) => filter.direction,
        }
    }

    /// The labels `hook` and `mode`.
    fn labels(&self) -> (String, &'static str) {
        let hook = format!("tc_{}", self.direction().id());
        match self {
            Self::Tcx(_) => (hook, "tcx"),
            Self::Clsact(_) => (hook, "clsact"),
            Self::Xdp(_) => ("xdp".to_owned(), "native"),
        }
    }

    fn place(&self) -> Result<Option<(usize, usize)>> {
        match self {
            Self::Tcx(tcx) => tcx.place(),
            Self::Clsact(filter) => filter.place(),
            Self::Xdp(native) => native.place(),
        }
    }
}

/// What hangs on one interface. Dropping it detaches.
#[derive(Debug)]
pub struct Attached {
    ifindex: u32,
    // Before the qdisc that carries them. Those that could be attached.
    hooks: Vec<Hook>,
    clsact: Option<Clsact>,
    /// Why native XDP is not used where it is asked for; not tried again.
    no_xdp: Option<String>,
}

/// What [`Attached::verify`] found.
#[derive(Debug, Default)]
pub struct Verified {
    /// What hangs there, with its place among others.
    pub attachments: Vec<Attachment>,
    /// Hooks that somebody else has emptied.
    pub lost: Vec<String>,
    /// We have taken native XDP back: something else is to be attached at ingress.
    pub taken_back: bool,
}

impl Attached {
    /// Attaches both directions; [`Self::missing`] tells if it could be but one.
    ///
    /// # Errors
    /// If the interface is gone or renamed meanwhile, or the kernel refuses; then nothing is left attached.
    pub fn new(ebpf: &mut Ebpf, target: Target<'_>) -> Result<Self> {
        let mut attached = Self { ifindex: target.ifindex, hooks: Vec::with_capacity(2), clsact: None, no_xdp: None };
        attached.complete(ebpf, target)?;
        Ok(attached)
    }

    /// Attaches the directions that are not.
    ///
    /// # Errors
    /// As [`Self::new`]; what was attached before stays.
    pub fn complete(&mut self, ebpf: &mut Ebpf, target: Target<'_>) -> Result<()> {
        for direction in Direction::ALL {
            if self.hooks.iter().any(|hook| hook.direction() == direction) {
                continue;
            }
            check_identity(target)?;
            let hook = self
                .attach(ebpf, target, direction)
                .with_context(|| format!("attach to {} of {}", direction.id(), target.name))?;
            self.hooks.extend(hook);
            self.hooks.sort_by_key(|hook| hook.direction() as u8);
            // The library attaches by name: were it renamed in between, this would be another interface.
            check_identity(target)?;
        }
        Ok(())
    }

    /// `None` where the kernel offers no place for this direction.
    fn attach(&mut self, ebpf: &mut Ebpf, target: Target<'_>, direction: Direction) -> Result<Option<Hook>> {
        if target.xdp && direction == Direction::Ingress && self.no_xdp.is_none() {
            match Native::attach(ebpf, target) {
                Ok(native) => return Ok(Some(Hook::Xdp(native))),
                Err(error) => self.refuse_xdp(&format!("{error:#}")),
            }
        }
        let name = match direction {
            Direction::Ingress => program::INGRESS,
            Direction::Egress => program::EGRESS,
        };
        if let Some(tcx) = Tcx::attach(classifier(ebpf, name)?, (target.name, target.ifindex), direction)? {
            return Ok(Some(Hook::Tcx(tcx)));
        }
        let qdisc = match &mut self.clsact {
            Some(qdisc) => qdisc,
            none => none.insert(Clsact::ensure(target.ifindex)?),
        };
        if direction == Direction::Egress && qdisc.is_ingress_only() {
            return Ok(None);
        }
        Ok(Some(Hook::Clsact(attach_filter(ebpf, name, (target, direction), qdisc)?)))
    }

    fn refuse_xdp(&mut self, reason: &str) {
        self.no_xdp = Some(format!("no native XDP, tc ingress instead: {reason}"));
    }

    /// Whether the kernel has tcx.
    #[must_use]
    pub fn is_tcx(&self) -> bool {
        self.hooks.iter().any(|hook| matches!(hook, Hook::Tcx(_)))
    }

    /// What is not as asked for, `""` if nothing is.
    #[must_use]
    pub fn missing(&self) -> String {
        let egress = self.clsact.as_ref().is_some_and(Clsact::is_ingress_only).then_some(NO_EGRESS);
        self.no_xdp.as_deref().into_iter().chain(egress).collect::<Vec<_>>().join("; ")
    }

    /// Whether it is to be verified often.
    #[must_use]
    pub fn is_on_probation(&self) -> bool {
        self.hooks.iter().any(|hook| matches!(hook, Hook::Xdp(native) if native.is_on_probation()))
    }

    /// Native XDP that has changed the device is taken back, once and for all.
    fn judge_xdp(&mut self) -> bool {
        let side_effect = |hook: &mut Hook| match hook {
            Hook::Xdp(native) => native.side_effect(),
            Hook::Tcx(_) | Hook::Clsact(_) => None,
        };
        let Some(reason) = self.hooks.iter_mut().find_map(side_effect) else { return false };
        self.hooks.retain(|hook| !matches!(hook, Hook::Xdp(_)));
        self.refuse_xdp(&reason);
        true
    }

    /// Asks the kernel whether everything is still there, and where among others, which come and go unannounced. What is
    /// gone is given up.
    pub fn verify(&mut self) -> Verified {
        let mut verified = Verified { taken_back: self.judge_xdp(), ..Verified::default() };
        let ifindex = self.ifindex;
        self.hooks.retain(|hook| {
            let (name, mode) = hook.labels();
            let position = match hook.place() {
                // Of one that is gone nobody has taken anything off: whether it is, is asked behind the question for the place.
                Ok(None) if if_indextoname(ifindex).is_ok() => {
                    verified.lost.push(name);
                    return false;
                }
                Ok(None) | Err(_) => "unknown",
                Ok(Some(place)) => position(place),
            };
            verified.attachments.push(Attachment { hook: name, mode: mode.to_owned(), position: position.to_owned() });
            true
        });
        if !self.hooks.iter().any(|hook| matches!(hook, Hook::Clsact(_)))
            && let Some(qdisc) = self.clsact.take_if(|_| !verified.lost.is_empty())
        {
            qdisc.forget();
        }
        verified
    }
}

/// Whether programs can be attached to an interface: that is done by its name, which must be text for the library. The
/// kernel lets a name have any byte but `/`, `:` and spaces.
///
/// # Errors
/// With what to do. An interface that is gone is no error here.
pub fn check_name(ifindex: u32) -> Result<()> {
    if_indextoname(ifindex).map_or(Ok(()), |name| check_text(ifindex, &name))
}

fn check_text(ifindex: u32, name: &CStr) -> Result<()> {
    if name.to_str().is_err() {
        let shown = name.to_bytes().escape_ascii();
        bail!(
            "the name of interface {ifindex} is not UTF-8 (\"{shown}\"), and programs are attached by name; rename it"
        );
    }
    Ok(())
}

fn check_identity(Target { name, ifindex, .. }: Target<'_>) -> Result<()> {
    check_name(ifindex)?;
    let found = if_nametoindex(name).with_context(|| format!("interface {name} is gone"))?;
    if found != ifindex {
        bail!("interface {name} is another one now (index {found}, not {ifindex})");
    }
    Ok(())
}

fn attach_filter(
    ebpf: &mut Ebpf,
    name: &str,
    (target, direction): (Target<'_>, Direction),
    qdisc: &Clsact,
) -> Result<Own> {
    let program = classifier(ebpf, name)?;
    let number = program.info().context("ask for our program's number")?.id();
    let hook = match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    };
    let handle = qdisc.handle() as u32;
    let mut attempt = || -> Result<Own> {
        let preference = filter::free_preference(direction, &filter::list(target.ifindex, direction)?)
            .context("no priority is free")?;
        let options = NlOptions { priority: preference, handle: TcHandle::from(handle), ..NlOptions::default() };
        let id = program.attach_with_options(target.name, hook, TcAttachOptions::Netlink(options))?;
        // The library would remove whatever stands at this place by then: ours looks first.
        std::mem::forget(program.take_link(id)?);
        Ok(Own { ifindex: target.ifindex, direction, preference, handle, program: number })
    };
    (1..ATTEMPTS).find_map(|_| attempt().ok()).map_or_else(attempt, Ok)
}

/// The label `position` of a place among so many.
fn position((place, count): (usize, usize)) -> &'static str {
    match place {
        0 if count == 1 => "only",
        0 => "first",
        last if last + 1 == count => "last",
        _ => "middle",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_text_is_said_to_be_none() {
        assert!(check_text(7, c"eth0").is_ok() && check_text(7, c"\u{fffd}").is_ok());
        let said = check_text(7, c"a\xffb").unwrap_err().to_string();
        assert!(said.contains("interface 7 is not UTF-8 (\"a\\xffb\")") && said.contains("rename it"), "{said}");
        assert!(check_name(u32::MAX).is_ok(), "gone");
    }
}
