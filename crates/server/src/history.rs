//! The history of published heads, and the task that adds to it.
//!
//! Every publish interval, for each log that grew: take the latest head, store it, write the anchor, and only then
//! show it to watchers. An idle log writes nothing.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use logwood_note::{Checkpoint, SignedNote};
use logwood_proto::Reason;
use logwood_sequencer::Level;
use logwood_store::{HeadSignature, PublishedHead};
use tonic::Status;

use crate::clock::now_ms;
use crate::core::Core;
use crate::registry::{LogHandle, Published, Released};
use crate::status;
use crate::writer::Command;

/// A stored head as the signed note that it was.
pub(crate) fn note(origin: &str, stored: &PublishedHead) -> Bytes {
    let checkpoint = Checkpoint { origin: origin.to_owned(), head: stored.head, extensions: Vec::new() };
    let mut note = checkpoint.to_text();
    note.push('\n');
    for HeadSignature { name, key_id, signature } in &stored.signatures {
        let line = [&key_id.to_be_bytes()[..], signature].concat();
        writeln!(note, "\u{2014} {name} {}", STANDARD.encode(line)).expect("writing to a String cannot fail");
    }
    note.into()
}

/// A released head as it is stored.
fn stored(released: &Released, time_ms: u64) -> PublishedHead {
    let note = SignedNote::parse(&released.note).expect("the log's own notes parse");
    let signatures = note.signatures().iter().map(|signature| HeadSignature {
        name: signature.name.as_str().to_owned(),
        key_id: signature.id.0,
        signature: Bytes::copy_from_slice(&signature.bytes),
    });
    PublishedHead { head: released.view.head(), time_ms, signatures: signatures.collect() }
}

/// Publishes the latest head of `log`, unless it is published already.
pub(crate) async fn publish(core: &Core, log: &LogHandle) -> Result<(), Status> {
    let released = log.released.load_full();
    let head = released.view.head();
    let is_new = log.published.borrow().as_ref().is_none_or(|last| last.head.size < head.size);
    if !is_new || log.signer.is_none() || core.shared.anchor.is_foreign() {
        return Ok(());
    }
    let time_ms = now_ms();
    core.change(|ticket| Command::Publish(log.number, stored(&released, time_ms), ticket)).await?;
    let name = &log.settings.name;
    match tokio::task::block_in_place(|| core.shared.anchor.append(name, head)) {
        Ok(true) => {}
        Ok(false) => {
            tracing::error!(log = name, "another process writes this anchor: nothing more is published");
            return Err(status::precondition(Reason::RollbackGuard, "another process serves a copy of this log"));
        }
        Err(error) => {
            tracing::error!(log = name, %error, "the anchor cannot be written: the head is not published");
            return Err(status::exhausted("disk", "the anchor cannot be written"));
        }
    }
    log.published.send_replace(Some(Arc::new(Published { head, note: released.note.clone(), time_ms })));
    if log.acknowledge != Level::Signed {
        log.grown.send_replace(head.size.0);
    }
    Ok(())
}

/// Publishes every log that grew, once a publish interval, for as long as the server runs.
pub(crate) async fn run(core: Arc<Core>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(core.publishing.interval_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for log in core.shared.registry.all() {
            if let Err(status) = publish(&core, &log).await {
                tracing::warn!(log = log.settings.name, %status, "a head was not published; it is tried again");
            }
        }
    }
}
