//! Proof verification: the only code a client has to trust.

use crate::{Hash, LeafIndex, ProofError, TreeHead};

/// Checks that `leaf` is the leaf at `index` of the tree that `head` commits to.
///
/// # Errors
///
/// [`ProofError`].
pub fn inclusion(leaf: Hash, index: LeafIndex, head: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    let _ = (leaf, index, head, proof);
    todo!()
}

/// Checks that the tree of `new` begins with every leaf of `old`, in order.
///
/// # Errors
///
/// [`ProofError`].
pub fn consistency(old: &TreeHead, new: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    let _ = (old, new, proof);
    todo!()
}
