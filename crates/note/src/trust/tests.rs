//! Trust: every way for a checkpoint to lack what a policy asks for, and every flipped bit of a receipt.

use super::*;
use crate::key::SignatureType;
use crate::note::{NoteError, assemble_note, sign_note};
use crate::private_key::{CosigningKey, SigningKey};
use crate::receipt::Receipt;
use crate::testing::{ORIGIN, cosigner, entry, head, key, receipt};

const ED25519: SignatureType = SignatureType::Ed25519Cosignature;
const ML_DSA: SignatureType = SignatureType::MlDsa44Cosignature;
const NOW: u64 = 1_774_353_600;

/// A log with both its keys, and three witnesses.
struct World {
    log: SigningKey,
    log_pq: CosigningKey,
    witnesses: [CosigningKey; 3],
}

impl World {
    fn new() -> Self {
        let witness = |n: u8, kind| cosigner(&format!("witness.example/{n}"), kind, n);
        Self {
            log: key(ORIGIN, 1),
            log_pq: cosigner(ORIGIN, ML_DSA, 9),
            witnesses: [witness(2, ED25519), witness(3, ML_DSA), witness(4, ED25519)],
        }
    }

    fn policy(&self, logs: &[&VerifierKey], quorum: &str) -> Policy {
        let logs = logs.iter().map(|key| format!("log {key}\n")).collect::<Vec<_>>().concat();
        let [a, b, c] = &self.witnesses.each_ref().map(CosigningKey::verifier);
        let policy = format!(
            "{logs}witness a {a}\nwitness b {b}\nwitness c {c}\ngroup two 2 a b c\ngroup three 1 two\nquorum {quorum}\n"
        );
        Policy::parse(policy.as_bytes()).expect("a policy")
    }

    /// Two of three.
    fn two(&self) -> Policy {
        self.policy(&[self.log.verifier()], "two")
    }

    fn text(extensions: &[&str]) -> String {
        let extensions = extensions.iter().map(|&line| line.to_owned()).collect();
        Checkpoint { origin: ORIGIN.into(), head: head(7), extensions }.to_text()
    }

    /// The log's own line over `text`.
    fn log_line(&self, text: &str) -> NoteSignature {
        let note = sign_note(text, &[&self.log]).expect("a text");
        SignedNote::parse(&note).expect("a note").signatures()[0].clone()
    }

    /// The checkpoint with the log's first line, and that of each of the `cosigners` at [`NOW`].
    fn note(&self, cosigners: &[&CosigningKey]) -> Vec<u8> {
        let text = Self::text(&[]);
        let mut lines = vec![self.log_line(&text)];
        lines.extend(cosigners.iter().map(|key| key.cosign(&text, NOW).expect("a checkpoint")));
        assemble_note(&text, &lines).expect("a note")
    }
}

#[test]
fn the_log_and_a_quorum_are_needed_and_enough() {
    let world = World::new();
    let [a, b, c] = &world.witnesses;
    let policy = world.two();
    for cosigners in [&[a, b][..], &[a, c], &[b, c], &[c, b, a]] {
        let trusted = policy.open(&world.note(cosigners), None).expect("enough");
        assert_eq!(trusted.checkpoint.head, head(7));
        let times = [a, b, c].map(|key| cosigners.iter().any(|other| other.name() == key.name()).then_some(NOW));
        assert_eq!((trusted.witness_seconds, trusted.log_seconds), (times.to_vec(), None));
    }
    for cosigners in [&[][..], &[a], &[b], &[c], &[a, a], &[a, &world.log_pq]] {
        let refused = policy.open(&world.note(cosigners), None);
        assert!(matches!(refused, Err(CheckpointError::Quorum(_))), "{cosigners:?}");
    }
    for quorum in ["none", "a", "three"] {
        world.policy(&[world.log.verifier()], quorum).open(&world.note(&[a, b]), None).expect("enough");
    }
}

#[test]
fn witnesses_without_the_log_are_nothing() {
    let world = World::new();
    let [a, b, c] = &world.witnesses;
    let text = World::text(&[]);
    let lines: Vec<_> = [a, b, c].iter().map(|key| key.cosign(&text, NOW).expect("a checkpoint")).collect();
    let note = assemble_note(&text, &lines).expect("a note");
    assert_eq!(world.two().open(&note, None), Err(CheckpointError::NotByLog));
    // Nor if the policy names no log at all.
    assert_eq!(world.policy(&[], "two").open(&world.note(&[a, b]), None), Err(CheckpointError::NotByLog));
    let stranger = key(ORIGIN, 77);
    let policy = world.policy(&[stranger.verifier()], "none");
    assert_eq!(policy.open(&world.note(&[]), None), Err(CheckpointError::Note(NoteError::NoKnownKey)));
}

#[test]
fn any_listed_key_of_the_log_is_enough_and_only_for_its_own_origin() {
    let world = World::new();
    let own = [world.log.verifier(), world.log_pq.verifier()];
    let both = world.note(&[&world.log_pq]);
    for logs in [&own[..1], &own[1..], &own] {
        let trusted = world.policy(logs, "none").open(&both, None).expect("one is enough");
        assert_eq!(trusted.log_seconds.is_some(), logs.contains(&own[1]));
    }
    // A policy with the second key alone is what protects from a broken first one.
    let refused = world.policy(&own[1..], "none").open(&world.note(&[]), None);
    assert_eq!(refused, Err(CheckpointError::Note(NoteError::NoKnownKey)));

    // Another log of the policy signs this log's checkpoint: that is not its to do.
    let other = key("other.example", 8);
    let text = World::text(&[]);
    let note = sign_note(&text, &[&other]).expect("a text");
    let policy = world.policy(&[world.log.verifier(), other.verifier()], "none");
    assert!(matches!(policy.open(&note, None), Err(CheckpointError::Origin { .. })));
    // Unless the caller says that origin and name differ for this log.
    policy.open(&note, Some(ORIGIN)).expect("the origin that was asked for");
    assert!(matches!(policy.open(&both, Some("else.example")), Err(CheckpointError::Origin { .. })));
}

#[test]
fn one_bad_signature_of_a_known_key_spoils_the_checkpoint() {
    let world = World::new();
    let [a, b, c] = &world.witnesses;
    let text = World::text(&[]);
    let mut bad = c.cosign(&text, NOW).expect("a checkpoint");
    bad.bytes[20] ^= 1;
    let mut lines = vec![world.log_line(&text)];
    lines.extend([a, b].map(|key| key.cosign(&text, NOW).expect("a checkpoint")));
    lines.push(bad);
    let note = assemble_note(&text, &lines).expect("a note");
    let refused = world.two().open(&note, None);
    assert!(matches!(refused, Err(CheckpointError::Note(NoteError::BadSignature { .. }))));
    // Who does not name that key does not care.
    world.log.verifier().open(&note, None).expect("the log's line is good");
}

#[test]
fn a_witness_s_timestamp_of_zero_does_not_count_and_the_newest_one_does() {
    let world = World::new();
    let [a, b, _] = &world.witnesses;
    let text = World::text(&[]);
    let note = |times: &[(&CosigningKey, u64)]| {
        let mut lines = vec![world.log_line(&text)];
        lines.extend(times.iter().map(|(key, seconds)| key.cosign(&text, *seconds).expect("a checkpoint")));
        assemble_note(&text, &lines).expect("a note")
    };
    let policy = world.two();
    assert!(matches!(policy.open(&note(&[(a, NOW), (b, 0)]), None), Err(CheckpointError::Quorum(_))));
    let trusted = policy.open(&note(&[(a, NOW), (b, 1), (b, NOW + 5), (b, 2)]), None).expect("both cosigned");
    assert_eq!(trusted.witness_seconds, [Some(NOW), Some(NOW + 5), None]);
    // Of a log, zero is allowed.
    let pq_only = world.policy(&[world.log_pq.verifier()], "none");
    assert_eq!(pq_only.open(&note(&[(&world.log_pq, 0)]), None).expect("good").log_seconds, Some(0));
}

#[test]
fn extension_lines_need_a_signature_that_covers_them() {
    let world = World::new();
    let [a, b, c] = &world.witnesses;
    let text = World::text(&["extension"]);
    let cosign = |key: &CosigningKey| key.cosign(&text, NOW).expect("a checkpoint");
    let note = |lines: &[NoteSignature]| assemble_note(&text, lines).expect("a note");
    let pq = world.policy(&[world.log_pq.verifier()], "none");
    let lines = [cosign(&world.log_pq), cosign(b)];
    assert_eq!(pq.open(&note(&lines), None), Err(CheckpointError::Extensions));
    pq.open(&note(&[cosign(&world.log_pq), cosign(a)]), None).expect("the first witness signed the text");
    world.two().open(&note(&[world.log_line(&text), cosign(b), cosign(c)]), None).expect("the log signed the text");
}

/// A receipt as a file, for `entry(3)`, under a checkpoint that the log and all three witnesses signed.
fn receipt_file(world: &World) -> Vec<u8> {
    let [a, b, c] = &world.witnesses;
    Receipt { checkpoint: world.note(&[a, b, c]), ..receipt(3, 7) }.to_bytes()
}

fn accepts(file: &[u8], policy: &Policy) -> bool {
    Receipt::parse(file).and_then(|receipt| receipt.verify(&entry(3), policy, None)).is_ok()
}

/// A quorum of all three: every bit of all four lines counts.
#[test]
fn every_flipped_bit_of_a_receipt_is_refused_if_all_who_signed_are_needed() {
    let world = World::new();
    let [a, b, c] = &world.witnesses.each_ref().map(CosigningKey::verifier);
    let policy = format!(
        "log {}\nwitness a {a}\nwitness b {b}\nwitness c {c}\ngroup q all a b c\nquorum q\n",
        world.log.verifier()
    );
    let policy = Policy::parse(policy.as_bytes()).expect("a policy");
    let file = receipt_file(&world);
    assert!(accepts(&file, &policy));
    for bit in 0..8 * file.len() {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!accepts(&flipped, &policy), "bit {} of byte {}", bit % 8, bit / 8);
    }
}

/// Two of three: a flip that turns a witness's line into a stranger's leaves two, and any other flip in a line of a
/// named key is refused. A witness that the policy does not name has no say at all.
#[test]
fn flipped_bits_in_lines_that_are_not_needed_matter_only_while_the_key_is_known() {
    let world = World::new();
    let file = receipt_file(&world);
    let text = String::from_utf8(file.clone()).expect("text");
    let line = text.find("\u{2014} witness.example/4").expect("the last line");
    let (two, one) = (world.two(), Policy::of_logs([world.log.verifier().clone()]).expect("a log's key"));
    let mut counts = [0; 3];
    for bit in 8 * line..8 * file.len() {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(receipt) = Receipt::parse(&flipped) else {
            counts[0] += 1;
            continue;
        };
        let note = SignedNote::parse(&receipt.checkpoint).expect("a note");
        let is_known = note.signatures().iter().any(|line| line.claims(world.witnesses[2].verifier()));
        assert_eq!(accepts(&flipped, &two), !is_known, "bit {bit}");
        assert!(accepts(&flipped, &one), "bit {bit}");
        counts[1 + usize::from(is_known)] += 1;
    }
    assert!(counts.iter().all(|&count| count > 30), "{counts:?}");
}

#[test]
fn a_receipt_is_good_only_if_the_quorum_holds() {
    let world = World::new();
    let [a, b, _] = &world.witnesses;
    let with = |cosigners: &[&CosigningKey]| Receipt { checkpoint: world.note(cosigners), ..receipt(3, 7) };
    let policy = world.two();
    with(&[a, b]).verify(&entry(3), &policy, None).expect("good");
    let refused = with(&[a]).verify(&entry(3), &policy, None).expect_err("one is missing");
    let chain = format!("{refused}: {}", std::error::Error::source(&refused).expect("a cause"));
    assert!(chain.contains("too few witnesses"), "{chain}");
    assert!(with(&[a, b]).verify(&entry(2), &policy, None).is_err());
}

#[test]
fn the_keys_of_one_log_are_those_of_its_name_and_two_logs_are_refused_in_any_order() {
    let (log, other) = (key(ORIGIN, 1).verifier().clone(), key("other.example", 2).verifier().clone());
    let own_pq = cosigner(ORIGIN, ML_DSA, 3).verifier().clone();
    let witness = cosigner("witness.example", ML_DSA, 4).verifier().clone();
    let no_log = cosigner("witness.example", ED25519, 5).verifier().clone();

    let of_log = [log.clone(), own_pq.clone()];
    assert_eq!(keys_of_one_log(&[log.clone(), witness.clone(), own_pq.clone(), no_log.clone()]), Ok(of_log.to_vec()));
    assert_eq!(keys_of_one_log(&[witness.clone(), own_pq.clone(), log.clone()]), Ok(vec![own_pq.clone(), log.clone()]));
    assert_eq!(keys_of_one_log(&[no_log]), Ok(Vec::new()));
    for several in [[log, other.clone()], [own_pq, witness]] {
        let [first, second] = several.clone().map(|key| key.name().to_owned());
        assert_eq!(keys_of_one_log(&several), Err(SeveralLogs { first, other: second }));
    }
}
