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
        let message = second.err().expect("the store is in use").to_string();
        assert!(
            message
                .contains(&format!("in use by another process (process {})", std::process::id())),
            "{message}"
        );
    }
    store.close();
    RocksStore::open_read_only(dir.path()).expect("nobody holds the store");
}

#[test]
fn a_directory_without_a_store_is_not_read() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(matches!(RocksStore::open_read_only(dir.path()), Err(OpenError::Missing { .. })));
}
