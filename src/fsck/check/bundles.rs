//! Bundles of entries, read and hashed in parallel: each is judged by itself as far as that goes.

use std::ops::Range;

use logwood_merkle::{Hash, LeafIndex, TileId, TileNodes};
use logwood_store::{BUNDLE_ENTRIES, Entry, IdentityHash, LogRecord, LogStore};
use rayon::prelude::*;

use super::rows::Tally;
use super::{Expected, compare_tile, differs, read};

/// Most bytes that one read of entries returns; each thread holds one such page.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A log's entries, and what sums of its rows are made with.
pub(super) struct Bundles<'a> {
    pub(super) store: &'a dyn LogStore,
    pub(super) record: &'a LogRecord,
    pub(super) leaf_secret: [u8; 32],
    pub(super) sum_key: [u8; 32],
}

/// What the entries of one bundle say.
pub(super) struct Derived {
    pub(super) first: u64,
    /// The root of its tile, if it is full.
    pub(super) root: Option<Hash>,
    /// Its leaf hashes, if a head lies inside the bundle.
    pub(super) leaves: Vec<Hash>,
    /// The rows that the index should have.
    pub(super) rows: Tally,
}

pub(super) type Leaf = (Hash, Option<IdentityHash>);

impl<'a> Bundles<'a> {
    pub(super) fn new(store: &'a dyn LogStore, record: &'a LogRecord) -> anyhow::Result<Self> {
        let leaf_secret = store.state().map_err(read)?.leaf_secret;
        let mut sum_key = [0; 32];
        getrandom::fill(&mut sum_key).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        Ok(Self { store, record, leaf_secret, sum_key })
    }

    /// Derives the bundles of `range`, which begins with one. Fails with the first that differs from what is stored.
    ///
    /// * `heads` - in order of size: their bundles keep their leaf hashes.
    pub(super) fn derive(&self, range: Range<u64>, heads: &[Expected]) -> anyhow::Result<Vec<Derived>> {
        let firsts: Vec<_> = range.clone().step_by(256).collect();
        let derived: Vec<_> = firsts
            .into_par_iter()
            .map(|first| {
                let end = range.end.min(first + BUNDLE_ENTRIES);
                let inside = |size: u64| size > first && size < first + BUNDLE_ENTRIES;
                let begin = heads.partition_point(|(head, _)| head.size.0 <= first);
                let has_head = heads.get(begin).is_some_and(|(head, _)| inside(head.size.0));
                self.derive_one(first..end, has_head)
            })
            .collect();
        derived.into_iter().collect()
    }

    fn derive_one(&self, range: Range<u64>, keep_leaves: bool) -> anyhow::Result<Derived> {
        let leaves = self.leaves(range.clone())?;
        let rows = Tally::of_entries(self, range.start, &leaves);
        let leaves: Vec<_> = leaves.into_iter().map(|(leaf, _)| leaf).collect();
        let mut root = None;
        if leaves.len() as u64 == BUNDLE_ENTRIES {
            let tile = TileNodes::from_hashes(&leaves)?;
            let id = TileId { level: 0, index: range.start / BUNDLE_ENTRIES };
            let stored = self.store.tiles(self.record.number, &[id]).map_err(read)?.pop().flatten();
            compare_tile((0, id.index), stored.as_deref(), &tile.to_bytes())?;
            root = tile.root();
        }
        Ok(Derived { first: range.start, root, leaves: if keep_leaves { leaves } else { Vec::new() }, rows })
    }

    /// Leaf hashes and identities of a range of entries.
    pub(super) fn leaves(&self, range: Range<u64>) -> anyhow::Result<Vec<Leaf>> {
        let mut leaves = Vec::new();
        let mut next = range.start;
        while next < range.end {
            let (first, end) = (LeafIndex(next), LeafIndex(range.end));
            let entries = self.store.entries(self.record.number, first, end, READ_BYTES_MAX).map_err(read)?;
            if entries.is_empty() {
                return Err(differs(format!("entry {next} is missing")));
            }
            next += entries.len() as u64;
            leaves.extend(entries.iter().map(|Entry { bytes, identity }| (Hash::leaf(bytes), *identity)));
        }
        Ok(leaves)
    }
}
