//! The look-up index, derived from entries and sidecars: keys that ride with the round.
//!
//! Everything that knows how rows are written and found is here, so that sorted ingest can replace it.

use logwood_merkle::{Hash, LeafIndex};
use logwood_store::{Extension, IdentityHash, IndexRow, LogNumber};
use rocksdb::WriteBatch;
use sha2::{Digest as _, Sha256};

use crate::keys;

/// The first 12 bytes of an identity hash: the key of its row.
pub(crate) fn identity_prefix(identity: IdentityHash) -> [u8; 12] {
    identity.0[..12].try_into().expect("12 of 16 bytes")
}

/// 8 bytes of a leaf hash under the store's secret, so that nobody can construct entries that share a row.
pub(crate) fn leaf_prefix(secret: &[u8; 32], leaf: &Hash) -> [u8; 8] {
    let hash = Sha256::new().chain_update(secret).chain_update(leaf.as_bytes()).finalize();
    hash[..8].try_into().expect("8 of 32 bytes")
}

/// Adds the rows of new entries to a round. Identities whose first 12 bytes are equal would share a row: 96 bits of a
/// keyed hash, out of reach by chance, and nobody can construct one.
pub(crate) fn write(
    batch: &mut WriteBatch,
    family: &impl rocksdb::AsColumnFamilyRef,
    log: LogNumber,
    (extension, leaf_secret): (&Extension, Option<&[u8; 32]>),
) {
    for (index, (leaf, identity)) in
        (extension.first.0..).zip(extension.leaves.iter().zip(&extension.identities))
    {
        let index = LeafIndex(index);
        if let Some(identity) = identity {
            batch.put_cf(family, keys::identity(log, &identity_prefix(*identity)), keys::index_bytes(index.0));
        }
        if let Some(secret) = leaf_secret {
            batch.put_cf(family, keys::leaf(log, &leaf_prefix(secret, leaf), index), []);
        }
    }
}

/// Reads a row back, for fsck. `None` if it has no form that this program writes.
pub(crate) fn row(key: &[u8], value: &[u8]) -> Option<IndexRow> {
    match (*key.get(4)?, key.get(5..)?) {
        (keys::KIND_IDENTITY, prefix) => {
            let index = LeafIndex(keys::index_from(value)?);
            Some(IndexRow::Identity { prefix: prefix.try_into().ok()?, index })
        }
        (keys::KIND_LEAF, rest) => {
            let (prefix, index) = rest.split_first_chunk::<8>()?;
            Some(IndexRow::Leaf { prefix: *prefix, index: LeafIndex(keys::index_from(index)?) })
        }
        _ => None,
    }
}
