//! Tails against the compact range, and what a damaged log answers.

use logwood_merkle::CompactRange;
use logwood_store::{Fault, LogNumber, LogQuery, LogSettings, MemoryDisk, MemoryStore, Profile, RoundNumber};

use super::*;
use crate::{NewEntry, Sequencer, Submission};

const LOG: LogNumber = LogNumber(0);

fn leaf(index: u64) -> Hash {
    Hash::leaf(&index.to_be_bytes())
}

/// A disk with one log of `size` entries.
fn disk(size: u64) -> (MemoryDisk, MemoryStore) {
    let disk = MemoryDisk::new();
    let store = MemoryStore::open(&disk).expect("no fault was asked for");
    let mut sequencer = Sequencer::new(RoundNumber(0));
    let settings = LogSettings {
        name: "payroll".into(),
        origin: "example.org/payroll".into(),
        vkeys: vec![],
        created_ms: 0,
        profile: Profile::Opaque,
        leaf_index: false,
        shard: 0,
        first_index: 0,
    };
    sequencer.create(LOG, settings);
    let entry = |index: u64| NewEntry { bytes: index.to_be_bytes().to_vec().into(), leaf: leaf(index), identity: None };
    let entries: Vec<_> = (0..size).map(entry).collect();
    let found = vec![None; entries.len()];
    sequencer.absorb(Submission { log: LOG, entries, ticket: () }, &found);
    let round = sequencer.seal(0).and_then(|sealed| sealed.round).expect("a new log");
    store.commit(&round).expect("no fault was asked for");
    (disk, store)
}

fn load(store: &MemoryStore) -> Result<LogTail, LoadError> {
    let record = store.logs(LogQuery::Name("payroll")).expect("logs").remove(0);
    LogTail::load(store, &record)
}

fn assert_damaged(loaded: Result<LogTail, LoadError>, expected: &str) {
    let error = loaded.expect_err("damage is found");
    let message = error.to_string();
    assert!(matches!(error, LoadError::Damaged { .. }), "{message}");
    assert!(message.contains("payroll") && message.contains(expected), "{message}");
    assert!(message.contains("logwood fsck"), "the message says what to do: {message}");
}

#[test]
fn a_tail_grows_as_the_compact_range_does_past_two_tile_levels() {
    let (mut tail, mut range, mut completed) = (LogTail::empty(), CompactRange::new(), Vec::new());
    assert_eq!(tail.head(), TreeHead::empty());
    for index in 0..66_000 {
        assert_eq!(tail.push(leaf(index), &mut completed), LeafIndex(index));
        range.append(leaf(index), |_, _| ());
        let near = (index + 3) % 256 < 5 || index < 600;
        if near {
            assert_eq!(tail.head(), range.head());
        }
    }
    let level =
        |level| completed.iter().filter(|(id, _)| id.level == level).map(|(id, _)| id.index).collect::<Vec<_>>();
    assert_eq!(level(0), (0..257).collect::<Vec<_>>(), "each tile is completed once, in order");
    assert_eq!((level(1), level(2)), (vec![0], vec![]));
}

#[test]
fn a_loaded_tail_is_the_one_that_grew() {
    for size in [0, 1, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 65_792] {
        let (_, store) = disk(size);
        let (mut loaded, mut grown) = (load(&store).expect("a sound log"), LogTail::empty());
        let mut completed = Vec::new();
        for index in 0..size {
            grown.push(leaf(index), &mut completed);
        }
        assert_eq!(loaded.head(), grown.head());
        for index in size..size + 300 {
            loaded.push(leaf(index), &mut completed);
            grown.push(leaf(index), &mut completed);
        }
        assert_eq!(loaded.head(), grown.head(), "both grow on alike from size {size}");
    }
}

#[test]
fn another_entry_or_tile_is_damage() {
    let (disk, store) = disk(300);
    let other = Hash::leaf(b"other");
    assert!(disk.tamper_entry(LOG, LeafIndex(299), "other".into()));
    assert_damaged(load(&store), "the stored head says");
    assert!(disk.tamper_entry(LOG, LeafIndex(299), 299_u64.to_be_bytes().to_vec().into()));
    assert!(load(&store).is_ok(), "whole again");

    let tile = TileId { level: 0, index: 0 };
    assert!(disk.tamper_tile(LOG, tile, other.as_bytes().repeat(256).into()));
    assert_damaged(load(&store), "the stored head says");
    assert!(disk.tamper_tile(LOG, tile, "short".into()));
    assert_damaged(load(&store), "0 of 1 hashes are left at tile level 1");
}

#[test]
fn a_head_of_more_entries_than_there_are_is_damage() {
    let (disk, store) = disk(300);
    assert!(disk.tamper_record(LOG, |record| record.head.head.size = TreeSize(512)));
    assert_damaged(load(&store), "1 of 2 hashes are left at tile level 1");
    assert!(disk.tamper_record(LOG, |record| record.head.head.size = TreeSize(299)));
    assert_damaged(load(&store), "the stored head says");
}

#[test]
fn a_failed_read_is_not_damage() {
    let (disk, store) = disk(300);
    let record = store.logs(LogQuery::Name("payroll")).expect("logs").remove(0);
    disk.fail_next(Fault::ReadFails);
    assert!(matches!(LogTail::load(&store, &record), Err(LoadError::Read(ReadError::Unavailable { .. }))));
    assert!(LogTail::load(&store, &record).is_ok());
}
