//! Range proofs: "these are all the leaves from a to b", in O(log n) hashes.
//!
//! ```text
//! [2, 5) of 7            root           left  [01]    left siblings on leaf a's path
//!                      /      \         right [5, 6]  right siblings on leaf (b-1)'s
//!                    .         .
//!                  /   \      /  \      The left hashes are the compact range of
//!               [01]    23   45  [6]    [0, a). Appending the leaves gives that of
//!               /  \    /\   / \        [0, b): 0123, 4. Climbing from its last
//!              0    1  2  3 4  [5]      subtree meets the rest: 5, 6, then 0123.
//! ```
//!
//! Exactly popcount(a) hashes lie left. With i = b-1 and k the bit length of
//! i xor (n-1), as many lie right as i has zeros among its low k bits. A ragged
//! right subtree is one hash. Each leaf's RFC 6962 inclusion proof follows from these
//! hashes and the leaves alone: that is how one answer holds a thousand receipts.
//!
//! Source: Logwood's protocol, "Range proofs"; the tree is RFC 6962 §2.1.

use crate::path::{Side, siblings};
use crate::verify::{check_root, lowest_bit};
use crate::{CompactRange, Hash, LeafIndex, ProofError, TreeHead, TreeSize};

/// The hashes left and right of a contiguous run of leaves; none for a whole tree.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RangeProof {
    /// Left siblings on the path of the first leaf, root side first.
    pub left: Vec<Hash>,
    /// Right siblings on the path of the last leaf, leaf side first.
    pub right: Vec<Hash>,
}

/// Checks that `leaves` are the leaves from `first` on of the tree that `head` commits to.
///
/// * `leaves` - leaf hashes in order of index, at least one.
/// * `proof` - exactly the hashes that `first`, the number of leaves and the size imply.
///
/// About one hash a leaf and one a proof hash; one allocation.
///
/// # Errors
///
/// * [`ProofError::EmptyRange`] if there are no leaves.
/// * [`ProofError::RangeOutOfRange`] if they end past the tree: always for the empty tree.
/// * [`ProofError::WrongLeftLength`], [`ProofError::WrongRightLength`] if hashes are
///   missing or trail.
/// * [`ProofError::RootMismatch`] if a leaf or hash is not the tree's.
pub fn verify(first: LeafIndex, leaves: &[Hash], head: &TreeHead, proof: &RangeProof) -> Result<(), ProofError> {
    let last = check_shape(first, leaves, head.size, proof)?;

    // Room for every subtree on the way: none of the appends allocates again.
    let mut left = Vec::with_capacity(u64::BITS as usize);
    left.extend_from_slice(&proof.left);
    let mut covered = CompactRange::from_hashes(TreeSize(first.0), left)
        .expect("check_shape demands one left hash for each 1 bit of the first index");
    for &leaf in leaves {
        covered.append(leaf, |_, _| {});
    }

    // Everything up to the last leaf is covered. Its last subtree climbs to the root:
    // the subtrees before it join on the left, the right hashes on the right.
    let (start, before) = covered.hashes().split_last().expect("at least one leaf is covered");
    let (mut lefts, mut rights) = (before.iter().rev(), proof.right.iter());
    let level = lowest_bit(covered.size().0);
    let root = siblings(level, last.0, head.size.0 - 1).fold(*start, |node, sibling| {
        let hash = match sibling.side {
            Side::Left => lefts.next(),
            Side::Right => rights.next(),
        };
        sibling.side.join(hash.expect("check_shape counted the siblings"), &node)
    });
    check_root(head, root)
}

/// Derives the RFC 6962 inclusion proof of every leaf: `out[i]` is for `first + i`.
///
/// Arguments as for [`verify`], which this includes. Hashes each node once; the
/// output is O(k log n) hashes for k leaves. See [`VerifiedRange`] for one at a time.
///
/// # Errors
///
/// As [`verify`].
pub fn inclusion_proofs(
    first: LeafIndex,
    leaves: &[Hash],
    head: &TreeHead,
    proof: &RangeProof,
) -> Result<Vec<Vec<Hash>>, ProofError> {
    let range = VerifiedRange::new(first, leaves, head, proof)?;
    Ok((range.first.0..=range.last.0).map(|index| range.path(index)).collect())
}

/// Derives the RFC 6962 inclusion proof of the one leaf at `index`.
///
/// Arguments as for [`verify`], which this includes. For several leaves keep the
/// [`VerifiedRange`] instead.
///
/// # Errors
///
/// As [`verify`], and [`ProofError::IndexOutsideRange`] unless the range holds `index`.
pub fn inclusion_proof(
    first: LeafIndex,
    leaves: &[Hash],
    head: &TreeHead,
    proof: &RangeProof,
    index: LeafIndex,
) -> Result<Vec<Hash>, ProofError> {
    VerifiedRange::new(first, leaves, head, proof)?.inclusion_proof(index)
}

/// A range that verified, with every node above it: the source of single inclusion proofs.
///
/// Holds about 2k + 2 log n hashes for k leaves.
#[derive(Clone, Debug)]
pub struct VerifiedRange {
    first: LeafIndex,
    last: LeafIndex,
    /// The nodes of all rows, level by level, left to right.
    nodes: Vec<Hash>,
    /// One for each level below the root.
    rows: Vec<Row>,
}

/// The nodes of one level that touch the range, and the siblings at both ends.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// Index, within its level, of the row's first node: even, so that pairs are whole.
    first: u64,
    /// Where the row begins and ends in `VerifiedRange::nodes`.
    begin: usize,
    end: usize,
}

impl VerifiedRange {
    /// Verifies a range and keeps the nodes met on the way. Arguments as for [`verify`].
    ///
    /// # Errors
    ///
    /// As [`verify`].
    pub fn new(first: LeafIndex, leaves: &[Hash], head: &TreeHead, proof: &RangeProof) -> Result<Self, ProofError> {
        let last = check_shape(first, leaves, head.size, proof)?;
        let depth = (u64::BITS - (head.size.0 - 1).leading_zeros()) as usize;
        let mut nodes = Vec::with_capacity(2 * (leaves.len() + depth));
        let mut rows = Vec::with_capacity(depth);

        let (mut lefts, mut rights) = (proof.left.iter().rev(), proof.right.iter());
        let (mut low, mut high, mut last_node) = (first.0, last.0, head.size.0 - 1);
        let mut row = leaves.to_vec();
        while last_node > 0 {
            let begin = nodes.len();
            if low % 2 == 1 {
                nodes.push(*lefts.next().expect("one left hash for each 1 bit of the index"));
            }
            nodes.extend_from_slice(&row);
            if high % 2 == 0 && high < last_node {
                nodes.push(*rights.next().expect("check_shape counted the right siblings"));
            }
            rows.push(Row { first: low & !1, begin, end: nodes.len() });
            row.clear();
            row.extend(nodes[begin..].chunks(2).map(|pair| match pair {
                [left, right] => Hash::node(left, right),
                promoted => promoted[0],
            }));
            (low, high, last_node) = (low / 2, high / 2, last_node / 2);
        }
        check_root(head, row[0])?;
        Ok(Self { first, last, nodes, rows })
    }

    /// The RFC 6962 inclusion proof of the leaf at `index`: its sibling first. No hashing.
    ///
    /// # Errors
    ///
    /// [`ProofError::IndexOutsideRange`] unless the range holds `index`.
    pub fn inclusion_proof(&self, index: LeafIndex) -> Result<Vec<Hash>, ProofError> {
        if index < self.first || index > self.last {
            let (first, last) = (self.first, self.last);
            return Err(ProofError::IndexOutsideRange { index, first, last });
        }
        Ok(self.path(index.0))
    }

    fn path(&self, index: u64) -> Vec<Hash> {
        let mut path = Vec::with_capacity(self.rows.len());
        for (level, row) in self.rows.iter().enumerate() {
            let sibling = (index >> level) ^ 1;
            // Past the row's end there is no sibling: the node is promoted.
            let offset = usize::try_from(sibling - row.first).unwrap_or(usize::MAX);
            path.extend(self.nodes[row.begin..row.end].get(offset));
        }
        path
    }
}

/// Checks that a range holds leaves and lies inside a tree of `size` leaves.
pub(crate) fn check_bounds(first: LeafIndex, count: u64, size: TreeSize) -> Result<(), ProofError> {
    if count == 0 {
        return Err(ProofError::EmptyRange { first, end: first });
    }
    match first.0.checked_add(count) {
        Some(end) if end <= size.0 => Ok(()),
        _ => Err(ProofError::RangeOutOfRange { first, count, size }),
    }
}

/// Checks everything about a range proof but its hashes; gives the index of the last leaf.
fn check_shape(first: LeafIndex, leaves: &[Hash], size: TreeSize, proof: &RangeProof) -> Result<LeafIndex, ProofError> {
    let count = leaves.len() as u64;
    check_bounds(first, count, size)?;
    let last = first.0 + count - 1;

    let (expected, actual) = (first.0.count_ones() as usize, proof.left.len());
    if actual != expected {
        return Err(ProofError::WrongLeftLength { expected, actual });
    }
    let path = siblings(0, last, size.0 - 1);
    let expected = path.filter(|sibling| sibling.side == Side::Right).count();
    let actual = proof.right.len();
    if actual != expected {
        return Err(ProofError::WrongRightLength { expected, actual });
    }
    Ok(LeafIndex(last))
}
