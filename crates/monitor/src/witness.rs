//! A witness: it cosigns a checkpoint only if it extends the last one that it cosigned for that log.
//!
//! The order below is what everybody relies on who counts cosignatures. Each step may assume only those before it:
//!
//! 1. **parse** - the request is well-formed, and within its limits.
//! 2. **verify** - the log is known, and it signed the checkpoint.
//! 3. **decide** - the checkpoint extends the last one, at a time that is not before the last one's.
//! 4. **persist** - the cosigned checkpoint replaces the last one on disk, atomically and synced.
//! 5. **answer** - only now does a cosignature leave the process.
//!
//! Steps 3 to 5 are one critical section a log, so that requests for one log take turns. If step 4 fails, nobody knows
//! what is on disk: the log's record is *in doubt*, and before the next request it is read, and written anew. Loading
//! at start is the same step.
//!
//! ```text
//!   start ──> InDoubt ── read, write anew ──> Known(last) ── decide, persist ──> Known(next)
//!                ^                                                  │
//!                └────────────────── cannot be written ─────────────┘
//! ```
//!
//! What was persisted and never answered does no harm: it extends everything that was answered, and the next request
//! learns its size from the `409`.
//!
//! Source: C2SP tlog-witness; C2SP tlog-cosignature for what is signed.

mod book;
mod disk;
mod http;
mod rate;
mod record;

use std::collections::BTreeMap;

use bytes::Bytes;
use logwood_merkle::{ProofError, TreeSize};
use logwood_note::{AddCheckpoint, AddCheckpointError, Checkpoint, CosigningKey, MalformedLine, NoteError, Policy};
use logwood_note::{SignedNote, VerifierKey, origin_path};
use thiserror::Error;

use book::{Book, Verified};
pub use disk::{DirectoryInUse, Disk, StateDirectory};
pub use http::{ServeOptions, serve};
pub use rate::NEW_CHECKPOINTS_PER_SECOND_MAX;
pub use record::{RECORD_BYTES_MAX, RecordError};

/// Most keys that one witness signs with. Each adds up to 3.3 kB to every answer.
pub const KEYS_MAX: usize = 8;

/// A witness: its keys, the logs that it knows, and what it cosigned last for each.
pub struct Witness<D> {
    keys: Vec<CosigningKey>,
    logs: BTreeMap<String, Log>,
    /// Origins by the hash that names them in paths.
    paths: BTreeMap<String, String>,
    disk: D,
}

/// A log that the witness knows.
struct Log {
    keys: Vec<VerifierKey>,
    book: Book,
}

impl<D: Disk> Witness<D> {
    /// A witness for the logs of `policy`, whose records are read from `disk` and made durable anew.
    ///
    /// * `keys` - 1 to [`KEYS_MAX`], no two with the same public key.
    /// * `policy` - its logs count, each under the name of its key; several keys of one name are one log's.
    ///
    /// # Errors
    ///
    /// * [`StartError::Keys`] and [`StartError::NoLogs`] if there is nothing to sign with or for.
    /// * [`StartError::Record`] if a record is damaged: starting without it could cosign a fork.
    /// * [`StartError::Disk`] if one cannot be read or written.
    pub fn open(keys: Vec<CosigningKey>, policy: &Policy, disk: D) -> Result<Self, StartError> {
        let repeats = |(i, key): (usize, &CosigningKey)| {
            keys[..i].iter().any(|other| other.verifier().is_duplicate_of(key.verifier()))
        };
        if keys.is_empty() || keys.len() > KEYS_MAX || keys.iter().enumerate().any(repeats) {
            return Err(StartError::Keys);
        }
        let mut by_origin: BTreeMap<String, Vec<VerifierKey>> = BTreeMap::new();
        for log in policy.logs() {
            by_origin.entry(log.key.name().to_owned()).or_default().push(log.key.clone());
        }
        if by_origin.is_empty() {
            return Err(StartError::NoLogs);
        }
        let paths = by_origin.keys().map(|origin| (origin_path(origin), origin.clone())).collect();
        let mut logs = BTreeMap::new();
        for (origin, keys) in by_origin {
            let book = Book::new(&origin);
            book.recover(&disk).map_err(|source| match source {
                book::RecoverError::Disk(source) => StartError::Disk { origin: origin.clone(), source },
                book::RecoverError::Record(source) => StartError::Record { origin: origin.clone(), source },
            })?;
            logs.insert(origin, Log { keys, book });
        }
        Ok(Self { keys, logs, paths, disk })
    }

    /// Answers an `add-checkpoint` request: the cosignatures as signature lines, each with its newline.
    ///
    /// * `body` - at most [`logwood_note::add_checkpoint::ADD_CHECKPOINT_BYTES_MAX`] bytes.
    /// * `posix_ms` - the time now. If it is before the last cosignature's, that one's is used again.
    ///
    /// # Errors
    ///
    /// [`Refusal`] says why nothing was cosigned.
    pub fn add_checkpoint(&self, body: &[u8], posix_ms: u64) -> Result<Bytes, Refusal> {
        let request = AddCheckpoint::parse(body)?;
        let checkpoint = Checkpoint::parse_text(request.checkpoint.text()).map_err(Refusal::Checkpoint)?;
        let log = self.logs.get(&checkpoint.origin).ok_or(Refusal::UnknownOrigin)?;
        let log_lines = signed_by_log(&log.keys, &request.checkpoint, &checkpoint)?;
        let verified = Verified {
            old_size: request.old_size,
            proof: request.proof,
            head: checkpoint.head,
            text: request.checkpoint.text().to_owned(),
            log_lines,
        };
        log.book.add(&verified, &self.keys, &self.disk, posix_ms)
    }

    /// The last checkpoint that was cosigned for an origin, with the log's and our signatures.
    ///
    /// * `path` - SHA-256 of the origin in lower-case hexadecimal.
    #[must_use]
    pub fn checkpoint(&self, path: &str) -> Option<Bytes> {
        self.logs[self.paths.get(path)?].book.served()
    }

    /// The origins that it cosigns for, in order.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.logs.keys().map(String::as_str)
    }

    /// The public halves of its keys.
    pub fn verifiers(&self) -> impl Iterator<Item = &VerifierKey> {
        self.keys.iter().map(CosigningKey::verifier)
    }
}

/// The log's own signature lines, at most one a key. Lines of keys that are not known are ignored.
fn signed_by_log(keys: &[VerifierKey], note: &SignedNote, checkpoint: &Checkpoint) -> Result<String, Refusal> {
    let verified = note.verify(keys)?;
    let first = |key: &VerifierKey| verified.iter().copied().find(|line| line.claims(key));
    let signed: Vec<_> = keys.iter().filter_map(|key| Some((key, first(key)?))).collect();
    // Our 0x04 signature would vouch for lines that nobody signed (C2SP tlog-cosignature, "ML-DSA-44 signed message").
    if !checkpoint.extensions.is_empty() && !signed.iter().any(|(key, _)| key.kind().covers_extensions()) {
        return Err(Refusal::Extensions);
    }
    Ok(signed.iter().fold(String::new(), |lines, (_, line)| lines + &line.to_string() + "\n"))
}

/// Why nothing was cosigned. Nothing in here tells more than the caller sent, but the size in a conflict.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The request is malformed: 400.
    #[error("malformed request: {0}")]
    Malformed(#[from] AddCheckpointError),
    /// The note is no checkpoint: 400.
    #[error("malformed checkpoint: {0}")]
    Checkpoint(MalformedLine),
    /// The old size is above the checkpoint's: 400.
    #[error("the old size {old} is above the checkpoint's size {new}")]
    OldSize {
        /// Old size of the request.
        old: TreeSize,
        /// Size of the checkpoint.
        new: TreeSize,
    },
    /// No log of that origin is known: 404.
    #[error("this witness does not know the log; ask its operator to add it")]
    UnknownOrigin,
    /// The log did not sign the checkpoint: 403.
    #[error("{0}")]
    Unsigned(#[from] NoteError),
    /// The log did not sign the extension lines: 403.
    #[error("the checkpoint has extension lines that no signature of the log covers")]
    Extensions,
    /// The old size is not that of the last checkpoint: 409.
    #[error("the last checkpoint cosigned has size {last}; send a proof from there")]
    Conflict {
        /// Size of the last checkpoint, 0 if there is none.
        last: TreeSize,
    },
    /// The checkpoint does not extend the last one: 422.
    #[error("the checkpoint is not shown to extend the last one: {0}")]
    Inconsistent(#[from] ProofError),
    /// A proof from a tree without leaves has no hashes: 422.
    #[error("there is no proof from size 0; leave it out")]
    ProofFromNothing,
    /// More new checkpoints of a log than are cosigned in a time: 429.
    #[error(
        "at most {NEW_CHECKPOINTS_PER_SECOND_MAX} new checkpoints a second are cosigned for a log; try again in a second"
    )]
    TooFast,
    /// The record could not be written or read, or the clock is impossible: 503.
    #[error("the witness cannot record what it cosigns; its operator must look at its log")]
    Unavailable,
}

/// Why the witness does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The keys are of no use.
    #[error("a witness needs 1 to {KEYS_MAX} private keys, no two of them the same")]
    Keys,
    /// There is nothing to witness.
    #[error("the policy names no log; add `log <vkey>` lines")]
    NoLogs,
    /// A record cannot be read or written.
    #[error("the record of {origin} cannot be read and written; make the state directory usable")]
    Disk {
        /// Of which log.
        origin: String,
        /// What the operating system reported.
        source: std::io::Error,
    },
    /// A record is damaged.
    #[error(
        "the record of {origin} is damaged; without it this witness could cosign a fork, so take the log out \
         of the policy, or start a new witness with a new key and an empty state directory"
    )]
    Record {
        /// Of which log.
        origin: String,
        /// What is wrong.
        source: RecordError,
    },
}
