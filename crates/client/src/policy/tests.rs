//! Policies in a client: which key it follows the log with, and which heads pass for witnessed.

use bytes::Bytes;
use logwood_note::{CosigningKey, PrivateKey, SignedNote, assemble_note};

use super::*;
use crate::testing::{ORIGIN, key, verified};

fn cosigner(name: &str, kind: SignatureType) -> CosigningKey {
    PrivateKey::from_seed(name, kind, &[5; 32]).and_then(TryInto::try_into).expect("a cosigner")
}

fn witness() -> CosigningKey {
    cosigner("witness.example", SignatureType::Ed25519Cosignature)
}

fn policy(lines: &[String]) -> Policy {
    Policy::parse(lines.concat().as_bytes()).expect("a policy")
}

fn log(key: &VerifierKey) -> String {
    format!("log {key}\n")
}

fn none() -> String {
    "quorum none\n".to_owned()
}

type Chosen = Result<(Option<Policy>, Option<(VerifierKey, KeySource)>), ClientError>;

fn is_bad(option: &str, chosen: &Chosen) -> bool {
    matches!(chosen, Err(ClientError::BadOption { option: actual, .. }) if *actual == option)
}

#[test]
fn the_log_of_a_policy_is_followed_with_its_ed25519_key() {
    let (ed25519, second) = (key(1).verifier().clone(), cosigner(ORIGIN, SignatureType::MlDsa44Cosignature));
    let both = || policy(&[log(second.verifier()), log(&ed25519), none()]);
    for (pinned, source) in [(None, KeySource::Listed), (Some(ed25519.clone()), KeySource::Remembered)] {
        let (narrowed, followed) = choose(Some(both()), None, pinned).expect("a key");
        assert_eq!(followed, Some((ed25519.clone(), source)));
        assert_eq!(narrowed.expect("a policy").logs().len(), 2, "either key of the log vouches for a witnessed head");
    }

    let pq_only = policy(&[log(second.verifier()), none()]);
    assert!(is_bad("policy", &choose(Some(pq_only), None, None)));
    assert!(is_bad("vkey", &choose(None, Some(second.verifier().clone()), None)));
    assert!(is_bad("vkey", &choose(None, Some(witness().verifier().clone()), None)));
    let named = choose(None, Some(ed25519.clone()), Some(key(2).verifier().clone())).expect("a key");
    assert_eq!(named, (None, Some((ed25519, KeySource::Named))));
    assert_eq!(choose(None, None, None).expect("to be pinned"), (None, None));
}

#[test]
fn a_named_key_narrows_the_policy_and_must_be_one_of_its_own() {
    let (one, other) = (key(1).verifier().clone(), key(2).verifier().clone());
    let two = || policy(&[log(&one), log(&other), none()]);
    let (narrowed, followed) = choose(Some(two()), Some(other.clone()), None).expect("a key");
    assert_eq!((narrowed.expect("a policy").logs().len(), followed), (1, Some((other.clone(), KeySource::Named))));
    assert!(is_bad("vkey", &choose(Some(two()), Some(key(3).verifier().clone()), None)));
    // Without logs, the policy leaves the choice to its user, who has to make it.
    for (vkey, pinned) in [(Some(one.clone()), None), (None, Some(one.clone()))] {
        let (narrowed, _) = choose(Some(policy(&[none()])), vkey, pinned).expect("a key");
        assert_eq!(narrowed.expect("a policy").logs()[0].key, one);
    }
    assert!(is_bad("policy", &choose(Some(policy(&[none()])), None, None)));
}

#[test]
fn which_of_a_policys_logs_is_meant_says_the_pin_or_the_caller_and_never_the_server() {
    let one = key(1).verifier().clone();
    let other = cosigner("other.example/log", SignatureType::MlDsa44Cosignature).verifier().clone();
    let two = || policy(&[log(&one), log(&other), none()]);
    let unsaid = choose(Some(two()), None, None);
    assert!(is_bad("vkey", &unsaid), "{unsaid:?}");
    let (narrowed, followed) = choose(Some(two()), None, Some(one.clone())).expect("pinned");
    assert_eq!((narrowed.expect("a policy").logs().len(), followed), (1, Some((one.clone(), KeySource::Remembered))));
    assert!(is_bad("policy", &choose(Some(two()), None, Some(key(2).verifier().clone()))), "another key is pinned");
}

#[test]
fn a_witnessed_head_satisfies_the_policy_whatever_the_server_says() {
    let quorum = [log(key(1).verifier()), format!("witness w {}\n", witness().verifier()), "quorum w\n".to_owned()];
    let policy = policy(&quorum);
    let head = VerifiedHead { level: v1::HeadLevel::Witnessed, ..verified(7) };
    let error = satisfies(&policy, &head).expect_err("nobody cosigned");
    assert!(error.is_tampering() && error.to_string().contains("quorum"), "{error}");

    let note = SignedNote::parse(&head.note).expect("a note");
    let with = |line| {
        let lines = [note.signatures(), &[line]].concat();
        VerifiedHead { note: Bytes::from(assemble_note(note.text(), &lines).expect("a note")), ..head.clone() }
    };
    let line = witness().cosign(note.text(), 1_774_353_600).expect("a checkpoint");
    satisfies(&policy, &with(line.clone())).expect("the witness cosigned");
    let mut forged = line;
    forged.bytes[30] ^= 1;
    assert!(satisfies(&policy, &with(forged)).is_err());
}
