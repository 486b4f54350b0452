//! The state machine: which logs are due, and what is written together.

use std::collections::BTreeMap;

use logwood_merkle::TreeHead;
use logwood_store::{LogNumber, PublishedHead};

use super::log::{Log, Phase};
use super::{Action, BatchId, Event, Now, Publication, PublisherSettings, Step, Thinning, may_be_seen};

/// Most heads of one batch. With four post-quantum signatures each, that is 10 MiB of a round.
pub const BATCH_HEADS_MAX: usize = 1_024;

/// Longest wait between two attempts after failures, in milliseconds.
const RETRY_MS_MAX: u64 = 30_000;

/// Decides when heads are published, and keeps the order of the steps. One for all logs of a process.
#[derive(Debug)]
pub struct Publisher {
    settings: PublisherSettings,
    logs: BTreeMap<LogNumber, Log>,
    next_tick_ms: u64,
    storing: Option<Batch>,
    anchoring: Option<Batch>,
    last_batch: u64,
    /// Another process has the anchor.
    stopped: bool,
    /// Decided, and not yet given to the driver.
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Batch {
    id: BatchId,
    logs: Vec<LogNumber>,
}

impl Publisher {
    /// A publisher that knows no log yet.
    #[must_use]
    pub fn new(settings: PublisherSettings) -> Self {
        Self {
            settings,
            logs: BTreeMap::new(),
            next_tick_ms: 0,
            storing: None,
            anchoring: None,
            last_batch: 0,
            stopped: false,
            actions: Vec::new(),
        }
    }

    /// Takes note of what happened. Outcomes of batches from before a [`Event::Reset`] are ignored.
    pub fn handle(&mut self, event: Event, now: Now) {
        match event {
            Event::Loaded { log, renews, asks, stored, anchored } => {
                self.load(log, (renews, asks), stored, anchored, now);
            }
            Event::Released { log, head, signature } => {
                if let Some(log) = self.logs.get_mut(&log) {
                    log.released = Some((head, signature));
                }
            }
            Event::Wanted { log } if self.stopped => self.actions.push(Action::Failed { log, step: Step::Foreign }),
            Event::Wanted { log } => {
                if let Some(log) = self.logs.get_mut(&log) {
                    log.wanted = true;
                }
            }
            Event::Prepared { log, signatures, history } => {
                if let Some(found) = self.logs.get_mut(&log) {
                    self.actions.extend(found.prepared(log, signatures, &history));
                }
            }
            Event::Asked { log, head, signatures } => {
                if let Some(log) = self.logs.get_mut(&log) {
                    log.asked(head, signatures);
                }
            }
            Event::Cosigned { log, head, signatures } => {
                if let Some(log) = self.logs.get_mut(&log) {
                    log.keep_late(head, signatures);
                }
            }
            Event::Amended { log, head } => {
                if let Some(found) = self.logs.get_mut(&log) {
                    found.amended(log, head);
                }
            }
            Event::NotPrepared { log } => self.failed(log, Step::Prepare, now),
            // Nobody waits for that.
            Event::NotAmended { log } => self.back_off(log, now),
            Event::Stored { batch } => {
                for log in Batch::end(&mut self.storing, batch) {
                    self.stored(log, now);
                }
            }
            Event::NotStored { batch } => {
                for log in Batch::end(&mut self.storing, batch) {
                    self.failed(log, Step::Store, now);
                }
            }
            Event::Anchored { batch } => {
                for log in Batch::end(&mut self.anchoring, batch) {
                    self.anchored(log, now);
                }
            }
            Event::NotAnchored { batch } => {
                for log in Batch::end(&mut self.anchoring, batch) {
                    self.failed(log, Step::Anchor, now);
                }
            }
            Event::Foreign => {
                self.stopped = true;
                self.actions.extend(self.logs.keys().map(|&log| Action::Failed { log, step: Step::Foreign }));
                self.forget();
            }
            Event::Unloaded { log } => drop(self.logs.remove(&log)),
            Event::Reset => self.forget(),
        }
    }

    /// Whether a log may go out of memory: nothing of it is on its way, and nobody waits for it to be renewed.
    #[must_use]
    pub fn is_idle(&self, log: LogNumber) -> bool {
        self.logs.get(&log).is_some_and(|log| {
            let released = log.released.as_ref().map(|(head, _)| *head);
            let is_published = released.is_none() || released == log.served;
            is_published && !log.renews && !log.asks && !log.wanted && matches!(log.phase, Phase::Idle)
        })
    }

    /// What to do now. Call it after events, and when [`wake_ms`](Self::wake_ms) says so.
    pub fn poll(&mut self, now: Now) -> Vec<Action> {
        if !self.stopped {
            // Anchor before store: what is stored must not wait behind the next tick's writes.
            self.anchor(now);
            self.store();
            self.amend(now);
            self.take(now);
        }
        std::mem::take(&mut self.actions)
    }

    /// When to poll next if nothing happens after the poll at `now`, on the clock of [`Now::elapsed_ms`].
    #[must_use]
    pub fn wake_ms(&self, now: Now) -> u64 {
        let retries = self.logs.values().map(|log| log.retry_ms).filter(|&retry_ms| retry_ms > now.elapsed_ms);
        retries.fold(self.next_tick_ms, u64::min)
    }

    fn load(
        &mut self,
        number: LogNumber,
        (renews, asks): (bool, bool),
        stored: Option<PublishedHead>,
        anchored: Option<TreeHead>,
        now: Now,
    ) {
        let taken_posix_ms = stored.as_ref().map_or(0, |stored| stored.time_ms);
        let mut log = Log::new((renews, asks), taken_posix_ms, now);
        if let Some(stored) = stored {
            if may_be_seen(&stored, anchored) {
                log.served = Some(stored.head);
            } else {
                log.phase = Phase::Stored(stored);
            }
        }
        self.logs.insert(number, log);
    }

    /// Step 1, for every log that is due.
    fn take(&mut self, now: Now) {
        let ticked = now.elapsed_ms >= self.next_tick_ms;
        let PublisherSettings { interval_ms, refresh_ms } = self.settings;
        if ticked {
            self.next_tick_ms = now.elapsed_ms + interval_ms;
        }
        for (&number, log) in &mut self.logs {
            if log.tick(ticked, interval_ms, now) && (log.has_grown() || log.is_stale(refresh_ms, now)) {
                self.actions.extend(log.take(number, now));
            }
        }
    }

    /// Adds late cosignatures to heads that were served, one head a log at a time.
    fn amend(&mut self, now: Now) {
        for (&number, log) in &mut self.logs {
            if now.elapsed_ms >= log.retry_ms {
                self.actions.extend(log.amend(number));
            }
        }
    }

    /// Step 3, or 4 with its cosignatures, for every log that is ready; once no log of this tick is still being prepared,
    /// so that all go together.
    fn store(&mut self) {
        if self.storing.is_some() || self.logs.values().any(|log| matches!(log.phase, Phase::Preparing { .. })) {
            return;
        }
        let (mut publications, mut logs) = (Vec::new(), Vec::new());
        for (&number, log) in &mut self.logs {
            if publications.len() == BATCH_HEADS_MAX {
                break;
            }
            if let Some(publication) = log.store() {
                publications.push(publication);
                logs.push(number);
            }
        }
        if !publications.is_empty() {
            let batch = self.batch();
            self.storing = Some(Batch { id: batch, logs });
            self.actions.push(Action::Store { batch, publications });
        }
    }

    /// Step 5, for every log that is stored; once nothing is being stored, so that all share one sync.
    fn anchor(&mut self, now: Now) {
        if self.anchoring.is_some() || self.storing.is_some() {
            return;
        }
        let (mut heads, mut logs) = (Vec::new(), Vec::new());
        for (&number, log) in &mut self.logs {
            if let Phase::Stored(head) = &log.phase
                && (log.wanted || now.elapsed_ms >= log.retry_ms)
            {
                heads.push((number, head.head));
                logs.push(number);
                log.phase = Phase::Anchoring(head.clone());
            }
        }
        if !heads.is_empty() {
            let batch = self.batch();
            self.anchoring = Some(Batch { id: batch, logs });
            self.actions.push(Action::Anchor { batch, heads });
        }
    }

    fn stored(&mut self, number: LogNumber, now: Now) {
        let Some(log) = self.logs.get_mut(&number) else { return };
        let Phase::Storing { head, then_ask } = std::mem::replace(&mut log.phase, Phase::Idle) else { return };
        if then_ask {
            self.actions.push(log.ask(Publication { log: number, head, thinned: Vec::new() }));
        } else if log.was_served(head.head) {
            // Renewed or amended: it is in the anchor.
            self.serve(number, head, now);
        } else {
            log.phase = Phase::Stored(head);
        }
    }

    fn anchored(&mut self, number: LogNumber, now: Now) {
        let Some(log) = self.logs.get_mut(&number) else { return };
        if let Phase::Anchoring(head) = std::mem::replace(&mut log.phase, Phase::Idle) {
            self.serve(number, head, now);
        }
    }

    /// Step 6.
    fn serve(&mut self, number: LogNumber, head: PublishedHead, now: Now) {
        let Some(log) = self.logs.get_mut(&number) else { return };
        if log.amending.take().is_none() {
            log.published_ms = now.elapsed_ms;
        }
        if log.served.is_none_or(|served| served.size < head.head.size) {
            log.served = Some(head.head);
        }
        (log.failures, log.retry_ms) = (0, 0);
        // Whoever waits for a head that a round has signed meanwhile goes on waiting.
        log.wanted &= log.has_grown();
        self.actions.push(Action::Serve { log: number, head });
    }

    /// Whoever waits is told.
    fn failed(&mut self, number: LogNumber, step: Step, now: Now) {
        self.back_off(number, now);
        if let Some(log) = self.logs.get_mut(&number) {
            log.wanted = false;
            self.actions.push(Action::Failed { log: number, step });
        }
    }

    /// Back to where the step can be tried again, after a while.
    fn back_off(&mut self, number: LogNumber, now: Now) {
        let interval_ms = self.settings.interval_ms;
        let Some(log) = self.logs.get_mut(&number) else { return };
        log.phase = match std::mem::replace(&mut log.phase, Phase::Idle) {
            Phase::Anchoring(head) => Phase::Stored(head),
            stored @ Phase::Stored(_) => stored,
            Phase::Idle
            | Phase::Preparing { .. }
            | Phase::Asking(_)
            | Phase::Amending
            | Phase::Ready { .. }
            | Phase::Storing { .. } => Phase::Idle,
        };
        if let Some((head, signatures)) = log.amending.take() {
            log.keep_late(head, signatures);
        }
        // What was to be thinned may be there still.
        log.thinning = Thinning::default();
        log.failures = log.failures.saturating_add(1);
        let wait_ms = interval_ms.saturating_mul(1 << log.failures.min(16)).min(RETRY_MS_MAX.max(interval_ms));
        log.retry_ms = now.elapsed_ms + wait_ms;
    }

    fn forget(&mut self) {
        self.logs.clear();
        (self.storing, self.anchoring) = (None, None);
    }

    fn batch(&mut self) -> BatchId {
        self.last_batch += 1;
        BatchId(self.last_batch)
    }
}

impl Batch {
    /// The logs of the batch in flight, if it is this one; it is over then.
    fn end(in_flight: &mut Option<Self>, id: BatchId) -> Vec<LogNumber> {
        in_flight.take_if(|batch| batch.id == id).map(|batch| batch.logs).unwrap_or_default()
    }
}
