//! Policies in a client: which key it follows the log with, and which heads pass for witnessed.

use bytes::Bytes;
use logwood_note::{CosigningKey, PrivateKey, SignedNote, assemble_note};
use tonic::transport::Endpoint;

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

/// What is chosen, if no server is asked: none listens.
async fn chosen(
    policy: Option<Policy>,
    vkey: Option<VerifierKey>,
) -> Result<(Option<Policy>, Option<VerifierKey>), ClientError> {
    let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    choose(policy, vkey, ("http://127.0.0.1:1", "default", &Rpc::new(channel))).await
}

fn is_bad(option: &str, chosen: &Result<(Option<Policy>, Option<VerifierKey>), ClientError>) -> bool {
    matches!(chosen, Err(ClientError::BadOption { option: actual, .. }) if *actual == option)
}

#[tokio::test]
async fn the_log_of_a_policy_is_followed_with_its_ed25519_key() {
    let (ed25519, second) = (key(1).verifier().clone(), cosigner(ORIGIN, SignatureType::MlDsa44Cosignature));
    let both = policy(&[log(second.verifier()), log(&ed25519), none()]);
    let (narrowed, followed) = chosen(Some(both), None).await.expect("a key");
    assert_eq!(followed, Some(ed25519.clone()));
    assert_eq!(narrowed.expect("a policy").logs().len(), 2, "either key of the log vouches for a witnessed head");

    let pq_only = policy(&[log(second.verifier()), none()]);
    assert!(is_bad("policy", &chosen(Some(pq_only), None).await));
    assert!(is_bad("vkey", &chosen(None, Some(second.verifier().clone())).await));
    assert!(is_bad("vkey", &chosen(None, Some(witness().verifier().clone())).await));
    assert_eq!(chosen(None, Some(ed25519.clone())).await.expect("a key"), (None, Some(ed25519)));
    assert_eq!(chosen(None, None).await.expect("to be pinned"), (None, None));
}

#[tokio::test]
async fn a_named_key_narrows_the_policy_and_must_be_one_of_its_own() {
    let (one, other) = (key(1).verifier().clone(), key(2).verifier().clone());
    let two = || policy(&[log(&one), log(&other), none()]);
    let (narrowed, followed) = chosen(Some(two()), Some(other.clone())).await.expect("a key");
    assert_eq!((narrowed.expect("a policy").logs().len(), followed), (1, Some(other.clone())));
    assert!(is_bad("vkey", &chosen(Some(two()), Some(key(3).verifier().clone())).await));
    // Without logs, the policy leaves the choice to its user, who has to make it.
    let (narrowed, _) = chosen(Some(policy(&[none()])), Some(one.clone())).await.expect("a key");
    assert_eq!(narrowed.expect("a policy").logs()[0].key, one);
    let asked = chosen(Some(policy(&[none()])), None).await.expect_err("the server is asked for the origin");
    assert!(matches!(asked, ClientError::Unreachable { .. }), "{asked}");
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
