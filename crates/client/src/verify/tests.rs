//! Honest answers pass; every kind of tampering is told from a mere refusal.

use super::*;
use crate::testing::{ORIGIN, consistency_proof, head_of, key, leaves, multi_proof, range_proof, signed};
use logwood_note::sign_checkpoint;

fn judge(message: v1::SignedTreeHead, known: Option<&VerifiedHead>) -> Result<VerifiedHead, ClientError> {
    signed_head(Some(message), key(1).verifier(), known, None)
}

fn known(size: u64) -> VerifiedHead {
    judge(signed(&leaves(size), 0), None).expect("an honest head")
}

fn assert_tampering<T: std::fmt::Debug>(result: Result<T, ClientError>) {
    let error = result.expect_err("a tampered answer");
    assert!(error.is_tampering(), "{error}");
}

#[test]
fn honest_heads_extend_every_known_size() {
    for size in 1..20 {
        for old in 0..=size {
            let head = judge(signed(&leaves(size), old), Some(&known(old))).expect("an honest head");
            assert_eq!(head.head, head_of(&leaves(size)));
            assert_eq!((head.origin.as_str(), head.level), (ORIGIN, v1::HeadLevel::Signed));
        }
    }
}

#[test]
fn a_flipped_bit_of_the_checkpoint_is_tampering() {
    let honest = signed(&leaves(7), 3);
    for at in 0..honest.checkpoint.len() {
        let mut note = honest.checkpoint.to_vec();
        note[at] ^= 1;
        assert_tampering(judge(v1::SignedTreeHead { checkpoint: note.into(), ..honest.clone() }, Some(&known(3))));
    }
}

#[test]
fn a_head_of_another_key_or_none_is_tampering() {
    let note = sign_checkpoint(&key(2), ORIGIN, &head_of(&leaves(7)));
    assert_tampering(judge(v1::SignedTreeHead { checkpoint: note.into(), ..signed(&leaves(7), 0) }, None));
    assert_tampering(signed_head(None, key(1).verifier(), None, None));
}

#[test]
fn another_history_is_tampering_at_every_larger_or_equal_size() {
    let known = known(5);
    for size in 5..12 {
        let mut forked = leaves(size);
        forked[2] = Hash::leaf(b"rewritten");
        assert_tampering(judge(signed(&forked, 5), Some(&known)));
    }
}

#[test]
fn a_wrong_consistency_proof_is_tampering() {
    let honest = signed(&leaves(7), 3);
    for at in 0..honest.consistency.len() {
        let mut message = honest.clone();
        let mut hash = message.consistency[at].to_vec();
        hash[0] ^= 1;
        message.consistency[at] = hash.into();
        assert_tampering(judge(message, Some(&known(3))));
    }
    let mut short = honest.clone();
    short.consistency.pop();
    assert_tampering(judge(short, Some(&known(3))));
    let mut odd = honest.clone();
    odd.consistency[0] = Bytes::from_static(b"not 32 bytes");
    assert_tampering(judge(odd, Some(&known(3))));
    let mut long = honest;
    long.consistency.push(Bytes::from_static(&[0; 32]));
    assert_tampering(judge(long, Some(&known(3))));
}

#[test]
fn a_smaller_head_is_refused_but_proves_nothing() {
    let error = judge(signed(&leaves(3), 0), Some(&known(5))).expect_err("a smaller head");
    assert!(matches!(error, ClientError::Behind { size: 3, known_size: 5 }), "{error}");
}

#[test]
fn the_same_note_again_is_accepted_and_a_second_tree_of_its_size_is_not() {
    let latest = known(5);
    let again = v1::SignedTreeHead { consistency: Vec::new(), ..signed(&leaves(5), 0) };
    let head = signed_head(Some(again), key(1).verifier(), Some(&known(3)), Some(&latest));
    assert_eq!(head.expect("verified before").head, latest.head);

    let mut forked = leaves(5);
    forked[0] = Hash::leaf(b"rewritten");
    let other = judge(signed(&forked, 0), None).expect("signed");
    assert_tampering(same_tree(&latest, &other));
    same_tree(&latest, &known(4)).expect("sizes differ");
}

#[test]
fn both_verifiers_accept_honest_multiproofs_and_refuse_tampered_ones() {
    for size in 1..18 {
        let tree = leaves(size);
        let head = head_of(&tree);
        for step in 1..4 {
            let indices: Vec<_> = (0..size).step_by(step).map(LeafIndex).collect();
            let pairs: Vec<_> = indices.iter().map(|&i| (i, tree[usize::try_from(i.0).expect("small")])).collect();
            let proof = multi_proof(&indices, &tree);
            multiproof(&pairs, &head, &proof).expect("an honest multiproof");

            let mut wrong = pairs.clone();
            wrong[0].1 = Hash::leaf(b"rewritten");
            assert_tampering(multiproof(&wrong, &head, &proof));
            let mut long = proof.clone();
            long.push(Hash::leaf(b"trailing"));
            assert_tampering(multiproof(&pairs, &head, &long));
            let doubled: Vec<_> = [pairs[0]].into_iter().chain(pairs.clone()).collect();
            assert_tampering(multiproof(&doubled, &head, &proof));
        }
    }
}

#[test]
fn a_run_with_another_entry_is_tampering() {
    let tree = leaves(7);
    let head = head_of(&tree);
    let proof = range_proof(2, 5, &tree);
    run(LeafIndex(2), &tree[2..5], &head, &proof).expect("an honest run");
    assert_tampering(run(LeafIndex(1), &tree[2..5], &head, &proof));
    assert_tampering(run(LeafIndex(2), &tree[2..4], &head, &proof));
    assert_tampering(inclusion(tree[3], LeafIndex(2), &head, &consistency_proof(2, &tree)));
}
