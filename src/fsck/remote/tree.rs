//! The tiles of a tree, as far as its signed root vouches for them. No I/O: it says which tile it needs next, is given
//! that tile, and refuses one that does not follow from the root.
//!
//! ```text
//!   signed root      = what the right edge folds to: the tiles that are not full, one a level
//!                      (70,000 leaves: 16 + 1 hashes of levels 1 and 2, 112 of level 0)
//!   hash i of tile (l + 1, n) = root of the full tile (l, 256 n + i)
//!   hash i of tile (0, n)     = leaf hash of entry 256 n + i
//! ```
//!
//! From the root down each step has one parent that is known to be right, so the first thing that differs has a name.
//!
//! Source: C2SP tlog-tiles, "Merkle Tree".

use logwood_merkle::{CompactRange, Hash, NodeId, TILE_WIDTH, TileId, TileNodes, TreeHead, TreeSize};

/// Levels of tiles in a tree of less than 2^64 leaves.
pub(super) const LEVELS: u8 = 8;

/// The tiles of the right edge of a tree of `size`, with their widths: 1..=255, lowest level first.
pub(super) fn edge_tiles(size: TreeSize) -> impl Iterator<Item = (TileId, u16)> {
    (0..LEVELS).filter_map(move |level| {
        let hashes = size.0 >> (8 * u32::from(level));
        let width = u16::try_from(hashes % TILE_WIDTH).expect("below 256");
        (width > 0).then_some((TileId { level, index: hashes / TILE_WIDTH }, width))
    })
}

/// The tile above `id`, and which of its hashes is the root of `id`.
fn parent(id: TileId) -> (TileId, usize) {
    let above = TileId { level: id.level + 1, index: id.index / TILE_WIDTH };
    (above, usize::try_from(id.index % TILE_WIDTH).expect("below 256"))
}

/// What a tile should be the root of, and is not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotItsRoot;

/// A tree of which the right edge, and one more tile a level, are known.
#[derive(Debug)]
pub(super) struct Tree {
    size: TreeSize,
    edge: [Option<(u64, TileNodes)>; LEVELS as usize],
    recent: [Option<(u64, TileNodes)>; LEVELS as usize],
}

impl Tree {
    /// The tree with the signed `head`, whose right edge is `tiles` in the order of [`edge_tiles`], and as wide.
    ///
    /// # Errors
    ///
    /// [`NotItsRoot`] if the edge does not fold to the root of `head`.
    pub(super) fn new(head: TreeHead, tiles: Vec<TileNodes>) -> Result<Self, NotItsRoot> {
        let mut tree = Self { size: head.size, edge: Default::default(), recent: Default::default() };
        for ((id, _), tile) in edge_tiles(head.size).zip(tiles) {
            tree.edge[usize::from(id.level)] = Some((id.index, tile));
        }
        let nodes = CompactRange::node_ids(head.size).into_iter().map(|node| tree.node(node));
        let nodes: Vec<_> = nodes.collect::<Option<_>>().ok_or(NotItsRoot)?;
        let range = CompactRange::from_hashes(head.size, nodes).map_err(|_| NotItsRoot)?;
        if range.root() == head.root { Ok(tree) } else { Err(NotItsRoot) }
    }

    /// The tile that has to be supplied next on the way down to `id`; `None` once `id` itself is known.
    ///
    /// * `id` - a tile of the tree.
    pub(super) fn missing(&self, id: TileId) -> Option<TileId> {
        let mut missing = None;
        for level in id.level..LEVELS {
            let above = TileId { level, index: id.index >> (8 * u32::from(level - id.level)) };
            if self.tile(above).is_some() {
                break;
            }
            missing = Some(above);
        }
        missing
    }

    /// Takes the full tile `id`, which [`Tree::missing`] named.
    ///
    /// # Errors
    ///
    /// [`NotItsRoot`] if the tile above says otherwise.
    pub(super) fn supply(&mut self, id: TileId, tile: TileNodes) -> Result<(), NotItsRoot> {
        if tile.root().is_none() || tile.root() != self.root_of(id) {
            return Err(NotItsRoot);
        }
        self.recent[usize::from(id.level)] = Some((id.index, tile));
        Ok(())
    }

    /// The root that the full tile `id` must have; `None` while the tile above is not known.
    pub(super) fn root_of(&self, id: TileId) -> Option<Hash> {
        let (above, offset) = parent(id);
        self.tile(above)?.hashes().get(offset).copied()
    }

    /// The tile `id`, if it is known.
    pub(super) fn tile(&self, id: TileId) -> Option<&TileNodes> {
        let level = usize::from(id.level);
        let known = [self.edge.get(level)?, self.recent.get(level)?];
        known.into_iter().flatten().find(|(index, _)| *index == id.index).map(|(_, tile)| tile)
    }

    /// The hash of `node`, if the tile that holds it is known.
    pub(super) fn node(&self, node: NodeId) -> Option<Hash> {
        let (tile, sub_level, offset) = TileId::of_node(node);
        self.tile(tile)?.get(sub_level, offset)
    }

    /// The last entries, which do not fill a bundle: the tile that covers them.
    pub(super) fn tail(&self) -> Option<(TileId, &TileNodes)> {
        let id = TileId { level: 0, index: self.size.0 / TILE_WIDTH };
        self.tile(id).filter(|tile| u64::from(tile.width()) == self.size.0 % TILE_WIDTH).map(|tile| (id, tile))
    }
}

#[cfg(test)]
mod tests;
