//! `--on-alarm`: a command for each alarm, one after the other. They are a task of their own, so that a command that
//! hangs holds up no round; what waits for it is told before the monitor ends.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::deliver::run_shell;
use crate::output;

/// How long one command may run.
const HOOK_TIMEOUT: Duration = Duration::from_mins(1);

/// Most alarms that wait. Whoever raises one more waits until there is room: none is lost.
const WAITING_MAX: usize = 1_000;

/// An alarm, as the command gets it.
pub(super) struct Call {
    pub(super) kind: &'static str,
    pub(super) subject: String,
    /// Evidence or incident.
    pub(super) file: Option<PathBuf>,
    /// Its standard input.
    pub(super) value: Value,
}

/// The command, and what it still has to be told.
pub(super) struct Hook {
    calls: mpsc::Sender<Call>,
    task: JoinHandle<()>,
}

impl Hook {
    /// * `command` - for `sh -c`.
    pub(super) fn start(command: String) -> Self {
        let (calls, mut waiting) = mpsc::channel::<Call>(WAITING_MAX);
        let task = tokio::spawn(async move {
            while let Some(call) = waiting.recv().await {
                if let Err(error) = run(&command, &call).await {
                    complain(&format!("{} of {}: {error:#}", call.kind, call.subject));
                }
            }
        });
        Self { calls, task }
    }

    /// Has the command told of an alarm, after those before it.
    pub(super) async fn call(&self, call: Call) {
        // Its task ends when this is dropped, and not before.
        let _ = self.calls.send(call).await;
    }

    /// Waits until every alarm was told; no longer than `within`, if that is given.
    pub(super) async fn finish(self, within: Option<Duration>) {
        let Self { calls, task } = self;
        let waiting = calls.downgrade();
        drop(calls);
        let Some(within) = within else {
            // It cannot panic: its errors are told.
            let _ = task.await;
            return;
        };
        if tokio::time::timeout(within, task).await.is_err() {
            let count = waiting.upgrade().map_or(0, |calls| calls.max_capacity() - calls.capacity());
            complain(&format!("the command did not end, and {count} more alarms were not told to it"));
        }
    }
}

async fn run(command: &str, Call { kind, subject, file, value }: &Call) -> anyhow::Result<()> {
    let file = file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    let environment =
        [("LOGWOOD_ALARM", *kind), ("LOGWOOD_ALARM_FILE", file.as_str()), ("LOGWOOD_ALARM_SUBJECT", subject.as_str())];
    run_shell(command, &environment, format!("{value}\n").as_bytes(), HOOK_TIMEOUT).await
}

fn complain(problem: &str) {
    eprintln!("logwood: --on-alarm: {}", output::printable(problem));
}
