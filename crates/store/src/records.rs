//! What is stored: the records of a round, and those that reads give back.

use std::fmt;

use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex, TileId, TreeHead};

/// Number of a log in its store. Given out in order of creation, never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogNumber(pub u32);

/// Number of a round. Consecutive; the first round of a store is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundNumber(pub u64);

impl RoundNumber {
    /// The round after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for RoundNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Keyed hash of an identity: HMAC-SHA-256 under the store's identity secret, cut to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityHash(pub [u8; 16]);

/// An entry as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// 1 to [`crate::ENTRY_BYTES_MAX`] bytes, exactly as submitted.
    pub bytes: Bytes,
    /// What makes a retry of this entry the same entry.
    pub identity: Option<IdentityHash>,
}

/// One group commit over all logs of the process: durable in full, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// One more than that of the round before.
    pub number: RoundNumber,
    /// At most one element a log, in order of [`LogNumber`].
    pub logs: Vec<LogRound>,
}

/// What a round does to one log. Atomic a log; a store may split a round between logs, never within one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRound {
    /// Which log.
    pub log: LogNumber,
    /// The log is new: its number is [`StoreState::next_log`], its tree empty, its state [`LogState::Active`].
    pub create: Option<LogSettings>,
    /// New entries.
    pub extend: Option<Extension>,
    /// Bundles that earlier rounds completed in pieces. The write replaces those pieces.
    pub repacked: Vec<PackedBundle>,
    /// Heads for the history. A head of a size that is there already replaces it: its signatures were renewed.
    pub published: Vec<PublishedHead>,
    /// Sizes of heads that leave the history; none of them is in `published`. One that is not there is no error.
    pub thinned: Vec<u64>,
    /// A new state.
    pub state: Option<LogState>,
}

impl LogRound {
    /// A round that does nothing to `log` yet.
    #[must_use]
    pub fn new(log: LogNumber) -> Self {
        Self {
            log,
            create: None,
            extend: None,
            repacked: Vec::new(),
            published: Vec::new(),
            thinned: Vec::new(),
            state: None,
        }
    }
}

/// Entries that a round appends to one log, with every tile that they complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Index of the first new entry: the size of the tree before.
    pub first: LeafIndex,
    /// Leaf hashes in order of index; never empty.
    pub leaves: Vec<Hash>,
    /// Identities, as many as `leaves`.
    pub identities: Vec<Option<IdentityHash>>,
    /// Bundles that lie wholly in this round, in order.
    pub bundles: Vec<PackedBundle>,
    /// The entries that fill no bundle by themselves: the end of one begun earlier, the beginning of the next.
    pub pieces: Vec<Piece>,
    /// Completed tiles, 256 hashes each.
    pub tiles: Vec<(TileId, Bytes)>,
    /// The head once the entries are appended.
    pub head: TreeHead,
    /// The sequencer's clock when the round was sealed, POSIX milliseconds.
    pub time_ms: u64,
}

/// A full bundle of 256 entries, encoded by [`crate::bundle::pack`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedBundle {
    /// Bundle number: its first entry has index 256 times this.
    pub index: u64,
    /// Offsets and zstd frames; decodes to the tlog-tiles entry bundle.
    pub data: Bytes,
    /// Identities of the 256 entries.
    pub identities: Vec<Option<IdentityHash>>,
}

/// Contiguous entries of one bundle that is not full yet, or was filled by this piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of the first entry.
    pub first: LeafIndex,
    /// 1 to 255 entries, all in one bundle.
    pub entries: Vec<Entry>,
}

/// What is fixed when a log is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Unique in the store, 1 to 63 bytes.
    pub name: String,
    /// C2SP checkpoint origin, at most 255 bytes.
    pub origin: String,
    /// C2SP verifier keys; the first is the log's Ed25519 key.
    pub vkeys: Vec<String>,
    /// POSIX milliseconds.
    pub created_ms: u64,
    /// How entries become leaves.
    pub profile: Profile,
    /// Whether entries can be looked up by leaf hash.
    pub leaf_index: bool,
    /// Which store of several holds the log. Always 0 yet.
    pub shard: u32,
    /// Entries below were pruned. Always 0 yet.
    pub first_index: u64,
}

/// How an entry becomes a leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// The entry is the leaf's data.
    #[default]
    Opaque,
}

/// Whether a log takes entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogState {
    /// It does.
    #[default]
    Active,
    /// Not until it is thawed.
    Frozen,
    /// Never again.
    Sealed {
        /// The signed seal.
        note: Bytes,
    },
}

/// A log as its store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Prefix of everything that belongs to the log.
    pub number: LogNumber,
    /// Fixed at creation.
    pub settings: LogSettings,
    /// Whether it takes entries.
    pub state: LogState,
    /// The head of its tree.
    pub head: StoredHead,
    /// Those of its last [`crate::UNPACKED_BUNDLES_MAX`] full bundles that still lie in pieces, lowest first: a round
    /// may replace them ([`LogRound::repacked`]).
    pub unpacked: Vec<u64>,
}

/// The present head of a log, written with the entries that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredHead {
    /// Size and root.
    pub head: TreeHead,
    /// The round that wrote it.
    pub round: RoundNumber,
    /// [`Extension::time_ms`], or the time of creation.
    pub time_ms: u64,
}

/// A head of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedHead {
    /// Size and root.
    pub head: TreeHead,
    /// When it was taken for publishing, by the log's clock, POSIX milliseconds.
    pub time_ms: u64,
    /// The log's signatures and its witnesses' cosignatures, in the order of the note. At most 64.
    pub signatures: Vec<HeadSignature>,
}

/// A signature line of a note, raw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadSignature {
    /// Key name.
    pub name: String,
    /// C2SP key id.
    pub key_id: u32,
    /// The bytes after the key id.
    pub signature: Bytes,
}

/// What a store says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreState {
    /// The last round. 0 for a new store.
    pub round: RoundNumber,
    /// The number of the next log. Also how many there are.
    pub next_log: LogNumber,
    /// Key of every [`IdentityHash`]: random, made with the store.
    pub identity_secret: [u8; 32],
    /// Key of every [`crate::IndexRow::Leaf`]: random, made with the store.
    pub leaf_secret: [u8; 32],
}
