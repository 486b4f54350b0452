//! What is stored is found again, processes do not overwrite each other, and nothing else is believed.

use super::*;
use crate::testing::{forked, key, verified};

const SERVER: &str = "http://127.0.0.1:7070";

/// A process: what it remembers, and what it last read or wrote.
struct Process {
    state: StateFile,
    memory: Mutex<Memory>,
    base: Snapshot,
}

impl Process {
    fn start(directory: &Path) -> Self {
        let state = StateFile::new(directory, SERVER, "audit");
        let found = state.load(Some(key(1).verifier())).expect("readable");
        let base = found.map(|found| found.snapshot).unwrap_or_default();
        Self { state, memory: Mutex::new(Memory::new(base.clone())), base }
    }

    /// Verifies a head of `size` that extends the latest, gives out receipts, and remembers.
    fn append(&mut self, size: u64) -> Result<Option<VerifiedHead>, ClientError> {
        let known = self.memory.lock().latest().cloned();
        self.memory.lock().advance(known.as_ref(), &verified(size), true)?;
        self.sync(KeySource::Named)
    }

    fn sync(&mut self, source: KeySource) -> Result<Option<VerifiedHead>, ClientError> {
        self.state.sync(key(1).verifier(), source, &self.memory, &mut self.base)
    }

    fn sizes(&self) -> (Option<u64>, Vec<u64>) {
        let found = self.state.load(None).expect("readable").expect("stored").snapshot;
        let mut unsettled: Vec<_> = found.unsettled.iter().map(|head| head.head.size.0).collect();
        unsettled.sort_unstable();
        (found.latest.map(|head| head.head.size.0), unsettled)
    }
}

#[test]
fn heads_and_their_key_are_found_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let nested = directory.path().join("made/when/needed");
    let mut process = Process::start(&nested);
    for size in [3, 7] {
        process.append(size).expect("a writable directory");
    }
    let found = process.state.load(None).expect("readable").expect("stored");
    assert_eq!(&found.key, key(1).verifier());
    assert_eq!(found.snapshot.latest.expect("stored").note, verified(7).note);
    assert_eq!(process.sizes(), (Some(7), vec![7]));
    let left: Vec<_> = fs::read_dir(&nested).expect("made").map(|file| file.expect("readable").file_name()).collect();
    assert_eq!(left.len(), 2, "state and lock, no temporary file: {left:?}");
}

#[test]
fn processes_that_share_a_directory_lose_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut one = Process::start(directory.path());
    one.append(3).expect("written");
    let mut other = Process::start(directory.path());
    one.append(9).expect("written");
    let unrelated = other.append(6).expect("merged").expect("nothing relates 6 and 9 yet");
    assert_eq!(unrelated.head.size.0, 6);
    assert_eq!(one.sizes(), (Some(9), vec![6, 9]), "the larger one won, the smaller is to be shown extended");

    // One settles 6; the other does not bring it back.
    one.sync(KeySource::Named).expect("merged");
    one.memory.lock().extended(&verified(6), &verified(9));
    one.append(10).expect("written");
    other.sync(KeySource::Named).expect("merged");
    assert_eq!(other.sizes(), (Some(10), vec![10]));
}

#[test]
fn two_processes_that_saw_two_trees_have_caught_the_log() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut one, mut other) = (Process::start(directory.path()), Process::start(directory.path()));
    one.append(5).expect("written");
    other.memory.lock().advance(None, &forked(5), true).expect("the only head that it knows");
    assert!(other.sync(KeySource::Named).is_err_and(|error| error.is_tampering()));
    assert_eq!(one.sizes(), (Some(5), vec![5]));
}

#[test]
fn another_key_has_a_memory_of_its_own_and_a_pin_is_not_replaced() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut one = Process::start(directory.path());
    one.append(5).expect("written");
    let (other, second) = (Mutex::new(Memory::default()), key(2));
    let sync = |source| one.state.sync(second.verifier(), source, &other, &mut Snapshot::default());
    assert!(sync(KeySource::PinnedNow).is_err_and(|error| error.is_tampering()));
    sync(KeySource::Remembered).expect("written");
    assert_eq!(&one.state.load(None).expect("readable").expect("stored").key, key(1).verifier());
    sync(KeySource::Named).expect("written");
    assert_eq!(&one.state.load(None).expect("readable").expect("stored").key, second.verifier());
    let first = one.state.load(Some(key(1).verifier())).expect("readable").expect("stored");
    assert_eq!(first.snapshot.latest.expect("still there").head, verified(5).head);
}

#[test]
fn servers_and_logs_are_remembered_apart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    Process::start(directory.path()).append(3).expect("written");
    for (server, log) in [("http://127.0.0.1:7071", "audit"), (SERVER, "other")] {
        assert!(StateFile::new(directory.path(), server, log).load(None).expect("nothing there").is_none());
    }
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_first_contact() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut process = Process::start(directory.path());
    process.append(3).expect("written");
    let path = process.state.path.clone();
    let honest = fs::read_to_string(&path).expect("readable");
    let too_long = " ".repeat(usize::try_from(STATE_BYTES_MAX).expect("small")) + &honest;
    let damaged = [
        String::new(),
        honest[..honest.len() / 2].to_owned(),
        honest.replace("\\n3\\n", "\\n4\\n"),
        honest.replace("7070", "7071"),
        honest.replace("\"version\": 1", "\"version\": 2"),
        honest.replace("\"vkey\"", "\"vkeys\""),
        too_long,
    ];
    for contents in damaged {
        assert_ne!(contents, honest);
        fs::write(&path, &contents).expect("writable");
        let error = process.state.load(None).expect_err("damaged");
        assert!(error.to_string().contains("move the file away"), "{error}");
        let error = process.append(9).expect_err("damaged");
        assert!(matches!(error, ClientError::State { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("readable"), contents, "it is left for a person to look at");
    }
    let of_another_key = honest.replace(&key(1).verifier().to_string(), &key(2).verifier().to_string());
    fs::write(&path, of_another_key).expect("writable");
    assert!(matches!(process.state.load(None), Err(ClientError::State { .. })), "signed by the first key");
}

#[test]
fn what_is_moved_away_under_a_running_process_is_written_back() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut process = Process::start(directory.path());
    process.append(3).expect("written");
    fs::remove_file(&process.state.path).expect("removed");
    process.append(4).expect("written");
    assert_eq!(process.sizes(), (Some(4), vec![4]));
}
