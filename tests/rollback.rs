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
