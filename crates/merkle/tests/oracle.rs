//! Every proof against the RFC's own recursion: exhaustively to 64 leaves, then by chance.

mod common;

use common::rfc6962::{mth, path, proof};
use common::{Tree, corruptions, flip, range_proof};
use logwood_merkle::{
    CompactRange, Hash, LeafIndex, ProofError, RangeProof, TreeHead, TreeSize, multi, plan, range, verify,
};
use proptest::prelude::*;
use rs_merkle::{Hasher, MerkleProof, MerkleTree};

/// `rs_merkle` has no prefixes of its own: they are our concern.
#[derive(Clone)]
struct Rfc6962;

impl Hasher for Rfc6962 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        *Hash::leaf(data).as_bytes()
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        right.map_or(*left, |right| *Hash::node(&(*left).into(), &(*right).into()).as_bytes())
    }
}

fn second_opinion(leaves: &[Hash]) -> MerkleTree<Rfc6962> {
    MerkleTree::from_leaves(&leaves.iter().map(|leaf| *leaf.as_bytes()).collect::<Vec<_>>())
}

fn bad_head(head: TreeHead) -> TreeHead {
    TreeHead { root: flip(head.root), ..head }
}

#[test]
fn classic_certificate_transparency_tree() {
    let entries: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let mut tree = CompactRange::new();
    let mut roots = vec![tree.root().to_string()];
    for entry in entries {
        tree.append(Hash::leaf(entry), |_, _| {});
        roots.push(tree.root().to_string());
    }
    assert_eq!(roots[0], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(roots[1], "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    assert_eq!(roots[8], "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
}

#[test]
fn every_tree_to_64() {
    for n in 0..=64 {
        let tree = Tree::new(n);
        assert_eq!(tree.head().root, mth(&tree.leaves), "root at {n}");
        assert_eq!(tree.fetch(&plan::root(TreeSize(n))), [tree.head().root]);
        if n > 0 {
            let root = second_opinion(&tree.leaves).root().map(Hash::from);
            assert_eq!(root, Some(tree.head().root), "rs_merkle's root at {n}");
        }
    }
}

#[test]
fn every_inclusion_proof_to_64() {
    for n in 1..=64 {
        let tree = Tree::new(n);
        let head = tree.head();
        for (index, &leaf) in (0..).zip(&tree.leaves) {
            let id = LeafIndex(index);
            let proof = tree.fetch(&plan::inclusion(id, head.size).unwrap());
            assert_eq!(proof, path(usize::try_from(index).unwrap(), &tree.leaves), "{index} of {n}");
            assert_eq!(verify::inclusion(leaf, id, &head, &proof), Ok(()));
            assert!(verify::inclusion(flip(leaf), id, &head, &proof).is_err());
            assert!(verify::inclusion(leaf, id, &bad_head(head), &proof).is_err());
            for bad in corruptions(&proof) {
                assert!(verify::inclusion(leaf, id, &head, &bad).is_err(), "{index} of {n}");
            }
            for other in (0..n + 2).filter(|&other| other != index) {
                assert!(verify::inclusion(leaf, LeafIndex(other), &head, &proof).is_err());
            }
        }
        assert!(plan::inclusion(LeafIndex(n), head.size).is_err());
    }
}

#[test]
fn every_consistency_proof_to_64() {
    let heads: Vec<_> = (0..=64).map(|n| Tree::new(n).head()).collect();
    for (n, new) in heads.iter().enumerate().skip(1) {
        let tree = Tree::new(n as u64);
        for (m, old) in heads.iter().enumerate().take(n + 1).skip(1) {
            let consistency = tree.fetch(&plan::consistency(old.size, new.size).unwrap());
            assert_eq!(consistency, proof(m, &tree.leaves), "{m} to {n}");
            assert_eq!(verify::consistency(old, new, &consistency), Ok(()), "{m} to {n}");
            assert!(verify::consistency(&bad_head(*old), new, &consistency).is_err());
            assert!(verify::consistency(old, &bad_head(*new), &consistency).is_err());
            for bad in corruptions(&consistency) {
                assert!(verify::consistency(old, new, &bad).is_err(), "{m} to {n}");
            }
            if m < n {
                let (old, new) = (TreeHead { root: new.root, ..*old }, TreeHead { root: old.root, ..*new });
                assert!(verify::consistency(&old, &new, &consistency).is_err(), "swapped roots");
                let backwards = ProofError::SizeWentBackwards { old: new.size, new: old.size };
                assert_eq!(verify::consistency(&new, &old, &consistency), Err(backwards));
            }
        }
        let empty = TreeHead::empty();
        assert_eq!(verify::consistency(&empty, new, &[]), Err(ProofError::EmptyTree));
        assert_eq!(plan::consistency(empty.size, new.size), Err(ProofError::EmptyTree));
    }
}

#[test]
fn every_range_proof_to_64() {
    for n in 1..=64_usize {
        let tree = Tree::new(n as u64);
        let head = tree.head();
        let paths: Vec<_> = (0..n).map(|index| path(index, &tree.leaves)).collect();
        for a in 0..n {
            for b in a + 1..=n {
                let planned = plan::range(a as u64..b as u64, head.size).unwrap();
                let proof = RangeProof { left: tree.fetch(&planned.left), right: tree.fetch(&planned.right) };
                assert_eq!(proof, range_proof(a, b, &tree.leaves), "[{a}, {b}) of {n}");
                assert_eq!(proof.right.len(), right_count(b as u64, n as u64));
                let (first, leaves) = (LeafIndex(a as u64), &tree.leaves[a..b]);
                assert_eq!(range::verify(first, leaves, &head, &proof), Ok(()), "[{a}, {b}) of {n}");
                let derived = range::inclusion_proofs(first, leaves, &head, &proof).unwrap();
                assert_eq!(derived, paths[a..b], "[{a}, {b}) of {n}");
                refuses_corrupted_range(first, leaves, &head, &proof);
            }
        }
    }
}

/// Zero bits among the low k bits of i = b-1, k the bit length of i xor (n-1).
fn right_count(b: u64, n: u64) -> usize {
    let i = b - 1;
    let k = 64 - (i ^ (n - 1)).leading_zeros();
    (0..k).filter(|bit| i >> bit & 1 == 0).count()
}

fn refuses_corrupted_range(first: LeafIndex, leaves: &[Hash], head: &TreeHead, proof: &RangeProof) {
    let refused = |first, leaves: &[Hash], head: &TreeHead, proof: &RangeProof| {
        assert!(range::verify(first, leaves, head, proof).is_err());
        assert!(range::inclusion_proofs(first, leaves, head, proof).is_err());
    };
    for left in corruptions(&proof.left) {
        refused(first, leaves, head, &RangeProof { left, right: proof.right.clone() });
    }
    for right in corruptions(&proof.right) {
        refused(first, leaves, head, &RangeProof { left: proof.left.clone(), right });
    }
    for bad in corruptions(leaves) {
        refused(first, &bad, head, proof);
    }
    refused(first, leaves, &bad_head(*head), proof);
    refused(LeafIndex(first.0 + 1), leaves, head, proof);
    refused(LeafIndex(u64::MAX), leaves, head, proof);
    refused(first, &[], head, proof);
}

fn check_multi(tree: &Tree, other: &MerkleTree<Rfc6962>, indices: &[u64], corrupt: bool) {
    let head = tree.head();
    let at = |&index: &u64| usize::try_from(index).unwrap();
    let ids: Vec<_> = indices.iter().map(|&index| LeafIndex(index)).collect();
    let leaves: Vec<_> = indices.iter().map(|i| (LeafIndex(*i), tree.leaves[at(i)])).collect();
    let proof = tree.fetch(&plan::multi(&ids, head.size).unwrap());

    let theirs = other.proof(&indices.iter().map(at).collect::<Vec<_>>());
    let theirs: Vec<_> = theirs.proof_hashes().iter().copied().map(Hash::from).collect();
    assert_eq!(proof, theirs, "{indices:?} of {}", head.size);
    assert_eq!(multi::verify(&leaves, &head, &proof), Ok(()));
    let ours = MerkleProof::<Rfc6962>::new(proof.iter().map(|hash| *hash.as_bytes()).collect());
    let hashes: Vec<_> = leaves.iter().map(|leaf| *leaf.1.as_bytes()).collect();
    let positions: Vec<_> = indices.iter().map(at).collect();
    assert!(ours.verify(*head.root.as_bytes(), &positions, &hashes, tree.leaves.len()));
    if !corrupt {
        return;
    }
    for bad in corruptions(&proof) {
        assert!(multi::verify(&leaves, &head, &bad).is_err());
    }
    for at in 0..leaves.len() {
        let mut bad = leaves.clone();
        bad[at].1 = flip(bad[at].1);
        assert!(multi::verify(&bad, &head, &proof).is_err());
        let mut repeated = leaves.clone();
        repeated.insert(at, leaves[at]);
        let refused = multi::verify(&repeated, &head, &proof);
        assert!(matches!(refused, Err(ProofError::IndicesNotIncreasing { .. })));
    }
    assert!(multi::verify(&leaves, &bad_head(head), &proof).is_err());
    assert_eq!(multi::verify(&[], &head, &proof), Err(ProofError::NoIndices));
}

#[test]
fn multiproofs_of_every_subset_to_9_and_every_pair_to_64() {
    for n in 1..=9_u64 {
        let tree = Tree::new(n);
        let other = second_opinion(&tree.leaves);
        for subset in 1..1_u64 << n {
            let indices: Vec<_> = (0..n).filter(|bit| subset >> bit & 1 == 1).collect();
            check_multi(&tree, &other, &indices, true);
        }
    }
    for n in 10..=64 {
        let tree = Tree::new(n);
        let other = second_opinion(&tree.leaves);
        for a in 0..n {
            check_multi(&tree, &other, &[a], true);
            (a + 1..n).for_each(|b| check_multi(&tree, &other, &[a, b], true));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn trees_to_100_000(n in 1..=100_000_u64, a: prop::sample::Index, b: prop::sample::Index,
                        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..50)) {
        let tree = Tree::new(n);
        let head = tree.head();
        let size = tree.leaves.len();
        let (a, b) = (a.index(size), b.index(size));
        let (a, b) = (a.min(b), a.max(b) + 1);
        prop_assert_eq!(head.root, mth(&tree.leaves));

        let id = LeafIndex(a as u64);
        let inclusion = tree.fetch(&plan::inclusion(id, head.size).unwrap());
        prop_assert_eq!(&inclusion, &path(a, &tree.leaves));
        prop_assert_eq!(verify::inclusion(tree.leaves[a], id, &head, &inclusion), Ok(()));

        let old = TreeHead { size: TreeSize(b as u64), root: mth(&tree.leaves[..b]) };
        let consistency = tree.fetch(&plan::consistency(old.size, head.size).unwrap());
        prop_assert_eq!(&consistency, &proof(b, &tree.leaves));
        prop_assert_eq!(verify::consistency(&old, &head, &consistency), Ok(()));

        let planned = plan::range(a as u64..b as u64, head.size).unwrap();
        let proof = RangeProof { left: tree.fetch(&planned.left), right: tree.fetch(&planned.right) };
        prop_assert_eq!(&proof, &range_proof(a, b, &tree.leaves));
        let leaves = &tree.leaves[a..b];
        prop_assert_eq!(range::verify(id, leaves, &head, &proof), Ok(()));
        prop_assert_eq!(range::inclusion_proof(id, leaves, &head, &proof, id), Ok(inclusion));

        let picks: std::collections::BTreeSet<_> = picks.iter().map(|p| p.index(size) as u64).collect();
        check_multi(&tree, &second_opinion(&tree.leaves), &picks.into_iter().collect::<Vec<_>>(), false);
    }
}

#[test]
fn sizes_near_2_to_the_32_and_63_and_64_do_not_overflow() {
    for size in [1 << 32, 1 << 63, u64::MAX].into_iter().flat_map(|n: u64| [n - 1, n, n.saturating_add(1)]) {
        let head = TreeHead { size: TreeSize(size), root: Hash::default() };
        for index in [0, 1, size / 2, size - 2, size - 1].map(LeafIndex) {
            let inclusion = plan::inclusion(index, head.size).unwrap();
            assert!(inclusion.nodes().iter().all(|node| node.is_complete(head.size)));
            let proof = vec![Hash::default(); inclusion.hash_count()];
            let refused = verify::inclusion(Hash::default(), index, &head, &proof);
            assert!(matches!(refused, Err(ProofError::RootMismatch { .. })), "{index} of {size}");

            let old = TreeHead { size: TreeSize(index.0.max(1)), ..head };
            let consistency = plan::consistency(old.size, head.size).unwrap();
            let proof = vec![Hash::default(); consistency.hash_count()];
            assert!(verify::consistency(&old, &head, &proof).is_err());

            let planned = plan::range(index.0..index.0 + 1, head.size).unwrap();
            assert_eq!(planned.right.hash_count(), right_count(index.0 + 1, size));
            let proof = RangeProof {
                left: vec![Hash::default(); planned.left.hash_count()],
                right: vec![Hash::default(); planned.right.hash_count()],
            };
            let refused = range::verify(index, &[Hash::default()], &head, &proof);
            assert!(matches!(refused, Err(ProofError::RootMismatch { .. })), "{index} of {size}");
            let refused = range::inclusion_proofs(index, &[Hash::default()], &head, &proof);
            assert!(matches!(refused, Err(ProofError::RootMismatch { .. })), "{index} of {size}");

            let multiproof = plan::multi(&[index], head.size).unwrap();
            assert_eq!(multiproof.nodes(), inclusion.nodes(), "a multiproof of one is a path");
        }
        assert_eq!(plan::root(head.size).nodes().len(), size.count_ones() as usize);
    }
}
