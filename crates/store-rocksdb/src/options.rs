//! The engine's options, each with its reason. A test compares them with the OPTIONS file that it writes.

use crate::index;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompactionStyle, DBCompressionType,
    DBRecoveryMode, Env, Options, UniversalCompactOptions, WriteBufferManager,
};

/// Block cache, in bytes; index and filter blocks live in it.
const CACHE_BYTES: usize = 128 * 1024 * 1024;
/// Memory of all memtables together, in bytes.
const MEMTABLES_BYTES: usize = 128 * 1024 * 1024;
/// A WAL longer than this makes the oldest memtable flush.
const WAL_BYTES_MAX: u64 = 256 * 1024 * 1024;
const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
const OPEN_FILES_MAX: i32 = 1_024;
/// Flushes and compactions together: above what 2 cores of appends make, below what would starve the WAL's syncs.
const BACKGROUND_BYTES_PER_SECOND: i64 = 256 * 1024 * 1024;
/// Memtables of a family, full ones included: a burst of rounds is not refused while one is flushed.
const MEMTABLES_MAX: i32 = 4;
/// Unsorted files of a family before a round is refused as stalled: reads slow down with each, so not boundless.
const FILES_BEFORE_SLOWDOWN: i32 = 48;
const FILES_BEFORE_STOP: i32 = 64;
/// The same for `index`: out of reach.
const INDEX_FILES_MAX: i32 = 1_000;
/// The engine's own defaults of the rate limiter.
const RATE_REFILL_US: i64 = 100_000;
const RATE_FAIRNESS: i32 = 10;
/// The engine's own text logs.
const INFO_LOGS_MAX: usize = 4;
const INFO_LOG_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(crate) const BUNDLES: &str = "bundles";
pub(crate) const TILES: &str = "tiles";
pub(crate) const PIECES: &str = "pieces";
pub(crate) const INDEX: &str = "index";
pub(crate) const META: &str = "meta";

/// Names of the column families, besides the engine's own.
pub(crate) const FAMILIES: [&str; 5] = [BUNDLES, TILES, PIECES, INDEX, META];

/// Options of the database. Nothing is made that is missing: what is missing of a store was lost.
pub(crate) fn database() -> Result<Options, rocksdb::Error> {
    // This option has no setter. It makes fresh options, so it comes first. A failed write is for the log to heal.
    let mut options = Options::default().get_options_from_string("max_bgerror_resume_count=0")?;
    // One synced write at a time: at most the last record can be cut short, and that one was not acknowledged.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_manifest_file_size(MANIFEST_BYTES_MAX);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_skip_stats_update_on_db_open(true);
    // An idle log writes nothing.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_allow_concurrent_memtable_write(false);
    options.set_bytes_per_sync(1024 * 1024);
    options.set_max_background_jobs(2);
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(MEMTABLES_BYTES, false));
    options.set_ratelimiter(BACKGROUND_BYTES_PER_SECOND, RATE_REFILL_US, RATE_FAIRNESS);
    options.set_keep_log_file_num(INFO_LOGS_MAX);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    let mut env = Env::new()?;
    env.lower_thread_pool_cpu_priority();
    options.set_env(&env);
    Ok(options)
}

/// The cache that all families share.
pub(crate) fn cache() -> Cache {
    Cache::new_hyper_clock_cache(CACHE_BYTES, 0)
}

/// The column families.
pub(crate) fn families(cache: &Cache) -> Result<Vec<ColumnFamilyDescriptor>, rocksdb::Error> {
    let descriptor = |name| Ok(ColumnFamilyDescriptor::new(name, family(name, cache)?));
    FAMILIES.into_iter().map(descriptor).collect()
}

/// The options of one family.
pub(crate) fn family(name: &str, cache: &Cache) -> Result<Options, rocksdb::Error> {
    // This option has no setter. It finds rot in memory between a round's batch and the file that it goes to.
    let mut options = Options::default().get_options_from_string("memtable_protection_bytes_per_key=8")?;
    options.set_ttl(0);
    options.set_periodic_compaction_seconds(0);
    options.set_max_write_buffer_number(MEMTABLES_MAX);
    options.set_level_zero_slowdown_writes_trigger(FILES_BEFORE_SLOWDOWN);
    options.set_level_zero_stop_writes_trigger(FILES_BEFORE_STOP);
    // Bundles are zstd already, hashes do not shrink.
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&table(cache));
    match name {
        BUNDLES | TILES => {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(1_024);
        }
        INDEX => {
            options.set_compaction_style(DBCompactionStyle::Universal);
            let mut universal = UniversalCompactOptions::default();
            // Nothing is ever deleted: space amplification is not what compaction is for here.
            universal.set_max_size_amplification_percent(1_000);
            options.set_universal_compaction_options(&universal);
            // Its files come by ingest, which waits for compaction by itself: it never refuses a round.
            options.set_level_zero_slowdown_writes_trigger(INDEX_FILES_MAX);
            options.set_level_zero_stop_writes_trigger(INDEX_FILES_MAX);
            options.set_merge_operator_associative("logwood.indices.1", index::merge);
        }
        _ => {}
    }
    Ok(options)
}

fn table(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_cache_index_and_filter_blocks(true);
    table
}

#[cfg(test)]
mod tests;
