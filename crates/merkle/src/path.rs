//! The siblings on the way from a node to the root: shape alone, no hashes.
//!
//! ```text
//! size 7         root          from leaf 6: no sibling at level 0 (promoted),
//!              /      \          B at level 1 (left), A at level 2 (left)
//!            A         .       from leaf 4: 5 (right), then node 6 (right), then A
//!          /   \      /  \
//!         .     .    B    6    At each level the node and the last node say it all:
//!        0 1   2 3  4 5          odd       sibling on the left, always complete
//!                                even      sibling on the right, maybe ragged
//!                                even and last   none: promoted unchanged
//! ```
//!
//! Source: RFC 9162 §2.1.3.2 and §2.1.4.2, whose `fn` and `sn` are `node` and `last`.

use crate::{Hash, NodeId};

/// On which side of the node that we climb from a sibling lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A subtree that joins the climb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sibling {
    /// Its root. On the right it may reach past the tree: then the subtree is ragged.
    pub(crate) id: NodeId,
    pub(crate) side: Side,
}

impl Side {
    /// Hashes `node` with the `sibling` on this side of it.
    pub(crate) fn join(self, sibling: &Hash, node: &Hash) -> Hash {
        match self {
            Self::Left => Hash::node(sibling, node),
            Self::Right => Hash::node(node, sibling),
        }
    }
}

/// Siblings from leaf `index` to the root of a tree whose last leaf is `last`, lowest first.
///
/// Starts at the ancestor of the leaf on `level`. At most 64 siblings.
pub(crate) fn siblings(level: u8, index: u64, last: u64) -> impl Iterator<Item = Sibling> + Clone {
    assert!(index <= last, "leaf {index} is past the last leaf {last}");
    // `last >> level` is 0 at the root, which level 64 always is.
    let levels = (level..64).take_while(move |level| last >> level > 0);
    levels.filter_map(move |level| {
        let (node, last) = (index >> level, last >> level);
        let (side, index) = match node % 2 {
            1 => (Side::Left, node - 1),
            _ if node < last => (Side::Right, node + 1),
            _ => return None, // Promoted.
        };
        Some(Sibling { id: NodeId { level, index }, side })
    })
}
