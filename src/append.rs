//! `logwood append`: each line of a file, or each file whole, becomes an entry.
//!
//! ```text
//! lines ──> identities ──> batches ──> receipts
//!   split at LF only          |            one per entry, derived from the batch's range proofs
//!                             up to 1,000 entries, or what has arrived, if the input is a pipe
//! ```
//!
//! A line that cannot be appended is reported by its number and skipped; the exit status is then 1.
//!
//! At the end the receipts are settled: a published head is shown to extend the heads that they are under. If none comes
//! in time they are good all the same, and stay in the client's state for `logwood prove --settle`.

mod identity;
mod lines;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use indicatif::ProgressBar;
use logwood_client::{Appended, Client, NewEntry};
use logwood_note::entries::ENTRY_BYTES_MAX;
use logwood_proto::BATCH_ENTRIES_MAX;
use logwood_proto::v1::HeadLevel;
use serde_json::json;

use crate::connect::{self, ConnectArgs};
use crate::failure::Usage;
use crate::{files, output, progress, prove};
use identity::{Pointer, RunId};
use lines::{Lines, READ_BYTES_MAX, entry_of};

/// Most bytes of entries in one batch: with identities and framing well below the server's limit of 8 MiB.
const BATCH_ENTRY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Shown by `--help`.
const EXAMPLES: &str = "\
Examples:
  logwood append --identity /eventID --receipts receipts events.ndjson
      One entry a line; sent again, the same events get the same indices. receipts/1.tlog-proof is line 1's.
  tail -F /var/log/auth.log | logwood append --skip-empty -
      Lines as they come. Interrupted, the run goes on with --resume and the id that it printed.
  logwood append --whole --receipts receipts *.pdf
      One entry a file, if it has at most 65,535 bytes; --digest logs the hash of longer ones.
";

/// Appends each line of a file as an entry, checks the receipt of each, and settles them.
///
/// A line ends at LF, which is not part of the entry; everything else is, a CR too. An entry has 1 to 65,535 bytes.
///
/// Exit status 0 if all of them are in the log; 1 if entries were refused, the server was not reached, or the receipts were
/// not settled in time; 2 for wrong usage; 3 if anything that the server answered does not verify.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// The file, or `-` for standard input. With --whole: the files, each one entry.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Each file is one entry, newlines and all.
    #[arg(long)]
    whole: bool,
    /// Pass over empty lines, which are refused otherwise.
    #[arg(long, conflicts_with = "whole")]
    skip_empty: bool,
    /// JSON pointer (RFC 6901) to what makes a line the same event when it is sent again (`/eventID`): a string or a
    /// number, at most 128 bytes. Repeatable. A line that has no such value, or has its key twice, is refused.
    #[arg(long, value_name = "POINTER")]
    identity: Vec<Pointer>,
    /// Go on with an interrupted run: what it had appended is not appended again.
    #[arg(long, value_name = "ID", conflicts_with = "identity")]
    resume: Option<RunId>,
    /// Write the receipt of each entry to DIR, as <line number>.tlog-proof.
    #[arg(long, value_name = "DIR")]
    receipts: Option<PathBuf>,
    /// How long to wait at the end for a published head that covers all receipts. 0: not at all; the receipts stay in the
    /// client's state, to be settled later by `logwood prove --settle`.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = prove::settle_seconds())]
    settle_within: u64,
    /// Of an entry over 65,535 bytes, log `sha256:<hex> <length>` instead of refusing it.
    #[arg(long)]
    digest: bool,
}

/// Runs the subcommand.
///
/// # Errors
///
/// If the server cannot be reached, refuses everything, or fails verification, as [`connect::failed`] sorts them; if the
/// receipts are not settled. Entries that were refused one by one are exit status 1 without an error.
pub(crate) async fn run(args: AppendArgs) -> anyhow::Result<ExitCode> {
    // What is wrong with the files is told before the server is asked.
    check_files(&args)?;
    let input = if args.whole { None } else { Some(Input::open(&args.files[0])?) };
    if let Some(directory) = &args.receipts {
        files::make_directory(directory)?;
    }
    let run_id = match &args.resume {
        Some(id) => id.clone(),
        None => RunId::random()?,
    };
    let client = args.connect.connect().await?;
    let bar = match &input {
        Some(input) => progress::of_bytes(&input.name, input.length),
        None => progress::of_count("files", args.files.len() as u64),
    };
    let mut job = Job { client, args: &args, run_id, batch: Vec::new(), bytes: 0, tally: Tally::default(), bar };
    if args.identity.is_empty() && args.resume.is_none() {
        eprintln!("logwood: run {}; after an interruption go on with --resume {}", job.run_id, job.run_id);
    }
    match input {
        Some(input) => job.append_lines(input).await?,
        None => job.append_files().await?,
    }
    job.bar.finish_and_clear();
    job.summary()?;
    job.settle().await?;
    Ok(if job.tally.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check_files(args: &AppendArgs) -> anyhow::Result<()> {
    if !args.whole {
        if args.files.len() == 1 {
            return Ok(());
        }
        let problem = "lines are numbered within one file: give one, or --whole".into();
        return Err(Usage { problem }.into());
    }
    let mut names = BTreeSet::new();
    for path in &args.files {
        let Some(name) = path.file_name() else {
            return Err(Usage { problem: format!("{} has no file name", path.display()) }.into());
        };
        if args.receipts.is_some() && !names.insert(name.to_string_lossy()) {
            let problem = format!("two files are named {}: their receipts would collide", name.display());
            return Err(Usage { problem }.into());
        }
        Input::open(path)?;
    }
    Ok(())
}

/// What lines come from.
struct Input {
    name: String,
    reader: Box<dyn Read>,
    /// In bytes, if that is known.
    length: Option<u64>,
}

impl Input {
    /// Opens the file at `path`, or standard input for `-`.
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self { name: "standard input".into(), reader: Box::new(io::stdin()), length: None });
        }
        let name = path.display().to_string();
        let cannot = || format!("cannot read {name}");
        let file = File::open(path).with_context(cannot)?;
        let metadata = file.metadata().with_context(cannot)?;
        anyhow::ensure!(!metadata.is_dir(), "cannot read {name}: it is a directory");
        let length = metadata.is_file().then_some(metadata.len());
        Ok(Self { name, reader: Box::new(file), length })
    }
}

/// One run of the command.
struct Job<'a> {
    client: Client,
    args: &'a AppendArgs,
    run_id: RunId,
    batch: Vec<Pending>,
    /// Bytes of the entries in `batch`.
    bytes: usize,
    tally: Tally,
    bar: ProgressBar,
}

/// An entry that waits for its batch.
struct Pending {
    /// Line number from 1, or file name: what messages and the receipt's file are named after.
    label: String,
    entry: Bytes,
    identity: Bytes,
}

#[derive(Default)]
struct Tally {
    new: u64,
    duplicates: u64,
    refused: u64,
    /// Lowest and highest index of a new entry.
    indices: Option<(u64, u64)>,
}

impl Job<'_> {
    async fn append_lines(&mut self, input: Input) -> anyhow::Result<()> {
        let Input { name, reader, length: _ } = input;
        let mut lines = Lines::new(BufReader::with_capacity(1 << 20, reader));
        while let Some((number, line)) = lines.next_line().with_context(|| format!("cannot read {name}"))? {
            self.bar.inc(line.len() as u64 + 1);
            if line.is_empty() && self.args.skip_empty {
                continue;
            }
            self.add(number.to_string(), number, line)?;
            // Nothing is held back that has arrived, should the input be a pipe that trickles.
            if self.is_full() || lines.is_drained() {
                self.flush().await?;
            }
        }
        self.flush().await?;
        Ok(())
    }

    async fn append_files(&mut self) -> anyhow::Result<()> {
        for (number, path) in (1..).zip(&self.args.files) {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            let whole = files::read(path, READ_BYTES_MAX)?;
            self.add(name, number, whole)?;
            if self.is_full() {
                self.flush().await?;
            }
            self.bar.inc(1);
        }
        self.flush().await?;
        Ok(())
    }

    /// Queues an entry, or reports why it cannot be one.
    ///
    /// * `number` - from 1: the identity of last resort, beside the run id.
    fn add(&mut self, label: String, number: u64, bytes: Vec<u8>) -> anyhow::Result<()> {
        let identity = if self.args.identity.is_empty() {
            Ok(self.run_id.identity(number))
        } else {
            identity::from_json(&self.args.identity, &bytes)
        };
        let entry = entry_of(bytes, self.args.digest);
        match entry.and_then(|entry| Ok((entry, identity?))) {
            Ok((entry, identity)) => {
                self.bytes += entry.len();
                self.batch.push(Pending { label, entry: entry.into(), identity: identity.into() });
                Ok(())
            }
            Err(problem) => self.refuse(&label, &problem),
        }
    }

    fn is_full(&self) -> bool {
        self.batch.len() == BATCH_ENTRIES_MAX || self.bytes + ENTRY_BYTES_MAX > BATCH_ENTRY_BYTES_MAX
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let new_entry = |p: &Pending| NewEntry { bytes: p.entry.clone(), identity: p.identity.clone().into() };
        let answers = self.client.append_batch(batch.iter().map(new_entry).collect()).await;
        let answers = answers.map_err(connect::failed).with_context(|| self.how_to_go_on())?;
        for (pending, answer) in batch.iter().zip(answers) {
            match answer {
                Ok(appended) => self.accept(&pending.label, &appended)?,
                Err(refused) => self.refuse(&pending.label, &refused.message)?,
            }
        }
        Ok(())
    }

    fn accept(&mut self, label: &str, appended: &Appended) -> anyhow::Result<()> {
        let index = appended.index.0;
        if appended.duplicate {
            self.tally.duplicates += 1;
        } else {
            self.tally.new += 1;
            let (low, high) = self.tally.indices.unwrap_or((index, index));
            self.tally.indices = Some((low.min(index), high.max(index)));
        }
        if let Some(directory) = &self.args.receipts {
            files::write(&directory.join(format!("{label}.tlog-proof")), &appended.receipt.to_bytes())?;
        }
        if self.args.connect.json {
            let (size, root) = (appended.head.head.size.0, output::base64(appended.head.head.root));
            let duplicate = appended.duplicate;
            output::json(&json!({
                self.label_name(): self.label_json(label), "index": index, "duplicate": duplicate, "size": size, "root": root,
            }))?;
        }
        Ok(())
    }

    fn refuse(&mut self, label: &str, problem: &str) -> anyhow::Result<()> {
        self.tally.refused += 1;
        let problem = output::printable(problem);
        self.bar.suspend(|| eprintln!("logwood: {} {label}: {problem}", self.label_name()));
        if self.args.connect.json {
            output::json(&json!({ self.label_name(): self.label_json(label), "error": problem }))?;
        }
        Ok(())
    }

    fn label_name(&self) -> &'static str {
        if self.args.whole { "file" } else { "line" }
    }

    /// A line's number is a number.
    fn label_json(&self, label: &str) -> serde_json::Value {
        let number = label.parse::<u64>().ok().filter(|_| !self.args.whole);
        number.map_or_else(|| json!(label), |number| json!(number))
    }

    fn how_to_go_on(&self) -> String {
        if self.args.identity.is_empty() {
            format!("interrupted; go on with --resume {}", self.run_id)
        } else {
            "interrupted; run the same command again, nothing is appended twice".into()
        }
    }

    /// Shows that a published head extends the heads of all receipts, those of earlier runs included.
    async fn settle(&self) -> anyhow::Result<()> {
        let unsettled = self.client.unsettled();
        if self.args.settle_within == 0 {
            if unsettled > 0 {
                eprintln!("logwood: not settled, as told; settle later with `logwood prove --settle`");
            }
            return Ok(());
        }
        let within = Duration::from_secs(self.args.settle_within);
        let level = self.client.least_level().max(HeadLevel::Published);
        let Some(head) = prove::settle(&self.client, level, within).await? else {
            return Ok(());
        };
        let sentence = prove::settled_sentence(&head);
        if self.args.connect.json {
            eprintln!("logwood: {sentence}");
            Ok(())
        } else {
            output::line(&sentence)
        }
    }

    fn summary(&self) -> anyhow::Result<()> {
        let Tally { new, duplicates, refused, indices } = &self.tally;
        let place = indices.map(|(low, high)| format!(", at indices {low} to {high}")).unwrap_or_default();
        let text = format!("{new} appended{place}; {duplicates} were there already; {refused} refused");
        if self.args.connect.json {
            eprintln!("logwood: {text}");
            Ok(())
        } else {
            output::line(&text)
        }
    }
}
