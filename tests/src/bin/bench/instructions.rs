//! How much the running kernel's verifier had to look at to accept each program, and how large it is.

use anyhow::{Context as _, Result};
use probe_user::kernel::load::{Capacity, load};
use tests::namespace::Namespace;

use crate::{
    report::{Report, Row},
    rounds::Bench,
};

const PART: &str = "instructions";

pub(crate) fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    if !bench.wants(PART, "") {
        return Ok(());
    }
    let loaded = Namespace::new(PART)?.run(|| load(Capacity::for_interfaces(32)))?;
    for name in &loaded.programs {
        let program = loaded.ebpf.program(name).with_context(|| format!("no program {name}"))?;
        let info = program.info().with_context(|| format!("ask for {name}"))?;
        report.add(Row {
            part: PART,
            name: (*name).to_owned(),
            figures: vec![
                // Linux 5.16 and later tell it.
                ("verified_instructions", info.verified_instruction_count().map(f64::from), 0),
                ("translated_bytes", info.size_translated().map(f64::from), 0),
                ("machine_code_bytes", Some(f64::from(info.size_jitted())), 0),
            ],
            judged: None,
        });
    }
    Ok(())
}
