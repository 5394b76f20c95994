//! The agent's sign of life, and the switch that goes with it: programs count only while it is fresh (10 s), so what a
//! killed agent leaves behind below Linux 6.6 does nothing.

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use nix::time::{ClockId, clock_getres};
use probe_ebpf::abi::{Control, map, program};

/// The global that the programs look at. Written by this thread only: what is read is what was written.
pub struct Heartbeat {
    cell: Array<MapData, Control>,
}

impl std::fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heartbeat").finish_non_exhaustive()
    }
}

impl Heartbeat {
    /// Of a loaded object; the programs do nothing until the first [`Heartbeat::beat`].
    ///
    /// # Errors
    /// If the object is not of this build, or the kernel refuses.
    pub fn start(ebpf: &mut Ebpf) -> Result<Self> {
        let map = ebpf.take_map(map::CONTROL).context("the object has no writable global")?;
        let cell = Array::try_from(map).context("the writable global is of another type")?;
        beat(ebpf)?.load().with_context(|| format!("load program {}", program::BEAT))?;
        Ok(Self { cell })
    }

    /// For the next 10 s the programs count. Jiffies cannot be read here: a program of ours writes them down.
    ///
    /// # Errors
    /// If the kernel refuses to run it.
    pub fn beat(&self, ebpf: &mut Ebpf) -> Result<()> {
        // The shortest frame that every kernel takes.
        let options = TestRunOptions { data_in: Some(&[0; 64]), ..TestRunOptions::new() };
        beat(ebpf)?.test_run(options).with_context(|| format!("run program {}", program::BEAT))?;
        Ok(())
    }

    /// Jiffies at the last [`Heartbeat::beat`], their lower half.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn last(&self) -> Result<u32> {
        Ok(self.control()?.heartbeat as u32)
    }

    /// From now on the programs do nothing.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn stop(&mut self) -> Result<()> {
        let control = Control { heartbeat: 0, ..self.control()? };
        self.cell.set(0, control, 0).context("stop the programs")
    }

    /// Whether the programs show examples of what they count, see [`map::EVENTS`].
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn watch(&mut self, is_watched: bool) -> Result<()> {
        let control = Control { watched: u64::from(is_watched), ..self.control()? };
        self.cell.set(0, control, 0).context("tell the programs whether somebody watches")
    }

    fn control(&self) -> Result<Control> {
        self.cell.get(&0, 0).context("read what the programs were told")
    }
}

fn beat(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program =
        ebpf.program_mut(program::BEAT).with_context(|| format!("the object has no program {}", program::BEAT))?;
    program.try_into().with_context(|| format!("program {} is no XDP program", program::BEAT))
}

/// Jiffies in a second: the coarse clocks tick with them (`TICK_NSEC`, kernel/time/posix-timers.c).
///
/// # Errors
/// If the kernel does not tell.
pub fn hertz() -> Result<u32> {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).context("ask for the length of a tick")?;
    ensure!(tick.tv_sec() == 0 && tick.tv_nsec() > 0, "a tick of {tick} cannot be");
    // 300 Hz is a tick of 3,333,333 ns.
    u32::try_from((1_000_000_000 + tick.tv_nsec() / 2) / tick.tv_nsec()).context("the tick's length")
}

#[cfg(test)]
mod tests {
    #[test]
    fn hertz_is_one_that_kernels_are_built_with() {
        assert!([100, 250, 300, 1000].contains(&super::hertz().unwrap()));
    }
}
