//! Delivery: in order, and each entry at least once. The caller moves on only past what was confirmed here.
//!
//! | to | confirmed by |
//! |---|---|
//! | `--exec` | exit status 0 |
//! | `--webhook` | a status of 2xx |
//! | standard output | the write |
//! | `--out` | the sync; the file is cut to what the state says when a monitor starts, so nothing is in it twice |

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
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

use super::filter::Filter;
use crate::failure::Usage;
use crate::output;

/// How long one command may run.
const EXEC_TIMEOUT: Duration = Duration::from_mins(5);
/// How long one request may take.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// Where entries go. Without any of these, to standard output.
#[derive(Debug, Args)]
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
pub(super) struct Batch<'a> {
    pub(super) origin: &'a str,
    /// Index of the first.
    pub(super) first: u64,
    pub(super) entries: &'a [Bytes],
    /// The leaf hash of each.
    pub(super) leaves: &'a [Hash],
}

/// Delivers to all that was asked for.
pub(super) struct Deliverer<'a> {
    args: &'a DeliverArgs,
    client: Client,
    out: Option<OutFile>,
}

/// The file of entries, and how much of it is good.
struct OutFile {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl<'a> Deliverer<'a> {
    /// * `out_bytes` - what the state says of the file of entries: it is cut to that.
    ///
    /// # Errors
    ///
    /// [`Usage`] if the file is shorter than that; any other error if it cannot be written.
    pub(super) fn new(args: &'a DeliverArgs, out_bytes: u64) -> anyhow::Result<Self> {
        let out = args.out.as_deref().map(|path| OutFile::open(path, out_bytes)).transpose()?;
        // Fails only where a provider is there already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder().timeout(WEBHOOK_TIMEOUT).redirect(redirect::Policy::none());
        if args.webhook.as_ref().is_none_or(|url| url.scheme() != "https") {
            // So that plain text works on a machine without any root certificates.
            builder = builder.tls_certs_only([]);
        }
        Ok(Self { args, client: builder.build().context("cannot set up HTTP")?, out })
    }

    /// Bytes of the file of entries that are good, if there is one.
    pub(super) fn out_bytes(&self) -> Option<u64> {
        self.out.as_ref().map(|out| out.bytes)
    }

    /// Delivers the entries of `batch` in order. Gives how many are confirmed, from the first on, and why not all.
    ///
    /// * `stopping` - once it is true no further entry is begun.
    pub(super) async fn deliver(&mut self, batch: &Batch<'_>, stopping: &AtomicBool) -> (usize, anyhow::Result<()>) {
        if self.args.check_only {
            return (batch.entries.len(), Ok(()));
        }
        let (mut lines, mut confirmed, mut outcome) = (Vec::new(), 0, Ok(()));
        for (index, (entry, leaf)) in (batch.first..).zip(batch.entries.iter().zip(batch.leaves)) {
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
                    push_line(&key, (batch.origin, index), (entry, leaf), &mut lines);
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
        let DeliverArgs { exec, webhook, out, check_only, .. } = self.args;
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
        Ok(Self { file, path: path.to_owned(), bytes: good_bytes })
    }

    fn append(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line must not stay in front of the next attempt; if it cannot be cut now, the next start does.
            let _ = self.file.set_len(self.bytes);
            return Err(error).with_context(|| format!("cannot write {}", self.path.display()));
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }
}
