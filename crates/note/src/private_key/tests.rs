//! Private keys: their texts, their secrecy, and what each type may do.

use proptest::prelude::*;

use super::*;
use crate::key::tests::{GO_PRIVATE, GO_VKEY};

const KINDS: [SignatureType; 3] =
    [SignatureType::Ed25519, SignatureType::Ed25519Cosignature, SignatureType::MlDsa44Cosignature];

#[test]
fn a_foreign_private_key_gives_its_vkey() {
    let key = PrivateKey::from_private_text(GO_PRIVATE).expect("a private key");
    assert_eq!(key.verifier().to_string(), GO_VKEY);
    assert_eq!(key.to_private_text().as_str(), GO_PRIVATE);
}

#[test]
fn private_key_texts() {
    let text = |kind| PrivateKey::from_seed("log.example", kind, &[1; 32]).expect("a name").to_private_text();
    insta::assert_snapshot!(text(SignatureType::Ed25519).as_str(), @"PRIVATE+KEY+log.example+1cc758f9+AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB");
    insta::assert_snapshot!(text(SignatureType::Ed25519Cosignature).as_str(), @"PRIVATE+KEY+log.example+3290d24d+BAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB");
    insta::assert_snapshot!(text(SignatureType::MlDsa44Cosignature).as_str(), @"PRIVATE+KEY+log.example+30f04fa5+BgEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB");
}

/// The seed of one key may serve two types, and the ids tell them apart.
#[test]
fn every_type_has_an_id_of_its_own() {
    let id = |kind| PrivateKey::from_seed("a", kind, &[1; 32]).expect("a name").verifier().id();
    let [a, b, c] = KINDS.map(id);
    assert!(a != b && b != c && a != c);
}

#[test]
fn a_key_of_the_wrong_type_neither_signs_nor_cosigns() {
    for kind in KINDS {
        let private = || PrivateKey::from_seed("a", kind, &[1; 32]).expect("a name");
        let (signing, cosigning) = (SigningKey::try_from(private()), CosigningKey::try_from(private()));
        assert_eq!(signing.is_ok(), kind == SignatureType::Ed25519);
        assert_eq!(cosigning.is_ok(), kind != SignatureType::Ed25519);
        for refused in [signing.err(), cosigning.err()].into_iter().flatten() {
            assert!(matches!(refused, KeyError::WrongType { kind: actual, .. } if actual == kind));
        }
    }
}

#[test]
fn misspelled_private_keys_are_refused_without_showing_them() {
    let secret = "eymY/SZAX0jZcJ8enZ5FY1Dz";
    for (text, expected) in [
        (GO_PRIVATE.replace("PRIVATE+KEY+", ""), KeyError::Syntax),
        (GO_PRIVATE.replace("PRIVATE", "private"), KeyError::Syntax),
        (GO_PRIVATE.replace("F3eg", "F3e"), KeyError::Syntax),
        (format!("{GO_PRIVATE}\n"), KeyError::Syntax),
        (GO_PRIVATE.replace("AeymY", "AuymY"), KeyError::UnsupportedType { kind: 0x02 }),
    ] {
        let refused = PrivateKey::from_private_text(&text).expect_err("refused");
        assert_eq!(refused, expected);
        assert!(!format!("{refused} {refused:?}").contains(secret));
    }
    // Another type has another id.
    for other in ["BOymY", "BuymY"] {
        let refused = PrivateKey::from_private_text(&GO_PRIVATE.replace("AeymY", other));
        assert!(matches!(refused, Err(KeyError::IdMismatch { .. })), "{refused:?}");
    }
    for length in [0, 31, 33, 2_560] {
        let text = format!("PRIVATE+KEY+a+00000000+{}", text::to_base64([&[1][..], &vec![7; length]].concat()));
        let refused = PrivateKey::from_private_text(&text).expect_err("refused");
        assert!(matches!(refused, KeyError::PrivateKey | KeyError::Syntax), "{refused:?}");
    }
    let refused = PrivateKey::from_private_text(&GO_PRIVATE.replace("33d7", "33d8"));
    assert!(matches!(refused, Err(KeyError::IdMismatch { .. })));
}

#[test]
fn debug_shows_no_secret() {
    let key = PrivateKey::from_private_text(GO_PRIVATE).expect("a private key");
    let debug = format!("{key:?} {key:#?}");
    assert!(debug.contains("example.com/log/testdata"));
    assert!(!debug.contains("secret"), "{debug}");
    // The seed begins with 0xec, 0xa6.
    assert!(!debug.contains("236, 166") && !debug.to_lowercase().contains("eca6"), "{debug}");
}

#[test]
fn generated_keys_differ_and_have_checked_names() {
    let (a, b) = (SigningKey::generate("a").expect("a key"), SigningKey::generate("a").expect("a key"));
    assert_ne!(a.verifier(), b.verifier());
    assert!(matches!(SigningKey::generate("a+b"), Err(KeyError::Name)));
}

proptest! {
    #[test]
    fn private_keys_survive_their_texts(name in "[!-*,-~äé–]{1,80}", kind in 0..3_usize, seed in any::<[u8; 32]>()) {
        let key = PrivateKey::from_seed(&name, KINDS[kind], &seed).expect("a key name");
        let again = PrivateKey::from_private_text(&key.to_private_text()).expect("a private key");
        prop_assert_eq!(again.verifier(), key.verifier());
        prop_assert_eq!(again.to_private_text(), key.to_private_text());
    }

    #[test]
    fn arbitrary_texts_never_panic(text in ".{0,80}", parts in "[a+]{0,4}\\+[0-9a-f]{7,9}\\+[A-Za-z0-9+/=]{0,60}") {
        for text in [&text, &parts] {
            let _ = PrivateKey::from_private_text(&format!("PRIVATE+KEY+{text}"));
        }
    }
}
