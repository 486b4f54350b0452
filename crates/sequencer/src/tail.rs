//! The growing end of one log: its size and its right edge, rebuilt from storage in O(log n).

use std::sync::Arc;

use logwood_merkle::{Hash, LeafIndex, TILE_HEIGHT, TILE_WIDTH, TileId, TileNodes, TreeHead, TreeSize};
use logwood_store::{LogRecord, LogStore, ReadError};
use thiserror::Error;

use crate::view::{LogView, grow};

/// Memory of a log that grows.
#[derive(Clone, Debug)]
pub struct LogTail {
    pub(crate) size: TreeSize,
    pub(crate) edge: Vec<Arc<TileNodes>>,
    unpacked: Vec<u64>,
}

/// Why a log cannot be served.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Storage failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What is stored cannot be the tree of the stored head.
    #[error("the tree of log `{log}` is damaged: {what}; run `logwood fsck` on the data directory")]
    Damaged {
        /// Name of the log.
        log: String,
        /// What does not fit.
        what: String,
    },
}

impl LogTail {
    /// The tail of a new log.
    #[must_use]
    pub fn empty() -> Self {
        Self { size: TreeSize(0), edge: Vec::new(), unpacked: Vec::new() }
    }

    /// Rebuilds the right edge from at most 255 entries and 255 tiles a level, and compares its root with the head.
    ///
    /// # Errors
    ///
    /// * [`LoadError::Read`] if storage fails.
    /// * [`LoadError::Damaged`] if something is missing or the root is another one.
    pub fn load(store: &dyn LogStore, record: &LogRecord) -> Result<Self, LoadError> {
        let damaged = |what: String| LoadError::Damaged { log: record.settings.name.clone(), what };
        let head = record.head.head;
        let mut edge = Vec::new();
        for level in 0..8u8 {
            let below = u32::from(TILE_HEIGHT) * u32::from(level);
            let entries = head.size.0.checked_shr(below).unwrap_or(0);
            if entries == 0 {
                break;
            }
            let first = entries / TILE_WIDTH * TILE_WIDTH;
            let hashes = match level {
                0 => leaf_hashes(store, record, first..entries)?,
                _ => tile_roots(store, record, level - 1, first..entries)?,
            };
            let width = entries - first;
            if hashes.len() as u64 != width {
                return Err(damaged(format!("{} of {width} hashes are left at tile level {level}", hashes.len())));
            }
            edge.push(Arc::new(TileNodes::from_hashes(&hashes).map_err(|error| damaged(error.to_string()))?));
        }
        let tail = Self { size: head.size, edge, unpacked: record.unpacked.clone() };
        let rebuilt = tail.view().head();
        if rebuilt != head {
            return Err(damaged(format!("its entries give root {}, the stored head says {}", rebuilt.root, head.root)));
        }
        Ok(tail)
    }

    /// Full bundles that lay in pieces when the log was loaded, lowest first: a process before this one filled them.
    #[must_use]
    pub fn unpacked(&self) -> &[u64] {
        &self.unpacked
    }

    /// What readers see of the log at this size.
    #[must_use]
    pub fn view(&self) -> LogView {
        LogView::new(self.size, self.edge.clone())
    }

    /// The head at this size.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        self.view().head()
    }

    /// Appends one leaf; completed tiles go to `completed`.
    pub(crate) fn push(&mut self, leaf: Hash, completed: &mut Vec<(TileId, Arc<TileNodes>)>) -> LeafIndex {
        grow(&mut self.edge, self.size, leaf, completed);
        let index = LeafIndex(self.size.0);
        self.size = TreeSize(self.size.0 + 1);
        index
    }
}

fn leaf_hashes(store: &dyn LogStore, record: &LogRecord, range: std::ops::Range<u64>) -> Result<Vec<Hash>, LoadError> {
    let mut hashes = Vec::new();
    let mut next = range.start;
    while next < range.end {
        let entries = store.entries(record.number, LeafIndex(next), LeafIndex(range.end), 1 << 20)?;
        if entries.is_empty() {
            break;
        }
        next += entries.len() as u64;
        hashes.extend(entries.iter().map(|entry| Hash::leaf(&entry.bytes)));
    }
    Ok(hashes)
}

fn tile_roots(
    store: &dyn LogStore,
    record: &LogRecord,
    level: u8,
    range: std::ops::Range<u64>,
) -> Result<Vec<Hash>, LoadError> {
    let ids: Vec<_> = range.map(|index| TileId { level, index }).collect();
    let mut roots = Vec::with_capacity(ids.len());
    for tile in store.tiles(record.number, &ids)?.into_iter().flatten() {
        roots.extend(TileNodes::from_bytes(&tile).ok().and_then(|nodes| nodes.root()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
