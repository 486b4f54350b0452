//! The thread that syncs: commit, anchor, release, acknowledge.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;
use logwood_sequencer::{Answer, Level, LogView, SealedRound};
use logwood_store::{CommitError, LogNumber};
use tokio::sync::mpsc;

use super::{Acknowledged, Command, Completion, Shared, Ticket, WriteError};
use crate::anchor::Anchored;
use crate::clock::now_ms;
use crate::inbox::Inbox;
use crate::registry::Released;

/// Makes sealed rounds durable, one after the other, and lets their heads out.
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) sealed: Receiver<SealedRound<Ticket>>,
    pub(super) planner: Arc<Inbox<Command>>,
    pub(super) completions: mpsc::UnboundedSender<Vec<Completion>>,
    /// The newest views of logs whose heads are durable and not in the anchor.
    pub(super) unreleased: BTreeMap<LogNumber, LogView>,
}

impl Committer {
    /// Works until the planner drops the other end.
    pub(super) fn run(mut self) {
        while let Ok(mut sealed) = self.sealed.recv() {
            let answers = std::mem::take(&mut sealed.answers);
            if let Err(error) = self.commit(&sealed) {
                let tickets = answers.into_iter().map(|answer| answer.ticket).collect();
                // A reload takes the logs out of memory; each is signed anew when it is touched.
                self.unreleased.clear();
                let _ = self.planner.send(Command::Failed(error, tickets));
                continue;
            }
            if let Some(round) = &sealed.round {
                let _ = self.planner.send(Command::Committed(round.number));
            }
            let anchored = self.anchor(&mut sealed.views);
            if anchored {
                self.release(sealed);
            }
            let _ = self.planner.send(Command::Idle);
            let _ = self.completions.send(self.acknowledge(answers, anchored));
        }
    }

    fn commit(&self, sealed: &SealedRound<Ticket>) -> Result<(), CommitError> {
        let Some(round) = &sealed.round else { return Ok(()) };
        let store = self.shared.slot.get();
        let store = store.ok_or_else(|| CommitError::Unknown { source: "the store is closed".into() })?;
        let start = Instant::now();
        let outcome = store.commit(round);
        let extensions = round.logs.iter().flat_map(|log| &log.extend);
        let entries = extensions.map(|extension| extension.leaves.len() as u64).sum();
        self.shared.metrics.committed(entries, start.elapsed(), &outcome);
        outcome
    }

    /// Writes the heads of `views` to the anchor, if every round is anchored, and those of rounds before that could not
    /// be. `false`: nothing may be signed yet; the views are kept for the next attempt.
    fn anchor(&mut self, views: &mut Vec<(LogNumber, LogView)>) -> bool {
        if !self.shared.anchor_every_round {
            return true;
        }
        self.unreleased.extend(views.drain(..));
        let name = |log| self.shared.registry.by_number(log).map(|handle| handle.settings.name.clone());
        let heads = self.unreleased.iter().filter_map(|(log, view)| Some((name(*log)?, view.head())));
        match self.shared.anchor.append(&heads.collect::<Vec<_>>()) {
            // Another's anchor: `release` signs nothing.
            Ok(Anchored::Yes | Anchored::Foreign) => {
                views.extend(std::mem::take(&mut self.unreleased));
                true
            }
            Err(error) => {
                tracing::error!(%error, "the anchor cannot be written: no head is signed until it can be");
                false
            }
        }
    }

    /// Gives every answer the head that its log has released. Entries are answered for only under a head, which a log
    /// does not have while its newest one is not anchored; any other change is good once it is durable.
    fn acknowledge(&self, answers: Vec<Answer<Ticket>>, anchored: bool) -> Vec<Completion> {
        let mut heads = HashMap::new();
        let completions = answers.into_iter().map(|Answer { ticket, log, placements }| {
            if !anchored && !placements.is_empty() && self.unreleased.contains_key(&log) {
                return (ticket, Err(WriteError::NotAnchored));
            }
            let released: &Option<Arc<Released>> = heads
                .entry(log)
                .or_insert_with(|| self.shared.registry.by_number(log).map(|handle| handle.released.load_full()));
            let end = placements.iter().map(|placement| placement.index().0 + 1).max().unwrap_or(0);
            if released.as_ref().is_some_and(|released| released.view.head().size.0 < end) {
                return (ticket, Err(WriteError::NotSigned));
            }
            (ticket, Ok(Acknowledged { placements, released: released.clone() }))
        });
        completions.collect()
    }

    /// Signs each new head and hands it to readers. A head that must not be signed is not released.
    fn release(&self, sealed: SealedRound<Ticket>) {
        for (log, id, tile) in sealed.tiles {
            self.shared.nodes.insert(log, id, tile);
        }
        let time_ms = now_ms();
        for (log, view) in sealed.views {
            let Some(handle) = self.shared.registry.by_number(log) else { continue };
            let Some(signer) = handle.signer.as_ref().filter(|_| !self.shared.anchor.is_foreign()) else { continue };
            match signer.sign(&handle.settings.origin, view.head()) {
                Ok(note) => {
                    let size = view.head().size.0;
                    handle.released.store(Arc::new(Released { view, note, time_ms }));
                    if handle.acknowledge == Level::Signed {
                        handle.grown.send_replace(size);
                    }
                }
                Err(error) => tracing::error!(log = handle.settings.name, %error, "a head was not signed"),
            }
        }
    }
}
