//! What a load sends, and how its answers are checked.

use std::collections::VecDeque;
use std::sync::Mutex;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex, TreeHead, range};
use logwood_note::{Checkpoint, VerifierKey};
use logwood_proto::{range_proof, v1};

use crate::failure::VerificationFailed;

/// Entries are slices of so many random bytes.
const POOL_BYTES: u32 = 1 << 20;

/// Longest entry in bytes.
const ENTRY_BYTES_MAX: u32 = 65_535;

/// Heads that are remembered as verified: answers of a few rounds cross each other, not of many.
const HEADS_MAX: usize = 16;

/// Entries and identities to send.
pub(super) struct Load {
    pub(super) log: String,
    pub(super) checker: Checker,
    entry_bytes: u32,
    /// Makes the identities of this run different from every other's. `None`: no identities.
    run_id: Option<[u8; 16]>,
    pool: Bytes,
}

impl Load {
    pub(super) fn new(log: String, entry_bytes: u32, identities: bool, checker: Checker) -> anyhow::Result<Self> {
        let mut pool = vec![0; (POOL_BYTES + ENTRY_BYTES_MAX) as usize];
        getrandom::fill(&mut pool).context("no random bytes")?;
        let mut run_id = [0; 16];
        getrandom::fill(&mut run_id).context("no random bytes")?;
        Ok(Self { log, checker, entry_bytes, run_id: identities.then_some(run_id), pool: pool.into() })
    }

    /// The `n`th entry of a worker; always the same bytes.
    pub(super) fn entry(&self, worker: u32, n: u64) -> Bytes {
        let at = u64::from(worker).wrapping_mul(65_537).wrapping_add(n.wrapping_mul(7_919)) % u64::from(POOL_BYTES);
        let at = usize::try_from(at).expect("the pool is in memory");
        self.pool.slice(at..at + self.entry_bytes as usize)
    }

    /// The identity of that entry, if entries have one.
    pub(super) fn identity(&self, worker: u32, n: u64) -> Option<Bytes> {
        let run_id = self.run_id?;
        Some([&run_id[..], &worker.to_be_bytes(), &n.to_be_bytes()].concat().into())
    }
}

/// Checks answers under one key.
pub(super) struct Checker {
    key: VerifierKey,
    /// Checkpoints whose signature verified, the newest last.
    heads: Mutex<VecDeque<(Bytes, TreeHead)>>,
}

impl Checker {
    pub(super) fn new(key: VerifierKey) -> Self {
        Self { key, heads: Mutex::default() }
    }

    /// The head of an answer. Its signature is judged once, however many answers hold it.
    pub(super) fn head(&self, head: Option<v1::SignedTreeHead>) -> anyhow::Result<TreeHead> {
        let note = head.context("an answer has no head")?.checkpoint;
        let mut heads = self.heads.lock().expect("nobody panics with the lock held");
        if let Some((_, head)) = heads.iter().rev().find(|(seen, _)| *seen == note) {
            return Ok(*head);
        }
        let head = Checkpoint::open(&note, &self.key, None).map_err(|error| VerificationFailed::new(&error))?.head;
        if heads.len() == HEADS_MAX {
            heads.pop_front();
        }
        heads.push_back((note, head));
        Ok(head)
    }
}

/// Checks that the entries of a run, given by their leaf hashes, are under `head`.
pub(super) fn check_run(head: &TreeHead, run: &v1::Run, leaves: &[Hash]) -> anyhow::Result<()> {
    ensure!(!run.duplicate, "entries that were never sent before are called duplicates");
    let proof = run.range_proof.as_ref().context("a run has no range proof")?;
    range::verify(LeafIndex(run.first_index), leaves, head, &range_proof(proof)?)
        .map_err(|error| VerificationFailed::new(&error).into())
}

/// The first error of single entries ends a load: the figures of one that is refused mean nothing.
pub(super) fn check_errors(errors: &[v1::EntryError]) -> anyhow::Result<()> {
    match errors.first() {
        None => Ok(()),
        Some(error) => anyhow::bail!("entry {} was refused: {}", error.request_id, error.message),
    }
}
