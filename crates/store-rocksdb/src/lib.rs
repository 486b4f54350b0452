//! [`LogStore`] on the embedded `RocksDB`: one write batch and one synced write a round.
//!
//! ```text
//!   bundles  log, bundle, part      256 entries in zstd frames; beside them their identities (the sidecar)
//!   pieces   log, first index       entries of a bundle that is not packed yet
//!   tiles    log, level, index      256 hashes
//!   index    log, kind, hash        where an entry is: derived, behind the commit, can be rebuilt
//!   meta     kind, log, ...         store, last round, names, settings, states, heads, what rounds appended
//! ```
//!
//! `docs/format.md` shows every byte.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use logwood_merkle::{LeafIndex, TileId};
use logwood_store::{
    BUNDLE_ENTRIES, CommitError, Entry, HeadQuery, IndexRow, IndexRows, LogNumber, LogQuery, LogRecord, LogStore,
    Lookup, PublishedHead, ReadError, Round, StoreState,
};
use parking_lot::Mutex;
use rocksdb::{ColumnFamily, DB, Options, WriteOptions};
use thiserror::Error;

mod error;
mod evidence;
mod index;
mod keys;
mod options;
mod read;
mod values;
mod wal;
mod write;

pub use error::OpenError;
pub use index::Rebuilt;
use index::{Index, Limits};
pub use wal::{TornTail, TornTailError};
use write::Writer;

/// The engine halted: a commit before this one had an unknown outcome, or rounds are not written here.
#[derive(Debug, Error)]
#[error("this handle of the store takes no more rounds; open the store again")]
pub struct StaleHandle;

/// A store in a directory.
pub struct RocksStore {
    db: Arc<DB>,
    index: Index,
    writer: Mutex<Writer>,
    /// The newest round that may be on disk: a head of a later one is not this store's.
    newest: AtomicU64,
    identity_secret: [u8; 32],
    leaf_secret: [u8; 32],
    // Held until the database is closed: fields are dropped in order.
    _lock: File,
}

/// What opening a store writes besides what its write-ahead log holds: a new log, a list of files, the look-up index.
const OPENING_BYTES: u64 = 64 * 1024 * 1024;

/// An open database that nothing was read from yet.
struct Opened {
    db: DB,
    index_options: Options,
    lock: File,
}

impl RocksStore {
    /// Opens the store in `dir`, or makes one. What is found is made durable anew before this returns.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; each says what to do.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, Limits::default())
    }

    fn open_with(dir: &Path, limits: Limits) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let opened = Self::open_database(dir)?;
        let mut store = Self::load(opened.db, opened.lock, (false, limits))?;
        store.recover_index()?;
        store.index.start(dir, opened.index_options).map_err(failed)?;
        Ok(store)
    }

    /// How many bytes opening the store in `dir` may write: what the write-ahead log holds is written anew, as tables and
    /// blobs, before the log is deleted.
    #[must_use]
    pub fn opening_bytes(dir: &Path) -> u64 {
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let logs = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
        OPENING_BYTES + logs.filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>()
    }

    /// Opens the store in `dir` for reading only, for fsck: refused while another process has it open.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; each says what to do.
    pub fn open_read_only(dir: &Path) -> Result<Self, OpenError> {
        let lock = Self::lock_existing(dir)?;
        let cache = options::cache();
        let db = DB::open_cf_descriptors_read_only(&options::database()?, dir, options::families(&cache)?, false)
            .map_err(|source| OpenError::from_engine(dir, source))?;
        let store = Self::load(db, lock, (true, Limits::default()))?;
        store.recover_index()?;
        Ok(store)
    }

    /// Closes the store and lets another process have it. Dropping does the same.
    pub fn close(self) {
        drop(self);
    }

    fn lock_existing(dir: &Path) -> Result<File, OpenError> {
        if !dir.is_dir() || !error::holds_store(dir)? {
            return Err(OpenError::Missing { dir: dir.to_owned() });
        }
        error::lock(dir)
    }

    fn open_database(dir: &Path) -> Result<Opened, OpenError> {
        let lock = error::lock(dir)?;
        let cache = options::cache();
        let mut options = options::database()?;
        // The engine would make the families that a damaged list of files lacks, and delete the files of the others.
        let is_new = !error::holds_store(dir)?;
        options.create_if_missing(is_new);
        options.create_missing_column_families(is_new);
        let db = DB::open_cf_descriptors(&options, dir, options::families(&cache)?)
            .map_err(|source| OpenError::from_engine(dir, source))?;
        Ok(Opened { db, index_options: options::family(options::INDEX, &cache)?, lock })
    }

    /// Reads what every store has; the index is empty still.
    fn load(db: DB, lock: File, (read_only, limits): (bool, Limits)) -> Result<Self, OpenError> {
        let meta = family(&db, options::META);
        let secrets = match db.get_cf(meta, keys::META_STORE)? {
            Some(value) => value,
            None if read_only || db.get_cf(meta, keys::META_ROUND)?.is_some() => {
                return Err(OpenError::Read(ReadError::Corrupt { what: "the store record is missing".into() }));
            }
            None => make_store(&db)?,
        };
        let what = "the store record";
        let mut reader = values::Reader::new(values::open(keys::META_STORE, &secrets, what)?, what);
        let (identity_secret, leaf_secret) = (reader.array()?, reader.array()?);
        reader.end()?;
        let last = match db.get_cf(meta, keys::META_ROUND)? {
            Some(value) => values::read_last_round(&value)?,
            None => values::LastRound::default(),
        };
        let db = Arc::new(db);
        let index = Index::read_only(&db, leaf_secret, limits);
        let newest = AtomicU64::new(last.round.0);
        let writer = Mutex::new(Writer::new(last, read_only));
        Ok(Self { db, index, writer, newest, identity_secret, leaf_secret, _lock: lock })
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        family(&self.db, name)
    }
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        // After a failed commit the engine takes nothing more; the next start reads back what is not in a file.
        let halted = self.writer.get_mut().is_halted();
        self.index.stop(!halted);
    }
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStore").field("dir", &self.db.path()).finish_non_exhaustive()
    }
}

fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("every family is opened with the store")
}

/// Writes the store record of a new store; answers it.
fn make_store(db: &DB) -> Result<Vec<u8>, OpenError> {
    let mut secrets = [0; 64];
    getrandom::fill(&mut secrets).map_err(|_| OpenError::Random)?;
    let value = values::seal(keys::META_STORE, secrets.len(), |value| value.extend_from_slice(&secrets));
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    db.put_cf_opt(family(db, options::META), keys::META_STORE, &value, &synced)?;
    Ok(value)
}

impl LogStore for RocksStore {
    fn commit(&self, round: &Round) -> Result<(), CommitError> {
        self.write_round(round)
    }

    fn state(&self) -> Result<StoreState, ReadError> {
        let last = self.writer.lock().last();
        let (identity_secret, leaf_secret) = (self.identity_secret, self.leaf_secret);
        Ok(StoreState { round: last.round, next_log: last.next_log, identity_secret, leaf_secret })
    }

    fn logs(&self, query: LogQuery<'_>) -> Result<Vec<LogRecord>, ReadError> {
        self.read_logs(query)
    }

    fn entries(
        &self,
        log: LogNumber,
        first: LeafIndex,
        end: LeafIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let Some(head) = self.head(log)? else { return Ok(Vec::new()) };
        let (size, mut at) = (head.head.size.0, first.0);
        let end = end.0.min(size);
        let (mut entries, mut bytes) = (Vec::<Entry>::new(), 0_usize);
        while at < end && (entries.is_empty() || bytes < bytes_max) {
            let bundle_end = (at / BUNDLE_ENTRIES + 1) * BUNDLE_ENTRIES;
            let run = self.run(log, at..end.min(bundle_end), bundle_end <= size, bytes_max - bytes)?;
            at += run.len() as u64;
            bytes = run.iter().fold(bytes, |bytes, entry| bytes.saturating_add(entry.bytes.len()));
            entries.extend(run);
        }
        Ok(entries)
    }

    fn bundle(&self, log: LogNumber, index: u64) -> Result<Option<Bytes>, ReadError> {
        self.read_bundle(log, index)
    }

    fn tiles(&self, log: LogNumber, tiles: &[TileId]) -> Result<Vec<Option<Bytes>>, ReadError> {
        self.read_tiles(log, tiles)
    }

    fn find(&self, log: LogNumber, lookups: &[Lookup]) -> Result<Vec<Option<LeafIndex>>, ReadError> {
        self.read_find(log, lookups)
    }

    fn heads(&self, log: LogNumber, query: HeadQuery, heads_max: usize) -> Result<Vec<PublishedHead>, ReadError> {
        self.read_heads(log, query, heads_max)
    }
}

impl IndexRows for RocksStore {
    fn visit_index(&self, log: LogNumber, visit: &mut dyn FnMut(IndexRow)) -> Result<(), ReadError> {
        self.index.visit(log, visit)
    }
}

#[cfg(test)]
mod tests;
