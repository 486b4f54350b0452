//! What is stored is found again, and nothing else is believed.

use super::*;
use crate::testing::{key, leaves, signed};
use crate::verify::signed_head;

const SERVER: &str = "http://127.0.0.1:7070";

fn verified(size: u64) -> VerifiedHead {
    signed_head(Some(signed(&leaves(size), 0)), key(1).verifier(), None, None).expect("an honest head")
}

fn stored(directory: &Path, size: u64) -> StateFile {
    let state = StateFile::new(directory, SERVER, "audit");
    state.store(key(1).verifier(), Some(&verified(size))).expect("a writable directory");
    state
}

#[test]
fn a_head_and_its_key_are_found_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let nested = directory.path().join("made/when/needed");
    stored(&nested, 3);
    let state = stored(&nested, 7);
    let found = state.load().expect("readable").expect("stored");
    assert_eq!(&found.key, key(1).verifier());
    assert_eq!(found.head.expect("stored").note, verified(7).note);
    assert_eq!(fs::read_dir(&nested).expect("made").count(), 1, "no temporary file stays");
}

#[test]
fn a_key_without_a_head_is_found_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = StateFile::new(directory.path(), SERVER, "audit");
    assert!(state.load().expect("nothing there").is_none());
    state.store(key(1).verifier(), None).expect("a writable directory");
    assert!(state.load().expect("readable").expect("stored").head.is_none());
}

#[test]
fn servers_and_logs_are_remembered_apart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    stored(directory.path(), 3);
    for (server, log) in [("http://127.0.0.1:7071", "audit"), (SERVER, "other")] {
        assert!(StateFile::new(directory.path(), server, log).load().expect("nothing there").is_none());
    }
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_first_contact() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = stored(directory.path(), 3);
    let honest = fs::read_to_string(&state.path).expect("readable");
    let too_long = " ".repeat(usize::try_from(STATE_BYTES_MAX).expect("small")) + &honest;
    let damaged = [
        String::new(),
        honest[..honest.len() / 2].to_owned(),
        honest.replace("\\n3\\n", "\\n4\\n"),
        honest.replace(key(1).verifier().to_string().as_str(), &key(2).verifier().to_string()),
        honest.replace("7070", "7071"),
        too_long,
    ];
    for contents in damaged {
        assert_ne!(contents, honest);
        fs::write(&state.path, &contents).expect("writable");
        assert!(matches!(state.load(), Err(ClientError::State { .. })), "{contents}");
    }
}
