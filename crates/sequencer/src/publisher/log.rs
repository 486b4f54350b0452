//! One log on its way through the steps of a publication.

use std::collections::BTreeMap;

use logwood_merkle::{TreeHead, TreeSize};
use logwood_store::{HeadSignature, LogNumber, PublishedHead};

use super::{Action, HeadTime, Now, Publication, Thinning, note};

/// Most heads of one log that late cosignatures wait for. Beyond that those of the oldest are dropped: a later head has
/// been cosigned meanwhile, which says as much.
const LATE_HEADS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Log {
    pub(super) renews: bool,
    /// Has witnesses.
    pub(super) asks: bool,
    /// The newest signed head, and its signature.
    pub(super) released: Option<(TreeHead, HeadSignature)>,
    /// The newest head that may be seen.
    pub(super) served: Option<TreeHead>,
    pub(super) phase: Phase,
    pub(super) thinning: Thinning,
    /// The time of the head taken last: time does not go back in a history, whatever the clock does.
    pub(super) taken_posix_ms: u64,
    /// When a head was last taken, on the clock of [`Now::elapsed_ms`].
    pub(super) taken_ms: Option<u64>,
    /// Ticks that came while a head was being published.
    pub(super) missed_ticks: u32,
    /// When the log was last published or loaded.
    pub(super) published_ms: u64,
    /// Failures in a row, and when the next attempt may be made.
    pub(super) failures: u32,
    pub(super) retry_ms: u64,
    /// Somebody waits.
    pub(super) wanted: bool,
    /// Cosignatures that came late, by the size of the head that they are of.
    pub(super) late: BTreeMap<TreeSize, (TreeHead, Vec<HeadSignature>)>,
    /// Those that are being added to their head.
    pub(super) amending: Option<(TreeHead, Vec<HeadSignature>)>,
}

/// How far a publication has come.
#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    Preparing {
        head: TreeHead,
        time_ms: u64,
        signature: HeadSignature,
    },
    /// Goes into the history with the next round.
    Ready {
        publication: Publication,
        /// The witnesses are asked once it is there.
        then_ask: bool,
    },
    Storing {
        head: PublishedHead,
        then_ask: bool,
    },
    /// The witnesses are asked about a head of the history, which is stored again with what they say.
    Asking(Publication),
    /// Late cosignatures are added to a head that was served before.
    Amending,
    /// In the history, not in the anchor.
    Stored(PublishedHead),
    Anchoring(PublishedHead),
}

impl Log {
    pub(super) fn new((renews, asks): (bool, bool), taken_posix_ms: u64, now: Now) -> Self {
        Self {
            renews,
            asks,
            released: None,
            served: None,
            phase: Phase::Idle,
            thinning: Thinning::default(),
            taken_posix_ms,
            taken_ms: None,
            missed_ticks: 0,
            published_ms: now.elapsed_ms,
            failures: 0,
            retry_ms: 0,
            wanted: false,
            late: BTreeMap::new(),
            amending: None,
        }
    }

    /// Whether there is a signed head that is not published.
    pub(super) fn has_grown(&self) -> bool {
        let served = self.served.map(|served| served.size);
        self.released.as_ref().is_some_and(|(head, _)| served.is_none_or(|served| head.size > served))
    }

    /// Whether a head of this size was served, so that it is in the anchor.
    pub(super) fn was_served(&self, head: TreeHead) -> bool {
        self.served.is_some_and(|served| served.size >= head.size)
    }

    /// Takes note of a tick, or of none; whether it is time for the next head. A tick that came while witnesses were asked is
    /// made up for once they are done and the interval is over, so that waiting for them does not add to it. A head that
    /// was taken between ticks, because somebody wanted it, takes the place of none.
    ///
    /// * `ticked` - it is the tick of all logs.
    pub(super) fn tick(&mut self, ticked: bool, interval_ms: u64, now: Now) -> bool {
        let is_over = self.taken_ms.is_none_or(|taken_ms| now.elapsed_ms >= taken_ms + interval_ms);
        let is_made_up = self.missed_ticks > 0 && is_over;
        let is_idle = matches!(self.phase, Phase::Idle);
        self.missed_ticks = if is_idle { 0 } else { self.missed_ticks.saturating_add(ticked.into()) };
        self.wanted || (now.elapsed_ms >= self.retry_ms && (ticked || is_made_up || self.failures > 0))
    }

    /// Whether the newest head's signatures should be renewed.
    pub(super) fn is_stale(&self, refresh_ms: u64, now: Now) -> bool {
        self.renews && refresh_ms > 0 && self.released.is_some() && now.elapsed_ms >= self.published_ms + refresh_ms
    }

    pub(super) fn take(&mut self, number: LogNumber, now: Now) -> Option<Action> {
        if !matches!(self.phase, Phase::Idle) {
            return None;
        }
        let (head, signature) = self.released.clone()?;
        self.taken_posix_ms = self.taken_posix_ms.max(now.posix_ms);
        self.taken_ms = Some(now.elapsed_ms);
        let time_ms = self.taken_posix_ms;
        let history = self.thinning.wanted(time_ms);
        self.phase = Phase::Preparing { head, time_ms, signature };
        Some(Action::Prepare { log: number, head, time_ms, history })
    }

    /// What is stored first, unless it is there: a head is in the history before a witness sees it.
    pub(super) fn prepared(
        &mut self,
        number: LogNumber,
        signatures: Vec<HeadSignature>,
        history: &[Vec<HeadTime>; 2],
    ) -> Option<Action> {
        let Phase::Preparing { head, time_ms, signature } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return None;
        };
        let TreeSize(newest) = head.size;
        let thinned = self.thinning.thin(history, newest, time_ms);
        let signatures = [vec![signature], signatures].concat();
        let publication = Publication { log: number, head: PublishedHead { head, time_ms, signatures }, thinned };
        if self.asks && self.was_served(head) {
            return Some(self.ask(publication));
        }
        self.phase = Phase::Ready { publication, then_ask: self.asks };
        None
    }

    /// Step 3, or 4 with its cosignatures, if there is something to store.
    pub(super) fn store(&mut self) -> Option<Publication> {
        let Phase::Ready { publication, then_ask } = &self.phase else { return None };
        let (publication, then_ask) = (publication.clone(), *then_ask);
        self.phase = Phase::Storing { head: publication.head.clone(), then_ask };
        Some(publication)
    }

    /// Step 4.
    pub(super) fn ask(&mut self, publication: Publication) -> Action {
        let (log, head) = (publication.log, publication.head.clone());
        self.phase = Phase::Asking(publication);
        Action::Ask { log, head }
    }

    pub(super) fn asked(&mut self, head: TreeHead, signatures: Vec<HeadSignature>) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Asking(mut publication) if publication.head.head == head => {
                let is_stored = signatures.is_empty() && !self.was_served(head);
                note::merge(&mut publication.head.signatures, signatures);
                self.phase = if is_stored {
                    Phase::Stored(publication.head)
                } else {
                    Phase::Ready { publication, then_ask: false }
                };
            }
            // An answer to what was asked before a reload: its cosignatures are good all the same.
            other => {
                self.phase = other;
                self.keep_late(head, signatures);
            }
        }
    }

    /// Keeps cosignatures for a head until it is served and they can be added to it.
    pub(super) fn keep_late(&mut self, head: TreeHead, signatures: Vec<HeadSignature>) {
        if signatures.is_empty() {
            return;
        }
        let (_, known) = self.late.entry(head.size).or_insert((head, Vec::new()));
        note::merge(known, signatures);
        if self.late.len() > LATE_HEADS_MAX {
            self.late.pop_first();
        }
    }

    pub(super) fn amend(&mut self, number: LogNumber) -> Option<Action> {
        if !matches!(self.phase, Phase::Idle) {
            return None;
        }
        let served = self.served?;
        let (head, signatures) = self.late.first_entry().filter(|late| *late.key() <= served.size)?.remove();
        self.phase = Phase::Amending;
        self.amending = Some((head, signatures.clone()));
        Some(Action::Amend { log: number, head, signatures })
    }

    pub(super) fn amended(&mut self, number: LogNumber, head: Option<PublishedHead>) {
        if let Phase::Amending = self.phase {
            let ready = |head| Phase::Ready {
                publication: Publication { log: number, head, thinned: Vec::new() },
                then_ask: false,
            };
            self.phase = head.map_or(Phase::Idle, ready);
            self.amending.take_if(|_| matches!(self.phase, Phase::Idle));
        }
    }
}
