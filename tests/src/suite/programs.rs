//! The cost of the eBPF programs as the running kernel's verifier states it.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use probe_user::kernel::load::{Capacity, load};
use tests::{namespace::Namespace, run::trial};

pub(super) fn trials() -> Vec<Trial> {
    vec![trial("programs::verified_instructions", verified_instructions)]
}

/// Instructions that the verifier may look at for one program. Its own limit is 1,000,000: below this bound another
/// kernel's verifier may be twice as thorough and still accept the program.
const MOST_VERIFIED: u32 = 500_000;

fn verified_instructions() -> Result<()> {
    let loaded = Namespace::new("programs")?.run(|| load(Capacity::for_interfaces(32)))?;
    ensure!(!loaded.programs.is_empty(), "no program was loaded");
    let mut too_many = Vec::new();
    for name in &loaded.programs {
        let program = loaded.ebpf.program(name).with_context(|| format!("no program {name}"))?;
        let info = program.info().with_context(|| format!("ask for {name}"))?;
        // Linux 5.16 and later tell it.
        let count = info.verified_instruction_count();
        let verified = count.map_or_else(
            || "verified instructions not told by this kernel".to_owned(),
            |count| format!("{count} verified instructions"),
        );
        let bytes = info
            .size_translated()
            .map_or_else(|| "size not told by this kernel".to_owned(), |bytes| format!("{bytes} bytes"));
        eprintln!("{name}: {verified}, {bytes}");
        if count.is_some_and(|count| count >= MOST_VERIFIED) {
            too_many.push(format!("{name}: {verified}"));
        }
    }
    ensure!(too_many.is_empty(), "not below {MOST_VERIFIED}: {too_many:?}");
    Ok(())
}
