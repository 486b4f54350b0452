//! The monitor at work: rounds of all sources. [`super::heads`] judges what they show, and [`super::catch_up`] has the
//! entries in between.
//!
//! ```text
//!   round: every source's head ── signatures ── of one history with the tip ──> the tip and the known head grow
//!                                      └─ alarm            └─ alarm, evidence
//!   then, until the next round is due: 256 entries ── in the tree of the known head ── delivered ── state
//!                                                                                         └─ rounds go on meanwhile
//! ```
//!
//! The state is written after what it says was confirmed. A SIGKILL in between repeats that batch and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use indicatif::ProgressBar;
use logwood_merkle::TreeHead;
use logwood_monitor::failure::{Failure, Problem};
use logwood_monitor::follow::SignedHead;
use logwood_monitor::source::Source;
use logwood_monitor::status::Status;
use logwood_note::{Evidence, Policy};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::alarm::{Alarm, Alarms, Kind};
use super::catch_up::{Contradicted, History};
use super::deliver::Deliverer;
use super::state::{Log, State, StateFile};

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

/// How long a round waits for a source. One that is silent for longer is heard in a later round.
const ROUND_WAIT: Duration = Duration::from_secs(10);

/// What a source shows in a round: its checkpoint, and its seal, if that is asked for and there is one.
type Shown = (Result<Bytes, Failure>, Option<Bytes>);

/// A source, and what it showed.
pub(super) struct View {
    pub(super) source: Arc<Source>,
    /// Its answer, as long as it has not come.
    asked: Option<JoinHandle<Shown>>,
    /// The last head that is of the one history.
    pub(super) seen: Option<SignedHead>,
    /// The tip that `seen` was shown to be of one history with. Of another one it is shown anew.
    pub(super) seen_beside: Option<TreeHead>,
    /// The last head, if it is not shown to be of one history with anything.
    pub(super) loose: Option<SignedHead>,
    /// Since when it shows a head that nobody can prove.
    pub(super) ahead_since: Option<Instant>,
    /// The published heads that it keeps, between what was delivered and the known head.
    pub(super) history: History,
    /// Those of them that contradict the entries, without a proof for others yet.
    pub(super) contradicted: Vec<Contradicted>,
}

impl View {
    fn new(source: Source) -> Self {
        Self {
            source: Arc::new(source),
            asked: None,
            seen: None,
            seen_beside: None,
            loose: None,
            ahead_since: None,
            history: History::default(),
            contradicted: Vec::new(),
        }
    }

    /// Whether it shows the log of this origin.
    pub(super) fn is_of(&self, origin: &str) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.origin == origin)
    }
}

/// A monitor, its memory, and where everything goes.
pub(super) struct Watch<'a> {
    pub(super) plan: Plan<'a>,
    pub(super) views: Vec<View>,
    pub(super) state: State,
    file: StateFile,
    pub(super) deliverer: Arc<Mutex<Deliverer>>,
    pub(super) alarms: Alarms,
    pub(super) status: Arc<Status>,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) bar: ProgressBar,
    next_round: Instant,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        plan: Plan<'a>,
        sources: Vec<Source>,
        (state, file): (State, StateFile),
        deliverer: Deliverer,
        (alarms, status): (Alarms, Arc<Status>),
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let views = sources.into_iter().map(View::new).collect();
        let (deliverer, bar, next_round) = (Arc::new(Mutex::new(deliverer)), ProgressBar::hidden(), Instant::now());
        Self { plan, views, state, file, deliverer, alarms, status, stopping, bar, next_round }
    }

    /// Works until it is told to stop, or once.
    ///
    /// # Errors
    ///
    /// If the state cannot be written: going on would repeat what was confirmed.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        loop {
            self.round(false).await?;
            while self.advance().await? {
                if self.is_stopping() || (!self.plan.once && Instant::now() >= self.next_round) {
                    break;
                }
            }
            self.alarms.end_round();
            let is_done = self.plan.once && self.views.iter().all(|view| view.ahead_since.is_none());
            if is_done || self.is_stopping() {
                return Ok(());
            }
            while !self.is_stopping() && Instant::now() < self.next_round {
                let wait = self.next_round.saturating_duration_since(Instant::now());
                tokio::time::sleep(wait.min(Duration::from_millis(200))).await;
            }
        }
    }

    /// Waits for a task. However long it takes, the sources are asked for their heads.
    pub(super) async fn wait_for<T>(&mut self, mut task: JoinHandle<T>) -> anyhow::Result<T> {
        loop {
            tokio::select! {
                biased;
                outcome = &mut task => return Ok(outcome?),
                () = tokio::time::sleep_until(self.next_round), if !self.plan.once => {
                    self.round(true).await?;
                    self.alarms.end_round();
                }
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
    ///
    /// * `is_waiting` - something else goes on meanwhile.
    async fn round(&mut self, is_waiting: bool) -> anyhow::Result<()> {
        self.next_round = Instant::now() + self.plan.interval;
        self.alarms.begin_round(is_waiting);
        let before = self.state.seen();
        let mut heads = Vec::new();
        for (index, (note, seal)) in self.ask().await? {
            if let Some(seal) = seal {
                self.take_seal(index, seal).await;
            }
            match note {
                Ok(note) => heads.extend(self.open(index, note).await.map(|head| (index, head))),
                Err(failure) => {
                    let kind =
                        if matches!(failure.problem, Problem::Wrong(_)) { Kind::BadAnswer } else { Kind::Unreachable };
                    let reason = if failure.is_missing() { "it has no checkpoint".into() } else { failure.to_string() };
                    self.raise(kind, index, reason, Vec::new()).await;
                }
            }
        }
        // A history begins where there are entries, if possible with what witnesses have seen. None is passed over.
        heads.sort_by_key(|(index, head)| (!self.views[*index].source.has_entries(), head.quorum.is_err()));
        for (index, head) in heads {
            self.judge(index, head).await;
        }
        self.accuse().await;
        self.check_freshness().await;
        self.alarms.end_heads();
        if self.state.seen() != before {
            self.save()?;
        }
        Ok(())
    }

    /// Asks every source for its head, and takes what comes in time. So a source that is silent holds up the others once,
    /// and not for as long as it may take; `--once` has no later round, and waits.
    async fn ask(&mut self) -> anyhow::Result<Vec<(usize, Shown)>> {
        let (now, mut shown) = (Instant::now(), Vec::new());
        let mut deadlines = vec![now; self.views.len()];
        for (index, deadline) in deadlines.iter_mut().enumerate() {
            let wants_seal = self.wants_seal(&self.views[index]);
            let View { source, asked, .. } = &mut self.views[index];
            if asked.is_none() {
                let source = Arc::clone(source);
                *asked = Some(tokio::spawn(async move {
                    let seal = async { if wants_seal { source.seal().await } else { None } };
                    join(Box::pin(source.checkpoint()), Box::pin(seal)).await
                }));
                *deadline = now + ROUND_WAIT;
            }
        }
        for (index, deadline) in deadlines.into_iter().enumerate() {
            let View { source, asked, .. } = &mut self.views[index];
            let Some(answer) = asked else { continue };
            let answer = if self.plan.once { Ok(answer.await) } else { timeout_at(deadline, answer).await };
            match answer {
                Ok(answer) => {
                    *asked = None;
                    shown.push((index, answer?));
                }
                Err(_) => self.alarms.not_answered(&source.name),
            }
        }
        Ok(shown)
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
