//! Which stored nodes a proof needs, apart from hashing them.
//!
//! ```text
//! range [2, 5) of 7            root                 left: [0,2)
//!                           /        \              right: 5, 6
//!                      [0,4)          [4,7)
//!                      /   \          /   \         A subtree that the range covers in part is
//!                 <[0,2)> [2,4)    [4,6)  <6>       entered; one wholly outside is a proof hash;
//!                                  /  \             a ragged one is folded from perfect parts.
//!                                 4   <5>
//! ```
//!
//! Source: RFC 6962 §2.1.1 and §2.1.2; range proofs and multiproofs are Logwood's own.

use std::ops::Range;

use thiserror::Error;

use crate::compact::fold;
use crate::path::{perfect_parts, split};
use crate::{Hash, LeafIndex, NodeId, ProofError, TreeSize};

/// The stored nodes that a proof is made of, and how they fold into its hashes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProofPlan {
    nodes: Vec<NodeId>,
    parts: Vec<u8>,
}

impl ProofPlan {
    /// The nodes to fetch, in this order: perfect, and complete at the planned size.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Hashes in the finished proof.
    #[must_use]
    pub fn hash_count(&self) -> usize {
        self.parts.len()
    }

    /// Folds the hashes of [`ProofPlan::nodes`], in that order, into the proof.
    ///
    /// # Errors
    ///
    /// [`PlanError::WrongLength`] unless there is one hash for each node.
    pub fn assemble(&self, fetched: &[Hash]) -> Result<Vec<Hash>, PlanError> {
        if fetched.len() != self.nodes.len() {
            return Err(PlanError::WrongLength { expected: self.nodes.len(), actual: fetched.len() });
        }
        let mut rest = fetched;
        let hashes = self.parts.iter().map(|&parts| {
            let (subtree, after) = rest.split_at(usize::from(parts));
            rest = after;
            fold(subtree)
        });
        Ok(hashes.collect())
    }

    /// The plan whose hashes are the roots of `subtrees`, in order.
    fn of(subtrees: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut plan = Self::default();
        for (lo, hi) in subtrees {
            let before = plan.nodes.len();
            plan.nodes.extend(perfect_parts(lo, hi));
            plan.parts.push(u8::try_from(plan.nodes.len() - before).expect("at most 64 parts"));
        }
        plan
    }
}

/// The two halves of a range proof.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RangePlan {
    /// Siblings left of the range, root side first.
    pub left: ProofPlan,
    /// Siblings right of the range, leaf side first.
    pub right: ProofPlan,
}

/// Why fetched hashes cannot be assembled.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// Another number of hashes was fetched than the plan has nodes.
    #[error("the plan names {expected} nodes, got {actual} hashes: fetch every node, in order")]
    WrongLength {
        /// Nodes of the plan.
        expected: usize,
        /// Hashes supplied.
        actual: usize,
    },
}

/// Plans `PATH(index, D[size])` (RFC 6962 §2.1.1).
///
/// # Errors
///
/// [`ProofError::IndexOutOfRange`] if `index >= size`.
pub fn inclusion(index: LeafIndex, size: TreeSize) -> Result<ProofPlan, ProofError> {
    if index.0 >= size.0 {
        return Err(ProofError::IndexOutOfRange { index, size });
    }
    let (mut lo, mut hi) = (0, size.0);
    let mut siblings = Vec::new();
    while hi - lo > 1 {
        let middle = split(lo, hi);
        if index.0 < middle {
            siblings.push((middle, hi));
            hi = middle;
        } else {
            siblings.push((lo, middle));
            lo = middle;
        }
    }
    siblings.reverse();
    Ok(ProofPlan::of(siblings))
}

/// Plans `PROOF(old, D[new])` (RFC 6962 §2.1.2).
///
/// # Errors
///
/// [`ProofError::EmptyTree`], [`ProofError::SizeWentBackwards`].
pub fn consistency(old: TreeSize, new: TreeSize) -> Result<ProofPlan, ProofError> {
    if old.0 == 0 {
        return Err(ProofError::EmptyTree);
    }
    if old > new {
        return Err(ProofError::SizeWentBackwards { old, new });
    }
    // SUBPROOF(m, D[lo:hi], b): `old` is m counted from 0; b holds as long as `lo` is 0.
    let (mut lo, mut hi) = (0, new.0);
    let mut hashes = Vec::new();
    while old.0 < hi {
        let middle = split(lo, hi);
        if old.0 <= middle {
            hashes.push((middle, hi));
            hi = middle;
        } else {
            hashes.push((lo, middle));
            lo = middle;
        }
    }
    if lo > 0 {
        hashes.push((lo, hi));
    }
    hashes.reverse();
    Ok(ProofPlan::of(hashes))
}

/// Plans the range proof of the half-open `range`.
///
/// # Errors
///
/// [`ProofError::EmptyRange`], [`ProofError::RangeOutOfRange`].
pub fn range(range: Range<u64>, size: TreeSize) -> Result<RangePlan, ProofError> {
    let (first, end) = (LeafIndex(range.start), LeafIndex(range.end));
    if range.is_empty() {
        return Err(ProofError::EmptyRange { first, end });
    }
    if range.end > size.0 {
        return Err(ProofError::RangeOutOfRange { first, count: range.end - range.start, size });
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    // Towards the first leaf: what is left of it. Root side first.
    let (mut lo, mut hi) = (0, size.0);
    while lo < range.start {
        let middle = split(lo, hi);
        if range.start >= middle {
            left.push((lo, middle));
            lo = middle;
        } else {
            hi = middle;
        }
    }
    // Towards the last leaf: what is right of it. Leaf side first.
    let (mut lo, mut hi) = (0, size.0);
    while range.end < hi {
        let middle = split(lo, hi);
        if range.end <= middle {
            right.push((middle, hi));
            hi = middle;
        } else {
            lo = middle;
        }
    }
    right.reverse();
    Ok(RangePlan { left: ProofPlan::of(left), right: ProofPlan::of(right) })
}

/// Plans a multiproof, in the order of `rs_merkle`.
///
/// # Errors
///
/// [`ProofError::NoIndices`], [`ProofError::IndicesNotIncreasing`], [`ProofError::IndexOutOfRange`].
pub fn multi(indices: &[LeafIndex], size: TreeSize) -> Result<ProofPlan, ProofError> {
    let mut level = Level::of_leaves(indices, size)?;
    let mut hashes = Vec::new();
    while level.width > 1 {
        hashes.extend(level.missing().map(|index| level.covers(index)));
        level = level.parent();
    }
    Ok(ProofPlan::of(hashes))
}

/// The nodes of one level that a multiproof knows, lowest level first: the shape of `rs_merkle`'s trees.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    size: u64,
    height: u32,
    /// Nodes of the whole level. The last may be ragged, or promoted from below.
    pub(crate) width: u64,
    /// Strictly increasing.
    pub(crate) known: Vec<u64>,
}

impl Level {
    /// Checks what is proved: strictly increasing indices below the size.
    pub(crate) fn of_leaves(indices: &[LeafIndex], size: TreeSize) -> Result<Self, ProofError> {
        let last = indices.last().ok_or(ProofError::NoIndices)?;
        if let Some(pair) = indices.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(ProofError::IndicesNotIncreasing { previous: pair[0], index: pair[1] });
        }
        if last.0 >= size.0 {
            return Err(ProofError::IndexOutOfRange { index: *last, size });
        }
        let known = indices.iter().map(|index| index.0).collect();
        Ok(Self { size: size.0, height: 0, width: size.0, known })
    }

    /// Siblings that are not known, left to right.
    pub(crate) fn missing(&self) -> impl Iterator<Item = u64> {
        let is_known = |index: u64| self.known.binary_search(&index).is_ok();
        let siblings = self.known.iter().map(|index| index ^ 1);
        siblings.filter(move |&sibling| sibling < self.width && !is_known(sibling))
    }

    /// The leaves below a node of this level.
    fn covers(&self, index: u64) -> (u64, u64) {
        let lo = index << self.height;
        (lo, lo.saturating_add(1 << self.height).min(self.size))
    }

    /// The level above, where the parents are known.
    pub(crate) fn parent(&self) -> Self {
        let mut known: Vec<_> = self.known.iter().map(|index| index / 2).collect();
        known.dedup();
        Self { size: self.size, height: self.height + 1, width: self.width.div_ceil(2), known }
    }
}

/// Plans the root: [`ProofPlan::assemble`] gives exactly one hash, for size 0 too.
#[must_use]
pub fn root(size: TreeSize) -> ProofPlan {
    if size.0 == 0 {
        return ProofPlan { nodes: Vec::new(), parts: vec![0] };
    }
    ProofPlan::of([(0, size.0)])
}
