//! `logwood verify` from the outside: which exit status for which file.

use std::fs;
use std::path::Path;
use std::process::Command;

use logwood_merkle::{Hash, LeafIndex, RangeProof, TreeHead, TreeSize};
use logwood_note::{RangeFile, Receipt, SigningKey, push_entry, sign_checkpoint};

const ORIGIN: &str = "log.example/logs/audit";

fn status(arguments: &[&str], directory: &Path) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logwood"));
    command.arg("verify").args(arguments).current_dir(directory).env_remove("LOGWOOD_VKEY");
    command.output().expect("the command runs").status.code()
}

/// A log of two entries: its key, its signed checkpoint, and the leaves.
fn log() -> (SigningKey, Vec<u8>, [Hash; 2]) {
    let key = SigningKey::from_seed(ORIGIN, &[7; 32]).expect("a good name");
    let leaves = [Hash::leaf(b"first"), Hash::leaf(b"second")];
    let head = TreeHead { size: TreeSize(2), root: Hash::node(&leaves[0], &leaves[1]) };
    let checkpoint = sign_checkpoint(&key, ORIGIN, &head);
    (key, checkpoint, leaves)
}

#[test]
fn a_receipt_is_good_or_the_status_says_how_it_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let (key, checkpoint, leaves) = log();
    let vkey = key.verifier().to_string();
    let receipt = Receipt { extra: None, index: LeafIndex(1), proof: vec![leaves[0]], checkpoint }.to_bytes();
    fs::write(path.join("receipt"), &receipt).expect("written");
    fs::write(path.join("entry"), b"second").expect("written");
    let run = |receipt: &str, entry: &str| status(&["--vkey", &vkey, receipt, entry], path);
    assert_eq!(run("receipt", "entry"), Some(0));
    assert_eq!(run("receipt", "no such file"), Some(1));
    assert_eq!(run("no such file", "entry"), Some(1));
    assert_eq!(status(&["--vkey", "not a key", "receipt", "entry"], path), Some(2));
    assert_eq!(status(&["receipt", "entry"], path), Some(2), "a key is always needed");

    fs::write(path.join("forged"), b"sekond").expect("written");
    assert_eq!(run("receipt", "forged"), Some(3));
    fs::write(path.join("huge"), vec![b'a'; 65_536]).expect("written");
    assert_eq!(run("receipt", "huge"), Some(3));
    for place in (0..receipt.len()).step_by(7) {
        let mut flipped = receipt.clone();
        flipped[place] ^= 1;
        fs::write(path.join("flipped"), &flipped).expect("written");
        assert_eq!(run("flipped", "entry"), Some(3), "byte {place}");
    }
}

#[test]
fn a_range_is_complete_or_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let (key, checkpoint, _) = log();
    let vkey = key.verifier().to_string();
    let RangeProof { left, right } = RangeProof::default();
    let proof = RangeFile { range: 0..2, left, right, checkpoint };
    fs::write(path.join("proof.logwood-range"), proof.to_bytes()).expect("written");
    let write = |entries: &[&[u8]]| {
        let mut bytes = Vec::new();
        for entry in entries {
            push_entry(entry, &mut bytes).expect("short");
        }
        fs::write(path.join("entries"), bytes).expect("written");
    };
    let run = || status(&["--vkey", &vkey, "--range", "."], path);
    assert_eq!(run(), Some(1), "there are no entries yet");
    write(&[b"first", b"second"]);
    assert_eq!(run(), Some(0));
    write(&[b"second", b"first"]);
    assert_eq!(run(), Some(3));
    write(&[b"first"]);
    assert_eq!(run(), Some(3));
    fs::write(path.join("entries"), b"\0\x05fir").expect("written");
    assert_eq!(run(), Some(3), "cut short");
}
