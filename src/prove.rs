//! `logwood prove`: inclusion of an entry, consistency with a head of old, a fresh head for a receipt.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use logwood_client::{Client, VerifiedHead};
use logwood_merkle::{Hash, LeafIndex, TreeHead, verify};
use logwood_note::note::NOTE_BYTES_MAX;
use logwood_note::receipt::RECEIPT_BYTES_MAX;
use logwood_note::{Checkpoint, Receipt};
use serde_json::json;

use crate::connect::{self, ConnectArgs};
use crate::failure::VerificationFailed;
use crate::{files, output};

/// Fetches a proof, verifies it, and prints it.
#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    what: What,
    /// Writes the receipt to FILE instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Index of the entry, from 0: prints its receipt under the latest head.
    index: Option<u64>,
    /// A receipt: shows that its head is consistent with the latest one, and prints the same entry's receipt there.
    #[arg(long, value_name = "RECEIPT")]
    refresh: Option<PathBuf>,
    /// A checkpoint: shows that the log's latest head extends it, and prints the consistency proof.
    #[arg(long, value_name = "CHECKPOINT")]
    since: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
///
/// [`VerificationFailed`] if receipt, checkpoint or the server's answer does not verify; the others as
/// [`connect::failed`] sorts them.
pub(crate) async fn run(args: ProveArgs) -> anyhow::Result<ExitCode> {
    let client = args.connect.connect().await?;
    match (args.what.index, &args.what.refresh, &args.what.since) {
        (Some(index), ..) => {
            let (_, receipt, head) = client.get(LeafIndex(index)).await.map_err(connect::failed)?;
            print_receipt(&args, &receipt, &head)?;
        }
        (_, Some(path), _) => {
            let (receipt, head) = refresh(&client, path).await?;
            print_receipt(&args, &receipt, &head)?;
        }
        (.., Some(path)) => since(&client, path, &args).await?,
        _ => unreachable!("clap demands one of the three"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The receipt of the same entry under the latest head, which extends the old receipt's.
async fn refresh(client: &Client, path: &Path) -> anyhow::Result<(Receipt, VerifiedHead)> {
    let refused = |error: &(dyn std::error::Error + 'static)| VerificationFailed::new(error);
    let old = Receipt::parse(&files::read(path, RECEIPT_BYTES_MAX)?).map_err(|error| refused(&error))?;
    let (entry, receipt, head) = client.get(old.index).await.map_err(connect::failed)?;
    let checkpoint = old.verify(&entry, client.key(), None).map_err(|error| refused(&error))?;
    consistency(client, &checkpoint.head, &head).await?;
    Ok((receipt, head))
}

async fn since(client: &Client, path: &Path, args: &ProveArgs) -> anyhow::Result<()> {
    let note = files::read(path, NOTE_BYTES_MAX)?;
    let old = Checkpoint::open(&note, client.key(), None).map_err(|error| VerificationFailed::new(&error))?;
    let head = client.head().await.map_err(connect::failed)?;
    let proof = consistency(client, &old.head, &head).await?;
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

/// Shows that `new` extends `old`; the proof (RFC 6962 §2.1.2).
async fn consistency(client: &Client, old: &TreeHead, new: &VerifiedHead) -> anyhow::Result<Vec<Hash>> {
    if old.size > new.head.size {
        anyhow::bail!(
            "the server's head has size {}, less than the {} of the file: ask again, or ask its operator",
            new.head.size,
            old.size
        );
    }
    if old.size.0 == 0 {
        return Ok(Vec::new());
    }
    let proof = if old.size == new.head.size {
        Vec::new()
    } else {
        client.consistency(old.size, new.head.size).await.map_err(connect::failed)?
    };
    verify::consistency(old, &new.head, &proof).map_err(|error| VerificationFailed::new(&error))?;
    Ok(proof)
}

fn print_receipt(args: &ProveArgs, receipt: &Receipt, head: &VerifiedHead) -> anyhow::Result<()> {
    if let Some(path) = &args.out {
        files::write(path, &receipt.to_bytes())?;
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
