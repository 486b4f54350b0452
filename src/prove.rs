//! `logwood prove`: inclusion of an entry, consistency with a head of old, a new head for a receipt, settling.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use logwood_client::{Client, VerifiedHead, Which};
use logwood_merkle::{Hash, LeafIndex, TreeHead};
use logwood_note::entries::ENTRY_BYTES_MAX;
use logwood_note::note::NOTE_BYTES_MAX;
use logwood_note::receipt::RECEIPT_BYTES_MAX;
use logwood_note::{Checkpoint, Receipt};
use logwood_proto::v1::HeadLevel;
use serde_json::json;

use crate::connect::{self, ConnectArgs, LevelArgs};
use crate::failure::{Usage, VerificationFailed};
use crate::{files, output, progress};

/// Longest wait for a published head, in seconds: a day.
const SETTLE_SECONDS_MAX: u64 = 86_400;

/// Shown by `--help`.
const EXAMPLES: &str = "\
Examples:
  logwood prove 0 --out 0.tlog-proof
      The receipt of entry 0, for `logwood verify`.
  logwood get 0 > event; logwood prove --entry event --out event.tlog-proof
      Is this event in the log, byte for byte? Exit status 1 if not. A newline at its end is a byte, too.
  logwood prove --refresh 0.tlog-proof --published --out 0.tlog-proof
      Replaces a receipt by one under a published head. With --policy FILE instead of --published: under one that the
      policy's witnesses have cosigned.
  logwood head --published --raw > checkpoint.kept; logwood prove --since checkpoint.kept
      Has the log only grown since? Exit status 3 if what was there was changed.
  logwood prove --settle
      What `logwood append --settle-within 0` has left to do.
";

/// Fetches a proof, verifies it, and prints it: that an entry is in the log, or that the log only grew.
///
/// A receipt is printed as it is kept (C2SP tlog-proof), a consistency proof as a sentence and base64 hashes.
///
/// Exit status 0 if it is proved; 1 if there is no such entry, or no answer or head in time; 2 for wrong usage; 3 if
/// something does not verify: the receipt or checkpoint that is given, or the server's answer.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ProveArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    level: LevelArgs,
    /// Writes the receipt to FILE instead of standard output, whole or not at all. May be the old receipt's.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "settle"])]
    out: Option<PathBuf>,
    /// With --settle: how long to wait for a published head.
    #[arg(long, value_name = "SECONDS", default_value = "10", requires = "settle", value_parser = settle_seconds())]
    settle_within: u64,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Index of an entry, from 0: prints its receipt under the latest head.
    index: Option<u64>,
    /// An entry, byte for byte as it was appended: shows that it is in the log, and prints its receipt.
    #[arg(long, value_name = "FILE")]
    entry: Option<PathBuf>,
    /// A receipt: shows that its head and the latest are of one history, and prints the same entry's receipt there.
    #[arg(long, value_name = "RECEIPT")]
    refresh: Option<PathBuf>,
    /// A checkpoint: shows that the log's latest head extends it, and prints the consistency proof.
    #[arg(long, value_name = "CHECKPOINT")]
    since: Option<PathBuf>,
    /// Shows that a published head extends the heads of all receipts that earlier commands left unsettled in the
    /// client's state.
    #[arg(long)]
    settle: bool,
}

/// Runs the subcommand.
///
/// # Errors
///
/// [`VerificationFailed`] if receipt, checkpoint or the server's answer does not verify; the others as
/// [`connect::failed`] sorts them.
pub(crate) async fn run(args: ProveArgs) -> anyhow::Result<ExitCode> {
    let What { index, entry, refresh: old, since: checkpoint, settle: _ } = &args.what;
    // What is wrong with a file is told before the server is asked.
    if let Some(index) = index {
        let client = args.connect.connect().await?;
        let found = client.entry(Which::Index(LeafIndex(*index)), args.level.level(&client)).await;
        let found = found.map_err(connect::failed)?;
        print_receipt(&args, &found.receipt, &found.head)?;
    } else if let Some(path) = entry {
        let (receipt, head) = find(path, &args).await?;
        print_receipt(&args, &receipt, &head)?;
    } else if let Some(path) = old {
        let (receipt, head) = refresh(path, &args).await?;
        print_receipt(&args, &receipt, &head)?;
    } else if let Some(path) = checkpoint {
        since(path, &args).await?;
    } else {
        let client = args.connect.connect().await?;
        let level = args.level.level(&client).max(HeadLevel::Published);
        let settled = settle(&client, level, Duration::from_secs(args.settle_within)).await?;
        match settled {
            Some(head) if args.connect.json => output::json(&connect::head_json(&head)?)?,
            Some(head) => output::line(&settled_sentence(&head))?,
            None if args.connect.json => {}
            None => output::line("nothing is unsettled")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The values of `--settle-within`.
pub(crate) fn settle_seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=SETTLE_SECONDS_MAX)
}

/// Settles all receipts in the client's state, with something to look at meanwhile.
pub(crate) async fn settle(
    client: &Client,
    level: HeadLevel,
    within: Duration,
) -> anyhow::Result<Option<VerifiedHead>> {
    let bar = progress::waiting("waiting for a published head");
    let settled = client.settle(level, within).await.map_err(connect::failed);
    bar.finish_and_clear();
    settled.context("settle later with `logwood prove --settle`")
}

/// What settling has shown.
pub(crate) fn settled_sentence(head: &VerifiedHead) -> String {
    format!("settled: the {} head of size {} extends every receipt", connect::level(head.level), head.head.size)
}

async fn find(path: &Path, args: &ProveArgs) -> anyhow::Result<(Receipt, VerifiedHead)> {
    let entry = files::read(path, ENTRY_BYTES_MAX)?;
    if entry.is_empty() || entry.len() > ENTRY_BYTES_MAX {
        let problem = format!("{} has not 1 to {ENTRY_BYTES_MAX} bytes, so no log holds it", path.display());
        return Err(Usage { problem }.into());
    }
    let client = args.connect.connect().await?;
    let leaf = Hash::leaf(&entry);
    match args.level.level(&client) {
        HeadLevel::Unspecified => client.receipt(leaf, None).await.map_err(connect::failed),
        level => {
            let found = client.entry(Which::Leaf(leaf), level).await.map_err(connect::failed)?;
            Ok((found.receipt, found.head))
        }
    }
}

/// The receipt of the same entry under another head, which is of one history with the old receipt's.
async fn refresh(path: &Path, args: &ProveArgs) -> anyhow::Result<(Receipt, VerifiedHead)> {
    let refused = |error: &(dyn std::error::Error + 'static)| VerificationFailed::new(error);
    let old = Receipt::parse(&files::read(path, RECEIPT_BYTES_MAX)?).map_err(|error| refused(&error))?;
    let client = args.connect.connect().await?;
    let found = client.entry(Which::Index(old.index), args.level.level(&client)).await.map_err(connect::failed)?;
    let checkpoint = old.verify(&found.bytes, client.key(), None).map_err(|error| refused(&error))?;
    let (one, other) = (checkpoint.head, found.head.head);
    let (older, newer) = if one.size <= other.size { (one, other) } else { (other, one) };
    client.consistency_of(&older, &newer).await.map_err(connect::failed)?;
    if newer != other && args.level.level(&client) == HeadLevel::Unspecified {
        return Err(behind(&newer, &older));
    }
    Ok((Receipt { extra: old.extra, ..found.receipt }, found.head))
}

async fn since(path: &Path, args: &ProveArgs) -> anyhow::Result<()> {
    let note = files::read(path, NOTE_BYTES_MAX)?;
    let client = args.connect.connect().await?;
    let old = Checkpoint::open(&note, client.key(), None).map_err(|error| VerificationFailed::new(&error))?;
    let head = client.head_of_level(args.level.level(&client)).await.map_err(connect::failed)?;
    if old.head.size > head.head.size {
        return Err(behind(&old.head, &head.head));
    }
    let proof = client.consistency_of(&old.head, &head.head).await.map_err(connect::failed)?;
    if args.connect.json {
        let proof: Vec<String> = proof.iter().map(output::base64).collect();
        let mut value = connect::head_json(&head)?;
        value["old_size"] = json!(old.head.size.0);
        value["consistency"] = json!(proof);
        return output::json(&value);
    }
    output::line(&format!(
        "verified: {} only grew from size {} to {}; nothing before was changed",
        head.origin, old.head.size, head.head.size
    ))?;
    proof.iter().try_for_each(|hash| output::line(&output::base64(hash)))
}

fn behind(file: &TreeHead, server: &TreeHead) -> anyhow::Error {
    anyhow::anyhow!(
        "the server's head has size {}, less than the {} of the file: ask again, or ask its operator",
        server.size,
        file.size
    )
}

fn print_receipt(args: &ProveArgs, receipt: &Receipt, head: &VerifiedHead) -> anyhow::Result<()> {
    if let Some(path) = &args.out {
        files::write_synced(path, &receipt.to_bytes())?;
    }
    if args.connect.json {
        let proof: Vec<String> = receipt.proof.iter().map(output::base64).collect();
        let mut value = connect::head_json(head)?;
        value["index"] = json!(receipt.index.0);
        value["inclusion"] = json!(proof);
        output::json(&value)
    } else if args.out.is_none() {
        output::bytes(&receipt.to_bytes())
    } else {
        Ok(())
    }
}
