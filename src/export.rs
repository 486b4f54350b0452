//! `logwood export`: a contiguous range of entries with the proof that it is complete.

use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use logwood_client::Until;
use logwood_merkle::{Hash, LeafIndex};
use logwood_note::{RangeFile, push_entry};
use serde_json::json;

use crate::connect::{self, ConnectArgs};
use crate::verify::{RANGE_ENTRIES_FILE, RANGE_PROOF_FILE};
use crate::{files, output, progress};

/// Shown by `--help`.
const EXAMPLES: &str = "\
Example:
  logwood export --range 0..3 --out range && logwood verify --vkey KEY --range range
      The first three entries, 0 to 2. KEY is the log's verifier key, from somebody whom you trust.
";

/// Writes a range of entries and the proof that these are all, for `logwood verify --range DIR`.
///
/// DIR gets `entries`, each entry after its length (big-endian uint16), and `proof.logwood-range`, which holds the head's
/// checkpoint. Needs 32 bytes of memory an entry.
///
/// Exit status 0 if it is written and verified; 1 if the range is beyond the head, the server is not reached, or DIR cannot
/// be written; 2 for wrong usage; 3 if what the server answered does not verify.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// The entries from A up to, not including, B.
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    range: Range<u64>,
    /// The directory to write to; made if need be.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the subcommand.
///
/// # Errors
///
/// [`crate::failure::VerificationFailed`] if entries and proof do not belong together; the others as
/// [`connect::failed`] sorts them.
pub(crate) async fn run(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let client = args.connect.connect().await?;
    files::make_directory(&args.out)?;
    let (first, end) = (args.range.start, args.range.end);
    let mut file = files::NewFile::create(&args.out.join(RANGE_ENTRIES_FILE))?;
    let bar = progress::of_count("entries", end - first);
    let mut leaves = Vec::new();
    let mut entries = client.entries(LeafIndex(first), Until::Index(end));
    while let Some(chunk) = entries.next().await.map_err(connect::failed)? {
        let mut framed = Vec::new();
        for entry in &chunk.entries {
            leaves.push(Hash::leaf(entry));
            push_entry(entry, &mut framed)?;
        }
        file.write_all(&framed).with_context(|| format!("cannot write to {}", args.out.display()))?;
        bar.set_position(leaves.len() as u64);
    }
    bar.finish_and_clear();
    let (proof, head) =
        client.range_proof(LeafIndex(first), &leaves, client.least_level()).await.map_err(connect::failed)?;
    let proof = RangeFile { range: args.range, left: proof.left, right: proof.right, checkpoint: head.note.to_vec() };
    file.finish()?;
    files::write_synced(&args.out.join(RANGE_PROOF_FILE), &proof.to_bytes())?;
    if args.connect.json {
        let mut value = connect::head_json(&head)?;
        value["first"] = json!(first);
        value["end"] = json!(end);
        output::json(&value)?;
    } else {
        output::line(&format!(
            "{} entries and their proof are in {}; check them with `logwood verify --vkey {} --range {}`",
            end - first,
            args.out.display(),
            client.key(),
            args.out.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let expected = || "expected A..B with A < B, both decimal".to_owned();
    let (first, end) = text.split_once("..").ok_or_else(expected)?;
    let range = first.parse().map_err(|_| expected())?..end.parse().map_err(|_| expected())?;
    if range.is_empty() { Err(expected()) } else { Ok(range) }
}
