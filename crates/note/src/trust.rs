//! Trust: who must have signed a checkpoint before it is believed. One key, or a policy.
//!
//! A checkpoint is good if
//!
//! 1. every signature that claims a key named by the caller verifies,
//! 2. one of them is by a log, and the checkpoint is that log's,
//! 3. its extension lines, if it has any, are covered by one of them,
//! 4. the witnesses that cosigned reach the quorum.
//!
//! Signatures of keys that the caller did not name have no say.
//!
//! Source: C2SP signed-note, "Verifying"; C2SP tlog-policy, "What is a policy?"; C2SP tlog-proof, "Verifying".

use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::key::{SignatureType, VerifierKey};
use crate::note::{NoteSignature, SignedNote};
use crate::policy::Policy;

/// Who is trusted to vouch for the checkpoints of a log.
pub trait Trust {
    /// The checkpoint in `note`, if those who are trusted vouch for it.
    ///
    /// * `note` - the note, verbatim; at most [`crate::note::NOTE_BYTES_MAX`] bytes.
    /// * `origin` - the log's origin where it differs from the name of its key.
    ///
    /// # Errors
    ///
    /// * [`CheckpointError::Note`] if the note is malformed, no trusted key signed it, or a signature that claims
    ///   one does not verify.
    /// * [`CheckpointError::Text`] if the signed text is no checkpoint.
    /// * [`CheckpointError::NotByLog`] if only witnesses signed it.
    /// * [`CheckpointError::Origin`] if it is another log's.
    /// * [`CheckpointError::Extensions`] if nobody vouches for its extension lines.
    /// * [`CheckpointError::Quorum`] if too few witnesses cosigned.
    fn open(&self, note: &[u8], origin: Option<&str>) -> Result<TrustedCheckpoint, CheckpointError>;
}

/// A checkpoint that is believed, and when witnesses said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedCheckpoint {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The newest timestamp, in POSIX seconds, under which the log itself cosigned; `None` without one of type 0x06.
    pub log_seconds: Option<u64>,
    /// For each witness of the policy, in its order, the newest timestamp of its cosignatures in POSIX seconds.
    pub witness_seconds: Vec<Option<u64>>,
}

impl Trust for VerifierKey {
    fn open(&self, note: &[u8], origin: Option<&str>) -> Result<TrustedCheckpoint, CheckpointError> {
        let policy = Policy::of_logs([self.clone()]).map_err(|_| CheckpointError::NotALogKey)?;
        policy.open(note, origin)
    }
}

impl Trust for Policy {
    fn open(&self, note: &[u8], origin: Option<&str>) -> Result<TrustedCheckpoint, CheckpointError> {
        let note = SignedNote::parse(note)?;
        let logs = self.logs().iter().map(|log| &log.key);
        let witnesses = self.witnesses().iter().map(|witness| &witness.key);
        let keys: Vec<_> = logs.clone().chain(witnesses.clone()).cloned().collect();
        let verified = note.verify(&keys)?;
        let checkpoint = Checkpoint::parse_text(note.text())?;

        let signed = |key: &&VerifierKey| verified.iter().any(|line| line.claims(key));
        check_log(&checkpoint, logs.clone().filter(signed), origin)?;
        if !checkpoint.extensions.is_empty() && !keys.iter().filter(signed).any(|key| key.kind().covers_extensions()) {
            return Err(CheckpointError::Extensions);
        }
        let witness_seconds: Vec<_> = witnesses.map(|key| newest(key, &verified)).collect();
        // Zero makes no claim to be the largest tree seen, and no witness says it (C2SP tlog-witness).
        self.check_quorum(|witness| witness_seconds[witness].is_some_and(|seconds| seconds > 0))?;
        let log_seconds = logs.filter_map(|key| newest(key, &verified)).max();
        Ok(TrustedCheckpoint { checkpoint, log_seconds, witness_seconds })
    }
}

/// Keys of several logs, where those of one are needed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the keys are of several logs, as {first} and {other}")]
pub struct SeveralLogs {
    /// Name of one of them.
    pub first: String,
    /// Name of another.
    pub other: String,
}

/// Those of `keys` that sign for the one log that they are of. Whoever names an origin of its own needs this: with keys of
/// several logs, one log's operator could speak for another's.
///
/// A key of type 0x06 may be a witness's: beside one of type 0x01, which is surely a log's, it is the log's only if it has
/// the same name.
///
/// # Errors
///
/// [`SeveralLogs`] if keys that are surely logs' have several names.
pub fn keys_of_one_log(keys: &[VerifierKey]) -> Result<Vec<VerifierKey>, SeveralLogs> {
    let own = keys.iter().filter(|key| key.kind().is_for_logs());
    let sure = own.clone().find(|key| key.kind() == SignatureType::Ed25519).or_else(|| own.clone().next());
    let Some(sure) = sure else { return Ok(Vec::new()) };
    let (same, others): (Vec<_>, Vec<_>) = own.partition(|key| key.name() == sure.name());
    match others.iter().find(|key| key.kind() == sure.kind()) {
        Some(other) => Err(SeveralLogs { first: sure.name().to_owned(), other: other.name().to_owned() }),
        None => Ok(same.into_iter().cloned().collect()),
    }
}

/// Checks that the checkpoint belongs to one of the logs that signed it.
fn check_log<'a>(
    checkpoint: &Checkpoint,
    mut signers: impl Iterator<Item = &'a VerifierKey>,
    origin: Option<&str>,
) -> Result<(), CheckpointError> {
    let first = signers.next().ok_or(CheckpointError::NotByLog)?;
    let expected = |key: &'a VerifierKey| origin.unwrap_or(key.name()) == checkpoint.origin;
    if expected(first) || signers.any(expected) {
        return Ok(());
    }
    let expected = origin.unwrap_or(first.name()).to_owned();
    Err(CheckpointError::Origin { expected, actual: checkpoint.origin.clone() })
}

/// The newest timestamp under which `key` cosigned.
fn newest(key: &VerifierKey, verified: &[&NoteSignature]) -> Option<u64> {
    let own = verified.iter().filter(|line| line.claims(key));
    own.filter_map(|line| key.timestamp(&line.bytes)).max()
}

#[cfg(test)]
mod tests;
