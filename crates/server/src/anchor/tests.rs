//! The anchor on a real file, and on a disk that fails in every way at every write.

use std::sync::Arc;

use super::*;

fn head(size: u64) -> TreeHead {
    TreeHead { size: TreeSize(size), root: Hash::leaf(&size.to_be_bytes()) }
}

fn one(log: &str, size: u64) -> [(String, TreeHead); 1] {
    [(log.to_owned(), head(size))]
}

#[test]
fn the_newest_head_survives_a_restart_and_a_torn_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ANCHOR");
    let anchor = Anchor::open(&path).expect("a new anchor");
    for size in 1..=3 {
        assert_eq!(anchor.append(&one("a", size)).expect("appended"), Anchored::Yes);
    }
    assert_eq!(anchor.append(&one("b", 9)).expect("appended"), Anchored::Yes);
    let mut text = std::fs::read_to_string(&path).expect("readable");
    text.push_str("log a 4 00");
    std::fs::write(&path, text).expect("writable");

    let anchor = Anchor::open(&path).expect("a torn last line is forgiven");
    assert_eq!((anchor.head("a"), anchor.head("b"), anchor.head("c")), (Some(head(3)), Some(head(9)), None));
}

#[test]
fn a_process_that_finds_another_token_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ANCHOR");
    let first = Anchor::open(&path).expect("opens");
    let second = Anchor::open(&path).expect("opens");
    assert_eq!(first.append(&one("a", 1)).expect("written"), Anchored::Foreign);
    assert_eq!(first.append(&one("a", 2)).expect("and never again"), Anchored::Foreign);
    assert_eq!(second.append(&one("a", 1)).expect("written"), Anchored::Yes);
}

#[test]
fn a_look_finds_another_token_and_writes_nothing() {
    let disk = FaultyDisk::default();
    let first = open(&disk, 1);
    first.append(&one("a", 5)).expect("written");
    let before = disk.read().expect("there");
    assert_eq!(first.look().expect("looked"), Anchored::Yes);
    assert_eq!(disk.read().expect("there"), before);
    let _second = open(&disk, 2);
    assert_eq!(first.look().expect("looked"), Anchored::Foreign);
    assert!(first.is_foreign());
}

#[test]
fn the_length_of_the_compacted_file_is_known_without_making_it() {
    let disk = FaultyDisk::default();
    let anchor = open(&disk, 1);
    for size in [1, 9, 10, 99, 12_345] {
        anchor.append(&[("a".to_owned(), head(size)), ("bc".to_owned(), head(2 * size))]).expect("written");
        anchor.append(&one("d", size / 2 + 1)).expect("written");
        let state = anchor.state.lock();
        assert_eq!(state.compact_bytes, whole(&anchor.token, &state.heads).len() as u64);
        assert_eq!(state.bytes, disk.read().expect("there").expect("a file").len() as u64);
    }
}

#[test]
fn what_the_anchor_holds_is_not_written_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ANCHOR");
    let anchor = Anchor::open(&path).expect("opens");
    anchor.append(&one("a", 5)).expect("written");
    let before = std::fs::read(&path).expect("readable");
    anchor.append(&one("a", 5)).expect("nothing to do");
    anchor.append(&one("a", 4)).expect("nothing to do");
    assert_eq!(std::fs::read(&path).expect("readable"), before);
    assert_eq!(anchor.head("a"), Some(head(5)), "the larger head counts");
}

#[test]
fn a_file_that_has_grown_is_compacted() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ANCHOR");
    let anchor = Anchor::open(&path).expect("opens");
    let logs: Vec<_> = (0..2_000).map(|log| format!("log-{log}")).collect();
    for size in 1..=30 {
        let heads: Vec<_> = logs.iter().map(|log| (log.clone(), head(size))).collect();
        assert_eq!(anchor.append(&heads).expect("written"), Anchored::Yes);
        let bytes = std::fs::metadata(&path).expect("there").len();
        assert!(bytes <= COMPACT_BYTES_MIN + (COMPACT_FACTOR + 1) * 200_000, "{bytes}");
    }
    let anchor = Anchor::open(&path).expect("opens");
    assert!(logs.iter().all(|log| anchor.head(log) == Some(head(30))));
}

#[test]
fn damage_before_the_last_line_is_refused() {
    for text in ["log a x 00\nlog b 1 00\n", "nonsense\n", "log a 1 zz\n\n"] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_bare_file_name_is_in_the_current_directory() {
    assert_eq!(AnchorFile::new(Path::new("ANCHOR")).read().expect("none is there"), None);
    let dir = tempfile::tempdir().expect("a directory");
    let relative = std::path::absolute(dir.path()).expect("absolute").join("x").join("..").join("ANCHOR");
    std::fs::create_dir(dir.path().join("x")).expect("made");
    Anchor::open(&relative).expect("opens");
}

/// How a write ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// It fails, and nothing of it is there.
    Nothing,
    /// It fails, and half of it is there.
    Half,
    /// It fails, and all of it is there.
    All,
}

/// A file in memory. Clones share it, as processes share a disk.
#[derive(Clone, Default)]
struct FaultyDisk(Arc<Mutex<(Option<String>, Option<Fault>)>>);

impl FaultyDisk {
    fn fail_next(&self, fault: Fault) {
        self.0.lock().1 = Some(fault);
    }

    fn write(&self, change: impl Fn(&mut String, Fault)) -> io::Result<()> {
        let (file, fault) = &mut *self.0.lock();
        let fault = fault.take().unwrap_or(Fault::None);
        change(file.get_or_insert_default(), fault);
        if fault == Fault::None { Ok(()) } else { Err(io::Error::other("injected")) }
    }
}

impl Disk for FaultyDisk {
    fn read(&self) -> io::Result<Option<String>> {
        Ok(self.0.lock().0.clone())
    }

    fn first_line(&self) -> io::Result<String> {
        let text = self.read()?.unwrap_or_default();
        Ok(text.split_inclusive('\n').next().unwrap_or_default().to_owned())
    }

    fn append(&self, text: &str) -> io::Result<()> {
        self.write(|file, fault| match fault {
            Fault::Nothing => {}
            Fault::Half => file.push_str(&text[..text.len() / 2]),
            Fault::None | Fault::All => file.push_str(text),
        })
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        // A rename is atomic: half of it is nothing.
        self.write(|file, fault| {
            if matches!(fault, Fault::None | Fault::All) {
                text.clone_into(file);
            }
        })
    }
}

const FAULTS: [Fault; 3] = [Fault::Nothing, Fault::Half, Fault::All];

fn open(disk: &FaultyDisk, random: u8) -> Anchor<FaultyDisk> {
    Anchor::on(disk.clone(), [random; 16]).expect("what a fault leaves behind can be read")
}

#[test]
fn after_a_failed_write_the_next_one_mends_the_file() {
    for first in FAULTS {
        for second in [Fault::None].into_iter().chain(FAULTS) {
            let disk = FaultyDisk::default();
            let anchor = open(&disk, 1);
            assert_eq!(anchor.append(&one("a", 1)).expect("written"), Anchored::Yes);
            disk.fail_next(first);
            anchor.append(&one("a", 2)).expect_err("the append fails");
            assert_eq!(anchor.head("a"), Some(head(1)), "what failed does not count: {first:?}");
            disk.fail_next(second);
            let mended = anchor.append(&one("b", 7));
            assert_eq!(mended.is_ok(), second == Fault::None, "{first:?}, then {second:?}");
            assert_eq!(anchor.append(&one("c", 8)).expect("and the one after that"), Anchored::Yes);

            let again = open(&disk, 2);
            let kept = ["a", "b", "c"].map(|log| again.head(log));
            let (a, b, c) = (kept[0].expect("was synced"), kept[1], kept[2]);
            assert!(a == head(1) || a == head(2), "{first:?}, then {second:?}: {a:?}");
            assert!(b.is_some() || second != Fault::None, "what was reported as written is there");
            assert_eq!(c, Some(head(8)));
        }
    }
}

#[test]
fn a_crash_after_a_failed_write_loses_nothing_that_was_synced() {
    for fault in FAULTS {
        let disk = FaultyDisk::default();
        let anchor = open(&disk, 1);
        anchor.append(&one("a", 1)).expect("written");
        anchor.append(&one("b", 5)).expect("written");
        disk.fail_next(fault);
        anchor.append(&one("a", 2)).expect_err("the append fails");
        let again = open(&disk, 2);
        assert!(again.head("a").is_some_and(|head| head.size.0 >= 1), "{fault:?}");
        assert_eq!(again.head("b"), Some(head(5)), "{fault:?}");
    }
}

#[test]
fn a_file_that_cannot_be_replaced_at_the_start_is_no_anchor_and_stays_as_it_was() {
    for fault in FAULTS {
        let disk = FaultyDisk::default();
        open(&disk, 1).append(&one("a", 1)).expect("written");
        disk.fail_next(fault);
        assert!(Anchor::on(disk.clone(), [2; 16]).is_err());
        assert_eq!(open(&disk, 3).head("a"), Some(head(1)), "{fault:?}");
    }
}

#[test]
fn a_compaction_does_not_take_the_file_from_another_process() {
    let disk = FaultyDisk::default();
    let first = open(&disk, 1);
    disk.fail_next(Fault::Half);
    first.append(&one("a", 1)).expect_err("the next append would compact");
    let second = open(&disk, 2);
    second.append(&one("a", 9)).expect("written");
    assert_eq!(first.append(&one("a", 2)).expect("looked at"), Anchored::Foreign);
    assert_eq!(open(&disk, 3).head("a"), Some(head(9)), "what the other wrote is there");
}
