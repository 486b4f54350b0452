//! The conformance suite on `RocksDB`.

use logwood_store::conformance;

use super::*;

#[test]
fn conforms() {
    let dir = tempfile::tempdir().expect("a directory");
    conformance::run(&mut || RocksStore::open(dir.path()).expect("the store opens"));
}

#[test]
fn a_second_opener_is_told_who_holds_the_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = RocksStore::open(dir.path()).expect("the store opens");
    for second in [RocksStore::open(dir.path()), RocksStore::open_read_only(dir.path())] {
        let message = second.expect_err("the store is in use").to_string();
        assert!(message.contains(&format!("in use by another process (process {})", std::process::id())), "{message}");
    }
    store.close();
    RocksStore::open_read_only(dir.path()).expect("nobody holds the store");
}

#[test]
fn a_directory_without_a_store_is_not_read() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(matches!(RocksStore::open_read_only(dir.path()), Err(OpenError::Missing { .. })));
}

#[test]
fn options_are_those_of_the_design() {
    let dir = tempfile::tempdir().expect("a directory");
    RocksStore::open(dir.path()).expect("the store opens").close();
    let newest = files(dir.path(), "OPTIONS-").pop().expect("RocksDB writes its options");
    let text = std::fs::read_to_string(newest).expect("options");
    for expected in [
        "ttl=0",
        "periodic_compaction_seconds=0",
        "stats_dump_period_sec=0",
        "stats_persist_period_sec=0",
        "max_manifest_file_size=4194304",
        "max_total_wal_size=268435456",
        "max_open_files=1024",
        "skip_stats_update_on_db_open=true",
        "allow_concurrent_memtable_write=false",
        "bytes_per_sync=1048576",
        "max_background_jobs=2",
        "max_bgerror_resume_count=0",
        "wal_recovery_mode=kTolerateCorruptedTailRecords",
        "track_and_verify_wals_in_manifest=true",
        "avoid_flush_during_recovery=false",
        "manual_wal_flush=false",
        "unordered_write=false",
        "enable_pipelined_write=false",
        "wal_compression=kNoCompression",
        "recycle_log_file_num=0",
        "compaction_style=kCompactionStyleUniversal",
        "partition_filters=true",
        "cache_index_and_filter_blocks=true",
        "enable_blob_files=true",
        "max_write_buffer_number=4",
        "level0_slowdown_writes_trigger=48",
    ] {
        assert!(text.lines().any(|line| line.trim() == expected), "{expected} is not in the OPTIONS file");
    }
}

fn files(dir: &Path, prefix: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("the directory").map(|entry| entry.expect("a file").path());
    let mut found: Vec<_> = entries
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect();
    found.sort();
    found
}

fn wal(dir: &Path) -> std::path::PathBuf {
    files(dir, "0").into_iter().rfind(|path| path.extension().is_some_and(|end| end == "log")).expect("a WAL")
}

fn settings() -> logwood_store::LogSettings {
    logwood_store::LogSettings {
        name: "log".into(),
        origin: "example.com/log".into(),
        vkeys: vec!["key".into()],
        created_ms: 1,
        profile: logwood_store::Profile::Opaque,
        leaf_index: true,
        shard: 0,
        first_index: 0,
    }
}

fn two_rounds(dir: &Path) {
    let store = RocksStore::open(dir).expect("the store opens");
    let create = LogRound { create: Some(settings()), ..LogRound::new(LogNumber(0)) };
    store.commit(&Round { number: RoundNumber(1), logs: vec![create] }).expect("a round");
    let freeze = LogRound { state: Some(LogState::Frozen), ..LogRound::new(LogNumber(0)) };
    store.commit(&Round { number: RoundNumber(2), logs: vec![freeze] }).expect("a round");
}

#[test]
fn a_last_record_cut_short_is_forgiven() {
    let dir = tempfile::tempdir().expect("a directory");
    two_rounds(dir.path());
    let path = wal(dir.path());
    let file = File::options().write(true).open(&path).expect("the WAL");
    file.set_len(file.metadata().expect("its length").len() - 3).expect("cut");
    let store = RocksStore::open(dir.path()).expect("a cut record was never acknowledged");
    assert_eq!(store.state().expect("state").round, RoundNumber(1));
}

#[test]
fn a_damaged_last_record_is_refused_and_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    two_rounds(dir.path());
    let path = wal(dir.path());
    let mut bytes = std::fs::read(&path).expect("the WAL");
    *bytes.last_mut().expect("it has bytes") ^= 1;
    std::fs::write(&path, bytes).expect("damage");
    let error = RocksStore::open(dir.path()).expect_err("damage is not forgiven");
    assert!(matches!(error, OpenError::TornTail { .. }), "{error:?}");
    assert!(error.to_string().contains("logwood repair --drop-torn-tail"));
}

#[test]
fn a_rebuilt_index_is_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    conformance::run(&mut || RocksStore::open(dir.path()).expect("the store opens"));
    let store = RocksStore::open(dir.path()).expect("the store opens");
    let rows = |store: &RocksStore| {
        let mut rows = Vec::new();
        for log in 0..store.state().expect("state").next_log.0 {
            store.visit_index(LogNumber(log), &mut |row| rows.push((log, row))).expect("the index");
        }
        rows
    };
    let before = rows(&store);
    assert!(before.len() > 1_000);
    store.rebuild_index().expect("nothing is damaged");
    assert!(rows(&store) == before);
}

#[test]
fn rot_in_a_value_is_found() {
    let key = keys::meta_head(LogNumber(3));
    let head = StoredHead { head: TreeHead::empty(), round: RoundNumber(1), time_ms: 2 };
    let value = values::stored_head(&key, &head);
    assert_eq!(values::read_stored_head(&key, &value, "it").expect("own record"), head);
    for at in 0..value.len() {
        let mut rotten = value.clone();
        rotten[at] ^= 0x10;
        assert!(values::read_stored_head(&key, &rotten, "it").is_err());
        assert!(values::read_stored_head(&key, &value[..at], "it").is_err());
    }
    assert!(values::read_stored_head(&keys::meta_head(LogNumber(4)), &value, "it").is_err(), "under another key");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn row(key: &[u8], value: &[u8]) -> String {
    format!("{} {}", hex(key), hex(value))
}

#[test]
fn records_are_the_documented_bytes() {
    use logwood_store::{HeadSignature, IdentityHash, Piece};
    let log = LogNumber(0x0102_0304);
    let head = TreeHead { size: logwood_merkle::TreeSize(5), root: logwood_merkle::Hash::from_bytes([0xaa; 32]) };

    let key = keys::meta_settings(log);
    insta::assert_snapshot!(row(&key, &values::settings(&key, &settings())), @"4c01020304 0100036c6f67000f6578616d706c652e636f6d2f6c6f670100036b6579000000000000000100010000000000000000000000002bc9927052e5a162");
    let key = keys::meta_state(log);
    insta::assert_snapshot!(row(&key, &values::state(&key, &LogState::Sealed { note: "n".into() })), @"4101020304 010200016eb189d32fdf7eaa4c");
    let key = keys::meta_head(log);
    let stored = StoredHead { head, round: RoundNumber(7), time_ms: 8 };
    insta::assert_snapshot!(row(&key, &values::stored_head(&key, &stored)), @"4801020304 010000000000000005aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa000000000000000700000000000000084c30034f9efa6e3c");
    let key = keys::meta_published(log, 5);
    let signature = HeadSignature { name: "k".into(), key_id: 9, signature: "s".into() };
    let published = PublishedHead { head, time_ms: 8, signatures: vec![signature] };
    insta::assert_snapshot!(row(&key, &values::published(&key, &published)), @"50010203040000000000000005 010000000000000005aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000080100016b0000000900017398cd65b8d003b9ce");
    insta::assert_snapshot!(hex(&keys::meta_published_at(log, 8, 5)), @"540102030400000000000000080000000000000005");
    insta::assert_snapshot!(hex(&keys::meta_name("log")), @"4e6c6f67");

    let key = keys::piece(log, LeafIndex(6));
    let identity = Some(IdentityHash([0xbb; 16]));
    let entries = vec![Entry { bytes: "e".into(), identity }, Entry { bytes: "f".into(), identity: None }];
    insta::assert_snapshot!(row(&key, &values::piece(&key, &Piece { first: LeafIndex(6), entries })), @"010203040000000006 0102bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb000165000000000000000000000000000000000001662a6af527c830cc11");
    insta::assert_snapshot!(hex(&keys::bundle(log, 6, keys::PART_IDENTITIES)), @"01020304000000000601");
    insta::assert_snapshot!(hex(&keys::tile(log, TileId { level: 1, index: 6 })), @"01020304010000000006");
    insta::assert_snapshot!(hex(&keys::identity(log, &[0xcc; 12])), @"0102030400cccccccccccccccccccccccc");
    insta::assert_snapshot!(hex(&keys::leaf(log, [0xdd; 8], LeafIndex(6))), @"0102030401dddddddddddddddd0000000006");
}

/// Not a benchmark, but a floor: far below it a round is not one write any more.
#[test]
fn rounds_are_fast_enough_for_a_stream() {
    use logwood_merkle::{Hash, TreeSize};
    use logwood_store::{Extension, IdentityHash, bundle};

    const ROUNDS: u64 = 20;
    const BUNDLES: u64 = 16;
    let dir = tempfile::tempdir().expect("a directory");
    let store = RocksStore::open(dir.path()).expect("the store opens");
    let round = |number: u64| {
        let first = (number - 1) * BUNDLES * BUNDLE_ENTRIES;
        let entry = |index: u64| Entry {
            bytes: format!("event {index}: {}", "x".repeat(240)).into(),
            identity: Some(IdentityHash(
                u128::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes(),
            )),
        };
        let entries: Vec<_> = (first..first + BUNDLES * BUNDLE_ENTRIES).map(entry).collect();
        let bundles = entries.chunks(256).zip(first / BUNDLE_ENTRIES..).map(|(chunk, at)| bundle::pack(at, chunk));
        let size = TreeSize(first + entries.len() as u64);
        let extension = Extension {
            first: LeafIndex(first),
            leaves: entries.iter().map(|entry| Hash::leaf(&entry.bytes)).collect(),
            identities: entries.iter().map(|entry| entry.identity).collect(),
            bundles: bundles.collect(),
            pieces: vec![],
            tiles: vec![],
            head: TreeHead { size, root: Hash::empty_root() },
            time_ms: 0,
        };
        let create = (number == 1).then(settings);
        let log_round = LogRound { create, extend: Some(extension), ..LogRound::new(LogNumber(0)) };
        Round { number: RoundNumber(number), logs: vec![log_round] }
    };
    let rounds: Vec<_> = (1..=ROUNDS).map(round).collect();
    let begin = std::time::Instant::now();
    for round in &rounds {
        store.commit(round).expect("a round");
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{} entries in {seconds:.3} s", ROUNDS * BUNDLES * BUNDLE_ENTRIES);
    assert!(seconds < 20.0, "80,000 entries took {seconds} s");
    let last = rounds.last().and_then(|round| round.logs[0].extend.as_ref()).expect("the last round");
    let lookup = Lookup::Identity(last.identities[7].expect("each has one"));
    assert_eq!(store.find(LogNumber(0), &[lookup]).expect("find"), [Some(LeafIndex(last.first.0 + 7))]);
}
