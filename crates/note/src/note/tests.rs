//! Notes against the specification's example, hostile shapes, and keys that are known or not.

use proptest::prelude::*;

use super::*;
use crate::testing::key;

/// The example of the C2SP signed-note specification.
const SPEC_VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const SPEC_NOTE: &str = "This is an example message.\n\n\
    \u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

/// A well-formed signature line of an unknown algorithm.
const FOREIGN: &str = "\u{2014} witness.example AAAAAAE=\n";

fn parse(note: &str) -> Result<SignedNote, NoteError> {
    SignedNote::parse(note.as_bytes())
}

fn signed(text: &str) -> String {
    let note = sign_note(text, &[&key("log.example", 1)]).expect("a text");
    String::from_utf8(note).expect("text")
}

#[test]
fn the_example_of_the_specification_verifies() {
    let note = parse(SPEC_NOTE).expect("well-formed");
    assert_eq!(note.text(), "This is an example message.\n");
    let key = SPEC_VKEY.parse().expect("a vkey");
    let verified = note.verify(&[key]).expect("verifies");
    assert_eq!(verified, [&note.signatures()[0]]);
    assert_eq!(note.as_bytes(), SPEC_NOTE.as_bytes());
}

#[test]
fn note_bytes() {
    let note = sign_note("text\n", &[&key("log.example", 1), &key("other.example", 2)]);
    let note = String::from_utf8(note.expect("a text")).expect("text");
    insta::assert_snapshot!(note, @r"
    text

    — log.example HMdY+XlOYYB7v2Z0P31BmIZJv66GLWfWwFMwNh5SVj5R8P+PawZECG2DZPdOV+RNVE34zZXaETnt/4rYnc8IX9sAjwk=
    — other.example NG5u4xBNXADKAbJledao3KZfTbrT4Ovc6gChGkFwy951qG4zQ0/Js6ijXKcan/A4PU67XbOmJZ1qJai3nOVbuDTcuQg=
    ");
}

#[test]
fn the_last_empty_line_ends_the_text() {
    for text in ["a\n\nb\n", "\n", "\n\n", "a\n\n", "\u{2014} log.example AAAAAAE=\n\n\u{2014} x y\n"] {
        let signed = signed(text);
        let note = parse(&signed).expect("well-formed");
        assert_eq!(note.text(), text);
        note.verify(&[key("log.example", 1).verifier().clone()]).expect("verifies");
    }
}

#[test]
fn malformed_notes_are_refused() {
    let bad_line = |number| NoteError::SignatureLine { number };
    for (note, expected) in [
        (String::new(), NoteError::NoSignatures),
        ("text\n".into(), NoteError::NoSignatures),
        ("text\n\n".into(), NoteError::NoSignatures),
        (format!("text\n{FOREIGN}"), NoteError::NoSignatures),
        (format!("text\n\n{}", FOREIGN.trim_end()), NoteError::NoSignatures),
        (format!("\n{FOREIGN}"), NoteError::NoSignatures),
        (format!("text\n\n{FOREIGN}\n"), NoteError::NoSignatures),
        ("text\n\nnot a signature\n".into(), bad_line(1)),
        (format!("text\n\n{FOREIGN}x\n"), bad_line(2)),
        ("text\n\n\u{2014} a\n".into(), bad_line(1)),
        ("text\n\n- a AAAAAAE=\n".into(), bad_line(1)),
        ("text\n\n\u{2014}  AAAAAAE=\n".into(), bad_line(1)),
        ("text\n\n\u{2014}  a AAAAAAE=\n".into(), bad_line(1)),
        ("text\n\n\u{2014} a  AAAAAAE=\n".into(), bad_line(1)),
        ("text\n\n\u{2014} a AAAAAAE= \n".into(), bad_line(1)),
        ("text\n\n\u{2014} a+b AAAAAAE=\n".into(), bad_line(1)),
        ("text\n\n\u{2014} a\u{2003}b AAAAAAE=\n".into(), bad_line(1)),
        ("text\n\n\u{2014} a AAAAAAF=\n".into(), bad_line(1)),
        ("text\n\n\u{2014} a AAAAAAE\n".into(), bad_line(1)),
        ("text\n\n\u{2014} a AAAAAA==\n".into(), bad_line(1)),
        ("text\n\n\u{2014} a \n".into(), bad_line(1)),
        (format!("te\rxt\n\n{FOREIGN}"), NoteError::NotText),
        (format!("te\0xt\n\n{FOREIGN}"), NoteError::NotText),
        (format!("te\txt\n\n{FOREIGN}"), NoteError::NotText),
        (format!("text\n\n{FOREIGN}\x1f"), NoteError::NotText),
    ] {
        assert_eq!(parse(&note), Err(expected), "{note:?}");
    }
    assert_eq!(SignedNote::parse(b"te\xffxt\n\n"), Err(NoteError::NotText));
}

#[test]
fn limits_hold_exactly() {
    parse(&format!("text\n\n{}", FOREIGN.repeat(SIGNATURES_MAX))).expect("the limit is allowed");
    let refused = parse(&format!("text\n\n{}", FOREIGN.repeat(SIGNATURES_MAX + 1)));
    assert_eq!(refused, Err(NoteError::TooManySignatures));

    let text = "t".repeat(NOTE_BYTES_MAX - FOREIGN.len() - 2);
    parse(&format!("{text}\n\n{FOREIGN}")).expect("the limit is allowed");
    let refused = parse(&format!("t{text}\n\n{FOREIGN}"));
    assert_eq!(refused, Err(NoteError::TooLong { actual: NOTE_BYTES_MAX + 1 }));
}

#[test]
fn post_quantum_signatures_fit() {
    let line = format!("\u{2014} a {}\n", text::to_base64([7; 5_000]));
    let note = parse(&format!("text\n\n{}", line.repeat(SIGNATURES_MAX))).expect("well-formed");
    assert_eq!(note.signatures()[SIGNATURES_MAX - 1].bytes, [7; 4_996]);
}

#[test]
fn unknown_keys_are_ignored_and_known_ones_must_sign() {
    let (log, other) = (key("log.example", 1), key("other.example", 2));
    let note = format!("{}{FOREIGN}", signed("text\n"));
    let note = parse(&note).expect("well-formed");
    let keys = [other.verifier().clone(), log.verifier().clone()];
    assert_eq!(note.verify(&keys).expect("verifies").len(), 1);
    assert_eq!(note.verify(&keys[..1]), Err(NoteError::NoKnownKey));
    assert_eq!(note.verify(&[]), Err(NoteError::NoKnownKey));
    // The right name with another key has another id, so it is unknown.
    let namesake = key("log.example", 2).verifier().clone();
    assert_eq!(note.verify(&[namesake]), Err(NoteError::NoKnownKey));
}

#[test]
fn one_failing_known_signature_rejects_the_note() {
    let (log, other) = (key("log.example", 1), key("other.example", 2));
    let good = String::from_utf8(sign_note("text\n", &[&log, &other]).expect("a text")).expect("text");
    let foreign = String::from_utf8(sign_note("else\n", &[&other]).expect("a text")).expect("text");
    let (lines, bad) = (good.find(" other").expect("a line"), foreign.find(" other").expect("a line"));
    let mixed = format!("{}{}", &good[..lines], &foreign[bad..]);

    let note = parse(&mixed).expect("well-formed");
    let expected =
        NoteError::BadSignature { name: KeyName::new("other.example").expect("a name"), id: other.verifier().id() };
    let keys = [log.verifier().clone(), other.verifier().clone()];
    assert_eq!(note.verify(&keys), Err(expected));
    note.verify(&keys[..1]).expect("the other key is unknown here");
}

#[test]
fn a_known_key_with_a_signature_of_another_length_rejects_the_note() {
    let log = key("log.example", 1);
    let mut bytes = log.verifier().id().0.to_be_bytes().to_vec();
    bytes.push(0);
    let note = format!("{}\u{2014} log.example {}\n", signed("text\n"), text::to_base64(bytes));
    let refused = parse(&note).expect("well-formed").verify(&[log.verifier().clone()]).map(drop);
    assert!(matches!(refused, Err(NoteError::BadSignature { .. })));
}

#[test]
fn the_same_key_may_be_named_twice() {
    let verifier = key("log.example", 1).verifier().clone();
    let note = parse(&signed("text\n")).expect("well-formed");
    assert_eq!(note.verify(&[verifier.clone(), verifier]).expect("verifies").len(), 1);
}

#[test]
fn texts_that_no_note_can_hold_are_not_signed() {
    let log = key("log.example", 1);
    let sign = |text: &str| sign_note(text, &[&log]);
    for (text, expected) in [
        ("", NoteError::NoSignatures),
        ("text", NoteError::NoSignatures),
        ("te\0xt\n", NoteError::NotText),
        ("te\r\n", NoteError::NotText),
    ] {
        assert_eq!(sign(text), Err(expected), "{text:?}");
    }
    assert_eq!(sign_note("text\n", &[]), Err(NoteError::NoSignatures));
    assert_eq!(sign_note("text\n", &[&log; SIGNATURES_MAX + 1]), Err(NoteError::TooManySignatures));
}

proptest! {
    #[test]
    fn what_is_signed_verifies(text in "([ -~äé–]{0,20}\n){1,5}", seeds in prop::collection::vec(1_u8.., 1..5)) {
        let keys: Vec<_> = seeds.iter().map(|&seed| key(&format!("key-{seed}"), seed)).collect();
        let bytes = sign_note(&text, &keys.iter().collect::<Vec<_>>()).expect("a text");
        let note = SignedNote::parse(&bytes).expect("well-formed");
        prop_assert_eq!(note.text(), &text);
        prop_assert_eq!(note.as_bytes(), bytes);
        let verifiers: Vec<_> = keys.iter().map(|key| key.verifier().clone()).collect();
        prop_assert_eq!(note.verify(&verifiers).expect("verifies").len(), keys.len());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in "(.{0,5}\n|\n|\u{2014} [a+ ]{0,3} [A-D=]{0,9}\n){0,6}",
    ) {
        for bytes in [&bytes[..], text.as_bytes()] {
            if let Ok(note) = SignedNote::parse(bytes) {
                prop_assert_eq!(note.as_bytes(), bytes);
            }
        }
    }
}
