//! A server as a process of its own, so that it can be killed, and so that a load shares nothing with it but the machine.
//! The tests start theirs in the same way.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// A running `logwood serve` on the loopback. Killed when dropped.
pub(crate) struct ServerProcess {
    pub(crate) child: Child,
    pub(crate) url: String,
    /// Address of the HTTP API.
    #[allow(dead_code, reason = "only tests read over HTTP")]
    pub(crate) http: String,
    pub(crate) port: u16,
    pub(crate) vkey: String,
}

impl ServerProcess {
    /// Starts a server on `data` and waits until it listens. Port 0 picks a free one.
    ///
    /// * `program` - the `logwood` command.
    /// * `arguments` - of `logwood serve`, besides.
    /// * `environment` - variables that differ from those of the caller.
    pub(crate) fn start(
        program: &Path,
        (data, port): (&Path, u16),
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(["serve", "--http", "127.0.0.1:0", "--grpc", &format!("127.0.0.1:{port}"), "--data"])
            .arg(data)
            .args(arguments)
            // What it is given is thrown away soon, and may be on a small disk.
            .env("LOGWOOD_LIMITS__DISK_RESERVE_MIB", "0")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let mut lines = BufReader::new(child.stdout.take().context("the server has no output")?).lines();
        let (mut vkey, mut http) = (String::new(), String::new());
        loop {
            let line = lines.next().context("the server stopped before it listened")??;
            if let Some(key) = line.strip_prefix("vkey ") {
                key.clone_into(&mut vkey);
            }
            if let Some(address) = line.strip_prefix("serving HTTP on ") {
                address.clone_into(&mut http);
            }
            if let Some(address) = line.strip_prefix("serving gRPC on ") {
                let port =
                    address.rsplit(':').next().and_then(|port| port.parse().ok()).context("the server has no port")?;
                return Ok(Self { child, url: format!("http://{address}"), http, port, vkey });
            }
        }
    }

    /// Starts this command's own server, which tells of errors only.
    pub(crate) fn start_own(data: &Path, port: u16) -> anyhow::Result<Self> {
        Self::start(&std::env::current_exe()?, (data, port), &[], &[("RUST_LOG", "error")])
    }

    /// SIGKILL: nothing is flushed.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and an orderly end.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("the server has no process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = tokio::task::block_in_place(|| self.child.wait())?;
        ensure!(status.success(), "the server stopped with {status}");
        Ok(())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
