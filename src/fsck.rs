//! `logwood fsck`: re-derives everything from the entries, and says what first differs.

mod check;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use logwood_note::{Checkpoint, VerifierKey};
use logwood_store::{LogQuery, LogRecord, LogStore};
use logwood_store_rocksdb::RocksStore;
use serde_json::json;

use crate::failure::{Usage, VerificationFailed};
use crate::output;

/// Logs of one page.
const PAGE_LOGS: usize = 256;

/// Re-derives every leaf hash, tile, root and look-up row of a data directory from its entries, and checks every
/// stored head with its signature. The server must be stopped.
///
/// Exit status 3: something differs, and the first difference is named. A key found in the directory itself proves
/// nothing, so --vkey is needed for each log that shall be judged.
#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// Verifier key of a log; repeatable. Logs of other keys are not judged.
    #[arg(long, value_name = "VKEY", required = true, env = "LOGWOOD_VKEY")]
    vkey: Vec<VerifierKey>,
    /// A checkpoint that was kept elsewhere: the log must extend it. Repeatable.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// One JSON object a log on standard output.
    #[arg(long)]
    json: bool,
    /// The data directory.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Judges the logs of a directory.
pub(crate) fn run(args: &FsckArgs) -> anyhow::Result<ExitCode> {
    let store = RocksStore::open_read_only(&args.dir.join("db"))?;
    let mut notes = Vec::new();
    for path in &args.checkpoint {
        notes.push(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let mut judged = 0;
    let mut used = vec![false; notes.len()];
    let mut name = String::new();
    loop {
        let page = store.logs(LogQuery::After { name: &name, logs_max: PAGE_LOGS }).map_err(check::read)?;
        let Some(last) = page.last() else { break };
        name.clone_from(&last.settings.name);
        for record in page {
            judged += u64::from(judge(args, &store, &record, (&notes, &mut used))?);
        }
    }
    if let Some(unused) = used.iter().position(|used| !used) {
        let problem = format!("{} is a checkpoint of no log that was judged", args.checkpoint[unused].display());
        return Err(Usage { problem }.into());
    }
    if judged == 0 {
        return Err(
            Usage { problem: "no log in the directory has one of the keys given: nothing was judged".into() }.into()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Judges one log, if one of the keys given is its key. Answers whether.
///
/// * `notes` - checkpoints that were kept elsewhere, and which of them were used.
fn judge(
    args: &FsckArgs,
    store: &RocksStore,
    record: &LogRecord,
    (notes, used): (&[Vec<u8>], &mut [bool]),
) -> anyhow::Result<bool> {
    let Some(key) = args.vkey.iter().find(|key| record.settings.vkeys.contains(&key.to_string())) else {
        eprintln!("logwood: log `{}` is not judged: none of the keys given is its key", record.settings.name);
        return Ok(false);
    };
    let mut kept = Vec::new();
    for (note, used) in notes.iter().zip(used) {
        let parsed = Checkpoint::parse_unverified(note).map_err(|error| VerificationFailed::new(&error))?;
        if parsed.origin == record.settings.origin {
            kept.push(Checkpoint::open(note, key, None).map_err(|error| VerificationFailed::new(&error))?.head);
            *used = true;
        }
    }
    let summary = check::log(store, record, key, &kept)?;
    report(args.json, record, &summary)?;
    Ok(true)
}

fn report(as_json: bool, record: &LogRecord, summary: &check::Summary) -> anyhow::Result<()> {
    let head = record.head.head;
    if as_json {
        return output::json(&json!({
            "log": record.settings.name,
            "origin": record.settings.origin,
            "size": head.size.0,
            "root": output::base64(head.root),
            "heads": summary.heads,
            "tiles": summary.tiles,
            "identities": summary.identities,
        }));
    }
    output::line(&format!(
        "log `{}`: {} entries, {} tiles, {} published heads and {} identities are what the entries say; root {}",
        record.settings.name,
        head.size,
        summary.tiles,
        summary.heads,
        summary.identities,
        output::base64(head.root),
    ))
}
