//! A monitor's judgement on one log. Pure: notes, proofs and leaf hashes in, verdicts out.
//!
//! ```text
//!            signatures               relate                    settle
//!   notes ─────────────> heads ──────────────────> a pair ──────────────────> one history, or evidence
//!   (any source)                same size: at once    │ consistency proof, and what the larger tree begins with
//!                                                     └ from any source: both verify, or say nothing
//!
//!   entries ──> leaf hashes ──> the tree, leaf by leaf ──> its root, and a proof from there to the head
//! ```
//!
//! The *tip* is the largest head so far, with a quorum or without. Each head from each source is shown to be of one
//! history with it: the smaller of the two is a beginning of the larger, which is the tip from then on. So all of them
//! are of one history with each other. *Known* is the largest of them that has a quorum. The tree grows by entries
//! alone, towards the known head: what has been added is in its history before anybody is told of it. Of the whole log,
//! only a [`CompactRange`] is kept.
//!
//! What a source says is believed only as far as a hash or a signature holds it to that, so no source can make this
//! module accuse a log. [`Evidence`] is two things that the log signed, and a proof that verifies.

use std::collections::VecDeque;

use bytes::Bytes;
use logwood_merkle::{CompactRange, Hash, ProofError, TreeHead, TreeSize, verify};
use logwood_note::{Checkpoint, CheckpointError, Evidence, NoteError, NoteSignature, Policy, QuorumError};
use logwood_note::{Seal, SealError, SignatureType, SignedNote, Trust as _, TrustedCheckpoint, assemble_note};
use thiserror::Error;

/// How far the clock of whoever cosigns may be ahead of ours, in seconds. A later time says nothing of freshness, and
/// would hide every true one until it has come.
pub const SKEW_SECONDS_MAX: u64 = 300;

/// Longest text of a checkpoint, in bytes, extension lines included. A text that a log really signs has a few hundred,
/// and a monitor remembers two for each log.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A head that the log signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// The checkpoint note: its text verbatim, and one signature line of each key of the policy that signed it.
    pub note: Bytes,
    /// Identity of the log.
    pub origin: String,
    /// Size and root.
    pub head: TreeHead,
    /// Who is missing, if too few witnesses cosigned it.
    pub quorum: Result<(), QuorumError>,
    /// The newest time that a signature vouches for, in POSIX seconds. One of type 0x01 vouches for none, and no time is
    /// believed that is ahead of the clock by more than [`SKEW_SECONDS_MAX`].
    pub seconds: Option<u64>,
    /// The latest time of a signature that is not believed.
    pub future_seconds: Option<u64>,
}

impl SignedHead {
    /// Verifies every signature of `note` that claims a key of `policy`; one of its logs must have signed. Without
    /// a quorum it is a signed head all the same, and what it contradicts is a fault.
    ///
    /// * `origin` - the log's origin where it differs from the name of its key.
    /// * `now` - the clock, in POSIX seconds.
    ///
    /// # Errors
    ///
    /// [`HeadError`] if it is not signed as it must be, or signs what cannot be.
    pub fn open(note: &[u8], policy: &Policy, origin: Option<&str>, now: u64) -> Result<Self, HeadError> {
        let (trusted, quorum) = match policy.open(note, origin) {
            // All signatures were verified before the witnesses were counted.
            Err(CheckpointError::Quorum(error)) => (policy.without_witnesses().open(note, origin)?, Err(error)),
            opened => (opened?, Ok(())),
        };
        let TrustedCheckpoint { checkpoint: Checkpoint { origin, head, .. }, .. } = trusted;
        if head.size == TreeSize(0) && head != TreeHead::empty() {
            return Err(HeadError::EmptyRoot);
        }
        let note = SignedNote::parse(note).map_err(CheckpointError::from)?;
        if note.text().len() > TEXT_BYTES_MAX {
            return Err(HeadError::TextTooLong { actual: note.text().len() });
        }
        let latest = now.saturating_add(SKEW_SECONDS_MAX);
        let lines = lines_of(&note, policy);
        let (believed, future): (Vec<_>, Vec<_>) =
            lines.iter().flatten().filter_map(|(_, seconds)| *seconds).partition(|&seconds| seconds <= latest);
        let note = keep_lines(&note, &lines, latest).map_err(CheckpointError::from)?;
        let (seconds, future_seconds) = (believed.into_iter().max(), future.into_iter().max());
        Ok(Self { note: note.into(), origin, head, quorum, seconds, future_seconds })
    }
}

/// A signature line, and the time above zero that it says, if it says one.
type Line<'a> = (&'a NoteSignature, Option<u64>);

/// For each key of `policy` its lines of `note`, which was verified before.
fn lines_of<'a>(note: &'a SignedNote, policy: &Policy) -> Vec<Vec<Line<'a>>> {
    let witnesses = policy.witnesses().iter().map(|witness| &witness.key);
    let keys = policy.logs().iter().map(|log| &log.key).chain(witnesses);
    keys.map(|key| {
        let own = note.signatures().iter().filter(|line| line.claims(key));
        own.map(|line| (line, key.timestamp(&line.bytes).filter(|&seconds| seconds > 0))).collect()
    })
    .collect()
}

/// `note` with one line of each key, the newest that is not after `latest`: whoever adds lines to a note that others sign
/// does not make it grow.
fn keep_lines(note: &SignedNote, lines: &[Vec<Line<'_>>], latest: u64) -> Result<Vec<u8>, NoteError> {
    let newest = |own: &Vec<Line<'_>>| {
        let own = own.iter().max_by_key(|(_, seconds)| (seconds.is_none_or(|seconds| seconds <= latest), *seconds));
        own.map(|(line, _)| (*line).clone())
    };
    let mut kept: Vec<NoteSignature> = Vec::new();
    for line in lines.iter().filter_map(newest) {
        // One key may be a log's and a witness's.
        if !kept.contains(&line) {
            kept.push(line);
        }
    }
    assemble_note(note.text(), &kept)
}

/// A log's promise that it never grows again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedSeal {
    /// The note: its text verbatim, and the line of the log's key.
    pub note: Bytes,
    /// What it says.
    pub seal: Seal,
}

impl SignedSeal {
    /// The seal in `note`, which one of the logs of `policy` must have signed. Only keys of type 0x01 sign seals.
    ///
    /// * `origin` - the log's origin where it differs from the name of its key.
    ///
    /// # Errors
    ///
    /// [`SealError`] if it is no seal of one of them.
    pub fn open(note: &[u8], policy: &Policy, origin: Option<&str>) -> Result<Self, SealError> {
        let mut refused = SealError::Note(NoteError::NoKnownKey);
        for log in policy.logs().iter().filter(|log| log.key.kind() == SignatureType::Ed25519) {
            match Seal::open(note, &log.key, origin) {
                Ok(seal) => {
                    let note = SignedNote::parse(note)?;
                    let own: Vec<_> =
                        note.signatures().iter().filter(|line| line.claims(&log.key)).take(1).cloned().collect();
                    return Ok(Self { note: assemble_note(note.text(), &own)?.into(), seal });
                }
                Err(SealError::Note(NoteError::NoKnownKey)) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// What proves that the log grew after it: kind e.
    #[must_use]
    pub fn broken_by(&self, head: &SignedHead) -> Option<Evidence> {
        let is_broken = head.origin == self.seal.origin && head.head.size > self.seal.head.size;
        is_broken.then(|| Evidence::BrokenSeal { seal: self.note.to_vec(), head: head.note.to_vec() })
    }
}

/// Why a note is no head of the log.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// It is not signed as it must be.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// There is one tree without leaves (RFC 6962 §2.1), and its root is another.
    #[error("the log signed a root for the empty tree that is not the root of the empty tree")]
    EmptyRoot,
    /// Somebody wants a monitor's memory to grow.
    #[error("the text of the checkpoint has {actual} bytes, and a monitor takes at most {TEXT_BYTES_MAX}")]
    TextTooLong {
        /// Bytes of the text.
        actual: usize,
    },
}

/// What two heads of one origin say of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are of one history.
    Agree,
    /// They are not, and here is the proof.
    Differ(Evidence),
    /// A proof is needed that the larger extends the smaller.
    Open,
}

/// Relates two heads of one origin. The order does not matter.
#[must_use]
pub fn relate(one: &SignedHead, other: &SignedHead) -> Relation {
    if one.head == other.head || one.head.size.0.min(other.head.size.0) == 0 {
        // Every history extends the empty one.
        return Relation::Agree;
    }
    if one.head.size == other.head.size {
        return Relation::Differ(Evidence::SplitView { first: one.note.to_vec(), second: other.note.to_vec() });
    }
    Relation::Open
}

/// What a source says of the tree of a head: neither part is believed before it verifies.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Link {
    /// The compact range at the smaller size.
    pub range: CompactRange,
    /// RFC 6962 §2.1.2 consistency proof from there to the head.
    pub consistency: Vec<Hash>,
}

/// What a [`Link`] shows of two heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The larger extends the smaller.
    Extends,
    /// The larger does not begin with the smaller, and here is the proof.
    Rewritten(Evidence),
    /// Nothing: the link does not lead to the larger head, and nobody can tell who spoiled it.
    Unproved(ProofError),
}

/// Judges whether `newer` extends `older`.
///
/// * `older`, `newer` - of one origin, and of sizes 0 < older < newer.
#[must_use]
pub fn settle(older: &SignedHead, newer: &SignedHead, link: &Link) -> Verdict {
    let failed = match verify::consistency(&older.head, &newer.head, &link.consistency) {
        Ok(()) => return Verdict::Extends,
        Err(error) => error,
    };
    // What does the newer tree begin with instead? The proof itself says so, unless the old size is a power of two.
    let computed = match failed {
        ProofError::RootMismatch { head, computed } if head == older.head => Some(computed),
        _ => None,
    };
    let roots = [Some(link.range.root()).filter(|_| link.range.size() == older.head.size), computed];
    for root in roots.into_iter().flatten().filter(|root| *root != older.head.root) {
        let real = TreeHead { size: older.head.size, root };
        if verify::consistency(&real, &newer.head, &link.consistency).is_ok() {
            return Verdict::Rewritten(Evidence::Rewrite {
                old: older.note.to_vec(),
                new: newer.note.to_vec(),
                root,
                proof: link.consistency.clone(),
            });
        }
    }
    Verdict::Unproved(failed)
}

/// The claim that some cosigner saw `earlier` first, and stated a smaller size at a later time: kind d. Only
/// [`Evidence::judge`] says whether it is true.
#[must_use]
pub fn taken_back(earlier: &SignedHead, later: &SignedHead) -> Option<Evidence> {
    let is_smaller = later.head.size < earlier.head.size;
    is_smaller.then(|| Evidence::Rollback { earlier: earlier.note.to_vec(), later: later.note.to_vec() })
}

/// Appends `leaves` to `tree`, and checks that `head` is the head of a tree that begins so.
///
/// * `consistency` - proof from the grown tree to `head`; not looked at if that has its size.
///
/// # Errors
///
/// [`NotInTree`] if the leaves are not those that `head` commits to, or the proof is wrong. `tree` is as it was.
pub fn extend(
    tree: &CompactRange,
    leaves: impl IntoIterator<Item = Hash>,
    head: &TreeHead,
    consistency: &[Hash],
) -> Result<CompactRange, NotInTree> {
    let mut grown = tree.clone();
    for leaf in leaves {
        if grown.size() >= head.size {
            return Err(NotInTree { first: tree.size(), end: grown.size(), head: *head });
        }
        grown.append(leaf, |_, _| ());
    }
    let is_in = if grown.size() == head.size {
        grown.root() == head.root
    } else if grown.size() == TreeSize(0) {
        // Every tree begins with nothing.
        true
    } else {
        verify::consistency(&grown.head(), head, consistency).is_ok()
    };
    if is_in { Ok(grown) } else { Err(NotInTree { first: tree.size(), end: grown.size(), head: *head }) }
}

/// Takes from `heads` those that the tree meets as it grows by `leaves`: the ones that it contradicts, each with the
/// tree of that size, which settles it.
///
/// * `heads` - of this log, of rising sizes above the tree's.
#[must_use]
pub fn meet(tree: &CompactRange, leaves: &[Hash], heads: &mut VecDeque<SignedHead>) -> Vec<(SignedHead, CompactRange)> {
    let (mut grown, mut contradicted) = (tree.clone(), Vec::new());
    for leaf in leaves {
        if heads.is_empty() {
            break;
        }
        grown.append(*leaf, |_, _| ());
        if let Some(head) = heads.pop_front_if(|head| head.head.size <= grown.size())
            && head.head != grown.head()
        {
            contradicted.push((head, grown.clone()));
        }
    }
    contradicted
}

/// The compact range of a link, once it is shown to be that of the first leaves of `head`: to begin in the middle.
///
/// # Errors
///
/// [`ProofError`] if the link does not lead to `head`.
pub fn begin_at(link: Link, head: &TreeHead) -> Result<CompactRange, ProofError> {
    if link.range.size() > TreeSize(0) {
        verify::consistency(&link.range.head(), head, &link.consistency)?;
    }
    Ok(link.range)
}

/// Entries are not those that the log has signed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the entries {first} to {} do not hash to what the head of size {} commits to", .end.0.saturating_sub(1), .head.size)]
pub struct NotInTree {
    /// Index of the first.
    pub first: TreeSize,
    /// One past the last.
    pub end: TreeSize,
    /// The head that was given.
    pub head: TreeHead,
}
