//! What a server says of its entries: every run of entries of a forked tree, beside those of the known history, and every
//! way to spoil it. No claim makes an honest log look like two.

mod common;

use common::{FORK, SIZE_MAX, checkpoint, inclusion, leaves, log_key, policy, range_proof};
use logwood_merkle::{Hash, LeafIndex};
use logwood_monitor::claim::Claim;
use logwood_monitor::follow::SignedHead;
use logwood_note::{Evidence, Receipt};

fn signed(branch: bool, size: u64) -> SignedHead {
    SignedHead::open(checkpoint(branch, size).as_bytes(), &policy(), None, 1_000).expect("the log signed it")
}

/// What a server of `branch` at `size` says of the entries from `first` up to `end`, and their leaf hashes.
fn claim(branch: bool, (first, end): (u64, u64), size: u64) -> (Claim, Vec<Hash>) {
    let note = checkpoint(branch, size).as_bytes().to_vec().into();
    let own: Vec<_> = (first..end).map(|index| leaves(branch, size)[usize::try_from(index).expect("small")]).collect();
    (Claim { note, first, count: own.len(), proof: range_proof(branch, first..end, size) }, own)
}

#[test]
fn every_other_entry_that_a_forked_head_vouches_for_is_proved() {
    let known = signed(false, SIZE_MAX);
    for size in FORK + 1..=SIZE_MAX {
        let head = signed(true, size);
        for first in 0..size {
            for end in first + 1..=size {
                let (claim, own) = claim(true, (first, end), size);
                let honest = &leaves(false, SIZE_MAX)[usize::try_from(first).expect("small")..];
                let difference = claim.difference(first, &own, honest);
                let index = first.max(FORK);
                assert_eq!(difference.map(|(at, ..)| at), (index < end).then_some(index), "{first} {end} {size}");
                let Some((index, own_leaf, leaf)) = difference else { continue };
                let receipt = claim.receipt(index, (first, &own), &head).expect("the claim is true");
                let proof = inclusion(false, index, SIZE_MAX);
                let honest = Receipt { extra: None, index: LeafIndex(index), proof, checkpoint: known.note.to_vec() };
                let (first, second) = (honest.to_bytes(), receipt.to_bytes());
                let swap = Evidence::Swap { first, first_leaf: leaf, second, second_leaf: own_leaf };
                assert!(swap.judge(&[log_key().verifier().clone()], None).is_ok(), "{index} of {size}");
            }
        }
    }
}

#[test]
fn entries_that_the_head_does_not_vouch_for_have_no_receipt() {
    for size in 1..=SIZE_MAX {
        let head = signed(false, size);
        for first in 0..size {
            let (good, own) = claim(false, (first, size), size);
            assert!(good.receipt(first, (first, &own), &head).is_some());
            assert_eq!(good.receipt(size, (first, &own), &head), None, "another entry");
            assert_eq!(good.receipt(first, (first + 1, &own), &head), None, "leaves that begin later");
            let mut spoilt = own.clone();
            spoilt[0] = Hash::leaf(b"spoilt");
            assert_eq!(good.receipt(first, (first, &spoilt), &head), None, "another leaf");
            let longer = Claim { count: good.count + 1, ..good.clone() };
            assert_eq!(longer.receipt(first, (first, &own), &head), None, "more than there are");
            for at in 0..good.proof.left.len() {
                let mut spoilt = good.clone();
                spoilt.proof.left[at] = Hash::leaf(b"spoilt");
                assert_eq!(spoilt.receipt(first, (first, &own), &head), None, "another hash beside them");
            }
        }
    }
}
