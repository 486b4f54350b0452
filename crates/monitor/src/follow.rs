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
//! *Known* is the largest head that everything so far agrees with. Each head from each source is shown to be of one
//! history with it, so all of them are with each other. The tree grows by entries alone: what has been added is in the
//! history of the known head before anybody is told of it. Of the whole log, only a [`CompactRange`] is kept.
//!
//! What a source says is believed only as far as a hash or a signature holds it to that, so no source can make this
//! module accuse a log. [`Evidence`] is two things that the log signed, and a proof that verifies.

use std::collections::VecDeque;

use bytes::Bytes;
use logwood_merkle::{CompactRange, Hash, ProofError, TreeHead, TreeSize, verify};
use logwood_note::{Checkpoint, CheckpointError, Evidence, Policy, QuorumError};
use logwood_note::{SignedNote, Trust as _, TrustedCheckpoint};
use thiserror::Error;

/// A head that the log signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// The checkpoint note, verbatim.
    pub note: Bytes,
    /// Identity of the log.
    pub origin: String,
    /// Size and root.
    pub head: TreeHead,
    /// Who is missing, if too few witnesses cosigned it.
    pub quorum: Result<(), QuorumError>,
    /// The newest time that a signature vouches for, in POSIX seconds. One of type 0x01 vouches for none.
    pub seconds: Option<u64>,
}

impl SignedHead {
    /// Verifies every signature of `note` that claims a key of `policy`; one of its logs must have signed. Without
    /// a quorum it is a signed head all the same, and what it contradicts is a fault.
    ///
    /// * `origin` - the log's origin where it differs from the name of its key.
    ///
    /// # Errors
    ///
    /// [`HeadError`] if it is not signed as it must be, or signs what cannot be.
    pub fn open(note: impl Into<Bytes>, policy: &Policy, origin: Option<&str>) -> Result<Self, HeadError> {
        let note = note.into();
        let (trusted, quorum) = match policy.open(&note, origin) {
            // All signatures were verified before the witnesses were counted.
            Err(CheckpointError::Quorum(error)) => (policy.without_witnesses().open(&note, origin)?, Err(error)),
            opened => (opened?, Ok(())),
        };
        let seconds = newest_cosignature(&note, policy).max(trusted.log_seconds);
        let TrustedCheckpoint { checkpoint: Checkpoint { origin, head, .. }, .. } = trusted;
        if head.size == TreeSize(0) && head != TreeHead::empty() {
            return Err(HeadError::EmptyRoot);
        }
        Ok(Self { note, origin, head, quorum, seconds })
    }
}

/// The newest time above zero of a witness's signature. The note was verified before.
fn newest_cosignature(note: &[u8], policy: &Policy) -> Option<u64> {
    let note = SignedNote::parse(note).ok()?;
    let keys: Vec<_> = policy.witnesses().iter().map(|witness| witness.key.clone()).collect();
    let lines = note.verify(&keys).ok()?;
    let times = lines.iter().filter_map(|line| keys.iter().find(|key| line.claims(key))?.timestamp(&line.bytes));
    times.filter(|&seconds| seconds > 0).max()
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
