//! A log is judged clean, and then after each way to tamper with it.

use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex, TileId, TreeHead, TreeSize};
use logwood_note::{SigningKey, sign_checkpoint};
use logwood_sequencer::publisher::{Publication, note};
use logwood_sequencer::{NewEntry, Sequencer, Submission};
use logwood_store::{
    IdentityHash, LogNumber, LogQuery, LogRecord, LogSettings, LogStore, Lookup, MemoryDisk, MemoryStore, Profile,
    PublishedHead, RoundNumber,
};
use logwood_store_rocksdb::RocksStore;

use super::*;
use crate::failure::exit_code;

const LOG: LogNumber = LogNumber(0);
const ENTRIES: u64 = 1_300;

fn entry(index: u64) -> Bytes {
    // Every tenth is what another one is.
    format!("event {}", if index % 10 == 9 { index % 3 } else { index }).into()
}

fn identity(index: u64) -> IdentityHash {
    IdentityHash(u128::from(index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes())
}

/// Fills `store` with rounds of 100 entries, each published. `identities` gives each entry one.
fn fill(store: &dyn LogStore, identities: impl Fn(u64) -> Option<IdentityHash>) -> SigningKey {
    let key = SigningKey::generate("example.com/log").expect("a key");
    let mut sequencer = Sequencer::new(RoundNumber(0));
    sequencer.create(
        LOG,
        LogSettings {
            name: "log".into(),
            origin: "example.com/log".into(),
            vkeys: vec![key.verifier().to_string()],
            created_ms: 1,
            profile: Profile::Opaque,
            leaf_index: true,
            shard: 0,
            first_index: 0,
        },
    );
    let commit = |sequencer: &mut Sequencer<()>| {
        let round = sequencer.seal(1).and_then(|sealed| sealed.round).expect("there is something to write");
        store.commit(&round).expect("a round");
        sequencer.adopt(round.number);
    };
    for first in (0..ENTRIES).step_by(100) {
        let new = (first..first + 100).map(|index| {
            let (bytes, identity) = (entry(index), identities(index));
            NewEntry { leaf: Hash::leaf(&bytes), bytes, identity }
        });
        sequencer.absorb(Submission { log: LOG, entries: new.collect(), ticket: () }, &[None; 100]);
        commit(&mut sequencer);
        let head = record(store).head.head;
        let signatures = note::signatures(&sign_checkpoint(&key, "example.com/log", &head)).expect("our own note");
        let head = PublishedHead { head, time_ms: first, signatures };
        sequencer.publish(Publication { log: LOG, head, thinned: Vec::new() });
    }
    commit(&mut sequencer);
    key
}

fn record(store: &dyn LogStore) -> LogRecord {
    store.logs(LogQuery::Name("log")).expect("readable").remove(0)
}

/// The failure that fsck finds after `tamper`: always one of verification.
fn failure(tamper: impl FnOnce(&MemoryDisk)) -> String {
    let disk = MemoryDisk::new();
    let store = MemoryStore::open(&disk).expect("nothing fails");
    let key = fill(&store, |index| Some(identity(index)));
    tamper(&disk);
    let error = log(&store, &record(&store), key.verifier(), &[]).expect_err("this is tampering");
    assert_eq!(exit_code(&error), 3, "{error:#}");
    format!("{error:#}")
}

#[test]
fn a_clean_log_is_counted() {
    let store = MemoryStore::open(&MemoryDisk::new()).expect("nothing fails");
    let key = fill(&store, |index| (index % 4 != 3).then(|| identity(index)));
    let kept: Vec<_> =
        store.heads(LOG, HeadQuery::FromSize(0), 9).expect("heads").iter().map(|head| (head.head, "kept")).collect();
    let summary = log(&store, &record(&store), key.verifier(), &kept).expect("it is clean");
    assert_eq!((summary.heads, summary.tiles, summary.identities), (13, 5, ENTRIES * 3 / 4));
}

#[test]
fn the_first_rewritten_entry_is_named() {
    for index in [0, 255, 256, 1_000] {
        let text = failure(|disk| assert!(disk.tamper_entry(LOG, LeafIndex(index), "another event".into())));
        assert!(text.contains(&format!("the first difference is at entry {index}")), "{text}");
    }
    let text = failure(|disk| assert!(disk.tamper_entry(LOG, LeafIndex(1_290), "another event".into())));
    assert!(text.contains("at size 1300, but"), "the open bundle has no tile, so the next head tells: {text}");
}

#[test]
fn a_tile_that_does_not_follow_from_the_entries_is_named() {
    let mut tile: Vec<u8> = (256..512).flat_map(|index| *Hash::leaf(&entry(index)).as_bytes()).collect();
    tile[32 * 7] ^= 1;
    let text = failure(|disk| assert!(disk.tamper_tile(LOG, TileId { level: 0, index: 1 }, tile.into())));
    assert!(text.contains("tile 0/1 does not follow from the entries; the first difference is at entry 263"), "{text}");
}

#[test]
fn a_head_that_the_entries_do_not_give_is_named() {
    let text =
        failure(|disk| assert!(disk.tamper_record(LOG, |record| record.head.head.root = Hash::leaf(b"another"))));
    assert!(text.contains("at size 1300, but its present head"), "{text}");
    let text = failure(|disk| assert!(disk.tamper_heads(LOG, |heads| heads[3].signatures.clear())));
    assert!(text.contains("the published head of size 400 has no good signature"), "{text}");

    let disk = MemoryDisk::new();
    let store = MemoryStore::open(&disk).expect("nothing fails");
    let key = fill(&store, |_| None);
    let what = "a checkpoint that was kept elsewhere";
    let kept = |size, root| vec![(TreeHead { size: TreeSize(size), root }, what)];
    for (kept, says) in [
        (kept(700, Hash::leaf(b"another")), "a checkpoint that was kept elsewhere"),
        (kept(2_000, Hash::leaf(b"another")), "entries are gone"),
    ] {
        let error = log(&store, &record(&store), key.verifier(), &kept).expect_err("the log was rewritten");
        assert!(exit_code(&error) == 3 && error.to_string().contains(says), "{error:#}");
    }
    let shorter = |record: &mut LogRecord| record.head.head = TreeHead { size: TreeSize(0), root: Hash::empty_root() };
    assert!(disk.tamper_record(LOG, shorter));
    let error = log(&store, &record(&store), key.verifier(), &[]).expect_err("published entries are gone");
    assert!(exit_code(&error) == 3 && error.to_string().contains("entries are gone"), "{error:#}");
}

#[test]
fn the_first_entry_that_the_index_gets_wrong_is_named() {
    for index in [0, 258, 1_299] {
        let row = Lookup::Identity(identity(index));
        let text = failure(|disk| assert!(disk.tamper_index(LOG, row)));
        assert!(text.contains(&format!("does not hold what entry {index} says")), "{text}");
    }
    let text = failure(|disk| assert!(disk.tamper_index(LOG, Lookup::Leaf(Hash::leaf(b"event 777")))));
    assert!(text.contains("does not hold what entry 777 says"), "{text}");
}

#[test]
fn entries_that_share_an_identity_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = RocksStore::open(dir.path()).expect("the store opens");
    // Rounds apart, as if the second had been looked up in an index that had lost the first.
    let key = fill(&store, |index| Some(identity(if index == 901 { 33 } else { index })));
    store.close();
    let store = RocksStore::open_read_only(dir.path()).expect("the store opens");
    let error = log(&store, &record(&store), key.verifier(), &[]).expect_err("two entries have one identity");
    assert_eq!(exit_code(&error), 3);
    assert!(error.to_string().contains("entries 33 and 901 have one identity"), "{error:#}");
}
