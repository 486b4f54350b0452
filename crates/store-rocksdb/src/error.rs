//! Why a store does not open, and the lock that keeps a second process out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use logwood_store::{ReadError, RoundNumber};
use rocksdb::{DB, Options};
use thiserror::Error;

use crate::wal::{self, Damage};
use crate::{options, read};

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
    /// There are files of a store, and the list of them is gone or lacks some.
    #[error(
        "{dir} holds files of a store, and the engine's list of them (CURRENT, MANIFEST-*) is {problem}; nothing was \
         changed: restore the store from a backup. If this was its first start, and that was interrupted, remove {dir}",
        dir = dir.display()
    )]
    Incomplete {
        /// The store's directory.
        dir: PathBuf,
        /// What is wrong with the list.
        problem: &'static str,
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
    /// The write-ahead log is damaged, and not only in its last record.
    #[error(
        "{wal} is damaged in the middle, at byte {damage}: what is damaged was on disk once and may have been \
         acknowledged, so it is no torn tail and nothing is cut off; restore the store from a backup",
        wal = wal.display()
    )]
    WalDamaged {
        /// The file.
        wal: PathBuf,
        /// Where its first damage begins.
        damage: u64,
        /// What the engine reported.
        #[source]
        source: rocksdb::Error,
    },
    /// The look-up index lacks rows, or a rebuild was interrupted: it can be made anew.
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
    /// The look-up index knows rounds that the store lacks: these were on disk once.
    #[error(
        "entries are gone from {dir}: the look-up index ends at round {watermark}, the store at round {last}, and a round \
         is indexed only after it was written, so that what is gone may have been acknowledged; restore the newest copy \
         of the data; if there is none, `logwood repair --rebuild-index --accept-loss` goes on without these entries",
        dir = dir.display()
    )]
    IndexAhead {
        /// The store's directory.
        dir: PathBuf,
        /// The last round in the index.
        watermark: RoundNumber,
        /// The last round of the store.
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
    /// Whether what is stored is damaged or incomplete. Otherwise the directory is missing, in use, or cannot be used.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Incomplete { .. }
            | Self::TornTail { .. }
            | Self::WalDamaged { .. }
            | Self::Index { .. }
            | Self::IndexAhead { .. } => true,
            Self::Engine(source) => read::is_damage(source),
            Self::Read(error) => matches!(error, ReadError::Corrupt { .. }),
            Self::Locked { .. } | Self::Missing { .. } | Self::Io { .. } | Self::Random => false,
        }
    }

    pub(crate) fn from_engine(dir: &Path, source: rocksdb::Error) -> Self {
        if !WAL_COMPLAINTS.iter().any(|complaint| source.as_ref().starts_with(complaint)) {
            return Self::Engine(source);
        }
        match wal::damage(dir) {
            Ok(Some(Damage::Tail)) => Self::TornTail { dir: dir.to_owned(), source },
            Ok(Some(Damage::Middle { wal, at })) => Self::WalDamaged { wal, damage: at, source },
            // It is not the write-ahead log, or that cannot be read.
            Ok(None) | Err(_) => Self::Engine(source),
        }
    }
}

/// Whether there is a store in `dir`, as far as the engine's list of its files tells.
///
/// # Errors
///
/// There are files of one that the list does not account for. Opened as it is, they would be deleted.
pub(crate) fn holds_store(dir: &Path) -> Result<bool, OpenError> {
    let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
    let incomplete = |problem| OpenError::Incomplete { dir: dir.to_owned(), problem };
    if !dir.join("CURRENT").exists() {
        for file in dir.read_dir().map_err(failed)? {
            let name = file.map_err(failed)?.file_name();
            let is_data =
                Path::new(&name).extension().is_some_and(|end| ["sst", "log", "blob"].iter().any(|&data| end == data));
            if is_data {
                return Err(incomplete("missing"));
            }
        }
        return Ok(false);
    }
    let families = DB::list_cf(&Options::default(), dir).map_err(|source| OpenError::from_engine(dir, source))?;
    if options::FAMILIES.iter().any(|name| !families.iter().any(|family| family == name)) {
        return Err(incomplete("cut short"));
    }
    Ok(true)
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
