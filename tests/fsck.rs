//! `logwood fsck DIR`: an old copy, a missing log and each kind of damage have exit status 3 and a name.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{LOGWOOD, Server, copy};

fn logwood(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(LOGWOOD).args(arguments).current_dir(dir).env_clear().env("HOME", dir).output();
    let (code, out, err) = common::outcome(&output.expect("the command runs"));
    (code, out + &err)
}

fn append(server: &Server, dir: &Path, lines: usize) {
    fs::write(dir.join("lines"), "something happened\n".repeat(lines)).expect("written");
    let (code, text) = logwood(dir, &["append", "--server", &server.url, "--client-state", "state", "lines"]);
    assert_eq!(code, Some(0), "{text}");
}

/// `data`, whose log has 300 entries, and `old`, a copy from when it had 100. The anchor is in `data`.
fn grown(dir: &Path) -> String {
    let data = dir.join("data");
    let server = Server::start(&data, 0, &[]);
    append(&server, dir, 100);
    server.stop();
    copy(&data, &dir.join("old"));
    let server = Server::start(&data, 0, &[]);
    append(&server, dir, 200);
    let key = server.vkey.clone();
    server.stop();
    key
}

#[test]
fn an_old_store_beside_a_newer_anchor_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = grown(dir.path());
    let fsck = |arguments: &[&str]| logwood(dir.path(), &[&["fsck", "--vkey", &key], arguments].concat());
    assert_eq!(fsck(&["data"]).0, Some(0));
    assert_eq!(fsck(&["old"]).0, Some(0), "its own anchor is as old");
    let (code, text) = fsck(&["old", "--anchor", "data/ANCHOR"]);
    assert!(code == Some(3) && text.contains("log `default` has 100 entries, the anchor says 300"), "{text}");
    fs::copy(dir.path().join("data/ANCHOR"), dir.path().join("old/ANCHOR")).expect("copied");
    let (code, text) = fsck(&["old"]);
    assert!(code == Some(3) && text.contains("this is an old copy"), "{text}");

    let root = "00".repeat(32);
    for (head, says) in [
        (format!("another 1 {root}"), "the anchor knows the log `another`, which is not there"),
        (format!("default 200 {root}"), "the anchor of that size says"),
    ] {
        fs::write(dir.path().join("ANCHOR"), common::anchor(&[&head])).expect("written");
        let (code, text) = fsck(&["data", "--anchor", "ANCHOR"]);
        assert!(code == Some(3) && text.contains(says), "{text}");
    }
    fs::write(dir.path().join("ANCHOR"), "token 0\n").expect("written");
    let (code, text) = fsck(&["data", "--anchor", "ANCHOR"]);
    assert!(code == Some(3) && text.contains("line 1 is damaged"), "{text}");
    let (code, text) = fsck(&["data", "--anchor", "missing"]);
    assert!(code == Some(1) && text.contains("cannot read the anchor missing"), "{text}");
    fs::remove_file(dir.path().join("data/ANCHOR")).expect("removed");
    let (code, text) = fsck(&["data"]);
    assert!(code == Some(0) && text.contains("there is no anchor at data/ANCHOR"), "{text}");
}

#[test]
fn a_key_that_no_log_has_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = grown(dir.path());
    let other = Server::start(&dir.path().join("other"), 0, &[]).vkey.clone();
    let (code, text) = logwood(dir.path(), &["fsck", "--vkey", &key, "--vkey", &other, "data"]);
    assert!(code == Some(3) && text.contains("a log that was expected is not there"), "{text}");
    assert!(text.contains(&format!("has the key {other}")), "which one is told: {text}");
    assert_eq!(logwood(dir.path(), &["fsck", "--vkey", &other, "data"]).0, Some(3));
}

/// Flips one byte of `path`, judges `data`, and puts it back.
fn judge_damaged(dir: &Path, key: &str, path: &Path, at: usize) -> (Option<i32>, String) {
    let good = fs::read(path).expect("readable");
    let mut bytes = good.clone();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).expect("written");
    let outcome = logwood(dir, &["fsck", "--vkey", key, "data"]);
    fs::write(path, good).expect("written");
    outcome
}

#[test]
fn damage_in_any_file_has_its_own_exit_status_and_names_what_is_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let server = Server::start(&data, 0, &[]);
    let key = server.vkey.clone();
    let digest = |index: u32| index.wrapping_mul(2_654_435_761);
    let line = |index: u32| (0..40).map(|word| digest(index * 64 + word).to_string()).collect::<String>() + "\n";
    fs::write(dir.path().join("lines"), (0..600).map(line).collect::<String>()).expect("written");
    let append = ["append", "--server", &server.url, "--client-state", "state", "lines"];
    assert_eq!(logwood(dir.path(), &append).0, Some(0));
    server.stop();
    // A start moves what is in the write-ahead log into files.
    Server::start(&data, 0, &[]).stop();

    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for file in fs::read_dir(data.join("db")).expect("readable") {
        let path = file.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let length = usize::try_from(fs::metadata(&path).expect("there").len()).expect("small");
        let kind = match name.rsplit_once('.') {
            Some((_, end @ ("sst" | "blob"))) => end.to_owned(),
            _ if name.starts_with("MANIFEST") || name == "CURRENT" => name.split('-').next().unwrap_or_default().into(),
            _ => continue,
        };
        for at in [0, length / 3, length / 2, length * 2 / 3, length - 9] {
            let (code, text) = judge_damaged(dir.path(), &key, &path, at);
            // Bytes that nothing reads have no damage to be found.
            if code != Some(0) || kind == "CURRENT" {
                assert_eq!(code, Some(3), "byte {at} of {name}: {text}");
                *kinds.entry(kind.clone()).or_default() += 1;
            }
            if kind == "blob" && (length / 3..length * 2 / 3).contains(&at) {
                assert!(text.contains("log `default`: ") && text.contains(" of log 0: "), "{name}: {text}");
                assert!(text.contains("bundle ") || text.contains("tile "), "{name}: {text}");
            }
        }
    }
    let found: Vec<_> = kinds.keys().map(String::as_str).collect();
    assert_eq!(found, ["CURRENT", "MANIFEST", "blob", "sst"], "each kind of file was damaged, and found to be");
}

#[test]
fn a_directory_that_is_missing_or_in_use_is_no_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let (code, text) = logwood(dir.path(), &["fsck", "--vkey", &server.vkey, "data"]);
    assert!(code == Some(1) && text.contains("in use"), "{text}");
    let (code, text) = logwood(dir.path(), &["fsck", "--vkey", &server.vkey, "nowhere"]);
    assert!(code == Some(1) && text.contains("holds no store"), "{text}");
}
