//! LogStore on the embedded RocksDB.
