//! Range proofs: "these are all the entries from a to b".
//!
//! ```text
//! [2, 5) of 7          root              left:  [H(0,1)]     popcount(2) = 1 hash
//!                    /      \            right: [H5, H6]
//!                  03        46
//!                 /  \      /  \         Recurse from the root as RFC 6962 §2.1 does: a subtree
//!              <01>   23   45  <6>       wholly outside takes the next hash, a leaf inside is
//!                    2  3 4 <5>          given; every hash must be used.
//! ```
//!
//! Whoever holds the leaves of the range and this proof can derive the RFC 6962 inclusion proof of each leaf: its
//! siblings are nodes of the range, or hashes of the proof.

use crate::path::split;
use crate::verify::check_root;
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
/// `O(k + log size)` hashes for k leaves.
///
/// # Errors
///
/// * [`ProofError::EmptyRange`] or [`ProofError::RangeOutOfRange`] for the range.
/// * [`ProofError::WrongLeftLength`] or [`ProofError::WrongRightLength`] if hashes are missing or left over.
/// * [`ProofError::RootMismatch`] if they lead to another root.
pub fn verify(first: LeafIndex, leaves: &[Hash], head: &TreeHead, proof: &RangeProof) -> Result<(), ProofError> {
    let mut walk = Walk::begin(first, leaves, head, proof)?;
    let root = walk.root(0, head.size.0, &mut |_, _, _| ());
    check_root(head, root)
}

/// A range that verified, with every node above it: the source of single inclusion proofs.
#[derive(Clone, Debug)]
pub struct VerifiedRange {
    first: u64,
    end: u64,
    size: u64,
    /// The joins of the walk in its order: children before parents, left before right. Each holds its two halves.
    joins: Vec<Join>,
}

#[derive(Clone, Copy, Debug)]
struct Join {
    left: Hash,
    right: Hash,
    /// Joins in the left half's subtree, and in both: how to walk down without pointers.
    left_joins: usize,
}

impl VerifiedRange {
    /// Verifies a range as [`verify`] does and keeps the nodes met on the way.
    ///
    /// # Errors
    ///
    /// As [`verify`].
    pub fn new(first: LeafIndex, leaves: &[Hash], head: &TreeHead, proof: &RangeProof) -> Result<Self, ProofError> {
        let mut walk = Walk::begin(first, leaves, head, proof)?;
        let mut joins = Vec::with_capacity(leaves.len() + 2 * 64);
        let root = walk.root(0, head.size.0, &mut |left, right, right_joins: usize| {
            let left_joins = joins.len() - right_joins;
            joins.push(Join { left, right, left_joins });
        });
        check_root(head, root)?;
        Ok(Self { first: first.0, end: first.0 + leaves.len() as u64, size: head.size.0, joins })
    }

    /// The RFC 6962 inclusion proof of a leaf of the range.
    ///
    /// # Errors
    ///
    /// [`ProofError::IndexOutOfRange`] if `index` is not in the range.
    pub fn inclusion_proof(&self, index: LeafIndex) -> Result<Vec<Hash>, ProofError> {
        if index.0 < self.first || index.0 >= self.end {
            return Err(ProofError::IndexOutOfRange { index, size: crate::TreeSize(self.end) });
        }
        let (mut lo, mut hi) = (0, self.size);
        // The joins below and including the current subtree's are `joins[..end]`, its own the last of them.
        let mut end = self.joins.len();
        let mut proof = Vec::with_capacity(64);
        while hi - lo > 1 {
            let middle = split(lo, hi);
            let join = self.joins[end - 1];
            if index.0 < middle {
                proof.push(join.right);
                hi = middle;
                end = join.left_joins;
            } else {
                proof.push(join.left);
                lo = middle;
                end -= 1;
            }
        }
        proof.reverse();
        Ok(proof)
    }
}

/// The RFC 6962 inclusion proof of every leaf in the range; `out[i]` is for `first + i`.
///
/// Hashes as much as [`verify`], each interior node once.
///
/// # Errors
///
/// As [`verify`].
pub fn inclusion_proofs(
    first: LeafIndex,
    leaves: &[Hash],
    head: &TreeHead,
    proof: &RangeProof,
) -> Result<Vec<Vec<Hash>>, ProofError> {
    let range = VerifiedRange::new(first, leaves, head, proof)?;
    (range.first..range.end).map(|index| range.inclusion_proof(LeafIndex(index))).collect()
}

/// The RFC 6962 inclusion proof of one leaf in the range.
///
/// # Errors
///
/// As [`verify`], and [`ProofError::IndexOutOfRange`] if `index` is not in the range.
pub fn inclusion_proof(
    first: LeafIndex,
    leaves: &[Hash],
    head: &TreeHead,
    proof: &RangeProof,
    index: LeafIndex,
) -> Result<Vec<Hash>, ProofError> {
    VerifiedRange::new(first, leaves, head, proof)?.inclusion_proof(index)
}

/// The recursion of RFC 6962 §2.1, fed with the hashes of a proof whose lengths were checked.
struct Walk<'a> {
    first: u64,
    end: u64,
    leaves: &'a [Hash],
    left: std::slice::Iter<'a, Hash>,
    right: std::slice::Iter<'a, Hash>,
    joins: usize,
}

impl<'a> Walk<'a> {
    fn begin(first: LeafIndex, leaves: &'a [Hash], head: &TreeHead, proof: &'a RangeProof) -> Result<Self, ProofError> {
        if leaves.is_empty() {
            return Err(ProofError::EmptyRange { first, end: first });
        }
        let count = leaves.len() as u64;
        let end = first.0.checked_add(count).filter(|&end| end <= head.size.0);
        let end = end.ok_or(ProofError::RangeOutOfRange { first, count, size: head.size })?;
        let expected = first.0.count_ones() as usize;
        if proof.left.len() != expected {
            return Err(ProofError::WrongLeftLength { expected, actual: proof.left.len() });
        }
        let expected = right_hashes(end - 1, head.size.0 - 1);
        if proof.right.len() != expected {
            return Err(ProofError::WrongRightLength { expected, actual: proof.right.len() });
        }
        Ok(Self { first: first.0, end, leaves, left: proof.left.iter(), right: proof.right.iter(), joins: 0 })
    }

    /// The root of `[lo, hi)`. `joined` is told each node's halves, and how many joins the right half took.
    fn root(&mut self, lo: u64, hi: u64, joined: &mut impl FnMut(Hash, Hash, usize)) -> Hash {
        if hi <= self.first {
            return *self.left.next().expect("as many left hashes as the first index implies");
        }
        if lo >= self.end {
            return *self.right.next().expect("as many right hashes as the last index implies");
        }
        if hi - lo == 1 {
            let place = usize::try_from(lo - self.first).expect("below the number of leaves");
            return self.leaves[place];
        }
        let middle = split(lo, hi);
        let left = self.root(lo, middle, joined);
        let before = self.joins;
        let right = self.root(middle, hi, joined);
        joined(left, right, self.joins - before);
        self.joins += 1;
        Hash::node(&left, &right)
    }
}

/// Right siblings on the path of leaf `index`, where `last` is the last leaf: the zero bits of `index` below the
/// highest bit in which the two differ.
fn right_hashes(index: u64, last: u64) -> usize {
    let differing = u64::BITS - (index ^ last).leading_zeros();
    let low = 1_u64.checked_shl(differing).map_or(u64::MAX, |bit| bit - 1);
    (!index & low).count_ones() as usize
}
