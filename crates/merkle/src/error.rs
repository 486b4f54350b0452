//! Why a proof was refused, in sentences fit for an auditor.

use thiserror::Error;

use crate::{Hash, LeafIndex, TreeHead, TreeSize};

/// Why a proof was refused, or cannot exist. The message names the check that failed.
///
/// From a verifier, any variant means: do not trust the response. From a planner
/// it means that the request asks for a proof that no tree of that size has.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProofError {
    /// The old tree has no leaves, so consistency with it says nothing (RFC 6962 §2.1.2).
    #[error("every tree extends the empty tree: choose an old size of at least 1")]
    EmptyTree,
    /// The leaf cannot be in a tree this small.
    #[error("leaf index {index} is outside a tree of {size} leaves")]
    IndexOutOfRange {
        /// The leaf asked for.
        index: LeafIndex,
        /// Size of the tree.
        size: TreeSize,
    },
    /// The range has no leaves, or its end lies before its first leaf.
    #[error("the range of leaves from {first} up to {end} is empty: it must hold at least one")]
    EmptyRange {
        /// First leaf of the range.
        first: LeafIndex,
        /// The index after its last leaf.
        end: LeafIndex,
    },
    /// The range ends past the tree.
    #[error("a range of {count} leaves from {first} on ends outside a tree of {size} leaves")]
    RangeOutOfRange {
        /// First leaf of the range.
        first: LeafIndex,
        /// Leaves in the range.
        count: u64,
        /// Size of the tree.
        size: TreeSize,
    },
    /// A proof was asked of a verified range for a leaf that is not in it.
    #[error("leaf index {index} is not in the verified range, which is {first} to {last}")]
    IndexOutsideRange {
        /// The leaf asked for.
        index: LeafIndex,
        /// First leaf of the range.
        first: LeafIndex,
        /// Last leaf of the range.
        last: LeafIndex,
    },
    /// A multiproof about no leaf at all.
    #[error("a multiproof of no leaves proves nothing: name at least one leaf")]
    NoIndices,
    /// The leaf indices of a multiproof repeat or go backwards.
    #[error("leaf indices must strictly increase, but {index} follows {previous}")]
    IndicesNotIncreasing {
        /// The index before the offending one.
        previous: LeafIndex,
        /// The offending index.
        index: LeafIndex,
    },
    /// The sizes are in the wrong order: the log shrank, or the caller swapped them.
    #[error("tree size went backwards from {old} to {new}")]
    SizeWentBackwards {
        /// Size of the older head.
        old: TreeSize,
        /// Size of the newer head.
        new: TreeSize,
    },
    /// The proof has missing or trailing hashes.
    #[error("the proof has {actual} hashes, but this tree and leaf call for exactly {expected}")]
    WrongLength {
        /// Hashes that the sizes and indices imply.
        expected: usize,
        /// Hashes supplied.
        actual: usize,
    },
    /// The left half of a range proof has missing or trailing hashes.
    #[error("the range proof has {actual} left hashes, but its first leaf calls for exactly {expected}")]
    WrongLeftLength {
        /// Left siblings on the path of the range's first leaf.
        expected: usize,
        /// Hashes supplied.
        actual: usize,
    },
    /// The right half of a range proof has missing or trailing hashes.
    #[error("the range proof has {actual} right hashes, but its last leaf calls for exactly {expected}")]
    WrongRightLength {
        /// Right siblings on the path of the range's last leaf.
        expected: usize,
        /// Hashes supplied.
        actual: usize,
    },
    /// The hashes lead to a root other than the one that the head commits to.
    #[error(
        "the proof leads to root {computed}, but the head of size {} has root {}",
        .head.size, .head.root
    )]
    RootMismatch {
        /// The head that was not reproduced.
        head: TreeHead,
        /// The root that the proof leads to instead.
        computed: Hash,
    },
}
