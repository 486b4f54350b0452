//! What a log asks of its storage: one atomic, synced write a round, and reads.
//!
//! The contract speaks of rounds, entries, tiles, look-ups and heads, never of keys, so that `RocksDB`, memory or an
//! object store with conditional writes can stand behind it. [`conformance`] is the suite that each of them runs.
//!
//! ```text
//!   sequencer ── Round ──> LogStore::commit ── Ok: durable, all of it, for ever
//!                                           ├─ Refused: nothing was written; the round may be tried again
//!                                           └─ Unknown: it may be on disk or not; halt, reopen, read
//! ```

pub mod bundle;
pub mod conformance;
mod contract;
mod memory;
mod records;

pub use contract::{CommitError, HeadQuery, IndexRow, IndexRows, LogQuery, LogStore, Lookup, ReadError, Refusal};
pub use memory::{Fault, InjectedFault, MemoryDisk, MemoryStore, StaleHandle};
pub use records::{
    Entry, Extension, HeadSignature, IdentityHash, LogNumber, LogRecord, LogRound, LogSettings, LogState, PackedBundle,
    Piece, Profile, PublishedHead, Round, RoundNumber, StoreState, StoredHead,
};

/// Entries in a bundle, hashes in a tile (C2SP tlog-tiles).
pub const BUNDLE_ENTRIES: u64 = 256;

/// How many full bundles behind the end of a log are asked for whether they lie in pieces. A process leaves at most a few:
/// each round takes along what the rounds before it filled.
pub const UNPACKED_BUNDLES_MAX: u64 = 64;

/// The longest entry: tlog-tiles frames entries with a 16-bit length.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// Most entries of one log: indices take five bytes in the look-up index.
pub const LOG_ENTRIES_MAX: u64 = 1 << 40;
