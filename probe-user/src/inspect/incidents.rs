//! `lossprobe incidents`: what went wrong and when, as a running agent knows it or as its state folder has it.

use std::{
    collections::BTreeMap,
    io::{Write as _, stderr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;

use super::{
    client::{self, FetchError},
    print::print,
    stats::{Listing, Page, Style, printable},
};
use crate::{
    agent,
    cli::{IncidentsArgs, KnowledgeArgs, Output},
    config::{DEFAULT_STATE, control_socket},
    detect::{
        incident::{Incident, State},
        percent,
    },
    record::{
        bundle,
        incidents::Incidents,
        report::{self, Block, clock, duration, id},
        store,
    },
};

/// Names that are shown of what was affected.
const NAMES_SHOWN: usize = 3;

/// Lists them, or shows one.
///
/// # Errors
/// If neither an agent nor a state folder tells of any, or none is called so.
pub fn run(args: &IncidentsArgs) -> Result<()> {
    let (incidents, _) = agent::runtime()?.block_on(Knowledge::from_args(&args.knowledge)?.incidents())?;
    print(|page| {
        Ok(match (&args.id, args.output) {
            (None, Output::Json) => serde_json::to_string(&incidents)?,
            (None, Output::Table) => list(&incidents.incidents, page),
            (Some(id), Output::Json) => serde_json::to_string(find(&incidents.incidents, Some(id))?)?,
            (Some(id), Output::Table) => show(find(&incidents.incidents, Some(id))?, page),
        })
    })
    .map(drop)
}

/// Where incidents are known from.
pub(super) enum Knowledge {
    /// The agent on this socket, and where none answers there, this folder.
    Agent(PathBuf, Option<PathBuf>),
    /// The state folder of an agent, which need not run.
    Folder(PathBuf),
}

impl Knowledge {
    pub(super) fn from_args(args: &KnowledgeArgs) -> Result<Self> {
        Ok(match (&args.state_dir, &args.socket) {
            (Some(folder), _) => Self::Folder(folder.clone()),
            (None, Some(socket)) => Self::Agent(control_socket(Some(socket))?, None),
            (None, None) => Self::Agent(control_socket(None)?, Some(DEFAULT_STATE.into())),
        })
    }

    /// All that are known, the newest first, and the socket of the agent that has told them.
    pub(super) async fn incidents(&self) -> Result<(Incidents, Option<&Path>)> {
        match self {
            Self::Folder(folder) => Ok((read(folder)?, None)),
            Self::Agent(socket, folder) => match (client::incidents(socket).await, folder) {
                (Ok(told), _) => Ok((Incidents::new(told.incidents), Some(socket))),
                (Err(FetchError::NoAgent { .. }), Some(folder)) if folder.is_dir() => Ok((read(folder)?, None)),
                (Err(error), _) => Err(error).context("what an agent without --state-dir knew is gone with it"),
            },
        }
    }
}

/// The incidents of a state folder: those of its journal, and those of which only the bundle is there (any more). One that
/// cannot be read is said, and hides no other.
fn read(state: &Path) -> Result<Incidents> {
    let mut known = BTreeMap::new();
    let mut faults = Vec::new();
    let (journal, bundles) = (state.join(store::JOURNAL).is_dir(), state.join(bundle::FOLDER));
    ensure!(journal || bundles.is_dir(), "no agent has kept incidents in {}", state.display());
    if bundles.is_dir() {
        for place in bundle::bundles(&bundles)? {
            match bundle::read(&place) {
                Ok(incident) => drop(known.insert(incident.id.clone(), incident)),
                Err(error) => faults.push(error),
            }
        }
    }
    if journal {
        let loaded = store::read(state)?;
        known.extend(loaded.incidents.into_iter().map(|incident| (incident.id.clone(), incident)));
        let fault = |(path, error): (PathBuf, anyhow::Error)| error.context(format!("read {}", path.display()));
        faults.extend(loaded.faults.into_iter().map(fault));
    }
    for error in faults {
        // Whoever closed it does not want to know.
        let _unheard = writeln!(stderr(), "lossprobe: passed over: {error:#}");
    }
    // The folder may have been moved since.
    let here = |incident: Incident| {
        let place = bundles.join(&incident.id);
        Incident { bundle: if place.is_dir() { place.display().to_string() } else { String::new() }, ..incident }
    };
    Ok(Incidents::new(known.into_values().map(here).collect()))
}

/// The one that is called so, or begins so if only one does; without a name the newest.
pub(super) fn find<'i>(incidents: &'i [Incident], id: Option<&str>) -> Result<&'i Incident> {
    let Some(id) = id else { return incidents.first().context("no incident is known") };
    if let Some(incident) = incidents.iter().find(|incident| incident.id == id) {
        return Ok(incident);
    }
    let mut alike = incidents.iter().filter(|incident| incident.id.starts_with(id));
    match (alike.next(), alike.next()) {
        (Some(incident), None) => Ok(incident),
        (Some(_), Some(_)) => bail!("several incidents begin with {id:?}; write more of the name"),
        (None, _) => bail!("no incident is called {id:?}; `lossprobe incidents` lists them"),
    }
}

fn list(incidents: &[Incident], page: &Page) -> String {
    if incidents.is_empty() {
        return "No incident is known.\n".to_owned();
    }
    let row = |incident: &Incident| {
        let end = incident.closed.clone().unwrap_or_else(|| Timestamp::now().to_string());
        let lasted = report::seconds(&incident.onset, &end).map_or_else(String::new, duration);
        let mut affected = incident.affected.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(" ");
        if incident.affected.len() > NAMES_SHOWN {
            affected.push_str(" …");
        }
        let texts = [
            incident.id.clone(),
            id(&incident.state),
            incident.verdict.id().to_owned(),
            affected,
            clock(&incident.onset),
        ];
        let style = if incident.state == State::Closed { Style::Plain } else { Style::Error };
        (style, texts.iter().map(|text| printable(text)).chain([lasted, percent(incident.peak.ratio)]).collect())
    };
    let mut text = String::new();
    let listing = Listing {
        header: vec!["ID", "STATE", "VERDICT", "AFFECTED", "ONSET (UTC)", "LASTED", "PEAK"],
        texts: 5,
        rows: incidents.iter().map(row).collect(),
    };
    page.table(&mut text, listing);
    let hint = "`lossprobe incidents ID` shows one, `lossprobe report ID` writes it down.";
    text + &page.styled(Style::Dim, hint) + "\n"
}

/// What happened, when, and whose fault it is. Nothing is cut off: a terminal breaks long lines.
fn show(incident: &Incident, page: &Page) -> String {
    let mut text = String::new();
    for block in report::overview(incident) {
        let lines = match block {
            Block::Title(title) => page.styled(Style::Bold, &printable(&title)),
            Block::Section(title) => format!("\n{}", page.styled(Style::Bold, title)),
            Block::Lead(sentence) => page.styled(Style::Bold, &printable(&sentence)),
            Block::Text(sentence) => printable(&sentence),
            Block::List(points) => {
                points.iter().map(|point| format!("- {}", printable(point))).collect::<Vec<_>>().join("\n")
            }
            Block::Table(_, rows) => columns(&rows),
            Block::Verbatim(_) | Block::Graph(_) => continue,
        };
        text.push_str(&lines);
        text.push('\n');
    }
    if !incident.bundle.is_empty() {
        text.push_str(&format!("\nFiles: {}\n", printable(&incident.bundle)));
    }
    text
}

/// Rows of which all columns but the last are as wide as their widest cell.
fn columns(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let line = |row: &Vec<String>| {
        let cells: String = row.iter().enumerate().map(|(at, cell)| format!("{cell:<0$}  ", width(at))).collect();
        cells.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::record::{
        bundle::{
            Bundles, Keep,
            tests::{Scratch, case},
        },
        report::tests::incident,
        store::Store,
    };

    const PAGE: Page = Page { width: None, colour: false };

    fn named(id: &str) -> Incident {
        Incident { id: id.to_owned(), ..incident() }
    }

    #[test]
    fn one_is_found_by_its_name() {
        let incidents = [named("20240301T1-a"), named("20240201T2-b"), named("20240201T1-a")];
        let found = |id| find(&incidents, id).map(|incident| incident.id.as_str()).ok();
        assert_eq!(found(None), Some("20240301T1-a"), "the newest");
        assert_eq!(found(Some("20240201T1-a")), Some("20240201T1-a"));
        assert_eq!(found(Some("202403")), Some("20240301T1-a"));
        assert_eq!(found(Some("202402")), None, "two begin so");
        assert_eq!(found(Some("2025")), None);
        assert!(find(&[], None).is_err());
    }

    #[test]
    fn a_list_has_a_row_each() {
        let open = Incident { state: State::Active, closed: None, onset: "?".to_owned(), ..named("2") };
        let text =
            list(&[open, Incident { affected: ["a", "b", "c", "d"].map(str::to_owned).to_vec(), ..named("1") }], &PAGE);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[2][..3], ["2", "active", "network_malformed"]);
        let closed = "1 closed network_malformed a b c … 2024-01-18 10:40:00 4 h 00 min 16 %";
        assert_eq!(rows[3], closed.split(' ').collect::<Vec<_>>());
        assert_eq!(list(&[], &PAGE), "No incident is known.\n");
    }

    #[test]
    fn one_is_shown_whole() {
        let mut incident = named("1");
        incident.statement.sentence.push('\x1b');
        let text = show(&incident, &PAGE);
        assert!(!text.contains('\x1b'), "no name steers the terminal");
        for line in [
            "Detected          2024-01-18 10:40:06 UTC, 6.5 s after the onset",
            "2024-01-18 14:08:00  +3 h 28 min   state acceptable",
            "- 5,210 frames with a wrong header checksum in 5 s",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in {text}");
        }
    }

    #[test]
    fn from_a_folder_without_an_agent() {
        let scratch = Scratch::new("folder");
        let folder = scratch.path.join(bundle::FOLDER);
        let mut bundles = Bundles::open(folder, Keep::default(), BTreeSet::new()).unwrap();
        for id in ["1", "2", "3"] {
            bundles.write(&case(id)).unwrap();
        }
        std::fs::write(bundles.place("2").join(bundle::INCIDENT), "{").unwrap();
        let ids = |told: &Incidents| told.incidents.iter().map(|incident| incident.id.clone()).collect::<Vec<_>>();
        let told = read(&scratch.path).unwrap();
        assert_eq!(ids(&told), ["3", "1"], "one that is broken hides no other");
        let report = |incident: &Incident| bundle::report(incident, bundle::REPORT_MD);
        assert!(report(&told.incidents[0]).unwrap().starts_with("# Packet loss on node7"));
        let mut store = Store::open(&scratch.path).unwrap();
        store.keep(&Incident { state: State::Easing, closed: None, ..named("3") }).unwrap();
        store.keep(&named("4")).unwrap();
        let told = read(&scratch.path).unwrap();
        assert_eq!(ids(&told), ["4", "3", "1"]);
        assert_eq!(told.incidents[1].state, State::Easing, "the journal knows more than the bundle");
        assert_eq!(report(&told.incidents[0]), None, "there is no bundle of it");
        assert_eq!(report(&told.incidents[1]), None, "the bundle says that it is over");
        assert!(read(Path::new("/nonexistent")).is_err());
    }
}
