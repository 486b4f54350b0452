//! What every rpc does: find the log, check sizes, make the head that an answer holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use logwood_merkle::{Hash, TreeHead, TreeSize};
use logwood_note::{LogName, Policy, Seal};
use logwood_proto::{Reason, hashes_to_bytes, v1};
use logwood_sequencer::publisher::may_be_seen;
use logwood_sequencer::{Level, LogTail, NewEntry, Submission};
use logwood_store::{
    ENTRY_BYTES_MAX, HeadQuery, IdentityHash, LOG_ENTRIES_MAX, LogNumber, LogQuery, LogRecord, LogState, LogStore,
    PublishedHead, StoredHead,
};
use parking_lot::{Mutex, RwLock};
use sha2::Sha256;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use crate::admin::Origins;
use crate::bounds::Bounds;
use crate::inbox::Inbox;
use crate::metrics::Fill;
use crate::publisher::{ToPublisher, published};
use crate::queue::Queue;
use crate::registry::{LogHandle, Released, Shown};
use crate::serve::PublishOptions;
use crate::status;
use crate::witnesses::{Witnesses, is_quorum};
use crate::writer::{Acknowledged, Command, Shared, Ticket, WriteError};

/// Heads of the history that are read at once: with every signature that they can have, about 1 MiB.
pub(crate) const HEADS_AT_ONCE: usize = 32;

/// What becomes of entries that the queue has no room for.
#[derive(Clone, Copy)]
pub(crate) enum WhenFull {
    /// The caller is told to come back.
    Refuse,
    /// The caller is not read from meanwhile: flow control of a stream.
    Wait,
}

/// State of the services.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) bounds: Bounds,
    pub(crate) commands: Arc<Inbox<Command>>,
    /// HMAC-SHA-256, keyed with the store's identity secret.
    identity_mac: Hmac<Sha256>,
    queue: Arc<Queue>,
    loading: Mutex<()>,
    pub(crate) creating: tokio::sync::Mutex<Origins>,
    pub(crate) public_url: Option<String>,
    pub(crate) publishing: PublishOptions,
    pub(crate) witnesses: Witnesses,
    pub(crate) publisher: mpsc::Sender<ToPublisher>,
}

impl Core {
    pub(crate) fn new(
        shared: Arc<Shared>,
        bounds: Bounds,
        commands: Arc<Inbox<Command>>,
        identity_secret: &[u8; 32],
        public_url: Option<String>,
        (publishing, witnesses, publisher): (PublishOptions, Witnesses, mpsc::Sender<ToPublisher>),
    ) -> Self {
        Self {
            shared,
            commands,
            identity_mac: Hmac::new_from_slice(identity_secret).expect("HMAC takes a key of any length"),
            queue: Arc::new(Queue::new(bounds.limits.queue_entries(), bounds.limits.queue_bytes())),
            bounds,
            loading: Mutex::new(()),
            creating: tokio::sync::Mutex::default(),
            public_url,
            publishing,
            witnesses,
            publisher,
        }
    }

    /// Entries and bytes in the queue, and how many may be.
    pub(crate) fn queue_levels(&self) -> (Fill, Fill) {
        let (entries, bytes) = self.queue.taken();
        let fill = |now: usize, max: usize| Fill { now: now as u64, max: max as u64 };
        (fill(entries, self.bounds.limits.queue_entries()), fill(bytes, self.bounds.limits.queue_bytes()))
    }

    pub(crate) fn store(&self) -> Result<Arc<dyn LogStore>, Status> {
        self.shared.slot.get().ok_or_else(status::halted)
    }

    /// The log of this name, loaded from storage if it is touched for the first time.
    pub(crate) fn log(&self, name: &str) -> Result<Arc<LogHandle>, Status> {
        if let Some(handle) = self.shared.registry.get(name) {
            return Ok(handle);
        }
        name.parse::<LogName>().map_err(|error| status::invalid("log", error.to_string()))?;
        let _one_at_a_time = self.loading.lock();
        if let Some(handle) = self.shared.registry.get(name) {
            return Ok(handle);
        }
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        if *self.shared.halted.borrow() {
            return Err(status::halted());
        }
        let store = self.store()?;
        let record = store.logs(LogQuery::Name(name)).map_err(status::read)?.pop();
        let record = record.ok_or_else(|| Status::not_found(format!("there is no log `{name}`")))?;
        let tail = load_tail(&*store, &record)?;
        let handle = self.handle(&*store, record, (epoch, &tail))?;
        let _ = self.commands.send(Command::Load(epoch, handle.number, tail));
        self.shared.registry.insert(Arc::clone(&handle));
        if self.shared.epoch.load(Ordering::Acquire) != epoch {
            self.shared.registry.remove(&handle);
            return Err(status::halted());
        }
        if self.shared.registry.len() > self.bounds.limits.logs_in_memory() {
            self.shared.crowded.notify_one();
        }
        Ok(handle)
    }

    /// Loads a log anew, because its witnesses let it sign now. Whoever follows it is told to begin anew.
    pub(crate) fn reload(&self, name: &str) -> Result<Arc<LogHandle>, Status> {
        {
            // Whatever was loaded meanwhile has seen it, or is taken out here.
            let _one_at_a_time = self.loading.lock();
            if let Some(handle) = self.shared.registry.get(name).filter(|handle| handle.signer.is_none()) {
                self.shared.registry.remove(&handle);
            }
        }
        self.log(name)
    }

    /// The size of the newest published head of a log that need not be in memory.
    pub(crate) fn published_size(&self, store: &dyn LogStore, record: &LogRecord) -> Result<TreeSize, Status> {
        let seen = self.published_head(store, record)?;
        Ok(seen.map_or(TreeSize(0), |head| head.head.size))
    }

    /// As [`published_size`](Self::published_size), as far as the log lets its heads out: of one that shows witnessed heads
    /// alone, the largest of these. A log that cannot be read is listed with size 0, and does not hide the others.
    pub(crate) fn listed_size(&self, store: &dyn LogStore, record: &LogRecord) -> TreeSize {
        let name = &record.settings.name;
        let size = || -> Result<_, Status> {
            let mut seen = self.published_head(store, record)?;
            if self.publishing.acknowledge(name) == Level::Witnessed {
                seen = Self::witnessed(store, record.number, (self.witnesses.policy(name), seen.as_ref()))?;
            }
            Ok(seen.map_or(TreeSize(0), |head| head.head.size))
        };
        size().unwrap_or_else(|status| {
            tracing::error!(log = name, %status, "a log that is listed cannot be read");
            TreeSize(0)
        })
    }

    fn published_head(&self, store: &dyn LogStore, record: &LogRecord) -> Result<Option<PublishedHead>, Status> {
        let newest = store.heads(record.number, HeadQuery::Latest, 1).map_err(status::read)?.pop();
        Self::seen(store, record.number, newest.as_ref(), self.shared.anchor.head(&record.settings.name))
    }

    /// The newest head of the history that may be seen. What is newer was being published when the process ended.
    ///
    /// * `newest` - the newest of all.
    fn seen(
        store: &dyn LogStore,
        log: LogNumber,
        newest: Option<&PublishedHead>,
        anchored: Option<TreeHead>,
    ) -> Result<Option<PublishedHead>, Status> {
        let (Some(newest), Some(anchored)) = (newest, anchored) else { return Ok(None) };
        if may_be_seen(newest, Some(anchored)) {
            return Ok(Some(newest.clone()));
        }
        let below = HeadQuery::Below(anchored.size.0.saturating_add(1));
        Ok(store.heads(log, below, 1).map_err(status::read)?.pop())
    }

    fn handle(
        &self,
        store: &dyn LogStore,
        record: LogRecord,
        (epoch, tail): (u64, &LogTail),
    ) -> Result<Arc<LogHandle>, Status> {
        let stored = store.heads(record.number, HeadQuery::Latest, 1).map_err(status::read)?.pop();
        let anchored = self.shared.anchor.head(&record.settings.name);
        let view = tail.view();
        let watched = self.witnesses.watch(&record, stored.as_ref(), &view);
        let show = |head: &PublishedHead| published(&record.settings.origin, watched.as_deref(), head).map(Arc::new);
        let published = stored.as_ref().map(show).transpose()?;
        // Asked once: they may let it sign meanwhile, and then it is loaded anew.
        let is_guarded = watched.as_ref().is_some_and(|watched| !watched.guard.is_open());
        let signer = if is_guarded { None } else { self.signer(&record, published.as_deref(), watched.as_deref())? };
        let signer = self.unless_forked(store, (&record, &view), signer)?;
        let signer = self.anchored((&record, stored.as_ref()), signer)?;
        let attempt = signer.map(|signer| {
            let note = signer.sign(&record.settings.origin, view.head());
            note.map(|note| (signer, note))
        });
        let (signer, released) = match (attempt.transpose(), &published) {
            (Ok(Some((signer, note))), _) => (Some(signer), Released { view, note, time_ms: record.head.time_ms }),
            (unsigned, Some(published)) => {
                if let Err(error) = unsigned {
                    tracing::error!(
                        log = record.settings.name, %error,
                        "the stored log is behind what was signed: it is read-only. Was an old copy of the data \
                         directory restored?"
                    );
                }
                let record = LogRecord { head: StoredHead { head: published.head, ..record.head }, ..record.clone() };
                let view = load_tail(store, &record)?.view();
                (None, Released { view, note: published.note.clone(), time_ms: published.time_ms })
            }
            (_, None) => {
                return Err(status::precondition(Reason::RollbackGuard, "the log has no head that may be shown"));
            }
        };
        let seen = Self::seen(store, record.number, stored.as_ref(), anchored)?;
        let published = seen.as_ref().map(show).transpose()?;
        let policy = watched.as_ref().map(|watched| &*watched.policy);
        let witnessed = Self::witnessed(store, record.number, (policy, seen.as_ref()))?;
        let witnessed = witnessed.as_ref().map(show).transpose()?;
        let acknowledge = self.publishing.acknowledge(&record.settings.name);
        let shown_size = match acknowledge {
            Level::Signed => released.view.head().size.0,
            Level::Published => published.as_ref().map_or(0, |published| published.head.size.0),
            Level::Witnessed => witnessed.as_ref().map_or(0, |witnessed| witnessed.head.size.0),
        };
        Ok(Arc::new(LogHandle {
            number: record.number,
            epoch,
            state: RwLock::new(record.state),
            acknowledge,
            stored,
            anchored,
            signer,
            watched,
            is_guarded,
            witnessed: watch::Sender::new(witnessed),
            grown: watch::Sender::new(shown_size),
            released: arc_swap::ArcSwap::from_pointee(released),
            published: watch::Sender::new(published),
            settings: record.settings,
            touched: AtomicU64::new(u64::MAX),
        }))
    }

    /// The largest head of the history that has a quorum, up to the newest that may be seen. All of the history is read if
    /// none has: thinning bounds it, and a log that shows only witnessed heads must find its last one.
    fn witnessed(
        store: &dyn LogStore,
        log: LogNumber,
        (policy, newest): (Option<&Policy>, Option<&PublishedHead>),
    ) -> Result<Option<PublishedHead>, Status> {
        let (Some(policy), Some(newest)) = (policy, newest) else { return Ok(None) };
        let mut below = newest.head.size.0 + 1;
        loop {
            let page = store.heads(log, HeadQuery::Below(below), HEADS_AT_ONCE).map_err(status::read)?;
            let Some(last) = page.last().map(|head| head.head.size.0) else { return Ok(None) };
            if let Some(witnessed) = page.into_iter().find(|head| is_quorum(policy, head)) {
                return Ok(Some(witnessed));
            }
            below = last;
        }
    }

    /// Checks an entry and hashes it, on the caller's task.
    pub(crate) fn entry(&self, bytes: &[u8], identity: Option<&[u8]>) -> Result<NewEntry, Status> {
        if bytes.is_empty() || bytes.len() > ENTRY_BYTES_MAX {
            let problem = format!("an entry has 1 to {ENTRY_BYTES_MAX} bytes, not {}", bytes.len());
            return Err(status::invalid("entry", problem));
        }
        let identity = identity.map(|identity| self.identity(identity)).transpose()?;
        // What was decoded is a part of the request's buffer, and would keep all of that while it waits.
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        Ok(NewEntry { leaf: Hash::leaf(&bytes), bytes, identity })
    }

    /// HMAC-SHA-256 under the store's secret; scope (`log`) and identity are length-prefixed.
    fn identity(&self, identity: &[u8]) -> Result<IdentityHash, Status> {
        let bytes_max = self.bounds.limits.identity_bytes();
        let length = u8::try_from(identity.len()).ok().filter(|&n| n >= 1 && usize::from(n) <= bytes_max);
        let Some(length) = length else {
            let problem = format!("an identity has 1 to {bytes_max} bytes, not {}", identity.len());
            return Err(status::invalid("identity", problem));
        };
        let mut mac = self.identity_mac.clone();
        mac.update(&[3]);
        mac.update(b"log");
        mac.update(&[length]);
        mac.update(identity);
        let hash = mac.finalize().into_bytes();
        Ok(IdentityHash(hash[..16].try_into().expect("16 of 32 bytes")))
    }

    /// Whether the log takes `entries` more.
    pub(crate) fn check_appendable(log: &LogHandle, entries: usize) -> Result<(), Status> {
        Self::check_active(&log.state.read())?;
        log.signer()?;
        if log.released.load().view.head().size.0 + entries as u64 > LOG_ENTRIES_MAX {
            return Err(status::precondition(Reason::LogFull, format!("a log has at most {LOG_ENTRIES_MAX} entries")));
        }
        Ok(())
    }

    fn check_active(state: &LogState) -> Result<(), Status> {
        match state {
            LogState::Active => Ok(()),
            LogState::Frozen => {
                Err(status::precondition(Reason::Frozen, "the log is frozen: read-only until it is thawed"))
            }
            LogState::Sealed { .. } => {
                Err(status::precondition(Reason::Sealed, "the log is sealed: read-only for ever"))
            }
        }
    }

    /// Queues entries of one log and waits until their round is released.
    pub(crate) async fn submit(
        &self,
        log: &LogHandle,
        entries: Vec<NewEntry>,
        when_full: WhenFull,
    ) -> Result<(Acknowledged, Arc<Released>), Status> {
        if self.shared.anchor.is_foreign() {
            let message = "another process serves a copy of this data directory: nothing more is signed here";
            return Err(status::precondition(Reason::RollbackGuard, message));
        }
        self.bounds.disk.check()?;
        let (count, bytes) = (entries.len(), entries.iter().map(|entry| entry.bytes.len()).sum());
        let room = match when_full {
            WhenFull::Refuse => self.queue.enter(count, bytes),
            WhenFull::Wait => self.queue.enter_at_last(count, bytes).await,
        };
        let room = room.ok_or_else(|| {
            let (entries_max, bytes_max) = (self.bounds.limits.queue_entries(), self.bounds.limits.queue_bytes());
            let message = format!("the queue holds at most {entries_max} entries and {bytes_max} bytes");
            status::exhausted("queue", message)
        })?;
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket { reply, _room: Some(room) };
        let submission = Submission { log: log.number, entries, ticket };
        {
            // Held while sending: what is queued behind a change of state has seen it.
            let state = log.state.read();
            Self::check_active(&state)?;
            self.commands.submit(Command::Submit(log.epoch, submission), count).map_err(|_| stopping())?;
        }
        let acknowledged = answer.await.map_err(|_| status::halted())?.map_err(status::write)?;
        let released = acknowledged.released.clone().ok_or_else(status::halted)?;
        Ok((acknowledged, released))
    }

    /// Queues a change that is no append and waits until it is durable.
    pub(crate) async fn change(&self, command: impl FnOnce(Ticket) -> Command) -> Result<(), Status> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(Ticket { reply, _room: None })).map_err(|_| stopping())?;
        answer.await.map_err(|_| status::halted())?.map_err(status::write)?;
        Ok(())
    }

    /// The largest head that the log lets out.
    pub(crate) fn shown(log: &LogHandle) -> Result<Shown, Status> {
        log.shown().ok_or_else(status::level_not_reached)
    }

    /// The latest head of a level; the log's own level is the least.
    pub(crate) fn shown_at(log: &LogHandle, level: Level) -> Result<Shown, Status> {
        log.check_witnesses(level)?;
        match level {
            Level::Signed => Self::shown(log),
            Level::Published | Level::Witnessed => log.shown_at(level).ok_or_else(status::level_not_reached),
        }
    }

    /// The head of an answer, with its consistency proof from `known_size`. Empty from nothing.
    pub(crate) fn signed_head(
        &self,
        log: &LogHandle,
        shown: &Shown,
        known_size: u64,
    ) -> Result<v1::SignedTreeHead, Status> {
        let size = shown.head.size;
        check_known(known_size, size.0)?;
        let consistency = if known_size == 0 || known_size == size.0 {
            Vec::new()
        } else {
            let (store, view) = (self.store()?, (log.number, shown.view()));
            let proof = self.shared.nodes.consistency(&*store, view, TreeSize(known_size), size);
            hashes_to_bytes(&proof.map_err(status::node)?)
        };
        let level = match shown.level {
            Level::Signed => v1::HeadLevel::Signed,
            Level::Published => v1::HeadLevel::Published,
            Level::Witnessed => v1::HeadLevel::Witnessed,
        };
        Ok(v1::SignedTreeHead {
            checkpoint: shown.note.clone(),
            consistency,
            level: level.into(),
            time_ms: shown.time_ms,
            time_is_cosigned: shown.time_is_cosigned,
        })
    }

    /// How long an append waits for a level that is not reached yet. It may ask for less (0: it does not), but not for
    /// less than the level at which the log acknowledges.
    pub(crate) fn wait(&self, log: &LogHandle, wait_ms: u32) -> Duration {
        let most = self.bounds.limits.wait_ms();
        let wait_ms = match log.acknowledge {
            Level::Signed if wait_ms != 0 => wait_ms.min(most),
            _ => most,
        };
        Duration::from_millis(wait_ms.into())
    }

    /// A log's state and its seal, as the public sees them.
    pub(crate) fn state(state: &LogState) -> (i32, bytes::Bytes) {
        match state {
            LogState::Active => (v1::LogState::Active.into(), bytes::Bytes::new()),
            LogState::Frozen => (v1::LogState::Frozen.into(), bytes::Bytes::new()),
            LogState::Sealed { note } => (v1::LogState::Sealed.into(), note.clone()),
        }
    }

    pub(crate) fn info(log: &LogHandle) -> v1::LogInfo {
        let (state, seal) = Self::state(&log.state.read());
        v1::LogInfo {
            name: log.settings.name.clone(),
            origin: log.settings.origin.clone(),
            vkeys: log.settings.vkeys.clone(),
            state,
            size: log.visible_size().0,
            seal,
            witnesses: log.watched.iter().flat_map(|watched| watched.statuses()).collect(),
        }
    }

    /// The signed seal of a log at its present head.
    pub(crate) fn seal(&self, log: &LogHandle, now_s: u64) -> Result<bytes::Bytes, Status> {
        let signer = log.signer()?;
        let head = log.released.load().view.head();
        let record = self.store()?.logs(LogQuery::Name(&log.settings.name)).map_err(status::read)?.pop();
        // The newest round may be durable and not in the anchor: a seal below it would make its head a fault.
        if record.is_none_or(|record| record.head.head != head) {
            return Err(status::write(WriteError::NotAnchored));
        }
        let seal = Seal { origin: log.settings.origin.clone(), head, seconds: now_s };
        Ok(seal.sign(signer.key()).into())
    }
}

/// Rebuilds the right edge of a log, and checks it.
pub(crate) fn load_tail(store: &dyn LogStore, record: &LogRecord) -> Result<LogTail, Status> {
    LogTail::load(store, record).map_err(|error| {
        let name = &record.settings.name;
        tracing::error!(log = name, %error, "a log cannot be served");
        Status::data_loss(format!("log `{name}` is damaged; the operator must run `logwood fsck`"))
    })
}

pub(crate) fn stopping() -> Status {
    status::unavailable(Reason::Stopping, "the server is stopping; retry")
}

pub(crate) fn check_known(known_size: u64, size: u64) -> Result<(), Status> {
    if known_size > size { Err(status::beyond_head("known_size", known_size, size)) } else { Ok(()) }
}
