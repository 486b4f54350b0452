//! Seals: their bytes, their inverse, and that they are no checkpoints.

use logwood_merkle::Hash;
use proptest::prelude::*;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::testing::{ORIGIN as LOG, head, key};

fn seal() -> Seal {
    Seal { origin: LOG.into(), head: head(7), seconds: 1_774_353_600 }
}

#[test]
fn seal_bytes() {
    let note = seal().sign(&key(LOG, 1));
    insta::assert_snapshot!(String::from_utf8(note).expect("text"), @r"
    logwood-seal/v1
    log.example/logs/audit
    7
    mMl/C6MXXNCLAx3QhLncTmSbZNGijm6mlGRlAxc6tYc=
    1774353600

    — log.example/logs/audit wXm9Qb2hppfL9I9Q4dEGZnBkQl6UOCXLBnVDoHRjWGt+PlcU4TEcd6wUhXipd9R9evfoFid+MbQRaiw8g4DuYVsedg0=
    ");
}

#[test]
fn a_seal_opens_under_its_key_only() {
    let note = seal().sign(&key(LOG, 1));
    assert_eq!(Seal::open(&note, key(LOG, 1).verifier(), None), Ok(seal()));
    let refused = Seal::open(&note, key(LOG, 2).verifier(), None);
    assert_eq!(refused, Err(SealError::Note(NoteError::NoKnownKey)));
    let refused = Seal::open(&note, key(LOG, 1).verifier(), Some("else"));
    assert_eq!(refused, Err(SealError::Origin { expected: "else".into(), actual: LOG.into() }));
}

#[test]
fn every_flipped_bit_of_a_seal_is_refused() {
    let key = key(LOG, 1);
    let note = seal().sign(&key);
    for bit in 0..8 * note.len() {
        let mut flipped = note.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Seal::open(&flipped, key.verifier(), None).is_err(), "bit {bit}");
    }
}

#[test]
fn seals_and_checkpoints_are_not_confused() {
    let key = key(LOG, 1);
    let refused = Checkpoint::open(&seal().sign(&key), key.verifier(), None);
    assert!(refused.is_err());
    let checkpoint = crate::sign_checkpoint(&key, LOG, &head(7));
    assert!(matches!(Seal::open(&checkpoint, key.verifier(), None), Err(SealError::Text(_))));
}

#[test]
fn malformed_texts_are_refused_at_their_line() {
    let good = seal().to_text();
    let replaced = |from: &str, to: &str| good.replacen(from, to, 1);
    for (text, line) in [
        (String::new(), 1),
        (replaced("v1", "v2"), 1),
        (replaced("log.example", "log example"), 2),
        (replaced("\n7\n", "\n07\n"), 3),
        (replaced("\n7\n", "\n7\nA"), 4),
        (replaced("1774353600", "-1"), 5),
        (replaced("1774353600\n", "1774353600"), 5),
        (format!("{good}extension\n"), 5),
    ] {
        assert_eq!(Seal::parse_text(&text).expect_err("refused").line, line, "{text:?}");
    }
}

proptest! {
    #[test]
    fn seals_survive_their_text(origin in "[a-z./]{1,80}", size in any::<u64>(), root in any::<[u8; 32]>(), seconds in any::<u64>()) {
        let head = TreeHead { size: TreeSize(size), root: Hash::from_bytes(root) };
        let seal = Seal { origin, head, seconds };
        prop_assert_eq!(Seal::parse_text(&seal.to_text()), Ok(seal));
    }

    #[test]
    fn arbitrary_texts_never_panic(text in ".{0,60}", lines in "logwood-seal/v1\n(.{0,9}\n){0,4}") {
        let _ = Seal::parse_text(&text);
        let _ = Seal::parse_text(&lines);
    }
}
