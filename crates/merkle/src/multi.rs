//! Multiproofs: many leaves under one head, each shared hash sent once.
//!
//! ```text
//! leaves 1, 4, 5 of 7          root       level 0: 1 misses 0; 4 and 5 have each other
//!                            /      \     level 1: 01 misses 23, 45 misses 6
//!                          .         .    level 2: both are there
//!                        /   \      /  \
//!                       .    [23]  .   [6]      proof: 0, 23, 6
//!                      / \         / \
//!                    [0]  1       4   5
//! ```
//!
//! Level by level from the leaves up, left to right in a level: the order of `rs_merkle`.
//! Which hashes are missing follows from indices and size alone, so shape is settled
//! before any hash is looked at: repeated indices and trailing hashes never get that far.
//!
//! Source: Logwood's protocol, "Range proofs" (Multiproofs); the tree is RFC 6962 §2.1.

use crate::verify::{check_length, check_root};
use crate::{Hash, LeafIndex, NodeId, ProofError, TreeHead, TreeSize};

/// Checks that every `(index, leaf hash)` is in the tree that `head` commits to.
///
/// * `leaves` - at least one; indices strictly increase.
/// * `proof` - exactly the hashes that the indices and the size imply.
///
/// O(k log n) steps and hashes for k leaves; two allocations.
///
/// # Errors
///
/// * [`ProofError::NoIndices`] if there are no leaves.
/// * [`ProofError::IndicesNotIncreasing`] if an index repeats or goes backwards.
/// * [`ProofError::IndexOutOfRange`] if an index is `>= head.size`.
/// * [`ProofError::WrongLength`] if hashes are missing or trail.
/// * [`ProofError::RootMismatch`] if a leaf or hash is not the tree's.
pub fn verify(leaves: &[(LeafIndex, Hash)], head: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    check_indices(leaves.iter().map(|leaf| leaf.0), head.size)?;
    let indices = leaves.iter().map(|leaf| leaf.0.0).collect();
    check_length(missing_nodes(indices, head.size).len(), proof.len())?;

    let mut row: Vec<_> = leaves.iter().map(|&(index, hash)| (index.0, hash)).collect();
    let mut proof = proof.iter();
    let mut next = || proof.next().expect("missing_nodes counted the hashes");
    let mut last = head.size.0 - 1;
    while last > 0 {
        // Parents overwrite their children: `kept` never overtakes `at`.
        let (mut at, mut kept) = (0, 0);
        while at < row.len() {
            let (node, hash) = row[at];
            let right = row.get(at + 1).filter(|right| right.0 == node ^ 1);
            let parent = match (node % 2, right) {
                (1, _) => Hash::node(next(), &hash),
                (_, Some((_, right))) => Hash::node(&hash, right),
                (_, None) if node < last => Hash::node(&hash, next()),
                _ => hash, // Promoted.
            };
            at += 1 + usize::from(right.is_some());
            row[kept] = (node / 2, parent);
            kept += 1;
        }
        row.truncate(kept);
        last /= 2;
    }
    check_root(head, row[0].1)
}

/// Checks that there are indices, that they strictly increase and that the tree has them.
pub(crate) fn check_indices(indices: impl Iterator<Item = LeafIndex>, size: TreeSize) -> Result<(), ProofError> {
    let mut previous = None;
    for index in indices {
        match previous.replace(index) {
            Some(previous) if previous >= index => {
                return Err(ProofError::IndicesNotIncreasing { previous, index });
            }
            _ if index.0 >= size.0 => return Err(ProofError::IndexOutOfRange { index, size }),
            _ => {}
        }
    }
    if previous.is_some() { Ok(()) } else { Err(ProofError::NoIndices) }
}

/// The siblings that the leaves at `row` do not supply themselves, in proof order.
///
/// The last of a level may be ragged. `row` must have passed [`check_indices`].
pub(crate) fn missing_nodes(mut row: Vec<u64>, size: TreeSize) -> Vec<NodeId> {
    let mut missing = Vec::new();
    let mut last = size.0 - 1;
    for level in 0.. {
        if last == 0 {
            break;
        }
        for (at, &node) in row.iter().enumerate() {
            let sibling = node ^ 1;
            let neighbour = if node % 2 == 1 { at.checked_sub(1) } else { Some(at + 1) };
            let supplied = neighbour.and_then(|at| row.get(at)) == Some(&sibling);
            if sibling <= last && !supplied {
                missing.push(NodeId { level, index: sibling });
            }
        }
        for node in &mut row {
            *node /= 2;
        }
        row.dedup();
        last /= 2;
    }
    missing
}
