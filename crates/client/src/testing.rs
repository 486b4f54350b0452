//! A small log in memory, honest, for tests to tamper with; and a clock that tests set.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use logwood_merkle::{CompactRange, Hash, LeafIndex, NodeId, ProofPlan, RangeProof, TreeHead, TreeSize, plan};
use logwood_note::{SigningKey, sign_checkpoint};
use logwood_proto::{hashes_to_bytes, v1};
use parking_lot::Mutex;

use crate::retry::{Sleep, Timing};
use crate::verify::signed_head;
use crate::{ClientError, VerifiedHead};

pub(crate) const ORIGIN: &str = "example.com/logs/audit";

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[seed; 32]).expect("a key name")
}

/// `entry 0`, `entry 1`, ...
pub(crate) fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|index| Hash::leaf(format!("entry {index}").as_bytes())).collect()
}

pub(crate) fn head_of(leaves: &[Hash]) -> TreeHead {
    let mut tree = CompactRange::new();
    for leaf in leaves {
        tree.append(*leaf, |_, _| ());
    }
    tree.head()
}

fn node(leaves: &[Hash], id: NodeId) -> Hash {
    let width = 1_usize << id.level;
    let first = usize::try_from(id.index).expect("a small tree") * width;
    head_of(&leaves[first..first + width]).root
}

fn assemble(plan: &ProofPlan, leaves: &[Hash]) -> Vec<Hash> {
    let nodes: Vec<_> = plan.nodes().iter().map(|id| node(leaves, *id)).collect();
    plan.assemble(&nodes).expect("every node of the plan")
}

pub(crate) fn consistency_proof(old: u64, leaves: &[Hash]) -> Vec<Hash> {
    assemble(&plan::consistency(TreeSize(old), head_of(leaves).size).expect("ordered sizes"), leaves)
}

pub(crate) fn multi_proof(indices: &[LeafIndex], leaves: &[Hash]) -> Vec<Hash> {
    assemble(&plan::multi(indices, head_of(leaves).size).expect("good indices"), leaves)
}

pub(crate) fn range_proof(first: u64, end: u64, leaves: &[Hash]) -> RangeProof {
    let plan = plan::range(first..end, head_of(leaves).size).expect("a range inside the tree");
    RangeProof { left: assemble(&plan.left, leaves), right: assemble(&plan.right, leaves) }
}

/// The head of `leaves`, signed, with the proof from size `known`.
pub(crate) fn signed(leaves: &[Hash], known: u64) -> v1::SignedTreeHead {
    let proof = if known == 0 { Vec::new() } else { consistency_proof(known, leaves) };
    v1::SignedTreeHead {
        checkpoint: Bytes::from(sign_checkpoint(&key(1), ORIGIN, &head_of(leaves))),
        consistency: hashes_to_bytes(&proof),
        level: v1::HeadLevel::Signed.into(),
        time_ms: 1_700_000_000_000,
        time_is_cosigned: false,
    }
}

/// `signed`, verified: a head of `leaves(size)`.
pub(crate) fn verified(size: u64) -> VerifiedHead {
    verify(signed(&leaves(size), 0)).expect("an honest head")
}

/// Another tree of that size, signed by the same key.
pub(crate) fn forked(size: u64) -> VerifiedHead {
    let mut leaves = leaves(size);
    leaves[0] = Hash::leaf(b"rewritten");
    verify(signed(&leaves, 0)).expect("signed")
}

fn verify(message: v1::SignedTreeHead) -> Result<VerifiedHead, ClientError> {
    signed_head(Some(message), key(1).verifier(), None, None)
}

/// A clock that stands still but for waits, which are over at once.
#[derive(Debug)]
pub(crate) struct TestTiming {
    random: u64,
    state: Mutex<(Instant, Vec<Duration>)>,
}

impl TestTiming {
    pub(crate) fn with_random(random: u64) -> Arc<Self> {
        Arc::new(Self { random, state: Mutex::new((Instant::now(), Vec::new())) })
    }

    /// The waits since the last look.
    pub(crate) fn take_waits(&self) -> Vec<Duration> {
        std::mem::take(&mut self.state.lock().1)
    }
}

impl Timing for TestTiming {
    fn now(&self) -> Instant {
        self.state.lock().0
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        let mut state = self.state.lock();
        state.0 += wait;
        state.1.push(wait);
        Box::pin(std::future::ready(()))
    }

    fn random(&self) -> u64 {
        self.random
    }
}
