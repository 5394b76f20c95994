use std::{env, os::unix::fs::PermissionsExt as _, process, thread};

use super::*;
use crate::detect::incident::State;
use crate::record::{
    history::{DEFAULT_LENGTH, History, tests::snapshot},
    report::tests::{facts, incident},
    store::tests::small_disk,
};

/// A folder that goes with the test.
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
}

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("lossprobe-bundles-{}-{name}", process::id()));
        let _earlier = fs::remove_dir_all(&path);
        Self { path }
    }

    pub(crate) fn bundles(&self) -> Bundles {
        Bundles::open(self.path.clone(), Keep::default(), BTreeSet::new()).unwrap()
    }

    /// Everything in it, by name.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _file = fs::remove_file(&self.path);
        let _folder = fs::remove_dir_all(&self.path);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        entries(folder).unwrap().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

pub(crate) fn case(id: &str) -> Case {
    let (evidence, recording) = facts();
    Case {
        incident: Incident { id: id.to_owned(), ..incident() },
        recording,
        evidence: Some(evidence),
        host: Arc::new(Host { name: "node7".to_owned(), ..Host::default() }),
        snapshot: Arc::new(snapshot(59, 1)),
    }
}

#[test]
fn a_bundle_is_complete() {
    let scratch = Scratch::new("complete");
    let place = scratch.bundles().write(&case("20240118T104000Z-1")).unwrap();
    let expected = [
        "drops.csv",
        "evidence.pcapng",
        "host.txt",
        "incident.json",
        "loss.csv",
        "malformed.csv",
        "path.csv",
        "report.html",
        "report.md",
        "traffic.csv",
        "witnesses.csv",
    ];
    assert_eq!(names(&place), expected);
    let read_back = read(&place).unwrap();
    assert_eq!((read_back.id.as_str(), read_back.bundle), ("20240118T104000Z-1", place.display().to_string()));
    assert_eq!((read_back.states, read_back.course.len()), (incident().states, 241));
    let text = |name: &str| fs::read_to_string(place.join(name)).unwrap();
    assert_eq!(text("loss.csv").lines().count(), 1 + 241);
    let rows = text("path.csv");
    assert_eq!(rows.lines().next(), Some("time,uptime_ms,duration_ms,interface,counter,increase"));
    assert_eq!(rows.lines().nth(1), Some("2024-01-18T10:40:01Z,1000,1000,eth0,lost network_in,500"));
    assert_eq!(rows.lines().count(), 1 + 59);
    assert!(text("host.txt").contains("interface eth0"));
    assert!(text("report.md").contains("| evidence.pcapng |") && text("report.html").contains("<svg"));
    for path in [&place, &place.join("evidence.pcapng")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
}

/// What the recorder and the reservoir have forgotten since stays in the bundle, and nothing is there twice.
#[test]
fn a_bundle_goes_on() {
    let scratch = Scratch::new("on");
    let mut bundles = scratch.bundles();
    let mut history = History::new(DEFAULT_LENGTH);
    let mut begin = case("1");
    let mut frames = begin.evidence.take().unwrap().frames;
    frames.remove(0);
    let at = |second: u64| {
        let mut snapshot = snapshot(second, second * 100);
        snapshot.time = format!("2024-01-18T10:{:02}:{:02}Z", 41 + second / 60, second % 60);
        snapshot
    };
    for (until, latest) in [(30, 0), (50, 1), (70, 1)] {
        for second in until - 29..=until {
            history.add(&at(second));
        }
        let evidence = Evidence { frames: vec![frames[latest].clone()], ..Evidence::default() };
        let recording = history.recording();
        bundles.write(&Case { recording, evidence: Some(evidence), ..begin.clone() }).unwrap();
    }
    let place = bundles.place("1");
    let rows = fs::read_to_string(place.join("traffic.csv")).unwrap();
    let frames_in: Vec<&str> = rows.lines().filter(|row| row.contains("in frames")).collect();
    assert_eq!(frames_in.len(), 69, "each second once: {frames_in:?}");
    assert!(frames_in.windows(2).all(|pair| pair[0] < pair[1]), "in order");
    let capture = fs::read(place.join("evidence.pcapng")).unwrap();
    let sections = capture.windows(4).filter(|word| *word == [0x0a, 0x0d, 0x0d, 0x0a]).count();
    assert_eq!(sections, 2, "a section for each writing that had something new");
    assert_eq!(scratch.names(), ["1"]);

    // The agent begins anew: it knows nothing of what was written, and has nothing of it either.
    let mut bundles = scratch.bundles();
    let mut history = History::new(DEFAULT_LENGTH);
    for second in 1..=5 {
        history.add(&at(second));
    }
    bundles.write(&Case { recording: history.recording(), evidence: None, ..begin }).unwrap();
    let rows = fs::read_to_string(place.join("traffic.csv")).unwrap();
    assert_eq!(rows.lines().filter(|row| row.contains("in frames")).count(), 69 + 4);
    assert_eq!(fs::read(place.join("evidence.pcapng")).unwrap(), capture, "evidence is never taken back");
}

#[test]
fn without_malformed_frames_there_is_no_capture() {
    let scratch = Scratch::new("none");
    let case = Case { evidence: Some(Evidence::default()), ..case("1") };
    let place = scratch.bundles().write(&case).unwrap();
    assert!(!place.join("evidence.pcapng").exists());
    let report = fs::read_to_string(place.join("report.md")).unwrap();
    assert!(!report.contains("| evidence.pcapng |") && report.contains("None were kept"));
}

#[test]
fn evidence_is_bounded() {
    let scratch = Scratch::new("bounded");
    let mut bundles = scratch.bundles();
    let mut case = case("1");
    let frame = case.evidence.as_ref().unwrap().frames[1].clone();
    let begin: Timestamp = "2024-01-18T10:41:00Z".parse().unwrap();
    for round in 0..3 {
        let frames = (0..1_000).map(|number| Event {
            time: (begin + jiff::SignedDuration::from_secs(round * 1_000 + number)).to_string(),
            bytes: "00".repeat(2_048),
            ..frame.clone()
        });
        case.evidence = Some(Evidence { frames: frames.collect(), ..Evidence::default() });
        bundles.write(&case).unwrap();
        let report = fs::read_to_string(bundles.place("1").join(REPORT_MD)).unwrap();
        assert_eq!(report.contains("it is full"), round > 0, "a reader is told that frames are missing");
        let bytes = fs::metadata(bundles.place("1").join("evidence.pcapng")).unwrap().len() as usize;
        assert!(bytes <= MOST_EVIDENCE_BYTES && bytes > [1_900_000, 3_900_000, 4_100_000][round as usize], "{bytes}");
    }
}

#[test]
fn the_oldest_go() {
    let scratch = Scratch::new("keep");
    let mut bundles = Bundles { keep: Keep { count: 3, bytes: u64::MAX }, ..scratch.bundles() };
    for id in ["20240101", "20240102", "20240103", "20240104", "20230101"] {
        bundles.write(&case(id)).unwrap();
        assert!(bundles.place(id).exists(), "what was just written stays");
    }
    assert_eq!(scratch.names(), ["20230101", "20240103", "20240104"]);
    let bytes = size(&bundles.place("20240104")) * 3 / 2;
    let mut bundles = Bundles { keep: Keep { count: 9, bytes }, ..scratch.bundles() };
    bundles.write(&case("20240105")).unwrap();
    assert_eq!(scratch.names(), ["20240105"]);
}

#[test]
fn what_is_open_stays() {
    let scratch = Scratch::new("open");
    let open = |id: &str| {
        let case = case(id);
        Case { incident: Incident { state: State::Easing, closed: None, ..case.incident.clone() }, ..case }
    };
    scratch.bundles().write(&open("20240101")).unwrap();
    let keep = Keep { count: 2, bytes: u64::MAX };
    let mut bundles = Bundles::open(scratch.path.clone(), keep, ["20240101".to_owned()].into()).unwrap();
    for case in [open("20240102"), case("20240103"), case("20240104")] {
        bundles.write(&case).unwrap();
    }
    assert_eq!(scratch.names(), ["20240101", "20240102", "20240104"]);
    bundles.write(&case("20240102")).unwrap();
    bundles.write(&case("20240105")).unwrap();
    assert_eq!(scratch.names(), ["20240101", "20240105"], "it is over, and goes as all others do");
}

#[test]
fn what_cannot_go_keeps_nothing_from_being_written() {
    thread::spawn(|| {
        let scratch = Scratch::new("stuck");
        // What is mounted there cannot be removed.
        small_disk(&scratch.path.join("20240101"), 4096);
        let mut bundles = Bundles { keep: Keep { count: 1, bytes: u64::MAX }, ..scratch.bundles() };
        for id in ["20240102", "20240103"] {
            bundles.write(&case(id)).unwrap();
        }
        assert_eq!(scratch.names(), ["20240101", "20240103"], "nor the others from going");
        nix::mount::umount(&scratch.path.join("20240101")).unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn what_no_agent_has_written_is_not_read() {
    let scratch = Scratch::new("foreign");
    let place = scratch.bundles().write(&case("20240101")).unwrap();
    let (file, whole) = (place.join(INCIDENT), fs::read(place.join(INCIDENT)).unwrap());
    let says = |expected: &str| {
        let said = format!("{:#}", read(&place).unwrap_err());
        assert!(said.starts_with(&format!("read {}: ", file.display())) && said.contains(expected), "{said}");
    };
    fs::write(&file, [&whole[..], &vec![b' '; 1 << 20]].concat()).unwrap();
    says("more than 1048576 bytes");
    fs::write(&file, String::from_utf8(whole).unwrap().replace("\"schema\": 1", "\"schema\": 9")).unwrap();
    says("its schema is 9");
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    says("it is no file");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    says("open it");
}

/// Whatever happens in between, there is one bundle, and it is whole.
#[test]
fn what_was_interrupted_is_put_in_order() {
    let scratch = Scratch::new("order");
    let place = scratch.bundles().write(&case("1")).unwrap();
    fs::rename(&place, scratch.path.join(".1.old")).unwrap();
    fs::create_dir(scratch.path.join(".1.new")).unwrap();
    fs::create_dir(scratch.path.join(".2.new")).unwrap();
    let mut bundles = scratch.bundles();
    assert_eq!(scratch.names(), ["1"]);
    assert!(read(&place).is_ok());
    fs::create_dir(scratch.path.join(".1.old")).unwrap();
    bundles.write(&case("1")).unwrap();
    assert_eq!(scratch.names(), ["1"]);
}

#[test]
fn what_cannot_be_written_leaves_what_was_there() {
    let scratch = Scratch::new("fail");
    let mut bundles = scratch.bundles();
    let place = bundles.write(&case("1")).unwrap();
    let before = fs::read(place.join("report.md")).unwrap();
    // A folder where a file of the earlier writing should be read.
    fs::remove_file(place.join("path.csv")).unwrap();
    fs::create_dir(place.join("path.csv")).unwrap();
    let error = bundles.write(&case("1")).unwrap_err();
    assert!(format!("{error:#}").contains("path.csv"), "{error:#}");
    assert_eq!(fs::read(place.join("report.md")).unwrap(), before);
    assert_eq!(scratch.names(), ["1"]);
}

#[test]
fn names_lead_nowhere_else() {
    let scratch = Scratch::new("names");
    let long = "x".repeat(65);
    for id in ["", ".", "..", "../x", "/x", ".hidden", "a/b", "a\0b", "a b", &long] {
        assert!(scratch.bundles().write(&case(id)).is_err(), "{id:?}");
    }
    assert!(scratch.names().is_empty());
}

#[test]
fn rows_are_what_spreadsheets_expect() {
    for (text, expected) in
        [("eth0", "eth0"), ("a,b", "\"a,b\""), ("a\"b", "\"a\"\"b\""), ("=x()", "'=x()"), ("-1,2", "\"'-1,2\"")]
    {
        assert_eq!(field(text), expected);
    }
}
