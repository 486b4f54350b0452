//! What the tests of `logwood monitor` share: the process, its files, and a log that changes under it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::outcome;
use crate::log::Resources;
use crate::source::{self, Answer};

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

#[track_caller]
pub(crate) fn assert_exit(output: &Output, status: i32, says: &str) {
    let (code, _, errors) = outcome(output);
    assert_eq!(code, Some(status), "{errors}");
    assert!(errors.contains(says), "no `{says}` in: {errors}");
}

/// The files of the evidence directory whose names begin with `prefix`.
pub(crate) fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(listing) = std::fs::read_dir(dir.join("evidence")) else { return Vec::new() };
    let paths = listing.map(|file| file.expect("readable").path());
    paths.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))).collect()
}

/// Entries that the state says were delivered.
pub(crate) fn delivered(dir: &Path) -> u64 {
    let Ok(state) = std::fs::read(dir.join("state.json")) else { return 0 };
    let state: Value = serde_json::from_slice(&state).expect("it is whole at all times");
    state["logs"][0]["size"].as_u64().unwrap_or(0)
}

/// A tlog-tiles log that a test can change under a monitor.
pub(crate) struct Log {
    resources: Arc<Mutex<Resources>>,
    server: source::Server,
}

impl Log {
    pub(crate) fn start(resources: Resources) -> Self {
        let resources = Arc::new(Mutex::new(resources));
        let shared = Arc::clone(&resources);
        let server = source::Server::start(move |path, _| {
            let resources = shared.lock().expect("no panic");
            resources.get(path).map_or(Answer::Status(404), |body| Answer::Body(body.clone()))
        });
        Self { resources, server }
    }

    pub(crate) fn url(&self) -> &str {
        &self.server.url
    }

    pub(crate) fn now_serves(&self, resources: Resources) {
        *self.resources.lock().expect("no panic") = resources;
    }
}

/// A monitor that goes on. SIGKILL when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        Self(command.spawn().expect("it starts"))
    }
}

/// SIGTERM.
pub(crate) fn terminate(running: &Running) {
    let pid = i32::try_from(running.0.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::TERM).expect("it is ours");
}

/// The exit status, once it ends by itself.
pub(crate) fn end(mut running: Running) -> Option<i32> {
    running.0.wait().expect("it ends").code()
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have stopped already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
