//! Incidents on disk, so that a restart of the agent goes on with them.
//!
//! ```text
//! DIR/journal/ID.json     one incident each, whole
//! DIR/month.json          what of the objective is used
//! DIR/learned.json        what is usual here
//! DIR/broken/NAME         what could not be read, set aside
//! DIR/lock                held by the agent that writes here
//! ```
//!
//! A file is written beside its place, synchronised and renamed into it: whoever reads finds the old one or the new one.

mod keeper;
#[cfg(test)]
pub(super) mod tests;

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;
use tracing::warn;

pub use self::keeper::Keeper;
use crate::detect::{
    alarm::Learned,
    incident::{Incident, Kept, MOST_FINISHED},
    objective::Month,
};

/// Incidents that are kept; of more the oldest that are over go.
pub const MOST_INCIDENTS: usize = 256;
/// Bytes of all of them.
pub const MOST_BYTES: u64 = 16 << 20;
/// Bytes of one file: what is larger was not written here.
const MOST_FILE_BYTES: u64 = 1 << 20;
/// Files that are set aside: as many as there can be incidents, all of which another version may have written. Of more the
/// oldest go, which is said.
const MOST_BROKEN: usize = MOST_INCIDENTS;
/// Letters of an incident's name.
const MOST_NAME: usize = 64;

/// Where the incidents themselves are.
pub const JOURNAL: &str = "journal";
const BROKEN: &str = "broken";
const MONTH: &str = "month.json";
const LEARNED: &str = "learned.json";
/// What was learned so long ago is not usual any more: a running agent, too, forgets a unit that is away for as long.
const LEARNED_LASTS: Duration = Duration::from_hours(1);
const SUFFIX: &str = ".json";

/// A state folder that this process writes to.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Incidents that are open do not go.
    open: BTreeSet<String>,
    /// Bounds, for tests to be smaller.
    most: (usize, u64),
    /// Held as long as it is open.
    _lock: File,
}

impl Store {
    /// Opens a folder for writing, and makes it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made or written to, or another agent has it.
    pub fn open(folder: &Path) -> Result<Self> {
        for needed in [folder, &folder.join(JOURNAL), &folder.join(BROKEN)] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(needed);
            made.with_context(|| format!("make the state folder {}", needed.display()))?;
        }
        let path = folder.join("lock");
        // Neither a link to elsewhere nor a pipe, which would be waited for.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        let lock =
            options.open(&path).with_context(|| format!("open {}; may this user write there?", path.display()))?;
        ensure!(lock.metadata().is_ok_and(|found| found.is_file()), "{} is no file; remove it", path.display());
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("the state folder {} is another agent's; give each its own", folder.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("lock {}", path.display())),
        }
        let most = (MOST_INCIDENTS, MOST_BYTES);
        let store = Self { folder: folder.to_owned(), open: BTreeSet::new(), most, _lock: lock };
        // What was being written when an agent was killed.
        for path in [folder.to_owned(), folder.join(JOURNAL)] {
            for (name, _) in files(&path, ".tmp")? {
                let _ = fs::remove_file(path.join(name));
            }
        }
        Ok(store)
    }

    /// What earlier agents have left. What cannot be read is set aside, with a warning, and keeps nobody from the rest.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn load(&mut self) -> Result<Kept> {
        let Loaded { incidents, ids, month, mut faults } = read(&self.folder)?;
        let learned = self.read_learned().unwrap_or_else(|error| {
            faults.push((self.folder.join(LEARNED), error));
            None
        });
        for (path, error) in faults {
            match self.set_aside(&path) {
                Ok(()) => warn!("{} is set aside in {BROKEN}/: {error:#}", path.display()),
                Err(kept) => warn!("{} is not read: {error:#}; nor can it be set aside: {kept:#}", path.display()),
            }
        }
        self.open =
            incidents.iter().filter(|incident| incident.is_open()).map(|incident| incident.id.clone()).collect();
        Ok(Kept { incidents, ids, month, learned })
    }

    /// Writes an incident down as it is now, in place of what was known of it.
    ///
    /// # Errors
    /// If that is not possible; then what was known of it stays.
    pub fn keep(&mut self, incident: &Incident) -> Result<()> {
        ensure!(is_name(&incident.id), "`{}` is no name for a file", incident.id.escape_debug());
        let text = serde_json::to_vec(incident).context("write an incident as JSON")?;
        let bytes = text.len() as u64;
        ensure!(
            bytes <= MOST_FILE_BYTES,
            "incident {} has {bytes} bytes, and {MOST_FILE_BYTES} may be kept",
            incident.id
        );
        if incident.is_open() {
            self.open.insert(incident.id.clone());
        }
        let name = format!("{}{SUFFIX}", incident.id);
        self.make_room(&name, bytes)?;
        self.write(&self.folder.join(JOURNAL), &name, &text)?;
        if !incident.is_open() {
            self.open.remove(&incident.id);
        }
        Ok(())
    }

    /// Writes down what of the objective is used.
    ///
    /// # Errors
    /// If that is not possible; then what was written before stays.
    pub fn keep_month(&mut self, month: &Month) -> Result<()> {
        let text = serde_json::to_vec(month).context("write minutes as JSON")?;
        self.write(&self.folder, MONTH, &text)
    }

    /// Writes down what is usual.
    ///
    /// # Errors
    /// If that is not possible; then what was written before stays.
    pub fn keep_learned(&mut self, learned: &Learned) -> Result<()> {
        let text = serde_json::to_vec(learned).context("write what is usual as JSON")?;
        self.write(&self.folder, LEARNED, &text)
    }

    fn read_learned(&self) -> Result<Option<Learned>> {
        let path = self.folder.join(LEARNED);
        let Ok(written) = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified()) else {
            return Ok(None);
        };
        // A clock that was set back makes it new.
        if written.elapsed().is_ok_and(|age| age > LEARNED_LASTS) {
            return Ok(None);
        }
        let learned: Learned = read_json(&path)?;
        ensure!(learned.is_sound(), "no agent of this version learns such figures");
        Ok(Some(learned))
    }

    /// Removes the oldest incidents that are over until this file can come.
    fn make_room(&self, name: &str, bytes: u64) -> Result<()> {
        let folder = self.folder.join(JOURNAL);
        let mut kept = files(&folder, SUFFIX)?;
        kept.retain(|(kept, _)| kept != name);
        let mut sum: u64 = kept.iter().map(|(_, bytes)| bytes).sum();
        let mut count = kept.len();
        let over = kept.iter().filter(|(name, _)| !self.open.contains(name.trim_end_matches(SUFFIX)));
        for (name, its_bytes) in over {
            if count < self.most.0 && sum + bytes <= self.most.1 {
                break;
            }
            let path = folder.join(name);
            fs::remove_file(&path).with_context(|| format!("remove {} to make room", path.display()))?;
            (count, sum) = (count - 1, sum - its_bytes);
        }
        Ok(())
    }

    fn write(&self, folder: &Path, name: &str, text: &[u8]) -> Result<()> {
        let (place, beside) = (folder.join(name), folder.join(format!("{name}.tmp")));
        let write = || {
            let _ = fs::remove_file(&beside);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(&beside, &place)?;
            File::open(folder)?.sync_all()
        };
        write().with_context(|| format!("write {}", place.display())).inspect_err(|_| {
            // What is half written takes room where there is none.
            let _ = fs::remove_file(&beside);
        })
    }

    fn set_aside(&self, path: &Path) -> Result<()> {
        let folder = self.folder.join(BROKEN);
        let name = path.file_name().and_then(|name| name.to_str()).context("it has no name")?;
        // An earlier one of this name stays.
        let places = [name.to_owned()].into_iter().chain((1..=MOST_BROKEN).map(|number| format!("{name}.{number}")));
        let place = places.map(|name| folder.join(name)).find(|place| place.symlink_metadata().is_err());
        fs::rename(path, place.context("too many of this name are there")?).context("rename it")?;
        let mut aside: Vec<_> = fs::read_dir(&folder)?.filter_map(Result::ok).collect();
        aside.sort_by_key(|entry| entry.metadata().and_then(|metadata| metadata.modified()).ok());
        let too_many = aside.len().saturating_sub(MOST_BROKEN);
        for entry in aside.iter().take(too_many) {
            // A folder that somebody has called so stays: it was not written here.
            if fs::remove_file(entry.path()).is_ok() {
                warn!("{} is removed: more than {MOST_BROKEN} files are set aside", entry.path().display());
            }
        }
        Ok(())
    }
}

/// What is in a state folder.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The latest incidents, the oldest first, and all that are open.
    pub incidents: Vec<Incident>,
    /// Names of all, also of those that are not read.
    pub ids: BTreeSet<String>,
    /// What of the objective is used.
    pub month: Month,
    /// What could not be read, and why.
    pub faults: Vec<(PathBuf, anyhow::Error)>,
}

/// Reads a state folder, whoever writes to it.
///
/// # Errors
/// If it cannot be listed.
pub fn read(folder: &Path) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    let incidents = folder.join(JOURNAL);
    let mut finished = 0;
    for (name, _) in files(&incidents, SUFFIX)?.into_iter().rev() {
        let id = name.trim_end_matches(SUFFIX);
        loaded.ids.insert(id.to_owned());
        match read_incident(&incidents.join(&name), id) {
            Ok(incident) if incident.is_open() || finished < MOST_FINISHED => {
                finished += usize::from(!incident.is_open());
                loaded.incidents.push(incident);
            }
            Ok(_) => {}
            Err(error) => loaded.faults.push((incidents.join(&name), error)),
        }
    }
    loaded.incidents.reverse();
    let month = folder.join(MONTH);
    match read_json::<Month>(&month) {
        Ok(read) if read.is_sound() => loaded.month = read,
        Ok(_) => loaded.faults.push((month, anyhow::anyhow!("its days are in no order, or too long"))),
        Err(error) if is_missing(&error) => {}
        Err(error) => loaded.faults.push((month, error)),
    }
    Ok(loaded)
}

/// Reads one incident of a state folder.
///
/// # Errors
/// If there is none of this name, or its file is broken.
pub fn read_one(folder: &Path, id: &str) -> Result<Incident> {
    ensure!(is_name(id), "`{}` is no incident's name", id.escape_debug());
    read_incident(&folder.join(JOURNAL).join(format!("{id}{SUFFIX}")), id)
}

/// Reads the incident of this name from a file.
pub(super) fn read_incident(path: &Path, id: &str) -> Result<Incident> {
    ensure!(is_name(id), "`{}` is no incident's name", id.escape_debug());
    let incident: Incident = read_json(path)?;
    incident.check().map_err(anyhow::Error::msg)?;
    ensure!(incident.id == id, "it is of incident `{}`", incident.id.escape_debug());
    Ok(incident)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&read_file(path, MOST_FILE_BYTES)?).context("it is broken")
}

/// What is in a file that an agent has written, if it is not larger than that.
pub(super) fn read_file(path: &Path, most_bytes: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?.take(most_bytes + 1).read_to_end(&mut bytes).context("read it")?;
    ensure!(bytes.len() as u64 <= most_bytes, "it has more than {most_bytes} bytes");
    Ok(bytes)
}

/// Opens such a file: neither a link to elsewhere nor a pipe that nobody writes to.
pub(super) fn open_file(path: &Path) -> Result<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).context("open it")?;
    ensure!(file.metadata().context("look at it")?.is_file(), "it is no file");
    Ok(file)
}

pub(super) fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Whether an incident can be called so, and its files: it hides nothing and leads nowhere else.
pub(super) fn is_name(id: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=MOST_NAME).contains(&id.len()) && id.chars().all(is_plain)
}

/// Names that end so, sorted, with what they take of the disk.
fn files(folder: &Path, suffix: &str) -> Result<Vec<(String, u64)>> {
    let listed = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let named = listed.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok().filter(|name| name.ends_with(suffix))?;
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        Some((name, bytes))
    });
    let mut named: Vec<_> = named.collect();
    named.sort();
    Ok(named)
}
