//! `lossprobe report`: an incident as a document, for a ticket or a post-mortem.

use std::{ffi::OsStr, fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::{Context as _, Result};

use super::{
    client,
    incidents::{Knowledge, find},
    print::print,
};
use crate::{
    agent,
    cli::{ReportArgs, ReportFormat},
    detect::incident::{Incident, State},
    record::{
        bundle::{self, REPORT_HTML, REPORT_MD},
        host,
        report::{Facts, html, markdown},
    },
};

/// Writes the report of an incident, to standard output unless a file is named.
///
/// # Errors
/// If neither an agent nor a state folder tells of it, or it cannot be written.
pub fn run(args: &ReportArgs) -> Result<()> {
    let text = agent::runtime()?.block_on(make(args))?;
    match args.write.as_deref().filter(|path| *path != Path::new("-")) {
        None => print(|_page| Ok(text)).map(drop),
        Some(path) => {
            // It has addresses of others.
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
            let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
            written.with_context(|| format!("write {}", path.display()))
        }
    }
}

async fn make(args: &ReportArgs) -> Result<String> {
    let format = format(args);
    let knowledge = Knowledge::from_args(&args.knowledge)?;
    let (incidents, socket) = knowledge.incidents().await?;
    let incident = find(&incidents.incidents, args.id.as_deref())?;
    let name = match format {
        ReportFormat::Md => REPORT_MD,
        ReportFormat::Html => REPORT_HTML,
    };
    // What was kept at that time lies in the bundle; the agent has other frames by now.
    if (socket.is_none() || incident.state == State::Closed)
        && let Some(report) = bundle::report(incident, name)
    {
        return Ok(report);
    }
    // Without an agent it may be another machine's.
    let Some(socket) = socket else { return Ok(write(incident, &Facts::default(), format)) };
    let evidence = client::evidence(socket).await.ok();
    let facts = Facts { host: &host::name(), evidence: evidence.as_ref(), ..Facts::default() };
    Ok(write(incident, &facts, format))
}

fn write(incident: &Incident, facts: &Facts<'_>, format: ReportFormat) -> String {
    match format {
        ReportFormat::Md => markdown::write(incident, facts),
        ReportFormat::Html => html::write(incident, facts),
    }
}

/// What was asked for, else what the file is called.
fn format(args: &ReportArgs) -> ReportFormat {
    let extension = args.write.as_deref().and_then(Path::extension).and_then(OsStr::to_str).unwrap_or_default();
    let is_page = ["html", "htm"].iter().any(|page| extension.eq_ignore_ascii_case(page));
    args.format.unwrap_or(if is_page { ReportFormat::Html } else { ReportFormat::Md })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        record::{
            bundle::{
                Bundles, Keep,
                tests::{Scratch, case},
            },
            report::tests::incident,
            store::Store,
        },
    };

    /// What the journal has and no folder, or a folder that is behind it.
    #[test]
    fn an_incident_is_enough() {
        let scratch = Scratch::new("report");
        let folder = scratch.path.join(bundle::FOLDER);
        Bundles::open(folder, Keep::default(), BTreeSet::new()).unwrap().write(&case("1")).unwrap();
        let mut store = Store::open(&scratch.path).unwrap();
        let written = |id: &str| {
            let line = format!("lossprobe report --state-dir {} {id}", scratch.path.display());
            agent::runtime().unwrap().block_on(make(&args(&line))).unwrap()
        };
        assert!(written("1").starts_with("# Packet loss on node7"), "the folder's");
        store.keep(&Incident { id: "2".to_owned(), ..incident() }).unwrap();
        store.keep(&Incident { id: "1".to_owned(), state: State::Easing, closed: None, ..incident() }).unwrap();
        for (id, state) in [("1", "easing"), ("2", "closed")] {
            let report = written(id);
            let row = format!("| State | {state} |");
            assert!(report.starts_with("# Packet loss, 2024") && report.contains(&row), "{report}");
        }
    }

    fn args(line: &str) -> ReportArgs {
        match Cli::try_parse_from(line.split(' ')).map(|cli| cli.command) {
            Ok(Command::Report(args)) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_form_is_the_files_unless_it_is_said() {
        for (line, expected) in [
            ("lossprobe report", ReportFormat::Md),
            ("lossprobe report 2024 -o x.md", ReportFormat::Md),
            ("lossprobe report -o x.HTML", ReportFormat::Html),
            ("lossprobe report -o x.html --format md", ReportFormat::Md),
            ("lossprobe report --format html", ReportFormat::Html),
        ] {
            assert_eq!(format(&args(line)), expected, "{line}");
        }
    }
}
