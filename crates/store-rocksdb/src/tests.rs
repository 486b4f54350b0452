//! The conformance suite, and what only this engine can get wrong.

use super::*;

#[test]
fn the_store_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    logwood_store::conformance::run(&mut || RocksStore::open(dir.path()).expect("the store opens"));
}

#[test]
fn a_second_opener_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let _first = RocksStore::open(dir.path()).expect("the store opens");
    let second = RocksStore::open(dir.path()).expect_err("it is in use");
    assert!(matches!(second, OpenError::Locked { .. }), "{second}");
    assert!(second.to_string().contains("in use by another process"), "{second}");
}
