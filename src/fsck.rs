//! `logwood fsck`: re-derives everything from the entries, and says what first differs.

mod check;
mod remote;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use logwood_note::note::NOTE_BYTES_MAX;
use logwood_note::{Checkpoint, VerifierKey};
use logwood_store::{LogQuery, LogRecord, LogStore};
use logwood_store_rocksdb::RocksStore;
use remote::RemoteArgs;
use reqwest::Url;
use serde_json::json;

use crate::failure::{Usage, VerificationFailed};
use crate::{files, output};

/// Logs of one page.
const PAGE_LOGS: usize = 256;

/// Re-derives every leaf hash, tile, root and look-up row of a data directory from its entries, and checks every
/// stored head with its signature. The server must be stopped.
///
/// With a URL instead, of any tlog-tiles log (as `http://127.0.0.1:7071/logs/default`), fetches all its entries and tiles
/// over HTTP, and checks them against its checkpoint. Entries that the log has pruned are not checked, and it says so.
///
/// Exit status 3: something differs, and the first difference is named. A key found with the log itself proves
/// nothing, so --vkey is needed for each log that shall be judged; one for a URL.
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
    #[command(flatten)]
    remote: RemoteArgs,
    /// The data directory, or the URL of a log.
    #[arg(value_name = "DIR|URL")]
    target: Target,
}

/// What is judged.
#[derive(Clone, Debug)]
enum Target {
    Directory(PathBuf),
    Remote(Url),
}

impl FromStr for Target {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match Url::parse(text) {
            Ok(url) if ["http", "https"].contains(&url.scheme()) => Self::Remote(url),
            _ => Self::Directory(text.into()),
        })
    }
}

/// Judges the logs of a directory, or the one at a URL.
pub(crate) fn run(args: &FsckArgs) -> anyhow::Result<ExitCode> {
    let mut notes = Vec::new();
    for path in &args.checkpoint {
        notes.push(files::read(path, NOTE_BYTES_MAX)?);
    }
    match &args.target {
        Target::Directory(dir) => judge_directory(args, dir, &notes),
        Target::Remote(url) => judge_remote(args, url, &notes),
    }
}

fn judge_remote(args: &FsckArgs, url: &Url, notes: &[Vec<u8>]) -> anyhow::Result<ExitCode> {
    let [key] = args.vkey.as_slice() else {
        return Err(Usage { problem: "one log is at a URL: give one --vkey".into() }.into());
    };
    let names = args.checkpoint.iter().map(|path| path.display().to_string());
    let kept: Vec<_> = names.zip(notes.iter().cloned()).collect();
    remote::run(&remote::Target { url, key, kept: &kept }, &args.remote, args.json)
}

fn judge_directory(args: &FsckArgs, dir: &Path, notes: &[Vec<u8>]) -> anyhow::Result<ExitCode> {
    if args.remote.is_for_url() {
        return Err(
            Usage { problem: "--origin and --state are for a log at a URL, and this is a directory".into() }.into()
        );
    }
    let store = RocksStore::open_read_only(&dir.join("db"))?;
    let mut judged = 0;
    let mut used = vec![false; notes.len()];
    let mut name = String::new();
    loop {
        let page = store.logs(LogQuery::After { name: &name, logs_max: PAGE_LOGS }).map_err(check::read)?;
        let Some(last) = page.last() else { break };
        name.clone_from(&last.settings.name);
        for record in page {
            judged += u64::from(judge(args, &store, &record, (notes, &mut used))?);
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
