//! Everything that must hold of a store at any time, recomputed from its entries alone.

use std::collections::HashSet;

use logwood_merkle::{Hash, LeafIndex, NodeId, TileId, TileNodes, TreeHead, TreeSize, plan};
use logwood_sequencer::{LogTail, LogView, NodePlace};
use logwood_store::{
    Entry, HeadQuery, IndexRow, IndexRows as _, LogNumber, LogQuery, LogRecord, LogStore, Lookup, MemoryStore,
};

use super::Promise;

#[path = "../../../merkle/tests/common/rfc6962.rs"]
mod rfc6962;

pub(crate) use rfc6962::mth as root;

/// Checks every log of `store`, and that all `promises` are kept.
pub(crate) fn audit(store: &MemoryStore, promises: &[(LogNumber, Promise)]) {
    let records = store.logs(LogQuery::After { name: "", logs_max: usize::MAX }).expect("logs");
    let mut logs: Vec<_> = records.into_iter().map(|record| AuditedLog::read(store, record)).collect();
    logs.sort_by_key(|log| log.record.number);
    for log in &logs {
        log.check_tree(store);
        log.check_lookups(store);
        log.check_tail(store);
    }
    for (number, promise) in promises {
        let log = logs.get(number.0 as usize).expect("a log that somebody was told of is there");
        log.check_promise(store, promise);
    }
}

struct AuditedLog {
    record: LogRecord,
    entries: Vec<Entry>,
    leaves: Vec<Hash>,
}

impl AuditedLog {
    fn read(store: &MemoryStore, record: LogRecord) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        while (entries.len() as u64) < record.head.head.size.0 {
            let first = LeafIndex(entries.len() as u64);
            let page = store.entries(record.number, first, LeafIndex(u64::MAX), 1 << 20).expect("entries are readable");
            assert!(!page.is_empty(), "entry {first} is there");
            entries.extend(page);
        }
        let leaves = entries.iter().map(|entry| Hash::leaf(&entry.bytes)).collect();
        Self { record, entries, leaves }
    }

    fn size(&self) -> TreeSize {
        TreeSize(self.entries.len() as u64)
    }

    fn node(&self, node: NodeId) -> Hash {
        let first = usize::try_from(node.index << node.level).expect("a small log");
        root(&self.leaves[first..first + (1 << node.level)])
    }

    fn check_tree(&self, store: &MemoryStore) {
        let head = TreeHead { size: self.size(), root: root(&self.leaves) };
        assert_eq!(self.record.head.head, head, "the stored head is that of the entries");
        for (id, width) in TileId::for_size(self.size()) {
            let stored = store.tiles(self.record.number, &[id]).expect("tiles are readable").remove(0);
            let Some(stored) = stored else {
                assert!(width < 256, "the completed tile {id:?} is stored");
                continue;
            };
            assert_eq!(width, 256, "no tile is stored before it is complete");
            let expected: Vec<u8> = (256 * id.index..256 * id.index + 256)
                .flat_map(|index| *self.node(NodeId { level: 8 * id.level, index }).as_bytes())
                .collect();
            assert!(stored == expected, "the hashes of tile {id:?}");
        }
    }

    fn check_lookups(&self, store: &MemoryStore) {
        let mut seen = HashSet::new();
        let mut lookups = Vec::new();
        let mut expected = Vec::new();
        for (entry, index) in self.entries.iter().zip((0..).map(LeafIndex)) {
            if let Some(identity) = entry.identity {
                assert!(seen.insert(identity), "no identity is at two indices");
                lookups.push(Lookup::Identity(identity));
                expected.push(Some(index));
            }
        }
        assert!(store.find(self.record.number, &lookups).expect("lookups") == expected, "each identity is found");
        let (mut identity_rows, mut leaf_rows) = (0, 0);
        let mut count = |row| match row {
            IndexRow::Identity { .. } => identity_rows += 1,
            IndexRow::Leaf { .. } => leaf_rows += 1,
        };
        store.visit_index(self.record.number, &mut count).expect("the index is readable");
        assert_eq!(
            (identity_rows, leaf_rows),
            (seen.len(), self.entries.len()),
            "no row of an entry that is not there"
        );
    }

    fn check_tail(&self, store: &MemoryStore) {
        let tail = LogTail::load(store, &self.record).expect("a sound log loads");
        assert_eq!(tail.head(), self.record.head.head);
        let (view, size) = (tail.view(), self.size());
        for index in [0, size.0 / 2, size.0.saturating_sub(1)] {
            let Ok(plan) = plan::inclusion(LeafIndex(index), size) else { continue };
            for &node in plan.nodes() {
                assert_eq!(self.placed(store, &view, node), self.node(node), "node {node} of size {size}");
            }
        }
    }

    fn placed(&self, store: &MemoryStore, view: &LogView, node: NodeId) -> Hash {
        match view.place(node) {
            NodePlace::Edge(hash) => hash,
            NodePlace::Tile(id, sub_level, offset) => {
                let tile = store.tiles(self.record.number, &[id]).expect("tiles are readable").remove(0);
                let tile = TileNodes::from_bytes(&tile.expect("completed tiles are stored")).expect("a tile");
                tile.get(sub_level, offset).expect("a full tile has every node")
            }
        }
    }

    fn check_promise(&self, store: &MemoryStore, promise: &Promise) {
        let at = |index: &LeafIndex| {
            let place = usize::try_from(index.0).expect("a small log");
            self.entries.get(place).expect("an acknowledged entry is in the log")
        };
        match promise {
            Promise::Exists => {}
            Promise::Entry(index, bytes, identity) => {
                assert_eq!((&at(index).bytes, &at(index).identity), (bytes, identity), "entry {index} as acknowledged");
            }
            Promise::Taken(index, bytes, identity) => {
                assert_eq!(&at(index).identity, identity, "the identity is at {index}");
                assert_ne!(&at(index).bytes, bytes, "with other bytes");
            }
            Promise::Released(head) => {
                let size = usize::try_from(head.size.0).expect("a small log");
                assert!(size <= self.leaves.len(), "a released head is never taken back");
                assert_eq!(head.root, root(&self.leaves[..size]), "the tree of size {size} is as it was released");
            }
            Promise::State(state) => assert_eq!(&self.record.state, state),
            Promise::Published(head) => {
                let history = store.heads(self.record.number, HeadQuery::FromSize(0), usize::MAX).expect("heads");
                assert!(history.contains(head), "a published head stays in the history");
            }
        }
    }
}
