//! What sources show, judged: signatures, one history for all heads, seals.

use std::time::Duration;

use bytes::Bytes;
use logwood_merkle::{CompactRange, TreeSize};
use logwood_monitor::follow::{self, HeadError, Relation, SKEW_SECONDS_MAX, SignedHead, SignedSeal, Verdict};
use logwood_note::Evidence;
use tokio::time::Instant;

use super::alarm::Kind;
use super::state::Log;
use super::watch::{View, Watch};
use crate::failure::VerificationFailed;

/// How long a head may be one that no other source can prove yet: a witness sees a head before the log shows it.
const AHEAD_MAX: Duration = Duration::from_secs(15);

/// Whether two heads are of one history.
pub(super) enum Outcome {
    Agree,
    /// The log signed both, and here is the proof that it must not have.
    Forked(Evidence),
    /// The proof of this source does not verify.
    BadProof {
        source: String,
        reason: String,
    },
    /// Nobody has the proof.
    Unproved(String),
}

impl Watch<'_> {
    /// Judges the signatures of a note, and takes the head that is in it.
    pub(super) async fn open(&mut self, index: usize, note: Bytes) -> Option<SignedHead> {
        let head = match SignedHead::open(&note, self.plan.policy, self.plan.origin, (self.plan.posix_seconds)()) {
            Ok(head) => head,
            Err(error) => {
                let kind = match error {
                    HeadError::TextTooLong { .. } => Kind::BadAnswer,
                    _ => Kind::BadSignature,
                };
                let reason = VerificationFailed::new(&error).reason;
                self.raise(kind, index, reason, vec![note]).await;
                return None;
            }
        };
        if let (Err(error), true) = (&head.quorum, self.views[index].source.has_entries()) {
            self.raise(Kind::NoQuorum, index, error.to_string(), vec![note.clone()]).await;
        }
        if let Some(seconds) = head.future_seconds {
            let reason = format!(
                "somebody cosigned its head at POSIX second {seconds}, which is more than {SKEW_SECONDS_MAX} seconds from \
                 now: one of the clocks is wrong, and that time does not count"
            );
            self.raise(Kind::Future, index, reason, vec![note.clone()]).await;
        }
        if let Some(seen) = self.views[index].seen.clone().filter(|seen| seen.origin != head.origin) {
            let reason = format!("it showed the log {} before, and shows {} now", seen.origin, head.origin);
            self.raise(Kind::BadAnswer, index, reason, vec![seen.note, note]).await;
            return None;
        }
        Some(head)
    }

    /// Shows that `head` is of one history with the tip of its log.
    pub(super) async fn judge(&mut self, index: usize, head: SignedHead) {
        self.check_seal(index, &head).await;
        self.check_rollback(index, &head).await;
        self.compare_loose(index, &head).await;
        let Some(tip) = self.state.tip(&head.origin).cloned() else {
            if self.views[index].source.has_entries() {
                self.state.tips.push(head.clone());
                self.accept(index, head).await;
            } else {
                self.views[index].loose = Some(head);
            }
            return;
        };
        let view = &self.views[index];
        let is_seen =
            view.seen_beside == Some(tip.head) && view.seen.as_ref().is_some_and(|seen| seen.head == head.head);
        let outcome = if is_seen { Outcome::Agree } else { self.tie(index, &tip, &head).await };
        match outcome {
            Outcome::Agree => self.accept(index, head).await,
            outcome => {
                let is_forked = matches!(outcome, Outcome::Forked(_));
                self.tell(index, &tip, &head, outcome).await;
                if tip.quorum.is_err() && head.quorum.is_ok() {
                    self.follow_witnesses(index, head, is_forked).await;
                }
            }
        }
    }

    /// Raises the alarm for a head that is not of one history with the tip, as far as anybody can tell.
    async fn tell(&mut self, index: usize, tip: &SignedHead, head: &SignedHead, outcome: Outcome) {
        let (size, tip_size) = (head.head.size, tip.head.size);
        let notes = vec![tip.note.clone(), head.note.clone()];
        self.views[index].loose = None;
        if let Outcome::Unproved(reason) = outcome {
            self.views[index].loose = Some(head.clone());
            let since = *self.views[index].ahead_since.get_or_insert_with(Instant::now);
            if size < tip_size || since.elapsed() >= AHEAD_MAX {
                // It is told; `--once` waits no longer.
                self.views[index].ahead_since = self.views[index].ahead_since.filter(|_| !self.plan.once);
                let reason = format!(
                    "nobody proves that its head of size {size} is of one history with the known one of size {tip_size}: {reason}"
                );
                self.raise(Kind::Unproved, index, reason, notes).await;
            }
            return;
        }
        self.views[index].ahead_since = None;
        let (kind, reason, evidence) = match outcome {
            Outcome::Forked(evidence) => {
                let reason = format!(
                    "the head of size {size} that it shows and the known one of size {tip_size} are of two histories"
                );
                (Kind::SplitView, reason, Some(evidence))
            }
            Outcome::BadProof { source, reason } => {
                let reason = format!(
                    "the head of size {size} is not shown to be of one history with the known one of size {tip_size}; \
                     the proof from {source} is wrong: {reason}"
                );
                (Kind::BadProof, reason, None)
            }
            Outcome::Agree | Outcome::Unproved(_) => return,
        };
        self.raise_with(kind, index, reason, evidence, notes).await;
    }

    /// What witnesses vouch for is followed all the same if the tip, which they do not vouch for, is what it is not shown
    /// to be of one history with.
    ///
    /// * `is_forked` - it is shown not to be.
    async fn follow_witnesses(&mut self, index: usize, head: SignedHead, is_forked: bool) {
        let known = self.state.log(&head.origin).map(|log| self.state.logs[log].known.clone());
        let extends = match &known {
            Some(known) => matches!(self.tie(index, known, &head).await, Outcome::Agree),
            None => true,
        };
        if extends && is_forked {
            if let Some(tip) = self.state.tip(&head.origin) {
                *tip = head.clone();
            }
            self.accept(index, head).await;
        } else if extends && known.is_some() {
            self.follow(index, &head).await;
        }
    }

    /// Takes in a head that is of the one history.
    async fn accept(&mut self, index: usize, head: SignedHead) {
        self.views[index].ahead_since = None;
        self.views[index].loose = None;
        if let Some(tip) = self.state.tip(&head.origin)
            && says_more(&head, tip)
        {
            *tip = head.clone();
        }
        if head.quorum.is_ok() {
            self.follow(index, &head).await;
        }
        self.state.show(&self.views[index].source.name, &head);
        self.views[index].seen_beside = self.state.tip(&head.origin).map(|tip| tip.head);
        self.views[index].seen = Some(head);
    }

    /// Follows a log up to a head that has a quorum.
    async fn follow(&mut self, index: usize, head: &SignedHead) {
        match self.state.log(&head.origin) {
            Some(log) => {
                let known = &mut self.state.logs[log].known;
                if says_more(head, known) {
                    *known = head.clone();
                }
            }
            None if self.views[index].source.has_entries() => self.begin(index, head).await,
            None => {}
        }
    }

    /// The first head of a log that has a quorum: where its tree begins.
    async fn begin(&mut self, index: usize, head: &SignedHead) {
        let from = TreeSize(self.plan.from.min(head.head.size.0.saturating_sub(1)));
        let tree = if from == TreeSize(0) {
            CompactRange::new()
        } else {
            match self.views[index].source.link(from, head.head.size).await {
                Err(failure) => return self.failed(index, &failure, Kind::Unreachable).await,
                Ok(link) => match follow::begin_at(link, &head.head).map(Some) {
                    Ok(Some(tree)) if tree.size() == from => tree,
                    _ => {
                        let reason = format!("it does not prove what the first {from} entries are");
                        return self.raise(Kind::BadProof, index, reason, vec![head.note.clone()]).await;
                    }
                },
            }
        };
        self.state.logs.push(Log { tree, known: head.clone() });
    }

    /// Whether `known` and `head` are of one history: at once, or by asking one source after the other for the proof,
    /// the one that shows the larger head first, those that were silent of late last.
    pub(super) async fn tie(&self, index: usize, known: &SignedHead, head: &SignedHead) -> Outcome {
        match follow::relate(known, head) {
            Relation::Agree => return Outcome::Agree,
            Relation::Differ(evidence) => return Outcome::Forked(evidence),
            Relation::Open => {}
        }
        let (older, newer) = if head.head.size < known.head.size { (head, known) } else { (known, head) };
        let shows = |view: &View| view.seen.as_ref().is_some_and(|seen| seen.head == newer.head);
        let is_first = |&at: &usize| shows(&self.views[at]) || (at == index && newer.head == head.head);
        let (first, others): (Vec<_>, Vec<_>) = (0..self.views.len()).partition(is_first);
        let (quick, stalled): (Vec<_>, Vec<_>) =
            first.into_iter().chain(others).partition(|&at| !self.views[at].source.has_stalled());
        let (mut wrong, mut missing) = (None, "there is no source that has proofs".to_owned());
        for source in quick.into_iter().chain(stalled).map(|at| &self.views[at].source).filter(|s| s.has_entries()) {
            match source.link(older.head.size, newer.head.size).await {
                Ok(link) => match follow::settle(older, newer, &link) {
                    Verdict::Extends => return Outcome::Agree,
                    Verdict::Rewritten(evidence) => return Outcome::Forked(evidence),
                    Verdict::Unproved(error) => {
                        source.distrust();
                        wrong.get_or_insert((source.name.clone(), error.to_string()));
                    }
                },
                Err(failure) => missing = format!("{}: {failure}", source.name),
            }
        }
        match wrong {
            Some((source, reason)) => Outcome::BadProof { source, reason },
            None => Outcome::Unproved(missing),
        }
    }

    /// Compares a head with those that nobody could prove: two of one size and different roots need no proof.
    async fn compare_loose(&mut self, index: usize, head: &SignedHead) {
        for at in (0..self.views.len()).filter(|&at| at != index) {
            let Some(loose) = self.views[at].loose.clone().filter(|loose| loose.origin == head.origin) else {
                continue;
            };
            if let Relation::Differ(evidence) = follow::relate(&loose, head) {
                let reason = format!(
                    "the head of size {} that it shows is of another history than the one that {} shows",
                    head.head.size, self.views[at].source.name
                );
                let notes = vec![loose.note, head.note.clone()];
                self.raise_with(Kind::SplitView, index, reason, Some(evidence), notes).await;
            }
        }
    }

    /// Whether a source shows a smaller head than before, or a cosigner says that it did.
    async fn check_rollback(&mut self, index: usize, head: &SignedHead) {
        let largest = self.state.largest(&self.views[index].source.name, &head.origin);
        let known = self.state.log(&head.origin).map(|log| self.state.logs[log].known.clone());
        let earlier: Vec<_> = known.into_iter().chain(self.state.tip(&head.origin).cloned()).collect();
        let taken_back = earlier.iter().find_map(|earlier| {
            let evidence = follow::taken_back(earlier, head).filter(|evidence| self.alarms.is_proved(evidence));
            evidence.map(|evidence| (earlier, evidence))
        });
        if head.head.size.0 >= largest && taken_back.is_none() {
            return;
        }
        let (earlier, evidence) = match taken_back {
            Some((earlier, evidence)) => (Some(earlier), Some(evidence)),
            None => (earlier.first(), None),
        };
        let reason = format!(
            "its head has size {}, and it had one of size {}: it lags, or was rolled back",
            head.head.size,
            largest.max(head.head.size.0)
        );
        let notes = earlier.map(|earlier| earlier.note.clone()).into_iter().chain([head.note.clone()]).collect();
        self.raise_with(Kind::Rollback, index, reason, evidence, notes).await;
    }

    /// Whether a source is to be asked for the seal of its log: until there is one.
    pub(super) fn wants_seal(&self, view: &View) -> bool {
        !self.state.seals.iter().any(|known| view.is_of(&known.seal.origin))
    }

    /// Judges a seal, and holds the log to it from then on.
    pub(super) async fn take_seal(&mut self, index: usize, note: Bytes) {
        let seal = match SignedSeal::open(&note, self.plan.policy, self.plan.origin) {
            Ok(seal) => seal,
            Err(error) => {
                let reason = format!("its seal: {}", VerificationFailed::new(&error).reason);
                return self.raise(Kind::BadSignature, index, reason, vec![note]).await;
            }
        };
        let origin = seal.seal.origin.clone();
        if self.state.seals.iter().all(|known| known.seal.origin != origin) {
            self.state.seals.push(seal);
        }
        if let Some(tip) = self.state.tip(&origin).cloned() {
            self.check_seal(index, &tip).await;
        }
    }

    /// Whether the log of `head` has kept to its seal, if it has one.
    async fn check_seal(&mut self, index: usize, head: &SignedHead) {
        let Some(known) = self.state.seals.iter().find(|known| known.seal.origin == head.origin).cloned() else {
            return;
        };
        let (seal, evidence) = (known.seal.head, known.broken_by(head));
        if evidence.is_none() && (seal.size != head.head.size || seal.root == head.head.root) {
            return;
        }
        let reason = format!(
            "the log is sealed at size {} with root {}, and there is a head of size {} with root {}",
            seal.size, seal.root, head.head.size, head.head.root
        );
        let notes = vec![known.note, head.note.clone()];
        self.raise_with(Kind::BrokenSeal, index, reason, evidence, notes).await;
    }
}

/// Whether `head`, which is of one history with `known`, is to be remembered instead.
fn says_more(head: &SignedHead, known: &SignedHead) -> bool {
    let rank = |head: &SignedHead| (head.head.size, head.quorum.is_ok(), head.seconds);
    rank(head) > rank(known)
}
