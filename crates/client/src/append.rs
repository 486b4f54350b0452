//! Appending: every entry comes back with a receipt that was verified against the entry itself.

use std::time::Duration;

use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex};
use logwood_note::Receipt;
use logwood_proto::{hashes, range_proof, v1};

use crate::client::{Store, size_of};
use crate::places::{Places, Sent, check_first};
use crate::verify::{inclusion, run};
use crate::{Client, ClientError, VerifiedHead};

/// Bytes of an identity that the client makes up.
const IDENTITY_BYTES: usize = 16;

/// What makes a retried entry the same entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// 16 random bytes, good for the retries that the client itself makes.
    #[default]
    Random,
    /// 1 to 128 bytes that the caller knows the entry by: good for the caller's own retries, too.
    Key(Bytes),
    /// None: every attempt would be a new entry, so that there is only one.
    Absent,
}

impl From<Bytes> for Identity {
    fn from(key: Bytes) -> Self {
        Self::Key(key)
    }
}

impl From<Option<Bytes>> for Identity {
    fn from(key: Option<Bytes>) -> Self {
        key.map_or(Self::Random, Self::Key)
    }
}

impl Identity {
    /// What is sent.
    pub(crate) fn into_key(self) -> Result<Option<Bytes>, ClientError> {
        match self {
            Self::Key(key) => Ok(Some(key)),
            Self::Absent => Ok(None),
            Self::Random => {
                let mut random = [0; IDENTITY_BYTES];
                getrandom::fill(&mut random).map_err(|error| ClientError::BadOption {
                    option: "identity",
                    message: format!("none can be made up, so name one: {error}"),
                })?;
                Ok(Some(Bytes::copy_from_slice(&random)))
            }
        }
    }
}

/// An entry to append.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// 1 to 65,535 bytes.
    pub bytes: Bytes,
    /// What makes a retry safe.
    pub identity: Identity,
}

/// An entry that is in the log, and the proof.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Where it is.
    pub index: LeafIndex,
    /// It was there already: before this call, or from an attempt of this call whose answer was lost.
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
    /// * `identity` - a `Bytes`, or `None` for one that is made up.
    ///
    /// Transient errors are retried with the same identity, for [`crate::ClientOptions::retry_within`].
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if the receipt does not verify, and if the server has an entry already whose identity
    ///   was made up for this call, at its first attempt.
    /// * [`ClientError::Rejected`] if the server refuses the entry.
    /// * [`ClientError::Behind`] if the server's head is smaller than one verified before; nothing was appended.
    /// * [`ClientError::Unreachable`] if it is not known whether the entry was logged: append it again with its identity.
    /// * [`ClientError::State`] if the entry is logged, but its head cannot be remembered.
    pub async fn append(&self, entry: Bytes, identity: impl Into<Identity>) -> Result<Appended, ClientError> {
        self.append_until(entry, identity, (v1::HeadLevel::Unspecified, Duration::ZERO)).await
    }

    /// As [`Client::append`], but the answer waits until a head of a level covers the entry.
    ///
    /// * `wait` - the level, and how long to wait for it: zero is as long as the server does, 10 seconds. When that runs
    ///   out the entry is logged, and its head says which level was reached.
    ///
    /// # Errors
    ///
    /// As [`Client::append`]; [`ClientError::BadOption`] if a witnessed head is asked for and no policy says what that is,
    /// and [`ClientError::Rejected`] with [`logwood_proto::Reason::NoWitnesses`] if the log has no witnesses.
    pub async fn append_until(
        &self,
        entry: Bytes,
        identity: impl Into<Identity>,
        (level, within): (v1::HeadLevel, Duration),
    ) -> Result<Appended, ClientError> {
        self.check_request(level)?;
        let leaf = Hash::leaf(&entry);
        let identity = identity.into();
        let is_drawn = matches!(identity, Identity::Random);
        let key = identity.into_key()?;
        let known = self.remembered();
        let is_safe = key.is_some();
        let mut attempts = 0_u64;
        let request = v1::AppendRequest {
            log: self.log(),
            entry,
            known_size: size_of(known.as_ref()),
            identity: key.map(v1::append_request::Identity::Key),
            wait: level.into(),
            wait_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX),
        };
        let answer = self.calling(is_safe, |mut rpc| {
            attempts += 1;
            let request = request.clone();
            async move { rpc.append(request).await }
        });
        let v1::AppendResponse { index, duplicate, head, inclusion: proof } = match answer.await {
            Ok(answer) => answer,
            Err(error) => return Err(self.judge_refusal(error, known.as_ref()).await),
        };
        let head = self.accept(head, known.as_ref(), (true, Store::Soon)).await?;
        let proof = hashes("inclusion", &proof)?;
        let index = LeafIndex(index);
        inclusion(leaf, index, &head.head, &proof)?;
        let receipt = Receipt { extra: None, index, proof, checkpoint: head.note.to_vec() };
        let appended = Appended { index, duplicate, receipt, head };
        check_first(is_drawn && attempts == 1, &appended)?;
        Ok(appended)
    }

    /// Appends 1 to 1,000 entries in one call. `out[i]` is for `entries[i]`.
    ///
    /// The new ones get contiguous indices. Each receipt is derived from the range proof of its run. The call is
    /// retried only if every entry has an identity.
    ///
    /// # Errors
    ///
    /// As [`Client::append`], for the whole batch; errors of single entries are in the answer.
    pub async fn append_batch(
        &self,
        entries: Vec<NewEntry>,
    ) -> Result<Vec<Result<Appended, EntryRefused>>, ClientError> {
        let leaves: Vec<_> = entries.iter().map(|entry| Hash::leaf(&entry.bytes)).collect();
        let (mut batch, mut sent) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        let mut attempts = 0_u64;
        for NewEntry { bytes, identity } in entries {
            let is_drawn = matches!(identity, Identity::Random);
            let key = identity.into_key()?;
            let identity = key.clone().map(v1::batch_entry::Identity::Key);
            batch.push(v1::BatchEntry { entry: bytes, identity });
            sent.push(Sent { identity: key, is_first: is_drawn });
        }
        let known = self.remembered();
        let is_safe = batch.iter().all(|entry| entry.identity.is_some());
        let request = v1::AppendBatchRequest {
            log: self.log(),
            entries: batch,
            known_size: size_of(known.as_ref()),
            ..v1::AppendBatchRequest::default()
        };
        let answer = self.calling(is_safe, |mut rpc| {
            attempts += 1;
            let request = request.clone();
            async move { rpc.append_batch(request).await }
        });
        let v1::AppendBatchResponse { head, runs, errors } = match answer.await {
            Ok(answer) => answer,
            Err(error) => return Err(self.judge_refusal(error, known.as_ref()).await),
        };
        let head = match head {
            None if runs.is_empty() => None,
            head => Some(self.accept(head, known.as_ref(), (true, Store::Soon)).await?),
        };
        let outcomes = outcomes(&leaves, head.as_ref(), &runs, errors)?;
        for sent in &mut sent {
            sent.is_first &= attempts == 1;
        }
        check_places(&sent, &outcomes)?;
        Ok(outcomes)
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
        answer(&mut outcomes, error.request_id, Err(error.into()))?;
    }
    let find = |id| leaves.get(usize::try_from(id).ok()?).copied();
    // Runs come with a head, which the caller has seen to.
    for (head, message) in head.into_iter().flat_map(|head| runs.iter().map(move |run| (head, run))) {
        for (request_id, appended) in receipts(find, head, message)? {
            answer(&mut outcomes, request_id, Ok(appended))?;
        }
    }
    let unanswered = || ClientError::failed("the answer leaves out an entry of the batch");
    outcomes.into_iter().map(|outcome| outcome.ok_or_else(unanswered)).collect()
}

/// An entry has one identity at most, so two that are not the same one are at two places. Their proofs cannot tell, if
/// their bytes are the same.
///
/// * `sent` - what identifies each entry of the batch.
fn check_places(sent: &[Sent], outcomes: &[Result<Appended, EntryRefused>]) -> Result<(), ClientError> {
    let mut places = Places::default();
    for (sent, outcome) in sent.iter().zip(outcomes) {
        if let Ok(appended) = outcome {
            places.note(sent, appended)?;
        }
    }
    Ok(())
}

/// The receipts of one run, verified.
///
/// * `find` - the leaf hash of the entry that was sent as this request.
pub(crate) fn receipts(
    find: impl Fn(u64) -> Option<Hash>,
    head: &VerifiedHead,
    message: &v1::Run,
) -> Result<Vec<(u64, Appended)>, ClientError> {
    let leaf = |id: &u64| find(*id).ok_or_else(|| not_sent(*id));
    let in_run = message.request_ids.iter().map(leaf).collect::<Result<Vec<_>, _>>()?;
    let Some(proof) = &message.range_proof else {
        return Err(ClientError::failed("the answer holds a run without its range proof"));
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

impl From<v1::EntryError> for EntryRefused {
    fn from(error: v1::EntryError) -> Self {
        Self { code: tonic::Code::from_i32(error.code), message: error.message, index: error.index }
    }
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
        return Err(ClientError::failed(format!("the answer names entry {request_id} of the batch twice")));
    }
    Ok(())
}

pub(crate) fn not_sent(request_id: u64) -> ClientError {
    ClientError::failed(format!("the answer names entry {request_id}, which was not sent, or was answered before"))
}

#[cfg(test)]
mod tests;
