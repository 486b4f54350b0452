//! Proof verification: the only code a client has to trust, with [`struct@Hash`] and the climb.
//!
//! Both proofs climb from one node to the root. The sizes alone decide on which
//! side each proof hash joins, so a proof cannot choose its own shape:
//!
//! ```text
//! inclusion of leaf 2, size 5        consistency 3 -> 5
//!
//!          root                        Start at leaf 2, the last perfect
//!         /    \                       subtree of the old tree: proof[0].
//!        .     [4]                     3 joins on the right: new tree only.
//!      /   \                           01 joins on the left: both trees.
//!    [01]   .                          4 joins on the right: new tree only.
//!   /  \   / \                         Two roots come out: 01+2 is the old,
//!  0    1 2  [3]                       (01+(2+3))+4 the new.
//! ```
//!
//! Source: RFC 6962 §2.1.1 and §2.1.2 say what the proofs are; RFC 9162 §2.1.3.2
//! and §2.1.4.2 how to check them.

use crate::path::{Side, siblings};
use crate::{Hash, LeafIndex, ProofError, TreeHead};

/// Checks that `leaf` is the leaf at `index` of the tree that `head` commits to.
///
/// * `leaf` - the *leaf hash* ([`Hash::leaf`]) of the entry, not the entry.
/// * `proof` - `PATH(index, D[size])`: the leaf's sibling first; at most 64 hashes,
///   and exactly as many as `index` and the size imply.
///
/// One hash a proof hash, no allocation.
///
/// # Errors
///
/// * [`ProofError::IndexOutOfRange`] if `index >= head.size`: always for the empty tree.
/// * [`ProofError::WrongLength`] if hashes are missing or trail.
/// * [`ProofError::RootMismatch`] if the climb ends at another root.
pub fn inclusion(leaf: Hash, index: LeafIndex, head: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    if index.0 >= head.size.0 {
        return Err(ProofError::IndexOutOfRange { index, size: head.size });
    }
    let path = siblings(0, index.0, head.size.0 - 1);
    check_length(path.clone().count(), proof.len())?;

    let root = path.zip(proof).fold(leaf, |node, (sibling, hash)| sibling.side.join(hash, &node));
    check_root(head, root)
}

/// Checks that the tree of `new` begins with every leaf of `old`, in order.
///
/// * `proof` - `PROOF(old.size, D[new.size])`: leaf side first, at most 65 hashes;
///   empty if the sizes are equal.
///
/// # Errors
///
/// * [`ProofError::EmptyTree`] if `old` has no leaves: there is nothing to prove
///   (RFC 6962 §2.1.2 requires `0 < old.size`).
/// * [`ProofError::SizeWentBackwards`] if `old.size > new.size`.
/// * [`ProofError::WrongLength`] if hashes are missing or trail.
/// * [`ProofError::RootMismatch`] naming the head, old or new, that is not reproduced.
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

    // The last perfect subtree of the old tree is whole in both trees. If it *is*
    // the old tree, the verifier knows its root; else the proof begins with it.
    let level = lowest_bit(old.size.0);
    let path = siblings(level, old.size.0 - 1, new.size.0 - 1);
    let is_whole_tree = old.size.0.is_power_of_two();
    check_length(path.clone().count() + usize::from(!is_whole_tree), proof.len())?;
    let (start, rest) = match proof.split_first() {
        Some((first, rest)) if !is_whole_tree => (*first, rest),
        _ => (old.root, proof),
    };

    // What joins on the left is in both trees. What joins on the right was appended later.
    let (mut old_root, mut new_root) = (start, start);
    for (sibling, hash) in path.zip(rest) {
        if sibling.side == Side::Left {
            old_root = sibling.side.join(hash, &old_root);
        }
        new_root = sibling.side.join(hash, &new_root);
    }
    check_root(old, old_root)?;
    check_root(new, new_root)
}

/// Level of the last perfect subtree of a tree of `size > 0` leaves.
pub(crate) fn lowest_bit(size: u64) -> u8 {
    u8::try_from(size.trailing_zeros()).expect("a u64 has 64 bits")
}

pub(crate) fn check_length(expected: usize, actual: usize) -> Result<(), ProofError> {
    if actual == expected { Ok(()) } else { Err(ProofError::WrongLength { expected, actual }) }
}

pub(crate) fn check_root(head: &TreeHead, computed: Hash) -> Result<(), ProofError> {
    if computed == head.root { Ok(()) } else { Err(ProofError::RootMismatch { head: *head, computed }) }
}
