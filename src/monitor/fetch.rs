//! The next entries of a log, from the first source whose entries are those that were signed.
//!
//! A source that has others may have said, over gRPC, that they are in the tree of a head that the log signed. If so, the
//! log has two histories, and with what the known one has in their place that is proved.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use logwood_merkle::{CompactRange, Hash, TreeHead, TreeSize, verify};
use logwood_monitor::claim::Claim;
use logwood_monitor::failure::Failure;
use logwood_monitor::follow::{self, Link, NotInTree, SignedHead};
use logwood_monitor::source::{ENTRIES_DEADLINE, ENTRIES_DEADLINE_FIRST, Source};
use logwood_note::{Evidence, Receipt};

use super::alarm::Kind;
use super::heads::Outcome;
use super::watch::{View, Watch};

/// Verified entries, and the leaf hash of each.
pub(super) struct Entries {
    pub(super) entries: Vec<Bytes>,
    pub(super) leaves: Vec<Hash>,
}

/// Entries that are not those of the known history.
struct Others {
    /// Leaf hashes of those that the source gave.
    leaves: Vec<Hash>,
    claims: Vec<Claim>,
}

/// Why a source does not have the entries.
struct Refused {
    kind: Kind,
    failure: Failure,
    /// What it has instead.
    others: Option<Others>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { kind: Kind::Unreachable, failure, others: None }
    }
}

impl Watch<'_> {
    /// The next entries of a log that are in the tree of its known head, from the first source that has them.
    ///
    /// However long that takes, the sources are asked for their heads.
    pub(super) async fn fetch(&mut self, tree: &CompactRange, known: &SignedHead) -> anyhow::Result<Option<Entries>> {
        let is_of_log = |view: &View| view.source.has_entries() && view.is_of(&known.origin);
        let lags = |view: &View| view.seen.as_ref().is_some_and(|seen| seen.head.size < known.head.size);
        let order: Vec<_> = (0..self.views.len()).filter(|&at| is_of_log(&self.views[at])).collect();
        // Those whose own head promises the entries come first. The others need not have them.
        let (lagging, promising): (Vec<_>, Vec<_>) = order.into_iter().partition(|&at| lags(&self.views[at]));
        // So do those that have answered of late.
        let (stalled, quick): (Vec<_>, Vec<_>) =
            promising.into_iter().chain(lagging).partition(|&at| self.views[at].source.has_stalled());
        let (first, mut claimed) = (tree.size().0, Vec::new());
        let mut order = quick.into_iter().chain(stalled).peekable();
        while let Some(at) = order.next() {
            let deadline = if order.peek().is_some() { ENTRIES_DEADLINE_FIRST } else { ENTRIES_DEADLINE };
            let source = Arc::clone(&self.views[at].source);
            let fetching = tokio::spawn(fetch_from(source, tree.clone(), known.head, deadline));
            match self.wait_for(fetching).await? {
                Ok(entries) => {
                    for (at, others) in claimed {
                        self.accuse_of_swap(at, (first, &others), &entries.leaves, known).await;
                    }
                    return Ok(Some(entries));
                }
                Err(Refused { kind: Kind::Unreachable, .. }) if lags(&self.views[at]) => {}
                Err(Refused { kind, failure, others }) => {
                    self.failed(at, &failure, kind).await;
                    claimed.extend(others.map(|others| (at, others)));
                }
            }
        }
        Ok(None)
    }

    /// Accuses the log if it vouches for other entries than those of its known history.
    ///
    /// * `others` - what the source `at` gave for the entries from `first` on.
    /// * `leaves` - the leaf hashes that the known history has there.
    async fn accuse_of_swap(
        &mut self,
        at: usize,
        (first, others): (u64, &Others),
        leaves: &[Hash],
        known: &SignedHead,
    ) {
        for claim in &others.claims {
            let Some((index, own, other)) = claim.difference(first, &others.leaves, leaves) else { continue };
            let now = (self.plan.posix_seconds)();
            let head = SignedHead::open(&claim.note, self.plan.policy, self.plan.origin, now);
            let Some(head) = head.ok().filter(|head| head.origin == known.origin) else { continue };
            let Some(receipt) = claim.receipt(index, (first, &others.leaves), &head) else { continue };
            let evidence = match self.tie(at, known, &head).await {
                Outcome::Forked(evidence) => Some(evidence),
                _ => self.swap(&receipt, own, other, known).await,
            };
            let reason = format!(
                "it has another entry {index} than the known history, and shows a head of size {} that vouches for it",
                head.head.size
            );
            let notes = vec![known.note.clone(), head.note];
            return self.raise_with(Kind::SplitView, at, reason, evidence, notes).await;
        }
    }

    /// The evidence that the log vouches for two entries in one place, from the first source that has the proof for the
    /// one of the known history.
    ///
    /// * `own`, `other` - the leaf hash that `receipt` is for, and that of the known history.
    async fn swap(&self, receipt: &Receipt, own: Hash, other: Hash, known: &SignedHead) -> Option<Evidence> {
        let index = receipt.index;
        for source in self.views.iter().map(|view| &view.source).filter(|source| source.has_entries()) {
            let Ok(proof) = source.inclusion(index, known.head.size).await else { continue };
            if verify::inclusion(other, index, &known.head, &proof).is_ok() {
                let honest = Receipt { extra: None, index, proof, checkpoint: known.note.to_vec() };
                let (first, second) = (honest.to_bytes(), receipt.to_bytes());
                return Some(Evidence::Swap { first, first_leaf: other, second, second_leaf: own });
            }
            source.distrust();
        }
        None
    }
}

/// What `source` has after the entries of `tree`, verified.
///
/// * `known` - of one history with `tree`.
async fn fetch_from(
    source: Arc<Source>,
    tree: CompactRange,
    known: TreeHead,
    deadline: Duration,
) -> Result<Entries, Refused> {
    let (first, size) = (tree.size().0, known.size);
    let (entries, claims) = source.entries((first, size.0), size, deadline).await?;
    let end = TreeSize(first + entries.len() as u64);
    let proof = source.consistency(end, size).await?;
    let leaves: Vec<_> = entries.iter().map(|entry| Hash::leaf(entry)).collect();
    match follow::extend(&tree, leaves.iter().copied(), &known, &proof) {
        Ok(_) => Ok(Entries { entries, leaves }),
        Err(error) => {
            source.distrust();
            let (kind, failure) = blame(&source, &leaves, &error).await;
            Err(Refused { kind, failure, others: Some(Others { leaves, claims }) })
        }
    }
}

/// What is wrong, the entries or what should show that they are not: a source whose own hashes do not lead to the signed
/// head says nothing of its entries.
async fn blame(source: &Source, leaves: &[Hash], error: &NotInTree) -> (Kind, Failure) {
    let NotInTree { first: TreeSize(first), end, head } = *error;
    let leads = |link: &Link| {
        link.range.size() == end && verify::consistency(&link.range.head(), &head, &link.consistency).is_ok()
    };
    // Where the entries are the whole tree, its root tells.
    if end < head.size && !source.link(end, head.size).await.is_ok_and(|link| leads(&link)) {
        let what = format!("what the tree of size {} begins with", head.size);
        return match source.tiles_of(end, head.size) {
            Some(tiles) => (Kind::BadTile, Failure::wrong(tiles.join(", "), format!("no proof of {what}"))),
            None => (Kind::BadProof, Failure::wrong("consistency proof", format!("it does not show {what}"))),
        };
    }
    let promised = source.leaves(first, head.size).await.unwrap_or_default();
    let differs = leaves.iter().zip(&promised).position(|(leaf, promised)| leaf != promised);
    let reason = match differs {
        Some(offset) => format!("entry {} does not hash to its leaf; {error}", first + offset as u64),
        None => error.to_string(),
    };
    (Kind::BadEntry, Failure::wrong("entries", reason))
}
