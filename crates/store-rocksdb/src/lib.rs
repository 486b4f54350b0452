//! `LogStore` on the embedded RocksDB. The only crate that names `rocksdb`.
//!
//! A round is one `WriteBatch` and one synced write. `docs/format.md` has every byte.
//!
//! ```text
//! bundles   log | bundle | 0  -> 256 entries, packed       log | bundle | 1 -> their identities
//! pieces    log | first entry -> entries that fill no bundle yet; the packed bundle replaces them
//! tiles     log | level | tile -> 256 hashes
//! index     log | kind | ...  -> derived: identity or leaf hash to index
//! meta      store, last round, logs, heads
//! ```
//!


mod index;
mod keys;
mod open;
mod options;
mod read;
mod values;
mod write;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use rocksdb::{ColumnFamily, DB};

pub use open::OpenError;

/// A store on a directory that no other process has open.
pub struct RocksStore {
    db: DB,
    /// Held for as long as the store is open.
    _lock: std::fs::File,
    dir: PathBuf,
    identity_secret: [u8; 32],
    leaf_secret: [u8; 32],
    writer: Mutex<write::Writer>,
    /// A write's outcome was unknown: nothing more is written.
    failed: AtomicBool,
}

impl RocksStore {
    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family is made when the database is opened")
    }
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
