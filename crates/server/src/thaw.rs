//! Opening a log again: only if it extends everything that it is known to have signed.
//!
//! A restored log may have signed heads that its storage knows nothing of. Whoever opens it brings the checkpoints that
//! others hold; the anchor is asked as well. What nobody brings cannot be known. A log that lost its anchor is read-only
//! in the same way, and comes back in the same way: the anchor then knows the head that it goes on from.

use std::sync::Arc;

use bytes::Bytes;
use logwood_merkle::TreeHead;
use logwood_note::{Checkpoint, SignedNote, VerifierKey};
use logwood_proto::Reason;
use logwood_sequencer::LogView;
use logwood_store::{LogQuery, LogStore};
use tonic::Status;

use crate::core::{Core, load_tail};
use crate::registry::{LogHandle, UNSIGNED};
use crate::status;

/// Most checkpoints of one request.
const CHECKPOINTS_MAX: usize = 64;

/// Compares the stored log with the anchor and with every checkpoint in `notes`. Answers whom it could not ask.
pub(crate) fn check(core: &Core, log: &Arc<LogHandle>, notes: &[Bytes]) -> Result<Vec<String>, Status> {
    if notes.len() > CHECKPOINTS_MAX {
        return Err(status::invalid("checkpoints", format!("at most {CHECKPOINTS_MAX}, not {}", notes.len())));
    }
    let name = &log.settings.name;
    let keys = log.settings.vkeys.iter().map(|vkey| vkey.parse::<VerifierKey>()).collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|error| {
        tracing::error!(log = name, %error, "a stored verifier key is damaged");
        Status::data_loss("a stored verifier key is damaged; the operator must run `logwood fsck`")
    })?;
    let mut signed = Vec::new();
    for (place, note) in notes.iter().enumerate() {
        let opened = open(note, &keys, &log.settings.origin);
        let head = opened.map_err(|problem| status::invalid("checkpoints", problem))?;
        signed.push((format!("checkpoint {}", place + 1), head));
    }
    signed.extend(core.shared.anchor.head(name).map(|head| ("the anchor".to_owned(), head)));

    let store = core.store()?;
    let record = store.logs(LogQuery::Name(name)).map_err(status::read)?.pop();
    let record = record.ok_or_else(|| Status::not_found("the log is gone"))?;
    let view = load_tail(&*store, &record)?.view();
    for (what, head) in &signed {
        check_extends(core, &*store, (log, &view), what, *head)?;
    }
    let mut not_asked = match &log.watched {
        None => vec!["witnesses: the log has none".to_owned()],
        Some(watched) => {
            let silent = watched.statuses().into_iter().filter(|witness| witness.cosigned_ms == 0);
            silent.map(|witness| format!("witness {}: it has not answered since the start", witness.name)).collect()
        }
    };
    if core.shared.anchor.head(name).is_none() {
        not_asked.push("the anchor: it knows nothing of the log".to_owned());
    }
    if log.watched.as_ref().is_some_and(|watched| !watched.guard.is_open()) {
        log.signer()?;
    }
    anchored(core, log, view.head())?.signer()?;
    if core.shared.anchor.is_foreign() {
        return Err(status::precondition(Reason::RollbackGuard, UNSIGNED));
    }
    if notes.is_empty() {
        not_asked.push("holders of checkpoints and receipts: no checkpoint was given".to_owned());
    }
    Ok(not_asked)
}

/// The log, which the anchor knows from here on if it did not: loaded anew then, for it may sign again.
fn anchored(core: &Core, log: &Arc<LogHandle>, head: TreeHead) -> Result<Arc<LogHandle>, Status> {
    let (name, anchor) = (&log.settings.name, &core.shared.anchor);
    if anchor.head(name).is_some() {
        return Ok(Arc::clone(log));
    }
    anchor.append(&[(name.clone(), head)]).map_err(|error| {
        tracing::error!(log = name, %error, "the anchor cannot be written: the log stays read-only");
        status::exhausted("disk", "the anchor cannot be written: the log stays read-only")
    })?;
    core.shared.registry.remove(log);
    core.log(name)
}

/// The head that a checkpoint of this log says, if one of its keys signed it.
fn open(note: &[u8], keys: &[VerifierKey], origin: &str) -> Result<TreeHead, String> {
    let note = SignedNote::parse(note).map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::parse_text(note.text()).map_err(|error| error.to_string())?;
    if checkpoint.origin != origin {
        return Err(format!("a checkpoint is of {}, the log is {origin}", checkpoint.origin));
    }
    note.verify(keys).map_err(|error| error.to_string())?;
    Ok(checkpoint.head)
}

/// Whether the stored log begins with the tree of `signed`.
fn check_extends(
    core: &Core,
    store: &dyn LogStore,
    (log, view): (&LogHandle, &LogView),
    what: &str,
    signed: TreeHead,
) -> Result<(), Status> {
    let own = view.head();
    if signed.size > own.size {
        let problem = format!(
            "the log has {} entries, {what} says {}: it signed entries that are not there; restore them first",
            own.size, signed.size
        );
        return Err(status::rollback_guard(problem, own, signed));
    }
    let root = core.shared.nodes.root(store, (log.number, view), signed.size).map_err(status::read)?;
    if root == signed.root {
        return Ok(());
    }
    let problem = format!(
        "at size {} the log's root is {root}, {what} says {}: the log has another history than the one it signed",
        signed.size, signed.root
    );
    Err(status::rollback_guard(problem, TreeHead { size: signed.size, root }, signed))
}
