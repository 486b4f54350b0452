//! Checkpoints: real ones of other logs, our own bytes, and hostile lines.

use std::fs;

use logwood_merkle::Hash;
use proptest::prelude::*;

use super::*;
use crate::key::VerifierKey;
use crate::testing::{ORIGIN as LOG, head, key, shared};

/// The key of the Tessera test log, published with that project's tests.
const TESSERA_VKEY: &str = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";

const ROOT: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

#[test]
fn checkpoint_bytes() {
    let note = sign_checkpoint(&key(LOG, 1), LOG, &head(7));
    insta::assert_snapshot!(String::from_utf8(note).expect("text"), @r"
    log.example/logs/audit
    7
    mMl/C6MXXNCLAx3QhLncTmSbZNGijm6mlGRlAxc6tYc=

    — log.example/logs/audit wXm9QWgswfF4KyziCjrtPhG7mf/sYzxYxQxIKKKJvMoGrpFtVdPPAizdpbAsFh7OeKLywrif1OdYIwvBPg3kAdPjygs=
    ");
}

#[test]
fn a_signed_checkpoint_opens() {
    for size in [0, 1, 7] {
        let key = key(LOG, 1);
        let note = sign_checkpoint(&key, LOG, &head(size));
        let opened = Checkpoint::open(&note, key.verifier(), None).expect("opens");
        let expected = Checkpoint { origin: LOG.into(), head: head(size), extensions: vec![] };
        assert_eq!(opened, expected);
        assert_eq!(Checkpoint::parse_unverified(&note), Ok(expected.clone()));
        assert_eq!(note::sign_note(&expected.to_text(), &[&key]), Ok(note));
    }
}

#[test]
fn every_checkpoint_of_the_tessera_test_log_verifies() {
    let Some(directory) = shared("data/vectors/tessera-testlog") else { return };
    let key: VerifierKey = TESSERA_VKEY.parse().expect("a vkey");
    for size in 0..=15 {
        let note = fs::read(directory.join(format!("checkpoint.{size}"))).expect("a file");
        let checkpoint = Checkpoint::open(&note, &key, None).expect("opens");
        assert_eq!(checkpoint.head.size, TreeSize(size));
    }
    let latest = fs::read(directory.join("checkpoint")).expect("a file");
    assert_eq!(Checkpoint::open(&latest, &key, None).expect("opens").head.size, TreeSize(15));
}

/// No public key comes with these, and their signatures are of several algorithms.
#[test]
fn real_checkpoints_parse_and_are_written_back() {
    let Some(directory) = shared("data/vectors/checkpoints") else { return };
    for (file, origin, size) in [
        ("distributor-readme-0.txt", "transparency.dev/armored-witness/firmware_transparency/ci/3", 59),
        ("distributor-readme-1.txt", "developers.google.com/android/binary_transparency/0", 611),
    ] {
        let bytes = fs::read(directory.join(file)).expect("a file");
        let note = SignedNote::parse(&bytes).expect("well-formed");
        assert_eq!((note.as_bytes(), note.signatures().len()), (&bytes[..], 3), "{file}");
        let checkpoint = Checkpoint::parse_text(note.text()).expect("a checkpoint");
        assert_eq!((checkpoint.origin.as_str(), checkpoint.head.size), (origin, TreeSize(size)));
        assert_eq!(checkpoint.to_text(), note.text());
    }
}

#[test]
fn another_key_or_log_is_refused_by_name() {
    let (log, other) = (key(LOG, 1), key("other.example", 1));
    let note = sign_checkpoint(&log, LOG, &head(7));
    let refused = Checkpoint::open(&note, other.verifier(), None);
    assert_eq!(refused, Err(CheckpointError::Note(NoteError::NoKnownKey)));

    let note = sign_checkpoint(&log, "log.example/logs/else", &head(7));
    let refused = Checkpoint::open(&note, log.verifier(), None);
    let expected = CheckpointError::Origin { expected: LOG.into(), actual: "log.example/logs/else".into() };
    assert_eq!(refused, Err(expected));
    Checkpoint::open(&note, log.verifier(), Some("log.example/logs/else")).expect("as asked for");
    let refused = Checkpoint::open(&note, log.verifier(), Some("log.example/logs"));
    assert!(matches!(refused, Err(CheckpointError::Origin { .. })));
}

#[test]
fn extension_lines_are_kept_and_bounded() {
    let text = |count| format!("origin\n1\n{ROOT}\n{}", "extension\n".repeat(count));
    let checkpoint = Checkpoint::parse_text(&text(EXTENSIONS_MAX)).expect("the limit is allowed");
    assert_eq!(checkpoint.extensions.len(), EXTENSIONS_MAX);
    assert_eq!(checkpoint.to_text(), text(EXTENSIONS_MAX));
    let refused = Checkpoint::parse_text(&text(EXTENSIONS_MAX + 1));
    assert_eq!(refused, Err(MalformedLine { line: 4 + EXTENSIONS_MAX, expected: EXTENSION }));
}

#[test]
fn malformed_texts_are_refused_at_their_line() {
    let long = "o".repeat(ORIGIN_BYTES_MAX + 1);
    for (text, line) in [
        (String::new(), 1),
        ("origin".into(), 1),
        (format!("\n1\n{ROOT}\n"), 1),
        (format!("{long}\n1\n{ROOT}\n"), 1),
        (format!("ori\rgin\n1\n{ROOT}\n"), 1),
        (format!("origin\n{ROOT}\n1\n"), 2),
        (format!("origin\n01\n{ROOT}\n"), 2),
        (format!("origin\n-1\n{ROOT}\n"), 2),
        (format!("origin\n18446744073709551616\n{ROOT}\n"), 2),
        ("origin\n1\n".into(), 3),
        (format!("origin\n1\n{ROOT}"), 3),
        (format!("origin\n1\n{ROOT} \n"), 3),
        (format!("origin\n1\n{}\n", ROOT.replace("FU=", "FV=")), 3),
        (format!("origin\n1\n{}\n", &ROOT[4..]), 3),
        (format!("origin\n1\n{ROOT}\n\n"), 4),
        (format!("origin\n1\n{ROOT}\nextension"), 4),
        (format!("origin\n1\n{ROOT}\nextension\n\n"), 5),
    ] {
        let refused = Checkpoint::parse_text(&text).expect_err("refused");
        assert_eq!(refused.line, line, "{text:?}");
    }
    let longest = "o".repeat(ORIGIN_BYTES_MAX);
    Checkpoint::parse_text(&format!("{longest}\n18446744073709551615\n{ROOT}\n")).expect("the limits are allowed");
}

#[test]
fn a_signed_text_that_is_no_checkpoint_is_refused() {
    let key = key(LOG, 1);
    let note = note::sign_note("logwood-seal/v1\nx\n1\n", &[&key]).expect("a text");
    let refused = Checkpoint::open(&note, key.verifier(), None);
    assert!(matches!(refused, Err(CheckpointError::Text(MalformedLine { line: 2, .. }))));
}

proptest! {
    #[test]
    fn checkpoints_survive_their_text(
        origin in "[ -~äé–]{1,80}",
        size in any::<u64>(),
        root in any::<[u8; 32]>(),
        extensions in prop::collection::vec("[ -~]{1,30}", 0..4),
    ) {
        let head = TreeHead { size: TreeSize(size), root: Hash::from_bytes(root) };
        let checkpoint = Checkpoint { origin, head, extensions };
        prop_assert_eq!(Checkpoint::parse_text(&checkpoint.to_text()), Ok(checkpoint));
    }

    #[test]
    fn what_is_accepted_is_written_back(text in "(.{1,4}\n|[0-9]{1,3}\n|47DEQpj8HBSa\\+/TImW\\+5JCeuQeRkm5NMpJWZG3hSuFU=\n|\n){0,6}") {
        if let Ok(checkpoint) = Checkpoint::parse_text(&text) {
            prop_assert_eq!(checkpoint.to_text(), text);
        }
    }
}
