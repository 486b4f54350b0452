//! Hashes of leaves and nodes, and the three values that must never be swapped.
//!
//! ```text
//! leaf = SHA-256(0x00 || entry)          node = SHA-256(0x01 || left || right)
//!
//!        node(ab, c)     The prefixes keep the two apart: without them the 64
//!        /        \      bytes `left || right`, submitted as an entry, would
//!    node(a, b)    c     hash to an interior node (a second-preimage attack).
//!      /    \
//!     a      b
//! ```
//!
//! Source: RFC 6962 §2.1.

use std::fmt;

use sha2::{Digest, Sha256};
use thiserror::Error;

/// Prefix of a hashed entry (RFC 6962 §2.1).
const LEAF_PREFIX: u8 = 0x00;
/// Prefix of a hashed pair of nodes (RFC 6962 §2.1).
const NODE_PREFIX: u8 = 0x01;

/// A SHA-256 hash of a leaf, a node or a whole tree. Shown as lower-case hex.
///
/// `Default` is 32 zero bytes: a placeholder, the hash of nothing in particular.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash([u8; Hash::LEN]);

impl Hash {
    /// Bytes in a hash.
    pub const LEN: usize = 32;

    /// Wraps the 32 bytes of a hash computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The leaf hash of `entry`: `SHA-256(0x00 || entry)` (RFC 6962 §2.1).
    #[must_use]
    pub fn leaf(entry: &[u8]) -> Self {
        Self(Sha256::new().chain_update([LEAF_PREFIX]).chain_update(entry).finalize().into())
    }

    /// The node above `left` and `right`: `SHA-256(0x01 || left || right)` (RFC 6962 §2.1).
    #[must_use]
    pub fn node(left: &Self, right: &Self) -> Self {
        let mut preimage = [NODE_PREFIX; 1 + 2 * Self::LEN];
        preimage[1..=Self::LEN].copy_from_slice(&left.0);
        preimage[1 + Self::LEN..].copy_from_slice(&right.0);
        Self(Sha256::digest(preimage).into())
    }

    /// The root of the tree without leaves: SHA-256 of nothing (RFC 6962 §2.1).
    #[must_use]
    pub fn empty_root() -> Self {
        Self(Sha256::digest([]).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<[u8; Hash::LEN]> for Hash {
    fn from(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = HashLengthError;

    fn try_from(bytes: &[u8]) -> Result<Self, HashLengthError> {
        let bytes = bytes.try_into().map_err(|_| HashLengthError { actual: bytes.len() })?;
        Ok(Self(bytes))
    }
}

/// Bytes that should be a hash have another length.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a hash has {} bytes, got {actual}: supply the whole SHA-256 digest", Hash::LEN)]
pub struct HashLengthError {
    /// Bytes supplied.
    pub actual: usize,
}

/// Position of a leaf, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeafIndex(pub u64);

impl fmt::Display for LeafIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of leaves in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreeSize(pub u64);

impl fmt::Display for TreeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a log commits to: a size and the root of the tree of that many leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// Leaves in the tree.
    pub size: TreeSize,
    /// Root of the tree, `MTH(D[size])` (RFC 6962 §2.1).
    pub root: Hash,
}

impl TreeHead {
    /// The head of the tree without leaves.
    #[must_use]
    pub fn empty() -> Self {
        Self { size: TreeSize(0), root: Hash::empty_root() }
    }
}
