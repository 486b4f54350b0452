//! The conformance suite on `RocksDB`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use logwood_merkle::{Hash, TreeHead, TreeSize};
use logwood_store::{
    Extension, IdentityHash, LogRound, LogSettings, LogState, Piece, Profile, RoundNumber, StoredHead, bundle,
    conformance,
};

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

/// Files in `dir` whose names begin so, in order.
pub(crate) fn files(dir: &Path, prefix: &str) -> Vec<std::path::PathBuf> {
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

fn settings() -> LogSettings {
    LogSettings {
        name: "log".into(),
        origin: "example.com/log".into(),
        vkeys: vec!["key".into()],
        created_ms: 1,
        profile: Profile::Opaque,
        leaf_index: true,
        shard: 0,
        first_index: 0,
    }
}

/// Entry `index` of the log that a [`Filler`] fills. Some share their bytes, some have no identity.
pub(crate) fn entry(index: u64) -> Entry {
    let number = if index % 5 == 4 { index % 3 } else { index };
    let identity = u128::from(index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let identity = (index % 7 != 6).then(|| IdentityHash(identity.to_be_bytes()));
    Entry { bytes: format!("event {number}: {}", "x".repeat(240)).into(), identity }
}

/// Appends to the log 0 as a sequencer does; the roots are made up.
#[derive(Default)]
pub(crate) struct Filler {
    round: u64,
    pub(crate) size: u64,
}

impl Filler {
    pub(crate) fn append(&mut self, store: &RocksStore, count: u64) {
        if self.round == 0 {
            self.round = 1;
            let create = LogRound { create: Some(settings()), ..LogRound::new(LogNumber(0)) };
            store.commit(&Round { number: RoundNumber(1), logs: vec![create] }).expect("a round");
        }
        store.commit(&self.round(count)).expect("a round");
    }

    /// The next round, which appends `count` entries.
    pub(crate) fn round(&mut self, count: u64) -> Round {
        let (first, end) = (self.size, self.size + count);
        let entries: Vec<_> = (first..end).map(entry).collect();
        let hashes = |range: Range<u64>| range.map(|index| Hash::leaf(&entry(index).bytes));
        let (mut bundles, mut pieces, mut tiles, mut at) = (vec![], vec![], vec![], first);
        while at < end {
            let number = at / 256;
            let to = end.min((number + 1) * 256);
            let part = &entries[usize::try_from(at - first).expect("few")..usize::try_from(to - first).expect("few")];
            match part.len() {
                256 => bundles.push(bundle::pack(number, part)),
                _ => pieces.push(Piece { first: LeafIndex(at), entries: part.to_vec() }),
            }
            if to % 256 == 0 {
                let tile: Vec<u8> = hashes(number * 256..to).flat_map(|hash| *hash.as_bytes()).collect();
                tiles.push((TileId { level: 0, index: number }, tile.into()));
            }
            at = to;
        }
        (self.size, self.round) = (end, self.round + 1);
        let extension = Extension {
            first: LeafIndex(first),
            leaves: hashes(first..end).collect(),
            identities: entries.iter().map(|entry| entry.identity).collect(),
            bundles,
            pieces,
            tiles,
            head: TreeHead { size: TreeSize(end), root: Hash::empty_root() },
            time_ms: 0,
        };
        let log_round = LogRound { extend: Some(extension), ..LogRound::new(LogNumber(0)) };
        Round { number: RoundNumber(self.round), logs: vec![log_round] }
    }
}

/// Copies the directory of an open store: what a kill would leave.
///
/// Compactions go on beside it; a copy during which a file came or went is no moment's state, and is made anew.
pub(crate) fn copy(from: &Path, to: &Path) {
    loop {
        let mut before = BTreeSet::new();
        let copied = paths(from, &mut before).and_then(|()| {
            std::fs::create_dir_all(to)?;
            for path in &before {
                let target = to.join(path.strip_prefix(from).expect("within"));
                if path.is_dir() {
                    std::fs::create_dir(target)?;
                } else {
                    std::fs::copy(path, target)?;
                }
            }
            Ok(())
        });
        let mut after = BTreeSet::new();
        match copied.and_then(|()| paths(from, &mut after)) {
            Ok(()) if after == before => return,
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
        }
        std::fs::remove_dir_all(to).expect("removed");
    }
}

/// All that is in a directory, a directory before what is in it.
fn paths(dir: &Path, found: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for file in std::fs::read_dir(dir)? {
        let file = file?;
        found.insert(file.path());
        if file.file_type()?.is_dir() {
            paths(&file.path(), found)?;
        }
    }
    Ok(())
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
fn damage_in_the_middle_of_the_write_ahead_log_is_no_torn_tail() {
    let dir = tempfile::tempdir().expect("a directory");
    two_rounds(dir.path());
    let path = wal(dir.path());
    let good = std::fs::read(&path).expect("the WAL");
    for at in [10, good.len() / 3] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("damage");
        let error = RocksStore::open_read_only(dir.path()).expect_err("damage is not forgiven");
        assert!(matches!(error, OpenError::WalDamaged { .. }), "at {at}: {error:?}");
        assert!(error.is_damage() && !error.to_string().contains("drop-torn-tail"), "{error}");
    }
}

/// The files of a store that hold what was committed.
fn data_files(dir: &Path) -> BTreeSet<PathBuf> {
    let is_data = |path: &PathBuf| path.extension().is_some_and(|end| end == "sst" || end == "log" || end == "blob");
    files(dir, "0").into_iter().filter(is_data).collect()
}

#[test]
fn a_list_of_files_that_is_cut_short_or_gone_loses_nothing_that_is_still_there() {
    let dir = tempfile::tempdir().expect("a directory");
    two_rounds(dir.path());
    let manifest = files(dir.path(), "MANIFEST-").pop().expect("a manifest");
    let (whole, current) = (std::fs::read(&manifest).expect("readable"), dir.path().join("CURRENT"));
    let pointer = std::fs::read(&current).expect("readable");
    let before = data_files(dir.path());
    let mut refused = 0;
    for cut in (0..whole.len()).step_by(5) {
        std::fs::write(&manifest, &whole[..cut]).expect("written");
        match RocksStore::open(dir.path()) {
            // What was cut off said nothing that the write-ahead log does not say.
            Ok(store) => {
                assert_eq!(store.state().expect("the state").round, RoundNumber(2), "cut at {cut}");
                break;
            }
            Err(error) => {
                assert!(error.is_damage(), "cut at {cut}: {error}");
                assert_eq!(data_files(dir.path()), before, "cut at {cut}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10, "{refused}");

    std::fs::write(&manifest, &whole).expect("written");
    std::fs::remove_file(&current).expect("removed");
    let error = RocksStore::open(dir.path()).expect_err("it is no new store");
    assert!(error.is_damage() && error.to_string().contains("holds files of a store"), "{error}");
    assert!(RocksStore::open_read_only(dir.path()).expect_err("nor read").is_damage());
    std::fs::write(&current, &pointer).expect("written");
}

#[test]
fn a_rebuilt_index_is_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    conformance::run(&mut || RocksStore::open(dir.path()).expect("the store opens"));
    let rows = || {
        let store = RocksStore::open(dir.path()).expect("the store opens");
        let mut rows = Vec::new();
        for log in 0..store.state().expect("state").next_log.0 {
            store.visit_index(LogNumber(log), &mut |row| rows.push((log, row))).expect("the index");
        }
        rows.sort_unstable();
        rows
    };
    let before = rows();
    assert!(before.len() > 1_000);
    RocksStore::rebuild_index(dir.path(), false, &mut |_, _| ()).expect("nothing is damaged");
    assert!(rows() == before);
}

#[test]
fn a_head_of_a_round_that_the_store_does_not_know_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    two_rounds(dir.path());
    let store = RocksStore::open(dir.path()).expect("the store opens");
    let key = keys::meta_head(LogNumber(0));
    let head = StoredHead { head: TreeHead::empty(), round: RoundNumber(3), time_ms: 2 };
    store.db.put_cf(store.family(options::META), key, values::stored_head(&key, &head)).expect("written");
    assert!(matches!(store.logs(LogQuery::Name("log")), Err(ReadError::Corrupt { .. })));
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
    use logwood_store::HeadSignature;
    let log = LogNumber(0x0102_0304);
    let head = TreeHead { size: TreeSize(5), root: Hash::from_bytes([0xaa; 32]) };

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
    let last = values::LastRound { round: RoundNumber(7), next_log: LogNumber(3), trimmed: RoundNumber(5) };
    insta::assert_snapshot!(row(keys::META_ROUND, &values::last_round(&last)), @"52 0100000000000000070000000300000000000000054cc970d978debb17");
    let key = keys::meta_appended(RoundNumber(7));
    let extent = Filler { size: 6, round: 6 }.round(2).logs.remove(0).extend.expect("it appends");
    insta::assert_snapshot!(row(&key, &values::appended(&key, [(log, &extent)].into_iter())), @"580000000000000007 0101020304000000000600000002d0dea3b725fe6921");
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
    const ROUNDS: u64 = 20;
    const ENTRIES: u64 = 4_096;
    let dir = tempfile::tempdir().expect("a directory");
    let store = RocksStore::open(dir.path()).expect("the store opens");
    let mut filler = Filler::default();
    filler.append(&store, 256);
    let rounds: Vec<_> = (0..ROUNDS).map(|_| filler.round(ENTRIES)).collect();
    let begin = std::time::Instant::now();
    for round in &rounds {
        store.commit(round).expect("a round");
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{} entries in {seconds:.3} s", ROUNDS * ENTRIES);
    assert!(seconds < 20.0, "80,000 entries took {seconds} s");
    let last = rounds.last().and_then(|round| round.logs[0].extend.as_ref()).expect("the last round");
    let lookup = Lookup::Identity(last.identities[7].expect("it has one"));
    assert_eq!(store.find(LogNumber(0), &[lookup]).expect("find"), [Some(LeafIndex(last.first.0 + 7))]);
}

#[test]
fn opening_takes_what_the_write_ahead_log_holds_and_some() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(RocksStore::opening_bytes(&dir.path().join("none")), OPENING_BYTES);
    for (name, bytes) in [("000004.log", 10), ("000009.log", 7), ("000005.sst", 1_000), ("LOG", 1_000)] {
        std::fs::write(dir.path().join(name), vec![0; bytes]).expect("written");
    }
    assert_eq!(RocksStore::opening_bytes(dir.path()), OPENING_BYTES + 17);
}
