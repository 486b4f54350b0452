//! `logwood fsck`: re-derives everything from the entries, and says what first differs.

mod check;
mod remote;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;
use logwood_note::Checkpoint;
use logwood_note::note::NOTE_BYTES_MAX;
use logwood_server::AnchoredHeads;
use logwood_store::{LogQuery, LogRecord, LogStore};
use logwood_store_rocksdb::RocksStore;
use remote::RemoteArgs;
use reqwest::Url;
use serde_json::json;

use crate::failure::{Usage, VerificationFailed};
use crate::trust::TrustArgs;
use crate::{anchor, files, output};

/// Logs of one page.
const PAGE_LOGS: usize = 256;

/// Shown by `--help`.
const EXAMPLES: &str = "\
Examples:
  logwood fsck --vkey KEY logwood-data
      The data directory of a server that is stopped, as its operator.
  logwood fsck --vkey KEY --state audit.state https://log.example.com/logs/audit
      A log at a URL, as anybody: the next run checks what is new, and that nothing old was rewritten.
  logwood fsck --policy audit.policy --from 1000000 https://log.example.com/logs/audit
      Also the policy's witnesses must have cosigned the checkpoint. The log has announced that it pruned its first million
      entries.
";

/// Re-derives every leaf hash, tile, root and look-up row of a data directory from its entries, and checks every
/// stored head with its signature. The server must be stopped. Every log is compared with the anchor: a store behind it
/// is an old copy. Each log whose key is given with --vkey is judged, and each key must be that of a log that is there.
///
/// With a URL instead, of any tlog-tiles log (as `http://127.0.0.1:7071/logs/default`), fetches all its entries and tiles
/// over HTTP, and checks them against its checkpoint, which needs the signature of one of the keys given, and with --policy
/// the quorum of its witnesses.
///
/// Exit status 3: something differs, is damaged or is not there, and the first difference is named; or the checkpoint does
/// not satisfy the policy. 1: the directory is missing, in use or cannot be read; the server cannot be asked; or
/// entries that --from demands are not there. First entries that are not there, and that nothing demands, are a warning: a
/// log may be pruned. A key found with the log itself
/// proves nothing, so there is none by default.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct FsckArgs {
    #[command(flatten)]
    trust: TrustArgs,
    /// A checkpoint that was kept elsewhere: the log must extend it. Repeatable.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The anchor, if the server was started with another one [default: ANCHOR in the data directory].
    #[arg(long, value_name = "PATH", env = "LOGWOOD_ANCHOR")]
    anchor: Option<PathBuf>,
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
    let policy = args.trust.policy_for(args.remote.origin.as_deref())?;
    let names = args.checkpoint.iter().map(|path| path.display().to_string());
    let kept: Vec<_> = names.zip(notes.iter().cloned()).collect();
    remote::run(&remote::Target { url, policy: &policy, kept: &kept }, &args.remote, args.json)
}

fn judge_directory(args: &FsckArgs, dir: &Path, notes: &[Vec<u8>]) -> anyhow::Result<ExitCode> {
    if args.remote.is_for_url() || args.trust.has_policy() {
        let problem = "--policy, --origin, --from and --state are for a log at a URL, and this is a directory".into();
        return Err(Usage { problem }.into());
    }
    let vkeys = args.trust.vkeys();
    let store = RocksStore::open_read_only(&dir.join("db")).map_err(|error| {
        if error.is_damage() { VerificationFailed::new(&error).into() } else { anyhow::Error::from(error) }
    })?;
    let anchored = anchor::read(dir, args.anchor.as_deref())?;
    check_anchor(&store, &anchored)?;
    let mut found = Found { keys: vec![false; vkeys.len()], notes: vec![false; notes.len()] };
    let mut name = String::new();
    loop {
        let page = store.logs(LogQuery::After { name: &name, logs_max: PAGE_LOGS }).map_err(check::read)?;
        let Some(last) = page.last() else { break };
        name.clone_from(&last.settings.name);
        for record in page {
            judge(args, &store, &record, (&anchored, notes, &mut found))?;
        }
    }
    if let Some(unused) = found.notes.iter().position(|found| !found) {
        let problem = format!("{} is a checkpoint of no log that was judged", args.checkpoint[unused].display());
        return Err(Usage { problem }.into());
    }
    if let Some(missing) = found.keys.iter().position(|found| !found) {
        let key = &vkeys[missing];
        let reason = format!("no log in {} has the key {key}: a log that was expected is not there", dir.display());
        return Err(VerificationFailed { reason }.into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Which of what was given belongs to a log that is there.
struct Found {
    keys: Vec<bool>,
    notes: Vec<bool>,
}

/// Whether the store has every log that the anchor knows, and is nowhere behind it.
fn check_anchor(store: &dyn LogStore, anchored: &AnchoredHeads) -> anyhow::Result<()> {
    for (name, size) in anchored.sizes() {
        let record = store.logs(LogQuery::Name(name)).map_err(check::read)?.pop();
        let reason = match record.map(|record| record.head.head.size) {
            None => format!("the anchor knows the log `{name}`, which is not there"),
            Some(own) if own < size => format!("log `{name}` has {own} entries, the anchor says {size}"),
            Some(_) => continue,
        };
        return Err(VerificationFailed { reason: format!("{reason}: this is an old copy, or entries are gone") }.into());
    }
    Ok(())
}

/// Judges one log, if one of the keys given is its key.
///
/// * `notes` - checkpoints that were kept elsewhere.
fn judge(
    args: &FsckArgs,
    store: &RocksStore,
    record: &LogRecord,
    (anchored, notes, found): (&AnchoredHeads, &[Vec<u8>], &mut Found),
) -> anyhow::Result<()> {
    let name = &record.settings.name;
    let vkeys = args.trust.vkeys();
    let Some(at) = vkeys.iter().position(|key| record.settings.vkeys.contains(&key.to_string())) else {
        eprintln!("logwood: log `{name}` is not judged: none of the keys given is its key");
        return Ok(());
    };
    let key = &vkeys[at];
    found.keys[at] = true;
    let mut kept: Vec<_> = anchored.heads.get(name).map(|head| (*head, "the anchor")).into_iter().collect();
    for (note, found) in notes.iter().zip(&mut found.notes) {
        let parsed = Checkpoint::parse_unverified(note).map_err(|error| VerificationFailed::new(&error))?;
        if parsed.origin == record.settings.origin {
            let checkpoint = Checkpoint::open(note, key, None).map_err(|error| VerificationFailed::new(&error))?;
            kept.push((checkpoint.head, "a checkpoint that was kept elsewhere"));
            *found = true;
        }
    }
    let summary = check::log(store, record, key, &kept).with_context(|| format!("log `{name}`"))?;
    report(args.json, record, &summary)
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
