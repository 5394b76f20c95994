//! Empty programs in the places of the probe's: what the kernel's hooks cost by themselves is not the probe's to save.

use anyhow::{Context as _, Result};
use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{BtfTracePoint, SchedClassifier, TcAttachType},
};
use probe_ebpf::abi::program;
use probe_user::kernel::load;
use tests::namespace::Namespace;

/// Attached as long as it lives.
pub(crate) struct EmptyPrograms(Ebpf);

impl EmptyPrograms {
    /// On both directions of these interfaces of `node`.
    pub(crate) fn attach(node: &Namespace, interfaces: &[&str]) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(load::object()).context("create the eBPF maps")?;
        let program = ebpf.program_mut(program::EMPTY).context("the object has no empty program")?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.load().context("load the empty program")?;
        for name in interfaces {
            for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
                node.run(|| program.attach(name, hook).with_context(|| format!("attach to {name}")))?;
            }
        }
        Ok(Self(ebpf))
    }

    /// The program on the hooks.
    pub(crate) fn classifier(&mut self) -> Result<&SchedClassifier> {
        let program = self.0.program_mut(program::EMPTY).context("the object has no empty program")?;
        let program: &mut SchedClassifier = program.try_into()?;
        Ok(program)
    }

    /// At `skb:kfree_skb`, too.
    pub(crate) fn and_drops(mut self) -> Result<Self> {
        let program = self.0.program_mut(program::EMPTY_DROPS).context("the object has no empty drop program")?;
        let program: &mut BtfTracePoint = program.try_into()?;
        program.load("kfree_skb", &Btf::from_sys_fs()?).context("load the empty drop program")?;
        program.attach().context("attach the empty drop program")?;
        Ok(self)
    }
}
