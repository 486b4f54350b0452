//! `logwood get`: an entry, shown to be in the log.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use logwood_merkle::LeafIndex;

use crate::connect::{self, ConnectArgs};
use crate::{files, output};

/// Writes an entry's bytes to standard output, once its inclusion proof has verified.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Index of the entry, from 0.
    index: u64,
    /// Also writes the entry's receipt to FILE.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
///
/// As [`connect::failed`] sorts them.
pub(crate) async fn run(args: GetArgs) -> anyhow::Result<ExitCode> {
    let client = args.connect.connect().await?;
    let (entry, receipt, head) = client.get(LeafIndex(args.index)).await.map_err(connect::failed)?;
    if let Some(path) = &args.receipt {
        files::write(path, &receipt.to_bytes())?;
    }
    if args.connect.json {
        let mut value = connect::head_json(&head)?;
        value["index"] = receipt.index.0.into();
        value["entry"] = output::base64(&entry).into();
        output::json(&value)?;
    } else {
        output::bytes(&entry)?;
    }
    Ok(ExitCode::SUCCESS)
}
