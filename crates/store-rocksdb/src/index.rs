//! The look-up index, derived from entries and sidecars: kept in memory first, then in sorted files behind the commit.
//!
//! ```text
//!   commit ──rows of a round──> recent: a map, bounded, rounds wait at its end
//!                                 │  a batch has gathered: sorted, one file, moved in with its watermark
//!                                 v
//!                               family `index`          look-ups ask recent first, then the family
//! ```
//!
//! A file is moved in by one record of the MANIFEST, and holds the *watermark*: the last round whose rows are in the
//! family. So rows and watermark cannot part. Each round leaves a row in `meta` that says what it appended; a later
//! round deletes it once the watermark has passed. What a crash leaves is therefore read back from those rows on, with
//! the sidecars and tiles that they name: a bounded number, whatever the log's size.
//!
//! ```text
//!   crash                        found at the next start
//!   before the file is moved in  the watermark of the batch before; the batch is read back from the rounds' rows
//!   after it                     the new watermark; the rounds' rows are deleted by the next rounds
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use logwood_merkle::{Hash, LeafIndex};
use logwood_store::{IdentityHash, IndexRow, LogNumber, Lookup, ReadError, RoundNumber};
use rocksdb::{DB, Direction, IteratorMode, MergeOperands, Options};

use crate::read::{corrupt, named, unavailable};
use crate::{family, keys, options, values};

mod file;
mod ingest;
mod rebuild;
mod recent;
mod recover;

pub use rebuild::Rebuilt;
use recent::Recent;
pub(crate) use recent::{Extent, Limits};

/// The index of all logs of a store.
pub(crate) struct Index {
    db: Arc<DB>,
    recent: Arc<Recent>,
    ingester: Option<JoinHandle<()>>,
    leaf_secret: [u8; 32],
}

impl Index {
    /// An index that takes no rounds: for a store that is only read.
    pub(crate) fn read_only(db: &Arc<DB>, leaf_secret: [u8; 32], limits: Limits) -> Self {
        Self { db: Arc::clone(db), recent: Arc::new(Recent::new(limits)), ingester: None, leaf_secret }
    }

    /// Starts the thread that moves rows from memory into files.
    ///
    /// * `dir` - the store's directory.
    /// * `options` - those of the family `index`.
    pub(crate) fn start(&mut self, dir: &Path, options: Options) -> io::Result<()> {
        let file = file::IndexFile::new(dir, options)?;
        let (db, recent, leaf_secret) = (Arc::clone(&self.db), Arc::clone(&self.recent), self.leaf_secret);
        let ingester = ingest::Ingester { db, recent, file, leaf_secret };
        self.ingester = Some(std::thread::Builder::new().name("index".into()).spawn(move || ingester.run())?);
        Ok(())
    }

    /// Ends the thread. With `drain` everything in memory goes to a file first.
    pub(crate) fn stop(&mut self, drain: bool) {
        self.recent.stop(drain);
        if let Some(ingester) = self.ingester.take() {
            // A panic in it was reported when it struck; what it left undone is read back at the next start.
            let _ = ingester.join();
        }
    }

    /// Waits until `entries` more fit into memory. `false` if they still do not after a time.
    pub(crate) fn wait_for_room(&self, entries: usize) -> bool {
        self.recent.wait_for_room(entries)
    }

    /// Adds what a durable round appended. Look-ups see it when this returns.
    pub(crate) fn add<'a>(&self, round: RoundNumber, extents: impl Iterator<Item = Extent<'a>>) {
        self.recent.add(round, extents);
    }

    /// The watermark: every round up to it is in the family, on disk.
    pub(crate) fn watermark(&self) -> RoundNumber {
        self.recent.watermark()
    }

    /// What memory knows. An identity's index is the index; of a leaf hash there may be lower ones in the family.
    pub(crate) fn find_recent(&self, log: LogNumber, lookups: &[Lookup]) -> Vec<Option<LeafIndex>> {
        self.recent.find(log, lookups)
    }

    /// Where the family says that identities may be, in the order asked: to be compared with the full identity there.
    pub(crate) fn candidates(&self, log: LogNumber, identities: &[IdentityHash]) -> Result<Vec<Vec<u64>>, ReadError> {
        let family = family(&self.db, options::INDEX);
        let listed = |row: &[u8]| indices(row).collect();
        if let [identity] = identities {
            let row = self.db.get_pinned_cf(family, keys::identity(log, &identity_prefix(identity)));
            return Ok(vec![row.map_err(unavailable)?.map_or_else(Vec::new, |row| listed(&row))]);
        }
        let mut sorted: Vec<_> = (identities.iter().enumerate())
            .map(|(at, identity)| (keys::identity(log, &identity_prefix(identity)), at))
            .collect();
        sorted.sort_unstable();
        let mut found = vec![Vec::new(); identities.len()];
        let rows = self.db.batched_multi_get_cf(family, sorted.iter().map(|(key, _)| key), true);
        for (row, (_, at)) in rows.into_iter().zip(&sorted) {
            if let Some(row) = row.map_err(unavailable)? {
                found[*at] = listed(&row);
            }
        }
        Ok(found)
    }

    /// Shows the indices that the family has for a leaf hash, lowest first, until `visit` has found what it wants.
    pub(crate) fn leaf_candidates(
        &self,
        log: LogNumber,
        leaf: &Hash,
        mut visit: impl FnMut(LeafIndex) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let IndexRow::Leaf { prefix, .. } = IndexRow::of_leaf(&self.leaf_secret, leaf, LeafIndex(0)) else {
            unreachable!("the row of a leaf is a leaf row")
        };
        let from = keys::leaf(log, prefix, LeafIndex(0));
        let prefix = &from[..keys::LEAF_KEY_BYTES - keys::INDEX_BYTES];
        let mode = IteratorMode::From(&from, Direction::Forward);
        for row in self.db.iterator_cf(family(&self.db, options::INDEX), mode) {
            let (key, _) = row.map_err(unavailable)?;
            let Some(index) = key.strip_prefix(prefix) else { break };
            let index = keys::index_from(index).ok_or_else(|| corrupt("an index key".into()))?;
            if visit(LeafIndex(index))? {
                break;
            }
        }
        Ok(())
    }

    /// Shows every row of a log, in order: for fsck.
    pub(crate) fn visit(&self, log: LogNumber, visit: &mut dyn FnMut(IndexRow)) -> Result<(), ReadError> {
        let (prefix, what) = (keys::log(log), format!("the look-up index of log {}", log.0));
        let mode = IteratorMode::From(&prefix, Direction::Forward);
        // A batch is in memory or in the family: while this holds, none moves.
        let (rows, batches) = self.recent.holding(|| self.db.iterator_cf(family(&self.db, options::INDEX), mode));
        let recent = batches.iter().flat_map(|batch| batch.rows(&self.leaf_secret));
        let mut recent: Vec<_> = recent.filter(|(of, _)| *of == log).map(|(_, row)| row).collect();
        recent.sort_unstable();
        let mut recent = recent.into_iter().peekable();
        for row in rows {
            let (key, value) = row.map_err(|error| named(&what)(unavailable(error)))?;
            if !key.starts_with(&prefix) {
                break;
            }
            let read = read_row(&key, &value, &mut |row| {
                while let Some(before) = recent.next_if(|recent| *recent < row) {
                    visit(before);
                }
                visit(row);
            });
            read.ok_or_else(|| corrupt(format!("a row of the look-up index of log {}", log.0)))?;
        }
        recent.for_each(visit);
        Ok(())
    }
}

/// The first 12 bytes of an identity hash: the key of its row.
fn identity_prefix(identity: &IdentityHash) -> [u8; 12] {
    let [prefix @ .., _, _, _, _] = identity.0;
    prefix
}

/// The last round whose rows are in the family; 0 if there are none.
pub(crate) fn stored_watermark(db: &DB) -> Result<RoundNumber, ReadError> {
    let Some(value) = db.get_cf(family(db, options::INDEX), keys::INDEX_WATERMARK).map_err(unavailable)? else {
        return Ok(RoundNumber(0));
    };
    let what = "the watermark of the index";
    let mut reader = values::Reader::new(values::open(keys::INDEX_WATERMARK, &value, what)?, what);
    let round = RoundNumber(reader.u64()?);
    reader.end()?;
    Ok(round)
}

/// The merge of lists of indices: sorted, each once, so that merging a list again changes nothing.
#[expect(clippy::unnecessary_wraps, reason = "RocksDB's merge functions may fail; this one cannot")]
pub(crate) fn merge(_key: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let mut all: Vec<u64> = existing.into_iter().chain(operands.iter()).flat_map(indices).collect();
    all.sort_unstable();
    all.dedup();
    Some(all.into_iter().flat_map(keys::index_bytes).collect())
}

/// The indices of an identity's row.
fn indices(value: &[u8]) -> impl Iterator<Item = u64> {
    value.chunks_exact(keys::INDEX_BYTES).filter_map(keys::index_from)
}

/// Reads a row back, for fsck. `None` if it has no form that this program writes.
fn read_row(key: &[u8], value: &[u8], visit: &mut dyn FnMut(IndexRow)) -> Option<()> {
    match (*key.get(4)?, key.get(5..)?) {
        (keys::KIND_IDENTITY, prefix) => {
            let prefix = prefix.try_into().ok()?;
            indices(value).for_each(|index| visit(IndexRow::Identity { prefix, index: LeafIndex(index) }));
        }
        (keys::KIND_LEAF, rest) => {
            let (prefix, index) = rest.split_first_chunk::<8>()?;
            visit(IndexRow::Leaf { prefix: *prefix, index: LeafIndex(keys::index_from(index)?) });
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests;
