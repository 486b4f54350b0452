//! Tiles: the tree cut into pieces of 256 hashes that can be fetched and cached.
//!
//! ```text
//!             tile level 1:   [ 0 | 1 | 2 ...  ]      hash i of it is the root of
//!                               |   |                 tile i one level below
//!                   .-----------'   '------.
//!        sub-level 7      .                .
//!                       /   \            /   \        not stored, but kept in memory
//!                      .     .          .     .       beside a cached tile, so that a
//!        sub-level 0  [0 .. 255]       [0 .. 255]     proof is look-ups, no hashing
//!             tile level 0:  tile 0       tile 1
//! ```
//!
//! Source: C2SP `tlog-tiles`.

mod nodes;
mod path;

pub use nodes::{TileError, TileNodes};
pub use path::{TilePath, TilePathError};

use crate::{NodeId, TreeSize};

/// Tree levels in a tile.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes in a full tile: `1 << TILE_HEIGHT`.
pub const TILE_WIDTH: u64 = 256;

/// A tile: 256 neighbouring nodes, `TILE_HEIGHT * level` above the leaves.
///
/// Hash i is the root of the leaves `[(256 index + i) * 256^level, (256 index + i + 1) * 256^level)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// Tile level, from 0. A tree of 64-bit size has tiles up to level 7.
    pub level: u8,
    /// Position among the tiles of its level, counted from 0.
    pub index: u64,
}

impl TileId {
    /// The tile that holds `node`, the sub-level (0..8) of the node in it, and its offset there.
    ///
    /// On sub-level 0 are the stored hashes; above, the interior that [`TileNodes`] keeps.
    #[must_use]
    pub fn of_node(node: NodeId) -> (Self, u8, usize) {
        let sub_level = node.level % TILE_HEIGHT;
        let bits = TILE_HEIGHT - sub_level;
        let tile = Self { level: node.level / TILE_HEIGHT, index: node.index >> bits };
        let offset = node.index & ((1 << bits) - 1);
        (tile, sub_level, usize::try_from(offset).expect("an offset is below 256"))
    }

    /// Hashes of this tile that exist in a tree of `size` leaves: 0 (no tile) to 256 (full).
    #[must_use]
    pub fn partial_width(self, size: TreeSize) -> u16 {
        let before = self.index.checked_mul(TILE_WIDTH);
        let width = before.map_or(0, |before| hashes_on(self.level, size).saturating_sub(before));
        u16::try_from(width.min(TILE_WIDTH)).expect("256 fits")
    }

    /// Every tile of a tree of `size` leaves with its width, 1..=256: level by level from 0,
    /// left to right. Only the last of a level can be partial.
    pub fn for_size(size: TreeSize) -> impl Iterator<Item = (Self, u16)> {
        (0..8).flat_map(move |level| {
            let tiles = hashes_on(level, size).div_ceil(TILE_WIDTH);
            let ids = (0..tiles).map(move |index| Self { level, index });
            ids.map(move |id| (id, id.partial_width(size)))
        })
    }
}

/// Hashes on a tile level in a tree of `size` leaves.
fn hashes_on(level: u8, size: TreeSize) -> u64 {
    size.0.checked_shr(u32::from(TILE_HEIGHT) * u32::from(level)).unwrap_or(0)
}
