//! The anchor on a real file, and on a disk that fails in every way at every write.

use std::sync::Arc;

use logwood_merkle::Hash;

use super::*;

fn head(size: u64) -> TreeHead {
    TreeHead { size: TreeSize(size), root: Hash::leaf(&size.to_be_bytes()) }
}

fn one(log: &str, size: u64) -> [(String, TreeHead); 1] {
    [(log.to_owned(), head(size))]
}

/// The anchor of a store that holds `size` entries of every log.
fn open_at(path: &Path, size: u64) -> io::Result<Anchor> {
    Anchor::open(path, |_| Ok(Some(TreeSize(size))))
}

/// The file after these heads of log `a`, in appends of their own, and one of log `b`.
fn written(path: &Path, sizes: &[u64]) -> Vec<u8> {
    let anchor = open_at(path, 0).expect("a new anchor");
    for size in sizes {
        assert_eq!(anchor.append(&one("a", *size)).expect("appended"), Anchored::Yes);
    }
    assert_eq!(anchor.append(&one("b", 9)).expect("appended"), Anchored::Yes);
    std::fs::read(path).expect("readable")
}

#[test]
fn the_newest_head_survives_a_restart_and_an_append_that_a_crash_cut_short() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ANCHOR");
    let whole = written(&path, &[1, 2, 3]);
    let next = lines::head("a", &head(400));
    for cut in 0..next.len() {
        std::fs::write(&path, [&whole, &next.as_bytes()[..cut]].concat()).expect("writable");
        let anchor = open_at(&path, 400).expect("the store holds what was being anchored");
        assert_eq!((anchor.head("a"), anchor.head("b"), anchor.head("c")), (Some(head(3)), Some(head(9)), None));
    }
}

#[test]
fn an_unfinished_line_that_names_more_than_the_store_holds_is_not_forgiven() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ANCHOR");
    let whole = written(&path, &[1, 2, 3]);
    let next = lines::head("a", &head(400));
    for cut in "log a 400".len()..next.len() {
        let text = [&whole, &next.as_bytes()[..cut]].concat();
        std::fs::write(&path, &text).expect("writable");
        let refused = open_at(&path, 399).map(drop).expect_err("the line was synced, and the store is an old one");
        assert!(refused.to_string().contains("names size 400 of log `a`"), "{refused}");
        assert!(Anchor::open(&path, |_| Ok(None)).is_err(), "nor a store without the log");
        assert_eq!(std::fs::read(&path).expect("readable"), text, "it stays as it was");
    }
}

#[test]
fn no_flipped_bit_makes_a_line_say_something_else_or_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ANCHOR");
    let whole = written(&path, &[300, 1_000]);
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            let parsed = lines::parse(&flipped);
            if at + 1 == whole.len() {
                let AnchoredHeads { heads, unfinished } = parsed.expect("a last line without its LF");
                assert_eq!((heads.len(), unfinished), (1, Some(("b".to_owned(), TreeSize(9)))));
            } else {
                assert!(parsed.is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn only_what_this_program_writes_is_read() {
    let token = lines::token([7; 16]);
    let line = lines::head("a", &head(1_000));
    assert_eq!(lines::parse(b"").expect("an empty file says nothing"), AnchoredHeads::default());
    assert_eq!(lines::parse(format!("{token}{line}").as_bytes()).expect("whole").heads["a"], head(1_000));
    let text = line.trim_end();
    for text in [
        line.clone(),
        token.trim_end().to_owned(),
        token[..20].to_owned(),
        format!("{token}{}", line.replace("1000", "01000")),
        format!("{token}{}", line.replace("1000", "+1000")),
        format!("{token}{}", line.to_uppercase()),
        format!("{token}{}", line.replace("log a", "log b")),
        format!("{token}{text} \n"),
        format!("{token}{text}\r\n"),
        format!("{token}{text}\n\n{line}"),
        format!("{token}{}\n", &text[..text.len() - 17]),
        format!("{token}{text}{line}"),
        format!("{token}{token}{line}"),
        format!("{token}\0\0\0\n{line}"),
    ] {
        assert!(lines::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_process_that_finds_another_token_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ANCHOR");
    let first = open_at(&path, 0).expect("opens");
    let second = open_at(&path, 0).expect("opens");
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
    let anchor = open_at(&path, 0).expect("opens");
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
    let anchor = open_at(&path, 0).expect("opens");
    let logs: Vec<_> = (0..2_000).map(|log| format!("log-{log}")).collect();
    for size in 1..=30 {
        let heads: Vec<_> = logs.iter().map(|log| (log.clone(), head(size))).collect();
        assert_eq!(anchor.append(&heads).expect("written"), Anchored::Yes);
        let bytes = std::fs::metadata(&path).expect("there").len();
        assert!(bytes <= COMPACT_BYTES_MIN + (COMPACT_FACTOR + 1) * 200_000, "{bytes}");
    }
    let anchor = open_at(&path, 0).expect("opens");
    assert!(logs.iter().all(|log| anchor.head(log) == Some(head(30))));
}

#[test]
fn a_bare_file_name_is_in_the_current_directory() {
    assert_eq!(AnchorFile::new(Path::new("ANCHOR")).read().expect("none is there"), None);
    let dir = tempfile::tempdir().expect("a directory");
    let relative = std::path::absolute(dir.path()).expect("absolute").join("x").join("..").join("ANCHOR");
    std::fs::create_dir(dir.path().join("x")).expect("made");
    open_at(&relative, 0).expect("opens");
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
struct FaultyDisk(Arc<Mutex<File>>);

#[derive(Default)]
struct File {
    text: Option<String>,
    fault: Option<Fault>,
    /// Nobody can see whose it is.
    is_hidden: bool,
}

impl FaultyDisk {
    fn fail_next(&self, fault: Fault) {
        self.0.lock().fault = Some(fault);
    }

    fn hide(&self, is_hidden: bool) {
        self.0.lock().is_hidden = is_hidden;
    }

    fn write(&self, change: impl Fn(&mut String, Fault)) -> io::Result<()> {
        let File { text: file, fault, .. } = &mut *self.0.lock();
        let fault = fault.take().unwrap_or(Fault::None);
        change(file.get_or_insert_default(), fault);
        if fault == Fault::None { Ok(()) } else { Err(io::Error::other("injected")) }
    }
}

impl Disk for FaultyDisk {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().text.clone().map(String::into_bytes))
    }

    fn first_line(&self) -> io::Result<String> {
        let file = self.0.lock();
        if file.is_hidden {
            return Err(io::Error::other("injected"));
        }
        let text = file.text.clone().unwrap_or_default();
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
    on(disk, random).expect("what a fault leaves behind can be read")
}

/// The anchor of a store that holds everything that was ever to be anchored.
fn on(disk: &FaultyDisk, random: u8) -> io::Result<Anchor<FaultyDisk>> {
    Anchor::on(disk.clone(), [random; 16], |_| Ok(Some(TreeSize(u64::MAX))))
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
fn a_head_counts_only_once_the_file_it_went_into_is_known_to_be_this_processs() {
    let disk = FaultyDisk::default();
    let anchor = open(&disk, 1);
    anchor.append(&one("a", 1)).expect("written");
    disk.hide(true);
    for _ in 0..2 {
        anchor.append(&one("a", 2)).expect_err("nobody knows whose file took it");
        assert_eq!(anchor.head("a"), Some(head(1)));
    }
    disk.hide(false);
    assert_eq!(anchor.append(&one("a", 2)).expect("written"), Anchored::Yes);
    assert_eq!(open(&disk, 2).head("a"), Some(head(2)));

    // It was taken over while nobody could see that.
    let disk = FaultyDisk::default();
    let anchor = open(&disk, 1);
    disk.hide(true);
    anchor.append(&one("a", 2)).expect_err("nobody knows whose file took it");
    let other = open(&disk, 2);
    disk.hide(false);
    assert_eq!(anchor.append(&one("a", 2)).expect("looked at"), Anchored::Foreign);
    assert_eq!(other.append(&one("b", 1)).expect("written"), Anchored::Yes);
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
        assert!(on(&disk, 2).is_err());
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
