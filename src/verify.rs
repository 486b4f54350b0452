//! `logwood verify`: judges receipts, exported ranges and evidence with no network and no server.
//!
//! A file that cannot be read is exit 1, a bad `--vkey` or policy 2; a malformed file, or a check that fails, 3.
//! Evidence is the other way round: 3 if it proves a fault, 1 if it proves nothing.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use logwood_merkle::Hash;
use logwood_note::entries::ENTRY_BYTES_MAX;
use logwood_note::evidence::EVIDENCE_BYTES_MAX;
use logwood_note::range_file::RANGE_FILE_BYTES_MAX;
use logwood_note::receipt::RECEIPT_BYTES_MAX;
use logwood_note::{Checkpoint, EntriesError, EntryReader, Evidence, Policy, RangeFile, Receipt};
use serde_json::{Value, json};

use crate::failure::VerificationFailed;
use crate::trust::TrustArgs;
use crate::{files, output, progress};

/// Name of the proof in an exported directory.
pub(crate) const RANGE_PROOF_FILE: &str = "proof.logwood-range";
/// Name of the entries beside it.
pub(crate) const RANGE_ENTRIES_FILE: &str = "entries";

/// Shown by `--help`.
const EXAMPLES: &str = "\
Examples:
  logwood verify --vkey KEY receipts/2.tlog-proof entry
      KEY is the log's verifier key, from somebody whom you trust. `logwood get 1 > entry` writes the entry as it was
      appended: the second line is entry 1.
  logwood verify --policy policy receipts/2.tlog-proof entry
      Also the policy's witnesses must have cosigned the receipt's head.
  logwood verify --vkey KEY --range range
      What `logwood export --range 0..3 --out range` wrote.
";

/// Checks a receipt or an exported range, or judges evidence, with no network and no server.
///
/// Exit status 0 only if it verifies; 1 if a file cannot be read; 2 for a bad key or policy; 3 if a check fails or the file
/// is malformed, and the message says which. With --evidence: 3 if it proves a fault, 1 if it proves nothing, never 0.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    trust: TrustArgs,
    /// The log's origin, where it differs from the name of its key.
    #[arg(long)]
    origin: Option<String>,
    /// A directory that `logwood export` wrote, instead of a receipt.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["receipt", "entry"])]
    range: Option<PathBuf>,
    /// An evidence file, instead of a receipt: exit status 3 if it proves that a holder of a key named broke its
    /// word, 1 if it proves nothing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["receipt", "entry", "range"])]
    evidence: Option<PathBuf>,
    /// The receipt, a `.tlog-proof` file.
    #[arg(required_unless_present_any = ["range", "evidence"], requires = "entry")]
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
    if let Some(path) = &args.evidence {
        return judge(path, args);
    }
    let policy = args.trust.policy_for(args.origin.as_deref())?;
    let verdict = match (&args.range, &args.receipt, &args.entry) {
        (Some(directory), ..) => verify_range(directory, &policy, args),
        (None, Some(receipt), Some(entry)) => verify_receipt(receipt, entry, &policy, args),
        _ => unreachable!("clap demands evidence, a range, or a receipt and an entry"),
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

fn verify_receipt(receipt: &Path, entry: &Path, policy: &Policy, args: &VerifyArgs) -> anyhow::Result<Verdict> {
    let receipt = files::read(receipt, RECEIPT_BYTES_MAX)?;
    let entry = files::read(entry, ENTRY_BYTES_MAX)?;
    if entry.len() > ENTRY_BYTES_MAX {
        let reason = format!("the entry has more than {ENTRY_BYTES_MAX} bytes, so no log holds it");
        return Err(VerificationFailed { reason }.into());
    }
    let receipt = Receipt::parse(&receipt).map_err(|error| VerificationFailed::new(&error))?;
    let checkpoint =
        receipt.verify(&entry, policy, args.origin.as_deref()).map_err(|error| VerificationFailed::new(&error))?;
    let sentence = format!(
        "verified: the entry is number {} of {}, under its {} head of size {}",
        receipt.index,
        checkpoint.origin,
        level(policy),
        checkpoint.head.size
    );
    Ok(Verdict { sentence, checkpoint, extra: json!({ "index": receipt.index.0 }) })
}

fn verify_range(directory: &Path, policy: &Policy, args: &VerifyArgs) -> anyhow::Result<Verdict> {
    let proof = files::read(&directory.join(RANGE_PROOF_FILE), RANGE_FILE_BYTES_MAX)?;
    let proof = RangeFile::parse(&proof).map_err(|error| VerificationFailed::new(&error))?;
    let leaves = read_leaves(&directory.join(RANGE_ENTRIES_FILE))?;
    let checkpoint =
        proof.verify(&leaves, policy, args.origin.as_deref()).map_err(|error| VerificationFailed::new(&error))?;
    let (first, end) = (proof.range.start, proof.range.end);
    let sentence = format!(
        "verified: these are all the entries {first} to {} of {}, under its {} head of size {}",
        end - 1,
        checkpoint.origin,
        level(policy),
        checkpoint.head.size
    );
    Ok(Verdict { sentence, checkpoint, extra: json!({ "first": first, "end": end }) })
}

/// The word for what vouches for a head.
fn level(policy: &Policy) -> &'static str {
    if policy.needs_witnesses() { "witnessed" } else { "signed" }
}

/// Judges evidence. Never exit status 0: either somebody broke a promise, or this file does not show it.
fn judge(path: &Path, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let keys = args.trust.keys()?;
    TrustArgs::check_origin(args.origin.as_deref(), &keys)?;
    let file = files::read(path, EVIDENCE_BYTES_MAX)?;
    let judged = Evidence::parse(&file).map_err(anyhow::Error::from).and_then(|evidence| {
        let proved = evidence.judge(&keys, args.origin.as_deref())?;
        Ok((evidence.kind(), proved))
    });
    match judged {
        Ok((kind, proved)) if args.json => {
            let (origin, sentence) = (&proved.origin, proved.to_string());
            let kind = kind.to_string();
            output::json(&json!({ "proved": true, "kind": kind, "origin": origin, "sentence": sentence }))?;
        }
        Ok((_, proved)) => output::line(&format!("proved: {proved}"))?,
        Err(error) => {
            if args.json {
                // The exit status tells the same, should standard output be closed.
                let _ = output::json(&json!({ "proved": false, "reason": format!("{error:#}") }));
            }
            return Err(error.context("this proves nothing"));
        }
    }
    Ok(ExitCode::from(VerificationFailed::EXIT_CODE))
}

/// The leaf hash of every entry in the file at `path`.
fn read_leaves(path: &Path) -> anyhow::Result<Vec<Hash>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let bar = progress::of_bytes("entries", file.metadata().ok().map(|metadata| metadata.len()));
    let mut leaves = Vec::new();
    for entry in EntryReader::new(BufReader::new(bar.wrap_read(file))) {
        match entry {
            Ok(entry) => leaves.push(Hash::leaf(&entry)),
            Err(error @ EntriesError::Io { .. }) => return Err(anyhow::Error::new(error).context(cannot())),
            Err(error) => return Err(VerificationFailed::new(&error).into()),
        }
    }
    bar.finish_and_clear();
    Ok(leaves)
}
