//! Appending: every entry comes back with a receipt that was verified against the entry itself.

use std::time::Duration;

use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex};
use logwood_note::Receipt;
use logwood_proto::{hashes, range_proof, v1};

use crate::client::{Store, size_of};
use crate::verify::{inclusion, run};
use crate::{Client, ClientError, VerifiedHead};

/// Attempts at one append, the first included.
const ATTEMPTS_MAX: u32 = 8;

/// Wait before the second attempt; it doubles from there on.
const BACK_OFF_FIRST: Duration = Duration::from_millis(50);

/// Longest wait between two attempts.
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// Bytes of an identity that the client makes up.
const IDENTITY_BYTES: usize = 16;

/// An entry to append.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// 1 to 65,535 bytes.
    pub bytes: Bytes,
    /// 1 to 128 bytes that make a retried entry the same entry. `None`: made up, good for the retries of this call.
    pub identity: Option<Bytes>,
}

/// An entry that is in the log, and the proof.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Where it is.
    pub index: LeafIndex,
    /// It was there before this call.
    pub duplicate: bool,
    /// Verified; good for ever and offline.
    pub receipt: Receipt,
    /// The head of the receipt.
    pub head: VerifiedHead,
}

/// Why one entry of a batch is not in the log.
#[derive(Clone, Debug)]
pub struct EntryRefused {
    /// The gRPC code.
    pub code: tonic::Code,
    /// The server's words.
    pub message: String,
    /// With [`tonic::Code::AlreadyExists`]: the index of the other entry that has the identity.
    pub index: Option<u64>,
}

impl Client {
    /// Appends `entry`, 1 to 65,535 bytes, and verifies its receipt.
    ///
    /// * `identity` - as [`NewEntry::identity`].
    ///
    /// Transient errors are retried with the same identity, for some seconds.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if the receipt does not verify.
    /// * [`ClientError::Rejected`] if the server refuses the entry.
    /// * [`ClientError::Unreachable`] if it is not known whether the entry was logged: append it again with its identity.
    /// * [`ClientError::State`] if the entry is logged, but its head cannot be remembered.
    pub async fn append(&self, entry: Bytes, identity: Option<Bytes>) -> Result<Appended, ClientError> {
        let leaf = Hash::leaf(&entry);
        let key = identity_or_random(identity)?;
        let mut back_off = BackOff::new();
        let (answer, known) = loop {
            let known = self.remembered();
            let request = v1::AppendRequest {
                log: self.log(),
                entry: entry.clone(),
                known_size: size_of(known.as_ref()),
                identity: Some(v1::append_request::Identity::Key(key.clone())),
                ..v1::AppendRequest::default()
            };
            match self.rpc().append(request).await {
                Ok(answer) => break (answer.into_inner(), known),
                Err(status) => back_off.pause(self.status(&status)).await?,
            }
        };
        let v1::AppendResponse { index, duplicate, head, inclusion: proof } = answer;
        let head = self.accept(head, known.as_ref(), Store::Soon)?;
        let proof = hashes("inclusion", &proof)?;
        let index = LeafIndex(index);
        inclusion(leaf, index, &head.head, &proof)?;
        let receipt = Receipt { extra: None, index, proof, checkpoint: head.note.to_vec() };
        Ok(Appended { index, duplicate, receipt, head })
    }

    /// Appends 1 to 1,000 entries in one call. `out[i]` is for `entries[i]`.
    ///
    /// The new ones get contiguous indices. Each receipt is derived from the range proof of its run.
    ///
    /// # Errors
    ///
    /// As [`Client::append`], for the whole batch; errors of single entries are in the answer.
    pub async fn append_batch(
        &self,
        entries: Vec<NewEntry>,
    ) -> Result<Vec<Result<Appended, EntryRefused>>, ClientError> {
        let leaves: Vec<_> = entries.iter().map(|entry| Hash::leaf(&entry.bytes)).collect();
        let mut batch = Vec::with_capacity(entries.len());
        for NewEntry { bytes, identity } in entries {
            let key = identity_or_random(identity)?;
            batch.push(v1::BatchEntry { entry: bytes, identity: Some(v1::batch_entry::Identity::Key(key)) });
        }
        let mut back_off = BackOff::new();
        let (answer, known) = loop {
            let known = self.remembered();
            let request = v1::AppendBatchRequest {
                log: self.log(),
                entries: batch.clone(),
                known_size: size_of(known.as_ref()),
                ..v1::AppendBatchRequest::default()
            };
            match self.rpc().append_batch(request).await {
                Ok(answer) => break (answer.into_inner(), known),
                Err(status) => back_off.pause(self.status(&status)).await?,
            }
        };
        let v1::AppendBatchResponse { head, runs, errors } = answer;
        let head = match head {
            None if runs.is_empty() => None,
            head => Some(self.accept(head, known.as_ref(), Store::Soon)?),
        };
        outcomes(&leaves, head.as_ref(), &runs, errors)
    }
}

/// Verifies the runs of a batch, and sorts them and the errors by entry.
fn outcomes(
    leaves: &[Hash],
    head: Option<&VerifiedHead>,
    runs: &[v1::Run],
    errors: Vec<v1::EntryError>,
) -> Result<Vec<Result<Appended, EntryRefused>>, ClientError> {
    let mut outcomes: Vec<Option<Result<Appended, EntryRefused>>> = vec![None; leaves.len()];
    for error in errors {
        let v1::EntryError { request_id, code, message, index } = error;
        let refused = EntryRefused { code: tonic::Code::from_i32(code), message, index };
        answer(&mut outcomes, request_id, Err(refused))?;
    }
    // Runs come with a head, which the caller has seen to.
    for message in head.map_or(&[][..], |_| runs) {
        let Some(head) = head else { break };
        for (request_id, appended) in receipts(leaves, head, message)? {
            answer(&mut outcomes, request_id, Ok(appended))?;
        }
    }
    let unanswered = || ClientError::Verification { what: "the answer leaves out an entry of the batch".to_owned() };
    outcomes.into_iter().map(|outcome| outcome.ok_or_else(unanswered)).collect()
}

/// The receipts of one run, verified.
fn receipts(leaves: &[Hash], head: &VerifiedHead, message: &v1::Run) -> Result<Vec<(u64, Appended)>, ClientError> {
    let found =
        |id: &u64| usize::try_from(*id).ok().and_then(|id| leaves.get(id).copied()).ok_or_else(|| not_sent(*id));
    let in_run = message.request_ids.iter().map(found).collect::<Result<Vec<_>, _>>()?;
    let Some(proof) = &message.range_proof else {
        return Err(ClientError::Verification { what: "the answer holds a run without its range proof".to_owned() });
    };
    let verified = run(LeafIndex(message.first_index), &in_run, &head.head, &range_proof(proof)?)?;
    let mut receipts = Vec::with_capacity(in_run.len());
    for (index, &request_id) in (message.first_index..).zip(&message.request_ids) {
        let index = LeafIndex(index);
        let proof = verified
            .inclusion_proof(index)
            .map_err(|error| ClientError::failed_check("no receipt follows from the range proof", &error))?;
        let receipt = Receipt { extra: None, index, proof, checkpoint: head.note.to_vec() };
        receipts.push((request_id, Appended { index, duplicate: message.duplicate, receipt, head: head.clone() }));
    }
    Ok(receipts)
}

/// Files the outcome of one entry; each must have exactly one.
fn answer(
    outcomes: &mut [Option<Result<Appended, EntryRefused>>],
    request_id: u64,
    outcome: Result<Appended, EntryRefused>,
) -> Result<(), ClientError> {
    let place = usize::try_from(request_id).ok().and_then(|id| outcomes.get_mut(id));
    let place = place.ok_or_else(|| not_sent(request_id))?;
    if place.replace(outcome).is_some() {
        let what = format!("the answer names entry {request_id} of the batch twice");
        return Err(ClientError::Verification { what });
    }
    Ok(())
}

fn not_sent(request_id: u64) -> ClientError {
    ClientError::Verification { what: format!("the answer names entry {request_id}, which was not sent") }
}

fn identity_or_random(identity: Option<Bytes>) -> Result<Bytes, ClientError> {
    if let Some(identity) = identity {
        return Ok(identity);
    }
    let mut random = [0; IDENTITY_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| ClientError::BadOption { option: "identity", message: format!("name one: {error}") })?;
    Ok(Bytes::copy_from_slice(&random))
}

/// Bounded exponential back-off.
struct BackOff {
    attempts: u32,
    wait: Duration,
}

impl BackOff {
    fn new() -> Self {
        Self { attempts: 1, wait: BACK_OFF_FIRST }
    }

    /// Waits before another attempt; gives `error` back if it is not transient or the attempts are used up.
    async fn pause(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_transient() || self.attempts == ATTEMPTS_MAX {
            return Err(error);
        }
        tracing::debug!(%error, attempts = self.attempts, "append is retried");
        tokio::time::sleep(self.wait).await;
        self.attempts += 1;
        self.wait = (self.wait * 2).min(BACK_OFF_MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
