//! The contract between a log and its storage.

use std::error::Error;

use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex, TileId};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::records::{Entry, IdentityHash, LogNumber, LogRecord, PublishedHead, Round, StoreState};

/// Durable state of all logs of a process. One writer, any number of readers.
///
/// * **Durable**: what [`commit`](Self::commit) returned `Ok` for survives `kill -9` and power loss.
/// * **Atomic**: of a round that failed, everything or nothing of each log is found when the store is opened again.
/// * **Opening makes durable anew**: whatever a store shows after it was opened is on disk, also if the sync that
///   should have put it there had failed.
/// * **Checked**: bytes that fail their checksum are [`ReadError::Corrupt`], never returned.
/// * A read sees every round whose `commit` had returned before the read began.
///
/// Methods block on the disk. [`crate::conformance`] checks every sentence above that can be checked.
pub trait LogStore: IndexRows + Send + Sync + 'static {
    /// Writes `round` atomically and syncs it before returning.
    ///
    /// # Errors
    ///
    /// * [`CommitError::Refused`]: nothing was written, the store is as before.
    /// * [`CommitError::Unknown`]: it may be durable, or visible and not durable, or neither. The caller must drop the
    ///   store and open it again; every further `commit` on this one fails.
    fn commit(&self, round: &Round) -> Result<(), CommitError>;

    /// The last round, the number of logs, and the identity secret.
    ///
    /// # Errors
    ///
    /// [`ReadError`], as every read below.
    fn state(&self) -> Result<StoreState, ReadError>;

    /// Logs by name, in order of their names.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    fn logs(&self, query: LogQuery<'_>) -> Result<Vec<LogRecord>, ReadError>;

    /// Entries of `log` from `first` on: at least one if there is one, at most up to `end` (not included), and no
    /// further one once `bytes_max` is reached. Entries past the log's size are not there: the answer is shorter.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    fn entries(
        &self,
        log: LogNumber,
        first: LeafIndex,
        end: LeafIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError>;

    /// Bundle `index` of `log` as [`crate::bundle::pack`] made it. `None` as long as it is in pieces, if it ever was: what
    /// it holds is always to be had from [`entries`](Self::entries) too.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    fn bundle(&self, log: LogNumber, index: u64) -> Result<Option<Bytes>, ReadError>;

    /// Completed tiles of `log`, 8,192 bytes each, in the order asked; `None` where there is none.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    fn tiles(&self, log: LogNumber, tiles: &[TileId]) -> Result<Vec<Option<Bytes>>, ReadError>;

    /// Where entries are, by identity or by leaf hash, in the order asked.
    ///
    /// An identity has one index; of a leaf hash the lowest is given. Never a false one: each hit was compared with
    /// the full identity hash or leaf hash at that index.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    fn find(&self, log: LogNumber, lookups: &[Lookup]) -> Result<Vec<Option<LeafIndex>>, ReadError>;

    /// Published heads of `log`, at most `heads_max`; oldest first, unless the query says otherwise.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    fn heads(&self, log: LogNumber, query: HeadQuery, heads_max: usize) -> Result<Vec<PublishedHead>, ReadError>;
}

/// The look-up index that a store derives from its entries, to be compared with them. A log that runs has no use for it.
pub trait IndexRows {
    /// Shows every row of the index of `log` to `visit`, each once, in order.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    fn visit_index(&self, log: LogNumber, visit: &mut dyn FnMut(IndexRow)) -> Result<(), ReadError>;
}

/// Which logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogQuery<'a> {
    /// The one of this name.
    Name(&'a str),
    /// Those whose names come after this one (empty: from the first), at most `logs_max`.
    After {
        /// A name, which need not exist.
        name: &'a str,
        /// How many at most.
        logs_max: usize,
    },
}

/// What an entry is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its identity.
    Identity(IdentityHash),
    /// Its leaf hash. Answers `None` in a log without a leaf index.
    Leaf(Hash),
}

/// Which published heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadQuery {
    /// Those of at least this size.
    FromSize(u64),
    /// Those taken at this time or later, POSIX milliseconds.
    FromTime(u64),
    /// The newest one.
    Latest,
    /// Those below this size, newest first.
    Below(u64),
}

/// A row of the look-up index. The keys are cut short and, for leaves, hashed under the store's secret:
/// [`of_identity`](Self::of_identity) and [`of_leaf`](Self::of_leaf) make the rows that an entry should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexRow {
    /// The first 12 bytes of an identity hash.
    Identity {
        /// Key.
        prefix: [u8; 12],
        /// Where it is.
        index: LeafIndex,
    },
    /// The first 8 bytes of a keyed hash of a leaf hash.
    Leaf {
        /// Key.
        prefix: [u8; 8],
        /// Where it is.
        index: LeafIndex,
    },
}

impl IndexRow {
    /// The row of an entry with an identity.
    #[must_use]
    pub fn of_identity(identity: &IdentityHash, index: LeafIndex) -> Self {
        let [prefix @ .., _, _, _, _] = identity.0;
        Self::Identity { prefix, index }
    }

    /// The row of an entry in a log with a leaf index; `leaf_secret` is [`StoreState::leaf_secret`].
    ///
    /// Leaf hashes are public, so whoever appends could make millions that share 8 bytes; under a secret nobody can.
    #[must_use]
    pub fn of_leaf(leaf_secret: &[u8; 32], leaf: &Hash, index: LeafIndex) -> Self {
        let keyed: [u8; 32] = Sha256::new().chain_update(leaf_secret).chain_update(leaf.as_bytes()).finalize().into();
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&keyed[..8]);
        Self::Leaf { prefix, index }
    }
}

/// Why a round was not committed.
#[derive(Debug, Error)]
pub enum CommitError {
    /// Nothing was written. Try again later.
    #[error("the store refused the round, nothing was written: {reason}")]
    Refused {
        /// Why.
        reason: Refusal,
    },
    /// Whether the round is durable is not known. Reload.
    #[error("the outcome of the commit is unknown; the store must be opened again")]
    Unknown {
        /// What the engine reported.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Why a store took nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Compaction is behind.
    #[error("writes are stalled")]
    Stalled,
    /// The disk is full, and this was known before anything was written.
    #[error("the disk is full")]
    DiskFull,
}

/// Why a read failed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Stored bytes fail their checksum, or cannot be what was written.
    #[error("stored data is damaged: {what}")]
    Corrupt {
        /// Which record, for people.
        what: String,
    },
    /// The engine could not read.
    #[error("the store cannot be read")]
    Unavailable {
        /// What the engine reported.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}
