//! A kernel that shows less of itself than it should: its type information is replaced, for the agent alone.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use probe_user::kernel::{btf::VMLINUX, types::TRACEPOINTS};
use tests::{
    agent,
    namespace::Namespace,
    program,
    topology::{Pair, RIGHT},
};

use super::{Folder, counts, start_behind};

/// Where it ends early or is something else, the agent names the file and ends; it neither hangs nor counts nonsense.
pub(super) fn broken_type_information() -> Result<()> {
    let namespace = Namespace::new("types")?;
    let folder = Folder::new("types")?;
    let whole = fs::read(VMLINUX)?;
    let mut elsewhere = whole.clone();
    elsewhere[8..12].copy_from_slice(&[0xf0, 0xff, 0xff, 0xff]);
    let mut endless = whole.clone();
    endless[12..16].copy_from_slice(&[0xff; 4]);
    let file = folder.0.join("vmlinux");
    let lossprobe = agent::binary().display().to_string();
    let script = format!("mount --bind {} {VMLINUX} && exec \"$0\" \"$@\"", file.display());
    for (case, content) in [
        ("empty", &[][..]),
        ("cut in its header", &whole[..20]),
        ("cut in the middle", &whole[..whole.len() / 2]),
        ("cut at its end", &whole[..whole.len() - 1]),
        ("no type information", &[0x5a; 100_000]),
        ("types far outside", &elsewhere),
        ("types without an end", &endless),
    ] {
        fs::write(&file, content)?;
        for verb in [&["agent", "--socket", "none"][..], &["stats"], &["doctor"]] {
            let arguments = [&["--mount", "sh", "-c", &script, &lossprobe], verb].concat();
            let output = program::output(&namespace, "unshare", &arguments, "")?;
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            ensure!(output.status.code() == Some(1), "{case}, {verb:?} ended with {}: {said}", output.status);
            ensure!(said.contains(VMLINUX) && !said.contains("panicked"), "{case}, {verb:?}: {said}");
        }
    }
    Ok(())
}

/// A tracepoint that a kernel does not have is a feature that is missing, by name; all else works.
pub(super) fn without_a_tracepoint() -> Result<()> {
    let pair = Pair::new()?;
    let _sink = pair.right.udp((RIGHT, 5000))?;
    let folder = Folder::new("tracepoints")?;
    let file = folder.0.join("vmlinux");
    let script = format!("mount --bind {} {VMLINUX}", file.display());
    let whole = fs::read(VMLINUX)?;
    for missing in TRACEPOINTS.iter().map(std::slice::from_ref).chain([&TRACEPOINTS[..]]) {
        let mut types = whole.clone();
        let hidden = missing.iter().filter(|tracepoint| hide(&mut types, tracepoint)).count();
        fs::write(&file, &types)?;
        let check = || -> Result<()> {
            let agent = start_behind(&pair.right, &script, &[])?;
            let metrics = agent.metrics()?;
            for tracepoint in missing {
                let feature = metrics.get("lossprobe_feature_available", &[("feature", tracepoint)]);
                ensure!(feature == Some(0.0), "feature {tracepoint} is {feature:?}");
                let said = format!("{tracepoint} is not watched");
                ensure!(agent.log().contains(&said), "{said:?} is not in the log: {}", agent.log());
            }
            // What is not looked at has no zero.
            let dropped = metrics.select("lossprobe_dropped_packets_total", &[]).count();
            ensure!(dropped == 0 || !missing.contains(&"kfree_skb"), "{dropped} counters of drops");
            counts(&pair, &agent, 100)?;
            agent.stop()
        };
        check().with_context(|| format!("without {missing:?}, {hidden} of which this kernel has"))?;
    }
    Ok(())
}

/// Renames the type of a tracepoint, where there is one. Nothing moves, and all numbers stay.
fn hide(types: &mut [u8], tracepoint: &str) -> bool {
    let name = format!("\0btf_trace_{tracepoint}\0");
    let found = types.windows(name.len()).position(|window| window == name.as_bytes());
    found.is_some_and(|at| {
        types[at + 1..at + 4].copy_from_slice(b"xyz");
        true
    })
}
