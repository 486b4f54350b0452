//! `logwood repair`: what a start refuses to do unasked.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use logwood_sequencer::LogTail;
use logwood_server::AnchoredHeads;
use logwood_store::{LogQuery, LogRecord, LogRound, LogState, LogStore as _, Round, StoredHead};
use logwood_store_rocksdb::{OpenError, Rebuilt, RocksStore, TornTail};
use serde_json::json;

use crate::{anchor, output, progress};

/// Repairs a data directory that does not open. The server must be stopped.
///
/// With --drop-torn-tail, a damaged last record of the write-ahead log is cut off, after a power cut perhaps: then it was
/// never acknowledged. It is refused if any record follows the damaged one, or if a log would fall behind the anchor,
/// since then what is damaged was on disk once. The write-ahead log as it was is kept in `db/torn`.
///
/// With --rebuild-index, the look-up index is made anew from the entries: as long as reading all their hashes takes. It
/// is refused if the index knows rounds that the store has not: then entries are gone that may have been acknowledged.
///
/// With --accept-loss it goes on without them, for want of a better copy of the data. The database as it was is kept in
/// `db/lost`, until you delete it. Every log is frozen, since it may have signed heads that it could contradict now:
/// `logwood logs thaw` opens it against the checkpoints that others hold.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line are bools")]
pub(crate) struct RepairArgs {
    /// Cut a damaged last record off the write-ahead log.
    #[arg(long, required_unless_present = "rebuild_index")]
    drop_torn_tail: bool,
    /// Make the look-up index anew.
    #[arg(long)]
    rebuild_index: bool,
    /// Go on without entries that are lost and may have been acknowledged.
    #[arg(long)]
    accept_loss: bool,
    /// The anchor [default: ANCHOR in the data directory].
    #[arg(long, value_name = "PATH", env = "LOGWOOD_ANCHOR")]
    anchor: Option<PathBuf>,
    /// One JSON object a repair on standard output.
    #[arg(long)]
    json: bool,
    /// The data directory.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Repairs what the arguments name.
pub(crate) fn run(args: &RepairArgs) -> anyhow::Result<ExitCode> {
    let db = args.dir.join("db");
    let mut index_is_due = args.rebuild_index;
    if args.drop_torn_tail {
        let dropped = drop_torn_tail(&db, &anchor::read(&args.dir, args.anchor.as_deref())?, args.accept_loss)?;
        report_dropped(args.json, &dropped)?;
        // What was cut off is in the index already, if it was damaged long after it was written.
        index_is_due |= matches!(RocksStore::open_read_only(&db), Err(OpenError::IndexAhead { .. }));
    }
    if index_is_due {
        let rebuilt = rebuild_index(&db, args.accept_loss)?;
        let lost = unfrozen(&db)?;
        let frozen = if lost.is_empty() { 0 } else { freeze_all(&db)? };
        for copy in lost {
            std::fs::write(copy.join(FROZEN), "").context("cannot note that the logs are frozen")?;
        }
        report_rebuilt(args.json, &rebuilt, frozen)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// In a copy under `db/lost`: the logs that lost entries by that repair are frozen. It is made last, so that a repair
/// that was interrupted goes on, and a server does not start in between.
const FROZEN: &str = "frozen";

/// The copies of repairs that accepted a loss and did not end.
pub(crate) fn unfrozen(db: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let copies = match std::fs::read_dir(db.join("lost")) {
        Ok(copies) => copies,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("cannot read db/lost"),
    };
    let mut unfrozen = Vec::new();
    for copy in copies {
        let path = copy.context("cannot read db/lost")?.path();
        if path.is_dir() && !path.join(FROZEN).exists() {
            unfrozen.push(path);
        }
    }
    Ok(unfrozen)
}

/// Freezes every log that takes entries: it may have signed heads of entries that are gone. Answers how many.
fn freeze_all(db: &Path) -> anyhow::Result<usize> {
    /// Logs of one round.
    const LOGS_MAX: usize = 256;
    let store = RocksStore::open(db)?;
    let (mut name, mut frozen) = (String::new(), 0);
    loop {
        let page = store.logs(LogQuery::After { name: &name, logs_max: LOGS_MAX })?;
        let Some(last) = page.last() else { return Ok(frozen) };
        name.clone_from(&last.settings.name);
        let active = page.iter().filter(|record| record.state == LogState::Active);
        let freeze = |record: &LogRecord| LogRound { state: Some(LogState::Frozen), ..LogRound::new(record.number) };
        let mut logs: Vec<_> = active.map(freeze).collect();
        logs.sort_by_key(|log| log.log);
        frozen += logs.len();
        if !logs.is_empty() {
            store.commit(&Round { number: store.state()?.round.next(), logs })?;
        }
    }
}

/// What was cut off.
pub(crate) struct Dropped {
    /// Bytes of the write-ahead log.
    pub(crate) bytes: u64,
    /// The last round that is left.
    pub(crate) round: u64,
    /// Where the write-ahead log is kept as it was.
    pub(crate) copy: PathBuf,
}

/// Cuts a damaged last record off, if no log falls behind the anchor by that.
///
/// * `accept_loss` - also if the look-up index holds what is cut off, so that it was on disk once.
pub(crate) fn drop_torn_tail(db: &Path, anchored: &AnchoredHeads, accept_loss: bool) -> anyhow::Result<Dropped> {
    let torn = TornTail::find(db)?;
    let scratch = tempfile::tempdir_in(db).context("cannot make a directory to try the repair in")?;
    let preview = torn.preview(scratch.path())?;
    if !accept_loss && let Err(error @ OpenError::IndexAhead { .. }) = preview.check_index() {
        return Err(anyhow::Error::new(error).context(format!("the damaged record was whole once: {REFUSED}")));
    }
    for (name, anchored_size) in anchored.sizes() {
        let Some(record) = preview.logs(LogQuery::Name(name))?.pop() else {
            bail!("without the damaged record the log `{name}` is gone, which the anchor knows: {REFUSED}");
        };
        let left = record.head.head.size;
        if left < anchored_size {
            bail!(
                "without the damaged record the log `{name}` has {left} entries, the anchor has {anchored_size}: \
                 {REFUSED}"
            );
        }
        // Loading the log as it was then compares the root of its entries with the anchor's.
        let Some(&head) = anchored.heads.get(name) else { continue };
        let then = LogRecord { head: StoredHead { head, ..record.head }, ..record };
        LogTail::load(&preview, &then).with_context(|| format!("the log `{name}` is not the anchor's: {REFUSED}"))?;
    }
    let round = preview.state()?.round.0;
    preview.close();
    let bytes = torn.dropped_bytes();
    Ok(Dropped { bytes, round, copy: torn.cut()? })
}

const REFUSED: &str = "nothing was changed; restore the data from a backup";

fn report_dropped(as_json: bool, dropped: &Dropped) -> anyhow::Result<()> {
    let Dropped { bytes, round, copy } = dropped;
    if as_json {
        let copy = copy.display().to_string();
        return output::json(&json!({ "repair": "drop-torn-tail", "bytes": bytes, "round": round, "copy": copy }));
    }
    output::line(&format!(
        "a damaged record of {bytes} bytes was cut off the write-ahead log; round {round} is the last one; \
         the write-ahead log as it was is {}",
        copy.display()
    ))
}

fn rebuild_index(db: &Path, accept_loss: bool) -> anyhow::Result<Rebuilt> {
    let progress = progress::of_count("indexing", 0);
    let rebuilt = RocksStore::rebuild_index(db, accept_loss, &mut |done, total| {
        progress.set_length(total);
        progress.set_position(done);
    })?;
    progress.finish_and_clear();
    Ok(rebuilt)
}

fn report_rebuilt(as_json: bool, rebuilt: &Rebuilt, frozen: usize) -> anyhow::Result<()> {
    let Rebuilt { entries, evidence } = rebuilt;
    let kept = evidence.as_ref().map(|path| path.display().to_string());
    if as_json {
        return output::json(&json!({
            "repair": "rebuild-index", "entries": entries, "evidence": kept, "frozen": frozen,
        }));
    }
    output::line(&format!("the look-up index of {entries} entries was made anew"))?;
    if let Some(kept) = kept {
        output::line(&format!(
            "entries that may have been acknowledged are lost: {frozen} logs were frozen, and the database as it was is \
             {kept}; ask for the newest checkpoints that others hold before `logwood logs thaw` opens a log"
        ))?;
    }
    Ok(())
}
