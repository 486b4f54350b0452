//! A damaged end of the write-ahead log: found, judged, and cut off.
//!
//! ```text
//!   block of 32 KiB: | header | fragment | header | fragment | ... | zeros if fewer than 7 bytes are left |
//!   header:          CRC-32C (4), length (2), type (1): 1 full, 2 first, 3 middle, 4 last
//! ```
//!
//! One synced write at a time means that only the last record can be torn by a power cut, and that it was not
//! acknowledged. Damage with another record behind it is rot in something that was: that is never cut off.
//!
//! Source: `db/log_format.h` of `RocksDB`; integers are little-endian there.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rocksdb::DB;
use thiserror::Error;

use crate::index::Limits;
use crate::{OpenError, RocksStore, error, options};

mod records;

use records::{Tail, judge};

/// Where the WAL is kept as it was, inside the store's directory.
const COPIES: &str = "torn";

/// Why the end of a write-ahead log is not cut off.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TornTailError {
    /// The directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nothing is wrong with it.
    #[error("the newest write-ahead log of {dir} does not end in a damaged record: there is nothing to cut off; \
             if the store does not open, its damage is elsewhere, so restore it from a backup", dir = dir.display())]
    NotTorn {
        /// The store's directory.
        dir: PathBuf,
    },
    /// The damage is not at the end.
    #[error(
        "{wal} is damaged at byte {damage}, and a whole record follows at byte {next}: what is damaged was on disk once, \
         and may have been acknowledged, so it is not cut off; restore the store from a backup",
        wal = wal.display()
    )]
    RecordFollows {
        /// The file.
        wal: PathBuf,
        /// Where the damage begins.
        damage: u64,
        /// Where the next record begins.
        next: u64,
    },
    /// The file, or its copy, cannot be read or written.
    #[error("{wal} cannot be repaired", wal = wal.display())]
    Io {
        /// The file.
        wal: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A write-ahead log that ends in a damaged record. Nothing has been changed yet; the store stays locked.
#[derive(Debug)]
pub struct TornTail {
    dir: PathBuf,
    wal: PathBuf,
    bytes: Vec<u8>,
    keep: usize,
    _lock: File,
}

impl TornTail {
    /// Reads the newest write-ahead log of the store in `dir`.
    ///
    /// # Errors
    ///
    /// [`TornTailError`]: the end is not damaged, or not only the end is.
    pub fn find(dir: &Path) -> Result<Self, TornTailError> {
        let lock = RocksStore::lock_existing(dir)?;
        let not_torn = || TornTailError::NotTorn { dir: dir.to_owned() };
        let mut wals = wals(dir).map_err(|source| OpenError::Io { dir: dir.to_owned(), source })?;
        let (_, wal) = wals.pop_last().ok_or_else(not_torn)?;
        let bytes = fs::read(&wal).map_err(|source| TornTailError::Io { wal: wal.clone(), source })?;
        match judge(&bytes) {
            Tail::Whole => Err(not_torn()),
            Tail::Torn { keep } => Ok(Self { dir: dir.to_owned(), wal, bytes, keep, _lock: lock }),
            Tail::Followed { damage, next } => {
                Err(TornTailError::RecordFollows { wal, damage: damage as u64, next: next as u64 })
            }
        }
    }

    /// How many bytes the damaged record takes.
    #[must_use]
    pub fn dropped_bytes(&self) -> u64 {
        (self.bytes.len() - self.keep) as u64
    }

    /// The store as it would be without the record, for reading only: what it knows can be compared with heads kept
    /// elsewhere. It lives in `scratch`, an empty directory, which links to the store's files.
    ///
    /// Look-ups see only what was indexed already.
    ///
    /// # Errors
    ///
    /// [`TornTailError`].
    pub fn preview(&self, scratch: &Path) -> Result<RocksStore, TornTailError> {
        let failed = |source| TornTailError::Io { wal: self.wal.clone(), source };
        let name = self.wal.file_name().unwrap_or_default();
        for file in fs::read_dir(&self.dir).map_err(failed)? {
            let file = file.map_err(failed)?;
            let is_file = file.file_type().map_err(failed)?.is_file();
            if is_file && file.file_name() != name && is_of_the_database(&file.file_name().to_string_lossy()) {
                let target = fs::canonicalize(file.path()).map_err(failed)?;
                std::os::unix::fs::symlink(target, scratch.join(file.file_name())).map_err(failed)?;
            }
        }
        fs::write(scratch.join(name), &self.bytes[..self.keep]).map_err(failed)?;
        let lock = error::lock(scratch)?;
        let database = options::database().map_err(OpenError::from)?;
        let families = options::families(&options::cache()).map_err(OpenError::from)?;
        let db = DB::open_cf_descriptors_read_only(&database, scratch, families, false)
            .map_err(|source| OpenError::from_engine(&self.dir, source))?;
        Ok(RocksStore::load(db, lock, (true, Limits::default()))?)
    }

    /// Cuts the record off. The file as it was is kept; answers where.
    ///
    /// # Errors
    ///
    /// [`TornTailError::Io`]: the copy could not be made, and nothing was changed; or the file could not be cut.
    pub fn cut(self) -> Result<PathBuf, TornTailError> {
        let copy = self.keep_copy().and_then(|copy| {
            let wal = OpenOptions::new().write(true).open(&self.wal)?;
            wal.set_len(self.keep as u64)?;
            wal.sync_all()?;
            Ok(copy)
        });
        copy.map_err(|source| TornTailError::Io { wal: self.wal, source })
    }

    fn keep_copy(&self) -> io::Result<PathBuf> {
        let dir = self.dir.join(COPIES);
        fs::create_dir_all(&dir)?;
        let name = self.wal.file_name().unwrap_or_default().to_string_lossy();
        let mut copies = 0;
        let (mut file, path) = loop {
            let path = dir.join(if copies == 0 { name.to_string() } else { format!("{name}.{copies}") });
            match File::create_new(&path) {
                Ok(file) => break (file, path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => copies += 1,
                Err(error) => return Err(error),
            }
        };
        file.write_all(&self.bytes)?;
        file.sync_all()?;
        File::open(&dir)?.sync_all()?;
        File::open(&self.dir)?.sync_all()?;
        Ok(path)
    }
}

/// Where write-ahead logs are damaged.
pub(crate) enum Damage {
    /// In the last record of the newest, and nowhere else.
    Tail,
    /// Before that.
    Middle {
        /// The first file that is damaged.
        wal: PathBuf,
        /// Its first byte that is.
        at: u64,
    },
}

/// The first damage in the write-ahead logs of the store in `dir`.
pub(crate) fn damage(dir: &Path) -> io::Result<Option<Damage>> {
    let wals = wals(dir)?;
    let newest = wals.last_key_value().map(|(number, _)| *number);
    for (number, wal) in wals {
        let at = match judge(&fs::read(&wal)?) {
            Tail::Whole => continue,
            Tail::Torn { .. } if Some(number) == newest => return Ok(Some(Damage::Tail)),
            Tail::Torn { keep } => keep,
            Tail::Followed { damage, .. } => damage,
        };
        return Ok(Some(Damage::Middle { wal, at: at as u64 }));
    }
    Ok(None)
}

/// Every `<number>.log`, by number.
fn wals(dir: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut wals = BTreeMap::new();
    for file in fs::read_dir(dir)? {
        let path = file?.path();
        let is_wal = path.extension().is_some_and(|extension| extension == "log");
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| is_wal) {
            wals.insert(number, path);
        }
    }
    Ok(wals)
}

/// What the engine reads: tables, blobs, logs, and the files that name them. Not its text logs, and no lock.
pub(crate) fn is_of_the_database(name: &str) -> bool {
    let starts = ["CURRENT", "IDENTITY", "MANIFEST-", "OPTIONS-"].iter().any(|start| name.starts_with(start));
    starts || [".sst", ".blob", ".log"].iter().any(|end| name.ends_with(end))
}
