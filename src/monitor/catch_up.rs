//! Catching up: from what was delivered to the known head, a bundle at a time.
//!
//! On the way the tree meets every published head that a server has kept, and shows each to be of the one history, or not.

use std::collections::VecDeque;

use bytes::Bytes;
use logwood_merkle::{CompactRange, Hash, TreeSize};
use logwood_monitor::failure::Failure;
use logwood_monitor::follow::{self, Link, SignedHead, Verdict};

use super::alarm::{Alarm, Kind};
use super::deliver::Batch;
use super::state::Log;
use super::watch::{View, Watch};
use crate::failure::VerificationFailed;
use crate::progress;

/// Entries from which on catching up shows a bar.
const BAR_ENTRIES: u64 = 10_000;

/// Verified entries, and the leaf hash of each.
struct Entries {
    entries: Vec<Bytes>,
    leaves: Vec<Hash>,
}

/// Published heads of a log between what was delivered and the known head, a page at a time.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Of rising sizes, at most 1,000.
    heads: VecDeque<SignedHead>,
    /// The size from which to ask for more.
    next: u64,
    /// The size of the known head when nobody answered: asked again once that has grown.
    unanswered: Option<u64>,
}

impl Watch<'_> {
    /// Checks and delivers what comes next in one of the logs. Whether there was anything, and it went well.
    pub(super) async fn advance(&mut self) -> anyhow::Result<bool> {
        let mut has_advanced = false;
        for log in 0..self.state.logs.len() {
            let Log { tree, known } = self.state.logs[log].clone();
            let left = known.head.size.0 - tree.size().0;
            self.status.log(&known.origin, (known.head.size.0, tree.size().0), known.seconds);
            if left == 0 {
                continue;
            }
            if left >= BAR_ENTRIES && (self.bar.is_finished() || self.bar.is_hidden()) {
                self.bar = progress::of_count(&format!("checking {}", known.origin), known.head.size.0);
            }
            self.load_history(tree.size(), &known).await;
            if let Some(entries) = self.fetch(&tree, &known).await {
                has_advanced |= self.deliver(log, &entries).await?;
            }
            let Log { tree, known } = &self.state.logs[log];
            self.status.log(&known.origin, (known.head.size.0, tree.size().0), known.seconds);
            self.bar.set_position(tree.size().0);
            if tree.size() == known.head.size {
                self.bar.finish_and_clear();
            }
        }
        Ok(has_advanced)
    }

    /// The next entries of a log that are in the tree of its known head, from the first source that has them.
    async fn fetch(&mut self, tree: &CompactRange, known: &SignedHead) -> Option<Entries> {
        let is_of_log = |view: &View| {
            view.source.has_entries() && view.seen.as_ref().is_some_and(|seen| seen.origin == known.origin)
        };
        let lags = |view: &View| view.seen.as_ref().is_some_and(|seen| seen.head.size < known.head.size);
        let order: Vec<_> = (0..self.views.len()).filter(|&at| is_of_log(&self.views[at])).collect();
        // Those whose own head promises the entries come first. The others need not have them.
        let (lagging, promising): (Vec<_>, Vec<_>) = order.into_iter().partition(|&at| lags(&self.views[at]));
        for at in promising.into_iter().chain(lagging) {
            match self.fetch_from(at, tree, known).await {
                Ok(entries) => {
                    self.meet_history(at, tree, &entries.leaves, known).await;
                    return Some(entries);
                }
                Err((kind, _)) if kind == Kind::Unreachable && lags(&self.views[at]) => {}
                Err((kind, failure)) => self.failed(at, &failure, kind).await,
            }
        }
        None
    }

    async fn fetch_from(
        &self,
        index: usize,
        tree: &CompactRange,
        known: &SignedHead,
    ) -> Result<Entries, (Kind, Failure)> {
        let source = &self.views[index].source;
        let (first, size) = (tree.size().0, known.head.size);
        let answer = |failure: Failure| (Kind::Unreachable, failure);
        let entries = source.entries(first, size.0, size).await.map_err(answer)?;
        let end = TreeSize(first + entries.len() as u64);
        let proof = source.consistency(end, size).await.map_err(answer)?;
        let leaves: Vec<_> = entries.iter().map(|entry| Hash::leaf(entry)).collect();
        match follow::extend(tree, leaves.iter().copied(), &known.head, &proof) {
            Ok(_) => Ok(Entries { entries, leaves }),
            Err(error) => {
                source.distrust();
                let promised = source.leaves(first, size).await.unwrap_or_default();
                let differs = leaves.iter().zip(&promised).position(|(leaf, promised)| leaf != promised);
                let reason = match differs {
                    Some(offset) => format!("entry {} does not hash to its leaf; {error}", first + offset as u64),
                    None => error.to_string(),
                };
                Err((Kind::BadEntry, Failure::wrong("entries", reason)))
            }
        }
    }

    /// Delivers verified entries in batches, each followed by the state. Whether all went well.
    async fn deliver(&mut self, log: usize, Entries { entries, leaves }: &Entries) -> anyhow::Result<bool> {
        let batches = entries.chunks(self.plan.batch_entries).zip(leaves.chunks(self.plan.batch_entries));
        for (entries, leaves) in batches {
            let Log { tree, known } = &self.state.logs[log];
            let (origin, first) = (known.origin.clone(), tree.size().0);
            let batch = Batch { origin: &origin, first, entries, leaves };
            let (confirmed, outcome) = self.deliverer.deliver(&batch, self.stopping).await;
            for leaf in &leaves[..confirmed] {
                self.state.logs[log].tree.append(*leaf, |_, _| ());
            }
            if confirmed > 0 {
                self.save()?;
            }
            if let Err(error) = outcome {
                let (kind, reason, subject) = (Kind::Undelivered, format!("{error:#}"), origin.clone());
                let (origin, notes) = (Some(origin), Vec::new());
                self.alarms.raise(Alarm { kind, subject, origin, reason, evidence: None, notes }).await;
                return Ok(false);
            }
            if confirmed < entries.len() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Asks a server for the next published heads, if there is one, and all before were met.
    async fn load_history(&mut self, size: TreeSize, known: &SignedHead) {
        let history = self.histories.entry(known.origin.clone()).or_default();
        let from = history.next.max(size.0 + 1);
        let is_unanswered = history.unanswered == Some(known.head.size.0);
        if !history.heads.is_empty() || from >= known.head.size.0 || is_unanswered {
            return;
        }
        history.unanswered = Some(known.head.size.0);
        for at in 0..self.views.len() {
            let view = &self.views[at];
            if view.seen.as_ref().is_none_or(|seen| seen.origin != known.origin) {
                continue;
            }
            match view.source.history(TreeSize(from)).await {
                None => {}
                Some(Err(failure)) => self.failed(at, &failure, Kind::Unreachable).await,
                Some(Ok((notes, next))) => {
                    let next = next.unwrap_or(u64::MAX).min(known.head.size.0);
                    return self.open_history(at, (from, next), notes, known).await;
                }
            }
        }
    }

    /// Verifies the signatures of published heads. Those that are of no use here are left out.
    async fn open_history(&mut self, index: usize, (from, next): (u64, u64), notes: Vec<Bytes>, known: &SignedHead) {
        let mut heads: VecDeque<SignedHead> = VecDeque::new();
        for note in notes {
            match SignedHead::open(note.clone(), self.plan.policy, self.plan.origin) {
                Err(error) => {
                    let reason = format!("in its history: {}", VerificationFailed::new(&error).reason);
                    self.raise(Kind::BadSignature, index, reason, vec![note]).await;
                }
                Ok(head) => {
                    let size = head.head.size.0;
                    let least = heads.back().map_or(from, |last| last.head.size.0 + 1);
                    if head.origin == known.origin && (least..known.head.size.0).contains(&size) {
                        heads.push_back(head);
                    }
                }
            }
        }
        self.histories.insert(known.origin.clone(), History { heads, next, unanswered: None });
    }

    /// Compares the published heads on the way with the tree, which is about to take in `leaves`.
    async fn meet_history(&mut self, index: usize, tree: &CompactRange, leaves: &[Hash], known: &SignedHead) {
        let Some(history) = self.histories.get_mut(&known.origin) else { return };
        for (head, range) in follow::meet(tree, leaves, &mut history.heads) {
            let proof = self.views[index].source.consistency(range.size(), known.head.size).await;
            let link = Link { range, consistency: proof.unwrap_or_default() };
            let evidence = match follow::settle(&head, known, &link) {
                Verdict::Rewritten(evidence) => Some(evidence),
                _ => None,
            };
            let reason = format!("it published a head of size {} that its entries contradict", head.head.size);
            let notes = vec![head.note, known.note.clone()];
            self.raise_with(Kind::SplitView, index, reason, evidence, notes).await;
        }
    }
}
