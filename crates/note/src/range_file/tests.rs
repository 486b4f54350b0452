//! Range files: their bytes, every range of small trees, every flipped bit, hostile shapes.

use proptest::prelude::*;

use super::*;
use crate::checkpoint::sign_checkpoint;
use crate::key::VerifierKey;
use crate::testing::{ORIGIN, head, key, leaves, mth};

fn log_key() -> VerifierKey {
    key(ORIGIN, 1).verifier().clone()
}

/// The hashes left and right of `range` in the tree over `d`, by the recursion of RFC 6962 §2.1.
fn outside(d: &[Hash], start: u64, range: &Range<u64>, left: &mut Vec<Hash>, right: &mut Vec<Hash>) {
    let end = start + d.len() as u64;
    if end <= range.start {
        left.push(mth(d));
    } else if start >= range.end {
        right.push(mth(d));
    } else if d.len() > 1 {
        let k = 1_usize << (d.len() - 1).ilog2();
        outside(&d[..k], start, range, left, right);
        outside(&d[k..], start + k as u64, range, left, right);
    }
}

fn range_file(range: Range<u64>, size: u64) -> RangeFile {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    outside(&leaves(size), 0, &range, &mut left, &mut right);
    let checkpoint = sign_checkpoint(&key(ORIGIN, 1), ORIGIN, &head(size));
    RangeFile { range, left, right, checkpoint }
}

fn leaves_of(range: &Range<u64>) -> Vec<Hash> {
    let skip = usize::try_from(range.start).expect("a small tree");
    leaves(range.end).split_off(skip)
}

#[test]
fn range_file_bytes() {
    let file = range_file(2..5, 7).to_bytes();
    insta::assert_snapshot!(String::from_utf8(file).expect("text"), @r"
    logwood-range-proof/v1
    range 2 5
    left 1
    WkdmL9ijF9lgSaP59HxV3GfKZgUbqjaD27GbL+CaB7A=
    right 2
    n/U3thiiV++CkIxFkVrLrrbZ3qA11tk5ZPyIwZ6YyLM=
    vhV4G2KKKEFMHIoRuG24Qi+hBBIV/g18RJbSPNoeQUI=

    log.example/logs/audit
    7
    mMl/C6MXXNCLAx3QhLncTmSbZNGijm6mlGRlAxc6tYc=

    — log.example/logs/audit wXm9QWgswfF4KyziCjrtPhG7mf/sYzxYxQxIKKKJvMoGrpFtVdPPAizdpbAsFh7OeKLywrif1OdYIwvBPg3kAdPjygs=
    ");
}

#[test]
fn every_range_of_small_trees_verifies() {
    for size in 1..=12 {
        for (start, end) in (0..size).flat_map(|a| (a + 1..=size).map(move |b| (a, b))) {
            let file = range_file(start..end, size);
            assert_eq!(RangeFile::parse(&file.to_bytes()), Ok(file.clone()));
            let checkpoint = file.verify(&leaves_of(&file.range), &log_key(), None);
            assert_eq!(checkpoint.expect("verifies").head, head(size), "{start}..{end} of {size}");
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let good = range_file(2..5, 7);
    let bytes = good.to_bytes();
    let leaves = leaves_of(&good.range);
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let verdict = RangeFile::parse(&flipped).and_then(|file| file.verify(&leaves, &log_key(), None));
        assert!(verdict.is_err(), "bit {} of byte {}", bit % 8, bit / 8);
    }
}

#[test]
fn the_error_says_which_check_failed() {
    let good = range_file(2..5, 7);
    let leaves = leaves_of(&good.range);
    for actual in [0, 2] {
        let refused = good.verify(&leaves[..actual], &log_key(), None);
        assert_eq!(refused, Err(RangeFileError::EntryCount { expected: 3, actual: actual as u64 }));
    }
    let refused = good.verify(&leaves_of(&(1..4)), &log_key(), None);
    assert!(matches!(refused, Err(RangeFileError::Proof(_))));
    let refused = good.verify(&leaves, key(ORIGIN, 2).verifier(), None);
    assert!(matches!(refused, Err(RangeFileError::Checkpoint(_))));
    let missing = RangeFile { right: vec![], ..good.clone() };
    assert!(matches!(missing.verify(&leaves, &log_key(), None), Err(RangeFileError::Proof(_))));
    #[expect(clippy::reversed_empty_ranges, reason = "a caller may build one")]
    let reversed = RangeFile { range: 5..2, ..good };
    assert!(reversed.verify(&[], &log_key(), None).is_err());
}

#[test]
fn malformed_lines_are_refused_at_their_number() {
    let good = String::from_utf8(range_file(2..5, 7).to_bytes()).expect("text");
    let replaced = |from: &str, to: &str| good.replacen(from, to, 1);
    for (file, line) in [
        (String::new(), 1),
        (replaced("/v1", "/v2"), 1),
        (replaced("range 2 5", "range 5 2"), 2),
        (replaced("range 2 5", "range 2 2"), 2),
        (replaced("range 2 5", "range 2  5"), 2),
        (replaced("range 2 5", "range 02 5"), 2),
        (replaced("range 2 5", "range 2 18446744073709551616"), 2),
        (replaced("left 1", "left 01"), 3),
        (replaced("left 1", "left 65"), 3),
        (replaced("left 1", "left 18446744073709551615"), 3),
        (replaced("left 1", "left 2"), 5),
        (replaced("left 1", "left 0"), 4),
        (replaced("right 2", "right 3"), 8),
        (replaced("right 2", "right 1"), 7),
    ] {
        let refused = RangeFile::parse(file.as_bytes());
        assert!(matches!(refused, Err(RangeFileError::Malformed(at)) if at.line == line), "{refused:?} for {file:?}");
    }
    let refused = RangeFile::parse(&vec![b'a'; RANGE_FILE_BYTES_MAX + 1]);
    assert!(matches!(refused, Err(RangeFileError::TooLong { .. })));
    assert_eq!(RangeFile::parse(b"\xff"), Err(RangeFileError::NotText));
}

proptest! {
    #[test]
    fn range_files_survive_their_bytes(
        (start, end) in (0..u64::MAX).prop_flat_map(|a| (Just(a), a + 1..)),
        left in prop::collection::vec(any::<[u8; 32]>(), 0..=SIDE_HASHES_MAX),
        right in prop::collection::vec(any::<[u8; 32]>(), 0..=SIDE_HASHES_MAX),
    ) {
        let hashes = |side: Vec<_>| side.into_iter().map(Hash::from_bytes).collect();
        let file = RangeFile { range: start..end, left: hashes(left), right: hashes(right), ..range_file(0..1, 1) };
        prop_assert_eq!(RangeFile::parse(&file.to_bytes()), Ok(file));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        lines in "logwood-range-proof/v1\nrange [0-9]{1,20} [0-9]{1,20}\nleft [0-9]{1,3}\n(.{0,9}\n){0,6}",
    ) {
        let _ = RangeFile::parse(&bytes);
        let _ = RangeFile::parse(lines.as_bytes());
    }
}
