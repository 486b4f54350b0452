//! Drives the publisher of `logwood-sequencer`: one task that does what it asks for and tells it how that went.
//!
//! ```text
//!   registry ──Loaded, Released──> Publisher ──Prepare, Ask, Store, Anchor, Serve──> key, witnesses, writer, anchor,
//!   admin, stop ──Wanted─────────>    ^                          │                      watchers
//!   witnesses ──Asked, Cosigned──>    └──── outcomes ────────────┘
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use logwood_merkle::{TreeHead, TreeSize};
use logwood_proto::Reason;
use logwood_sequencer::Level;
use logwood_sequencer::publisher::{
    Action, BatchId, Event, HISTORY_PAGE_HEADS, HeadTime, Now, Publication, Publisher, PublisherSettings, Step, note,
};
use logwood_store::{HeadQuery, HeadSignature, LogNumber, PublishedHead, ReadError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tonic::Status;

use crate::anchor::Anchored;
use crate::clock::now_ms;
use crate::core::{Core, stopping};
use crate::registry::{LogHandle, Published, Signer};
use crate::status;
use crate::vital::Vital;
use crate::wake::wake;
use crate::witnesses::Watched;
use crate::writer::Command;

/// Requests and outcomes that may wait for the task.
pub(crate) const WANTED_MAX: usize = 64;

/// What the task is told from outside.
pub(crate) enum ToPublisher {
    /// Publish now.
    Wanted(Wanted),
    /// What the witnesses of a log did.
    Event(Event),
    /// The witnesses of the log of this name let it sign: it is loaded anew.
    Reload(String),
}

/// Somebody waits until a head of this size is published.
pub(crate) struct Wanted {
    log: LogNumber,
    size: TreeSize,
    reply: oneshot::Sender<Result<(), Status>>,
}

/// A stored head as the signed note that it was.
pub(crate) fn published(origin: &str, watched: Option<&Watched>, stored: &PublishedHead) -> Result<Published, Status> {
    let note = note::published_note(origin, stored).map_err(|error| {
        tracing::error!(origin, size = %stored.head.size, %error, "a stored head is damaged");
        Status::data_loss("a stored head is damaged; the operator must run `logwood fsck`")
    })?;
    let time_is_cosigned = note::time_is_cosigned(origin, stored);
    let is_witnessed = watched.is_some_and(|watched| watched.is_quorum(stored));
    Ok(Published {
        head: stored.head,
        note: Bytes::from(note),
        time_ms: stored.time_ms,
        time_is_cosigned,
        is_witnessed,
    })
}

/// Publishes the latest head of `log` and waits until it can be seen. Returns at once if it can be, or if the log
/// does not sign.
pub(crate) async fn publish(core: &Core, log: &LogHandle) -> Result<(), Status> {
    let size = log.released.load().view.head().size;
    let is_published = log.published.borrow().as_ref().is_some_and(|published| published.head.size >= size);
    if is_published || log.signer.is_none() {
        return Ok(());
    }
    let (reply, answer) = oneshot::channel();
    let wanted = ToPublisher::Wanted(Wanted { log: log.number, size, reply });
    core.publisher.send(wanted).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())?
}

/// Publishes the latest head of `log` and waits until it has its quorum, if the log's witnesses have one.
pub(crate) async fn publish_witnessed(core: &Core, log: &LogHandle) -> Result<(), Status> {
    publish(core, log).await?;
    if log.check_witnesses(Level::Witnessed).is_err() || log.signer.is_none() {
        return Ok(());
    }
    let size = log.released.load().view.head().size;
    let mut witnessed = log.witnessed.subscribe();
    let covered = witnessed.wait_for(|head| head.as_ref().is_some_and(|head| head.head.size >= size));
    let most = Duration::from_millis(core.bounds.limits.wait_ms().into());
    tokio::time::timeout(most, covered)
        .await
        .map_err(|_| status::level_not_reached())?
        .map_err(|_| status::halted())?;
    Ok(())
}

/// Publishes every log that grew, once an interval, for as long as the server runs.
pub(crate) async fn run(core: Arc<Core>, mut told: mpsc::Receiver<ToPublisher>) {
    let _vital = Vital("publisher");
    let settings =
        PublisherSettings { interval_ms: core.publishing.interval_ms, refresh_ms: core.publishing.refresh_ms };
    let (outcomes, mut ended) = mpsc::channel(WANTED_MAX);
    let epoch = core.shared.epoch.load(Ordering::Acquire);
    let mut driver = Driver {
        publisher: Publisher::new(settings),
        known: HashMap::new(),
        waiting: Vec::new(),
        epoch,
        outcomes,
        started: Instant::now(),
        core,
    };
    loop {
        let wake = driver.started + Duration::from_millis(driver.publisher.wake_ms(driver.now()));
        tokio::select! {
            told = told.recv() => match told {
                Some(ToPublisher::Wanted(request)) => driver.want(request),
                Some(ToPublisher::Event(event)) => driver.handle(event),
                Some(ToPublisher::Reload(name)) => driver.reload(&name),
                None => return,
            },
            Some(event) = ended.recv() => driver.handle(event),
            () = driver.core.shared.crowded.notified() => {
                driver.look_around();
                driver.make_room();
            }
            () = tokio::time::sleep_until(wake) => {
                driver.look_around();
                driver.core.shared.registry.tick();
                driver.make_room();
            }
        }
        driver.poll();
    }
}

struct Driver {
    core: Arc<Core>,
    publisher: Publisher,
    /// The logs that the publisher knows, and the size that it was told last.
    known: HashMap<LogNumber, (Arc<LogHandle>, Option<TreeSize>)>,
    waiting: Vec<Wanted>,
    /// [`crate::writer::Shared::epoch`] as of the last look.
    epoch: u64,
    outcomes: mpsc::Sender<Event>,
    started: Instant,
}

impl Driver {
    fn now(&self) -> Now {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { posix_ms: now_ms(), elapsed_ms }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        self.publisher.handle(event, now);
    }

    fn want(&mut self, request: Wanted) {
        self.look_around();
        let Some((handle, _)) = self.known.get(&request.log) else {
            let _ = request.reply.send(Err(status::halted()));
            return;
        };
        // The head may have been served since it was asked for: nothing more comes of a log that does not grow.
        if handle.published.borrow().as_ref().is_some_and(|published| published.head.size >= request.size) {
            let _ = request.reply.send(Ok(()));
            return;
        }
        self.handle(Event::Wanted { log: request.log });
        self.waiting.push(request);
    }

    fn reload(&mut self, name: &str) {
        if let Err(status) = tokio::task::block_in_place(|| self.core.reload(name)) {
            tracing::error!(log = name, %status, "a log that may sign cannot be loaded: it is when it is next touched");
        }
        self.look_around();
    }

    /// Tells the publisher what has come into memory, grown, or been thrown away.
    fn look_around(&mut self) {
        let epoch = self.core.shared.epoch.load(Ordering::Acquire);
        if epoch != self.epoch {
            self.epoch = epoch;
            self.known.clear();
            self.handle(Event::Reset);
            tokio::spawn(wake(Arc::clone(&self.core)));
            for request in self.waiting.drain(..) {
                let _ = request.reply.send(Err(status::halted()));
            }
        }
        self.forget_evicted();
        for handle in self.core.shared.registry.all() {
            let number = handle.number;
            if !self.known.contains_key(&number) {
                // What a log without a signer has stored is not for it to anchor: it may be an old head.
                let stored = handle.stored.clone().filter(|_| handle.signer.is_some());
                let (anchored, asks) = (handle.anchored, handle.watched.is_some());
                let renews = asks || handle.signer.as_ref().and_then(Signer::cosigner).is_some();
                if let (Some(watched), Some(stored)) = (&handle.watched, &stored)
                    && !watched.is_quorum(stored)
                {
                    // What was cosigned while the log was loaded before may not have been stored.
                    watched.offer(&handle.settings.origin, stored, false);
                }
                self.handle(Event::Loaded { log: number, renews, asks, stored, anchored });
                self.known.insert(number, (Arc::clone(&handle), None));
            }
            self.look_at(number);
        }
    }

    /// Lets go of the logs that are not in memory any more, or came back as another handle.
    fn forget_evicted(&mut self) {
        let registry = &self.core.shared.registry;
        let is_gone = |log: &LogNumber, (handle, _): &mut (Arc<LogHandle>, _)| {
            registry.by_number(*log).is_none_or(|present| !Arc::ptr_eq(&present, handle))
        };
        let gone: Vec<_> = self.known.extract_if(is_gone).map(|(log, _)| log).collect();
        for log in gone {
            self.handle(Event::Unloaded { log });
        }
    }

    /// Asks the logs that were not used for longest to go, if there are more in memory than there should be. A log whose
    /// signatures are renewed stays: somebody must do it.
    fn make_room(&mut self) {
        let registry = &self.core.shared.registry;
        let surplus = registry.len().saturating_sub(self.core.bounds.limits.logs_in_memory());
        if surplus == 0 {
            return;
        }
        let mut idle: Vec<_> =
            self.known.values().filter(|(handle, _)| self.publisher.is_idle(handle.number)).collect();
        idle.sort_by_key(|(handle, _)| handle.touched.load(Ordering::Relaxed));
        let handles = idle.into_iter().take(surplus).map(|(handle, _)| Arc::clone(handle)).collect();
        // A planner that has ended keeps nothing in memory.
        let _ = self.core.commands.send(Command::Evict(handles));
    }

    fn look_at(&mut self, log: LogNumber) {
        let Some((handle, told)) = self.known.get_mut(&log) else { return };
        let released = handle.released.load();
        let head = released.view.head();
        if handle.signer.is_none() || *told == Some(head.size) {
            return;
        }
        *told = Some(head.size);
        let signatures = note::signatures(&released.note).expect("the log's own notes parse");
        let signature = signatures.into_iter().next().expect("and are signed");
        self.handle(Event::Released { log, head, signature });
    }

    /// Does what the publisher asks for, until it asks for nothing more.
    fn poll(&mut self) {
        loop {
            let actions = self.publisher.poll(self.now());
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Prepare { log, head, time_ms, history } => {
                let prepared = tokio::task::block_in_place(|| {
                    let history = self.history(log, history)?;
                    Ok((self.signatures(log, head, time_ms)?, history))
                });
                let event = match prepared {
                    // Another process may have cosigned a larger head: this one must not cosign a smaller one later.
                    Ok(_) if self.core.shared.anchor.is_foreign() => Event::Foreign,
                    Ok((signatures, history)) => Event::Prepared { log, signatures, history },
                    Err::<_, Status>(status) => {
                        tracing::warn!(log = self.name(log), %status, "a head cannot be prepared for publication");
                        Event::NotPrepared { log }
                    }
                };
                self.handle(event);
            }
            Action::Ask { log, head } => {
                let Some((handle, _)) = self.known.get(&log) else { return };
                if let Some(watched) = &handle.watched {
                    watched.offer(&handle.settings.origin, &head, true);
                }
            }
            Action::Amend { log, head, signatures } => {
                let event = match tokio::task::block_in_place(|| self.amended(log, head, signatures)) {
                    Ok(head) => Event::Amended { log, head },
                    Err(status) => {
                        tracing::warn!(log = self.name(log), %status, "late cosignatures are not stored yet");
                        Event::NotAmended { log }
                    }
                };
                self.handle(event);
            }
            Action::Store { batch, publications } => self.store(batch, publications),
            Action::Anchor { batch, heads } => self.anchor(batch, &heads),
            Action::Serve { log, head } => self.serve(log, &head),
            Action::Failed { log, step } => self.failed(log, step),
        }
    }

    /// What is added to the signature of the round: the log's own cosignature, and what witnesses said of this head
    /// before, if its signatures are renewed.
    fn signatures(&self, log: LogNumber, head: TreeHead, time_ms: u64) -> Result<Vec<HeadSignature>, Status> {
        let Some((handle, _)) = self.known.get(&log) else { return Ok(Vec::new()) };
        let mut signatures = self.cosign(handle, head, time_ms)?;
        if let Some(before) = handle.published.borrow().as_ref().filter(|before| before.head == head) {
            let lines = note::signatures(&before.note).expect("the log's own notes parse");
            signatures.extend(lines.into_iter().filter(|line| line.name != handle.settings.origin));
        }
        Ok(signatures)
    }

    /// A head of the history with further cosignatures. `None` if it has left the history.
    fn amended(
        &self,
        log: LogNumber,
        head: TreeHead,
        signatures: Vec<HeadSignature>,
    ) -> Result<Option<PublishedHead>, Status> {
        let stored = self.core.store()?.heads(log, HeadQuery::FromSize(head.size.0), 1).map_err(status::read)?.pop();
        let Some(mut stored) = stored.filter(|stored| stored.head == head) else { return Ok(None) };
        note::merge(&mut stored.signatures, signatures);
        Ok(Some(stored))
    }

    /// The log's own cosignature, if it has a key for it: it says that the log knew no larger head at that second.
    fn cosign(&self, handle: &LogHandle, head: TreeHead, time_ms: u64) -> Result<Vec<HeadSignature>, Status> {
        let Some(signer) = &handle.signer else { return Ok(Vec::new()) };
        signer.check_guard().map_err(|error| status::precondition(Reason::RollbackGuard, error.to_string()))?;
        let Some(key) = signer.cosigner() else { return Ok(Vec::new()) };
        // A renewal takes no later step that would find this.
        match self.core.shared.anchor.look() {
            Ok(Anchored::Yes) => {}
            Ok(Anchored::Foreign) => return Ok(Vec::new()),
            Err(error) => {
                tracing::error!(%error, "the anchor cannot be read: nothing is cosigned until it can be");
                return Err(status::exhausted("disk", "the anchor cannot be read"));
            }
        }
        let text = note::checkpoint_text(&handle.settings.origin, head);
        let line = key.cosign(&text, time_ms / 1_000).map_err(|error| {
            tracing::error!(log = handle.settings.name, %error, "a head cannot be cosigned");
            Status::internal("a head cannot be cosigned")
        })?;
        Ok(vec![note::stored(&line)])
    }

    /// The pages of the history that begin at these sizes.
    fn history(&self, log: LogNumber, from: [Option<u64>; 2]) -> Result<[Vec<HeadTime>; 2], Status> {
        let store = self.core.store()?;
        let page = |from: Option<u64>| -> Result<Vec<HeadTime>, ReadError> {
            let Some(from) = from else { return Ok(Vec::new()) };
            let heads = store.heads(log, HeadQuery::FromSize(from), HISTORY_PAGE_HEADS)?;
            Ok(heads.iter().map(|head| HeadTime { size: head.head.size.0, time_ms: head.time_ms }).collect())
        };
        let [minutes, hours] = from;
        Ok([page(minutes).map_err(status::read)?, page(hours).map_err(status::read)?])
    }

    fn store(&self, batch: BatchId, publications: Vec<Publication>) {
        let (core, outcomes) = (Arc::clone(&self.core), self.outcomes.clone());
        tokio::spawn(async move {
            let stored = core.change(|ticket| Command::Publish(publications, ticket)).await;
            let event = match stored {
                Ok(()) => Event::Stored { batch },
                Err(status) => {
                    tracing::warn!(%status, "the store took no heads; they are published later");
                    Event::NotStored { batch }
                }
            };
            // The task may have stopped; then nobody needs the outcome.
            let _ = outcomes.send(event).await;
        });
    }

    fn anchor(&self, batch: BatchId, heads: &[(LogNumber, TreeHead)]) {
        let heads: Vec<_> = heads.iter().map(|&(log, head)| (self.name(log).to_owned(), head)).collect();
        let (core, outcomes) = (Arc::clone(&self.core), self.outcomes.clone());
        tokio::task::spawn_blocking(move || {
            let event = match core.shared.anchor.append(&heads) {
                Ok(Anchored::Yes) => Event::Anchored { batch },
                Ok(Anchored::Foreign) => Event::Foreign,
                Err(error) => {
                    tracing::error!(%error, "the anchor cannot be written: nothing is published until it can be");
                    Event::NotAnchored { batch }
                }
            };
            let _ = outcomes.blocking_send(event);
        });
    }

    fn serve(&mut self, log: LogNumber, head: &PublishedHead) {
        let Some((handle, _)) = self.known.get(&log) else { return };
        let published = match published(&handle.settings.origin, handle.watched.as_deref(), head) {
            Ok(published) => Arc::new(published),
            Err(status) => return tracing::error!(log = handle.settings.name, %status, "a head cannot be shown"),
        };
        show(&handle.published, &published);
        if published.is_witnessed {
            show(&handle.witnessed, &published);
        }
        if handle.acknowledge != Level::Signed {
            let newest = handle.newest(Level::Published).borrow().as_ref().map_or(0, |newest| newest.head.size.0);
            handle.grown.send_if_modified(|size| {
                let has_grown = *size < newest;
                *size = newest.max(*size);
                has_grown
            });
        }
        for request in self.waiting.extract_if(.., |request| request.log == log && request.size <= head.head.size) {
            let _ = request.reply.send(Ok(()));
        }
    }

    fn failed(&mut self, log: LogNumber, step: Step) {
        let status = match step {
            // Told as what it is, if the log must not sign.
            Step::Prepare => {
                let refusal = self.known.get(&log).and_then(|(handle, _)| handle.signer().err());
                refusal.unwrap_or_else(status::halted)
            }
            Step::Store => status::exhausted("storage", "the store is behind: the head is published later"),
            Step::Anchor => status::exhausted("disk", "the anchor cannot be written: the head is published later"),
            Step::Foreign => status::precondition(Reason::RollbackGuard, "another process serves a copy of this log"),
        };
        for request in self.waiting.extract_if(.., |request| request.log == log) {
            let _ = request.reply.send(Err(status.clone()));
        }
    }

    fn name(&self, log: LogNumber) -> &str {
        self.known.get(&log).map_or("", |(handle, _)| &handle.settings.name)
    }
}

/// Shows a head to those who wait for the newest one, unless they saw a larger one: late cosignatures may be of any head.
fn show(newest: &watch::Sender<Option<Arc<Published>>>, head: &Arc<Published>) {
    newest.send_if_modified(|newest| {
        let is_newest = newest.as_ref().is_none_or(|newest| newest.head.size <= head.head.size);
        if is_newest {
            *newest = Some(Arc::clone(head));
        }
        is_newest
    });
}
