//! The verdict on evidence. Pure: keys and bytes in, a sentence out.

use std::fmt;

use logwood_merkle::{Hash, ProofError, verify};
use thiserror::Error;

use super::Evidence;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::key::{SignatureType, VerifierKey};
use crate::note::{NoteError, SignedNote};
use crate::policy::Policy;
use crate::receipt::{Receipt, ReceiptError};
use crate::seal::{Seal, SealError};
use crate::trust::{SeveralLogs, keys_of_one_log};

/// A fault that is proved. [`fmt::Display`] says it in one sentence for people who know no cryptography.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// Origin of the log in question.
    pub origin: String,
    sentence: String,
}

impl fmt::Display for Proved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.sentence)
    }
}

impl Proved {
    fn new(origin: &str, sentence: String) -> Self {
        Self { origin: origin.to_owned(), sentence }
    }
}

/// Why evidence proves nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotProved {
    /// A checkpoint is not one that the accused signed.
    #[error("the part `{part}` is not a checkpoint that the key given vouches for")]
    Checkpoint {
        /// Name of the part.
        part: &'static str,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// A receipt is malformed, not under a signed head, or not for the leaf beside it.
    #[error("the part `{part}` is not a receipt of its leaf that the key given vouches for")]
    Receipt {
        /// Name of the part.
        part: &'static str,
        /// What is wrong with it.
        source: ReceiptError,
    },
    /// The seal is not one that the accused signed.
    #[error("the part `seal` is not a seal that the key given vouches for")]
    Seal(#[from] SealError),
    /// The consistency proof does not lead to the new checkpoint.
    #[error("the consistency proof fails, and a failed proof says nothing about who spoiled it")]
    Proof(#[from] ProofError),
    /// No key that was given could have signed this kind.
    #[error("none of the keys given is {needed}; give the key of the accused")]
    NoKey {
        /// Whose key is needed.
        needed: &'static str,
    },
    /// An origin is given, and the keys are of several logs: one of them could accuse another.
    #[error("an origin is of one log: {0}")]
    Keys(#[from] SeveralLogs),
    /// The parts are about different logs.
    #[error("the parts are about different logs")]
    Origins,
    /// Everything is signed, and nothing contradicts.
    #[error("there is no contradiction: {why}")]
    Consistent {
        /// What would have to be otherwise.
        why: &'static str,
    },
}

impl Evidence {
    /// Judges the evidence against whoever holds one of `keys`.
    ///
    /// * `keys` - the keys of the accused, each from somewhere that the judge trusts. For kinds a, b, c and e they
    ///   are one log's; for kind d one cosigner's.
    /// * `origin` - the log's origin where it differs from the name of its key; the keys of logs have one name then.
    ///
    /// # Errors
    ///
    /// [`NotProved`] says why this proves nothing. Evidence that an honest party's own signatures and proofs could
    /// be made into, by whoever, is never proved.
    pub fn judge(&self, keys: &[VerifierKey], origin: Option<&str>) -> Result<Proved, NotProved> {
        match self {
            Self::SplitView { first, second } => split_view(&Log::new(keys, origin)?, first, second),
            Self::Rewrite { old, new, root, proof } => rewrite(&Log::new(keys, origin)?, old, new, *root, proof),
            Self::Swap { first, first_leaf, second, second_leaf } => {
                let log = Log::new(keys, origin)?;
                swap(&log.receipt("first", first, *first_leaf)?, &log.receipt("second", second, *second_leaf)?)
            }
            Self::Rollback { earlier, later } => rollback(keys, earlier, later),
            Self::BrokenSeal { seal, head } => broken_seal(&Log::new(keys, origin)?, seal, head),
        }
    }
}

/// The accused of kinds a, b, c and e.
struct Log<'a> {
    policy: Policy,
    origin: Option<&'a str>,
}

/// An entry that a log vouches for.
struct Entry {
    index: u64,
    leaf: Hash,
    checkpoint: Checkpoint,
}

impl<'a> Log<'a> {
    fn new(keys: &[VerifierKey], origin: Option<&'a str>) -> Result<Self, NotProved> {
        let own = match origin {
            Some(_) => keys_of_one_log(keys)?,
            None => keys.iter().filter(|key| key.kind().is_for_logs()).cloned().collect(),
        };
        let needed = "a log's (type 0x01 or 0x06)";
        match Policy::of_logs(own) {
            Ok(policy) if !policy.logs().is_empty() => Ok(Self { policy, origin }),
            _ => Err(NotProved::NoKey { needed }),
        }
    }

    fn checkpoint(&self, part: &'static str, note: &[u8]) -> Result<Checkpoint, NotProved> {
        Checkpoint::open(note, &self.policy, self.origin).map_err(|source| NotProved::Checkpoint { part, source })
    }

    fn receipt(&self, part: &'static str, receipt: &[u8], leaf: Hash) -> Result<Entry, NotProved> {
        let refused = |source| NotProved::Receipt { part, source };
        let receipt = Receipt::parse(receipt).map_err(refused)?;
        let checkpoint = receipt.verify_leaf(leaf, &self.policy, self.origin).map_err(refused)?;
        Ok(Entry { index: receipt.index.0, leaf, checkpoint })
    }

    /// Only keys of type 0x01 sign seals.
    fn seal(&self, note: &[u8]) -> Result<Seal, NotProved> {
        let mut refused = NotProved::NoKey { needed: "one that signs seals (type 0x01)" };
        for log in self.policy.logs().iter().filter(|log| log.key.kind() == SignatureType::Ed25519) {
            match Seal::open(note, &log.key, self.origin) {
                Ok(seal) => return Ok(seal),
                Err(error) => refused = error.into(),
            }
        }
        Err(refused)
    }
}

fn split_view(log: &Log<'_>, first: &[u8], second: &[u8]) -> Result<Proved, NotProved> {
    let (first, second) = (log.checkpoint("first", first)?, log.checkpoint("second", second)?);
    let origin = one_origin(&first.origin, &second.origin)?;
    require(first.head.size == second.head.size, "the two checkpoints have different sizes")?;
    require(first.head.root != second.head.root, "the two checkpoints are of the same tree")?;
    Ok(Proved::new(
        origin,
        format!(
            "the log {origin} signed two different histories of the same {} entries, so that it told different \
             people different things",
            first.head.size
        ),
    ))
}

fn rewrite(log: &Log<'_>, old: &[u8], new: &[u8], root: Hash, proof: &[Hash]) -> Result<Proved, NotProved> {
    let (old, new) = (log.checkpoint("old", old)?, log.checkpoint("new", new)?);
    let origin = one_origin(&old.origin, &new.origin)?;
    require(old.head.size < new.head.size, "the old checkpoint is not the smaller one")?;
    // What the tree of `new` really begins with: only this root fits, or SHA-256 is broken.
    let mut real = old.head;
    real.root = root;
    verify::consistency(&real, &new.head, proof)?;
    require(root != old.head.root, "the new checkpoint extends the old one")?;
    Ok(Proved::new(
        origin,
        format!(
            "the log {origin} signed a history of {} entries, and also one of {} entries that does not begin with \
             it: what was logged has been changed",
            old.head.size, new.head.size
        ),
    ))
}

fn swap(first: &Entry, second: &Entry) -> Result<Proved, NotProved> {
    let origin = one_origin(&first.checkpoint.origin, &second.checkpoint.origin)?;
    require(first.index == second.index, "the two receipts are of different indices")?;
    require(first.leaf != second.leaf, "the two receipts are of the same entry")?;
    Ok(Proved::new(
        origin,
        format!(
            "the log {origin} signed two histories, of {} and of {} entries, that have different entries in place {}",
            first.checkpoint.head.size, second.checkpoint.head.size, first.index
        ),
    ))
}

fn rollback(keys: &[VerifierKey], earlier: &[u8], later: &[u8]) -> Result<Proved, NotProved> {
    let mut refused = NotProved::NoKey { needed: "a cosigner's (type 0x04 or 0x06)" };
    for key in keys.iter().filter(|key| key.kind().is_for_witnesses()) {
        match rollback_by(key, earlier, later) {
            Err(error) => refused = error,
            proved => return proved,
        }
    }
    Err(refused)
}

fn rollback_by(key: &VerifierKey, earlier: &[u8], later: &[u8]) -> Result<Proved, NotProved> {
    let (earlier, first) = cosigned("earlier", earlier, key)?;
    let (later, second) = cosigned("later", later, key)?;
    let origin = one_origin(&earlier.origin, &later.origin)?;
    require(later.head.size < earlier.head.size, "the later checkpoint is not smaller")?;
    // A note may hold several of the cosigner's lines: the pair that lies furthest apart decides.
    let (first, second) = (first.iter().min(), second.iter().max());
    let (Some(first), Some(second)) = (first, second) else {
        return Err(NotProved::Consistent { why: "a timestamp of zero makes no claim" });
    };
    require(first < second, "the smaller checkpoint was not cosigned at a later time")?;
    Ok(Proved::new(
        origin,
        format!(
            "the cosigner {} stated at POSIX second {second} that the longest history of the log {origin} that it \
             had seen had {} entries, after it had stated at second {first} that it had seen {} entries",
            key.name(),
            later.head.size,
            earlier.head.size
        ),
    ))
}

/// The checkpoint in a part, and every time above zero at which `key` cosigned it.
fn cosigned(part: &'static str, note: &[u8], key: &VerifierKey) -> Result<(Checkpoint, Vec<u64>), NotProved> {
    let refused = |source| NotProved::Checkpoint { part, source };
    let from_note = |error: NoteError| refused(CheckpointError::Note(error));
    let note = SignedNote::parse(note).map_err(from_note)?;
    let lines = note.verify(std::slice::from_ref(key)).map_err(from_note)?;
    let times = lines.iter().filter_map(|line| key.timestamp(&line.bytes)).filter(|&seconds| seconds > 0).collect();
    let checkpoint = Checkpoint::parse_text(note.text()).map_err(|error| refused(error.into()))?;
    Ok((checkpoint, times))
}

fn broken_seal(log: &Log<'_>, seal: &[u8], head: &[u8]) -> Result<Proved, NotProved> {
    let head = log.checkpoint("head", head)?;
    let seal = log.seal(seal)?;
    let origin = one_origin(&seal.origin, &head.origin)?;
    require(head.head.size > seal.head.size, "the checkpoint is not larger than the seal")?;
    Ok(Proved::new(
        origin,
        format!(
            "the log {origin} signed that it would never have more than {} entries, and also signed a history of {}",
            seal.head.size, head.head.size
        ),
    ))
}

fn one_origin<'a>(one: &'a str, other: &str) -> Result<&'a str, NotProved> {
    if one == other { Ok(one) } else { Err(NotProved::Origins) }
}

fn require(holds: bool, otherwise: &'static str) -> Result<(), NotProved> {
    if holds { Ok(()) } else { Err(NotProved::Consistent { why: otherwise }) }
}
