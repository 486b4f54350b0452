//! The tree as the entries say that it is, bundle after bundle: tiles above the first level, and the root at each head.

use logwood_merkle::{CompactRange, Hash, TileId, TileNodes, TreeHead, TreeSize};
use logwood_store::BUNDLE_ENTRIES;

use super::bundles::{Bundles, Derived};
use super::{Expected, compare_tile, differs, read};

pub(super) struct Walk<'a> {
    bundles: &'a Bundles<'a>,
    /// The tree whose leaves are the roots of full bundles.
    upper: CompactRange,
    /// The tiles of level 1 and above that are not full yet.
    edge: Vec<TileNodes>,
    /// Full tiles of all levels.
    tiles: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(bundles: &'a Bundles<'a>) -> Self {
        Self { bundles, upper: CompactRange::new(), edge: Vec::new(), tiles: 0 }
    }

    /// Goes on to the end of a bundle. Takes the heads before it out of `expected`.
    pub(super) fn bundle(&mut self, derived: &Derived, expected: &mut Vec<Expected>) -> anyhow::Result<()> {
        let end = derived.first + BUNDLE_ENTRIES;
        let before = expected.partition_point(|(head, _)| head.size.0 < end);
        let mut lower = CompactRange::new();
        let mut leaves = derived.leaves.iter();
        for (head, what) in expected.drain(..before) {
            while derived.first + lower.size().0 < head.size.0
                && let Some(leaf) = leaves.next()
            {
                lower.append(*leaf, |_, _| ());
            }
            self.check(&lower, head, what)?;
        }
        if let Some(root) = derived.root {
            self.upper.append(root, |_, _| ());
            self.tiles += 1;
            self.push(root)?;
        }
        Ok(())
    }

    /// Checks what is expected at the end of the log, or behind it. Answers how many tiles there are.
    pub(super) fn finish(self, expected: &[Expected]) -> anyhow::Result<u64> {
        for (head, what) in expected {
            self.check(&CompactRange::new(), *head, what)?;
        }
        Ok(self.tiles)
    }

    /// Adds the root of a full tile to the level above.
    fn push(&mut self, root: Hash) -> anyhow::Result<()> {
        let mut hash = root;
        for level in 1..8u8 {
            let place = usize::from(level) - 1;
            if self.edge.len() == place {
                self.edge.push(TileNodes::new());
            }
            let tile = &mut self.edge[place];
            tile.push(hash)?;
            let Some(root) = tile.root() else { break };
            let bytes = std::mem::take(tile).to_bytes();
            let index = (self.upper.size().0 >> (8 * u32::from(level))) - 1;
            let (store, record) = (self.bundles.store, self.bundles.record);
            let stored = store.tiles(record.number, &[TileId { level, index }]).map_err(read)?.pop().flatten();
            compare_tile((level, index), stored.as_deref(), &bytes)?;
            self.tiles += 1;
            hash = root;
        }
        Ok(())
    }

    /// Compares a head with the tree of the full bundles so far and the leaves of `lower`.
    fn check(&self, lower: &CompactRange, head: TreeHead, what: &str) -> anyhow::Result<()> {
        let size = TreeSize(self.upper.size().0 * BUNDLE_ENTRIES + lower.size().0);
        let subtrees = [self.upper.hashes(), lower.hashes()].concat();
        let derived = CompactRange::from_hashes(size, subtrees)?.head();
        if head == derived {
            return Ok(());
        }
        let entries = self.bundles.record.head.head.size;
        if head.size != derived.size {
            let larger = head.size;
            return Err(differs(format!("it has {entries} entries, but {what} has {larger}: entries are gone")));
        }
        Err(differs(format!(
            "the entries give root {} at size {size}, but {what} of that size says {}: \
             the history was rewritten below entry {size}",
            derived.root, head.root
        )))
    }
}
