//! Tiles: the tree cut into pieces of 256 hashes that can be fetched and cached.
//!
//! ```text
//! tile level 1            [ 0 | 1 | 2 | ...        entry i is the root of tile 0/i
//!                           |   |
//! tile level 0   [256 hashes] [256 hashes] [17]    the last one is partial
//! ```
//!
//! Source: C2SP `tlog-tiles`.

use std::fmt::Write as _;

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
        let (level, sub_level) = (node.level / TILE_HEIGHT, node.level % TILE_HEIGHT);
        let per_tile = TILE_HEIGHT - sub_level;
        let offset = node.index & ((1 << per_tile) - 1);
        let offset = usize::try_from(offset).expect("below 256");
        (Self { level, index: node.index >> per_tile }, sub_level, offset)
    }

    /// Hashes of this tile that exist in a tree of `size` leaves: 0..=256.
    #[must_use]
    pub fn partial_width(self, size: TreeSize) -> u16 {
        let hashes = hashes_at(self.level, size);
        let before = u128::from(self.index) * u128::from(TILE_WIDTH);
        let width = u128::from(hashes).saturating_sub(before).min(TILE_WIDTH.into());
        u16::try_from(width).expect("at most 256")
    }

    /// Every tile, with its width, of a tree of `size` leaves: level by level, left to right.
    pub fn for_size(size: TreeSize) -> impl Iterator<Item = (Self, u16)> {
        let tiles = move |level: u8| (0..hashes_at(level, size).div_ceil(TILE_WIDTH)).map(move |index| Self { level, index });
        (0..8).flat_map(tiles).map(move |tile| (tile, tile.partial_width(size)))
    }
}

/// How many hashes lie at a tile level of a tree.
fn hashes_at(level: u8, size: TreeSize) -> u64 {
    size.0.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0)
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
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (index, width) = match self {
            Self::Hashes { tile, width } => {
                write!(f, "tile/{}/", tile.level)?;
                (tile.index, width)
            }
            Self::Entries { index, width } => {
                f.write_str("tile/entries/")?;
                (*index, width)
            }
        };
        f.write_str(&grouped(index))?;
        if u64::from(*width) == TILE_WIDTH { Ok(()) } else { write!(f, ".p/{width}") }
    }
}

/// Groups of three digits, all but the last with an `x` before them.
fn grouped(index: u64) -> String {
    let digits = index.to_string();
    let width = digits.len().next_multiple_of(3);
    let padded = format!("{digits:0>width$}");
    let mut path = String::with_capacity(padded.len() * 2);
    for group in 0..padded.len() / 3 {
        let end = 3 * group + 3;
        let is_last = end == padded.len();
        write!(path, "{}{}{}", if is_last { "" } else { "x" }, &padded[end - 3..end], if is_last { "" } else { "/" })
            .expect("writing to a String cannot fail");
    }
    path
}

impl std::str::FromStr for TilePath {
    type Err = TilePathError;

    /// Parses, writes again, and compares: only the one canonical spelling is accepted.
    fn from_str(path: &str) -> Result<Self, TilePathError> {
        let rest = path.strip_prefix("tile/").ok_or(TilePathError)?;
        let (kind, rest) = rest.split_once('/').ok_or(TilePathError)?;
        let (groups, width) = rest.split_once(".p/").map_or((rest, None), |(groups, width)| (groups, Some(width)));
        let width = width.map_or(Ok(256), str::parse::<u16>).map_err(|_| TilePathError)?;
        let digits: String = groups.chars().filter(char::is_ascii_digit).collect();
        let index = digits.parse().map_err(|_| TilePathError)?;
        let parsed = match kind {
            "entries" => Self::Entries { index, width },
            level => Self::Hashes { tile: TileId { level: level.parse().map_err(|_| TilePathError)?, index }, width },
        };
        let in_bounds = match parsed {
            Self::Hashes { tile, width } => tile.level <= 63 && (1..=256).contains(&width),
            Self::Entries { width, .. } => (1..=256).contains(&width),
        };
        if in_bounds && parsed.to_string() == path { Ok(parsed) } else { Err(TilePathError) }
    }
}

/// Not the canonical path of a tile.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not the canonical path of a tile or entry bundle")]
pub struct TilePathError;

/// All nodes of a full or partial tile, interior ones included.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TileNodes {
    /// `levels[j]` has `floor(width / 2^j)` hashes; `levels[8]` is the root of a full tile.
    levels: [Vec<Hash>; TILE_HEIGHT as usize + 1],
}

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
        let mut tile = Self::new();
        for hash in hashes {
            tile.push(*hash)?;
        }
        Ok(tile)
    }

    /// Reads the `tlog-tiles` form: the hashes, one after the other.
    ///
    /// # Errors
    ///
    /// [`TileError::WrongLength`], [`TileError::Full`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TileError> {
        let (hashes, rest) = bytes.as_chunks::<{ Hash::LEN }>();
        if !rest.is_empty() {
            return Err(TileError::WrongLength { actual: bytes.len() });
        }
        if hashes.len() as u64 > TILE_WIDTH {
            return Err(TileError::Full);
        }
        let hashes: Vec<_> = hashes.iter().map(|hash| Hash::from_bytes(*hash)).collect();
        Self::from_hashes(&hashes)
    }

    /// Hashes at the bottom: 0..=256.
    #[must_use]
    pub fn width(&self) -> u16 {
        u16::try_from(self.levels[0].len()).expect("at most 256")
    }

    /// The node at `sub_level` (0..8; 8 is the root of a full tile) and `offset`, if complete.
    #[must_use]
    pub fn get(&self, sub_level: u8, offset: usize) -> Option<Hash> {
        self.levels.get(usize::from(sub_level))?.get(offset).copied()
    }

    /// Appends one hash at the bottom and the interior nodes that it completes.
    ///
    /// # Errors
    ///
    /// [`TileError::Full`] if there are 256 already.
    pub fn push(&mut self, hash: Hash) -> Result<(), TileError> {
        if self.levels[0].len() as u64 == TILE_WIDTH {
            return Err(TileError::Full);
        }
        let mut node = hash;
        for level in &mut self.levels {
            level.push(node);
            let [.., left, right] = level.as_slice() else { break };
            if level.len() % 2 == 1 {
                break;
            }
            node = Hash::node(left, right);
        }
        Ok(())
    }

    /// The hashes at the bottom.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.levels[0]
    }

    /// The root of a full tile: the hash that it contributes one level up.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        self.levels[usize::from(TILE_HEIGHT)].first().copied()
    }

    /// The `tlog-tiles` form: the hashes at the bottom, one after the other.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes().iter().flat_map(|hash| *hash.as_bytes()).collect()
    }
}
