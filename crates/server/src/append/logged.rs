//! What became of the entries of one call, in answers that are never too large.

use logwood_proto::{range_proof_to_message, v1};
use prost::Message as _;
use tonic::Status;

use crate::core::Core;
use crate::limits::HEAD_BYTES_MAX;
use crate::registry::{LogHandle, Shown};
use crate::status;

/// Most hashes on either side of a range proof: the height of a tree of 2^40 entries.
const SIDE_HASHES_MAX: usize = 40;

/// A hash in a message: 32 bytes, a tag and a length.
const HASH_BYTES: usize = 34;

/// What a run or an error has around it in an answer, and a run around its ids and its proof: tags and lengths.
const FRAMING_BYTES: usize = 32;

/// Where the entries are, under which head, and which were refused.
pub(super) struct Logged {
    /// `None`: there are no runs.
    pub(super) shown: Option<Shown>,
    pub(super) runs: Vec<v1::Run>,
    pub(super) errors: Vec<v1::EntryError>,
}

impl Logged {
    /// Cuts it into parts, each of which takes at most `bytes_max` in an answer; one element fits in any case.
    ///
    /// A repeat is answered where its first copy is. So thousands of repeats can be as many runs, each with a proof.
    pub(super) fn parts(self, bytes_max: usize, proofs: bool) -> Vec<Self> {
        let new = || Self { shown: self.shown.clone(), runs: Vec::new(), errors: Vec::new() };
        let (mut parts, mut bytes) = (vec![new()], HEAD_BYTES_MAX);
        let mut part_for = |cost: usize| {
            if bytes + cost > bytes_max && bytes > HEAD_BYTES_MAX {
                parts.push(new());
                bytes = HEAD_BYTES_MAX;
            }
            bytes += cost;
            parts.len() - 1
        };
        let runs: Vec<_> = self.runs.into_iter().map(|run| (part_for(run_bytes(&run, proofs)), run)).collect();
        let errors = self.errors.into_iter().map(|error| (part_for(error.encoded_len() + FRAMING_BYTES), error));
        let errors: Vec<_> = errors.collect();
        for (part, run) in runs {
            parts[part].runs.push(run);
        }
        for (part, error) in errors {
            parts[part].errors.push(error);
        }
        for part in &mut parts {
            part.shown = part.shown.take().filter(|_| !part.runs.is_empty());
        }
        parts
    }

    /// Gives each run its range proof, and returns the head of all of them.
    pub(super) fn prove(
        &mut self,
        core: &Core,
        log: &LogHandle,
        known_size: u64,
    ) -> Result<Option<v1::SignedTreeHead>, Status> {
        let Some(shown) = &self.shown else { return Ok(None) };
        let store = core.store()?;
        for run in &mut self.runs {
            let range = run.first_index..run.first_index + run.request_ids.len() as u64;
            let proof = core.shared.nodes.range(&*store, (log.number, shown.view()), range, shown.head.size);
            run.range_proof = Some(range_proof_to_message(&proof.map_err(status::node)?));
        }
        core.signed_head(log, shown, known_size).map(Some)
    }

    /// The message of a stream.
    pub(super) fn answer(
        mut self,
        core: &Core,
        log: &LogHandle,
        proofs: bool,
        known_size: u64,
    ) -> Result<v1::AppendStreamResponse, Status> {
        let head = match &self.shown {
            Some(shown) if !proofs => Some(core.signed_head(log, shown, known_size)?),
            _ => self.prove(core, log, known_size)?,
        };
        Ok(v1::AppendStreamResponse { head, runs: self.runs, errors: self.errors })
    }
}

/// The most that `run` can take in an answer.
fn run_bytes(run: &v1::Run, proofs: bool) -> usize {
    // The proof of one entry is its inclusion proof: left and right together are as many as the tree is high.
    let sides = if run.request_ids.len() == 1 { 1 } else { 2 };
    let proof = if proofs { sides * SIDE_HASHES_MAX * HASH_BYTES } else { 0 };
    run.encoded_len() + proof + FRAMING_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first_index: u64, entries: u64) -> v1::Run {
        v1::Run { first_index, request_ids: (0..entries).collect(), duplicate: true, range_proof: None }
    }

    /// As large as a proof can be.
    fn with_proof(run: v1::Run) -> v1::Run {
        let hashes = |count| vec![bytes::Bytes::from_static(&[0; 32]); count];
        let right = if run.request_ids.len() == 1 { Vec::new() } else { hashes(SIDE_HASHES_MAX) };
        v1::Run { range_proof: Some(v1::RangeProof { left: hashes(SIDE_HASHES_MAX), right }), ..run }
    }

    #[test]
    fn thousands_of_scattered_repeats_are_answered_in_parts_within_the_limit_and_in_order() {
        let runs: Vec<_> = (0..4_096).map(|i| run(u64::MAX - 2 * i, 1)).collect();
        let errors =
            (0..4_096).map(|i| v1::EntryError { request_id: i, message: "x".repeat(100), ..Default::default() });
        let logged = Logged { shown: None, runs: runs.clone(), errors: errors.collect() };
        let parts = logged.parts(256 * 1024, true);
        assert!(parts.len() > 20, "{}", parts.len());
        for part in &parts {
            let runs = part.runs.iter().cloned().map(with_proof).collect();
            let answer = v1::AppendStreamResponse { head: None, runs, errors: part.errors.clone() };
            assert!(answer.encoded_len() + HEAD_BYTES_MAX <= 256 * 1024, "{}", answer.encoded_len());
        }
        let again: Vec<_> = parts.iter().flat_map(|part| part.runs.clone()).collect();
        assert_eq!(again, runs);
        assert_eq!(parts.iter().map(|part| part.errors.len()).sum::<usize>(), 4_096);
    }

    #[test]
    fn one_run_is_one_part_and_so_is_nothing() {
        let logged = Logged { shown: None, runs: vec![run(0, 4_096)], errors: Vec::new() };
        assert_eq!(logged.parts(256 * 1024, true).len(), 1);
        let logged = Logged { shown: None, runs: Vec::new(), errors: Vec::new() };
        assert_eq!(logged.parts(256 * 1024, true).len(), 1);
    }

    #[test]
    fn a_batch_of_scattered_repeats_fits_an_answer() {
        let runs = (0..logwood_proto::BATCH_ENTRIES_MAX as u64).map(|i| with_proof(run(u64::MAX - 2 * i, 1)));
        let answer = v1::AppendBatchResponse { head: None, runs: runs.collect(), errors: Vec::new() };
        assert!(answer.encoded_len() + HEAD_BYTES_MAX <= logwood_proto::ANSWER_BYTES_MAX);
    }
}
