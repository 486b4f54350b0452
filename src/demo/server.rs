//! The server of the story, a process of its own, so that it can be killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// A running `logwood serve`. Killed when dropped.
pub(super) struct DemoServer {
    child: Child,
    pub(super) url: String,
    pub(super) port: u16,
    pub(super) vkey: String,
}

impl DemoServer {
    /// Starts a server and waits until it listens.
    pub(super) fn start(data: &Path, port: u16) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--grpc", &format!("127.0.0.1:{port}"), "--data"])
            .arg(data)
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let mut lines = BufReader::new(child.stdout.take().context("the server has no output")?).lines();
        let mut vkey = String::new();
        loop {
            let line = lines.next().context("the server stopped before it listened")??;
            if let Some(key) = line.strip_prefix("vkey ") {
                key.clone_into(&mut vkey);
            }
            if let Some(address) = line.strip_prefix("serving gRPC on ") {
                let port =
                    address.rsplit(':').next().and_then(|port| port.parse().ok()).context("the server has no port")?;
                return Ok(Self { child, url: format!("http://{address}"), port, vkey });
            }
        }
    }

    /// SIGKILL: nothing is flushed.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and an orderly end.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("the server has no process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = tokio::task::block_in_place(|| self.child.wait())?;
        ensure!(status.success(), "the server stopped with {status}");
        Ok(())
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        // It may have stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
