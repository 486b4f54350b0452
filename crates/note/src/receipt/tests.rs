//! Receipts: their bytes, every flipped bit, and hostile shapes.

use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::key::VerifierKey;
use crate::note::{NoteError, sign_note};
use crate::testing::{ORIGIN, entry, head, key, receipt};

fn log_key() -> VerifierKey {
    key(ORIGIN, 1).verifier().clone()
}

/// A receipt with everything: `extra`, and a signature of a key that the verifier does not know.
fn full() -> Receipt {
    let text = Checkpoint { origin: ORIGIN.into(), head: head(7), extensions: vec!["ext".into()] }.to_text();
    let checkpoint = sign_note(&text, &[&key("witness.example", 2), &key(ORIGIN, 1)]).expect("a text");
    Receipt { extra: Some(b"{\"line\":3}".to_vec()), checkpoint, ..receipt(3, 7) }
}

/// Whether `receipt`, as a file, is accepted for `entry`.
fn accepts(receipt: &[u8], entry: &[u8]) -> bool {
    Receipt::parse(receipt).and_then(|receipt| receipt.verify(entry, &log_key(), None)).is_ok()
}

#[test]
fn receipt_bytes() {
    insta::assert_snapshot!(String::from_utf8(full().to_bytes()).expect("text"), @r"
    c2sp.org/tlog-proof@v1
    extra eyJsaW5lIjozfQ==
    index 3
    V8efTzGuApxdS9MLBzwnyU35NDiytGl+Hh7vW8A5SkE=
    WkdmL9ijF9lgSaP59HxV3GfKZgUbqjaD27GbL+CaB7A=
    lK+4osoFHAVFjqOdzRmxvWjn4zUp8QtDnSphWlH2NuI=

    log.example/logs/audit
    7
    mMl/C6MXXNCLAx3QhLncTmSbZNGijm6mlGRlAxc6tYc=
    ext

    — witness.example dJZ5+MOTpGvMhAQtpqJBChQKPrVP9QsCmQLnoeNs5SWkB4YgbOVPOiOkksUhMldk1tJo6DqPmtG6M7aH7uD2X26wFgU=
    — log.example/logs/audit wXm9QZd8IitLxMSbLYbwMKA5NQxFbWthy8fBiHqpcfbiDpGbLI3qYNK57N1OjOMftrUt9/P9mTHdxBKSI3GIcO5MQAo=
    ");
}

#[test]
fn every_entry_of_small_trees_has_a_receipt() {
    for size in 1..=17 {
        for index in 0..size {
            let receipt = receipt(index, size);
            let bytes = receipt.to_bytes();
            assert_eq!(Receipt::parse(&bytes), Ok(receipt.clone()));
            let checkpoint = receipt.verify(&entry(index), &log_key(), None).expect("verifies");
            assert_eq!(checkpoint.head, head(size));
            assert!(!accepts(&bytes, &entry(index + 1)));
        }
    }
}

#[test]
fn every_flipped_bit_of_the_entry_is_refused() {
    let (bytes, entry) = (full().to_bytes(), entry(3));
    assert!(accepts(&bytes, &entry));
    for bit in 0..8 * entry.len() {
        let mut flipped = entry.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!accepts(&bytes, &flipped), "bit {bit}");
    }
    for other in [&entry[1..], &[&entry[..], &[0]].concat(), b""] {
        assert!(!accepts(&bytes, other));
    }
}

/// Bytes of the file that nothing vouches for: the value of `extra` and the witness's line.
fn unauthenticated(file: &[u8]) -> [Range<usize>; 2] {
    let find = |needle: &str| {
        let found = file.windows(needle.len()).position(|window| window == needle.as_bytes());
        found.expect("in the file")
    };
    let witness = find("\u{2014} witness");
    [find("extra ")..find("index "), witness..find(&format!("\u{2014} {ORIGIN}"))]
}

#[test]
fn every_flipped_bit_of_a_receipt_is_refused_or_unauthenticated() {
    let file = full().to_bytes();
    let free = unauthenticated(&file);
    let mut harmless = [0; 2];
    for bit in 0..8 * file.len() {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let region = free.iter().position(|range| range.contains(&(bit / 8)));
        let well_formed = Receipt::parse(&flipped).is_ok();
        let expected = region.is_some() && well_formed;
        assert_eq!(accepts(&flipped, &entry(3)), expected, "bit {} of byte {}", bit % 8, bit / 8);
        if let Some(region) = region.filter(|_| expected) {
            harmless[region] += 1;
        }
    }
    // The rule about unauthenticated parts was put to use, in both of them.
    assert!(harmless.iter().all(|&count| count > 30), "{harmless:?}");
}

#[test]
fn the_witness_line_counts_once_its_key_is_named() {
    let file = full().to_bytes();
    let [_, witness] = unauthenticated(&file);
    let keys = [log_key(), key("witness.example", 2).verifier().clone()];
    let verify = |file: &[u8]| {
        let receipt = Receipt::parse(file)?;
        let note = crate::SignedNote::parse(&receipt.checkpoint).map_err(CheckpointError::Note)?;
        let verified = note.verify(&keys).map_err(CheckpointError::Note)?;
        Ok::<_, ReceiptError>(verified.len())
    };
    assert_eq!(verify(&file), Ok(2));
    for bit in 8 * witness.start..8 * witness.end {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(verify(&flipped), Ok(2), "bit {bit}");
    }
}

#[test]
fn every_truncation_and_addition_is_refused() {
    let file = full().to_bytes();
    let last_line = file.len() - 1;
    for length in 0..last_line {
        // Without the log's line the witness's alone is well-formed, but not the log's word.
        assert!(!accepts(&file[..length], &entry(3)), "cut at {length}");
    }
    for byte in [b'\n', b' ', b'a', 0] {
        let longer = [&file[..], &[byte]].concat();
        assert!(Receipt::parse(&longer).is_err(), "{byte:#x} at the end");
    }
}

#[test]
fn the_error_says_which_check_failed() {
    let good = full();
    let verify = |receipt: &Receipt| receipt.verify(&entry(3), &log_key(), None);

    let moved = Receipt { index: LeafIndex(2), ..good.clone() };
    assert!(matches!(verify(&moved), Err(ReceiptError::Inclusion(_))));
    let short = Receipt { proof: good.proof[1..].to_vec(), ..good.clone() };
    assert!(matches!(verify(&short), Err(ReceiptError::Inclusion(ProofError::WrongLength { .. }))));
    let outside = Receipt { index: LeafIndex(u64::MAX), ..good.clone() };
    assert!(matches!(verify(&outside), Err(ReceiptError::Inclusion(_))));

    let stranger = good.verify(&entry(3), key(ORIGIN, 9).verifier(), None);
    let expected = ReceiptError::Checkpoint(CheckpointError::Note(NoteError::NoKnownKey));
    assert_eq!(stranger, Err(expected));
    let other_log = good.verify(&entry(3), &log_key(), Some("other.example"));
    assert!(matches!(other_log, Err(ReceiptError::Checkpoint(CheckpointError::Origin { .. }))));

    let mut forged = good.clone();
    let last = forged.checkpoint.len() - 10;
    forged.checkpoint[last] = if forged.checkpoint[last] == b'A' { b'B' } else { b'A' };
    let expected =
        |error| matches!(error, ReceiptError::Checkpoint(CheckpointError::Note(NoteError::BadSignature { .. })));
    assert!(expected(verify(&forged).expect_err("refused")));
}

#[test]
fn a_leaf_hash_is_as_good_as_its_entry() {
    let receipt = receipt(2, 5);
    receipt.verify_leaf(Hash::leaf(&entry(2)), &log_key(), None).expect("verifies");
    assert!(receipt.verify_leaf(Hash::leaf(&entry(1)), &log_key(), None).is_err());
}

#[test]
fn malformed_lines_are_refused_at_their_number() {
    let good = String::from_utf8(full().to_bytes()).expect("text");
    let hash = good.lines().nth(3).expect("a hash").to_owned();
    let replaced = |from: &str, to: &str| good.replacen(from, to, 1);
    for (file, line) in [
        (String::new(), 1),
        (replaced("@v1", "@v2"), 1),
        (format!("\u{feff}{good}"), 1),
        (good.replace('\n', "\r\n"), 1),
        (replaced("extra ", "extra  "), 2),
        (replaced("extra e", "extra =e"), 2),
        (replaced("extra ", "Extra "), 2),
        (replaced("index 3", "index 03"), 3),
        (replaced("index 3", "index +3"), 3),
        (replaced("index 3", "index 18446744073709551616"), 3),
        (replaced("index 3", "extra AA==\nindex 3"), 3),
        (replaced(&hash, &hash[..40]), 4),
        (replaced(&hash, &format!("{hash} ")), 4),
        (replaced("\n\n", "\n"), 7),
        (replaced(&hash, &vec![&*hash; PROOF_HASHES_MAX].join("\n")), PROOF_HASHES_MAX + 4),
    ] {
        let refused = Receipt::parse(file.as_bytes());
        assert!(matches!(refused, Err(ReceiptError::Malformed(at)) if at.line == line), "{refused:?} for {file:?}");
    }
}

#[test]
fn limits_hold_exactly() {
    let with_extra = |length| Receipt { extra: Some(vec![7; length]), ..receipt(0, 1) }.to_bytes();
    Receipt::parse(&with_extra(EXTRA_BYTES_MAX)).expect("the limit is allowed");
    assert!(matches!(Receipt::parse(&with_extra(EXTRA_BYTES_MAX + 1)), Err(ReceiptError::Malformed(_))));

    let with_hashes = |count| Receipt { proof: vec![Hash::empty_root(); count], ..receipt(0, 1) }.to_bytes();
    Receipt::parse(&with_hashes(PROOF_HASHES_MAX)).expect("the limit is allowed");
    assert!(matches!(Receipt::parse(&with_hashes(PROOF_HASHES_MAX + 1)), Err(ReceiptError::Malformed(_))));

    let huge = vec![b'a'; RECEIPT_BYTES_MAX + 1];
    assert_eq!(Receipt::parse(&huge), Err(ReceiptError::TooLong { actual: huge.len() }));
    assert_eq!(Receipt::parse(b"\xff"), Err(ReceiptError::NotText));
}

proptest! {
    #[test]
    fn receipts_survive_their_bytes(
        extra in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
        index in any::<u64>(),
        proof in prop::collection::vec(any::<[u8; 32]>(), 0..=PROOF_HASHES_MAX),
    ) {
        let proof = proof.into_iter().map(Hash::from_bytes).collect();
        let receipt = Receipt { extra, index: LeafIndex(index), proof, ..receipt(0, 1) };
        prop_assert_eq!(Receipt::parse(&receipt.to_bytes()), Ok(receipt));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        lines in "c2sp.org/tlog-proof@v1\n(extra [A-D=]{0,5}\n)?index [0-9]{1,21}\n(.{0,9}\n){0,6}",
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let _ = Receipt::parse(&bytes);
        let _ = Receipt::parse(lines.as_bytes());
        let mut changed = full().to_bytes();
        let at = at.index(changed.len());
        changed[at] = byte;
        if let Ok(receipt) = Receipt::parse(&changed) {
            prop_assert_eq!(receipt.to_bytes(), changed);
        }
    }
}
