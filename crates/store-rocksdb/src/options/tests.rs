//! The options that the engine says it runs with, against those of the design.

use std::path::Path;

use super::{BUNDLES, INDEX, META, PIECES, TILES};
use crate::RocksStore;
use crate::tests::files;

const DATABASE: &[&str] = &[
    "allow_concurrent_memtable_write=false",
    "avoid_flush_during_recovery=false",
    "bytes_per_sync=1048576",
    "enable_pipelined_write=false",
    "manual_wal_flush=false",
    "max_background_jobs=2",
    "max_bgerror_resume_count=0",
    "max_manifest_file_size=4194304",
    "max_open_files=1024",
    "max_total_wal_size=268435456",
    "recycle_log_file_num=0",
    "skip_stats_update_on_db_open=true",
    "stats_dump_period_sec=0",
    "stats_persist_period_sec=0",
    "track_and_verify_wals_in_manifest=true",
    "unordered_write=false",
    "use_direct_io_for_flush_and_compaction=false",
    "wal_compression=kNoCompression",
    "wal_recovery_mode=kTolerateCorruptedTailRecords",
];

const EVERY_FAMILY: &[&str] = &[
    "compression=kNoCompression",
    "enable_blob_direct_write=false",
    "max_write_buffer_number=4",
    "memtable_protection_bytes_per_key=8",
    "periodic_compaction_seconds=0",
    "ttl=0",
];

const EVERY_TABLE: &[&str] = &[
    "cache_index_and_filter_blocks=true",
    "filter_policy=bloomfilter",
    "index_type=kTwoLevelIndexSearch",
    "no_block_cache=false",
    "partition_filters=true",
    "whole_key_filtering=true",
];

const LEVELLED: &[&str] =
    &["compaction_style=kCompactionStyleLevel", "level0_slowdown_writes_trigger=48", "level0_stop_writes_trigger=64"];

const WITH_BLOBS: &[&str] = &["enable_blob_files=true", "min_blob_size=1024", "blob_compression_type=kNoCompression"];

const SORTED_FILES: &[&str] = &[
    "compaction_style=kCompactionStyleUniversal",
    "level0_slowdown_writes_trigger=1000",
    "level0_stop_writes_trigger=1000",
    "merge_operator=logwood.indices.1",
];

/// The lines of a section of an OPTIONS file.
fn section<'a>(options: &'a str, title: &str) -> Vec<&'a str> {
    let lines = options.lines().map(str::trim).skip_while(|line| *line != title).skip(1);
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with('[')).collect();
    assert!(!lines.is_empty(), "the OPTIONS file has no {title}");
    lines
}

fn assert_has(options: &str, title: &str, expected: &[&str]) {
    let lines = section(options, title);
    for option in expected {
        let name = option.split('=').next().unwrap_or_default();
        let found = lines.iter().find(|line| line.starts_with(&format!("{name}=")));
        assert_eq!(found, Some(option), "in {title}");
    }
}

#[test]
fn options_are_those_of_the_design() {
    let dir = tempfile::tempdir().expect("a directory");
    RocksStore::open(dir.path()).expect("the store opens").close();
    let newest = files(dir.path(), "OPTIONS-").pop().expect("RocksDB writes its options");
    let options = std::fs::read_to_string(newest).expect("options");
    assert_has(&options, "[DBOptions]", DATABASE);
    for family in [BUNDLES, TILES, PIECES, INDEX, META] {
        let title = format!("[CFOptions \"{family}\"]");
        assert_has(&options, &title, EVERY_FAMILY);
        assert_has(&options, &title, if family == INDEX { SORTED_FILES } else { LEVELLED });
        if [BUNDLES, TILES].contains(&family) {
            assert_has(&options, &title, WITH_BLOBS);
        }
        assert_has(&options, &format!("[TableOptions/BlockBasedTable \"{family}\"]"), EVERY_TABLE);
    }
    let universal = section(&options, "[CFOptions \"index\"]").into_iter().find(|line| line.contains("universal={"));
    assert!(universal.is_some_and(|line| line.contains("max_size_amplification_percent=1000;")), "{universal:?}");
    assert_objects(dir.path());
}

/// What the OPTIONS file cannot name, since they are objects and not values: the text log does. Of the memtables' common
/// limit and the threads' priority it says nothing.
fn assert_objects(dir: &Path) {
    let log = std::fs::read_to_string(dir.join("LOG")).expect("RocksDB writes a text log");
    let values = |name: &str| -> Vec<&str> {
        let lines = log.lines().filter_map(|line| line.split_once(name));
        lines.map(|(_, value)| value.trim_start_matches([' ', ':'])).collect()
    };
    assert!(values("Options.rate_limiter").iter().all(|limiter| *limiter != "(nil)" && *limiter != "0x0"));
    assert!(values("block_cache_name").iter().all(|name| name.contains("HyperClockCache")));
    // One for our five families, and the engine's own for the family that nobody uses.
    assert_eq!(values("capacity ").iter().filter(|bytes| **bytes == "134217728").count(), 5);
}
