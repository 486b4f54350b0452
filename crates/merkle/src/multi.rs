//! Multiproofs: many leaves under one head, shared hashes sent once.

use crate::{Hash, LeafIndex, ProofError, TreeHead};

/// Checks that every `(index, leaf hash)` is in the tree that `head` commits to.
///
/// # Errors
///
/// [`ProofError`].
pub fn verify(leaves: &[(LeafIndex, Hash)], head: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    let _ = (leaves, head, proof);
    todo!()
}
