//! Delivery: in order, and each entry at least once. The caller moves on only past what was confirmed here.
//!
//! | to | confirmed by |
//! |---|---|
//! | `--exec` | exit status 0 |
//! | `--webhook` | a status of 2xx |
//! | standard output | the write |
//! | `--out` | the sync; the file is cut to what was confirmed before anything is appended, so nothing is in it twice |
//!
//! A delivery is a task of its own, since a command may take minutes and a webhook may be down for hours: the sources
//! are asked for their heads meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use clap::Args;
use logwood_merkle::Hash;
use logwood_monitor::tiles::retry;
use reqwest::header::{HeaderValue, RETRY_AFTER};
use reqwest::{Client, Url, redirect};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::filter::Filter;
use crate::failure::Usage;
use crate::output;

/// How long one command may run.
const EXEC_TIMEOUT: Duration = Duration::from_mins(5);
/// How long one request may take.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// Where entries go. Without any of these, to standard output.
#[derive(Clone, Debug, Args)]
pub(super) struct DeliverArgs {
    /// Run this shell command for each entry, which it gets on standard input; `LOGWOOD_KEY` is `<origin>#<index>`.
    /// Exit status 0 confirms it; otherwise it is run again, up to 6 times in a row, and later.
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// POST each entry to this URL as it is; `Idempotency-Key` is `<origin>#<index>`. A status of 2xx confirms it;
    /// otherwise it is sent again as with --exec.
    #[arg(long, value_name = "URL")]
    webhook: Option<Url>,
    /// Append entries to this file, exactly once each, one JSON object a line: `key`, `origin`, `index`, `leaf`
    /// (base64 of the leaf hash) and `entry` (base64). Nobody else may write to it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Deliver nothing: only check.
    #[arg(long, conflicts_with_all = ["exec", "webhook", "out"])]
    check_only: bool,
    #[command(flatten)]
    filter: Filter,
}

/// Contiguous entries of a log.
pub(super) struct Batch {
    pub(super) origin: String,
    /// Index of the first.
    pub(super) first: u64,
    pub(super) entries: Vec<Bytes>,
    /// The leaf hash of each.
    pub(super) leaves: Vec<Hash>,
}

/// What became of a batch.
pub(super) struct Delivered {
    /// How many entries are confirmed, from the first on.
    pub(super) confirmed: usize,
    /// Why not all of them, unless the monitor is stopping.
    pub(super) outcome: anyhow::Result<()>,
    /// Bytes of the file of entries that are good now, if there is one.
    pub(super) out_bytes: Option<u64>,
}

/// Delivers `batch`, to be spawned.
pub(super) async fn run(deliverer: Arc<Mutex<Deliverer>>, batch: Batch, stopping: Arc<AtomicBool>) -> Delivered {
    let mut deliverer = deliverer.lock().await;
    let (confirmed, outcome) = deliverer.deliver(&batch, &stopping).await;
    Delivered { confirmed, outcome, out_bytes: deliverer.out.as_ref().map(|out| out.bytes) }
}

/// Delivers to all that was asked for.
pub(super) struct Deliverer {
    args: DeliverArgs,
    client: Client,
    out: Option<OutFile>,
}

/// The file of entries, and how much of it is good.
struct OutFile {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Deliverer {
    /// * `out_bytes` - what the state says of the file of entries: it is cut to that.
    ///
    /// # Errors
    ///
    /// [`Usage`] if the file is shorter than that; any other error if it cannot be written.
    pub(super) fn new(args: &DeliverArgs, out_bytes: u64) -> anyhow::Result<Self> {
        let out = args.out.as_deref().map(|path| OutFile::open(path, out_bytes)).transpose()?;
        // Fails only where a provider is there already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder().timeout(WEBHOOK_TIMEOUT).redirect(redirect::Policy::none());
        if args.webhook.as_ref().is_none_or(|url| url.scheme() != "https") {
            // So that plain text works on a machine without any root certificates.
            builder = builder.tls_certs_only([]);
        }
        Ok(Self { args: args.clone(), client: builder.build().context("cannot set up HTTP")?, out })
    }

    /// Delivers the entries of `batch` in order. Gives how many are confirmed, from the first on, and why not all.
    ///
    /// * `stopping` - once it is true no further entry is begun.
    async fn deliver(&mut self, batch: &Batch, stopping: &AtomicBool) -> (usize, anyhow::Result<()>) {
        if self.args.check_only {
            return (batch.entries.len(), Ok(()));
        }
        let (mut lines, mut confirmed, mut outcome) = (Vec::new(), 0, Ok(()));
        for (index, (entry, leaf)) in (batch.first..).zip(batch.entries.iter().zip(&batch.leaves)) {
            if stopping.load(Ordering::Relaxed) {
                break;
            }
            if self.args.filter.passes(entry) {
                let key = format!("{}#{index}", batch.origin);
                if let Err(error) = self.hand_over(&key, entry).await {
                    outcome = Err(error.context(format!("entry {key} is not delivered")));
                    break;
                }
                if self.needs_lines() {
                    push_line(&key, (&batch.origin, index), (entry, leaf), &mut lines);
                }
            }
            confirmed += 1;
        }
        match self.write(&lines) {
            Ok(()) => (confirmed, outcome),
            // The lines are one write: if it fails, none of them counts.
            Err(error) => (0, Err(error)),
        }
    }

    fn writes_to_stdout(&self) -> bool {
        let DeliverArgs { exec, webhook, out, check_only, .. } = &self.args;
        exec.is_none() && webhook.is_none() && out.is_none() && !check_only
    }

    fn needs_lines(&self) -> bool {
        self.out.is_some() || self.writes_to_stdout()
    }

    /// To the command and to the webhook, again and again while that may help.
    async fn hand_over(&self, key: &str, entry: &Bytes) -> anyhow::Result<()> {
        let mut failures = 0;
        if let Some(command) = &self.args.exec {
            while let Err(error) = exec(command, key, entry).await {
                failures += 1;
                pause(failures, None).await.ok_or(error)?;
            }
        }
        failures = 0;
        if let Some(url) = &self.args.webhook {
            while let Err((error, retry_after)) = self.post(url, key, entry).await {
                failures += 1;
                pause(failures, retry_after).await.ok_or(error)?;
            }
        }
        Ok(())
    }

    async fn post(&self, url: &Url, key: &str, entry: &Bytes) -> Result<(), (anyhow::Error, Option<Duration>)> {
        let key = HeaderValue::from_bytes(key.as_bytes()).map_err(|error| (error.into(), None))?;
        let request = self.client.post(url.clone()).header("idempotency-key", key);
        let request = request.header("content-type", "application/octet-stream").body(entry.clone());
        let answer = request.send().await.map_err(|error| (anyhow::Error::from(error.without_url()), None))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(retry::parse_retry_after);
        Err((anyhow::anyhow!("the webhook answers {}", answer.status()), retry_after))
    }

    /// Writes `lines` to standard output and to the file.
    fn write(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.writes_to_stdout() {
            output::bytes(lines)?;
        }
        self.out.as_mut().map_or(Ok(()), |out| out.append(lines))
    }
}

fn push_line(key: &str, (origin, index): (&str, u64), (entry, leaf): (&Bytes, &Hash), lines: &mut Vec<u8>) {
    let value = json!({
        "key": key,
        "origin": origin,
        "index": index,
        "leaf": output::base64(leaf),
        "entry": output::base64(entry),
    });
    // It has no control characters, as JSON escapes them.
    writeln!(lines, "{value}").expect("writing to a vector cannot fail");
}

/// Waits before the attempt after so many failures; `None` if there is none.
async fn pause(failures: u32, retry_after: Option<Duration>) -> Option<()> {
    let wait = retry::wait(failures, retry_after, getrandom::u32().unwrap_or(u32::MAX))?;
    tokio::time::sleep(wait).await;
    Some(())
}

async fn exec(command: &str, key: &str, entry: &[u8]) -> anyhow::Result<()> {
    run_shell(command, &[("LOGWOOD_KEY", key)], entry, EXEC_TIMEOUT).await
}

/// Runs a shell command with `input` on its standard input. Its standard output goes where ours does.
///
/// # Errors
///
/// If it does not exit with 0 within `timeout`; it is killed then.
pub(super) async fn run_shell(
    command: &str,
    environment: &[(&str, &str)],
    input: &[u8],
    timeout: Duration,
) -> anyhow::Result<()> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).envs(environment.iter().copied()).stdin(Stdio::piped()).kill_on_drop(true);
    let mut child = shell.spawn().context("cannot run sh")?;
    let mut stdin = child.stdin.take().expect("piped");
    let run = async {
        // A command need not read its input.
        let fed = stdin.write_all(input).await;
        drop(stdin);
        let status = child.wait().await.context("cannot wait for the command")?;
        ensure!(status.success(), "the command ends with {status}");
        match fed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot feed the command"),
            _ => Ok(()),
        }
    };
    match tokio::time::timeout(timeout, run).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("the command took more than {} seconds", timeout.as_secs()),
    }
}

impl OutFile {
    fn open(path: &Path, good_bytes: u64) -> anyhow::Result<Self> {
        let cannot = || format!("cannot open {}", path.display());
        let file = OpenOptions::new().create(true).append(true).open(path).with_context(cannot)?;
        let there = file.metadata().with_context(cannot)?.len();
        if there < good_bytes {
            let problem = format!(
                "{} has {there} bytes, and the state says that {good_bytes} were written: use the file that belongs to \
                 the state, or a new state",
                path.display()
            );
            return Err(Usage { problem }.into());
        }
        // What comes after belongs to a batch that was not confirmed: it is delivered again.
        file.set_len(good_bytes).with_context(cannot)?;
        if there == 0 {
            // It may be new, and is found after a crash only if its name is stored, too.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent).and_then(|parent| parent.sync_all()).with_context(cannot)?;
        }
        Ok(Self { file, path: path.to_owned(), bytes: good_bytes })
    }

    /// Appends `lines` after what is good, or nothing.
    fn append(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        let written = self.cut().and_then(|()| self.file.write_all(lines)).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // So that nobody reads half a line meanwhile. If it cannot be cut now, the next attempt does that first.
            let _ = self.cut();
            return Err(error).with_context(|| format!("cannot write {}", self.path.display()));
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Cuts off what an attempt left that was not confirmed.
    fn cut(&self) -> io::Result<()> {
        let there = self.file.metadata()?.len();
        if there < self.bytes {
            let reason = format!("it has {there} bytes, and {} were written: somebody else cuts it", self.bytes);
            return Err(io::Error::other(reason));
        }
        if there > self.bytes { self.file.set_len(self.bytes) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(dir: &Path) -> (OutFile, PathBuf) {
        let path = dir.join("out");
        (OutFile::open(&path, 0).expect("a new file"), path)
    }

    #[test]
    fn what_a_failed_attempt_left_is_cut_before_anything_is_appended() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut out, path) = out(dir.path());
        out.append(b"one\n").expect("written");
        // As after a full disk that could not be cut either.
        OpenOptions::new().append(true).open(&path).and_then(|mut file| file.write_all(b"{\"ha")).expect("written");
        out.append(b"two\n").expect("written");
        assert_eq!(std::fs::read(&path).expect("there"), b"one\ntwo\n");
        assert_eq!(out.bytes, 8);
    }

    #[test]
    fn nothing_is_appended_to_what_cannot_be_cut() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut out, path) = out(dir.path());
        std::fs::write(&path, b"{\"ha").expect("written");
        // A file that is open for reading can neither be cut nor be written to.
        out.file = File::open(&path).expect("there");
        assert!(out.append(b"one\n").is_err());
        assert_eq!((out.bytes, std::fs::read(&path).expect("there")), (0, b"{\"ha".to_vec()));
    }

    #[test]
    fn a_file_that_somebody_else_cuts_is_not_written_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut out, path) = out(dir.path());
        out.append(b"one\n").expect("written");
        File::options().write(true).open(&path).and_then(|file| file.set_len(2)).expect("cut");
        assert!(out.append(b"two\n").is_err());
        assert_eq!(std::fs::read(&path).expect("there"), b"on");
    }
}
