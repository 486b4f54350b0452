//! The driver of the sequencer: two threads between the queue and the disk.
//!
//! ```text
//!   handlers ──Command──> planner ──SealedRound──> committer ──Acknowledged──> one task that wakes the handlers
//!                            ^                        │
//!                            └───── Committed, Idle ──┘      a failed commit: Halted, reload, begin anew
//! ```
//!
//! The planner hashes and packs the next round while the committer syncs the last one. There is no artificial delay:
//! a round takes whatever has queued when the committer is free.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use logwood_merkle::{Hash, LeafIndex};
use logwood_proto::with_causes;
use logwood_sequencer::{Found, LogTail, Placement, Publication, RoundLimits, SealedRound, Sequencer, Submission};
use logwood_store::{
    BUNDLE_ENTRIES, CommitError, LogNumber, LogSettings, LogState, LogStore, Lookup, PackedBundle, ReadError, Round,
    RoundNumber, bundle,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::anchor::Anchor;
use crate::clock::now_ms;
use crate::disk::{DiskReserve, is_disk_full};
use crate::inbox::{COMPANY_ENTRIES, Inbox, WakeFor};
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::queue::Room;
use crate::registry::{LogHandle, Registry, Released};
use crate::slot::{ReloadError, StoreSlot};
use crate::vital::Vital;

mod backlog;
mod committer;
mod gathering;

use backlog::Backlog;
use committer::Committer;
use gathering::Gathering;

/// How often it is looked whether a full disk has room again.
const RELOAD_RETRY: Duration = Duration::from_secs(2);

/// What a handler learns when its round is released.
pub(crate) struct Acknowledged {
    pub(crate) placements: Vec<Placement>,
    /// The head that covers them. `None` for a log whose view did not change and that is not in memory any more.
    pub(crate) released: Option<Arc<Released>>,
}

/// Why a submission was not logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// The outcome is unknown, or the log is being reloaded.
    Halted,
    /// The store is behind; nothing was written.
    Refused,
    /// What storage knows of it cannot be read; nothing was written.
    Damaged,
    /// It is logged, but the anchor could not be written, so that no head may be signed yet.
    NotAnchored,
    /// It is logged, but the log must not sign a head over it: its witnesses, its anchor or the signer forbid it.
    NotSigned,
}

/// Where to answer, and the room in the queue that the submission takes until then.
pub(crate) struct Ticket {
    pub(crate) reply: oneshot::Sender<Result<Acknowledged, WriteError>>,
    pub(crate) _room: Option<Room>,
}

/// What the planner is told.
pub(crate) enum Command {
    /// By a handle of this epoch ([`Shared::epoch`]).
    Submit(u64, Submission<Ticket>),
    /// A tail that was read in this epoch ([`Shared::epoch`]).
    Load(u64, LogNumber, LogTail),
    Create(LogNumber, LogSettings, Ticket),
    /// By a handle of this epoch.
    SetState(u64, LogNumber, LogState, Ticket),
    /// Heads for the histories of at least one log.
    Publish(Vec<Publication>, Ticket),
    /// Logs that may go out of memory.
    Evict(Vec<Arc<LogHandle>>),
    Committed(RoundNumber),
    Idle,
    Failed(CommitError, Vec<Ticket>),
    Stop(oneshot::Sender<()>),
}

/// Everything that both threads share with the readers.
pub(crate) struct Shared {
    pub(crate) slot: StoreSlot,
    pub(crate) nodes: Nodes,
    pub(crate) registry: Registry,
    /// A commit failed, and nothing was loaded anew yet.
    pub(crate) halted: watch::Sender<bool>,
    /// Counts the times that everything planned was thrown away. What was read from storage in an earlier epoch is
    /// worth nothing to the planner.
    pub(crate) epoch: AtomicU64,
    pub(crate) anchor: Anchor,
    /// Rounds are anchored before their heads are signed.
    pub(crate) anchor_every_round: bool,
    pub(crate) disk: Arc<DiskReserve>,
    pub(crate) round: RoundLimits,
    pub(crate) metrics: Arc<Metrics>,
    /// There are more logs in memory than there should be.
    pub(crate) crowded: Notify,
}

type Completion = (Ticket, Result<Acknowledged, WriteError>);

/// Starts both threads and the task that wakes the handlers. Must be called inside the runtime.
pub(crate) fn start(
    shared: &Arc<Shared>,
    store: Arc<dyn LogStore>,
    last: RoundNumber,
) -> std::io::Result<Arc<Inbox<Command>>> {
    let inbox = Arc::new(Inbox::new());
    let (rounds, sealed) = crossbeam_channel::bounded(1);
    let (completions, mut completed) = mpsc::unbounded_channel::<Vec<Completion>>();
    tokio::spawn(async move {
        let _vital = Vital("completions");
        while let Some(batch) = completed.recv().await {
            for (ticket, outcome) in batch {
                // The caller may have gone. Its entry is in the log regardless.
                let _ = ticket.reply.send(outcome);
            }
        }
    });
    let (unreleased, planner) = (BTreeMap::new(), Arc::clone(&inbox));
    let committer = Committer { shared: Arc::clone(shared), sealed, planner, completions, unreleased };
    std::thread::Builder::new().name("committer".into()).spawn(move || {
        let _vital = Vital("committer");
        committer.run();
    })?;
    let planner = Planner {
        shared: Arc::clone(shared),
        store: Some(store),
        sequencer: Sequencer::with_limits(last, shared.round),
        inbox: Arc::clone(&inbox),
        rounds: Some(rounds),
        backlog: Backlog::default(),
        idle: true,
        gathering: Gathering::new(),
        filled: VecDeque::new(),
        packed: Vec::new(),
        disk_was_full: false,
        reload_at: None,
        stopping: None,
    };
    std::thread::Builder::new().name("planner".into()).spawn(move || {
        let _vital = Vital("planner");
        planner.run();
    })?;
    Ok(inbox)
}

struct Planner {
    shared: Arc<Shared>,
    store: Option<Arc<dyn LogStore>>,
    sequencer: Sequencer<Ticket>,
    inbox: Arc<Inbox<Command>>,
    rounds: Option<Sender<SealedRound<Ticket>>>,
    backlog: Backlog,
    idle: bool,
    /// Whom the next round waits for.
    gathering: Gathering,
    /// Bundles that sealed rounds filled with pieces, by the round that must be durable first.
    filled: VecDeque<(RoundNumber, LogNumber, u64)>,
    /// Bundles that were packed from their pieces and wait for a round to ride on.
    packed: Vec<(LogNumber, PackedBundle)>,
    /// The last failure was a full disk: reloading waits until there is room, and is tried again if it fails.
    disk_was_full: bool,
    /// When reloading is tried next.
    reload_at: Option<Instant>,
    stopping: Option<oneshot::Sender<()>>,
}

impl Planner {
    fn run(mut self) {
        let mut commands = Vec::new();
        loop {
            let (wake_for, at_most) = self.wake_for();
            self.inbox.take(&mut commands, wake_for, at_most);
            commands.drain(..).for_each(|command| self.obey(command));
            if self.reload_at.is_some_and(|at| at <= Instant::now()) {
                self.reload(true);
            }
            self.absorb();
            if self.idle && self.missing().is_none() {
                self.seal();
            }
            if self.idle && self.sequencer.is_empty() && self.stopping.is_some() {
                break;
            }
        }
        self.inbox.close();
        drop(self.rounds.take());
        drop(self.store.take());
        if let Some(done) = self.stopping {
            let _ = done.send(());
        }
    }

    /// What is waited for, and how long.
    fn wake_for(&self) -> (WakeFor, Duration) {
        match (self.idle, self.missing()) {
            (false, _) => (WakeFor::ManyEntries, RELOAD_RETRY),
            (true, Some((missing, left))) => (WakeFor::Submissions(missing), left),
            (true, None) => (WakeFor::Submissions(1), RELOAD_RETRY),
        }
    }

    /// How many submissions the next round waits for, and how long.
    fn missing(&self) -> Option<(usize, Duration)> {
        let (submissions, entries) = self.sequencer.waiting();
        let is_in_a_hurry = entries >= COMPANY_ENTRIES || self.stopping.is_some();
        self.gathering.missing(submissions).filter(|_| !is_in_a_hurry)
    }

    fn obey(&mut self, command: Command) {
        match command {
            // Halted: nothing is planned on what may not be there.
            Command::Create(_, _, ticket) | Command::SetState(_, _, _, ticket) | Command::Publish(_, ticket)
                if self.store.is_none() =>
            {
                let _ = ticket.reply.send(Err(WriteError::Halted));
            }
            // By a handle from before a reload, which knows nothing of the log's present state: the caller retries and
            // loads it anew.
            Command::Submit(epoch, submission) if !self.is_current(epoch) => drop(submission),
            Command::SetState(epoch, _, _, ticket) if !self.is_current(epoch) => {
                let _ = ticket.reply.send(Err(WriteError::Halted));
            }
            Command::Submit(_, submission) if self.sequencer.is_loaded(submission.log) => self.backlog.push(submission),
            Command::Submit(_, submission) => drop(submission),
            // A tail that was read before a reload may lack what the reload found.
            Command::Load(epoch, log, tail) => {
                if self.is_current(epoch) && !self.sequencer.is_loaded(log) {
                    for bundle in tail.unpacked().iter().rev() {
                        self.filled.push_front((RoundNumber(0), log, *bundle));
                    }
                    self.sequencer.load(log, tail);
                }
            }
            Command::Create(log, settings, ticket) => {
                self.sequencer.create(log, settings);
                self.sequencer.answer_after(log, ticket);
            }
            Command::SetState(_, log, state, ticket) => {
                // All that was queued before the change comes before it, however full the round gets.
                self.absorb_up_to(usize::MAX, usize::MAX);
                self.sequencer.set_state(log, state);
                self.sequencer.answer_after(log, ticket);
            }
            Command::Publish(publications, ticket) => {
                let Some(first) = publications.first().map(|publication| publication.log) else { return };
                for publication in publications {
                    self.sequencer.publish(publication);
                }
                self.sequencer.answer_after(first, ticket);
            }
            Command::Evict(handles) => handles.iter().for_each(|handle| self.evict(handle)),
            Command::Committed(round) => {
                self.sequencer.adopt(round);
                self.pack(round);
            }
            Command::Idle => {
                self.idle = true;
                let (waiting, _) = self.sequencer.waiting();
                self.gathering.ended(waiting);
            }
            Command::Failed(error, tickets) => self.fail(&error, tickets),
            Command::Stop(done) => self.stopping = Some(done),
        }
    }

    /// Whether nothing planned was thrown away since.
    fn is_current(&self, epoch: u64) -> bool {
        epoch == self.shared.epoch.load(Ordering::Acquire)
    }

    /// Takes a log out of memory if storage holds all of it. It comes back when it is next touched; what is loaded then
    /// arrives here after this command, whatever the loader saw.
    fn evict(&mut self, handle: &Arc<LogHandle>) {
        let log = handle.number;
        if !self.backlog.holds(log) && self.sequencer.is_durable(log) && self.shared.registry.evict(handle) {
            self.sequencer.unload(log);
        }
    }

    /// Takes from the backlog, log by log in turn, until the round is full.
    fn absorb(&mut self) {
        let (entries, bytes) = self.sequencer.room();
        self.absorb_up_to(entries, bytes);
    }

    /// Storage is asked once for all that is taken of a log: one sorted look-up is much less work than many.
    fn absorb_up_to(&mut self, entries_max: usize, bytes_max: usize) {
        let Some(store) = self.store.clone() else { return };
        let mut taken = self.backlog.take(entries_max, bytes_max);
        // Stable: the order within a log stays.
        taken.sort_by_key(|submission| submission.log);
        let found: Vec<_> = (taken.chunk_by(|one, next| one.log == next.log))
            .map(|of_one_log| self.look_up(&*store, of_one_log))
            .collect();
        let mut taken = taken.into_iter().peekable();
        for found in found {
            let Some(log) = taken.peek().map(|submission| submission.log) else { return };
            let mut found = found.map(Vec::into_iter);
            while let Some(submission) = taken.next_if(|submission| submission.log == log) {
                match &mut found {
                    Ok(found) => {
                        let known: Vec<_> = found.by_ref().take(submission.entries.len()).collect();
                        self.sequencer.absorb(submission, &known);
                    }
                    Err(error) => {
                        tracing::error!(%error, "an identity could not be looked up; its submission is refused");
                        let is_damaged = matches!(error, ReadError::Corrupt { .. });
                        let refusal = if is_damaged { WriteError::Damaged } else { WriteError::Halted };
                        let _ = submission.ticket.reply.send(Err(refusal));
                    }
                }
            }
        }
    }

    /// What storage knows of each entry of `submissions`, which are of one log, in their order.
    fn look_up(
        &self,
        store: &dyn LogStore,
        submissions: &[Submission<Ticket>],
    ) -> Result<Vec<Option<Found>>, ReadError> {
        let Some(log) = submissions.first().map(|submission| submission.log) else { return Ok(Vec::new()) };
        let entries = submissions.iter().flat_map(|submission| &submission.entries);
        let mut found = vec![None; entries.clone().count()];
        let (places, lookups): (Vec<_>, Vec<_>) = (entries.enumerate())
            .filter_map(|(place, entry)| Some((place, entry.identity?)))
            .filter(|(_, identity)| !self.sequencer.knows(log, *identity))
            .map(|(place, identity)| (place, Lookup::Identity(identity)))
            .unzip();
        if lookups.is_empty() {
            return Ok(found);
        }
        for (place, index) in places.into_iter().zip(store.find(log, &lookups)?) {
            if let Some(index) = index {
                found[place] = Some(Found { index, leaf: stored_leaf(store, log, index)? });
            }
        }
        Ok(found)
    }

    /// Packs the bundles that `round` filled, while the next one syncs. They ride on a later round, so that an idle log
    /// stays idle; until then their pieces are as good.
    fn pack(&mut self, round: RoundNumber) {
        let Some(store) = self.store.clone() else { return };
        while let Some((_, log, index)) = self.filled.pop_front_if(|(filled, ..)| *filled <= round) {
            let (first, end) = (LeafIndex(index * BUNDLE_ENTRIES), LeafIndex((index + 1) * BUNDLE_ENTRIES));
            match store.entries(log, first, end, usize::MAX) {
                Ok(entries) if entries.len() as u64 == BUNDLE_ENTRIES => {
                    self.packed.push((log, bundle::pack(index, &entries)));
                }
                Ok(entries) => tracing::error!(index, found = entries.len(), "a full bundle lacks entries"),
                Err(error) => tracing::error!(index, %error, "the pieces of a bundle cannot be read"),
            }
        }
    }

    fn seal(&mut self) {
        if self.sequencer.has_writes() {
            for (log, bundle) in self.packed.drain(..) {
                self.sequencer.repack(log, bundle);
            }
        }
        if let Some(round) = self.sequencer.seal(now_ms()) {
            self.filled.extend(round.round.iter().flat_map(filled_by_pieces));
            self.idle = false;
            self.gathering.sealed(round.answers.len());
            if let Some(rounds) = &self.rounds {
                let _ = rounds.send(round);
            }
        }
    }

    /// A commit failed: everything planned on top of it is void. Nobody was told an index.
    fn fail(&mut self, error: &CommitError, mut tickets: Vec<Ticket>) {
        // Until every handle is gone, no log is loaded: it would have the new epoch and be gone as well.
        self.shared.halted.send_replace(true);
        let answer = match error {
            CommitError::Refused { reason } => {
                tracing::warn!(%reason, "the store refused a round");
                WriteError::Refused
            }
            CommitError::Unknown { source } => {
                tracing::error!(%source, "the outcome of a commit is unknown: halting, then reloading from storage");
                self.disk_was_full = is_disk_full(&**source);
                WriteError::Halted
            }
        };
        tickets.extend(self.backlog.drain());
        if let Some(planned) = self.sequencer.seal(0) {
            tickets.extend(planned.answers.into_iter().map(|answer| answer.ticket));
        }
        for ticket in tickets {
            let _ = ticket.reply.send(Err(answer));
        }
        self.shared.epoch.fetch_add(1, Ordering::AcqRel);
        self.filled.clear();
        self.packed.clear();
        self.sequencer = Sequencer::with_limits(RoundNumber(0), self.shared.round);
        self.store = None;
        self.reload(matches!(error, CommitError::Unknown { .. }));
        self.idle = true;
    }

    /// Begins anew from storage, which is opened again if what it holds is not known.
    ///
    /// Until it is closed for that, reads go on from the old handle, under the heads that were released before: these
    /// are durable, whatever became of the round that failed. On a full disk that is until there is room.
    fn reload(&mut self, reopen: bool) {
        self.reload_at = self.disk_was_full.then(|| Instant::now() + RELOAD_RETRY);
        if reopen && self.disk_was_full && !self.shared.disk.has_room() {
            return;
        }
        let reopened = if reopen {
            self.shared.slot.reload()
        } else {
            self.shared.slot.get().ok_or_else(|| ReloadError::Open("the store is closed".into()))
        };
        if matches!(reopened, Err(ReloadError::InUse)) {
            tracing::warn!("reads hold the store open: it is opened again once they are over");
            self.reload_at = Some(Instant::now() + RELOAD_RETRY);
            return;
        }
        self.shared.registry.clear();
        self.shared.nodes.clear();
        let last = reopened.and_then(|store| match store.state() {
            Ok(state) => Ok((state.round, store)),
            Err(error) => Err(ReloadError::Open(error.into())),
        });
        match last {
            Ok((last, store)) => {
                self.sequencer = Sequencer::with_limits(last, self.shared.round);
                self.store = Some(store);
                (self.disk_was_full, self.reload_at) = (false, None);
                self.shared.halted.send_replace(false);
                tracing::info!(round = %last, "serving writes again");
            }
            Err(error) => {
                let retry = self.disk_was_full;
                let error = with_causes(error.to_string(), &error);
                tracing::error!(
                    error,
                    retry,
                    "the store cannot be opened again: free the disk, or restart the process"
                );
            }
        }
    }
}

/// The bundles whose last piece is in `round`.
fn filled_by_pieces(round: &Round) -> impl Iterator<Item = (RoundNumber, LogNumber, u64)> {
    round.logs.iter().flat_map(|log| {
        let pieces = log.extend.iter().flat_map(|extension| &extension.pieces);
        let ends = pieces.map(|piece| piece.first.0 + piece.entries.len() as u64);
        ends.filter(|end| end % BUNDLE_ENTRIES == 0).map(|end| (round.number, log.log, end / BUNDLE_ENTRIES - 1))
    })
}

fn stored_leaf(store: &dyn LogStore, log: LogNumber, index: LeafIndex) -> Result<Hash, ReadError> {
    let entry = store.entries(log, index, LeafIndex(index.0 + 1), 1)?;
    let what = || ReadError::Corrupt { what: format!("entry {index} of log number {}", log.0) };
    entry.first().map(|entry| Hash::leaf(&entry.bytes)).ok_or_else(what)
}
