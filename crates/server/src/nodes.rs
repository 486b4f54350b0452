//! Proofs from a view of the right edge, cached tiles and the store: plan, fetch, fold.

use std::ops::Range;
use std::sync::Arc;

use logwood_merkle::plan::{self, ProofPlan};
use logwood_merkle::{CompactRange, Hash, LeafIndex, NodeId, ProofError, RangeProof, TileId, TileNodes, TreeSize};
use logwood_sequencer::{LogView, NodePlace};
use logwood_store::{LogNumber, LogStore, ReadError};
use quick_cache::sync::Cache;
use thiserror::Error;

/// Tiles in memory, with their interior nodes: 16 KiB each, 64 MiB in all.
const CACHED_TILES_MAX: usize = 4_096;

/// The tile cache, and how to fill it.
pub(crate) struct Nodes {
    tiles: Cache<(LogNumber, TileId), Arc<TileNodes>>,
}

/// Why a proof could not be made.
#[derive(Debug, Error)]
pub(crate) enum NodeError {
    /// The request cannot be proved.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The store failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Nodes {
    pub(crate) fn new() -> Self {
        // What is hit again stays before what was read once: the upper levels, which are in every proof.
        Self { tiles: Cache::new(CACHED_TILES_MAX) }
    }

    /// A tile that a round has just completed.
    pub(crate) fn insert(&self, log: LogNumber, id: TileId, tile: Arc<TileNodes>) {
        self.tiles.insert((log, id), tile);
    }

    /// Forgets everything: the store was opened anew.
    pub(crate) fn clear(&self) {
        self.tiles.clear();
    }

    pub(crate) fn inclusion(
        &self,
        store: &dyn LogStore,
        (log, view): (LogNumber, &LogView),
        index: LeafIndex,
        size: TreeSize,
    ) -> Result<Vec<Hash>, NodeError> {
        self.prove(store, log, view, &plan::inclusion(index, size)?)
    }

    pub(crate) fn consistency(
        &self,
        store: &dyn LogStore,
        (log, view): (LogNumber, &LogView),
        old: TreeSize,
        new: TreeSize,
    ) -> Result<Vec<Hash>, NodeError> {
        if old.0 == 0 {
            return Ok(Vec::new());
        }
        self.prove(store, log, view, &plan::consistency(old, new)?)
    }

    pub(crate) fn range(
        &self,
        store: &dyn LogStore,
        (log, view): (LogNumber, &LogView),
        range: Range<u64>,
        size: TreeSize,
    ) -> Result<RangeProof, NodeError> {
        let plan = plan::range(range, size)?;
        Ok(RangeProof {
            left: self.prove(store, log, view, &plan.left)?,
            right: self.prove(store, log, view, &plan.right)?,
        })
    }

    pub(crate) fn multi(
        &self,
        store: &dyn LogStore,
        (log, view): (LogNumber, &LogView),
        indices: &[LeafIndex],
        size: TreeSize,
    ) -> Result<Vec<Hash>, NodeError> {
        self.prove(store, log, view, &plan::multi(indices, size)?)
    }

    /// The root of the tree of `size` leaves, at most the view's.
    pub(crate) fn root(
        &self,
        store: &dyn LogStore,
        (log, view): (LogNumber, &LogView),
        size: TreeSize,
    ) -> Result<Hash, ReadError> {
        let hashes = CompactRange::node_ids(size).into_iter().map(|node| self.hash(store, log, view, node));
        let hashes = hashes.collect::<Result<Vec<_>, _>>()?;
        let range = CompactRange::from_hashes(size, hashes).expect("as many hashes as bits are set in the size");
        Ok(range.root())
    }

    /// The leaf hash at `index`, which must be below the view's size.
    pub(crate) fn leaf(
        &self,
        store: &dyn LogStore,
        (log, view): (LogNumber, &LogView),
        index: LeafIndex,
    ) -> Result<Hash, NodeError> {
        Ok(self.hash(store, log, view, NodeId { level: 0, index: index.0 })?)
    }

    /// The first `width` hashes of a tile, all of which `view` has, in `tlog-tiles` form.
    pub(crate) fn tile_hashes(
        &self,
        store: &dyn LogStore,
        (log, view): (LogNumber, &LogView),
        id: TileId,
        width: u16,
    ) -> Result<Vec<u8>, ReadError> {
        let first = |tile: &TileNodes| {
            let hashes = tile.hashes().get(..width.into()).expect("the view has as many hashes of the tile");
            hashes.iter().flat_map(Hash::as_bytes).copied().collect()
        };
        match view.edge_tile(id) {
            Some(tile) => Ok(first(tile)),
            None => self.tile(store, log, id).map(|tile| first(&tile)),
        }
    }

    fn prove(
        &self,
        store: &dyn LogStore,
        log: LogNumber,
        view: &LogView,
        plan: &ProofPlan,
    ) -> Result<Vec<Hash>, NodeError> {
        let mut hashes = Vec::with_capacity(plan.nodes().len());
        for &node in plan.nodes() {
            hashes.push(self.hash(store, log, view, node)?);
        }
        Ok(plan.assemble(&hashes).expect("one hash was fetched for every node of the plan"))
    }

    fn hash(&self, store: &dyn LogStore, log: LogNumber, view: &LogView, node: NodeId) -> Result<Hash, ReadError> {
        let (id, sub_level, offset) = match view.place(node) {
            NodePlace::Edge(hash) => return Ok(hash),
            NodePlace::Tile(id, sub_level, offset) => (id, sub_level, offset),
        };
        let tile = self.tile(store, log, id)?;
        Ok(tile.get(sub_level, offset).expect("a full tile holds all its nodes"))
    }

    fn tile(&self, store: &dyn LogStore, log: LogNumber, id: TileId) -> Result<Arc<TileNodes>, ReadError> {
        if let Some(tile) = self.tiles.get(&(log, id)) {
            return Ok(tile);
        }
        let damaged = || ReadError::Corrupt { what: format!("tile {}/{} of log number {}", id.level, id.index, log.0) };
        let bytes = store.tiles(log, &[id])?.pop().flatten().ok_or_else(damaged)?;
        let tile = TileNodes::from_bytes(&bytes).map_err(|_| damaged())?;
        if tile.root().is_none() {
            return Err(damaged());
        }
        let tile = Arc::new(tile);
        self.tiles.insert((log, id), Arc::clone(&tile));
        Ok(tile)
    }
}
