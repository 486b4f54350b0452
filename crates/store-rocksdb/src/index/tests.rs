//! What a crash leaves of the index, at each point between a round and its rows in a file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use logwood_merkle::{Hash, LeafIndex, TileId};
use logwood_store::{IndexRow, IndexRows as _, LogNumber, LogStore as _, Lookup, RoundNumber};

use super::file::{IndexFile, Row};
use super::{Extent, Limits, recent::Recent};
use crate::tests::{Filler, copy, entry};
use crate::{OpenError, Opened, Rebuilt, RocksStore, keys, options};

const LOG: LogNumber = LogNumber(0);

/// Batches of one round, so that a file follows each.
const EAGER: Limits =
    Limits { batch_entries: 1, batch_rounds: 1, entries_max: 1 << 19, room_wait: Duration::from_secs(10) };

fn open(dir: &Path, limits: Limits) -> RocksStore {
    RocksStore::open_with(dir, limits).expect("the store opens")
}

fn wait(store: &RocksStore, round: u64) {
    store.index.recent.wait_for_watermark(RoundNumber(round));
}

fn appended_rows(store: &RocksStore) -> usize {
    let mut rows = 0;
    store
        .scan(options::META, (keys::META_APPENDED, keys::META_APPENDED), |_, _| {
            rows += 1;
            Ok(true)
        })
        .expect("readable");
    rows
}

/// Every entry is found by identity and by leaf hash, and the index has its rows and no others, each once.
fn check(store: &RocksStore, size: u64) {
    let secret = store.state().expect("state").leaf_secret;
    let (mut expected, mut lookups) = (BTreeSet::new(), Vec::new());
    let mut found_at = Vec::new();
    let mut lowest = std::collections::HashMap::new();
    for index in 0..size {
        let entry = entry(index);
        let (identity, leaf) = (entry.identity, Hash::leaf(&entry.bytes));
        if let Some(identity) = identity {
            expected.insert(IndexRow::of_identity(&identity, LeafIndex(index)));
            lookups.push(Lookup::Identity(identity));
            found_at.push(Some(LeafIndex(index)));
        }
        expected.insert(IndexRow::of_leaf(&secret, &leaf, LeafIndex(index)));
        lookups.push(Lookup::Leaf(leaf));
        found_at.push(Some(*lowest.entry(leaf).or_insert(LeafIndex(index))));
    }
    assert!(store.find(LOG, &lookups).expect("find") == found_at, "every look-up finds its entry");
    for (lookup, at) in lookups.iter().zip(&found_at).take(20) {
        assert_eq!(store.find(LOG, &[*lookup]).expect("find"), [*at], "one at a time too");
    }
    let mut rows = Vec::new();
    store.visit_index(LOG, &mut |row| rows.push(row)).expect("rows");
    assert!(rows == expected.into_iter().collect::<Vec<_>>(), "the rows are those of the entries, each once, in order");
}

#[test]
fn what_no_file_held_when_the_process_was_killed_is_read_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir.path().join("db"), Limits::default());
    let mut filler = Filler::default();
    for count in [1, 3, 250, 2, 1_000, 700, 5] {
        filler.append(&store, count);
    }
    check(&store, filler.size);
    let killed = dir.path().join("killed");
    copy(&dir.path().join("db"), &killed);
    let read_only = RocksStore::open_read_only(&killed).expect("the store opens");
    check(&read_only, filler.size);
    drop(read_only);
    let reopened = open(&killed, Limits::default());
    check(&reopened, filler.size);
    filler.append(&reopened, 300);
    reopened.close();
    check(&open(&killed, EAGER), filler.size);
}

#[test]
fn rows_and_watermark_arrive_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir.path().join("db"), EAGER);
    let mut filler = Filler::default();
    for round in 2..20 {
        filler.append(&store, 40);
        wait(&store, round);
        let killed = dir.path().join(format!("killed-{round}"));
        copy(&dir.path().join("db"), &killed);
        check(&open(&killed, EAGER), filler.size);
    }
    assert!(appended_rows(&store) <= 2, "rounds delete what the index holds");
}

#[test]
fn rows_that_the_index_holds_already_are_not_read_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut filler = Filler::default();
    let store = open(dir.path(), Limits::default());
    for _ in 0..50 {
        filler.append(&store, 7);
    }
    store.close();
    let store = open(dir.path(), Limits::default());
    assert_eq!(appended_rows(&store), 50, "nothing but a round deletes them");
    assert!(store.index.find_recent(LOG, &[Lookup::Identity(entry(3).identity.expect("one"))])[0].is_none());
    check(&store, filler.size);
    for _ in 0..10 {
        filler.append(&store, 7);
    }
    assert_eq!(appended_rows(&store), 10);
    check(&store, filler.size);
}

#[test]
fn an_idle_store_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path(), Limits::default());
    Filler::default().append(&store, 300);
    store.close();
    let sequence = |store: &RocksStore| store.db.latest_sequence_number();
    let store = open(dir.path(), Limits::default());
    let before = sequence(&store);
    store.close();
    assert_eq!(sequence(&open(dir.path(), EAGER)), before);
}

#[test]
fn a_torn_file_left_over_is_thrown_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut filler = Filler::default();
    let store = open(dir.path(), EAGER);
    filler.append(&store, 30);
    store.close();
    fs::write(dir.path().join("ingest/rows.sst"), b"half a file").expect("written");
    let store = open(dir.path(), EAGER);
    filler.append(&store, 30);
    store.close();
    assert!(!dir.path().join("ingest/rows.sst").exists());
    check(&open(dir.path(), EAGER), filler.size);
}

#[test]
fn a_file_that_was_moved_in_and_kept_its_old_name_is_not_written_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut filler = Filler::default();
    let store = open(dir.path(), EAGER);
    filler.append(&store, 30);
    store.close();
    let tables = fs::read_dir(dir.path()).expect("readable").map(|file| file.expect("readable").path());
    let newest = tables.filter(|path| path.extension().is_some_and(|end| end == "sst")).max().expect("a table");
    fs::hard_link(newest, dir.path().join("ingest/rows.sst")).expect("linked");
    let store = open(dir.path(), EAGER);
    filler.append(&store, 30);
    store.close();
    check(&open(dir.path(), EAGER), filler.size);
}

/// A store whose rounds' rows are deleted, but for the last ones.
fn trimmed(dir: &Path) -> Filler {
    let mut filler = Filler::default();
    let store = open(dir, EAGER);
    for round in 2..30 {
        filler.append(&store, 20);
        wait(&store, round);
    }
    filler
}

#[test]
fn a_missing_index_is_refused_and_rebuilt() {
    let dir = tempfile::tempdir().expect("a directory");
    let filler = trimmed(dir.path());
    let Opened { mut db, index_options, lock } = RocksStore::open_database(dir.path()).expect("the database opens");
    db.drop_cf(options::INDEX).expect("dropped");
    db.create_cf(options::INDEX, &index_options).expect("made");
    drop((db, lock));
    let error = RocksStore::open(dir.path()).expect_err("an identity might be logged twice");
    assert!(matches!(error, OpenError::Index { watermark: RoundNumber(0), .. }), "{error:?}");
    assert!(error.to_string().contains("logwood repair --rebuild-index"), "{error}");
    assert!(matches!(RocksStore::open_read_only(dir.path()), Err(OpenError::Index { .. })));

    let mut seen = Vec::new();
    let progress = &mut |done, of| seen.push((done, of));
    let Rebuilt { entries, evidence } = RocksStore::rebuild_index(dir.path(), false, progress).expect("rebuilt");
    assert_eq!((entries, seen.last()), (filler.size, Some(&(filler.size, filler.size))));
    assert_eq!(evidence, None, "nothing was lost");
    check(&open(dir.path(), EAGER), filler.size);
}

#[test]
fn an_index_ahead_of_its_entries_is_evidence_of_loss_and_a_rebuild_keeps_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let filler = trimmed(dir.path());
    // The second one is what an interrupted rebuild leaves.
    for ahead in [31, u64::MAX] {
        let is_evidence = ahead != u64::MAX;
        let Opened { db, index_options, lock } = RocksStore::open_database(dir.path()).expect("the database opens");
        let file = IndexFile::new(dir.path(), index_options).expect("a directory");
        let stray = Row::new(LOG, IndexRow::of_identity(&entry(0).identity.expect("one"), LeafIndex(9_000)));
        file.write(vec![stray], Some(RoundNumber(ahead))).and_then(|()| file.ingest(&db)).expect("moved in");
        drop((db, lock));
        let error = RocksStore::open(dir.path()).expect_err("index and entries do not belong together");
        assert!(error.is_damage());
        if is_evidence {
            assert!(matches!(error, OpenError::IndexAhead { watermark: RoundNumber(31), .. }), "{error:?}");
            assert!(error.to_string().contains("entries are gone"), "{error}");
            let refused = RocksStore::rebuild_index(dir.path(), false, &mut |_, _| ());
            assert!(matches!(refused, Err(OpenError::IndexAhead { .. })), "{refused:?}");
        } else {
            assert!(matches!(error, OpenError::Index { .. }), "{error:?}");
        }
        let rebuilt = RocksStore::rebuild_index(dir.path(), is_evidence, &mut |_, _| ()).expect("rebuilt");
        assert_eq!(rebuilt.evidence.is_some(), is_evidence);
        if let Some(evidence) = rebuilt.evidence {
            let kept = RocksStore::open_read_only(&evidence);
            assert!(matches!(kept, Err(OpenError::IndexAhead { watermark: RoundNumber(31), .. })), "{kept:?}");
        }
        check(&open(dir.path(), EAGER), filler.size);
    }
}

#[test]
fn rounds_wait_for_room_and_are_refused_if_there_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path(), Limits { batch_entries: 30, entries_max: 40, ..Limits::default() });
    let mut filler = Filler::default();
    for _ in 0..20 {
        filler.append(&store, 17);
    }
    check(&store, filler.size);

    let nobody_empties = Recent::new(Limits { entries_max: 10, room_wait: Duration::ZERO, ..Limits::default() });
    let identities = [None; 8];
    let extent = Extent { log: LOG, first: LeafIndex(0), leaves: &[], identities: &identities };
    assert!(nobody_empties.wait_for_room(20), "one round always fits");
    nobody_empties.add(RoundNumber(1), [extent].into_iter());
    assert!(nobody_empties.wait_for_room(2));
    assert!(!nobody_empties.wait_for_room(3));
}

#[test]
fn leaf_hashes_come_from_tiles_and_from_entries_alike() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path(), Limits::default());
    let mut filler = Filler::default();
    filler.append(&store, 256);
    filler.append(&store, 10);
    assert!(store.read_tiles(LOG, &[TileId { level: 0, index: 0 }]).expect("tiles")[0].is_some());
    for range in [3..7, 255..256, 256..266] {
        let expected: Vec<_> = range.clone().map(|index| Hash::leaf(&entry(index).bytes)).collect();
        assert_eq!(store.leaves_of(LOG, range.clone()).expect("leaves"), expected);
        let expected: Vec<_> = range.clone().map(|index| entry(index).identity).collect();
        assert_eq!(store.identities_of(LOG, range).expect("identities"), expected);
    }
}
