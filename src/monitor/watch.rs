//! The monitor at work: rounds of all sources. [`super::catch_up`] has the entries in between.
//!
//! ```text
//!   round: every source's head ── signatures ── of one history with the known head ──> the known head grows
//!                                      └─ alarm            └─ alarm, evidence
//!   then, until the next round is due: 256 entries ── in the tree of the known head ── delivered ── state
//! ```
//!
//! The state is written after what it says was confirmed. A SIGKILL in between repeats that batch and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use indicatif::ProgressBar;
use logwood_merkle::{CompactRange, TreeHead, TreeSize};
use logwood_monitor::failure::{Failure, Problem};
use logwood_monitor::follow::{self, Relation, SignedHead, Verdict};
use logwood_monitor::source::Source;
use logwood_monitor::status::Status;
use logwood_note::{Evidence, Policy};
use tokio::time::Instant;

use super::alarm::{Alarm, Alarms, Kind};
use super::catch_up::History;
use super::deliver::Deliverer;
use super::state::{Log, Shown, State, StateFile};
use crate::failure::VerificationFailed;

/// How long a head may be one that no other source can prove yet: a witness sees a head before the log shows it.
const AHEAD_MAX: Duration = Duration::from_secs(15);

/// What a monitor is to do.
pub(super) struct Plan<'a> {
    pub(super) policy: &'a Policy,
    /// The log's origin where it differs from the name of its key.
    pub(super) origin: Option<&'a str>,
    /// The entry to begin with, for a log that is not in the state.
    pub(super) from: u64,
    /// Between two rounds.
    pub(super) interval: Duration,
    /// How old the newest cosignature may be, in seconds.
    pub(super) age_max: Option<u64>,
    /// Most entries between two writes of the state.
    pub(super) batch_entries: usize,
    /// POSIX seconds.
    pub(super) posix_seconds: fn() -> u64,
    pub(super) once: bool,
}

/// A source, and what it showed last.
pub(super) struct View {
    pub(super) source: Source,
    /// The last head that is of the one history.
    pub(super) seen: Option<SignedHead>,
    /// The known head that `seen` was shown to be of one history with. Of a later one it is shown anew.
    seen_beside: Option<TreeHead>,
    /// Since when it shows a head that nobody can prove.
    ahead_since: Option<Instant>,
}

/// A monitor, its memory, and where everything goes.
pub(super) struct Watch<'a> {
    pub(super) plan: Plan<'a>,
    pub(super) views: Vec<View>,
    pub(super) state: State,
    file: StateFile,
    pub(super) deliverer: Deliverer<'a>,
    pub(super) alarms: Alarms,
    pub(super) status: Arc<Status>,
    pub(super) stopping: &'a AtomicBool,
    pub(super) bar: ProgressBar,
    /// By origin.
    pub(super) histories: BTreeMap<String, History>,
}

/// Whether one head extends another.
enum Outcome {
    Extends,
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

impl<'a> Watch<'a> {
    pub(super) fn new(
        plan: Plan<'a>,
        sources: Vec<Source>,
        (state, file): (State, StateFile),
        deliverer: Deliverer<'a>,
        (alarms, status): (Alarms, Arc<Status>),
        stopping: &'a AtomicBool,
    ) -> Self {
        let views = sources
            .into_iter()
            .map(|source| View { source, seen: None, seen_beside: None, ahead_since: None })
            .collect();
        let (bar, histories) = (ProgressBar::hidden(), BTreeMap::new());
        Self { plan, views, state, file, deliverer, alarms, status, stopping, bar, histories }
    }

    /// Works until it is told to stop, or once.
    ///
    /// # Errors
    ///
    /// If the state cannot be written: going on would repeat what was confirmed.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        loop {
            let next_round = Instant::now() + self.plan.interval;
            self.round().await?;
            while self.advance().await? {
                if self.is_stopping() || (!self.plan.once && Instant::now() >= next_round) {
                    break;
                }
            }
            self.alarms.end_round();
            let is_done = self.plan.once && self.views.iter().all(|view| view.ahead_since.is_none());
            if is_done || self.is_stopping() {
                return Ok(());
            }
            while !self.is_stopping() && Instant::now() < next_round {
                let wait = next_round.saturating_duration_since(Instant::now());
                tokio::time::sleep(wait.min(Duration::from_millis(200))).await;
            }
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The logs, as they are known now.
    pub(super) fn logs(&self) -> &[Log] {
        &self.state.logs
    }

    /// Asks every source for its head, and judges each.
    async fn round(&mut self) -> anyhow::Result<()> {
        self.alarms.begin_round();
        let memory =
            |state: &State| (state.logs.iter().map(|log| log.known.clone()).collect::<Vec<_>>(), state.shown.clone());
        let before = memory(&self.state);
        let notes = join_all(self.views.iter().map(|view| view.source.checkpoint())).await;
        for (index, note) in notes.into_iter().enumerate() {
            match note {
                Ok(note) => self.open(index, note).await,
                Err(failure) => {
                    let kind =
                        if matches!(failure.problem, Problem::Wrong(_)) { Kind::BadAnswer } else { Kind::Unreachable };
                    let reason = if failure.is_missing() { "it has no checkpoint".into() } else { failure.to_string() };
                    self.raise(kind, index, reason, Vec::new()).await;
                }
            }
        }
        self.check_freshness().await;
        if memory(&self.state) != before {
            self.save()?;
        }
        Ok(())
    }

    /// Judges the signatures of a note, then what it says.
    async fn open(&mut self, index: usize, note: Bytes) {
        let head = match SignedHead::open(note.clone(), self.plan.policy, self.plan.origin) {
            Ok(head) => head,
            Err(error) => {
                let reason = VerificationFailed::new(&error).reason;
                return self.raise(Kind::BadSignature, index, reason, vec![note]).await;
            }
        };
        if let (Err(error), true) = (&head.quorum, self.views[index].source.has_entries()) {
            self.raise(Kind::NoQuorum, index, error.to_string(), vec![note.clone()]).await;
        }
        if let Some(seen) = self.views[index].seen.clone().filter(|seen| seen.origin != head.origin) {
            let reason = format!("it showed the log {} before, and shows {} now", seen.origin, head.origin);
            return self.raise(Kind::BadAnswer, index, reason, vec![seen.note, note]).await;
        }
        self.judge(index, head).await;
    }

    /// Shows that `head` is of one history with the known head of its log.
    async fn judge(&mut self, index: usize, head: SignedHead) {
        let Some(log) = self.state.logs.iter().position(|log| log.known.origin == head.origin) else {
            return self.begin(index, head).await;
        };
        let known = self.state.logs[log].known.clone();
        self.check_rollback(index, &known, &head).await;
        let view = &self.views[index];
        let is_seen =
            view.seen.as_ref().is_some_and(|seen| seen.head == head.head) && view.seen_beside == Some(known.head);
        let outcome = match follow::relate(&known, &head) {
            Relation::Agree => Outcome::Extends,
            Relation::Differ(evidence) => Outcome::Forked(evidence),
            Relation::Open if is_seen => Outcome::Extends,
            Relation::Open => self.settle(index, &known, &head).await,
        };
        if !matches!(outcome, Outcome::Unproved(_)) {
            self.views[index].ahead_since = None;
        }
        match outcome {
            Outcome::Extends => self.accept(index, log, head),
            Outcome::Forked(evidence) => {
                let reason = format!(
                    "the head of size {} that it shows and the known one of size {} are of two histories",
                    head.head.size, known.head.size
                );
                self.raise_with(Kind::SplitView, index, reason, Some(evidence), vec![known.note, head.note]).await;
            }
            Outcome::BadProof { source, reason } => {
                let reason = format!(
                    "the head of size {} is not shown to be of one history with the known one of size {}; the proof \
                     from {source} is wrong: {reason}",
                    head.head.size, known.head.size
                );
                self.raise(Kind::BadProof, index, reason, vec![known.note, head.note]).await;
            }
            Outcome::Unproved(reason) => {
                let since = *self.views[index].ahead_since.get_or_insert_with(Instant::now);
                if head.head.size < known.head.size || since.elapsed() >= AHEAD_MAX {
                    // It is told; `--once` waits no longer.
                    self.views[index].ahead_since = self.views[index].ahead_since.filter(|_| !self.plan.once);
                    let reason = format!(
                        "nobody proves that its head of size {} is of one history with the known one of size {}: {reason}",
                        head.head.size, known.head.size
                    );
                    self.raise(Kind::Unproved, index, reason, vec![known.note, head.note]).await;
                }
            }
        }
    }

    /// Takes in a head that is of the one history.
    fn accept(&mut self, index: usize, log: usize, head: SignedHead) {
        let known = &mut self.state.logs[log].known;
        let is_newer = head.head.size > known.head.size || (head.head == known.head && head.seconds > known.seconds);
        if is_newer && head.quorum.is_ok() {
            *known = head.clone();
        }
        self.show(index, head);
    }

    /// Notes what a source showed, once that is of the one history.
    fn show(&mut self, index: usize, head: SignedHead) {
        let known = self.state.logs.iter().find(|log| log.known.origin == head.origin);
        self.views[index].seen_beside = known.map(|log| log.known.head);
        let source = &self.views[index].source.name;
        match self.state.shown.iter_mut().find(|shown| shown.source == *source && shown.origin == head.origin) {
            Some(shown) => shown.size = shown.size.max(head.head.size.0),
            None => self.state.shown.push(Shown {
                source: source.clone(),
                origin: head.origin.clone(),
                size: head.head.size.0,
            }),
        }
        self.views[index].seen = Some(head);
    }

    /// The first head of a log: the history that all others must be of.
    async fn begin(&mut self, index: usize, head: SignedHead) {
        if head.quorum.is_err() || !self.views[index].source.has_entries() {
            return;
        }
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
                        return self.raise(Kind::BadProof, index, reason, vec![head.note]).await;
                    }
                },
            }
        };
        self.state.logs.push(Log { tree, known: head.clone() });
        self.show(index, head);
    }

    /// Asks one source after the other whether one head extends another: the one that shows the larger head first.
    async fn settle(&self, index: usize, known: &SignedHead, head: &SignedHead) -> Outcome {
        let (older, newer) = if head.head.size < known.head.size { (head, known) } else { (known, head) };
        let shows = |view: &View| view.seen.as_ref().is_some_and(|seen| seen.head == newer.head);
        let is_first = |&at: &usize| shows(&self.views[at]) || (at == index && newer.head == head.head);
        let (first, others): (Vec<_>, Vec<_>) = (0..self.views.len()).partition(is_first);
        let (mut wrong, mut missing) = (None, "there is no source that has proofs".to_owned());
        for source in first.into_iter().chain(others).map(|at| &self.views[at].source).filter(|s| s.has_entries()) {
            match source.link(older.head.size, newer.head.size).await {
                Ok(link) => match follow::settle(older, newer, &link) {
                    Verdict::Extends => return Outcome::Extends,
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

    /// Whether a source shows a smaller head than before, or a cosigner says that it did.
    async fn check_rollback(&mut self, index: usize, known: &SignedHead, head: &SignedHead) {
        let largest = self.largest(index, &head.origin);
        let evidence = follow::taken_back(known, head).filter(|evidence| self.alarms.is_proved(evidence));
        if head.head.size.0 >= largest && evidence.is_none() {
            return;
        }
        let reason = format!(
            "its head has size {}, and it had one of size {}: it lags, or was rolled back",
            head.head.size,
            largest.max(head.head.size.0)
        );
        self.raise_with(Kind::Rollback, index, reason, evidence, vec![known.note.clone(), head.note.clone()]).await;
    }

    /// The size of the largest head that a source showed of a log.
    fn largest(&self, index: usize, origin: &str) -> u64 {
        let name = &self.views[index].source.name;
        let shown = self.state.shown.iter().find(|shown| shown.source == *name && shown.origin == origin);
        shown.map_or(0, |shown| shown.size)
    }

    async fn check_freshness(&mut self) {
        let Some(age_max) = self.plan.age_max else { return };
        let now = (self.plan.posix_seconds)();
        for log in 0..self.state.logs.len() {
            let known = &self.state.logs[log].known;
            let reason = match known.seconds {
                Some(seconds) if now.saturating_sub(seconds) <= age_max => continue,
                Some(seconds) => format!(
                    "the newest cosignature of its head is {} seconds old, more than {age_max}",
                    now.saturating_sub(seconds)
                ),
                None => {
                    "no signature of its head says when it was made: only witnesses and keys of type 0x06 do".into()
                }
            };
            let (subject, notes) = (known.origin.clone(), vec![known.note.clone()]);
            let origin = Some(subject.clone());
            self.alarms.raise(Alarm { kind: Kind::Stale, subject, origin, reason, evidence: None, notes }).await;
        }
    }

    pub(super) fn save(&mut self) -> anyhow::Result<()> {
        // A round without a file of entries says nothing of the one that an earlier round wrote.
        if let Some(out_bytes) = self.deliverer.out_bytes() {
            self.state.out_bytes = out_bytes;
        }
        self.file.save(&self.state)
    }

    /// A source does not have what it should.
    ///
    /// * `kind` - what that is unless the answer itself is bad.
    pub(super) async fn failed(&mut self, index: usize, failure: &Failure, kind: Kind) {
        let promises = self.views[index].seen.is_some();
        let kind = match failure.problem {
            Problem::Wrong(_) if kind == Kind::Unreachable => Kind::BadAnswer,
            Problem::Missing if promises => Kind::BadAnswer,
            _ => kind,
        };
        self.raise(kind, index, failure.to_string(), Vec::new()).await;
    }

    pub(super) async fn raise(&mut self, kind: Kind, index: usize, reason: String, notes: Vec<Bytes>) {
        self.raise_with(kind, index, reason, None, notes).await;
    }

    pub(super) async fn raise_with(
        &mut self,
        kind: Kind,
        index: usize,
        reason: String,
        evidence: Option<Evidence>,
        notes: Vec<Bytes>,
    ) {
        let View { source, seen, .. } = &self.views[index];
        let (subject, origin) = (source.name.clone(), seen.as_ref().map(|seen| seen.origin.clone()));
        self.alarms.raise(Alarm { kind, subject, origin, reason, evidence, notes }).await;
    }
}
