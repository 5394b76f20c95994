//! Native XDP at ingress, where it was asked for: refused with the reason where it would change the device or meet
//! somebody else's program, and taken back once if it did change the device. Never generic XDP, which switches GRO off.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    programs::{Program, Xdp},
};
use nix::{errno::Errno, libc};
use probe_ebpf::{abi::program, classify::LinkKind};

use super::{
    attach::Target,
    device::{Device, XdpState},
    query,
};

/// Greatest MTU that leaves room in a page of 4 KiB for the headroom and the shared info that native XDP needs: a frame in
/// more pages would need a program that knows of fragments.
const MOST_MTU_BYTES: u32 = 4096 - 256 - 320 - 22;

/// How long the device is watched after attaching.
const PROBATION: Duration = Duration::from_secs(5);

/// `ENOTSUPP`, which drivers say for `EOPNOTSUPP` (include/linux/errno.h).
const ENOTSUPP: i32 = 524;

/// Loads the program; attaching is refused where that was not done.
///
/// # Errors
/// If the kernel refuses.
pub fn load(ebpf: &mut Ebpf) -> Result<()> {
    program_of(ebpf)?.load().with_context(|| format!("load program {}", program::XDP))
}

fn program_of(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program: &mut Program =
        ebpf.program_mut(program::XDP).with_context(|| format!("the object has no program {}", program::XDP))?;
    program.try_into().with_context(|| format!("program {} is no XDP program", program::XDP))
}

/// What can be known before the driver is asked.
///
/// # Errors
/// What speaks against native XDP on it.
pub fn refusal(target: Target<'_>) -> Result<()> {
    check(target).map(drop)
}

fn check(target: Target<'_>) -> Result<Device> {
    if target.link_kind != LinkKind::Ethernet {
        bail!("its frames are not Ethernet's");
    }
    if target.kind == "veth" {
        bail!("on a veth it would switch its peer's segmentation offload off");
    }
    if matches!(target.kind, "bond" | "team") {
        bail!("it would go to each of its slaves; ask for those");
    }
    let state = XdpState::of(target.ifindex)?;
    if state.takes_segments {
        bail!("a guest hands it packets of many segments, which do not pass native XDP");
    }
    if let Some(other) = state.program {
        bail!("another XDP program (number {other}) is on it");
    }
    if state.mtu_bytes > MOST_MTU_BYTES {
        bail!("its MTU of {} is more than the {MOST_MTU_BYTES} that fit into a page", state.mtu_bytes);
    }
    let before = Device::of(target.ifindex)?;
    if let Some(offload) = before.merging_offload() {
        bail!("its receive offload {offload} does not go with XDP, and is not switched off for it");
    }
    Ok(before)
}

/// Our program on a device's native XDP hook. Dropped, it is taken off.
#[derive(Debug)]
pub(super) struct Native {
    /// Held for what its end does.
    _link: OwnedFd,
    ifindex: u32,
    program: u32,
    /// The device before, and since when ours is there; `None` after the probation.
    before: Option<(Device, Instant)>,
}

impl Native {
    /// Attaches, if nothing speaks against it.
    ///
    /// # Errors
    /// What speaks against it.
    pub(super) fn attach(ebpf: &mut Ebpf, target: Target<'_>) -> Result<Self> {
        let ifindex = target.ifindex;
        let before = check(target)?;
        let program = program_of(ebpf)?;
        let link = query::link_native_xdp(program.fd()?.as_fd(), ifindex).map_err(|error| explain(&error))?;
        let program = program.info().context("ask for our program's number")?.id();
        let mut native = Self { _link: link, ifindex, program, before: Some((before, Instant::now())) };
        if native.place()?.is_none() {
            bail!("the kernel did not attach it natively");
        }
        // Drivers that set themselves up anew do it while the link is made.
        if let Some(change) = native.side_effect() {
            bail!(change);
        }
        Ok(native)
    }

    /// As of a hook with one place; `None` if ours is gone.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(super) fn place(&self) -> Result<Option<(usize, usize)>> {
        let state = XdpState::of(self.ifindex)?;
        Ok((state.native == Some(self.program)).then_some((0, 1)))
    }

    /// What has changed in the device since the attachment, while that may be the reason.
    pub(super) fn side_effect(&mut self) -> Option<String> {
        let (before, since) = self.before.as_ref()?;
        let change = before.change_to(&Device::of(self.ifindex).ok()?);
        if since.elapsed() > PROBATION {
            self.before = None;
        }
        change
    }

    pub(super) fn is_on_probation(&self) -> bool {
        self.before.is_some()
    }
}

/// The kernel keeps its own words for netlink; here there is a number only.
fn explain(error: &std::io::Error) -> anyhow::Error {
    let cause = match error.raw_os_error() {
        Some(ENOTSUPP) => "its driver has no native XDP".to_owned(),
        Some(libc::EBUSY | libc::EEXIST) => "another XDP program is on it".to_owned(),
        Some(libc::EINVAL) => "the driver refuses: its offloads, queues or MTU do not go with it".to_owned(),
        Some(number) if Errno::from_raw(number) == Errno::EOPNOTSUPP => {
            "its driver has no native XDP, or not with its present offloads, queues or MTU".to_owned()
        }
        Some(_) | None => format!("the driver refuses: {error}"),
    };
    anyhow::anyhow!(cause)
}
