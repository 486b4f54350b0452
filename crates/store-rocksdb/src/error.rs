//! Why a store does not open, and the lock that keeps a second process out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use logwood_store::{ReadError, RoundNumber};
use thiserror::Error;

const LOCK_FILE: &str = "logwood.lock";

/// How the engine reports a bad record of the write-ahead log; its reports on other files name the file.
const WAL_COMPLAINTS: [&str; 4] = [
    "Corruption: checksum mismatch",
    "Corruption: truncated record body",
    "Corruption: error in middle of record",
    "Corruption: missing start of fragmented record",
];

/// Why a store does not open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{dir} is in use by another process{holder}; stop that one first, or name another data directory",
        dir = dir.display()
    )]
    Locked {
        /// The store's directory.
        dir: PathBuf,
        /// Who, as ` (process 123)`; empty if it is not known.
        holder: String,
    },
    /// There is no store.
    #[error("{dir} holds no store; check the path", dir = dir.display())]
    Missing {
        /// Where it was expected.
        dir: PathBuf,
    },
    /// The last record of the write-ahead log is damaged: a power cut in the middle of a write, or rot.
    #[error(
        "the write-ahead log in {dir} ends in a damaged record, after a power cut perhaps; \
         `logwood repair --drop-torn-tail` says what would be lost and cuts it off",
        dir = dir.display()
    )]
    TornTail {
        /// The store's directory.
        dir: PathBuf,
        /// What the engine reported.
        #[source]
        source: rocksdb::Error,
    },
    /// The look-up index is not that of the entries.
    #[error(
        "the look-up index in {dir} is not that of its entries: it ends at round {watermark}, the entries want one that \
         ends between {trimmed} and {last}; `logwood repair --rebuild-index` makes it anew, nothing is lost",
        dir = dir.display()
    )]
    Index {
        /// The store's directory.
        dir: PathBuf,
        /// The last round in the index.
        watermark: RoundNumber,
        /// Rounds up to this one left no other trace: the index must hold them.
        trimmed: RoundNumber,
        /// The last round of the store: the index must hold none above.
        last: RoundNumber,
    },
    /// The directory or its lock file cannot be used.
    #[error("{dir} cannot be used; check that it exists and that this user may write there", dir = dir.display())]
    Io {
        /// The store's directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The engine could not open its files.
    #[error("the database could not be opened; restore it from a backup if its files are damaged")]
    Engine(#[from] rocksdb::Error),
    /// A record that every store has is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The system gave no random bytes for the secrets of a new store.
    #[error("the system gave no random bytes; try again")]
    Random,
}

impl OpenError {
    pub(crate) fn from_engine(dir: &Path, source: rocksdb::Error) -> Self {
        if WAL_COMPLAINTS.iter().any(|complaint| source.as_ref().starts_with(complaint)) {
            Self::TornTail { dir: dir.to_owned(), source }
        } else {
            Self::Engine(source)
        }
    }
}

/// Takes the lock of the store in `dir`; it is free again when the file is closed, also by a crash.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
    let path = dir.join(LOCK_FILE);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Best effort: the name of the holder is a courtesy.
            let _ = file.take(20).read_to_string(&mut pid);
            let holder = pid.trim().parse().map_or(String::new(), |pid: u32| format!(" (process {pid})"));
            return Err(OpenError::Locked { dir: dir.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed)?;
    Ok(file)
}
