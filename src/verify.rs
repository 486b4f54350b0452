//! `logwood verify`: judges receipts and exported ranges with no network and no server.
//!
//! A file that cannot be read is exit 1, a bad `--vkey` 2; a malformed file, or a check that fails, 3.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use logwood_merkle::Hash;
use logwood_note::entries::ENTRY_BYTES_MAX;
use logwood_note::range_file::RANGE_FILE_BYTES_MAX;
use logwood_note::receipt::RECEIPT_BYTES_MAX;
use logwood_note::{Checkpoint, EntriesError, EntryReader, RangeFile, Receipt, VerifierKey};
use serde_json::{Value, json};

use crate::failure::VerificationFailed;
use crate::{files, output};

/// Name of the proof in an exported directory.
pub(crate) const RANGE_PROOF_FILE: &str = "proof.logwood-range";
/// Name of the entries beside it.
pub(crate) const RANGE_ENTRIES_FILE: &str = "entries";

/// Checks a receipt, or an exported range, offline. Exit status 0 only if it verifies.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The log's verifier key, from somewhere you trust: never from what is being judged.
    #[arg(long, env = "LOGWOOD_VKEY", value_name = "VKEY")]
    vkey: VerifierKey,
    /// The log's origin, where it differs from the name of its key.
    #[arg(long)]
    origin: Option<String>,
    /// A directory that `logwood export` wrote, instead of a receipt.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["receipt", "entry"])]
    range: Option<PathBuf>,
    /// The receipt, a `.tlog-proof` file.
    #[arg(required_unless_present = "range", requires = "entry")]
    receipt: Option<PathBuf>,
    /// The entry, byte for byte as it was appended (a line without its newline).
    entry: Option<PathBuf>,
    /// One JSON object instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// What was shown: which entries, under which head.
struct Verdict {
    sentence: String,
    checkpoint: Checkpoint,
    extra: Value,
}

/// Runs the subcommand.
///
/// # Errors
///
/// [`VerificationFailed`], with the check that failed; anything else if a file cannot be read.
pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let verdict = match (&args.range, &args.receipt, &args.entry) {
        (Some(directory), ..) => verify_range(directory, args),
        (None, Some(receipt), Some(entry)) => verify_receipt(receipt, entry, args),
        _ => unreachable!("clap demands a range, or a receipt and an entry"),
    };
    let verdict = verdict.inspect_err(|error| {
        if args.json
            && let Some(failed) = error.downcast_ref::<VerificationFailed>()
        {
            // The exit status tells the same, should standard output be closed.
            let _ = output::json(&json!({ "verified": false, "reason": failed.reason }));
        }
    })?;
    if args.json {
        let mut value = verdict.extra;
        value["verified"] = json!(true);
        value["origin"] = json!(verdict.checkpoint.origin);
        value["size"] = json!(verdict.checkpoint.head.size.0);
        value["root"] = json!(output::base64(verdict.checkpoint.head.root));
        output::json(&value)?;
    } else {
        output::line(&verdict.sentence)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify_receipt(receipt: &Path, entry: &Path, args: &VerifyArgs) -> anyhow::Result<Verdict> {
    let receipt = files::read(receipt, RECEIPT_BYTES_MAX)?;
    let entry = files::read(entry, ENTRY_BYTES_MAX)?;
    if entry.len() > ENTRY_BYTES_MAX {
        let reason = format!("the entry has more than {ENTRY_BYTES_MAX} bytes, so no log holds it");
        return Err(VerificationFailed { reason }.into());
    }
    let receipt = Receipt::parse(&receipt).map_err(|error| VerificationFailed::new(&error))?;
    let checkpoint =
        receipt.verify(&entry, &args.vkey, args.origin.as_deref()).map_err(|error| VerificationFailed::new(&error))?;
    let sentence = format!(
        "verified: the entry is number {} of {}, under its signed head of size {}",
        receipt.index, checkpoint.origin, checkpoint.head.size
    );
    Ok(Verdict { sentence, checkpoint, extra: json!({ "index": receipt.index.0 }) })
}

fn verify_range(directory: &Path, args: &VerifyArgs) -> anyhow::Result<Verdict> {
    let proof = files::read(&directory.join(RANGE_PROOF_FILE), RANGE_FILE_BYTES_MAX)?;
    let proof = RangeFile::parse(&proof).map_err(|error| VerificationFailed::new(&error))?;
    let leaves = read_leaves(&directory.join(RANGE_ENTRIES_FILE))?;
    let checkpoint =
        proof.verify(&leaves, &args.vkey, args.origin.as_deref()).map_err(|error| VerificationFailed::new(&error))?;
    let (first, end) = (proof.range.start, proof.range.end);
    let sentence = format!(
        "verified: these are all the entries {first} to {} of {}, under its signed head of size {}",
        end - 1,
        checkpoint.origin,
        checkpoint.head.size
    );
    Ok(Verdict { sentence, checkpoint, extra: json!({ "first": first, "end": end }) })
}

/// The leaf hash of every entry in the file at `path`.
fn read_leaves(path: &Path) -> anyhow::Result<Vec<Hash>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let mut leaves = Vec::new();
    for entry in EntryReader::new(BufReader::new(file)) {
        match entry {
            Ok(entry) => leaves.push(Hash::leaf(&entry)),
            Err(error @ EntriesError::Io { .. }) => return Err(anyhow::Error::new(error).context(cannot())),
            Err(error) => return Err(VerificationFailed::new(&error).into()),
        }
    }
    Ok(leaves)
}
