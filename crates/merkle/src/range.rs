//! Range proofs: "these are all the entries from a to b".

use crate::{Hash, LeafIndex, ProofError, TreeHead};

/// The hashes left and right of a contiguous run of leaves.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RangeProof {
    /// Left siblings on the path of the first leaf, root side first.
    pub left: Vec<Hash>,
    /// Right siblings on the path of the last leaf, leaf side first.
    pub right: Vec<Hash>,
}

/// Checks that `leaves` are all the leaves from `first` on, as many as there are.
///
/// # Errors
///
/// [`ProofError`].
pub fn verify(first: LeafIndex, leaves: &[Hash], head: &TreeHead, proof: &RangeProof) -> Result<(), ProofError> {
    let _ = (first, leaves, head, proof);
    todo!()
}

/// A range that verified, with every node above it: the source of single inclusion proofs.
#[derive(Clone, Debug)]
pub struct VerifiedRange {}

impl VerifiedRange {
    /// Verifies a range as [`verify`] does and keeps the nodes met on the way.
    ///
    /// # Errors
    ///
    /// [`ProofError`].
    pub fn new(first: LeafIndex, leaves: &[Hash], head: &TreeHead, proof: &RangeProof) -> Result<Self, ProofError> {
        let _ = (first, leaves, head, proof);
        todo!()
    }

    /// The RFC 6962 inclusion proof of a leaf of the range.
    ///
    /// # Errors
    ///
    /// [`ProofError::IndexOutOfRange`].
    pub fn inclusion_proof(&self, index: LeafIndex) -> Result<Vec<Hash>, ProofError> {
        let _ = index;
        todo!()
    }
}

/// The RFC 6962 inclusion proof of every leaf in the range; `out[i]` is for `first + i`.
///
/// # Errors
///
/// [`ProofError`].
pub fn inclusion_proofs(
    first: LeafIndex,
    leaves: &[Hash],
    head: &TreeHead,
    proof: &RangeProof,
) -> Result<Vec<Vec<Hash>>, ProofError> {
    let _ = (first, leaves, head, proof);
    todo!()
}

/// The RFC 6962 inclusion proof of one leaf in the range.
///
/// # Errors
///
/// [`ProofError`].
pub fn inclusion_proof(
    first: LeafIndex,
    leaves: &[Hash],
    head: &TreeHead,
    proof: &RangeProof,
    index: LeafIndex,
) -> Result<Vec<Hash>, ProofError> {
    VerifiedRange::new(first, leaves, head, proof)?.inclusion_proof(index)
}
