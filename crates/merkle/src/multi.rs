//! Multiproofs: many leaves under one head, shared hashes sent once.
//!
//! ```text
//! leaves 1 and 2 of 4        root          level 0: siblings 0 and 3 are sent, left to right
//!                          /      \        level 1: both nodes are known now, nothing is sent
//!                        01        23
//!                      <0> 1     2 <3>
//! ```
//!
//! The order is that of `rs_merkle`: level by level from the leaves up, left to right in a level.

use crate::plan::Level;
use crate::verify::check_root;
use crate::{Hash, LeafIndex, ProofError, TreeHead};

/// Checks that every `(index, leaf hash)` is in the tree that `head` commits to.
///
/// * `leaves` - indices strictly increasing and below the size.
/// * `proof` - exactly the hashes that the indices and the size imply; counted before anything is hashed.
///
/// # Errors
///
/// * [`ProofError::NoIndices`], [`ProofError::IndicesNotIncreasing`] or [`ProofError::IndexOutOfRange`] for the leaves.
/// * [`ProofError::WrongLength`] if hashes are missing or left over.
/// * [`ProofError::RootMismatch`] if they lead to another root.
pub fn verify(leaves: &[(LeafIndex, Hash)], head: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    let indices: Vec<_> = leaves.iter().map(|(index, _)| *index).collect();
    let bottom = Level::of_leaves(&indices, head.size)?;
    let expected = hash_count(bottom.clone());
    if proof.len() != expected {
        return Err(ProofError::WrongLength { expected, actual: proof.len() });
    }

    let mut level = bottom;
    let mut proof = proof.iter();
    let mut hashes: Vec<_> = leaves.iter().map(|(_, leaf)| *leaf).collect();
    while level.width > 1 {
        hashes = climb(&level, &hashes, &mut proof);
        level = level.parent();
    }
    check_root(head, hashes[0])
}

fn hash_count(bottom: Level) -> usize {
    let mut level = bottom;
    let mut count = 0;
    while level.width > 1 {
        count += level.missing().count();
        level = level.parent();
    }
    count
}

/// Hashes the known nodes of a level, with the proof's hashes for the missing siblings, into their parents.
fn climb<'a>(level: &Level, hashes: &[Hash], proof: &mut impl Iterator<Item = &'a Hash>) -> Vec<Hash> {
    let mut parents = Vec::with_capacity(hashes.len());
    let mut next = 0;
    while next < hashes.len() {
        let (index, hash) = (level.known[next], hashes[next]);
        let has_known_sibling = index.is_multiple_of(2) && level.known.get(next + 1) == Some(&(index + 1));
        let parent = if has_known_sibling {
            next += 1;
            Hash::node(&hash, &hashes[next])
        } else if index ^ 1 >= level.width {
            hash // Promoted.
        } else {
            let sibling = proof.next().expect("the hashes were counted");
            if index.is_multiple_of(2) { Hash::node(&hash, sibling) } else { Hash::node(sibling, &hash) }
        };
        parents.push(parent);
        next += 1;
    }
    parents
}
