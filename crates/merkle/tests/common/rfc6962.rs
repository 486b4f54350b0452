//! The recursions of RFC 6962 §2.1, transcribed: what all tests of all crates hold trees and proofs against.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use logwood_merkle::Hash;

/// The largest power of two smaller than `n > 1` (RFC 6962 §2.1).
pub fn split(n: usize) -> usize {
    1 << (n - 1).ilog2()
}

/// `MTH(D[n])` over leaf hashes (RFC 6962 §2.1).
pub fn mth(d: &[Hash]) -> Hash {
    match d.len() {
        0 => Hash::empty_root(),
        1 => d[0],
        n => Hash::node(&mth(&d[..split(n)]), &mth(&d[split(n)..])),
    }
}

/// `PATH(m, D[n])` (RFC 6962 §2.1.1).
pub fn path(m: usize, d: &[Hash]) -> Vec<Hash> {
    if d.len() == 1 {
        return vec![];
    }
    let (left, right) = d.split_at(split(d.len()));
    let (mut proof, last) =
        if m < left.len() { (path(m, left), mth(right)) } else { (path(m - left.len(), right), mth(left)) };
    proof.push(last);
    proof
}

/// `PROOF(m, D[n])` (RFC 6962 §2.1.2).
pub fn proof(m: usize, d: &[Hash]) -> Vec<Hash> {
    subproof(m, d, true)
}

fn subproof(m: usize, d: &[Hash], whole: bool) -> Vec<Hash> {
    if m == d.len() {
        return if whole { vec![] } else { vec![mth(d)] };
    }
    let (left, right) = d.split_at(split(d.len()));
    let (mut proof, last) = if m <= left.len() {
        (subproof(m, left, whole), mth(right))
    } else {
        (subproof(m - left.len(), right, false), mth(left))
    };
    proof.push(last);
    proof
}
