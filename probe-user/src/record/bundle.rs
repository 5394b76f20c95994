//! A folder for each incident, with all that somebody needs who was not there:
//!
//! ```text
//! incident.json    the incident, as the API has it
//! loss.csv         its course
//! traffic.csv …    what each counter has grown by, one file for each Area, from half an hour before on
//! evidence.pcapng  malformed frames, where there were any
//! host.txt         the machine
//! report.md        for people
//! report.html      the same with graphs
//! ```
//!
//! A folder is written anew as a whole beside the old one and then takes its place: a reader sees one or the other. Rows and
//! frames that an earlier writing has had stay, so that an incident may be longer than the recorder's memory. Nothing here
//! waits for anything but the disk: see [`scribe`](super::scribe) for where it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use tracing::warn;

use super::{
    evidence::Evidence,
    frame::Frame,
    history::{Area, Recording},
    host::Host,
    pcapng::Writer,
    report::{self, Facts, html, markdown, section::belongs},
    store::{is_missing, is_name, open_file, read_file, read_incident},
};
use crate::{detect::incident::Incident, event::Event, snapshot::Snapshot};

/// Where bundles are in an agent's state folder.
pub const FOLDER: &str = "bundles";
/// Where the incident itself is.
pub const INCIDENT: &str = "incident.json";
/// The report as text.
pub const REPORT_MD: &str = "report.md";
/// The report as a page.
pub const REPORT_HTML: &str = "report.html";
const EVIDENCE: &str = "evidence.pcapng";
const HOST: &str = "host.txt";
const LOSS: &str = "loss.csv";

/// What `evidence.pcapng` has at most, in bytes.
const MOST_EVIDENCE_BYTES: usize = 4 << 20;
/// What each file of counters has at most, in bytes.
const MOST_SERIES_BYTES: u64 = 8 << 20;
/// What a row or a frame with its comment takes, and more: a file with less room than this is full.
const LARGEST_PIECE: u64 = 8 << 10;
/// What is said of a file with frames, and of one that is full.
const FRAMES: [&str; 2] = [
    "malformed frames with what is wrong with each, for Wireshark",
    "malformed frames with what is wrong with each, for Wireshark; it is full, later ones are not in it",
];
/// The same of a file with counters.
const COUNTERS: [&str; 2] = [
    "what each counter has grown by, over time",
    "what each counter has grown by, over time; it is full, later rows are not in it",
];
/// Incidents of which is remembered how far they are written.
const MOST_PROGRESS: usize = 64;
/// What is read of a report at most, in bytes.
const MOST_REPORT_BYTES: u64 = 8 << 20;
/// Evidence is of others' packets: only who runs the agent reads it.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// How much is kept. Bundles of open incidents stay, and the one that was written last, whatever their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Bundles.
    pub count: usize,
    /// All of them together, in bytes.
    pub bytes: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { count: 50, bytes: 256 << 20 }
    }
}

/// What a bundle is made of.
#[derive(Clone, Debug)]
pub struct Case {
    /// The incident.
    pub incident: Incident,
    /// What was recorded, until now.
    pub recording: Recording,
    /// What was kept of malformed frames; `None` if it could not be read.
    pub evidence: Option<Evidence>,
    /// The machine.
    pub host: Arc<Host>,
    /// And its devices.
    pub snapshot: Arc<Snapshot>,
}

/// The folder of all bundles.
#[derive(Debug)]
pub struct Bundles {
    folder: PathBuf,
    keep: Keep,
    /// Incidents that are open.
    open: BTreeSet<String>,
    /// By incident.
    progress: BTreeMap<String, Progress>,
}

/// How far a bundle was written by this process.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Milliseconds since the agent's start of the last step that its files have.
    uptime_ms: u64,
    /// The latest of its frames.
    evidence: Option<Timestamp>,
}

impl Bundles {
    /// Takes a folder, which is made if it is not there, and puts in order what an agent that was killed has left. `open` are
    /// incidents that go on.
    ///
    /// # Errors
    /// If it cannot be made or read.
    pub fn open(folder: PathBuf, keep: Keep, open: BTreeSet<String>) -> Result<Self> {
        make_folder(&folder, true)?;
        for path in entries(&folder)? {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if let Some(id) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".old")) {
                let place = folder.join(id);
                if is_name(id) && !place.exists() {
                    fs::rename(&path, &place).with_context(|| format!("put back {}", place.display()))?;
                    continue;
                }
            }
            if name.starts_with('.') && (name.ends_with(".new") || name.ends_with(".old")) {
                remove(&path)?;
            }
        }
        Ok(Self { folder, keep, open, progress: BTreeMap::new() })
    }

    /// Where the bundle of an incident is, or will be.
    #[must_use]
    pub fn place(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// Writes the bundle of an incident, in place of an earlier one of the same, and lets go of the oldest if there are too
    /// many. Returns its folder.
    ///
    /// # Errors
    /// If it cannot be written, as when the disk is full; an earlier one then stays as it was.
    pub fn write(&mut self, case: &Case) -> Result<PathBuf> {
        let id = &case.incident.id;
        ensure!(is_name(id), "an incident's name, {id:?}, is no name for a folder");
        let place = self.place(id);
        let [fresh, former] = [".new", ".old"].map(|end| self.folder.join(format!(".{id}{end}")));
        remove(&fresh)?;
        let written = self.fill(&fresh, &place, case).and_then(|progress| {
            remove(&former)?;
            let is_known = place.exists();
            if is_known {
                fs::rename(&place, &former).with_context(|| format!("move {} away", place.display()))?;
            }
            if let Err(error) = fs::rename(&fresh, &place) {
                // The earlier one is better than none.
                let _put_back = is_known.then(|| fs::rename(&former, &place));
                return Err(error).with_context(|| format!("put {} in its place", place.display()));
            }
            sync(&self.folder)?;
            remove(&former)?;
            Ok(progress)
        });
        match written {
            Ok(progress) => {
                self.progress.insert(id.clone(), progress);
                if self.progress.len() > MOST_PROGRESS {
                    self.progress.pop_first();
                }
                if case.incident.is_open() {
                    self.open.insert(id.clone())
                } else {
                    self.open.remove(id)
                };
                // What was written is written.
                if let Err(error) = self.let_go(&place) {
                    warn!("old bundles take more room than they may: {error:#}");
                }
                Ok(place)
            }
            Err(error) => {
                // On a disk that is full its part would be missing to others.
                let _removed = remove(&fresh);
                Err(error)
            }
        }
    }

    /// Writes all files into `fresh`. `former` is where an earlier writing of them may be.
    fn fill(&self, fresh: &Path, former: &Path, case: &Case) -> Result<Progress> {
        make_folder(fresh, false)?;
        let folder = Folder { fresh, former };
        let before = self.progress.get(&case.incident.id).copied().unwrap_or_default();
        let incident = Incident { bundle: former.display().to_string(), ..case.incident.clone() };
        let json = serde_json::to_string_pretty(&incident).context("write an incident as JSON")?;
        folder.put(INCIDENT, &(json + "\n"))?;
        folder.put(LOSS, &course(&incident))?;
        for area in Area::ALL {
            folder.append_series(area, &case.recording, before.uptime_ms)?;
        }
        let frames = case.evidence.iter().flat_map(|evidence| &evidence.frames);
        let frames: Vec<&Event> = frames.filter(|event| belongs(&incident, event)).collect();
        let evidence = folder.append_evidence(&frames, before.evidence, &case.host)?;
        folder.put(HOST, &case.host.describe(&case.snapshot))?;

        let files = folder.files();
        let facts = Facts {
            host: &case.host.name,
            evidence: case.evidence.as_ref(),
            recording: Some(&case.recording),
            files: &files,
        };
        folder.put(REPORT_MD, &markdown::write(&incident, &facts))?;
        folder.put(REPORT_HTML, &html::write(&incident, &facts))?;
        sync(fresh)?;
        let uptime_ms = case.recording.steps().last().map_or(before.uptime_ms, |step| step.uptime_ms);
        Ok(Progress { uptime_ms, evidence })
    }

    /// Removes the oldest that are over while there are too many, or they are too large; never the one at `kept`.
    fn let_go(&self, kept: &Path) -> Result<()> {
        let bundles = self::bundles(&self.folder)?;
        let sizes: Vec<u64> = bundles.iter().map(|bundle| size(bundle)).collect();
        let (mut count, mut bytes) = (bundles.len(), sizes.iter().sum::<u64>());
        let mut outcome = Ok(());
        for (bundle, size) in
            bundles.iter().zip(sizes).filter(|(bundle, _)| *bundle != kept && !self.open.contains(id(bundle)))
        {
            if count <= self.keep.count && bytes <= self.keep.bytes {
                break;
            }
            match remove(bundle) {
                Ok(()) => (count, bytes) = (count - 1, bytes - size),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }
}

/// Folders of bundles, the oldest first.
///
/// # Errors
/// If the folder cannot be read.
pub fn bundles(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_bundle = |path: &PathBuf| is_name(id(path)) && path.is_dir();
    let mut bundles: Vec<PathBuf> = entries(folder)?.into_iter().filter(is_bundle).collect();
    bundles.sort();
    Ok(bundles)
}

/// The incident of a bundle.
///
/// # Errors
/// If it cannot be read, or is none that an agent of this version writes.
pub fn read(bundle: &Path) -> Result<Incident> {
    let path = bundle.join(INCIDENT);
    read_incident(&path, id(bundle)).with_context(|| format!("read {}", path.display()))
}

/// The report ([`REPORT_MD`] or [`REPORT_HTML`]) that was written of an incident when it was as far as it is now. `None` if there
/// is none, or it cannot be read.
#[must_use]
pub fn report(incident: &Incident, name: &str) -> Option<String> {
    let bundle = Path::new(&incident.bundle);
    read(bundle).ok().filter(|written| written.state == incident.state)?;
    String::from_utf8(read_file(&bundle.join(name), MOST_REPORT_BYTES).ok()?).ok()
}

/// The incident that a bundle is called by.
fn id(bundle: &Path) -> &str {
    bundle.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

/// A bundle that is being written, and where an earlier writing of it may be.
struct Folder<'f> {
    fresh: &'f Path,
    former: &'f Path,
}

impl Folder<'_> {
    fn put(&self, name: &str, text: &str) -> Result<()> {
        self.create(name, |file| file.write_all(text.as_bytes()))
    }

    fn create(&self, name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
        let path = self.fresh.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path);
        let written = file.and_then(|mut file| fill(&mut file).and_then(|()| file.sync_all()));
        written.with_context(|| format!("write {}", path.display()))
    }

    /// What an earlier writing has had, `None` if there was none.
    fn earlier(&self, name: &str) -> Result<Option<File>> {
        let path = self.former.join(name);
        match open_file(&path) {
            Err(error) if is_missing(&error) => Ok(None),
            outcome => outcome.map(Some).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Adds the steps after `written_ms` to the counters of an area.
    fn append_series(&self, area: Area, recording: &Recording, written_ms: u64) -> Result<()> {
        const HEADER: &[u8] = b"time,uptime_ms,duration_ms,interface,counter,increase\n";
        let name = format!("{}.csv", area.id());
        let earlier = self.earlier(&name)?;
        let steps = recording.steps().filter(|step| step.uptime_ms - step.duration_ms >= written_ms);
        self.create(&name, |file| {
            let mut bytes = match earlier {
                Some(mut earlier) => io::copy(&mut earlier, file)?,
                None => 0,
            };
            let mut rows = BufWriter::new(file);
            if bytes == 0 {
                rows.write_all(HEADER)?;
            }
            for step in steps {
                for (series, more) in step.changes().filter(|(series, _)| series.area == area) {
                    let (interface, counter) = (field(&series.interface), field(&series.name));
                    let (uptime_ms, duration_ms) = (step.uptime_ms, step.duration_ms);
                    let row = format!("{},{uptime_ms},{duration_ms},{interface},{counter},{more}\n", step.time);
                    bytes += row.len() as u64;
                    if bytes > MOST_SERIES_BYTES {
                        return rows.flush();
                    }
                    rows.write_all(row.as_bytes())?;
                }
            }
            rows.flush()
        })
    }

    /// Adds frames that are later than those that are written. Returns when the latest of all was.
    fn append_evidence(&self, frames: &[&Event], written: Option<Timestamp>, host: &Host) -> Result<Option<Timestamp>> {
        let time = |event: &Event| event.time.parse::<Timestamp>().ok();
        let mut fresh: Vec<_> = frames.iter().filter(|event| time(event) > written).collect();
        fresh.sort_by_cached_key(|event| time(event));
        let mut earlier = Vec::new();
        if let Some(mut file) = self.earlier(EVIDENCE)? {
            file.read_to_end(&mut earlier).context("read earlier evidence")?;
        }
        let mut latest = written;
        if !fresh.is_empty() {
            // What follows in a file is a section of its own: there each has its own interfaces.
            let kernel: String = host.kernel.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            let mut writer = Writer::begin(Vec::new(), kernel).context("begin a capture")?;
            let mut whole_bytes = 0;
            for event in fresh {
                // One that another build has made is no frame, and no reason to have no bundle.
                let Ok(frame) = Frame::of(event) else { continue };
                writer.write(&frame).context("write a frame")?;
                if earlier.len() + writer.get_ref().len() > MOST_EVIDENCE_BYTES {
                    break;
                }
                (whole_bytes, latest) = (writer.get_ref().len(), time(event));
            }
            earlier.extend(&writer.get_ref()[..whole_bytes]);
        }
        if !earlier.is_empty() {
            self.create(EVIDENCE, |file| file.write_all(&earlier))?;
        }
        Ok(latest)
    }

    fn files(&self) -> Vec<report::File> {
        let either = |name: &str, most_bytes: u64, [all, part]: [&'static str; 2]| {
            let bytes = fs::metadata(self.fresh.join(name)).map_or(0, |file| file.len());
            (name.to_owned(), if bytes + LARGEST_PIECE > most_bytes { part } else { all })
        };
        let what = [
            (INCIDENT.to_owned(), "the incident, for programs"),
            (LOSS.to_owned(), "share lost and malformed frames, over time"),
            either(EVIDENCE, MOST_EVIDENCE_BYTES as u64, FRAMES),
            (HOST.to_owned(), "the machine, its network devices, and what could be seen on them"),
        ];
        let series = Area::ALL.map(|area| either(&format!("{}.csv", area.id()), MOST_SERIES_BYTES, COUNTERS));
        let all = what.into_iter().chain(series).filter(|(name, _)| self.fresh.join(name).exists());
        all.map(|(name, what)| report::File { name, what }).collect()
    }
}

/// The course of an incident as rows.
fn course(incident: &Incident) -> String {
    let rows = incident.course.iter().map(|point| {
        // What is not known is empty, which no reader takes for 0.
        let ratio = point.ratio.map_or_else(String::new, |ratio| ratio.to_string());
        format!("{},{ratio},{}\n", point.seconds, point.malformed)
    });
    let header = "seconds_since_onset,lost_ratio,malformed_per_second\n".to_owned();
    [header].into_iter().chain(rows).collect()
}

/// A value of a row (RFC 4180), that no spreadsheet takes for a formula.
fn field(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{guard}{text}")
    }
}

fn make_folder(path: &Path, with_parents: bool) -> Result<()> {
    let made = DirBuilder::new().recursive(with_parents).mode(FOLDER_MODE).create(path);
    made.with_context(|| format!("make the folder {}", path.display()))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    entries.with_context(|| format!("read the folder {}", folder.display()))
}

/// Removes a folder with its files, if it is there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome.with_context(|| format!("remove {}", path.display())),
    }
}

/// Makes a rename in it last.
fn sync(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("write the folder {}", folder.display()))
}

/// Bytes of a bundle's files; one that is going away has none.
fn size(bundle: &Path) -> u64 {
    let files = fs::read_dir(bundle).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

#[cfg(test)]
pub(crate) mod tests;
