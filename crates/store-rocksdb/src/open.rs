//! Opening: one process a directory, secrets made once, rounds checked.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use logwood_store::{ReadError, RoundNumber};
use parking_lot::Mutex;
use rocksdb::{DB, WriteBatch, WriteOptions};
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use crate::options::{self, META};
use crate::values::{self, Reader};
use crate::{RocksStore, keys, write};

/// Why a store was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process: one server a data directory; stop that one first", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// A file or directory could not be made or read.
    #[error("cannot open {}: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// RocksDB refuses, for example because the last record of its log was torn by a power cut.
    #[error(
        "{} cannot be opened: {source}; if the last record of the write-ahead log is torn, keep a copy of the \
         directory before anything is tried", dir.display()
    )]
    Engine {
        /// The directory.
        dir: PathBuf,
        /// What RocksDB says.
        source: rocksdb::Error,
    },
    /// A record is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl RocksStore {
    /// Opens the store in `dir`, and makes it if there is none.
    ///
    /// What was found in the write-ahead log is flushed and synced before this returns, so whatever the store shows
    /// is on disk, also if an earlier sync failed.
    ///
    /// # Errors
    ///
    /// * [`OpenError::Locked`] if another process has it open.
    /// * [`OpenError::Io`], [`OpenError::Engine`], [`OpenError::Read`] if it cannot be read or is damaged.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        let lock = File::create(dir.join("LOGWOOD_LOCK")).map_err(io)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| OpenError::Locked { dir: dir.to_owned() })?;

        let engine = |source| OpenError::Engine { dir: dir.to_owned(), source };
        let db = DB::open_cf_descriptors(&options::database(), dir, options::families()).map_err(engine)?;
        let mut store = Self {
            db,
            _lock: lock,
            dir: dir.to_owned(),
            identity_secret: [0; 32],
            leaf_secret: [0; 32],
            writer: Mutex::new(write::Writer { round: RoundNumber(0), next_log: 0 }),
            failed: AtomicBool::new(false),
        };
        store.load_or_make_secrets(dir)?;
        let round = store.read_round()?;
        *store.writer.lock() = round;
        Ok(store)
    }

    fn load_or_make_secrets(&mut self, dir: &Path) -> Result<(), OpenError> {
        let engine = |source| OpenError::Engine { dir: dir.to_owned(), source };
        let key = keys::META_STORE;
        if let Some(value) = self.db.get_cf(self.family(META), key).map_err(engine)? {
            let what = "the store's own record";
            let mut reader = Reader::new(values::open(key, &value, what)?, what);
            (self.identity_secret, self.leaf_secret) = (reader.array()?, reader.array()?);
            return Ok(reader.end()?);
        }
        let random = |bytes: &mut [u8]| {
            let failed = |_| OpenError::Io { dir: dir.to_owned(), source: std::io::Error::other("no random bytes") };
            getrandom::fill(bytes).map_err(failed)
        };
        random(&mut self.identity_secret)?;
        random(&mut self.leaf_secret)?;
        let mut batch = WriteBatch::default();
        let value = values::seal(key, 64, |value| {
            value.extend_from_slice(&self.identity_secret);
            value.extend_from_slice(&self.leaf_secret);
        });
        batch.put_cf(self.family(META), key, value);
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        self.db.write_opt(batch, &synced).map_err(engine)
    }

    fn read_round(&self) -> Result<write::Writer, OpenError> {
        let what = "the number of the last round";
        let value = self.get(META, keys::META_ROUND)?;
        let Some(value) = value else { return Ok(write::Writer { round: RoundNumber(0), next_log: 0 }) };
        let mut reader = Reader::new(values::open(keys::META_ROUND, &value, what)?, what);
        let writer = write::Writer { round: RoundNumber(reader.u64()?), next_log: reader.u32()? };
        reader.end()?;
        Ok(writer)
    }
}
