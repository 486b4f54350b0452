//! An old copy of the data directory with the real key: it must not sign.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(data: &Path, anchor: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_logwood"))
            .args(["serve", "--grpc", "127.0.0.1:0", "--data"])
            .arg(data)
            .arg("--anchor")
            .arg(anchor)
            .env("RUST_LOG", "off")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut server = Self { child, url: String::new() };
        for line in BufReader::new(server.child.stdout.take().expect("piped")).lines() {
            if let Some(address) = line.expect("text").strip_prefix("serving gRPC on ") {
                server.url = format!("http://{address}");
                return server;
            }
        }
        panic!("the server stopped before it listened");
    }

    fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
        assert!(self.child.wait().expect("it is ours").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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

    let server = Server::start(&data, &anchor);
    assert_eq!(logwood(&server, dir.path(), "a", &["append", "one"]).0, Some(0));
    server.stop();
    copy(&data, &old);
    let server = Server::start(&data, &anchor);
    assert_eq!(logwood(&server, dir.path(), "a", &["append", "two"]).0, Some(0));
    server.stop();

    let server = Server::start(&old, &anchor);
    let (code, text) = logwood(&server, dir.path(), "b", &["append", "two"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("read-only"), "{text}");
    let (code, text) = logwood(&server, dir.path(), "c", &["head"]);
    assert_eq!(code, Some(0), "reads go on: {text}");
    server.stop();
}
