//! Catching up: from what was delivered to the known head, a bundle at a time.
//!
//! On the way the tree meets every published head that a server has kept, and shows each to be of the one history, or not.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use logwood_merkle::{CompactRange, Hash, TreeSize};
use logwood_monitor::follow::{self, Link, SignedHead, Verdict};
use logwood_note::Evidence;

use super::alarm::{Alarm, Kind};
use super::deliver::{self, Batch, Delivered};
use super::fetch::Entries;
use super::state::Log;
use super::watch::{View, Watch};
use crate::failure::VerificationFailed;
use crate::progress;

/// Entries from which on catching up shows a bar.
const BAR_ENTRIES: u64 = 10_000;

/// Most published heads of a source that are remembered for want of a proof.
const CONTRADICTED_MAX: usize = 16;

/// Published heads of a source between what was delivered and the known head, a page at a time.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Of rising sizes, at most 1,000.
    heads: VecDeque<SignedHead>,
    /// The size from which to ask for more.
    next: u64,
    /// The size of the known head when nobody answered: asked again once that has grown.
    unanswered: Option<u64>,
}

/// A published head that the entries of its log contradict.
#[derive(Debug)]
pub(super) struct Contradicted {
    head: SignedHead,
    /// The tree of that size.
    range: CompactRange,
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
            for at in 0..self.views.len() {
                self.load_history(at, tree.size(), &known).await?;
            }
            if let Some(entries) = self.fetch(&tree, &known).await? {
                self.meet_history(&tree, &entries.leaves, &known).await;
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

    /// Delivers verified entries in batches, each followed by the state. Whether all went well.
    async fn deliver(&mut self, log: usize, Entries { entries, leaves }: &Entries) -> anyhow::Result<bool> {
        let batches = entries.chunks(self.plan.batch_entries).zip(leaves.chunks(self.plan.batch_entries));
        for (entries, leaves) in batches {
            let Log { tree, known } = &self.state.logs[log];
            let (origin, first) = (known.origin.clone(), tree.size().0);
            let batch = Batch { origin: origin.clone(), first, entries: entries.to_vec(), leaves: leaves.to_vec() };
            let delivery = deliver::run(Arc::clone(&self.deliverer), batch, Arc::clone(&self.stopping));
            let Delivered { confirmed, outcome, out_bytes } = self.wait_for(tokio::spawn(delivery)).await?;
            // Without a file of entries, what is known of the one that an earlier run wrote stays.
            self.state.out_bytes = out_bytes.unwrap_or(self.state.out_bytes);
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

    /// Asks a source for the next published heads that it keeps, if it keeps any, and all before were met.
    async fn load_history(&mut self, at: usize, size: TreeSize, known: &SignedHead) -> anyhow::Result<()> {
        let view = &self.views[at];
        let View { source, history, .. } = view;
        let from = history.next.max(size.0 + 1);
        let is_unanswered = history.unanswered == Some(known.head.size.0);
        let is_due = history.heads.is_empty() && from < known.head.size.0 && !is_unanswered;
        if !is_due || !view.is_of(&known.origin) {
            return Ok(());
        }
        let source = Arc::clone(source);
        let asking = tokio::spawn(async move { source.history(TreeSize(from)).await });
        match self.wait_for(asking).await? {
            None => {}
            Some(Err(failure)) => {
                self.views[at].history.unanswered = Some(known.head.size.0);
                self.failed(at, &failure, Kind::Unreachable).await;
            }
            Some(Ok((notes, next))) => {
                let next = next.unwrap_or(u64::MAX).min(known.head.size.0);
                self.open_history(at, (from, next), notes, known).await;
            }
        }
        Ok(())
    }

    /// Verifies the signatures of published heads. Those that are of no use here are left out.
    async fn open_history(&mut self, index: usize, (from, next): (u64, u64), notes: Vec<Bytes>, known: &SignedHead) {
        let mut heads: VecDeque<SignedHead> = VecDeque::new();
        for note in notes {
            match SignedHead::open(&note, self.plan.policy, self.plan.origin, (self.plan.posix_seconds)()) {
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
        self.views[index].history = History { heads, next, unanswered: None };
    }

    /// Compares the published heads on the way with the tree, which is about to take in `leaves`.
    async fn meet_history(&mut self, tree: &CompactRange, leaves: &[Hash], known: &SignedHead) {
        let mut has_met = false;
        for view in self.views.iter_mut().filter(|view| view.is_of(&known.origin)) {
            let contradicted = follow::meet(tree, leaves, &mut view.history.heads);
            has_met |= !contradicted.is_empty();
            let room = CONTRADICTED_MAX.saturating_sub(view.contradicted.len());
            let contradicted = contradicted.into_iter().map(|(head, range)| Contradicted { head, range });
            view.contradicted.extend(contradicted.take(room));
        }
        if has_met {
            self.accuse().await;
        }
    }

    /// Accuses the logs whose published heads contradict their entries. The proof for others may come from any source;
    /// until one has it, all are asked again in each round.
    pub(super) async fn accuse(&mut self) {
        for at in 0..self.views.len() {
            for contradicted in std::mem::take(&mut self.views[at].contradicted) {
                let Some(log) = self.state.log(&contradicted.head.origin) else { continue };
                let known = self.state.logs[log].known.clone();
                let evidence = self.prove(&contradicted, &known).await;
                let (size, is_proved) = (contradicted.head.head.size, evidence.is_some());
                let reason = format!("it published a head of size {size} that its entries contradict");
                let notes = vec![contradicted.head.note.clone(), known.note];
                self.raise_with(Kind::SplitView, at, reason, evidence, notes).await;
                if !is_proved {
                    self.views[at].contradicted.push(contradicted);
                }
            }
        }
    }

    /// The evidence that the history of `known` does not begin with a head, from the first source that has the proof.
    async fn prove(&self, Contradicted { head, range }: &Contradicted, known: &SignedHead) -> Option<Evidence> {
        for source in self.views.iter().map(|view| &view.source).filter(|source| source.has_entries()) {
            let Ok(consistency) = source.consistency(range.size(), known.head.size).await else { continue };
            let link = Link { range: range.clone(), consistency };
            match follow::settle(head, known, &link) {
                Verdict::Rewritten(evidence) => return Some(evidence),
                _ => source.distrust(),
            }
        }
        None
    }
}
