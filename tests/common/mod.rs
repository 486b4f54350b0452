//! A real server process, for tests that need one.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

pub mod raw;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

#[path = "../../src/child.rs"]
mod child;

use child::ServerProcess;
use sha2::{Digest as _, Sha256};

/// The command under test.
pub const LOGWOOD: &str = env!("CARGO_BIN_EXE_logwood");

/// A `logwood serve` on the loopback. SIGKILL when dropped.
pub struct Server {
    process: ServerProcess,
    pub url: String,
    /// Address of the HTTP API.
    pub http: String,
    pub port: u16,
    pub vkey: String,
}

impl Server {
    /// Starts a server and waits until it listens; port 0 picks a free one.
    pub fn start(data: &Path, port: u16, arguments: &[&str]) -> Self {
        Self::start_with(data, port, arguments, &[])
    }

    /// As [`start`](Self::start), with variables of the environment.
    pub fn start_with(data: &Path, port: u16, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let environment = [environment, &[("RUST_LOG", "off")]].concat();
        // A port that was given up may be somebody else's for a moment.
        let deadline = Instant::now() + Duration::from_mins(1);
        let process = loop {
            match ServerProcess::start(Path::new(LOGWOOD), (data, port), arguments, &environment) {
                Ok(process) => break process,
                Err(error) => assert!(port != 0 && Instant::now() < deadline, "the server starts: {error:#}"),
            }
        };
        let (url, http) = (process.url.clone(), process.http.clone());
        let (port, vkey) = (process.port, process.vkey.clone());
        Self { process, url, http, port, vkey }
    }

    /// The most memory that the process has held so far (`VmHWM` of proc(5)), in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
        peak.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// SIGTERM, and an orderly end.
    pub fn stop(mut self) {
        self.process.stop().expect("an orderly end");
    }
}

/// The command, as somebody calls it in `dir` who remembers in `state` there.
pub fn logwood(server: &Server, dir: &Path, state: &str) -> Command {
    let mut command = Command::new(LOGWOOD);
    command.current_dir(dir).env("LOGWOOD_SERVER", &server.url).env_remove("LOGWOOD_VKEY");
    command.env("XDG_STATE_HOME", dir.join(state));
    command
}

/// Its exit status, standard output and standard error.
pub fn outcome(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Calls the command in `dir`: its exit status, and all that it printed.
pub fn command(arguments: &[&str], dir: &Path) -> (Option<i32>, String) {
    let output = Command::new(LOGWOOD).args(arguments).current_dir(dir).output().expect("the command runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// Copies a directory of files and directories.
pub fn copy(from: &Path, to: &Path) {
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

/// An anchor of these heads, each `<name> <size> <root, hex>`, as docs/format.md says.
pub fn anchor(heads: &[&str]) -> String {
    let token = format!("token {}", "0".repeat(32));
    let lines = [token].into_iter().chain(heads.iter().map(|head| format!("log {head}")));
    let checked = lines.map(|line| {
        let check = Sha256::digest(&line)[..8].iter().fold(0_u64, |check, byte| check << 8 | u64::from(*byte));
        format!("{line} {check:016x}\n")
    });
    checked.collect()
}

/// Waits until `is_so`. After two minutes, which nothing takes that is waited for, the test fails.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !is_so() {
        assert!(Instant::now() < deadline, "not in two minutes: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The public data that is not part of this repository, if it is there.
pub fn shared_data() -> Option<PathBuf> {
    let shared = std::env::var_os("LOGWOOD_SHARED").map_or_else(|| "../shared".into(), PathBuf::from);
    let found = Some(shared.join("data")).filter(|data| data.is_dir());
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(found.is_some() || !is_ci, "no public test data at {}", shared.display());
    found
}
