//! A real server process, for tests that need one.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A `logwood serve` on the loopback. SIGKILL when dropped.
pub struct Server {
    child: Child,
    pub url: String,
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
        let child = Command::new(env!("CARGO_BIN_EXE_logwood"))
            .args(["serve", "--grpc", &format!("127.0.0.1:{port}"), "--data"])
            .arg(data)
            .args(arguments)
            // What it is given is thrown away soon, and may be on a small disk.
            .env("LOGWOOD_LIMITS__DISK_RESERVE_MIB", "0")
            .envs(environment.iter().copied())
            .env("RUST_LOG", "off")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut server = Self { child, url: String::new(), port, vkey: String::new() };
        for line in BufReader::new(server.child.stdout.take().expect("piped")).lines() {
            let line = line.expect("the server's output is text");
            if let Some(key) = line.strip_prefix("vkey ") {
                key.clone_into(&mut server.vkey);
            }
            if let Some(address) = line.strip_prefix("serving gRPC on ") {
                server.port = address.rsplit(':').next().expect("a port").parse().expect("a port");
                server.url = format!("http://{address}");
                return server;
            }
        }
        panic!("the server stopped before it listened");
    }

    /// The most memory that the process has held so far (`VmHWM` of proc(5)), in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
        peak.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// SIGTERM, and an orderly end.
    pub fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::TERM).expect("it is ours");
        assert!(self.child.wait().expect("it is ours").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
