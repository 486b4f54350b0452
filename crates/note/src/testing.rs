//! What the tests of this crate share: fixed keys, a small tree, and the public test data.

#[path = "../../merkle/tests/common/rfc6962.rs"]
mod rfc6962;

use std::path::PathBuf;

use logwood_merkle::{Hash, LeafIndex, TreeHead, TreeSize};

use crate::checkpoint::sign_checkpoint;
use crate::key::SignatureType;
use crate::private_key::{CosigningKey, PrivateKey, SigningKey};
use crate::receipt::Receipt;

pub(crate) use rfc6962::{mth, path, proof};

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
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no test data at {}", path.display());
    eprintln!("skipped: no {}", path.display());
    None
}
