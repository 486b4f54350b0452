//! Requests to witnesses: what is well-formed, and what is not.

use proptest::prelude::*;

use super::*;
use crate::checkpoint::sign_checkpoint;
use crate::testing::{ORIGIN, head, key};

fn request(hashes: usize) -> AddCheckpoint {
    let note = sign_checkpoint(&key(ORIGIN, 1), ORIGIN, &head(7));
    let checkpoint = SignedNote::parse(&note).expect("a note");
    AddCheckpoint { old_size: TreeSize(3), proof: vec![Hash::leaf(b"hash"); hashes], checkpoint }
}

#[test]
fn a_request_is_parsed_as_it_was_written() {
    for hashes in [0, 1, PROOF_LINES_MAX] {
        let request = request(hashes);
        assert_eq!(AddCheckpoint::parse(&request.to_body()), Ok(request));
    }
}

#[test]
fn one_proof_line_too_many_is_refused() {
    let refused = AddCheckpoint::parse(&request(PROOF_LINES_MAX + 1).to_body()).expect_err("64 hashes");
    assert!(matches!(refused, AddCheckpointError::Line(MalformedLine { line: 65, .. })), "{refused}");
}

#[test]
fn hostile_bodies_are_refused() {
    let good = String::from_utf8(request(1).to_body()).expect("text");
    let hash = good.lines().nth(1).expect("a hash").to_owned();
    for (what, body) in [
        ("nothing", String::new()),
        ("only the size", "old 3\n".to_owned()),
        ("no note", format!("old 3\n{hash}\n\n")),
        ("no empty line", good.replacen("\n\n", "\n", 1)),
        ("a leading zero", good.replacen("old 3", "old 03", 1)),
        ("a sign", good.replacen("old 3", "old +3", 1)),
        ("two spaces", good.replacen("old 3", "old  3", 1)),
        ("upper case", good.replacen("old", "OLD", 1)),
        ("a size over 64 bits", good.replacen("old 3", "old 18446744073709551616", 1)),
        ("CR", good.replacen("old 3\n", "old 3\r\n", 1)),
        ("a short hash", good.replacen(&hash, "AAAA", 1)),
        ("unpadded base64", good.replacen(&hash, hash.trim_end_matches('='), 1)),
        ("a space after a hash", good.replacen(&hash, &format!("{hash} "), 1)),
        ("no last newline", good.trim_end().to_owned()),
        ("a NUL in the note", good.replacen(ORIGIN, "\0", 1)),
    ] {
        assert!(AddCheckpoint::parse(body.as_bytes()).is_err(), "{what}");
    }
    assert!(AddCheckpoint::parse(&[good.as_bytes(), b"\xff"].concat()).is_err(), "not UTF-8");
    let long = "x".repeat(ADD_CHECKPOINT_BYTES_MAX + 1);
    assert!(matches!(AddCheckpoint::parse(long.as_bytes()), Err(AddCheckpointError::TooLong { .. })));
}

#[test]
fn a_conflict_is_one_decimal_line() {
    assert_eq!(parse_conflict(b"0\n"), Ok(TreeSize(0)));
    assert_eq!(parse_conflict(b"18446744073709551615\n"), Ok(TreeSize(u64::MAX)));
    for refused in [&b""[..], b"7", b"07\n", b"7\n\n", b"7\n8\n", b"-7\n", b" 7\n", b"7\r\n", b"\xff\n"] {
        assert!(parse_conflict(refused).is_err(), "{refused:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_what_is_parsed_is_written_back(body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = AddCheckpoint::parse(&body) {
            prop_assert_eq!(request.to_body(), body);
        }
    }

    #[test]
    fn any_byte_changed_is_refused_or_written_back(at in 0_usize..400, byte in any::<u8>()) {
        let mut body = request(2).to_body();
        let at = at % body.len();
        body[at] = byte;
        if let Ok(request) = AddCheckpoint::parse(&body) {
            prop_assert_eq!(request.to_body(), body);
        }
    }
}
