//! Which heads were verified, and which of them a published head has still to be shown to extend. Pure.
//!
//! ```text
//! 5 ──> 9 ──> 14 = latest          an arrow is a consistency proof that verified
//!       └───> 11                   11 came in an answer to a call that knew 9, while 14 came in another:
//!                                  nothing relates the two yet
//! unsettled: 14, 11                ends of chains under which receipts were given out. 5 and 9 need no
//!                                  check of their own: what extends 14 extends them
//! ```
//!
//! So one check settles all receipts of a caller that makes one call after another, however many there are. A head that
//! an answer calls published settles nothing: only [`Memory::settled`] does, once the history has been asked for it.

use std::collections::VecDeque;

use logwood_merkle::TreeHead;

use crate::verify::same_tree;
use crate::{ClientError, VerifiedHead};

/// Heads kept that the latest is known to extend: answers that overtake each other are that far apart at most.
const CHAIN_HEADS_MAX: usize = 64;

/// What a client has verified of a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    latest: Option<VerifiedHead>,
    unsettled: Vec<VerifiedHead>,
    /// Heads that `latest` was shown to extend, oldest first.
    chain: VecDeque<TreeHead>,
}

/// What a state file holds of one log under one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) latest: Option<VerifiedHead>,
    pub(crate) unsettled: Vec<VerifiedHead>,
}

impl Memory {
    pub(crate) fn new(found: Snapshot) -> Self {
        Self { latest: found.latest, unsettled: found.unsettled, chain: VecDeque::new() }
    }

    /// The largest head verified so far.
    pub(crate) fn latest(&self) -> Option<&VerifiedHead> {
        self.latest.as_ref()
    }

    /// Heads that a published head has still to be shown to extend.
    pub(crate) fn unsettled(&self) -> &[VerifiedHead] {
        &self.unsettled
    }

    pub(crate) fn is_unsettled(&self, head: &VerifiedHead) -> bool {
        self.unsettled.iter().any(|unsettled| unsettled.head == head.head)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot { latest: self.latest.clone(), unsettled: self.unsettled.clone() }
    }

    /// Takes in `head`, whose signature verified.
    ///
    /// * `extends` - a head verified before that it was shown to extend.
    /// * `receipts` - whether receipts are given out under it.
    ///
    /// # Errors
    ///
    /// [`ClientError::Verification`] if another tree of the same size was verified before.
    pub(crate) fn advance(
        &mut self,
        extends: Option<&VerifiedHead>,
        head: &VerifiedHead,
        receipts: bool,
    ) -> Result<(), ClientError> {
        self.latest.iter().chain(&self.unsettled).try_for_each(|known| same_tree(known, head))?;
        if extends.is_some_and(|known| self.remove(known)) || receipts {
            self.owe(head.clone());
        }
        match self.latest.take() {
            Some(latest) if latest.head.size >= head.head.size => {
                if latest.head != head.head && !self.chain.contains(&head.head) {
                    self.owe(head.clone());
                }
                self.latest = Some(latest);
            }
            latest => {
                self.grow(latest, extends.map(|known| known.head));
                self.latest = Some(head.clone());
            }
        }
        Ok(())
    }

    /// Makes room for a larger head than `latest`, which extends `known`.
    fn grow(&mut self, latest: Option<VerifiedHead>, known: Option<TreeHead>) {
        let is_extended = |head: &TreeHead| known.is_some_and(|known| *head == known);
        if let Some(latest) = latest.filter(|latest| !is_extended(&latest.head)) {
            // Nothing says that the new head extends it, too: a later one must.
            self.owe(latest);
            let place = self.chain.iter().position(is_extended);
            self.chain.truncate(place.unwrap_or(0));
        }
        self.chain.extend(known);
        if self.chain.len() > CHAIN_HEADS_MAX {
            self.chain.pop_front();
        }
    }

    /// Notes that `later` was shown to extend `head`: what was owed for `head` is now owed for `later`.
    pub(crate) fn extended(&mut self, head: &VerifiedHead, later: &VerifiedHead) {
        if self.remove(head) {
            self.owe(later.clone());
        }
    }

    /// Notes that a head of the published history was shown to extend `head`: nothing is owed for it any more.
    pub(crate) fn settled(&mut self, head: &VerifiedHead) {
        self.remove(head);
    }

    /// Takes in what other processes wrote since this one last read or wrote: nothing that either knows is lost.
    ///
    /// * `base` - what was last read or written.
    /// * `theirs` - what is there now.
    ///
    /// Of two latest heads the larger wins; the smaller is then among the unsettled ones, unless it is known to be
    /// extended. It is returned if another process brought it or the larger one: nothing relates the two yet.
    ///
    /// # Errors
    ///
    /// [`ClientError::Verification`] if two trees of one size were verified.
    pub(crate) fn merge(&mut self, base: &Snapshot, theirs: Snapshot) -> Result<Option<VerifiedHead>, ClientError> {
        let is_in = |heads: &[VerifiedHead], head: &VerifiedHead| heads.iter().any(|other| other.head == head.head);
        // Settled by another process.
        self.unsettled.retain(|head| !is_in(&base.unsettled, head) || is_in(&theirs.unsettled, head));
        for head in theirs.unsettled {
            self.latest.iter().chain(&self.unsettled).try_for_each(|known| same_tree(known, &head))?;
            if !is_in(&base.unsettled, &head) {
                self.owe(head);
            }
        }
        let base = base.latest.as_ref().map(|latest| latest.head);
        let Some(latest) = theirs.latest.filter(|latest| base != Some(latest.head)) else {
            return Ok(None);
        };
        let Some(own) = self.latest.take() else {
            self.latest = Some(latest);
            return Ok(None);
        };
        same_tree(&own, &latest)?;
        // Whoever went on from the file's latest head has seen to it.
        let is_known = own.head == latest.head || base == Some(own.head) || self.chain.contains(&latest.head);
        let (larger, smaller) = if latest.head.size > own.head.size { (latest, own) } else { (own, latest) };
        self.latest = Some(larger);
        if is_known {
            return Ok(None);
        }
        self.chain.clear();
        self.owe(smaller.clone());
        Ok(Some(smaller))
    }

    fn owe(&mut self, head: VerifiedHead) {
        // Every log extends the empty tree.
        if head.head.size.0 > 0 && !self.is_unsettled(&head) {
            self.unsettled.push(head);
        }
    }

    fn remove(&mut self, head: &VerifiedHead) -> bool {
        let before = self.unsettled.len();
        self.unsettled.retain(|unsettled| unsettled.head != head.head);
        self.unsettled.len() < before
    }
}

#[cfg(test)]
mod tests;
