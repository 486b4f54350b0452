//! Names of perfect subtrees, the only nodes that are ever stored.
//!
//! ```text
//! level 2          0                    NodeId { level, index } covers the leaves
//!             /        \                [index << level, (index + 1) << level)
//! level 1    0          1        2
//!          /   \      /   \     / \     In a tree of 7 leaves, node (1, 3) does not
//! level 0 0     1    2     3   4   5  6 exist: leaf 6 waits for leaf 7.
//! ```

use std::fmt;

use crate::TreeSize;

/// A perfect subtree: the leaves `[index << level, (index + 1) << level)`.
///
/// Ordered by level, then by index. Shown as `level/index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Height above the leaves; 0 is a leaf. At most 63 inside any tree.
    pub level: u8,
    /// Position among the nodes of its level, counted from 0.
    pub index: u64,
}

impl NodeId {
    /// Whether every leaf below this node is in a tree of `size` leaves.
    #[must_use]
    pub fn is_complete(self, size: TreeSize) -> bool {
        let complete = size.0.checked_shr(self.level.into()).unwrap_or(0);
        self.index < complete
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, self.index)
    }
}
