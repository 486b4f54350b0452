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
