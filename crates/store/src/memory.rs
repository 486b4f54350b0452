//! A store in memory that fails on demand: what the sequencer is tested on.
//!
//! A [`MemoryDisk`] is the disk; it outlives the [`MemoryStore`]s opened on it, as a disk outlives processes.
//!
//! ```text
//!   fault         commit says   seen by the next open   after power_loss(), then open
//!   RefuseStalled Refused       no                      no
//!   Lost          Unknown       no                      no
//!   SyncFailed    Unknown       yes, and durable then   no
//!   Persisted     Unknown       yes                     yes
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use logwood_merkle::{LeafIndex, TileId};
use parking_lot::Mutex;
use thiserror::Error;

use crate::contract::{CommitError, HeadQuery, IndexRow, IndexRows, LogQuery, LogStore, Lookup, ReadError, Refusal};
use crate::records::{Entry, LogNumber, LogRecord, PublishedHead, Round, RoundNumber, StoreState};

mod image;

use image::Image;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A commit is refused: writes are stalled.
    RefuseStalled,
    /// A commit is refused: the disk is full.
    RefuseDiskFull,
    /// A commit reports an unknown outcome, and nothing of it is on disk.
    Lost,
    /// A commit reports an unknown outcome, and all of it is on disk.
    Persisted,
    /// A commit's sync fails: the next open finds the round and makes it durable, unless the power fails before.
    SyncFailed,
    /// A read fails.
    ReadFails,
    /// An open fails.
    OpenFails,
}

/// A failure that a test asked for.
#[derive(Debug, Error)]
#[error("injected fault: {0:?}")]
pub struct InjectedFault(pub Fault);

/// The handle was replaced by a later [`MemoryStore::open`], or a commit on it failed.
#[derive(Debug, Error)]
#[error("this handle of the store takes no more rounds; open the store again")]
pub struct StaleHandle;

/// A disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<DiskState>>,
}

#[derive(Debug, Default)]
struct DiskState {
    image: Image,
    /// A round that the process does not know the fate of.
    in_doubt: Option<InDoubt>,
    faults: VecDeque<(Option<RoundNumber>, Fault)>,
    commits: u64,
    opened: u64,
}

#[derive(Debug)]
struct InDoubt {
    round: Round,
    synced: bool,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the next operation that `fault` applies to fail. Faults are used up in the order given.
    pub fn fail_next(&self, fault: Fault) {
        self.state.lock().faults.push_back((None, fault));
    }

    /// Lets the commit of round `number` fail, once.
    pub fn fail_round(&self, number: RoundNumber, fault: Fault) {
        self.state.lock().faults.push_back((Some(number), fault));
    }

    /// Forgets the faults that have not struck yet.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Everything that was not synced is gone. Stores that are open take no more rounds.
    pub fn power_loss(&self) {
        let mut state = self.state.lock();
        state.opened += 1;
        if state.in_doubt.as_ref().is_some_and(|doubt| !doubt.synced) {
            state.in_doubt = None;
        }
    }

    /// Synced writes since the disk was made: commits, also those whose outcome was reported as unknown, and opens
    /// that made a round durable anew.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.state.lock().commits
    }

    /// A copy of everything durable, as a copied data directory. Faults do not come along.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state.lock();
        let image = state.image.clone();
        Self { state: Arc::new(Mutex::new(DiskState { image, ..DiskState::default() })) }
    }

    /// Replaces the bytes of an entry behind the log's back, the stored bundle or piece being otherwise well-formed.
    /// Answers whether there was such an entry.
    #[must_use]
    pub fn tamper_entry(&self, log: LogNumber, index: LeafIndex, bytes: Bytes) -> bool {
        self.state.lock().image.tamper_entry(log, index, bytes)
    }

    /// Replaces a completed tile. Answers whether there was one.
    #[must_use]
    pub fn tamper_tile(&self, log: LogNumber, tile: TileId, bytes: Bytes) -> bool {
        self.state.lock().image.tamper_tile(log, tile, bytes)
    }

    /// Changes what is stored of a log: its head, settings and state.
    #[must_use]
    pub fn tamper_record(&self, log: LogNumber, change: impl FnOnce(&mut LogRecord)) -> bool {
        self.state.lock().image.tamper_record(log, change)
    }

    /// Changes the history of published heads of a log.
    #[must_use]
    pub fn tamper_heads(&self, log: LogNumber, change: impl FnOnce(&mut Vec<PublishedHead>)) -> bool {
        self.state.lock().image.tamper_heads(log, change)
    }

    /// Drops the look-up row of an identity or leaf hash. Answers whether there was one.
    #[must_use]
    pub fn tamper_index(&self, log: LogNumber, lookup: Lookup) -> bool {
        self.state.lock().image.tamper_index(log, lookup)
    }

    /// Damages the stored record that holds an entry: reads of it are [`ReadError::Corrupt`].
    #[must_use]
    pub fn damage_entry(&self, log: LogNumber, index: LeafIndex) -> bool {
        self.state.lock().image.damage_entry(log, index)
    }
}

impl DiskState {
    fn take_fault(&mut self, applies: impl Fn(Option<RoundNumber>, Fault) -> bool) -> Option<Fault> {
        let at = self.faults.iter().position(|&(round, fault)| applies(round, fault))?;
        self.faults.remove(at).map(|(_, fault)| fault)
    }
}

/// [`LogStore`] on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
    opened: u64,
    failed: AtomicBool,
}

impl MemoryStore {
    /// Opens `disk` and makes durable what it finds. Handles opened before take no more rounds.
    ///
    /// # Errors
    ///
    /// [`InjectedFault`] if a test asked for it ([`Fault::OpenFails`]); a round in doubt stays in doubt then.
    pub fn open(disk: &MemoryDisk) -> Result<Self, InjectedFault> {
        let mut state = disk.state.lock();
        if let Some(fault) = state.take_fault(|_, fault| fault == Fault::OpenFails) {
            return Err(InjectedFault(fault));
        }
        if let Some(doubt) = state.in_doubt.take() {
            state.image.apply(&doubt.round);
            state.commits += u64::from(!doubt.synced);
        }
        state.opened += 1;
        Ok(Self { disk: disk.clone(), opened: state.opened, failed: AtomicBool::new(false) })
    }

    fn read<T>(&self, read: impl FnOnce(&Image) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let mut state = self.disk.state.lock();
        match state.take_fault(|_, fault| fault == Fault::ReadFails) {
            Some(fault) => Err(ReadError::Unavailable { source: Box::new(InjectedFault(fault)) }),
            None => read(&state.image),
        }
    }
}

impl LogStore for MemoryStore {
    fn commit(&self, round: &Round) -> Result<(), CommitError> {
        let mut state = self.disk.state.lock();
        if self.failed.load(Ordering::Relaxed) || state.opened != self.opened {
            return Err(CommitError::Unknown { source: Box::new(StaleHandle) });
        }
        state.image.check(round);
        let fault = state.take_fault(|number, fault| {
            number.is_none_or(|number| number == round.number) && !matches!(fault, Fault::ReadFails | Fault::OpenFails)
        });
        let Some(fault) = fault else {
            state.image.apply(round);
            state.commits += 1;
            return Ok(());
        };
        match fault {
            Fault::RefuseStalled => return Err(CommitError::Refused { reason: Refusal::Stalled }),
            Fault::RefuseDiskFull => {
                return Err(CommitError::Refused { reason: Refusal::DiskFull });
            }
            Fault::Persisted | Fault::SyncFailed => {
                let synced = fault == Fault::Persisted;
                state.in_doubt = Some(InDoubt { round: round.clone(), synced });
                state.commits += u64::from(synced);
            }
            Fault::Lost | Fault::ReadFails | Fault::OpenFails => {}
        }
        self.failed.store(true, Ordering::Relaxed);
        Err(CommitError::Unknown { source: Box::new(InjectedFault(fault)) })
    }

    fn state(&self) -> Result<StoreState, ReadError> {
        self.read(|image| Ok(image.state()))
    }

    fn logs(&self, query: LogQuery<'_>) -> Result<Vec<LogRecord>, ReadError> {
        self.read(|image| Ok(image.logs(query)))
    }

    fn entries(
        &self,
        log: LogNumber,
        first: LeafIndex,
        end: LeafIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.read(|image| image.entries(log, first, end, bytes_max))
    }

    fn bundle(&self, log: LogNumber, index: u64) -> Result<Option<Bytes>, ReadError> {
        self.read(|image| Ok(image.bundle(log, index)))
    }

    fn tiles(&self, log: LogNumber, tiles: &[TileId]) -> Result<Vec<Option<Bytes>>, ReadError> {
        self.read(|image| Ok(image.tiles(log, tiles)))
    }

    fn find(&self, log: LogNumber, lookups: &[Lookup]) -> Result<Vec<Option<LeafIndex>>, ReadError> {
        self.read(|image| Ok(image.find(log, lookups)))
    }

    fn heads(&self, log: LogNumber, query: HeadQuery, heads_max: usize) -> Result<Vec<PublishedHead>, ReadError> {
        self.read(|image| Ok(image.heads(log, query, heads_max)))
    }
}

impl IndexRows for MemoryStore {
    fn visit_index(&self, log: LogNumber, visit: &mut dyn FnMut(IndexRow)) -> Result<(), ReadError> {
        self.read(|image| {
            image.visit_index(log, visit);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
