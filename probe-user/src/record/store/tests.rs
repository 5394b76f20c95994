use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    time::{Duration, Instant, SystemTime},
};

use super::*;
use crate::detect::{
    alarm::Alarms,
    incident::{MOST_CHANGES, SCHEMA, State, VerdictChange},
};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lossprobe-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn incident(id: &str, state: State) -> Incident {
    let time = "2024-01-18T10:40:00.000Z".to_owned();
    let closed = (state == State::Closed).then(|| time.clone());
    let [onset, detected, last_seen] = [0, 1, 2].map(|_| time.clone());
    Incident { schema: SCHEMA, id: id.to_owned(), state, onset, detected, last_seen, closed, ..Incident::default() }
}

#[test]
fn what_is_kept_is_there_again() {
    let folder = Folder::new("again");
    let mut store = Store::open(&folder.0).unwrap();
    assert_eq!(store.load().unwrap(), Kept::default());
    let mut month = Month::default();
    month.add("2024-01-18T10:40:00Z".parse().unwrap(), 60_000);
    let mut open = incident("20240118T104000Z", State::Active);
    let closed = incident("20240117T104000Z", State::Closed);
    store.keep(&open).unwrap();
    store.keep(&closed).unwrap();
    open.bundle = "later".to_owned();
    store.keep(&open).unwrap();
    store.keep_month(&month).unwrap();
    let said = Store::open(&folder.0).unwrap_err().to_string();
    assert!(said.contains("is another agent's"), "{said}");
    assert_eq!(read_one(&folder.0, &open.id).unwrap(), open, "whoever else reads");
    assert!(read_one(&folder.0, "../lock").is_err() && read_one(&folder.0, "20240119T104000Z").is_err());
    drop(store);
    let mut store = Store::open(&folder.0).unwrap();
    let ids = [closed.id.clone(), open.id.clone()].into();
    assert_eq!(store.load().unwrap(), Kept { incidents: vec![closed, open], ids, month, learned: None });
    assert_eq!(folder.names(JOURNAL), ["20240117T104000Z.json", "20240118T104000Z.json"], "nothing half written");
    let mode = |path: &str| fs::metadata(folder.0.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("journal"), mode("journal/20240117T104000Z.json")), (0o700, 0o600), "nobody else's to read");
}

#[test]
fn what_was_learned_is_known_for_an_hour() {
    let folder = Folder::new("learned");
    let mut store = Store::open(&folder.0).unwrap();
    let learned = Alarms::default().learned();
    store.keep_learned(&learned).unwrap();
    assert_eq!(store.load().unwrap().learned, Some(learned));
    let file = OpenOptions::new().write(true).open(folder.0.join(LEARNED)).unwrap();
    file.set_modified(SystemTime::now() - LEARNED_LASTS - Duration::from_secs(1)).unwrap();
    assert_eq!(store.load().unwrap().learned, None, "too old");
    fs::write(folder.0.join(LEARNED), "{}").unwrap();
    assert_eq!(store.load().unwrap().learned, None, "broken");
    assert_eq!(folder.names(BROKEN), [LEARNED]);
}

#[test]
fn what_is_broken_is_set_aside_and_loses_nothing_else() {
    let folder = Folder::new("broken");
    let mut store = Store::open(&folder.0).unwrap();
    let good = incident("20240118T104000Z", State::Closed);
    store.keep(&good).unwrap();
    let incidents = folder.0.join(JOURNAL);
    let whole = serde_json::to_string(&good).unwrap();
    for (name, text) in [
        ("a1.json", ""),
        ("a2.json", "{"),
        ("a3.json", "null"),
        ("a4.json", &whole[..whole.len() / 2]),
        // A copy under another name, and one of a later version.
        ("a5.json", &whole),
        ("a6.json", &whole.replace("\"schema\":1", "\"schema\":9")),
        ("a7.json", &whole.replace("10:40:00.000Z", "noon")),
        ("a_8.json", &whole),
        ("a9.json", &" ".repeat(MOST_FILE_BYTES as usize + 1)),
        ("half.json.tmp", "{"),
        ("README", "somebody's own"),
    ] {
        fs::write(incidents.join(name), text).unwrap();
    }
    symlink("/etc/passwd", incidents.join("link.json")).unwrap();
    nix::unistd::mkfifo(&incidents.join("pipe.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(incidents.join("folder.json")).unwrap();
    fs::write(folder.0.join(MONTH), "{\"days\":[[2,1],[1,1]]}").unwrap();
    drop(store);
    let mut store = Store::open(&folder.0).unwrap();
    let kept = store.load().unwrap();
    assert_eq!((kept.incidents, kept.month), (vec![good.clone()], Month::default()));
    assert_eq!(folder.names(JOURNAL), ["20240118T104000Z.json", "README"]);
    assert_eq!(folder.names(BROKEN).len(), 13);
    assert!(fs::metadata("/etc/passwd").is_ok());
    // One of the same name as one that is aside already.
    fs::write(incidents.join("a1.json"), "another").unwrap();
    assert_eq!(store.load().unwrap().incidents.len(), 1);
    assert_eq!(fs::read_to_string(folder.0.join(BROKEN).join("a1.json.1")).unwrap(), "another");
    assert_eq!(fs::read_to_string(folder.0.join(BROKEN).join("a1.json")).unwrap(), "", "it stays");
    // Of many the oldest go.
    for number in 0..2 * MOST_BROKEN {
        fs::write(incidents.join(format!("b{number}.json")), "{").unwrap();
    }
    assert_eq!(store.load().unwrap().incidents, [good]);
    assert!(folder.names(BROKEN).len() <= MOST_BROKEN + 1, "what is no file stays");
}

/// Whoever may write to the folder makes the agent neither wait nor write elsewhere.
#[test]
fn a_lock_that_is_no_file_is_refused() {
    let folder = Folder::new("lock");
    drop(Store::open(&folder.0).unwrap());
    let (lock, elsewhere) = (folder.0.join("lock"), folder.0.join("elsewhere"));
    fs::remove_file(&lock).unwrap();
    symlink(&elsewhere, &lock).unwrap();
    assert!(Store::open(&folder.0).is_err() && !elsewhere.exists());
    fs::remove_file(&lock).unwrap();
    nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let said = format!("{:#}", Store::open(&folder.0).unwrap_err());
    assert!(said.contains("lock"), "{said}");
    // Somebody reads the other end.
    let _reader = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&lock).unwrap();
    let said = format!("{:#}", Store::open(&folder.0).unwrap_err());
    assert!(said.contains("is no file"), "{said}");
}

#[test]
fn is_bounded_by_count_and_bytes() {
    let folder = Folder::new("bounds");
    let mut store = Store::open(&folder.0).unwrap();
    let id = |number: usize| format!("2024{number:04}");
    store.keep(&incident(&id(0), State::Active)).unwrap();
    store.most = (10, MOST_BYTES);
    for number in 1..40 {
        store.keep(&incident(&id(number), State::Closed)).unwrap();
        assert!(folder.names(JOURNAL).len() <= 10);
    }
    let expected: Vec<_> = [0].into_iter().chain(31..40).map(|number| format!("{}{SUFFIX}", id(number))).collect();
    assert_eq!(folder.names(JOURNAL), expected, "the latest, and the one that is open");
    // It is over, and goes as all others do.
    store.keep(&incident(&id(0), State::Closed)).unwrap();
    let bytes = || -> u64 {
        let names = folder.names(JOURNAL);
        names.iter().map(|name| fs::metadata(folder.0.join(JOURNAL).join(name)).unwrap().size()).sum()
    };
    store.most = (10, bytes() / 2);
    store.keep(&incident(&id(40), State::Closed)).unwrap();
    assert!(bytes() <= store.most.1, "{} of {}", bytes(), store.most.1);
    assert!(read_one(&folder.0, &id(40)).is_ok() && read_one(&folder.0, &id(0)).is_err());
    // One that is larger than any may be.
    let said = VerdictChange { sentence: "x".repeat(10_000), ..VerdictChange::default() };
    let large = Incident { verdicts: vec![said; MOST_CHANGES], ..incident(&id(41), State::Closed) };
    assert!(store.keep(&large).unwrap_err().to_string().contains("may be kept"));
    assert!(store.keep(&incident("../x", State::Closed)).is_err());
}

#[test]
fn only_so_many_are_shown_again() {
    let folder = Folder::new("shown");
    let mut store = Store::open(&folder.0).unwrap();
    for number in 0..MOST_FINISHED + 8 {
        store.keep(&incident(&format!("2024{number:04}"), State::Closed)).unwrap();
    }
    store.keep(&incident("20230000", State::Easing)).unwrap();
    let kept = store.load().unwrap();
    assert_eq!((kept.incidents.len(), kept.ids.len()), (MOST_FINISHED + 1, MOST_FINISHED + 9));
    assert_eq!(kept.incidents[0].id, "20230000", "one that is open, however old");
    assert_eq!(kept.incidents[1].id, "20240008", "the latest");
}

/// A file system of so many bytes, in a mount namespace of this thread's own.
pub(in crate::record) fn small_disk(path: &Path, bytes: u64) {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };
    fs::create_dir_all(path).unwrap();
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).expect("run the tests as root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    mount(Some("none"), path, Some("tmpfs"), MsFlags::empty(), Some(format!("size={bytes}").as_str())).unwrap();
}

#[test]
fn a_full_disk_keeps_what_was_there() {
    std::thread::spawn(full_disk).join().unwrap();
}

fn full_disk() {
    let folder = Folder::new("full");
    small_disk(&folder.0, 256 << 10);
    let mut store = Store::open(&folder.0).unwrap();
    let first = incident("20240001", State::Active);
    store.keep(&first).unwrap();
    let filler = folder.0.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let later = Incident { bundle: "x".repeat(20_000), ..first.clone() };
    let said = format!("{:#}", store.keep(&later).unwrap_err());
    assert!(said.contains("20240001.json") && said.contains("No space left"), "{said}");
    assert_eq!(read_one(&folder.0, &first.id).unwrap(), first, "what was known stays");
    assert_eq!(folder.names(JOURNAL), ["20240001.json"], "nothing half written takes the room");
    drop(file);
    fs::remove_file(filler).unwrap();
    store.keep(&later).unwrap();
    assert_eq!(read_one(&folder.0, &first.id).unwrap(), later);
    drop(store);
    nix::mount::umount(&folder.0).unwrap();
}

#[test]
fn the_keeper_writes_the_latest_and_tries_again() {
    let folder = Folder::new("keeper");
    let keeper = Keeper::start(Store::open(&folder.0).unwrap()).unwrap();
    for number in 0..100 {
        keeper.keep(&Incident { bundle: number.to_string(), ..incident("20240001", State::Active) });
    }
    let mut month = Month::default();
    month.add("2024-01-18T10:40:00Z".parse().unwrap(), 60_000);
    keeper.keep_month(&month);
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_there = || read_one(&folder.0, "20240001").is_ok_and(|incident| incident.bundle == "99");
    while !is_there() {
        assert!(Instant::now() < deadline, "not written");
        std::thread::yield_now();
    }
    // A folder that is gone is a fault that is told and not one that ends anything.
    fs::remove_dir_all(folder.0.join(JOURNAL)).unwrap();
    keeper.keep(&incident("20240002", State::Active));
    while keeper.failed() == 0 {
        assert!(Instant::now() < deadline, "no fault");
        std::thread::yield_now();
    }
    drop(keeper);
    let mut store = Store::open(&folder.0).unwrap();
    let kept = store.load().unwrap();
    assert_eq!((kept.incidents.len(), kept.month), (0, month), "what was written last");
    // An agent that ends writes what waits.
    let keeper = Keeper::start(store).unwrap();
    keeper.keep(&incident("20240003", State::Active));
    drop(keeper);
    assert!(read_one(&folder.0, "20240003").is_ok());
}
