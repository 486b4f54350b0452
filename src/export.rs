//! `logwood export`: a contiguous range of entries with the proof that it is complete.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use logwood_merkle::Hash;
use logwood_note::{EntriesError, RangeFile, push_entry};
use serde_json::json;

use crate::connect::{self, ConnectArgs};
use crate::failure::VerificationFailed;
use crate::verify::{RANGE_ENTRIES_FILE, RANGE_PROOF_FILE};
use crate::{files, output};

/// Writes a range of entries and its proof, for `logwood verify --range DIR`.
#[derive(Debug, Args)]
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
/// [`VerificationFailed`] if entries and proof do not belong together; the others as [`connect::failed`] sorts them.
pub(crate) async fn run(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let client = args.connect.connect().await?;
    let (first, end) = (args.range.start, args.range.end);
    let (mut entries, mut leaves) = (Vec::new(), Vec::new());
    let mut framed: Result<(), EntriesError> = Ok(());
    let keep = |_, entry: bytes::Bytes| {
        leaves.push(Hash::leaf(&entry));
        if framed.is_ok() {
            framed = push_entry(&entry, &mut entries);
        }
    };
    let (proof, head) = client.export_range(first, end, keep).await.map_err(connect::failed)?;
    framed?;

    let file = RangeFile { range: args.range, left: proof.left, right: proof.right, checkpoint: head.note.to_vec() };
    file.verify(&leaves, client.key(), Some(&head.origin)).map_err(|error| VerificationFailed::new(&error))?;
    files::make_directory(&args.out)?;
    files::write(&args.out.join(RANGE_ENTRIES_FILE), &entries)?;
    files::write(&args.out.join(RANGE_PROOF_FILE), &file.to_bytes())?;
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
