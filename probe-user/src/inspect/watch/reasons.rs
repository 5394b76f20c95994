//! Whether what `--reason` asks for exists: a name that is none would show nothing for ever.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use tracing::warn;

use crate::{
    config::{Filter, did_you_mean, reasons_of},
    event::Kind,
    inspect::explain::running_kernel,
};

/// Compares with all names that lossprobe and the running kernel have. As with interfaces, a pattern that matches none is
/// worth a warning: a module may bring one.
///
/// # Errors
/// The first plain name that nothing has.
pub(super) fn check(filter: &Filter) -> Result<()> {
    if filter.reasons.is_none() {
        return Ok(());
    }
    let kernel = running_kernel();
    for glob in unmatched(filter, kernel.as_ref())? {
        warn!("--reason: {glob} matches no reason that this kernel or lossprobe knows; nothing may ever be shown");
    }
    Ok(())
}

/// The patterns that match none. Where the kernel does not tell its names (`None`), names are patterns, too.
fn unmatched(filter: &Filter, kernel: Option<&BTreeSet<String>>) -> Result<Vec<String>> {
    let kinds = filter.kinds();
    let of_kernel = kernel.into_iter().flatten().map(String::as_str).filter(|_| kinds.contains(&Kind::Drop));
    let mut known: BTreeSet<&str> = kinds.iter().flat_map(|kind| reasons_of(*kind)).collect();
    known.extend(of_kernel);
    let asked = filter.reasons.iter();
    let mut globs = Vec::new();
    for (reason, is_name) in asked.flat_map(|reasons| reasons.unmatched(known.iter().copied())) {
        // A number that the kernel has no name for is shown as such.
        let is_number = reason.starts_with("reason_0x");
        if is_name && !is_number && kernel.is_some() {
            let (hint, reason) = (did_you_mean(reason, &known), reason.escape_debug());
            bail!("--reason: no reason `{reason}`; {hint}`lossprobe explain --list` shows all");
        }
        globs.push(reason.to_owned());
    }
    Ok(globs)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        config::WatchConfig,
    };

    fn checked(flags: &str, kernel: Option<&BTreeSet<String>>) -> Result<Vec<String>, String> {
        let line = ["lossprobe", "watch"].into_iter().chain(flags.split(' '));
        let Command::Watch(args) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
        unmatched(&WatchConfig::from_args(&args).unwrap().filter, kernel).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_that_nothing_has_is_refused_with_those_near_it() {
        let kernel = BTreeSet::from(["brand_new".to_owned()]);
        for (flags, expected) in [
            ("--reason netfilter_drop --reason brand_new --reason tail_probe --reason ip4_csum", Ok(&[][..])),
            ("--reason BRAND_*", Ok(&[])),
            ("--reason nothing_*", Ok(&["nothing_*"])),
            ("--reason reason_0x30001", Ok(&["reason_0x30001"])),
            ("--reason netfiltr_drop", Err("no reason `netfiltr_drop`; did you mean `netfilter_drop`")),
            ("--reason overlimit", Err("no reason `overlimit`; did you mean `qdisc_overlimit`")),
            ("--class policy --reason brnd_new", Err("did you mean `brand_new`")),
        ] {
            match (checked(flags, Some(&kernel)), expected) {
                (Ok(globs), Ok(expected)) => assert_eq!(globs, expected, "{flags}"),
                (Err(said), Err(expected)) => assert!(said.contains(expected), "{flags}: {said}"),
                (outcome, _) => unreachable!("{flags}: {outcome:?}"),
            }
        }
        assert_eq!(checked("--reason brand_new", None).unwrap(), ["brand_new"], "it may have it and not tell");
    }
}
