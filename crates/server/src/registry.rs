//! The logs that are in memory: their keys, their heads, and how each gets there.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use logwood_merkle::{TreeHead, TreeSize};
use logwood_note::{CosigningKey, KeyFileError, SigningKey, sign_checkpoint};
use logwood_proto::Reason;
use logwood_sequencer::{Level, LogView};
use logwood_store::{LogNumber, LogSettings, LogState, PublishedHead};
use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tokio::sync::watch;
use tonic::Status;

use crate::status;
use crate::witnesses::{Guard, Verdict, Watched};

/// Why a log without a signer is read-only.
pub(crate) const UNSIGNED: &str =
    "the log is read-only: its key or its anchor is missing, or its storage is behind what was signed";

/// In place of a size: the log was taken out of memory, and its handle learns nothing more.
pub(crate) const RETIRED: u64 = u64::MAX;

/// Who holds a handle of which nobody makes use: the registry, twice, the publisher, and whoever asks.
const IDLE_HOLDERS: usize = 4;

/// A log in memory.
pub(crate) struct LogHandle {
    pub(crate) number: LogNumber,
    /// [`crate::writer::Shared::epoch`] in which the log was loaded. In a later one this handle is nobody's: its state is
    /// not told what happens to the log.
    pub(crate) epoch: u64,
    pub(crate) settings: LogSettings,
    pub(crate) state: RwLock<LogState>,
    /// What an append waits for, and the least level at which a head leaves the process.
    pub(crate) acknowledge: Level,
    /// `None`: the log is read-only, because its key is missing, its storage is behind what was signed, or its witnesses
    /// have not been heard yet.
    pub(crate) signer: Option<Signer>,
    /// Its witnesses, if it has any.
    pub(crate) watched: Option<Arc<Watched>>,
    /// They had not been heard when the log was loaded.
    pub(crate) is_guarded: bool,
    /// The newest signed head. Whether it may be shown is for [`LogHandle::shown`] to say.
    pub(crate) released: ArcSwap<Released>,
    /// The newest head of the history when the log came into memory.
    pub(crate) stored: Option<PublishedHead>,
    /// Its newest head in the anchor, then.
    pub(crate) anchored: Option<TreeHead>,
    /// The newest published head; watchers wait here. `None` before the first.
    pub(crate) published: watch::Sender<Option<Arc<Published>>>,
    /// The largest published head with a quorum of the witnesses.
    pub(crate) witnessed: watch::Sender<Option<Arc<Published>>>,
    /// Tells readers that follow the tail: the size of the largest head that is let out, or [`RETIRED`].
    pub(crate) grown: watch::Sender<u64>,
    /// [`Registry::tick`] as of the last call that named the log.
    pub(crate) touched: AtomicU64,
}

impl LogHandle {
    /// Whether storage and anchor hold all that was signed, so that nothing is lost if the handle goes.
    pub(crate) fn is_settled(&self) -> bool {
        let published = self.published.borrow().as_ref().map(|published| published.head);
        self.signer.is_none() || published == Some(self.released.load().view.head())
    }

    /// What signs for the log, if it may sign.
    pub(crate) fn signer(&self) -> Result<&Signer, Status> {
        match (self.watched.as_ref().map(|watched| watched.guard.verdict()), &self.signer) {
            (Some(Verdict::Refused(why)), _) => Err(status::precondition(Reason::RollbackGuard, why)),
            (_, Some(signer)) => Ok(signer),
            (Some(Verdict::Asking), None) => {
                let missing = self.watched.as_ref().map(|watched| watched.missing()).unwrap_or_default();
                Err(status::asking_witnesses(&missing))
            }
            // They let it sign since: it is being loaded anew.
            (Some(Verdict::Open), None) if self.is_guarded => Err(status::halted()),
            (_, None) => Err(status::precondition(Reason::RollbackGuard, UNSIGNED)),
        }
    }

    /// Whether a head of the log can have a quorum.
    pub(crate) fn check_witnesses(&self, level: Level) -> Result<(), Status> {
        let has_quorum = self.watched.as_ref().is_some_and(|watched| watched.policy.needs_witnesses());
        if level == Level::Witnessed && !has_quorum { Err(status::no_witnesses()) } else { Ok(()) }
    }

    /// The newest head of at least this level; the log's own level is the least.
    pub(crate) fn newest(&self, level: Level) -> &watch::Sender<Option<Arc<Published>>> {
        if level.max(self.acknowledge) == Level::Witnessed { &self.witnessed } else { &self.published }
    }

    /// The largest head that the log lets out: receipts, proofs, entries and tiles go up to it and no further. `None`
    /// if the log shows published heads only, and there is none yet.
    pub(crate) fn shown(&self) -> Option<Shown> {
        match self.acknowledge {
            Level::Signed => Some(Shown::signed(self.released.load_full())),
            Level::Published | Level::Witnessed => self.shown_at(Level::Published),
        }
    }

    /// The newest published head of at least this level, that the log lets out.
    pub(crate) fn shown_at(&self, level: Level) -> Option<Shown> {
        let published = self.newest(level).borrow().clone()?;
        Some(Shown::published(&published, self.released.load_full()))
    }

    /// The size of the largest head that the log lets out: no tile and no entry beyond it is shown.
    pub(crate) fn visible_size(&self) -> TreeSize {
        self.shown().map_or(TreeSize(0), |shown| shown.head.size)
    }
}

/// A head that may leave the process, and the hashes under it.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) head: TreeHead,
    pub(crate) level: Level,
    /// The checkpoint.
    pub(crate) note: Bytes,
    pub(crate) time_ms: u64,
    /// A cosignature in the note says that second too.
    pub(crate) time_is_cosigned: bool,
    /// Reaches as far as `head`, or further.
    hashes: Arc<Released>,
}

impl Shown {
    pub(crate) fn signed(released: Arc<Released>) -> Self {
        let (head, note, time_ms) = (released.view.head(), released.note.clone(), released.time_ms);
        Self { head, level: Level::Signed, note, time_ms, time_is_cosigned: false, hashes: released }
    }

    /// * `hashes` - loaded after `published`: what is published was released before, so they reach that far.
    pub(crate) fn published(published: &Published, hashes: Arc<Released>) -> Self {
        let Published { head, note, time_ms, time_is_cosigned, is_witnessed } = published;
        let level = if *is_witnessed { Level::Witnessed } else { Level::Published };
        let (head, note) = (*head, note.clone());
        Self { head, level, note, time_ms: *time_ms, time_is_cosigned: *time_is_cosigned, hashes }
    }

    /// Where the hashes of proofs are. Proofs must be asked for at sizes up to that of `head`.
    pub(crate) fn view(&self) -> &LogView {
        &self.hashes.view
    }
}

/// A signed head and the hashes under it.
pub(crate) struct Released {
    pub(crate) view: LogView,
    /// The checkpoint, encoded once.
    pub(crate) note: Bytes,
    pub(crate) time_ms: u64,
}

/// A head of the history.
pub(crate) struct Published {
    pub(crate) head: TreeHead,
    pub(crate) note: Bytes,
    pub(crate) time_ms: u64,
    /// A cosignature in the note says that second too.
    pub(crate) time_is_cosigned: bool,
    /// It has a quorum of the log's witnesses.
    pub(crate) is_witnessed: bool,
}

/// Signs heads, and refuses to fork.
pub(crate) struct Signer {
    keys: LogKeys,
    last: Mutex<Option<TreeHead>>,
    /// A witness may know more of the log than we do.
    guard: Option<Arc<Guard>>,
}

/// Why a head was not signed.
#[derive(Debug, Error)]
pub(crate) enum SignError {
    /// Signing would contradict a head that was signed before.
    #[error("a head of size {last} was signed already; size {asked} with another root would fork the log", last = .last.size, asked = .asked.size)]
    Rollback {
        /// Signed before.
        last: TreeHead,
        /// Not signed.
        asked: TreeHead,
    },
    /// The witnesses forbid it.
    #[error("{0}")]
    Guard(String),
}

impl Signer {
    pub(crate) fn new(keys: LogKeys, guard: Option<Arc<Guard>>) -> Self {
        Self { keys, last: Mutex::new(None), guard }
    }

    /// Whether the witnesses let it sign.
    pub(crate) fn check_guard(&self) -> Result<(), SignError> {
        match self.guard.as_ref().map(|guard| guard.verdict()) {
            None | Some(Verdict::Open) => Ok(()),
            Some(Verdict::Asking) => Err(SignError::Guard("the witnesses have not been heard".into())),
            Some(Verdict::Refused(why)) => Err(SignError::Guard(why)),
        }
    }

    /// Takes `head`, signed before, as the least that may be signed from now on.
    pub(crate) fn remember(&self, head: TreeHead) {
        let mut last = self.last.lock();
        if last.is_none_or(|last| last.size < head.size) {
            *last = Some(head);
        }
    }

    /// The checkpoint of `head`. The signer remembers the last one, and refuses a smaller size or another root at
    /// the same size.
    pub(crate) fn sign(&self, origin: &str, head: TreeHead) -> Result<Bytes, SignError> {
        self.check_guard()?;
        let mut last = self.last.lock();
        if let Some(last) = *last
            && (head.size < last.size || (head.size == last.size && head.root != last.root))
        {
            return Err(SignError::Rollback { last, asked: head });
        }
        let note = sign_checkpoint(&self.keys.signing, origin, &head);
        *last = Some(head);
        Ok(Bytes::from(note))
    }

    /// The log's key of type 0x01.
    pub(crate) fn key(&self) -> &SigningKey {
        &self.keys.signing
    }

    /// The log's key of type 0x06, which cosigns published heads.
    pub(crate) fn cosigner(&self) -> Option<&CosigningKey> {
        self.keys.cosigning.as_ref()
    }
}

/// The private keys of a log.
pub(crate) struct LogKeys {
    /// Type 0x01: signs every head.
    pub(crate) signing: SigningKey,
    /// Type 0x06: cosigns published heads, if the log was made with it.
    pub(crate) cosigning: Option<CosigningKey>,
}

impl LogKeys {
    /// The verifier keys, that of type 0x01 first.
    pub(crate) fn vkeys(&self) -> Vec<String> {
        let cosigning = self.cosigning.as_ref().map(CosigningKey::verifier);
        [Some(self.signing.verifier()), cosigning].into_iter().flatten().map(ToString::to_string).collect()
    }
}

/// All logs in memory, by name and by number.
pub(crate) struct Registry {
    keys: PathBuf,
    by_name: RwLock<HashMap<String, Arc<LogHandle>>>,
    by_number: RwLock<foldhash::HashMap<LogNumber, Arc<LogHandle>>>,
    /// What this process signed last, for logs that a reload took out of memory.
    signed: Mutex<HashMap<LogNumber, TreeHead>>,
    /// Tells the order in which logs were used last.
    now: AtomicU64,
}

impl Registry {
    pub(crate) fn new(keys: PathBuf) -> Self {
        Self {
            keys,
            by_name: RwLock::default(),
            by_number: RwLock::default(),
            signed: Mutex::default(),
            now: AtomicU64::new(0),
        }
    }

    /// Where the log's key of type 0x01 is.
    pub(crate) fn key_path(&self, name: &str) -> PathBuf {
        self.keys.join(name)
    }

    /// Where the log's key of type 0x06 is, if it has one. No log's name has a `+`.
    pub(crate) fn cosigning_key_path(&self, name: &str) -> PathBuf {
        self.keys.join(format!("{name}+ml-dsa-44"))
    }

    /// The log's keys, as far as there are files. `Ok(None)` if there is none of type 0x01: the log is then read-only,
    /// never given another key.
    pub(crate) fn load_keys(&self, name: &str) -> Result<Option<LogKeys>, KeyFileError> {
        let (signing, cosigning) = (self.key_path(name), self.cosigning_key_path(name));
        if !signing.exists() {
            return Ok(None);
        }
        let cosigning = if cosigning.exists() { Some(CosigningKey::load(cosigning)?) } else { None };
        Ok(Some(LogKeys { signing: SigningKey::load(signing)?, cosigning }))
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<LogHandle>> {
        let found = self.by_name.read().get(name).cloned()?;
        found.touched.store(self.now.load(Ordering::Relaxed), Ordering::Relaxed);
        Some(found)
    }

    pub(crate) fn by_number(&self, number: LogNumber) -> Option<Arc<LogHandle>> {
        self.by_number.read().get(&number).cloned()
    }

    pub(crate) fn insert(&self, handle: Arc<LogHandle>) {
        self.by_number.write().insert(handle.number, Arc::clone(&handle));
        self.by_name.write().insert(handle.settings.name.clone(), handle);
    }

    pub(crate) fn all(&self) -> Vec<Arc<LogHandle>> {
        self.by_name.read().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_number.read().len()
    }

    /// Moves the time that [`LogHandle::touched`] is told in.
    pub(crate) fn tick(&self) {
        self.now.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a settled log out of memory, unless somebody makes use of it: who holds its handle may be about to append.
    pub(crate) fn evict(&self, handle: &Arc<LogHandle>) -> bool {
        let (mut by_name, mut by_number) = (self.by_name.write(), self.by_number.write());
        let is_present = by_number.get(&handle.number).is_some_and(|present| Arc::ptr_eq(present, handle));
        if !is_present || !handle.is_settled() || Arc::strong_count(handle) > IDLE_HOLDERS {
            return false;
        }
        by_number.remove(&handle.number);
        by_name.remove(&handle.settings.name);
        true
    }

    /// The last head that this process signed for the log.
    pub(crate) fn last_signed(&self, log: LogNumber) -> Option<TreeHead> {
        self.signed.lock().get(&log).copied()
    }

    /// Takes out a handle that something has overtaken: the log is loaded anew when it is next touched. Whoever follows
    /// it is told.
    pub(crate) fn remove(&self, handle: &Arc<LogHandle>) {
        let is_it = |found: &mut Arc<LogHandle>| Arc::ptr_eq(found, handle);
        self.by_name.write().extract_if(|_, found| is_it(found)).for_each(drop);
        self.by_number.write().extract_if(|_, found| is_it(found)).for_each(drop);
        handle.grown.send_replace(RETIRED);
    }

    /// Forgets every log: each is loaded from storage when it is next touched. Whoever follows one is told.
    pub(crate) fn clear(&self) {
        for handle in self.all() {
            if let Some(last) = handle.signer.as_ref().and_then(|signer| *signer.last.lock()) {
                self.signed.lock().insert(handle.number, last);
            }
        }
        let retired = std::mem::take(&mut *self.by_name.write());
        self.by_number.write().clear();
        for handle in retired.values() {
            handle.grown.send_replace(RETIRED);
        }
    }
}
