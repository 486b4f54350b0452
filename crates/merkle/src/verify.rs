//! Proof verification: the only code a client has to trust.
//!
//! ```text
//! size 7          root              consistency 3 -> 7: [2, 3, 01, 46]
//!               /      \             begin at 2, the last perfect subtree of the old tree;
//!             03        46           left siblings are in both trees (01), right ones
//!            /  \      /  \          were appended since (3, 46):
//!          01    23   45   6         old root = H(01, 2)
//!         0  1  2  3 4  5            new root = H(H(01, H(2, 3)), 46)
//! ```
//!
//! Source: RFC 6962 §2.1.1 and §2.1.2, in the iterative form of RFC 9162 §2.1.3.2 and §2.1.4.2.

use crate::path::{Side, sides};
use crate::{Hash, LeafIndex, ProofError, TreeHead};

/// Checks that `leaf` is the leaf at `index` of the tree that `head` commits to.
///
/// * `leaf` - the RFC 6962 leaf hash ([`Hash::leaf`]), not the entry.
/// * `proof` - `PATH(index, D[size])`: sibling hashes, the leaf's own first; at most 64.
///
/// # Errors
///
/// * [`ProofError::IndexOutOfRange`] if `index >= head.size`, so always for the empty tree.
/// * [`ProofError::WrongLength`] if hashes are missing or left over.
/// * [`ProofError::RootMismatch`] if they lead to another root.
pub fn inclusion(leaf: Hash, index: LeafIndex, head: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    if index.0 >= head.size.0 {
        return Err(ProofError::IndexOutOfRange { index, size: head.size });
    }
    let sides = sides(index.0, head.size.0 - 1);
    check_length(sides.clone().count(), proof.len())?;
    check_root(head, sides.zip(proof).fold(leaf, |node, (side, sibling)| side.join(sibling, &node)))
}

/// Checks that the tree of `new` begins with every leaf of `old`, in order.
///
/// * `proof` - `PROOF(old.size, D[new.size])`, lowest hash first; at most 65. Empty exactly if the sizes are equal.
///
/// # Errors
///
/// * [`ProofError::EmptyTree`] if `old` has no leaves: every tree extends it.
/// * [`ProofError::SizeWentBackwards`] if `old.size > new.size`.
/// * [`ProofError::WrongLength`] if hashes are missing or left over.
/// * [`ProofError::RootMismatch`] with the head, old or new, that the proof does not reproduce.
pub fn consistency(old: &TreeHead, new: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    if old.size.0 == 0 {
        return Err(ProofError::EmptyTree);
    }
    if old.size > new.size {
        return Err(ProofError::SizeWentBackwards { old: old.size, new: new.size });
    }
    if old.size == new.size {
        check_length(0, proof.len())?;
        return check_root(new, old.root);
    }

    // The last perfect subtree of the old tree is a node of both. If it is the whole old tree, the proof leaves it out.
    let level = old.size.0.trailing_zeros();
    let sides = sides((old.size.0 - 1) >> level, (new.size.0 - 1) >> level);
    let is_whole = old.size.0.is_power_of_two();
    check_length(sides.clone().count() + usize::from(!is_whole), proof.len())?;
    let (start, siblings) = if is_whole { (old.root, proof) } else { (proof[0], &proof[1..]) };

    let (mut old_root, mut new_root) = (start, start);
    for (side, sibling) in sides.zip(siblings) {
        if side == Side::Left {
            old_root = side.join(sibling, &old_root);
        }
        new_root = side.join(sibling, &new_root);
    }
    check_root(old, old_root)?;
    check_root(new, new_root)
}

fn check_length(expected: usize, actual: usize) -> Result<(), ProofError> {
    if expected == actual { Ok(()) } else { Err(ProofError::WrongLength { expected, actual }) }
}

pub(crate) fn check_root(head: &TreeHead, computed: Hash) -> Result<(), ProofError> {
    if computed == head.root { Ok(()) } else { Err(ProofError::RootMismatch { head: *head, computed }) }
}
