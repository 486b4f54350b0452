//! Keys against foreign vectors, their own inverse, and every way to spell them wrong.

use proptest::prelude::*;

use super::*;
use crate::private_key::SigningKey;
use crate::testing::key;

/// From the C2SP signed-note specification.
const SPEC_VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

/// A key pair that the Go implementation made; it is public, and signs test data only.
pub(crate) const GO_PRIVATE: &str =
    "PRIVATE+KEY+example.com/log/testdata+33d7b496+AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg";
pub(crate) const GO_VKEY: &str = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";

fn vkey(text: &str) -> Result<VerifierKey, KeyError> {
    text.parse()
}

#[test]
fn foreign_vkeys_are_read_and_written_back() {
    for (text, name, id) in
        [(SPEC_VKEY, "example.com/foo", 0x530d_903a), (GO_VKEY, "example.com/log/testdata", 0x33d7_b496)]
    {
        let key = vkey(text).expect("a vkey");
        assert_eq!((key.name(), key.id()), (name, KeyId(id)));
        assert_eq!(key.to_string(), text);
    }
}

#[test]
fn key_texts() {
    let key = key("log.example", 1);
    insta::assert_snapshot!(key.verifier(), @"log.example+1cc758f9+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c");
}

/// RFC 8032 §7.1, TEST 1: seed, public key, signature over the empty message.
#[test]
fn signatures_are_those_of_rfc_8032() {
    let unhex = |text: &str| -> Vec<u8> {
        let byte = |i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex");
        (0..text.len()).step_by(2).map(byte).collect()
    };
    let seed = unhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let key = SigningKey::from_seed("a", &seed.try_into().expect("32 bytes")).expect("a name");
    let public = unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    assert_eq!(key.verifier().public_key().as_slice(), public);
    let signature = unhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
         5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    );
    assert_eq!(key.sign(b"").as_slice(), signature);
}

#[test]
fn a_signature_of_another_message_key_or_length_is_refused() {
    let key = key("a", 1);
    let signature = key.sign(b"message");
    assert!(key.verifier().verify(b"message", &signature));
    assert!(!key.verifier().verify(b"messagf", &signature));
    assert!(!crate::testing::key("a", 2).verifier().verify(b"message", &signature));
    for length in [0, 1, 63] {
        assert!(!key.verifier().verify(b"message", &signature[..length]));
    }
    assert!(!key.verifier().verify(b"message", &[&signature[..], &[0]].concat()));
}

#[test]
fn misspelled_vkeys_are_refused() {
    let base64 = "AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    for text in [
        String::new(),
        "a".into(),
        "a+530d903a".into(),
        format!("example.com/foo+530D903A+{base64}"),
        format!("example.com/foo+530d903+{base64}"),
        format!("example.com/foo+0530d903a+{base64}"),
        format!("example.com/foo++530d90+{base64}"),
        format!("example.com/foo+530d903a+{base64}\n"),
        format!("example.com/foo+530d903a+{base64}="),
        "example.com/foo+530d903a+".into(),
        "example.com/foo+530d903a+A".into(),
        GO_PRIVATE.into(),
    ] {
        assert_eq!(vkey(&text), Err(KeyError::Syntax), "{text:?}");
    }
    for name in ["", "a b", "a\u{2003}b", "a\u{85}b", "a\nb", "a\0", &"a".repeat(256)] {
        assert_eq!(vkey(&format!("{name}+530d903a+{base64}")), Err(KeyError::Name), "{name:?}");
    }
}

#[test]
fn vkeys_that_say_something_untrue_are_refused() {
    let id = vkey(SPEC_VKEY).expect("a vkey").id();
    let refused = vkey(&SPEC_VKEY.replace("530d903a", "530d903b"));
    assert_eq!(refused, Err(KeyError::IdMismatch { expected: id, actual: KeyId(0x530d_903b) }));
    let refused = vkey(&SPEC_VKEY.replace("/foo", "/bar"));
    assert!(matches!(refused, Err(KeyError::IdMismatch { .. })));
}

#[test]
fn keys_of_other_types_and_lengths_are_refused() {
    let with = |bytes: &[u8]| vkey(&format!("a+00000000+{}", text::to_base64(bytes)));
    for kind in [0x00, 0x02, 0x03, 0x05, 0x07, 0xff] {
        let bytes = [&[kind][..], &[7; 32]].concat();
        assert_eq!(with(&bytes), Err(KeyError::UnsupportedType { kind }));
    }
    for (kind, lengths) in [(0x01, [0, 31, 33, 1_312]), (0x04, [0, 31, 33, 1_312]), (0x06, [0, 32, 1_311, 1_313])] {
        for length in lengths {
            let bytes = [&[kind][..], &vec![7; length]].concat();
            assert_eq!(with(&bytes), Err(KeyError::PublicKey), "{length} bytes of type {kind}");
        }
    }
    // Points of small order: every signature of a forger's choice would verify under them.
    let mut identity = [0; 32];
    identity[0] = 1;
    for point in [[0; 32], identity] {
        let refused = VerifierKey::from_public_key("a", SignatureType::Ed25519, &point);
        assert_eq!(refused, Err(KeyError::PublicKey));
    }
}

proptest! {
    #[test]
    fn keys_survive_their_texts(name in "[!-*,-~äé–]{1,80}", seed in any::<[u8; 32]>()) {
        let key = SigningKey::from_seed(&name, &seed).expect("a key name");
        let verifier = key.verifier();
        prop_assert_eq!(&vkey(&verifier.to_string()).expect("a vkey"), verifier);
    }

    #[test]
    fn arbitrary_texts_never_panic(text in ".{0,80}", parts in "[a+]{0,4}\\+[0-9a-f]{7,9}\\+[A-Za-z0-9+/=]{0,60}") {
        for text in [&text, &parts] {
            let _ = vkey(text);
        }
    }
}
