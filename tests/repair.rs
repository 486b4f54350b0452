//! `logwood repair` on data directories whose write-ahead log was damaged in each way, and on a lost index.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Server;

struct Finished {
    code: Option<i32>,
    text: String,
}

fn logwood(dir: &Path, arguments: &[&str]) -> Finished {
    let output = Command::new(env!("CARGO_BIN_EXE_logwood"))
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("the command runs");
    let text = [output.stdout, output.stderr].concat();
    Finished { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() }
}

/// A killed server's data: three appends, each in a round of its own, still in the write-ahead log.
fn killed(dir: &Path) -> String {
    let server = Server::start(&dir.join("data"), 0, &[]);
    for name in ["one", "two", "three"] {
        fs::write(dir.join(name), format!("{name} {}\n", "happened ".repeat(200))).expect("written");
        // Not settled: a published head would be a record of its own.
        let append = ["append", "--settle-within", "0", "--server", &server.url, "--client-state", "state", name];
        let appended = logwood(dir, &append);
        assert_eq!(appended.code, Some(0), "{}", appended.text);
    }
    server.vkey.clone()
}

fn wal(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("data/db")).expect("readable").map(|file| file.expect("readable").path());
    files.filter(|path| path.extension().is_some_and(|end| end == "log")).max().expect("a write-ahead log")
}

/// Where the last record begins: behind it the log has no other.
fn last_record(wal: &[u8]) -> usize {
    let (mut at, mut begin) = (0, 0);
    while at + 7 <= wal.len() {
        begin = at;
        at += 7 + usize::from(u16::from_le_bytes([wal[at + 4], wal[at + 5]]));
    }
    assert!(at <= 32_768, "the test expects one block");
    begin
}

fn damage(dir: &Path, change: impl FnOnce(&mut Vec<u8>, usize)) {
    let mut bytes = fs::read(wal(dir)).expect("readable");
    let begin = last_record(&bytes);
    change(&mut bytes, begin);
    fs::write(wal(dir), bytes).expect("written");
}

/// Without the anchor, which may know the last head: then nothing may be cut off.
fn repair(dir: &Path) -> Finished {
    let _ = fs::remove_file(dir.join("data/ANCHOR"));
    logwood(dir, &["repair", "--drop-torn-tail", "--json", "data"])
}

fn assert_repaired(dir: &Path, key: &str) {
    let repaired = repair(dir);
    assert_eq!(repaired.code, Some(0), "{}", repaired.text);
    assert!(repaired.text.contains(r#""repair":"drop-torn-tail""#), "{}", repaired.text);
    let copies = fs::read_dir(dir.join("data/db/torn")).expect("a copy was kept").count();
    assert_eq!(copies, 1);
    let fsck = logwood(dir, &["fsck", "--vkey", key, "data"]);
    assert_eq!(fsck.code, Some(0), "{}", fsck.text);
    assert_eq!(repair(dir).code, Some(1), "there is nothing left to cut off");
}

#[test]
fn a_last_record_with_a_bad_checksum_is_cut_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = killed(dir.path());
    damage(dir.path(), |wal, _| *wal.last_mut().expect("not empty") ^= 1);
    let fsck = logwood(dir.path(), &["fsck", "--vkey", &key, "data"]);
    assert!(fsck.code == Some(3) && fsck.text.contains("repair --drop-torn-tail"), "{}", fsck.text);
    assert_repaired(dir.path(), &key);
}

#[test]
fn a_last_record_with_holes_is_cut_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = killed(dir.path());
    damage(dir.path(), |wal, begin| wal[begin + 20..begin + 60].fill(0));
    assert_repaired(dir.path(), &key);
}

#[test]
fn a_last_record_cut_short_needs_no_repair() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = killed(dir.path());
    damage(dir.path(), |wal, _| wal.truncate(wal.len() - 5));
    let refused = repair(dir.path());
    assert!(refused.code == Some(1) && refused.text.contains("nothing to cut off"), "{}", refused.text);
    assert_eq!(logwood(dir.path(), &["fsck", "--vkey", &key, "data"]).code, Some(0));
}

#[test]
fn a_damaged_record_that_another_follows_is_not_cut_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = killed(dir.path());
    let before = wal(dir.path());
    damage(dir.path(), |wal, begin| wal[begin - 3] ^= 1);
    let damaged = fs::read(&before).expect("readable");
    let refused = repair(dir.path());
    assert!(refused.code == Some(1) && refused.text.contains("a whole record follows"), "{}", refused.text);
    assert_eq!(fs::read(before).expect("readable"), damaged, "nothing was changed");
    let fsck = logwood(dir.path(), &["fsck", "--vkey", &key, "data"]);
    assert!(fsck.code == Some(3) && fsck.text.contains("is damaged in the middle"), "{}", fsck.text);
    assert!(!fsck.text.contains("drop-torn-tail"), "{}", fsck.text);
}

#[test]
fn nothing_that_the_anchor_knows_is_cut_off() {
    let dir = tempfile::tempdir().expect("a directory");
    killed(dir.path());
    let root = "00".repeat(32);
    for (name, head) in [("ahead", "default 4"), ("other", "default 1"), ("gone", "another 1")] {
        fs::write(dir.path().join(name), common::anchor(&[&format!("{head} {root}")])).expect("written");
    }
    let unfinished = common::anchor(&[&format!("default 4 {root}")]);
    fs::write(dir.path().join("unfinished"), &unfinished[..unfinished.len() - 30]).expect("written");
    damage(dir.path(), |wal, _| *wal.last_mut().expect("not empty") ^= 1);
    let damaged = fs::read(wal(dir.path())).expect("readable");
    for (anchor, says) in [
        ("ahead", "the anchor has 4"),
        ("other", "is not the anchor's"),
        ("gone", "is gone"),
        ("unfinished", "the anchor has 4"),
        ("missing", "cannot read"),
    ] {
        let refused = logwood(dir.path(), &["repair", "--drop-torn-tail", "--anchor", anchor, "data"]);
        assert!(refused.code == Some(1) && refused.text.contains(says), "{}", refused.text);
        assert_eq!(fs::read(wal(dir.path())).expect("readable"), damaged, "nothing was changed");
    }
}

#[test]
fn a_directory_in_use_is_not_repaired() {
    let dir = tempfile::tempdir().expect("a directory");
    let _server = Server::start(&dir.path().join("data"), 0, &[]);
    for repair in ["--drop-torn-tail", "--rebuild-index"] {
        let refused = logwood(dir.path(), &["repair", repair, "data"]);
        assert!(refused.code == Some(1) && refused.text.contains("in use"), "{}", refused.text);
    }
    assert_eq!(logwood(dir.path(), &["repair", "data"]).code, Some(2), "which repair must be said");
}

#[test]
fn an_index_is_rebuilt_and_identities_stay_strict() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = killed(dir.path());
    let rebuilt = logwood(dir.path(), &["repair", "--rebuild-index", "data"]);
    assert!(rebuilt.code == Some(0) && rebuilt.text.contains("of 3 entries was made anew"), "{}", rebuilt.text);
    assert_eq!(logwood(dir.path(), &["fsck", "--vkey", &key, "data"]).code, Some(0));
}

/// A store whose last rounds are gone from its write-ahead log, after they were indexed.
fn with_lost_entries(dir: &Path) -> String {
    let mut key = String::new();
    for name in ["one", "two"] {
        let server = Server::start(&dir.join("data"), 0, &[]);
        fs::write(dir.join(name), format!("{name}\n")).expect("written");
        let append = ["append", "--server", &server.url, "--client-state", "state", name];
        assert_eq!(logwood(dir, &append).code, Some(0));
        key.clone_from(&server.vkey);
        server.stop();
    }
    fs::write(wal(dir), "").expect("written");
    key
}

#[test]
fn entries_that_are_gone_are_not_called_an_index_to_be_rebuilt() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = with_lost_entries(dir.path());
    let serve = ["serve", "--data", "data", "--grpc", "127.0.0.1:0", "--http", "off"];
    let started = logwood(dir.path(), &serve);
    assert!(started.code == Some(1) && started.text.contains("entries are gone"), "{}", started.text);
    let fsck = logwood(dir.path(), &["fsck", "--vkey", &key, "data"]);
    assert!(fsck.code == Some(3) && fsck.text.contains("entries are gone"), "{}", fsck.text);
    assert!(!fsck.text.contains("nothing is lost"), "{}", fsck.text);
    let refused = logwood(dir.path(), &["repair", "--rebuild-index", "data"]);
    assert!(refused.code == Some(1) && refused.text.contains("--accept-loss"), "{}", refused.text);
    let fsck = logwood(dir.path(), &["fsck", "--vkey", &key, "data"]);
    assert!(fsck.code == Some(3) && fsck.text.contains("entries are gone"), "the evidence is there: {}", fsck.text);
}

#[test]
fn a_loss_that_is_accepted_leaves_evidence_and_logs_that_do_not_sign() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = with_lost_entries(dir.path());
    let accepted = logwood(dir.path(), &["repair", "--rebuild-index", "--accept-loss", "data"]);
    assert!(accepted.code == Some(0) && accepted.text.contains("1 logs were frozen"), "{}", accepted.text);
    assert!(dir.path().join("data/db/lost/1/CURRENT").exists(), "the database as it was is kept");
    let fsck = logwood(dir.path(), &["fsck", "--vkey", &key, "data"]);
    assert!(fsck.code == Some(3) && fsck.text.contains("the anchor says"), "{}", fsck.text);

    // Without the anchor, too.
    fs::remove_file(dir.path().join("data/ANCHOR")).expect("removed");
    assert_eq!(logwood(dir.path(), &["fsck", "--vkey", &key, "data"]).code, Some(0), "what is left is whole");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let append = ["append", "--server", &server.url, "--client-state", "another", "two"];
    let refused = logwood(dir.path(), &append);
    assert!(refused.code == Some(1) && refused.text.contains("frozen"), "{}", refused.text);
}

#[test]
fn a_torn_tail_is_cut_off_at_a_start_only_if_the_settings_say_so() {
    let dir = tempfile::tempdir().expect("a directory");
    // Nothing is published but the empty log, so the anchor does not know what is torn.
    let interval = [("LOGWOOD_PUBLISH_INTERVAL_MS", "3600000")];
    let server = Server::start_with(&dir.path().join("data"), 0, &[], &interval);
    for name in ["one", "two"] {
        fs::write(dir.path().join(name), format!("{name} {}\n", "happened ".repeat(200))).expect("written");
        let append = ["append", "--settle-within", "0", "--server", &server.url, "--client-state", "state", name];
        assert_eq!(logwood(dir.path(), &append).code, Some(0));
    }
    drop(server);
    damage(dir.path(), |wal, _| *wal.last_mut().expect("not empty") ^= 1);
    let serve = ["serve", "--data", "data", "--grpc", "127.0.0.1:0", "--http", "off"];
    let refused = logwood(dir.path(), &serve);
    assert!(refused.code == Some(1) && refused.text.contains("repair --drop-torn-tail"), "{}", refused.text);

    let server = Server::start(&dir.path().join("data"), 0, &["--torn-tail", "repair"]);
    assert_eq!(fs::read_dir(dir.path().join("data/db/torn")).expect("a copy was kept").count(), 1);
    let append = ["append", "--server", &server.url, "--client-state", "another", "two"];
    let appended = logwood(dir.path(), &append);
    assert_eq!(appended.code, Some(0), "{}", appended.text);
    let key = server.vkey.clone();
    server.stop();
    assert_eq!(logwood(dir.path(), &["fsck", "--vkey", &key, "data"]).code, Some(0));
}
