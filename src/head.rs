//! `logwood head`: the log's latest head, verified against the last one that was seen.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::connect::{self, ConnectArgs};
use crate::{files, output};

/// Prints the log's latest head: signature checked, and consistent with the last one seen from here.
#[derive(Debug, Args)]
pub(crate) struct HeadArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Also writes the checkpoint, the signed note verbatim, to FILE: keep it elsewhere.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
///
/// As [`connect::failed`] sorts them.
pub(crate) async fn run(args: HeadArgs) -> anyhow::Result<ExitCode> {
    let head = args.connect.connect().await?.head().await.map_err(connect::failed)?;
    if let Some(path) = &args.out {
        files::write(path, &head.note)?;
    }
    if args.connect.json {
        output::json(&connect::head_json(&head)?)?;
    } else {
        output::line(&format!("origin {}", head.origin))?;
        output::line(&format!("size   {}", head.head.size))?;
        output::line(&format!("root   {}", output::base64(head.head.root)))?;
        output::line(&format!("level  {}", connect::level(head.level)))?;
        if let Some(time) = connect::time(head.time_ms)? {
            output::line(&format!("time   {time}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
