//! An old copy of the data directory with the real key: it must not sign.

mod common;

use std::path::Path;
use std::process::Command;

use common::Server;

/// Runs a client command in `dir`, where each caller remembers in a directory of its own.
fn logwood(server: &Server, dir: &Path, state: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_logwood"))
        .args(arguments)
        .args(["--server", &server.url, "--client-state", state])
        .current_dir(dir)
        .output()
        .expect("the command runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for file in std::fs::read_dir(from).expect("readable") {
        let file = file.expect("readable");
        let target = to.join(file.file_name());
        match file.file_type().expect("a type") {
            kind if kind.is_dir() => copy(&file.path(), &target),
            kind if kind.is_file() => drop(std::fs::copy(file.path(), target).expect("copied")),
            _ => {}
        }
    }
}

#[test]
fn an_old_copy_of_the_data_reads_but_does_not_sign() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, old, anchor) = (dir.path().join("data"), dir.path().join("old"), dir.path().join("ANCHOR"));
    std::fs::write(dir.path().join("one"), "first\nsecond\n").expect("written");
    std::fs::write(dir.path().join("two"), "third\n").expect("written");

    let server = Server::start(&data, 0, &["--anchor", anchor.to_str().expect("UTF-8")]);
    assert_eq!(logwood(&server, dir.path(), "a", &["append", "one"]).0, Some(0));
    server.stop();
    copy(&data, &old);
    let server = Server::start(&data, 0, &["--anchor", anchor.to_str().expect("UTF-8")]);
    assert_eq!(logwood(&server, dir.path(), "a", &["append", "two"]).0, Some(0));
    server.stop();

    let server = Server::start(&old, 0, &["--anchor", anchor.to_str().expect("UTF-8")]);
    let (code, text) = logwood(&server, dir.path(), "b", &["append", "two"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("read-only"), "{text}");
    let (code, text) = logwood(&server, dir.path(), "c", &["head"]);
    assert_eq!(code, Some(0), "reads go on: {text}");
    server.stop();
}

#[test]
fn of_two_servers_on_copies_with_one_anchor_the_first_stops_signing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, twin, anchor) = (dir.path().join("data"), dir.path().join("twin"), dir.path().join("ANCHOR"));
    let anchor = ["--anchor", anchor.to_str().expect("UTF-8")];
    std::fs::write(dir.path().join("one"), "first\n").expect("written");
    let server = Server::start(&data, 0, &anchor);
    assert_eq!(logwood(&server, dir.path(), "a", &["append", "one"]).0, Some(0));
    server.stop();
    copy(&data, &twin);

    let first = Server::start(&data, 0, &anchor);
    let second = Server::start(&twin, 0, &anchor);
    // The first finds the other's token when it next publishes; until then its heads are promises like any other. An
    // append that is on its way at that moment is not acknowledged either.
    let stopped = (0..10_000).any(|_| {
        let (code, text) = logwood(&first, dir.path(), "a", &["append", "one"]);
        assert!(matches!(code, Some(0 | 1)), "{text}");
        code == Some(1) && text.contains("another process serves a copy")
    });
    assert!(stopped, "the first server stops signing");
    assert_eq!(logwood(&first, dir.path(), "a", &["append", "one"]).0, Some(1), "and does not start again");
    assert_eq!(logwood(&first, dir.path(), "b", &["head"]).0, Some(0), "reads go on");
    assert_eq!(logwood(&second, dir.path(), "c", &["append", "one"]).0, Some(0), "the last one started may sign");
}
