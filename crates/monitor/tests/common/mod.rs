//! What the tests of this crate share: a log that forks, and a disk that fails.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

pub mod disk;
#[path = "../../../merkle/tests/common/rfc6962.rs"]
mod rfc6962;

use std::ops::Range;

use logwood_merkle::{Hash, NodeId, ProofPlan, RangeProof, TreeHead, TreeSize, plan};
use logwood_note::{AddCheckpoint, CosigningKey, Policy, PrivateKey, SignatureType, SignedNote, SigningKey};
use logwood_note::{VerifierKey, sign_checkpoint};

/// The log of most tests.
pub const ORIGIN: &str = "log.example/logs/audit";

/// SHA-256 of [`ORIGIN`], as `sha256sum` has it.
pub const ORIGIN_PATH: &str = "297f5638152d3d684b75504a43361009a096a50373e578e39867c8bdc2a24bb6";

/// Both branches of the log have the same entries before this one.
pub const FORK: u64 = 5;

/// Most entries of a branch.
pub const SIZE_MAX: u64 = 24;

/// The leaf hashes of a branch.
pub fn leaves(branch: bool, size: u64) -> Vec<Hash> {
    (0..size).map(|index| Hash::leaf(format!("{} {index}", branch && index >= FORK).as_bytes())).collect()
}

/// The head of a branch at `size`.
pub fn head(branch: bool, size: u64) -> TreeHead {
    TreeHead { size: TreeSize(size), root: rfc6962::mth(&leaves(branch, size)) }
}

/// The proof that a branch at `new` extends itself at `old`; empty from 0.
pub fn proof(branch: bool, old: u64, new: u64) -> Vec<Hash> {
    if old == 0 || old > new {
        return Vec::new();
    }
    let old = usize::try_from(old).expect("a small tree");
    rfc6962::proof(old, &leaves(branch, new))
}

/// The RFC 6962 inclusion proof of a leaf of a branch at `size`.
pub fn inclusion(branch: bool, index: u64, size: u64) -> Vec<Hash> {
    rfc6962::path(usize::try_from(index).expect("a small tree"), &leaves(branch, size))
}

/// The range proof of some leaves of a branch at `size`.
pub fn range_proof(branch: bool, range: Range<u64>, size: u64) -> RangeProof {
    let plan = plan::range(range, TreeSize(size)).expect("in the tree");
    let leaves = leaves(branch, size);
    let hashes = |plan: &ProofPlan| {
        let covered = |node: &NodeId| (node.index << node.level)..((node.index + 1) << node.level);
        let usize_of = |at: u64| usize::try_from(at).expect("a small tree");
        let nodes = plan.nodes().iter().map(covered);
        let nodes: Vec<_> = nodes.map(|leaf| rfc6962::mth(&leaves[usize_of(leaf.start)..usize_of(leaf.end)])).collect();
        plan.assemble(&nodes).expect("one hash for each node")
    };
    RangeProof { left: hashes(&plan.left), right: hashes(&plan.right) }
}

pub fn log_key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[1; 32]).expect("a key name")
}

pub fn checkpoint(branch: bool, size: u64) -> SignedNote {
    SignedNote::parse(&sign_checkpoint(&log_key(), ORIGIN, &head(branch, size))).expect("a note")
}

/// A request with the right proof.
pub fn request(branch: bool, old: u64, new: u64) -> Vec<u8> {
    let proof = proof(branch, old, new);
    AddCheckpoint { old_size: TreeSize(old), proof, checkpoint: checkpoint(branch, new) }.to_body()
}

pub fn cosigner(name: &str, kind: SignatureType, seed: u8) -> CosigningKey {
    let key = PrivateKey::from_seed(name, kind, &[seed; 32]).expect("a key name");
    key.try_into().expect("a type that cosigns")
}

/// One key of each type, as a witness has them.
pub fn keys() -> Vec<CosigningKey> {
    let name = "witness.example/w";
    vec![cosigner(name, SignatureType::Ed25519Cosignature, 2), cosigner(name, SignatureType::MlDsa44Cosignature, 3)]
}

pub fn policy_of(keys: &[&VerifierKey]) -> Policy {
    let lines = keys.iter().map(|key| format!("log {key}\n")).collect::<Vec<_>>().concat();
    Policy::parse(format!("{lines}quorum none\n").as_bytes()).expect("a policy")
}

pub fn policy() -> Policy {
    policy_of(&[log_key().verifier()])
}
