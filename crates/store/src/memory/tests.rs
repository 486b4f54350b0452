//! The memory store against the conformance suite, and its faults.

use logwood_merkle::{Hash, TreeHead, TreeSize};

use super::*;
use crate::conformance;
use crate::records::{Extension, LogRound, LogSettings, Piece, Profile};

const LOG: LogNumber = LogNumber(0);

#[test]
fn conforms() {
    let disk = MemoryDisk::new();
    conformance::run(&mut || MemoryStore::open(&disk).expect("no fault was asked for"));
}

fn settings() -> LogSettings {
    LogSettings {
        name: "log".into(),
        origin: "origin".into(),
        vkeys: vec![],
        created_ms: 0,
        profile: Profile::Opaque,
        leaf_index: true,
        shard: 0,
        first_index: 0,
    }
}

/// A round that appends one entry, and makes the log if it is the first.
fn round(number: u64) -> Round {
    let first = LeafIndex(number - 1);
    let bytes = Bytes::from(format!("entry {first}"));
    let extension = Extension {
        first,
        leaves: vec![Hash::leaf(&bytes)],
        identities: vec![None],
        bundles: vec![],
        pieces: vec![Piece { first, entries: vec![Entry { bytes, identity: None }] }],
        tiles: vec![],
        head: TreeHead { size: TreeSize(number), root: Hash::empty_root() },
        time_ms: 0,
    };
    let create = (number == 1).then(settings);
    let log_round = LogRound { create, extend: Some(extension), ..LogRound::new(LOG) };
    Round { number: RoundNumber(number), logs: vec![log_round] }
}

fn open(disk: &MemoryDisk) -> MemoryStore {
    MemoryStore::open(disk).expect("no fault was asked for")
}

fn size(store: &MemoryStore) -> usize {
    store.entries(LOG, LeafIndex(0), LeafIndex(100), usize::MAX).expect("entries").len()
}

fn disk_with_one_round() -> (MemoryDisk, MemoryStore) {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.commit(&round(1)).expect("no fault was asked for");
    (disk, store)
}

#[test]
fn a_refused_round_may_be_tried_again() {
    for (fault, refusal) in [(Fault::RefuseStalled, Refusal::Stalled), (Fault::RefuseDiskFull, Refusal::DiskFull)] {
        let (disk, store) = disk_with_one_round();
        disk.fail_next(fault);
        let refused = store.commit(&round(2));
        assert!(matches!(refused, Err(CommitError::Refused { reason }) if reason == refusal));
        assert_eq!((size(&store), disk.commits()), (1, 1));
        store.commit(&round(2)).expect("tried again");
        assert_eq!((size(&store), disk.commits()), (2, 2));
    }
}

#[test]
fn an_unknown_outcome_ends_the_handle_and_the_disk_decides() {
    for (fault, plain, after_power_loss) in [(Fault::Lost, 1, 1), (Fault::SyncFailed, 2, 1), (Fault::Persisted, 2, 2)] {
        for power_fails in [false, true] {
            let (disk, store) = disk_with_one_round();
            disk.fail_round(RoundNumber(2), fault);
            assert!(matches!(store.commit(&round(2)), Err(CommitError::Unknown { .. })), "{fault:?}");
            assert!(matches!(store.commit(&round(2)), Err(CommitError::Unknown { .. })), "no further commit");
            assert_eq!(size(&store), 1, "reads go on");
            if power_fails {
                disk.power_loss();
            }
            let found = size(&open(&disk));
            assert_eq!(
                found,
                if power_fails { after_power_loss } else { plain },
                "{fault:?}, power fails: {power_fails}"
            );
            disk.power_loss();
            assert_eq!(size(&open(&disk)), found, "what an open shows is durable");
        }
    }
}

#[test]
fn a_fault_of_another_round_waits() {
    let (disk, store) = disk_with_one_round();
    disk.fail_round(RoundNumber(3), Fault::Lost);
    store.commit(&round(2)).expect("the fault is for round 3");
    assert!(store.commit(&round(3)).is_err());
}

#[test]
fn reads_and_opens_fail_once() {
    let (disk, store) = disk_with_one_round();
    disk.fail_next(Fault::ReadFails);
    assert!(matches!(store.state(), Err(ReadError::Unavailable { .. })));
    assert!(store.state().is_ok());
    disk.fail_next(Fault::OpenFails);
    assert!(MemoryStore::open(&disk).is_err());
    store.commit(&round(2)).expect("an open that failed fences nobody");
    let next = open(&disk);
    assert!(matches!(store.commit(&round(3)), Err(CommitError::Unknown { .. })), "the old handle is fenced");
    next.commit(&round(3)).expect("the new one is not");
}

#[test]
fn tampering_shows() {
    let (disk, store) = disk_with_one_round();
    assert!(disk.tamper_entry(LOG, LeafIndex(0), "other".into()));
    assert!(!disk.tamper_entry(LOG, LeafIndex(1), "other".into()));
    let entries = store.entries(LOG, LeafIndex(0), LeafIndex(1), 1).expect("entries");
    assert_eq!(entries[0].bytes, "other");
    let leaf = Lookup::Leaf(Hash::leaf(b"entry 0"));
    assert!(disk.tamper_index(LOG, leaf));
    assert_eq!(store.find(LOG, &[leaf]).expect("find"), [None]);
    assert_eq!(size(&open(&disk.copy())), 1);
}
