//! [`LogStore`] on the embedded `RocksDB`: one write batch and one synced write a round.
//!
//! ```text
//!   bundles  log, bundle, part      256 entries in zstd frames; beside them their identities (the sidecar)
//!   pieces   log, first index       entries of a bundle that is not packed yet
//!   tiles    log, level, index      256 hashes
//!   index    log, kind, hash        where an entry is: derived, can be rebuilt
//!   meta     kind, log, ...         store, last round, names, settings, states, heads
//! ```
//!
//! `docs/format.md` shows every byte.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use logwood_merkle::{LeafIndex, TileId, TreeHead};
use logwood_store::{
    BUNDLE_ENTRIES, CommitError, Entry, HeadQuery, IndexRow, LogNumber, LogQuery, LogRecord, LogRound, LogState,
    LogStore, Lookup, PackedBundle, PublishedHead, ReadError, Refusal, Round, RoundNumber, StoreState, StoredHead,
};
use parking_lot::Mutex;
use rocksdb::{ColumnFamily, DB, ErrorKind, WriteBatch, WriteOptions};
use thiserror::Error;

mod error;
mod index;
mod keys;
mod options;
mod read;
mod values;

pub use error::OpenError;

/// The engine halted: a commit before this one had an unknown outcome, or rounds are not written here.
#[derive(Debug, Error)]
#[error("this handle of the store takes no more rounds; open the store again")]
pub struct StaleHandle;

/// Settings of logs kept in memory at most: whether each has a leaf index.
const LEAF_INDEX_CACHE_LOGS_MAX: usize = 4_096;

/// A store in a directory.
pub struct RocksStore {
    db: DB,
    writer: Mutex<Writer>,
    identity_secret: [u8; 32],
    leaf_secret: [u8; 32],
    // Held until the database is closed: fields are dropped in order.
    _lock: File,
}

struct Writer {
    round: RoundNumber,
    next_log: LogNumber,
    halted: bool,
    leaf_index: HashMap<LogNumber, bool>,
}

impl RocksStore {
    /// Opens the store in `dir`, or makes one. What is found is made durable anew before this returns.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; each says what to do.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        std::fs::create_dir_all(dir).map_err(|source| OpenError::Io { dir: dir.to_owned(), source })?;
        let lock = error::lock(dir)?;
        let db = DB::open_cf_descriptors(&options::database()?, dir, options::families())
            .map_err(|source| OpenError::from_engine(dir, source))?;
        Self::load(db, lock, false)
    }

    /// Opens the store in `dir` for reading only, for fsck: refused while another process has it open.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; each says what to do.
    pub fn open_read_only(dir: &Path) -> Result<Self, OpenError> {
        if !dir.join("CURRENT").exists() {
            return Err(OpenError::Missing { dir: dir.to_owned() });
        }
        let lock = error::lock(dir)?;
        let db = DB::open_cf_descriptors_read_only(&options::database()?, dir, options::families(), false)
            .map_err(|source| OpenError::from_engine(dir, source))?;
        Self::load(db, lock, true)
    }

    /// Closes the store and lets another process have it. Dropping does the same.
    pub fn close(self) {
        drop(self);
    }

    fn load(db: DB, lock: File, read_only: bool) -> Result<Self, OpenError> {
        let meta = family(&db, options::META);
        let secrets = match db.get_cf(meta, keys::META_STORE)? {
            Some(value) => value,
            None if read_only || db.get_cf(meta, keys::META_ROUND)?.is_some() => {
                return Err(OpenError::Read(ReadError::Corrupt { what: "the store record is missing".into() }));
            }
            None => make_store(&db)?,
        };
        let mut reader =
            values::Reader::new(values::open(keys::META_STORE, &secrets, "the store record")?, "the store record");
        let (identity_secret, leaf_secret) = (reader.array()?, reader.array()?);
        reader.end()?;

        let (mut round, mut next_log) = (RoundNumber(0), LogNumber(0));
        if let Some(value) = db.get_cf(meta, keys::META_ROUND)? {
            let what = "the record of the last round";
            let mut reader = values::Reader::new(values::open(keys::META_ROUND, &value, what)?, what);
            (round, next_log) = (RoundNumber(reader.u64()?), LogNumber(reader.u32()?));
            reader.end()?;
        }
        let writer = Writer { round, next_log, halted: read_only, leaf_index: HashMap::new() };
        let store = Self { db, writer: Mutex::new(writer), identity_secret, leaf_secret, _lock: lock };
        store.check_heads(round)?;
        Ok(store)
    }

    /// Makes the look-up index of all logs anew from entries and sidecars, for `logwood repair --rebuild-index`.
    ///
    /// A crash in the middle leaves a part of the index; run it again.
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`] if an entry is damaged, [`ReadError::Unavailable`] if the engine fails.
    pub fn rebuild_index(&self) -> Result<(), ReadError> {
        let next_log = self.writer.lock().next_log;
        for log in (0..next_log.0).map(LogNumber) {
            self.rebuild_log(log)?;
        }
        Ok(())
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        family(&self.db, name)
    }

    fn has_leaf_index(&self, writer: &mut Writer, log: LogNumber) -> Result<bool, ReadError> {
        if let Some(known) = writer.leaf_index.get(&log) {
            return Ok(*known);
        }
        let leaf_index = self.settings(log)?.leaf_index;
        writer.remember(log, leaf_index);
        Ok(leaf_index)
    }

    /// Adds all that a round does to one log to `batch`.
    fn stage(
        &self,
        batch: &mut WriteBatch,
        writer: &mut Writer,
        number: RoundNumber,
        round: &LogRound,
    ) -> Result<(), ReadError> {
        let (log, meta) = (round.log, self.family(options::META));
        if let Some(settings) = &round.create {
            assert_eq!(log, writer.next_log, "a new log takes the next number");
            writer.next_log = LogNumber(log.0 + 1);
            writer.remember(log, settings.leaf_index);
            let key = keys::meta_name(&settings.name);
            batch.put_cf(meta, &key, values::seal(&key, 4, |value| value.extend(log.0.to_be_bytes())));
            let key = keys::meta_settings(log);
            batch.put_cf(meta, key, values::settings(&key, settings));
            let key = keys::meta_state(log);
            batch.put_cf(meta, key, values::state(&key, &LogState::Active));
            let head = StoredHead { head: TreeHead::empty(), round: number, time_ms: settings.created_ms };
            let key = keys::meta_head(log);
            batch.put_cf(meta, key, values::stored_head(&key, &head));
        }
        if let Some(extension) = &round.extend {
            for bundle in &extension.bundles {
                self.stage_bundle(batch, log, bundle);
            }
            for piece in &extension.pieces {
                let key = keys::piece(log, piece.first);
                batch.put_cf(self.family(options::PIECES), key, values::piece(&key, piece));
            }
            for (tile, bytes) in &extension.tiles {
                let key = keys::tile(log, *tile);
                let value = values::seal(&key, bytes.len(), |value| value.extend_from_slice(bytes));
                batch.put_cf(self.family(options::TILES), key, value);
            }
            let leaf_secret = self.has_leaf_index(writer, log)?.then_some(&self.leaf_secret);
            index::write(batch, self.family(options::INDEX), log, (extension, leaf_secret));
            let head = StoredHead { head: extension.head, round: number, time_ms: extension.time_ms };
            let key = keys::meta_head(log);
            batch.put_cf(meta, key, values::stored_head(&key, &head));
        }
        for bundle in &round.repacked {
            self.stage_bundle(batch, log, bundle);
            for key in self.piece_keys(log, bundle.index)? {
                batch.single_delete_cf(self.family(options::PIECES), key);
            }
        }
        for size in &round.thinned {
            self.unstage_head(batch, log, *size)?;
        }
        self.stage_heads(batch, log, &round.published)?;
        if let Some(state) = &round.state {
            let key = keys::meta_state(log);
            batch.put_cf(meta, key, values::state(&key, state));
        }
        Ok(())
    }

    fn stage_bundle(&self, batch: &mut WriteBatch, log: LogNumber, bundle: &PackedBundle) {
        let family = self.family(options::BUNDLES);
        let key = keys::bundle(log, bundle.index, keys::PART_ENTRIES);
        batch.put_cf(family, key, values::seal(&key, bundle.data.len(), |value| value.extend_from_slice(&bundle.data)));
        if bundle.identities.iter().any(Option::is_some) {
            let key = keys::bundle(log, bundle.index, keys::PART_IDENTITIES);
            let sidecar = values::seal(&key, 256 * values::IDENTITY_BYTES, |value| {
                for identity in &bundle.identities {
                    values::put_identity(value, *identity);
                }
            });
            batch.put_cf(family, key, sidecar);
        }
    }

    fn stage_heads(&self, batch: &mut WriteBatch, log: LogNumber, heads: &[PublishedHead]) -> Result<(), ReadError> {
        let meta = self.family(options::META);
        for head in heads {
            let size = head.head.size.0;
            self.unstage_head(batch, log, size)?;
            let key = keys::meta_published(log, size);
            batch.put_cf(meta, key, values::published(&key, head));
            let key = keys::meta_published_at(log, head.time_ms, size);
            batch.put_cf(meta, key, values::seal(&key, 0, |_| {}));
        }
        Ok(())
    }

    /// Takes the head of this size out of the history, if it is there.
    fn unstage_head(&self, batch: &mut WriteBatch, log: LogNumber, size: u64) -> Result<(), ReadError> {
        let (meta, key) = (self.family(options::META), keys::meta_published(log, size));
        if let Some(old) = self.get(options::META, &key)? {
            let old = values::read_published(&key, &old)?;
            batch.delete_cf(meta, key);
            batch.delete_cf(meta, keys::meta_published_at(log, old.time_ms, size));
        }
        Ok(())
    }
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStore").field("dir", &self.db.path()).finish_non_exhaustive()
    }
}

impl Writer {
    fn remember(&mut self, log: LogNumber, leaf_index: bool) {
        if self.leaf_index.len() >= LEAF_INDEX_CACHE_LOGS_MAX {
            self.leaf_index.clear();
        }
        self.leaf_index.insert(log, leaf_index);
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
        let mut writer = self.writer.lock();
        if writer.halted {
            return Err(CommitError::Unknown { source: Box::new(StaleHandle) });
        }
        assert_eq!(round.number, writer.round.next(), "rounds are numbered without a gap");
        let logs_before = writer.next_log;
        let mut batch = WriteBatch::default();
        for log_round in &round.logs {
            if let Err(error) = self.stage(&mut batch, &mut writer, round.number, log_round) {
                writer.halted = true;
                return Err(CommitError::Unknown { source: Box::new(error) });
            }
        }
        let next_log = writer.next_log;
        let value = values::seal(keys::META_ROUND, 12, |value| {
            value.extend(round.number.0.to_be_bytes());
            value.extend(next_log.0.to_be_bytes());
        });
        batch.put_cf(self.family(options::META), keys::META_ROUND, value);

        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        // A stall is then a refusal before the WAL, not an outcome in doubt.
        synced.set_no_slowdown(true);
        match self.db.write_opt(batch, &synced) {
            Ok(()) => {
                writer.round = round.number;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Incomplete => {
                writer.next_log = logs_before;
                writer.leaf_index.clear();
                Err(CommitError::Refused { reason: Refusal::Stalled })
            }
            Err(error) => {
                writer.halted = true;
                Err(CommitError::Unknown { source: Box::new(error) })
            }
        }
    }

    fn state(&self) -> Result<StoreState, ReadError> {
        let writer = self.writer.lock();
        let (identity_secret, leaf_secret) = (self.identity_secret, self.leaf_secret);
        Ok(StoreState { round: writer.round, next_log: writer.next_log, identity_secret, leaf_secret })
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

    fn tiles(&self, log: LogNumber, tiles: &[TileId]) -> Result<Vec<Option<Bytes>>, ReadError> {
        self.read_tiles(log, tiles)
    }

    fn find(&self, log: LogNumber, lookups: &[Lookup]) -> Result<Vec<Option<LeafIndex>>, ReadError> {
        self.read_find(log, lookups)
    }

    fn heads(&self, log: LogNumber, query: HeadQuery, heads_max: usize) -> Result<Vec<PublishedHead>, ReadError> {
        self.read_heads(log, query, heads_max)
    }

    fn visit_index(&self, log: LogNumber, visit: &mut dyn FnMut(IndexRow)) -> Result<(), ReadError> {
        self.read_index(log, visit)
    }
}

#[cfg(test)]
mod tests;
