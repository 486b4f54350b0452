//! `logwood head`: the log's latest head, verified against the last one that was seen.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::connect::{self, ConnectArgs, LevelArgs};
use crate::{files, output};

/// Shown by `--help`.
const EXAMPLES: &str = "\
Examples:
  logwood head
      What this machine, if it asked before, has not seen change except by growing.
  logwood head --published --raw > checkpoint.kept
      Keep it elsewhere: `logwood prove --since` and `logwood fsck --checkpoint` judge the log by it.
  logwood head --policy policy
      The newest head that the policy's witnesses have cosigned, if it has a quorum of them.
";

/// Prints the log's latest head: signature checked, and consistent with the last one seen from here.
///
/// The level is what the head has reached: `signed` (a promise to whom it was shown), `published` (so the server says: it
/// is in the history that everybody is shown), or `witnessed` (its cosignatures satisfy --policy). The time is the log's
/// own clock.
///
/// Exit status 0 if it verifies; 1 if there is no answer or no head of that level, and if it is smaller than the last one
/// seen, which by itself proves nothing; 2 for wrong usage; 3 if it does not extend the last one seen, is not signed by the
/// log's key, or does not satisfy the policy.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct HeadArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    level: LevelArgs,
    /// Prints the checkpoint, the signed note verbatim.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
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
    let client = args.connect.connect().await?;
    let head = client.head_of_level(args.level.level(&client)).await.map_err(connect::failed)?;
    if let Some(path) = &args.out {
        files::write_synced(path, &head.note)?;
    }
    if args.connect.json {
        output::json(&connect::head_json(&head)?)?;
    } else if args.raw {
        output::bytes(&head.note)?;
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
