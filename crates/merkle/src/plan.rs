//! Which stored nodes a proof needs, apart from fetching and hashing them.
//!
//! ```text
//! inclusion of leaf 1, size 7:  proof [0, B, C]     C covers [4, 8), but leaf 7 is
//!                                                   not there yet: C is *ragged*, not
//!             root                                  stored, and folds from 45 and 6.
//!           /      \
//!          .        C            nodes  0/0  1/1  1/2 0/6
//!        /   \     /  \          parts   1    1    `-2-'
//!       .     B  45    6
//!      0 1   2 3 4 5             fetch four nodes, assemble three hashes
//! ```
//!
//! Plan, fetch, [`ProofPlan::assemble`]: the first and the last are pure, so that only
//! the one in the middle waits for a disk.
//!
//! Sources: RFC 6962 §2.1.1 and §2.1.2; range proofs and multiproofs as Logwood's
//! protocol defines them (see [`crate::range`] and [`crate::multi`]).

use std::ops::Range;

use thiserror::Error;

use crate::compact::fold;
use crate::path::{Side, siblings};
use crate::verify::lowest_bit;
use crate::{CompactRange, Hash, LeafIndex, NodeId, ProofError, TreeSize, multi, range};

/// Plans `PATH(index, D[size])` (RFC 6962 §2.1.1): at most 64 hashes.
///
/// # Errors
///
/// [`ProofError::IndexOutOfRange`] if `index >= size`.
pub fn inclusion(index: LeafIndex, size: TreeSize) -> Result<ProofPlan, ProofError> {
    if index.0 >= size.0 {
        return Err(ProofError::IndexOutOfRange { index, size });
    }
    Ok(ProofPlan::of_subtrees(siblings(0, index.0, size.0 - 1).map(|sibling| sibling.id), size))
}

/// Plans `PROOF(old, D[new])` (RFC 6962 §2.1.2): at most 65 hashes, none if the sizes are equal.
///
/// # Errors
///
/// * [`ProofError::EmptyTree`] if `old` is 0.
/// * [`ProofError::SizeWentBackwards`] if `old > new`.
pub fn consistency(old: TreeSize, new: TreeSize) -> Result<ProofPlan, ProofError> {
    if old.0 == 0 {
        return Err(ProofError::EmptyTree);
    }
    if old > new {
        return Err(ProofError::SizeWentBackwards { old, new });
    }
    if old == new {
        return Ok(ProofPlan::default());
    }
    let level = lowest_bit(old.0);
    let start = NodeId { level, index: (old.0 - 1) >> level };
    // A verifier knows the root of a perfect old tree already.
    let start = (!old.0.is_power_of_two()).then_some(start);
    let path = siblings(level, old.0 - 1, new.0 - 1).map(|sibling| sibling.id);
    Ok(ProofPlan::of_subtrees(start.into_iter().chain(path), new))
}

/// Plans the range proof of the half-open `range`: at most 64 hashes a side.
///
/// # Errors
///
/// * [`ProofError::EmptyRange`] if the range is empty or reversed.
/// * [`ProofError::RangeOutOfRange`] if it ends past `size`.
pub fn range(range: Range<u64>, size: TreeSize) -> Result<RangePlan, ProofError> {
    let first = LeafIndex(range.start);
    if range.is_empty() {
        return Err(ProofError::EmptyRange { first, end: LeafIndex(range.end) });
    }
    range::check_bounds(first, range.end - range.start, size)?;

    let left = ProofPlan::of_subtrees(CompactRange::node_ids(TreeSize(range.start)), size);
    let right =
        siblings(0, range.end - 1, size.0 - 1).filter(|sibling| sibling.side == Side::Right).map(|sibling| sibling.id);
    Ok(RangePlan { left, right: ProofPlan::of_subtrees(right, size) })
}

/// Plans the multiproof of the leaves at `indices`, which strictly increase.
///
/// # Errors
///
/// * [`ProofError::NoIndices`] if there are none.
/// * [`ProofError::IndicesNotIncreasing`] if one repeats or goes backwards.
/// * [`ProofError::IndexOutOfRange`] if one is `>= size`.
pub fn multi(indices: &[LeafIndex], size: TreeSize) -> Result<ProofPlan, ProofError> {
    multi::check_indices(indices.iter().copied(), size)?;
    let indices = indices.iter().map(|index| index.0).collect();
    Ok(ProofPlan::of_subtrees(multi::missing_nodes(indices, size), size))
}

/// Plans the root: [`ProofPlan::assemble`] then gives exactly one hash, for size 0 too.
#[must_use]
pub fn root(size: TreeSize) -> ProofPlan {
    let nodes = CompactRange::node_ids(size);
    let parts = vec![part_count(nodes.len())];
    ProofPlan { nodes, parts }
}

/// The stored nodes that a proof is made of, and how they fold into its hashes.
///
/// The default is the plan of a proof without hashes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProofPlan {
    /// Parts of the first hash, largest first, then those of the second, and so on.
    nodes: Vec<NodeId>,
    /// For each proof hash, how many `nodes` it folds: 1 unless it is ragged, at most 64.
    parts: Vec<u8>,
}

impl ProofPlan {
    /// The nodes to fetch, in this order: perfect, and complete at the planned size.
    ///
    /// No more than the hashes of the proof, plus 63 for a ragged edge.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Hashes in the finished proof.
    #[must_use]
    pub fn hash_count(&self) -> usize {
        self.parts.len()
    }

    /// Folds the hashes of [`ProofPlan::nodes`], in that order, into the proof.
    ///
    /// # Errors
    ///
    /// [`PlanError::WrongLength`] unless there is one hash for each node.
    pub fn assemble(&self, fetched: &[Hash]) -> Result<Vec<Hash>, PlanError> {
        if fetched.len() != self.nodes.len() {
            let (expected, actual) = (self.nodes.len(), fetched.len());
            return Err(PlanError::WrongLength { expected, actual });
        }
        let mut rest = fetched;
        let folded = self.parts.iter().map(|&count| {
            let (parts, after) = rest.split_at(count.into());
            rest = after;
            fold(parts)
        });
        Ok(folded.collect())
    }

    /// One proof hash a subtree, each cut off where a tree of `size` leaves ends.
    fn of_subtrees(subtrees: impl IntoIterator<Item = NodeId>, size: TreeSize) -> Self {
        let mut plan = Self::default();
        for subtree in subtrees {
            let before = plan.nodes.len();
            if subtree.is_complete(size) {
                plan.nodes.push(subtree);
            } else {
                // The subtree begins where the lower bits of the size begin to count.
                let edge = CompactRange::node_ids(size);
                plan.nodes.extend(edge.iter().filter(|node| node.level < subtree.level));
            }
            plan.parts.push(part_count(plan.nodes.len() - before));
        }
        plan
    }
}

/// The two halves of a range proof.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RangePlan {
    /// Siblings left of the range, root side first.
    pub left: ProofPlan,
    /// Siblings right of the range, leaf side first.
    pub right: ProofPlan,
}

/// Why fetched hashes cannot be assembled.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// Another number of hashes was fetched than the plan has nodes.
    #[error("the plan names {expected} nodes, got {actual} hashes: fetch every node, in order")]
    WrongLength {
        /// Nodes of the plan.
        expected: usize,
        /// Hashes supplied.
        actual: usize,
    },
}

fn part_count(nodes: usize) -> u8 {
    u8::try_from(nodes).expect("a subtree folds from at most 64 perfect ones, one a size bit")
}
