//! What the tests of this crate share: fixed keys, a small tree, and the public test data.

use std::path::PathBuf;

use logwood_merkle::{Hash, LeafIndex, TreeHead, TreeSize};

use crate::checkpoint::sign_checkpoint;
use crate::key::SignatureType;
use crate::private_key::{CosigningKey, PrivateKey, SigningKey};
use crate::receipt::Receipt;

/// The log of most tests.
pub(crate) const ORIGIN: &str = "log.example/logs/audit";

/// The key called `name` with a seed of one repeated byte.
pub(crate) fn key(name: &str, seed: u8) -> SigningKey {
    SigningKey::from_seed(name, &[seed; 32]).expect("a key name")
}

/// The cosigner called `name` with a seed of one repeated byte.
pub(crate) fn cosigner(name: &str, kind: SignatureType, seed: u8) -> CosigningKey {
    let key = PrivateKey::from_seed(name, kind, &[seed; 32]).expect("a key name");
    key.try_into().expect("a type that cosigns")
}

/// `entry 0`, `entry 1`, ...
pub(crate) fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

/// Leaf hashes of the first `size` entries.
pub(crate) fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|index| Hash::leaf(&entry(index))).collect()
}

/// Head of the tree of the first `size` entries.
pub(crate) fn head(size: u64) -> TreeHead {
    TreeHead { size: TreeSize(size), root: mth(&leaves(size)) }
}

/// RFC 6962 §2.1, as written there.
pub(crate) fn mth(d: &[Hash]) -> Hash {
    match d.len() {
        0 => Hash::empty_root(),
        1 => d[0],
        n => Hash::node(&mth(&d[..split(n)]), &mth(&d[split(n)..])),
    }
}

/// RFC 6962 §2.1.1, as written there.
pub(crate) fn path(m: usize, d: &[Hash]) -> Vec<Hash> {
    let n = d.len();
    if n == 1 {
        return Vec::new();
    }
    let k = split(n);
    let (mut path, sibling) =
        if m < k { (path(m, &d[..k]), mth(&d[k..])) } else { (path(m - k, &d[k..]), mth(&d[..k])) };
    path.push(sibling);
    path
}

/// RFC 6962 §2.1.2, as written there: `PROOF(m, D[n])`.
pub(crate) fn proof(m: usize, d: &[Hash]) -> Vec<Hash> {
    subproof(m, d, true)
}

fn subproof(m: usize, d: &[Hash], is_whole: bool) -> Vec<Hash> {
    let n = d.len();
    if m == n {
        return if is_whole { Vec::new() } else { vec![mth(d)] };
    }
    let k = split(n);
    let (mut proof, sibling) = if m <= k {
        (subproof(m, &d[..k], is_whole), mth(&d[k..]))
    } else {
        (subproof(m - k, &d[k..], false), mth(&d[..k]))
    };
    proof.push(sibling);
    proof
}

/// Largest power of two smaller than `n`.
fn split(n: usize) -> usize {
    1 << (n - 1).ilog2()
}

/// A good receipt for `entry(index)` in the tree of `size`, signed with `key(ORIGIN, 1)`.
pub(crate) fn receipt(index: u64, size: u64) -> Receipt {
    let at = usize::try_from(index).expect("a small tree");
    Receipt {
        extra: None,
        index: LeafIndex(index),
        proof: path(at, &leaves(size)),
        checkpoint: sign_checkpoint(&key(ORIGIN, 1), ORIGIN, &head(size)),
    }
}

/// A directory of the public test data; `None`, with a word about it, where it is not.
pub(crate) fn shared(directory: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let root = std::env::var_os("LOGWOOD_SHARED").unwrap_or_else(|| default.into());
    let path = PathBuf::from(root).join(directory);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: no {}", path.display());
    None
}
