//! Tiles: the tree cut into pieces of 256 hashes that can be fetched and cached.

use thiserror::Error;

use crate::{Hash, NodeId, TreeSize};

/// Tree levels in a tile.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes in a full tile.
pub const TILE_WIDTH: u64 = 256;

/// A tile: `index` counts the tiles of `level`, whose hashes lie `8 * level` above the leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// Tile level, from 0; a tree of 64-bit size has tiles up to level 7.
    pub level: u8,
    /// Position among the tiles of its level.
    pub index: u64,
}

impl TileId {
    /// The tile that holds `node`, the node's level inside it (0..8) and its offset there.
    #[must_use]
    pub fn of_node(node: NodeId) -> (Self, u8, usize) {
        let _ = node;
        todo!()
    }

    /// Hashes of this tile that exist in a tree of `size` leaves: 0..=256.
    #[must_use]
    pub fn partial_width(self, size: TreeSize) -> u16 {
        let _ = size;
        todo!()
    }

    /// Every tile, with its width, of a tree of `size` leaves: level by level, left to right.
    pub fn for_size(size: TreeSize) -> impl Iterator<Item = (Self, u16)> {
        let _ = size;
        std::iter::empty()
    }
}

/// The path of a tile or entry bundle (C2SP `tlog-tiles`). Width 256 is a full one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TilePath {
    /// `tile/<L>/<N>[.p/<W>]`
    Hashes {
        /// The tile.
        tile: TileId,
        /// Hashes in it: 1..=256.
        width: u16,
    },
    /// `tile/entries/<N>[.p/<W>]`
    Entries {
        /// Position of the bundle.
        index: u64,
        /// Entries in it: 1..=256.
        width: u16,
    },
}

impl std::fmt::Display for TilePath {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

impl std::str::FromStr for TilePath {
    type Err = TilePathError;

    fn from_str(path: &str) -> Result<Self, TilePathError> {
        let _ = path;
        todo!()
    }
}

/// Not the canonical path of a tile.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not the canonical path of a tile or entry bundle")]
pub struct TilePathError;

/// All nodes of a full or partial tile, interior ones included.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TileNodes {}

/// Why bytes or hashes are not a tile.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TileError {
    /// A tile holds at most 256 hashes.
    #[error("a tile holds {TILE_WIDTH} hashes: begin the next one")]
    Full,
    /// The bytes are not whole hashes.
    #[error("a tile is a sequence of 32-byte hashes, got {actual} bytes: read it again")]
    WrongLength {
        /// Bytes supplied.
        actual: usize,
    },
}

impl TileNodes {
    /// A tile without hashes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Computes the interior above at most 256 hashes.
    ///
    /// # Errors
    ///
    /// [`TileError::Full`] if there are more.
    pub fn from_hashes(hashes: &[Hash]) -> Result<Self, TileError> {
        let _ = hashes;
        todo!()
    }

    /// Reads the `tlog-tiles` form: the hashes, one after the other.
    ///
    /// # Errors
    ///
    /// [`TileError::WrongLength`], [`TileError::Full`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TileError> {
        let _ = bytes;
        todo!()
    }

    /// Hashes at the bottom: 0..=256.
    #[must_use]
    pub fn width(&self) -> u16 {
        todo!()
    }

    /// The node at `sub_level` (0..8; 8 is the root of a full tile) and `offset`, if complete.
    #[must_use]
    pub fn get(&self, sub_level: u8, offset: usize) -> Option<Hash> {
        let _ = (sub_level, offset);
        todo!()
    }

    /// Appends one hash at the bottom and the interior nodes that it completes.
    ///
    /// # Errors
    ///
    /// [`TileError::Full`] if there are 256 already.
    pub fn push(&mut self, hash: Hash) -> Result<(), TileError> {
        let _ = hash;
        todo!()
    }

    /// The hashes at the bottom.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        todo!()
    }

    /// The root of a full tile: the hash that it contributes one level up.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        todo!()
    }

    /// The `tlog-tiles` form: the hashes at the bottom, one after the other.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        todo!()
    }
}
