//! The system call filter: everything is allowed but what this program never does and whoever takes it over would.
//! Refused calls fail with EPERM; nothing is killed.
//!
//! Calls are named, not listed by use: which ones a library makes changes with its version, and a filter that breaks
//! the agent after an update would be switched off.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya_obj::generated::bpf_cmd;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Programs and maps are created once, before the filter. Attaching, reading and asking stay possible.
const REFUSED_BPF: [bpf_cmd; 3] = [bpf_cmd::BPF_MAP_CREATE, bpf_cmd::BPF_PROG_LOAD, bpf_cmd::BPF_BTF_LOAD];

const REFUSED: &[libc::c_long] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Other namespaces and roots.
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_mknodat,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Corners in which kernels have been taken over.
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_personality,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
];

/// Namespaces that a thread can be born into.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// x86-64 kernels can offer every call a second time under this bit, some under numbers of their own
/// (arch/x86/entry/syscalls/syscall_64.tbl): execve, ptrace, `kexec_load`, `process_vm_readv` and `writev`, execveat.
#[cfg(target_arch = "x86_64")]
const X32: (i64, [i64; 6]) = (0x4000_0000, [520, 521, 528, 539, 540, 545]);

/// Sets the filter for this thread and those that it will start.
///
/// # Errors
/// If the kernel refuses, as inside a container whose own filter forbids it.
pub(super) fn apply() -> Result<()> {
    // `clone3` hides its flags in memory, where no filter sees them; libraries then take `clone`.
    let hidden = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    for (rules, errno) in [(refused()?, libc::EPERM), (hidden, libc::ENOSYS)] {
        let program = compile(rules, errno).context("compile the system call filter")?;
        seccompiler::apply_filter_all_threads(&program).context("set the system call filter")?;
    }
    Ok(())
}

fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into()?;
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()?)
}

fn refused() -> Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let bpf = REFUSED_BPF.map(|command| (SeccompCmpOp::Eq, command as u64));
    let clone = NAMESPACES.map(|flag| flag as u64).map(|flag| (SeccompCmpOp::MaskedEq(flag), flag));
    rules.insert(libc::SYS_bpf, first_argument(bpf)?);
    rules.insert(libc::SYS_clone, first_argument(clone)?);
    #[cfg(target_arch = "x86_64")]
    {
        let (bit, numbers) = X32;
        let twice: Vec<_> = rules.iter().map(|(call, rules)| (call | bit, rules.clone())).collect();
        rules.extend(twice);
        rules.extend(numbers.map(|number| (number | bit, Vec::new())));
    }
    Ok(rules)
}

/// A rule for each comparison of a call's first argument.
fn first_argument(comparisons: impl IntoIterator<Item = (SeccompCmpOp, u64)>) -> Result<Vec<SeccompRule>> {
    let rule = |(operator, value)| Ok(SeccompRule::new(vec![SeccompCondition::new(0, Dword, operator, value)?])?);
    comparisons.into_iter().map(rule).collect()
}
