//! The oracle for range proofs, and a tree whose stored nodes can be fetched.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this")]

pub mod rfc6962;

use std::collections::HashMap;

use logwood_merkle::{CompactRange, Hash, NodeId, ProofPlan, RangeProof, TreeHead, TreeSize};

use rfc6962::{mth, split};

/// The range proof of `[a, b)`: every subtree wholly outside, in order of index.
pub fn range_proof(a: usize, b: usize, d: &[Hash]) -> RangeProof {
    let mut out = RangeProof::default();
    outside(0, a, b, d, &mut out);
    out
}

fn outside(start: usize, a: usize, b: usize, d: &[Hash], out: &mut RangeProof) {
    if start + d.len() <= a {
        out.left.push(mth(d));
    } else if start >= b {
        out.right.push(mth(d));
    } else if d.len() > 1 {
        let (left, right) = d.split_at(split(d.len()));
        outside(start, a, b, left, out);
        outside(start + left.len(), a, b, right, out);
    }
}

/// A tree that remembers its perfect nodes, as a store would.
pub struct Tree {
    pub leaves: Vec<Hash>,
    pub range: CompactRange,
    nodes: HashMap<NodeId, Hash>,
}

impl Tree {
    pub fn new(size: u64) -> Self {
        let leaves: Vec<_> = (0..size).map(|i| Hash::leaf(&i.to_be_bytes())).collect();
        let (mut range, mut nodes) = (CompactRange::new(), HashMap::new());
        for &leaf in &leaves {
            range.append(leaf, |id, hash| assert!(nodes.insert(id, hash).is_none()));
        }
        Self { leaves, range, nodes }
    }

    pub fn head(&self) -> TreeHead {
        self.range.head()
    }

    pub fn size(&self) -> TreeSize {
        self.range.size()
    }

    pub fn fetch(&self, plan: &ProofPlan) -> Vec<Hash> {
        let fetched: Vec<_> = plan.nodes().iter().map(|id| self.nodes[id]).collect();
        let proof = plan.assemble(&fetched).unwrap();
        assert_eq!(proof.len(), plan.hash_count());
        proof
    }
}

/// `hash` with one bit flipped.
pub fn flip(hash: Hash) -> Hash {
    let mut bytes = *hash.as_bytes();
    bytes[17] ^= 4;
    Hash::from_bytes(bytes)
}

/// Every list that differs from `proof` by one flipped, missing, added or swapped hash.
pub fn corruptions(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut out = Vec::new();
    for at in 0..proof.len() {
        let mut flipped = proof.to_vec();
        flipped[at] = flip(flipped[at]);
        let mut missing = proof.to_vec();
        missing.remove(at);
        out.extend([flipped, missing]);
        if at > 0 {
            let mut swapped = proof.to_vec();
            swapped.swap(at - 1, at);
            out.push(swapped);
        }
    }
    for at in [0, proof.len()] {
        let mut added = proof.to_vec();
        added.insert(at, Hash::empty_root());
        out.push(added);
    }
    out
}
