//! The shape of the tree: who is whose sibling. No hash is looked at here.
//!
//! ```text
//! size 7          [0,7)             A subtree [lo, hi) splits at the largest power of two
//!               /       \           below its size. The left half is perfect, so every
//!           [0,4)       [4,7)       subtree begins at a multiple of its (rounded up) size.
//!           /   \       /   \
//!        [0,2) [2,4) [4,6)  6       siblings of leaf 4, lowest first: 5, 6, [0,4)
//! ```
//!
//! Source: RFC 6962 §2.1 (the split), RFC 9162 §2.1.3.2 (the walk upwards).

use crate::{Hash, NodeId};

/// Where `[lo, hi)`, of more than one leaf, splits (RFC 6962 §2.1: `k < n <= 2k`).
pub(crate) fn split(lo: u64, hi: u64) -> u64 {
    lo + (1 << (hi - lo - 1).ilog2())
}

/// The perfect subtrees that make up the subtree `[lo, hi)`, largest first.
pub(crate) fn perfect_parts(lo: u64, hi: u64) -> impl Iterator<Item = NodeId> {
    let mut next = lo;
    std::iter::from_fn(move || {
        let left = (hi - next).checked_ilog2()?;
        let level = u8::try_from(left).expect("a logarithm of a u64 is below 64");
        let node = NodeId { level, index: next >> level };
        next += 1 << level;
        Some(node)
    })
}

/// On which side of the current node a sibling lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The sibling comes before.
    Left,
    /// The sibling comes after.
    Right,
}

impl Side {
    /// The parent of `node` and `sibling`, which lies on this side of it.
    pub(crate) fn join(self, sibling: &Hash, node: &Hash) -> Hash {
        match self {
            Self::Left => Hash::node(sibling, node),
            Self::Right => Hash::node(node, sibling),
        }
    }
}

/// The sides of the siblings met on the way up, lowest first, for a node at `index` of a level whose last node is
/// `last`. A last node without a sibling is promoted unchanged and yields nothing for its level.
pub(crate) fn sides(index: u64, last: u64) -> impl Iterator<Item = Side> + Clone {
    let (mut index, mut last) = (index, last);
    std::iter::from_fn(move || {
        while last > 0 {
            let side = match (index % 2, index == last) {
                (1, _) => Some(Side::Left),
                (_, false) => Some(Side::Right),
                (_, true) => None,
            };
            (index, last) = (index / 2, last / 2);
            if side.is_some() {
                return side;
            }
        }
        None
    })
}
