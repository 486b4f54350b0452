//! The derived look-up index: it must hold exactly the rows that the entries say.
//!
//! Rows are compared by sums of their hashes under a key drawn for this run, so that neither side is ever in memory:
//! whoever made the index could not know the key, so sums that agree are those of the same rows. Where they do not,
//! the sums of parts of the log, and of parts of these, lead to the first entry that differs.

use std::ops::Range;

use logwood_merkle::LeafIndex;
use logwood_store::{Entry, IdentityHash, IndexRow};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::bundles::{Bundles, Leaf};
use super::{differs, read};

/// Parts that a range with a difference is split into: three rounds for a thousand million entries.
const PARTS_MAX: u64 = 1_024;

/// Rows to be looked at more closely: of identities, 12 bytes that are alike by chance do not happen.
const ALIKE_ROWS_MAX: usize = 1_000;

/// Rows between two signs of progress.
const PROGRESS_ROWS: u64 = 4_096;

/// How many rows of each kind there are, and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    identities: u64,
    leaves: u64,
    sum: u128,
}

impl Tally {
    /// The rows that entries from `first` on should have.
    pub(super) fn of_entries(bundles: &Bundles<'_>, first: u64, entries: &[Leaf]) -> Self {
        let mut tally = Self::default();
        for (index, (leaf, identity)) in (first..).map(LeafIndex).zip(entries) {
            if let Some(identity) = identity {
                tally.add(&bundles.sum_key, &IndexRow::of_identity(identity, index));
            }
            if bundles.record.settings.leaf_index {
                tally.add(&bundles.sum_key, &IndexRow::of_leaf(&bundles.leaf_secret, leaf, index));
            }
        }
        tally
    }

    pub(super) fn identities(&self) -> u64 {
        self.identities
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        self.identities += other.identities;
        self.leaves += other.leaves;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    fn add(&mut self, key: &[u8; 32], row: &IndexRow) {
        let hash = Sha256::new().chain_update(key);
        let hash = match row {
            IndexRow::Identity { prefix, index } => {
                self.identities += 1;
                hash.chain_update([0]).chain_update(prefix).chain_update(index.0.to_be_bytes())
            }
            IndexRow::Leaf { prefix, index } => {
                self.leaves += 1;
                hash.chain_update([1]).chain_update(prefix).chain_update(index.0.to_be_bytes())
            }
        };
        let hash: [u8; 32] = hash.finalize().into();
        let (half, _) = hash.split_first_chunk().expect("16 of 32 bytes");
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(*half));
    }
}

fn index_of(row: &IndexRow) -> u64 {
    match row {
        IndexRow::Identity { index, .. } | IndexRow::Leaf { index, .. } => index.0,
    }
}

/// Sums the rows that the index has for entries of `range`. Fails if two entries have one identity, or a row names an
/// entry that is not there.
pub(super) fn indexed(bundles: &Bundles<'_>, range: Range<u64>, progress: impl Fn(u64)) -> anyhow::Result<Tally> {
    let (mut tally, mut before, mut alike) = (Tally::default(), None, Vec::new());
    let visited = bundles.store.visit_index(bundles.record.number, &mut |row| {
        if range.contains(&index_of(&row)) {
            tally.add(&bundles.sum_key, &row);
        } else if alike.len() < ALIKE_ROWS_MAX {
            alike.push((index_of(&row), index_of(&row)));
        }
        match (before, row) {
            (Some(IndexRow::Identity { prefix, index }), IndexRow::Identity { prefix: next, .. })
                if prefix == next && alike.len() < ALIKE_ROWS_MAX =>
            {
                alike.push((index.0, index_of(&row)));
            }
            (_, IndexRow::Leaf { .. }) if tally.leaves.is_multiple_of(PROGRESS_ROWS) => progress(PROGRESS_ROWS),
            _ => {}
        }
        before = Some(row);
    });
    visited.map_err(read)?;
    alike.into_iter().try_for_each(|(a, b)| check_pair(bundles, a, b))?;
    Ok(tally)
}

/// Rows that share a prefix are those of one identity, or of two that are alike by chance.
fn check_pair(bundles: &Bundles<'_>, a: u64, b: u64) -> anyhow::Result<()> {
    let identity = |index: u64| -> anyhow::Result<Option<IdentityHash>> {
        let (first, end) = (LeafIndex(index), LeafIndex(index + 1));
        let entry: Option<Entry> = bundles.store.entries(bundles.record.number, first, end, 1).map_err(read)?.pop();
        let entry =
            entry.ok_or_else(|| differs(format!("the look-up index names entry {index}, which is not there")))?;
        Ok(entry.identity)
    };
    if identity(a)? == identity(b)? && a != b {
        return Err(differs(format!("entries {a} and {b} have one identity")));
    }
    Ok(())
}

/// The failure that names the first entry whose rows are not those of the index.
pub(super) fn first_difference(bundles: &Bundles<'_>) -> anyhow::Result<anyhow::Error> {
    let mut range = 0..bundles.record.head.head.size.0;
    while range.end - range.start > 1 {
        let step = (range.end - range.start).div_ceil(PARTS_MAX);
        let parts: Vec<_> = range
            .clone()
            .step_by(usize::try_from(step).unwrap_or(usize::MAX))
            .map(|first| first..range.end.min(first + step))
            .collect();
        let derived: Vec<_> = parts.par_iter().map(|part| derived(bundles, part.clone())).collect();
        let mut stored = vec![Tally::default(); parts.len()];
        let visited = bundles.store.visit_index(bundles.record.number, &mut |row| {
            let part = index_of(&row).checked_sub(range.start).and_then(|at| usize::try_from(at / step).ok());
            if let Some(tally) = part.and_then(|part| stored.get_mut(part)) {
                tally.add(&bundles.sum_key, &row);
            }
        });
        visited.map_err(read)?;
        let mut differing = None;
        for ((part, derived), stored) in parts.into_iter().zip(derived).zip(stored) {
            if derived? != stored {
                differing = Some(part);
                break;
            }
        }
        range = differing.ok_or_else(|| anyhow::anyhow!("the store changed while it was checked; run fsck again"))?;
    }
    Ok(differs(format!(
        "the look-up index does not hold what entry {} says; `logwood repair --rebuild-index` makes it anew",
        range.start
    )))
}

/// The rows of a range of entries, a bundle at a time.
fn derived(bundles: &Bundles<'_>, range: Range<u64>) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for first in range.clone().step_by(256) {
        let leaves = bundles.leaves(first..range.end.min(first + 256))?;
        tally.add_all(&Tally::of_entries(bundles, first, &leaves));
    }
    Ok(tally)
}
