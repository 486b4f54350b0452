//! Cosignatures of both types: messages, foreign vectors, and every flipped bit.

use logwood_merkle::{TreeHead, TreeSize};

use super::*;
use crate::key::VerifierKey;
use crate::note::{NoteError, NoteSignature, SignedNote, assemble_note, parse_signatures};
use crate::private_key::CosigningKey;
use crate::testing::{ORIGIN, cosigner, head, key, shared};
use crate::{CheckpointError, sign_checkpoint, sign_note};

const ED25519: SignatureType = SignatureType::Ed25519Cosignature;
const ML_DSA: SignatureType = SignatureType::MlDsa44Cosignature;

/// Test data of the torchwood project: a vkey, then the checkpoint that its key signed, at time 0.
const FOREIGN: &str = include_str!("foreign_checkpoint.txt");

fn checkpoint_text(extensions: &[&str]) -> String {
    let extensions = extensions.iter().map(|&line| line.to_owned()).collect();
    Checkpoint { origin: ORIGIN.into(), head: head(7), extensions }.to_text()
}

fn both() -> [CosigningKey; 2] {
    [cosigner("witness.example/a", ED25519, 2), cosigner("witness.example/b", ML_DSA, 3)]
}

fn accepts(key: &CosigningKey, text: &str, signature: &NoteSignature) -> bool {
    key.verifier().verify(text.as_bytes(), &signature.bytes)
}

#[test]
fn messages_are_those_of_the_specification() {
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let message = message(ED25519, "w", text, 1_679_315_147).expect("a checkpoint");
    assert_eq!(message, format!("cosignature/v1\ntime 1679315147\n{text}").as_bytes());

    let message = super::message(ML_DSA, "w", text, 1_679_315_147).expect("a checkpoint");
    let mut expected = b"subtree/v1\n\0\x01w".to_vec();
    expected.extend(hex("00000000641850cb"));
    expected.extend(b"\x1bexample.com/behind-the-sofa");
    expected.extend(hex("0000000000000000"));
    expected.extend(hex("00000000013e2dc3"));
    expected.extend(hex("0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"));
    assert_eq!(message, expected);
    assert_eq!(super::message(SignatureType::Ed25519, "w", text, 0).expect("a checkpoint"), text.as_bytes());
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}

#[test]
fn a_foreign_ml_dsa_signature_verifies() {
    let (vkey, note) = FOREIGN.split_once('\n').expect("a vkey and a note");
    let key: VerifierKey = vkey.parse().expect("a vkey");
    assert_eq!((key.name(), key.kind(), key.to_string().as_str()), ("example.com/mldsa-log", ML_DSA, vkey));
    let checkpoint = Checkpoint::open(note.as_bytes(), &key, None).expect("verifies");
    assert_eq!(checkpoint.head.size, TreeSize(1));

    let parsed = SignedNote::parse(note.as_bytes()).expect("a note");
    let [signature] = parsed.signatures() else { panic!("one signature") };
    assert_eq!(key.timestamp(&signature.bytes), Some(0));
    let lines = &note[parsed.text().len() + 1..];
    assert_eq!(parse_signatures(lines.as_bytes()), Ok(vec![signature.clone()]));
    assert_eq!(format!("{signature}\n"), lines);
    for other in [note.replacen("mldsa-log", "mldsa-lag", 1), note.replacen("\n1\n", "\n2\n", 1)] {
        let refused = SignedNote::parse(other.as_bytes()).expect("a note").verify(std::slice::from_ref(&key)).map(drop);
        assert!(matches!(refused, Err(NoteError::BadSignature { .. })));
    }
}

#[test]
fn the_signatures_of_production_checkpoints_are_parsed_and_the_log_s_verifies() {
    let Some(directory) = shared("data/vectors/checkpoints") else { return };
    let read = |name| std::fs::read(directory.join(name)).expect("a checkpoint");
    // The firmware log's published key. Its name is not its origin.
    let vkey = "transparency.dev-aw-ftlog-ci-3+3f689522+Aa1Eifq6rRC8qiK+bya07yV1fXyP156pEMsX7CFBC6gg";
    let key: VerifierKey = vkey.parse().expect("a vkey");
    let note = read("distributor-readme-0.txt");
    let origin = "transparency.dev/armored-witness/firmware_transparency/ci/3";
    let checkpoint = Checkpoint::open(&note, &key, Some(origin)).expect("the log signed it");
    assert_eq!(checkpoint.head.size, TreeSize(59));
    assert!(Checkpoint::open(&note, &key, None).is_err());

    for (name, times) in [
        ("distributor-readme-0.txt", [1_729_698_503, 1_729_698_499]),
        ("distributor-readme-1.txt", [1_738_713_836, 1_738_713_829]),
    ] {
        let bytes = read(name);
        let note = SignedNote::parse(&bytes).expect("a note");
        let witnesses = &note.signatures()[1..];
        assert!(witnesses.iter().all(|line| line.bytes.len() == 72 && line.name.as_str().starts_with("Armored")));
        let found: Vec<_> = witnesses.iter().filter_map(|line| Some(split(&line.bytes)?.0)).collect();
        assert_eq!(found, times);
        assert_eq!(assemble_note(note.text(), note.signatures()), Ok(bytes.clone()));
    }
}

#[test]
fn what_is_cosigned_verifies_and_holds_its_time() {
    let text = checkpoint_text(&[]);
    for key in both() {
        for seconds in [0, 1, 1_774_353_600, TIMESTAMP_MAX] {
            let signature = key.cosign(&text, seconds).expect("a checkpoint");
            assert!(accepts(&key, &text, &signature), "at {seconds}");
            assert_eq!(key.verifier().timestamp(&signature.bytes), Some(seconds));
            assert_eq!(key.cosign(&text, seconds), Ok(signature), "the same again");
        }
    }
}

#[test]
fn every_flipped_bit_of_an_ed25519_cosignature_is_refused() {
    let [key, _] = both();
    let text = checkpoint_text(&["extension"]);
    let signature = key.cosign(&text, 1_774_353_600).expect("a checkpoint");
    flip_each_bit(&key, &text, &signature);
}

#[test]
fn every_flipped_bit_of_an_ml_dsa_cosignature_is_refused() {
    let [_, key] = both();
    let text = checkpoint_text(&[]);
    let signature = key.cosign(&text, 1_774_353_600).expect("a checkpoint");
    assert_eq!(signature.bytes.len(), 8 + 2_420);
    flip_each_bit(&key, &text, &signature);
}

fn flip_each_bit(key: &CosigningKey, text: &str, signature: &NoteSignature) {
    assert!(accepts(key, text, signature));
    for bit in 0..8 * signature.bytes.len() {
        let mut flipped = signature.clone();
        flipped.bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!accepts(key, text, &flipped), "bit {bit} of the signature");
    }
    for bit in 0..8 * text.len() {
        let mut flipped = text.as_bytes().to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!key.verifier().verify(&flipped, &signature.bytes), "bit {bit} of the text");
    }
    for length in [0, 7, 8, signature.bytes.len() - 1] {
        assert!(!key.verifier().verify(text.as_bytes(), &signature.bytes[..length]), "{length} bytes");
    }
    assert!(!key.verifier().verify(text.as_bytes(), &[&signature.bytes[..], &[0]].concat()));
}

#[test]
fn ed25519_covers_extension_lines_and_ml_dsa_the_cosigner_s_name() {
    let [ed25519, ml_dsa] = both();
    let (with, without) = (checkpoint_text(&["extension"]), checkpoint_text(&[]));
    assert!(!accepts(&ed25519, &with, &ed25519.cosign(&without, 9).expect("a checkpoint")));
    assert!(accepts(&ml_dsa, &with, &ml_dsa.cosign(&without, 9).expect("a checkpoint")));

    let renamed = |key: &CosigningKey| {
        let (kind, public) = (key.verifier().kind(), key.verifier().public_key());
        VerifierKey::from_public_key("witness.example/other", kind, &public).expect("a key")
    };
    let verifies = |key: &CosigningKey| {
        let signature = key.cosign(&without, 9).expect("a checkpoint");
        renamed(key).verify(without.as_bytes(), &signature.bytes)
    };
    assert!(verifies(&ed25519));
    assert!(!verifies(&ml_dsa));
}

#[test]
fn extension_lines_that_only_ml_dsa_signed_are_not_believed() {
    let (log, own, witness) = (key(ORIGIN, 1), cosigner(ORIGIN, ML_DSA, 4), cosigner(ORIGIN, ED25519, 5));
    let text = checkpoint_text(&["extension"]);
    let own_line = own.cosign(&text, 9).expect("a checkpoint");
    let witness_line = witness.cosign(&text, 9).expect("a checkpoint");
    let log_line = sign_note(&text, &[&log]).expect("a text");
    let log_line = SignedNote::parse(&log_line).expect("a note").signatures()[0].clone();
    let note = assemble_note(&text, &[own_line, witness_line, log_line]).expect("a note");
    let open = |key| Checkpoint::open(&note, key, None);
    assert_eq!(open(own.verifier()), Err(CheckpointError::Extensions));
    assert_eq!(open(witness.verifier()), Err(CheckpointError::NotALogKey));
    open(log.verifier()).expect("the log signed the whole text");
}

#[test]
fn a_signature_of_one_type_is_none_of_another() {
    let text = checkpoint_text(&[]);
    let signing = key("witness.example/a", 2);
    let [cosigning, _] = both();
    let signature = cosigning.cosign(&text, 9).expect("a checkpoint");
    // The same seed, so the same public key.
    assert!(signing.verifier().is_duplicate_of(cosigning.verifier()));
    assert!(!signing.verifier().verify(text.as_bytes(), &signature.bytes[TIMESTAMP_BYTES..]));
    assert!(!signing.verifier().verify(text.as_bytes(), &signature.bytes));
    assert!(!cosigning.verifier().verify(text.as_bytes(), &signing.sign(text.as_bytes())));
    assert_eq!(signing.verifier().timestamp(&signature.bytes), None);
}

#[test]
fn only_checkpoints_are_cosigned_and_only_at_times_that_fit() {
    for key in both() {
        for text in [
            "",
            "\n",
            "a\n",
            "a\n1\n",
            "logwood-seal/v1\na\n1\n",
            "a\n01\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        ] {
            assert!(matches!(key.cosign(text, 9), Err(CosignError::Text(_))), "{text:?}");
        }
        let seconds = TIMESTAMP_MAX + 1;
        assert_eq!(key.cosign(&checkpoint_text(&[]), seconds), Err(CosignError::Timestamp { seconds }));
        // Such a time is no cosignature either, whoever signs it.
        let bytes = [&seconds.to_be_bytes()[..], &[7; 64]].concat();
        assert_eq!(key.verifier().timestamp(&bytes), None);
    }
}

#[test]
fn a_note_with_all_three_types_verifies_under_each_key() {
    let log = key(ORIGIN, 1);
    let own = cosigner(ORIGIN, ML_DSA, 4);
    let note = sign_checkpoint(&log, ORIGIN, &TreeHead { ..head(7) });
    let note = SignedNote::parse(&note).expect("a note");
    let mut signatures = note.signatures().to_vec();
    let [a, b] = both();
    for key in [&own, &a, &b] {
        signatures.push(key.cosign(note.text(), 1_774_353_600).expect("a checkpoint"));
    }
    let bytes = assemble_note(note.text(), &signatures).expect("a note");
    let note = SignedNote::parse(&bytes).expect("a note");
    let keys = [log.verifier(), own.verifier(), a.verifier(), b.verifier()].map(Clone::clone);
    assert_eq!(note.verify(&keys).expect("all verify").len(), 4);
    for key in &keys {
        note.verify(std::slice::from_ref(key)).expect("verifies");
    }
    // Under a key of the same name and id, that is the log's word too.
    Checkpoint::open(&bytes, own.verifier(), None).expect("the log's second key");

    let broken = String::from_utf8(bytes).expect("text").replacen("\n7\n", "\n8\n", 1);
    let broken = SignedNote::parse(broken.as_bytes()).expect("a note");
    for key in keys {
        assert!(matches!(broken.verify(&[key]), Err(NoteError::BadSignature { .. })));
    }
}
