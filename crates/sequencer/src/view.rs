//! What readers see of a log: a head, and the hashes of its right edge.

use std::sync::Arc;

use logwood_merkle::{CompactRange, Hash, NodeId, TILE_HEIGHT, TILE_WIDTH, TileId, TileNodes, TreeHead, TreeSize};

/// A log at one size. Immutable; a round makes a new one and shares what did not change.
#[derive(Clone, Debug)]
pub struct LogView {
    head: TreeHead,
    /// The tiles that are not full yet, lowest level first.
    edge: Vec<Arc<TileNodes>>,
}

/// Where the hash of a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePlace {
    /// In the right edge: this is it.
    Edge(Hash),
    /// In a completed tile, at this sub-level and offset.
    Tile(TileId, u8, usize),
}

impl LogView {
    pub(crate) fn new(size: TreeSize, edge: Vec<Arc<TileNodes>>) -> Self {
        let root = edge_root(size, &edge);
        Self { head: TreeHead { size, root }, edge }
    }

    /// The head that this view is of.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        self.head
    }

    /// Where to find `node`.
    ///
    /// # Panics
    ///
    /// If `node` is not a perfect subtree inside the tree: plans name no other.
    #[must_use]
    pub fn place(&self, node: NodeId) -> NodePlace {
        let (tile, sub_level, offset) = TileId::of_node(node);
        if tile.index < self.full_tiles(tile.level) {
            return NodePlace::Tile(tile, sub_level, offset);
        }
        let hash = self.edge.get(usize::from(tile.level)).and_then(|tile| tile.get(sub_level, offset));
        NodePlace::Edge(hash.expect("a node inside the tree is in a full tile or in the edge"))
    }

    /// A tile of the right edge, which is not full. `None` for every other tile.
    #[must_use]
    pub fn edge_tile(&self, tile: TileId) -> Option<&TileNodes> {
        let is_edge = tile.index == self.full_tiles(tile.level);
        self.edge.get(usize::from(tile.level)).filter(|_| is_edge).map(|tile| &**tile)
    }

    /// How many tiles of a level are complete.
    fn full_tiles(&self, level: u8) -> u64 {
        let shift = u32::from(TILE_HEIGHT) * (u32::from(level) + 1);
        self.head.size.0.checked_shr(shift).unwrap_or(0)
    }
}

/// Every perfect subtree on the right edge of a tree lies in a tile that is not full: the root folds them.
fn edge_root(size: TreeSize, edge: &[Arc<TileNodes>]) -> Hash {
    let nodes = CompactRange::node_ids(size);
    let hashes = nodes.iter().map(|&node| {
        let (tile, sub_level, offset) = TileId::of_node(node);
        edge[usize::from(tile.level)].get(sub_level, offset).expect("the edge holds every node of the compact range")
    });
    let range = CompactRange::from_hashes(size, hashes.collect()).expect("as many hashes as bits are set in the size");
    range.root()
}

/// Grows `edge`, which belongs to a tree of `size`, by one leaf. Tiles that this completes go to `completed`.
pub(crate) fn grow(
    edge: &mut Vec<Arc<TileNodes>>,
    size: TreeSize,
    leaf: Hash,
    completed: &mut Vec<(TileId, Arc<TileNodes>)>,
) {
    let mut hash = leaf;
    for level in 0.. {
        if edge.len() == usize::from(level) {
            edge.push(Arc::new(TileNodes::new()));
        }
        let slot = &mut edge[usize::from(level)];
        let tile = Arc::make_mut(slot);
        tile.push(hash).expect("a full tile leaves the edge at once");
        let Some(root) = tile.root() else { return };

        let full = std::mem::replace(slot, Arc::new(TileNodes::new()));
        let shift = u32::from(TILE_HEIGHT) * (u32::from(level) + 1);
        debug_assert_eq!((size.0 + 1) % TILE_WIDTH, 0, "tiles fill at multiples of their width");
        completed.push((TileId { level, index: ((size.0 + 1) >> shift) - 1 }, full));
        hash = root;
    }
}

#[cfg(test)]
mod tests;
