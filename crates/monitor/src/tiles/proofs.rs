//! Proofs that nobody serves: put together from tiles.
//!
//! Whoever gets a proof verifies it against a signed root, so the tiles themselves are not judged here.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use logwood_merkle::{CompactRange, Hash, LeafIndex, NodeId, TileId, TileNodes, TreeSize, plan};
use parking_lot::Mutex;

use super::Source;
use crate::failure::Failure;

/// Tiles that are fetched at a time.
const PARALLEL: usize = 8;

/// The tiles of the last proof: the next one along the same tree needs most of them again. At most 2 MiB, since a proof
/// has at most 128 nodes.
#[derive(Debug, Default)]
pub(super) struct RecentTiles(Mutex<HashMap<(TileId, u16), TileNodes>>);

impl Source {
    /// The consistency proof (RFC 6962 §2.1.2) from `old` to `new`, not verified. Empty for the empty tree.
    ///
    /// * `new` - the size of a signed tree, at least `old`.
    ///
    /// # Errors
    ///
    /// [`Failure`] if a tile cannot be had.
    pub async fn consistency(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, Failure> {
        let Ok(plan) = plan::consistency(old, new) else { return Ok(Vec::new()) };
        let nodes = self.nodes(plan.nodes(), new).await?;
        Ok(plan.assemble(&nodes).expect("one hash for each node"))
    }

    /// The inclusion proof (RFC 6962 §2.1.1) of the leaf at `index`, not verified. Empty if the tree has no such leaf.
    ///
    /// * `size` - of a signed tree.
    ///
    /// # Errors
    ///
    /// [`Failure`] if a tile cannot be had.
    pub async fn inclusion(&self, index: LeafIndex, size: TreeSize) -> Result<Vec<Hash>, Failure> {
        let Ok(plan) = plan::inclusion(index, size) else { return Ok(Vec::new()) };
        let nodes = self.nodes(plan.nodes(), size).await?;
        Ok(plan.assemble(&nodes).expect("one hash for each node"))
    }

    /// The compact range of the first `size` leaves in the tree of `new` leaves, not verified.
    ///
    /// # Errors
    ///
    /// [`Failure`] if a tile cannot be had.
    pub async fn range(&self, size: TreeSize, new: TreeSize) -> Result<CompactRange, Failure> {
        let nodes = self.nodes(&CompactRange::node_ids(size), new).await?;
        Ok(CompactRange::from_hashes(size, nodes).expect("one hash for each node"))
    }

    /// Forgets the tiles of the last proof, since that did not verify.
    pub fn forget_tiles(&self) {
        self.recent.0.lock().clear();
    }

    /// The hashes of `ids`, which are complete nodes of the tree of `size` leaves.
    async fn nodes(&self, ids: &[NodeId], size: TreeSize) -> Result<Vec<Hash>, Failure> {
        let recent = std::mem::take(&mut *self.recent.0.lock());
        let mut tiles = HashMap::new();
        let mut missing = Vec::new();
        for &id in ids {
            let (tile, ..) = TileId::of_node(id);
            let key = (tile, tile.partial_width(size));
            if let Some(nodes) = recent.get(&key) {
                tiles.insert(key, nodes.clone());
            } else if !missing.contains(&key) {
                missing.push(key);
            }
        }
        let requests = missing.into_iter().map(|(tile, width)| async move {
            let nodes = self.tile(tile, width).await?;
            Ok::<_, Failure>(((tile, width), nodes))
        });
        let fetched: Vec<_> = stream::iter(requests).buffer_unordered(PARALLEL).try_collect().await?;
        tiles.extend(fetched);
        let hash = |&id: &NodeId| {
            let (tile, sub_level, offset) = TileId::of_node(id);
            let nodes = &tiles[&(tile, tile.partial_width(size))];
            nodes.get(sub_level, offset).expect("the tile is as wide as the tree has it, and the node complete")
        };
        let hashes = ids.iter().map(hash).collect();
        *self.recent.0.lock() = tiles;
        Ok(hashes)
    }
}
