//! What happens where the machine does not give what the probe needs: the error names it and the next step.

use std::process::Output;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use tests::{agent, namespace::Namespace, program, run::trial};

/// These need programs that only a host has.
pub(super) fn host_trials() -> Vec<Trial> {
    vec![
        trial("privilege::missing_capability", missing_capability),
        trial("privilege::hidden_type_information", hidden_type_information),
    ]
}

fn refused(output: &Output, expected: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "ended with {}: {said}", output.status);
    for word in expected {
        ensure!(said.contains(word), "no {word:?} in {said:?}");
    }
    Ok(())
}

/// `CAP_SYS_ADMIN` stands in for some of them on kernels before 5.8, so it goes too.
fn missing_capability() -> Result<()> {
    let namespace = Namespace::new("privilege")?;
    let lossprobe = agent::binary().display().to_string();
    for (dropped, expected) in
        [("-bpf,-sys_admin", "CAP_BPF"), ("-perfmon,-sys_admin", "CAP_PERFMON"), ("-net_admin", "CAP_NET_ADMIN")]
    {
        let bounding = format!("--bounding-set={dropped}");
        for verb in [&["agent", "--socket", "none"][..], &["stats"]] {
            let arguments = [&[bounding.as_str(), lossprobe.as_str()], verb].concat();
            refused(&program::output(&namespace, "setpriv", &arguments, "")?, &[expected, "setcap"])?;
        }
    }
    Ok(())
}

fn hidden_type_information() -> Result<()> {
    let namespace = Namespace::new("no types")?;
    let script =
        format!("mount -t tmpfs none /sys/kernel/btf && exec {} agent --socket none", agent::binary().display());
    let output = program::output(&namespace, "unshare", &["--mount", "sh", "-c", &script], "")?;
    refused(&output, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"])
}
