//! The least that must be remembered of a tree to append to it.
//!
//! ```text
//! size 7 = 0b111:      A           [A, B, 6]: the roots of the perfect subtrees,
//!                  /       \       largest first, one for each 1 bit of the size.
//!                 .         .     B
//!               /   \     /   \  / \
//!              0     1   2     3 4  5  6
//!
//! Appending leaf 7 is binary addition: 6+7 carries into B, that into A, and
//! one root is left. The tree's root folds the list from the right: A+(B+6).
//! ```
//!
//! Source: the decomposition follows from the split rule of RFC 6962 §2.1.

use thiserror::Error;

use crate::{Hash, NodeId, TreeHead, TreeSize};

/// The roots of the perfect subtrees of `[0, size)`, largest first: at most 64 hashes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CompactRange {
    size: TreeSize,
    hashes: Vec<Hash>,
}

impl CompactRange {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Resumes at `size` from stored `hashes`, in the order of [`CompactRange::node_ids`].
    ///
    /// The hashes are not checked: compare [`CompactRange::head`] with a trusted head.
    ///
    /// # Errors
    ///
    /// [`CompactRangeError::WrongLength`] unless there is one hash for each 1 bit of `size`.
    pub fn from_hashes(size: TreeSize, hashes: Vec<Hash>) -> Result<Self, CompactRangeError> {
        let expected = size.0.count_ones() as usize;
        if hashes.len() != expected {
            return Err(CompactRangeError::WrongLength { size, expected, actual: hashes.len() });
        }
        Ok(Self { size, hashes })
    }

    /// Leaves appended so far.
    #[must_use]
    pub fn size(&self) -> TreeSize {
        self.size
    }

    /// The roots, in the order of [`CompactRange::node_ids`].
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The perfect subtrees that make up a tree of `size` leaves, largest first.
    #[must_use]
    pub fn node_ids(size: TreeSize) -> Vec<NodeId> {
        let levels = (0..64_u8).rev().filter(|level| size.0 >> level & 1 == 1);
        levels.map(|level| NodeId { level, index: (size.0 >> level) - 1 }).collect()
    }

    /// Appends a leaf hash.
    ///
    /// Calls `visit` for every perfect node that this completes: the leaf itself
    /// (level 0) first, then upwards. Hashes once a leaf on average, 63 times at most.
    ///
    /// # Panics
    ///
    /// If the tree holds `u64::MAX` leaves already.
    pub fn append(&mut self, leaf: Hash, mut visit: impl FnMut(NodeId, Hash)) {
        let index = self.size.0;
        let size = index.checked_add(1).expect("a tree has fewer than 2^64 leaves");
        visit(NodeId { level: 0, index }, leaf);

        // Every trailing 1 bit of the old size is a subtree that the new leaf completes.
        let mut node = leaf;
        let carries = index.trailing_ones() as usize;
        let kept = self.hashes.len() - carries;
        for (level, left) in (1..).zip(self.hashes[kept..].iter().rev()) {
            node = Hash::node(left, &node);
            visit(NodeId { level, index: index >> level }, node);
        }
        self.hashes.truncate(kept);
        self.hashes.push(node);
        self.size = TreeSize(size);
    }

    /// The root of the tree, `MTH(D[size])` (RFC 6962 §2.1). At most 63 hashes.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold(&self.hashes)
    }

    /// Size and root of the tree.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root() }
    }
}

/// The root above adjacent subtrees of falling height; the empty root if there are none.
pub(crate) fn fold(subtrees: &[Hash]) -> Hash {
    match subtrees.split_last() {
        Some((last, larger)) => larger.iter().rfold(*last, |right, left| Hash::node(left, &right)),
        None => Hash::empty_root(),
    }
}

/// Why hashes cannot be the compact range of a size.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompactRangeError {
    /// The number of hashes does not match the size.
    #[error("a tree of {size} leaves has {expected} perfect subtrees, got {actual} hashes: load the nodes again")]
    WrongLength {
        /// Leaves in the tree.
        size: TreeSize,
        /// Hashes that the size implies.
        expected: usize,
        /// Hashes supplied.
        actual: usize,
    },
}
