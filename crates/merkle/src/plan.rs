//! Which stored nodes a proof needs, apart from hashing them.

use std::ops::Range;

use thiserror::Error;

use crate::{Hash, LeafIndex, NodeId, ProofError, TreeSize};

/// The stored nodes that a proof is made of, and how they fold into its hashes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProofPlan {
    nodes: Vec<NodeId>,
    parts: Vec<u8>,
}

impl ProofPlan {
    /// The nodes to fetch, in this order: perfect, and complete at the planned size.
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
        let _ = fetched;
        todo!()
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

/// Plans `PATH(index, D[size])` (RFC 6962 §2.1.1).
///
/// # Errors
///
/// [`ProofError::IndexOutOfRange`] if `index >= size`.
pub fn inclusion(index: LeafIndex, size: TreeSize) -> Result<ProofPlan, ProofError> {
    let _ = (index, size);
    todo!()
}

/// Plans `PROOF(old, D[new])` (RFC 6962 §2.1.2).
///
/// # Errors
///
/// [`ProofError::EmptyTree`], [`ProofError::SizeWentBackwards`].
pub fn consistency(old: TreeSize, new: TreeSize) -> Result<ProofPlan, ProofError> {
    let _ = (old, new);
    todo!()
}

/// Plans the range proof of the half-open `range`.
///
/// # Errors
///
/// [`ProofError::EmptyRange`], [`ProofError::RangeOutOfRange`].
pub fn range(range: Range<u64>, size: TreeSize) -> Result<RangePlan, ProofError> {
    let _ = (range, size);
    todo!()
}

/// Plans a multiproof, in the order of `rs_merkle`.
///
/// # Errors
///
/// [`ProofError::NoIndices`], [`ProofError::IndicesNotIncreasing`], [`ProofError::IndexOutOfRange`].
pub fn multi(indices: &[LeafIndex], size: TreeSize) -> Result<ProofPlan, ProofError> {
    let _ = (indices, size);
    todo!()
}

/// Plans the root: [`ProofPlan::assemble`] gives exactly one hash, for size 0 too.
#[must_use]
pub fn root(size: TreeSize) -> ProofPlan {
    let _ = size;
    todo!()
}
