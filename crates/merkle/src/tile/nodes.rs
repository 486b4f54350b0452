//! The hashes of one tile with the interior nodes above them.
//!
//! ```text
//! width 5    interior, in the order in which pushes complete it:
//!
//!         2              push 1 -> 0    push 3 -> 1, 2    push 5 -> nothing yet
//!       /   \
//!      0     1           After w hashes there are w - popcount(w) of them, so the
//!     / \   / \          place of each follows from its level and offset.
//!    h0 h1 h2 h3  h4
//! ```

use thiserror::Error;

use super::{TILE_HEIGHT, TILE_WIDTH};
use crate::Hash;

/// Hashes in a full tile, as a length.
const WIDTH_MAX: usize = 1 << TILE_HEIGHT;
const _: () = assert!(WIDTH_MAX as u64 == TILE_WIDTH);

/// All complete nodes of a full or partial tile: its hashes and the interior above.
///
/// A full one takes 16 KiB, half of it for hashes that need not be computed again.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TileNodes {
    hashes: Vec<Hash>,
    /// Nodes of sub-level 1 and above in order of completion: children before parents.
    interior: Vec<Hash>,
}

impl TileNodes {
    /// A tile without hashes. Does not allocate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Computes the interior above `hashes`, of which there are at most 256.
    ///
    /// # Errors
    ///
    /// [`TileError::TooWide`] if there are more.
    pub fn from_hashes(hashes: &[Hash]) -> Result<Self, TileError> {
        if hashes.len() > WIDTH_MAX {
            return Err(TileError::TooWide { actual: hashes.len() });
        }
        let mut nodes = Self { hashes: Vec::with_capacity(hashes.len()), interior: Vec::with_capacity(hashes.len()) };
        hashes.iter().try_for_each(|&hash| nodes.push(hash))?;
        Ok(nodes)
    }

    /// Reads a tile in `tlog-tiles` form: 32 bytes a hash, at most 8,192 bytes.
    ///
    /// # Errors
    ///
    /// * [`TileError::NotWholeHashes`] if the length is no multiple of 32.
    /// * [`TileError::TooWide`] if there are more than 256 hashes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TileError> {
        let (hashes, []) = bytes.as_chunks() else {
            return Err(TileError::NotWholeHashes { actual: bytes.len() });
        };
        if hashes.len() > WIDTH_MAX {
            return Err(TileError::TooWide { actual: hashes.len() });
        }
        let hashes: Vec<_> = hashes.iter().copied().map(Hash::from_bytes).collect();
        Self::from_hashes(&hashes)
    }

    /// Hashes in the tile: 0..=256.
    #[must_use]
    pub fn width(&self) -> u16 {
        u16::try_from(self.hashes.len()).expect("a tile has at most 256 hashes")
    }

    /// The hashes of the tile, sub-level 0.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The node at `offset` of `sub_level`, or `None` while it is not complete.
    ///
    /// Sub-level 0 are the hashes, 1..8 the interior, and 8 the root of a full tile.
    #[must_use]
    pub fn get(&self, sub_level: u8, offset: usize) -> Option<Hash> {
        let Some(above) = sub_level.checked_sub(1) else {
            return self.hashes.get(offset).copied();
        };
        if sub_level > TILE_HEIGHT || offset >= self.hashes.len() >> sub_level {
            return None;
        }
        // The node is completed by its last hash, after all nodes of the hashes before
        // that one, and after the nodes below it on the same right edge.
        let last = ((offset + 1) << sub_level) - 1;
        let completed = last - last.count_ones() as usize;
        Some(self.interior[completed + usize::from(above)])
    }

    /// Appends one hash and the interior nodes that it completes.
    ///
    /// # Errors
    ///
    /// [`TileError::Full`] if there are 256 hashes; the tile is unchanged.
    pub fn push(&mut self, hash: Hash) -> Result<(), TileError> {
        let index = self.hashes.len();
        if index == WIDTH_MAX {
            return Err(TileError::Full);
        }
        let mut node = hash;
        for sub_level in (0..TILE_HEIGHT).take_while(|level| index >> level & 1 == 1) {
            let left = self.get(sub_level, (index >> sub_level) - 1);
            node = Hash::node(&left.expect("a left sibling is complete"), &node);
            self.interior.push(node);
        }
        self.hashes.push(hash);
        Ok(())
    }

    /// The root of a full tile: the hash that it contributes to the level above.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        self.get(TILE_HEIGHT, 0)
    }

    /// The tile in `tlog-tiles` form: 32 bytes a hash, no interior.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(Hash::as_bytes).copied().collect()
    }
}

/// Why hashes or bytes are not a tile.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TileError {
    /// The tile holds all the hashes that it can.
    #[error("the tile has all of its {TILE_WIDTH} hashes: begin the next tile")]
    Full,
    /// More hashes than a tile holds.
    #[error("a tile has at most {TILE_WIDTH} hashes, got {actual}: split them into tiles")]
    TooWide {
        /// Hashes supplied.
        actual: usize,
    },
    /// The bytes do not divide into hashes.
    #[error("a tile is a sequence of 32-byte hashes, got {actual} bytes: read it again")]
    NotWholeHashes {
        /// Bytes supplied.
        actual: usize,
    },
}
