//! The look-up index, derived from entries and sidecars: keys that ride with the round.
//!
//! Everything that knows how rows are written and found is here, so that sorted ingest can replace it.

use logwood_merkle::{Hash, LeafIndex};
use logwood_store::{Extension, IdentityHash, IndexRow, LogNumber, LogStore as _, ReadError};
use rocksdb::{MergeOperands, WriteBatch};
use sha2::{Digest as _, Sha256};

use crate::read::unavailable;
use crate::{RocksStore, keys, options};

/// Entries and bytes of them that a rebuild holds at once.
const REBUILD_ENTRIES: u64 = 4_096;
const REBUILD_BYTES: usize = 16 * 1024 * 1024;

/// The first 12 bytes of an identity hash: the key of its row.
pub(crate) fn identity_prefix(identity: IdentityHash) -> [u8; 12] {
    identity.0[..12].try_into().expect("12 of 16 bytes")
}

/// 8 bytes of a leaf hash under the store's secret, so that nobody can construct entries that share a row.
pub(crate) fn leaf_prefix(secret: &[u8; 32], leaf: &Hash) -> [u8; 8] {
    let hash = Sha256::new().chain_update(secret).chain_update(leaf.as_bytes()).finalize();
    hash[..8].try_into().expect("8 of 32 bytes")
}

/// Adds the rows of new entries to a round. An identity's value is a list of five-byte indices, because 12 bytes of
/// two identities may collide: a merge lengthens the list, so that no commit reads.
pub(crate) fn write(
    batch: &mut WriteBatch,
    family: &impl rocksdb::AsColumnFamilyRef,
    log: LogNumber,
    (extension, leaf_secret): (&Extension, Option<&[u8; 32]>),
) {
    for (index, (leaf, identity)) in (extension.first.0..).zip(extension.leaves.iter().zip(&extension.identities)) {
        write_row(batch, family, log, LeafIndex(index), (*identity, leaf_secret), || *leaf);
    }
}

fn write_row(
    batch: &mut WriteBatch,
    family: &impl rocksdb::AsColumnFamilyRef,
    log: LogNumber,
    index: LeafIndex,
    (identity, leaf_secret): (Option<IdentityHash>, Option<&[u8; 32]>),
    leaf: impl FnOnce() -> Hash,
) {
    if let Some(identity) = identity {
        batch.merge_cf(family, keys::identity(log, &identity_prefix(identity)), keys::index_bytes(index.0));
    }
    if let Some(secret) = leaf_secret {
        batch.put_cf(family, keys::leaf(log, leaf_prefix(secret, &leaf()), index), []);
    }
}

impl RocksStore {
    /// Drops the rows of a log, and writes them from what is stored beside its entries.
    pub(crate) fn rebuild_log(&self, log: LogNumber) -> Result<(), ReadError> {
        let family = self.family(options::INDEX);
        let leaf_secret = self.settings(log)?.leaf_index.then_some(&self.leaf_secret);
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(family, keys::log(log), keys::log(LogNumber(log.0 + 1)));
        let mut first = LeafIndex(0);
        loop {
            self.db.write(std::mem::take(&mut batch)).map_err(unavailable)?;
            let entries = self.entries(log, first, LeafIndex(first.0 + REBUILD_ENTRIES), REBUILD_BYTES)?;
            if entries.is_empty() {
                return self.db.flush_wal(true).map_err(unavailable);
            }
            for (index, entry) in (first.0..).map(LeafIndex).zip(&entries) {
                write_row(&mut batch, family, log, index, (entry.identity, leaf_secret), || Hash::leaf(&entry.bytes));
            }
            first = LeafIndex(first.0 + entries.len() as u64);
        }
    }
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
pub(crate) fn indices(value: &[u8]) -> impl Iterator<Item = u64> {
    value.chunks_exact(keys::INDEX_BYTES).filter_map(keys::index_from)
}

/// Reads a row back, for fsck. `None` if it has no form that this program writes.
pub(crate) fn rows(key: &[u8], value: &[u8], visit: &mut dyn FnMut(IndexRow)) -> Option<()> {
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
