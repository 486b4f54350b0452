//! The paths under which tiles and entry bundles are published, strictly canonical.
//!
//! ```text
//! tile/1/x001/x234/067.p/17
//!      |  `----------'    `- W: 17 of 256 hashes; a full tile has no suffix
//!      |        `- N = 1234067: groups of three digits, `x` before all but the last
//!      `- L: tile level; `entries` for an entry bundle
//! ```
//!
//! One resource has one path, so a cache cannot be filled with aliases.
//!
//! Source: C2SP `tlog-tiles`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{TILE_WIDTH, TileId};
use crate::TreeSize;

/// Highest tile level that a path may name (C2SP `tlog-tiles`).
const LEVEL_MAX: u64 = 63;
/// Digits in each group of a tile number.
const GROUP_DIGITS: usize = 3;
/// The number of values of a group: `10^GROUP_DIGITS`.
const GROUP: u64 = 1_000;

/// Names a tile or an entry bundle. Shown as, and parsed from, its path without a leading `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TilePath {
    /// `tile/<L>/<N>[.p/<W>]`
    Hashes {
        /// The tile.
        tile: TileId,
        /// Hashes in it: 1..=256, of which 256 is a full tile.
        width: u16,
    },
    /// `tile/entries/<N>[.p/<W>]`
    Entries {
        /// Position of the bundle: it begins with entry `256 * index`.
        index: u64,
        /// Entries in it: 1..=256, of which 256 is a full bundle.
        width: u16,
    },
}

impl TilePath {
    /// Hashes or entries named: 1..=256.
    #[must_use]
    pub fn width(self) -> u16 {
        match self {
            Self::Hashes { width, .. } | Self::Entries { width, .. } => width,
        }
    }

    /// Whether a tree of `size` leaves has everything that the path names.
    #[must_use]
    pub fn is_complete(self, size: TreeSize) -> bool {
        let tile = match self {
            Self::Hashes { tile, .. } => tile,
            Self::Entries { index, .. } => TileId { level: 0, index },
        };
        self.width() <= tile.partial_width(size)
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = match self {
            Self::Hashes { tile, .. } => {
                write!(f, "tile/{}/", tile.level)?;
                tile.index
            }
            Self::Entries { index, .. } => {
                f.write_str("tile/entries/")?;
                *index
            }
        };
        // The first group is the most significant one that is not zero.
        let mut divisor = 1;
        while index / divisor >= GROUP {
            divisor *= GROUP;
        }
        while divisor > 1 {
            write!(f, "x{:03}/", index / divisor % GROUP)?;
            divisor /= GROUP;
        }
        write!(f, "{:03}", index % GROUP)?;
        match u64::from(self.width()) {
            TILE_WIDTH => Ok(()),
            width => write!(f, ".p/{width}"),
        }
    }
}

impl FromStr for TilePath {
    type Err = TilePathError;

    /// # Errors
    ///
    /// [`TilePathError`] unless the path is exactly the one that `Display` gives.
    fn from_str(path: &str) -> Result<Self, TilePathError> {
        parse(path).ok_or(TilePathError)
    }
}

/// Not the canonical path of a tile or entry bundle, and so not the path of anything.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not the canonical path of a tile or entry bundle: see C2SP tlog-tiles")]
pub struct TilePathError;

fn parse(path: &str) -> Option<TilePath> {
    let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let (number, width) = match rest.split_once(".p/") {
        Some((number, width)) => (number, decimal(width, TILE_WIDTH - 1).filter(|&w| w > 0)?),
        None => (rest, TILE_WIDTH),
    };
    let index = tile_number(number)?;
    let width = u16::try_from(width).ok()?;
    if kind == "entries" {
        return Some(TilePath::Entries { index, width });
    }
    let level = u8::try_from(decimal(kind, LEVEL_MAX)?).ok()?;
    Some(TilePath::Hashes { tile: TileId { level, index }, width })
}

/// A number in groups: `x001/x234/067`. A first group of zeroes is not canonical.
fn tile_number(text: &str) -> Option<u64> {
    let (before, last) = match text.rsplit_once('/') {
        Some((before, last)) => (Some(before), last),
        None => (None, text),
    };
    if before.is_some_and(|before| before.starts_with("x000")) {
        return None;
    }
    let groups = before.into_iter().flat_map(|before| before.split('/'));
    let groups = groups.map(|group| group.strip_prefix('x')).chain([Some(last)]);
    groups.into_iter().try_fold(0_u64, |number, group| {
        let group = group.filter(|group| group.len() == GROUP_DIGITS && all_digits(group))?;
        number.checked_mul(GROUP)?.checked_add(group.parse().ok()?)
    })
}

/// A decimal without leading zeroes, at most `max`.
fn decimal(text: &str, max: u64) -> Option<u64> {
    let canonical = all_digits(text) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|&number| canonical && number <= max)
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}
