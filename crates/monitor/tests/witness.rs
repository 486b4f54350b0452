//! The witness as C2SP tlog-witness describes it: which request gets what answer.

mod common;

use std::sync::Mutex;

use common::disk::FaultyDisk;
use common::{FORK, ORIGIN, ORIGIN_PATH, SIZE_MAX, cosigner, head, keys, log_key, policy, policy_of, proof, request};
use logwood_merkle::{Hash, TreeHead, TreeSize};
use logwood_monitor::witness::{Disk, Refusal, StartError, Witness};
use logwood_note::add_checkpoint::ADD_CHECKPOINT_BYTES_MAX;
use logwood_note::{
    AddCheckpoint, Checkpoint, NoteError, NoteSignature, Policy, SignatureType, SignedNote, SigningKey, Trust as _,
    assemble_note, parse_signatures, sign_checkpoint, sign_note,
};

const NOW_MS: u64 = 1_700_000_000_500;
const NOW: u64 = 1_700_000_000;

fn witness() -> Witness<FaultyDisk> {
    Witness::open(keys(), &policy(), FaultyDisk::default()).expect("an empty disk")
}

/// A request for a note that is made by hand.
fn body(old: u64, note: &[u8]) -> Vec<u8> {
    let checkpoint = SignedNote::parse(note).expect("a note");
    AddCheckpoint { old_size: TreeSize(old), proof: Vec::new(), checkpoint }.to_body()
}

#[test]
fn a_log_that_grows_is_cosigned_by_every_key() {
    let witness = witness();
    let mut old = 0;
    for size in [0, 3, 3, 8, SIZE_MAX] {
        let lines = witness.add_checkpoint(&request(false, old, size), NOW_MS).expect("it grew");
        let lines = parse_signatures(&lines).expect("signature lines");
        let text = common::checkpoint(false, size);
        for (line, key) in lines.iter().zip(keys()) {
            assert!(key.verifier().verify(text.text().as_bytes(), &line.bytes));
            assert_eq!(key.verifier().timestamp(&line.bytes), Some(NOW));
        }
        assert_eq!(lines.len(), 2);
        old = size;
    }
}

#[test]
fn what_is_served_satisfies_a_policy_with_the_log_and_the_witness() {
    let witness = witness();
    assert_eq!(witness.checkpoint(ORIGIN_PATH), None, "nothing was cosigned yet");
    witness.add_checkpoint(&request(false, 0, 7), NOW_MS).expect("new");
    let note = witness.checkpoint(ORIGIN_PATH).expect("cosigned");
    let keys = keys();
    let lines = format!(
        "log {}\nwitness a {}\nwitness b {}\ngroup all all a b\nquorum all\n",
        log_key().verifier(),
        keys[0].verifier(),
        keys[1].verifier()
    );
    let trusted = Policy::parse(lines.as_bytes()).expect("a policy").open(&note, None).expect("it is good");
    assert_eq!(trusted.checkpoint.head, head(false, 7));
    assert_eq!(trusted.witness_seconds, [Some(NOW), Some(NOW)]);
    for other in [&"0".repeat(64), ORIGIN, &ORIGIN_PATH.to_uppercase(), ""] {
        assert_eq!(witness.checkpoint(other), None, "{other}");
    }
}

#[test]
fn a_malformed_request_is_refused_and_a_long_one_too() {
    let witness = witness();
    let long = vec![b'x'; ADD_CHECKPOINT_BYTES_MAX + 1];
    for body in [&b""[..], b"old 0\n\n", b"old 0\n\ntext\n\n\xe2\x80\x94 k AAAAAAE=\n", &long] {
        let refused = witness.add_checkpoint(body, NOW_MS).expect_err("malformed");
        assert!(matches!(refused, Refusal::Malformed(_) | Refusal::Checkpoint(_)), "{refused}");
    }
    let above = witness.add_checkpoint(&body(8, common::checkpoint(false, 7).as_bytes()), NOW_MS);
    assert_eq!(above, Err(Refusal::OldSize { old: TreeSize(8), new: TreeSize(7) }));
}

#[test]
fn an_unknown_log_is_404_before_its_signature_is_looked_at() {
    let key = SigningKey::from_seed("other.example/log", &[1; 32]).expect("a name");
    let note = sign_checkpoint(&key, "other.example/log", &head(false, 7));
    assert_eq!(witness().add_checkpoint(&body(0, &note), NOW_MS), Err(Refusal::UnknownOrigin));
}

#[test]
fn a_checkpoint_that_the_log_did_not_sign_is_403() {
    let witness = witness();
    let stranger = SigningKey::from_seed(ORIGIN, &[9; 32]).expect("a name");
    let note = sign_checkpoint(&stranger, ORIGIN, &head(false, 7));
    assert_eq!(witness.add_checkpoint(&body(0, &note), NOW_MS), Err(Refusal::Unsigned(NoteError::NoKnownKey)));

    // A known key's bad signature rejects the note, whatever else is good.
    let good = common::checkpoint(false, 7);
    let mut bad = good.signatures()[0].clone();
    bad.bytes[10] ^= 1;
    let note = assemble_note(good.text(), &[good.signatures()[0].clone(), bad]).expect("well-formed");
    let refused = witness.add_checkpoint(&body(0, &note), NOW_MS).expect_err("a bad line");
    assert!(matches!(refused, Refusal::Unsigned(NoteError::BadSignature { .. })), "{refused}");

    // Two logs of one witness: the other's signature is no good here.
    let other = SigningKey::from_seed("other.example/log", &[5; 32]).expect("a name");
    let both = policy_of(&[log_key().verifier(), other.verifier()]);
    let witness = Witness::open(keys(), &both, FaultyDisk::default()).expect("an empty disk");
    let note = sign_checkpoint(&other, ORIGIN, &head(false, 7));
    assert_eq!(witness.add_checkpoint(&body(0, &note), NOW_MS), Err(Refusal::Unsigned(NoteError::NoKnownKey)));
}

#[test]
fn lines_of_unknown_keys_are_ignored_and_not_served() {
    let witness = witness();
    let good = common::checkpoint(false, 7);
    let stranger = cosigner("stranger", SignatureType::Ed25519Cosignature, 7);
    let line = stranger.cosign(good.text(), 1).expect("a checkpoint");
    let lines: Vec<NoteSignature> = vec![line; 90].into_iter().chain(good.signatures().to_vec()).collect();
    let note = assemble_note(good.text(), &lines).expect("well-formed");
    witness.add_checkpoint(&body(0, &note), NOW_MS).expect("the log signed it");
    let served = SignedNote::parse(&witness.checkpoint(ORIGIN_PATH).expect("cosigned")).expect("a note");
    assert_eq!(served.signatures().len(), 3, "the log's and ours");
}

#[test]
fn another_old_size_is_409_with_the_last_size() {
    let witness = witness();
    let conflict = |last| Err(Refusal::Conflict { last: TreeSize(last) });
    assert_eq!(witness.add_checkpoint(&request(false, 3, 7), NOW_MS), conflict(0));
    witness.add_checkpoint(&request(false, 0, 7), NOW_MS).expect("new");
    for (old, new) in [(0, 7), (3, 7), (0, 3), (3, 3), (8, 9)] {
        assert_eq!(witness.add_checkpoint(&request(false, old, new), NOW_MS), conflict(7), "{old} to {new}");
    }
}

#[test]
fn a_proof_that_does_not_verify_is_422() {
    let witness = witness();
    let send = |old, proof, branch, size| {
        let checkpoint = common::checkpoint(branch, size);
        let request = AddCheckpoint { old_size: TreeSize(old), proof, checkpoint };
        witness.add_checkpoint(&request.to_body(), NOW_MS)
    };
    let hash = Hash::leaf(b"hash");
    assert_eq!(send(0, vec![hash], false, 7), Err(Refusal::ProofFromNothing));
    send(0, vec![], false, 7).expect("new");
    let good = proof(false, 7, 9);
    let missing = good[1..].to_vec();
    let trailing = [good.clone(), vec![hash]].concat();
    let swapped = good.iter().rev().copied().collect();
    for (what, proof) in [("missing", missing), ("trailing", trailing), ("swapped", swapped), ("none", vec![])] {
        let refused = send(7, proof, false, 9).expect_err(what);
        assert!(matches!(refused, Refusal::Inconsistent(_)), "{what}: {refused}");
    }
    let fork = send(7, proof(true, 7, 9), true, 9).expect_err("a fork");
    assert!(matches!(fork, Refusal::Inconsistent(_)), "{fork}");
    let fork = send(7, vec![], true, 7).expect_err("a fork of the same size");
    assert!(matches!(fork, Refusal::Inconsistent(_)), "{fork}");
    send(7, good, false, 9).expect("and the log goes on");
}

#[test]
fn an_empty_tree_has_one_root() {
    let witness = witness();
    let false_root = TreeHead { size: TreeSize(0), root: Hash::leaf(b"root") };
    let note = sign_checkpoint(&log_key(), ORIGIN, &false_root);
    let refused = witness.add_checkpoint(&body(0, &note), NOW_MS).expect_err("another root");
    assert!(matches!(refused, Refusal::Inconsistent(_)), "{refused}");
    witness.add_checkpoint(&request(false, 0, 0), NOW_MS).expect("the empty tree");
}

#[test]
fn extension_lines_that_only_a_0x06_key_signs_are_refused() {
    let log = cosigner(ORIGIN, SignatureType::MlDsa44Cosignature, 6);
    let both = policy_of(&[log_key().verifier(), log.verifier()]);
    let witness = Witness::open(keys(), &both, FaultyDisk::default()).expect("an empty disk");
    let text = Checkpoint { origin: ORIGIN.into(), head: head(false, 7), extensions: vec!["more".into()] }.to_text();
    let line = log.cosign(&text, 1).expect("a checkpoint");
    let note = assemble_note(&text, std::slice::from_ref(&line)).expect("well-formed");
    assert_eq!(witness.add_checkpoint(&body(0, &note), NOW_MS), Err(Refusal::Extensions));
    let note = sign_note(&text, &[&log_key()]).expect("a note");
    let signed = SignedNote::parse(&note).expect("a note");
    let note = assemble_note(&text, &[line, signed.signatures()[0].clone()]).expect("well-formed");
    witness.add_checkpoint(&body(0, &note), NOW_MS).expect("both keys signed");
}

#[test]
fn a_clock_that_goes_back_moves_no_timestamp_back() {
    let witness = witness();
    let stamp = |old, new, posix_ms| {
        let lines = witness.add_checkpoint(&request(false, old, new), posix_ms).expect("it grew");
        keys()[0].verifier().timestamp(&parse_signatures(&lines).expect("lines")[0].bytes)
    };
    assert_eq!(stamp(0, 3, NOW_MS), Some(NOW));
    assert_eq!(stamp(3, 7, 5_000), Some(NOW));
    assert_eq!(stamp(7, 7, 0), Some(NOW));
    assert_eq!(stamp(7, 7, NOW_MS + 2_000), Some(NOW + 2), "a renewal");
    let fresh = self::witness();
    let lines = fresh.add_checkpoint(&request(false, 0, 3), 0).expect("new");
    let line = &parse_signatures(&lines).expect("lines")[0];
    assert_eq!(keys()[0].verifier().timestamp(&line.bytes), Some(1), "zero would make no claim");
}

#[test]
fn repeats_within_a_second_write_nothing_and_a_fast_log_is_told_to_wait() {
    let disk = CountingDisk::default();
    let witness = Witness::open(keys(), &policy(), &disk).expect("an empty disk");
    let first = witness.add_checkpoint(&request(false, 0, 1), NOW_MS).expect("new");
    for _ in 0..100 {
        assert_eq!(witness.add_checkpoint(&request(false, 1, 1), NOW_MS), Ok(first.clone()));
    }
    assert_eq!(disk.written(), 1);
    let grown = (1..SIZE_MAX)
        .find(|&old| witness.add_checkpoint(&request(false, old, old + 1), NOW_MS) == Err(Refusal::TooFast));
    assert_eq!(grown, Some(20), "20 at once");
    witness.add_checkpoint(&request(false, 20, 21), NOW_MS + 100).expect("one more after 100 ms");
}

#[test]
fn concurrent_requests_for_one_log_take_turns() {
    let disk = CountingDisk::default();
    let witness = Witness::open(keys(), &policy(), &disk).expect("an empty disk");
    std::thread::scope(|scope| {
        for worker in 0..4_u64 {
            let witness = &witness;
            scope.spawn(move || {
                let mut old = 0;
                for step in 0..30 {
                    let new = (old + 1 + (worker + step) % 3).min(SIZE_MAX);
                    let now_ms = NOW_MS + 1_000 * step;
                    match witness.add_checkpoint(&request(worker == 3, old, new), now_ms) {
                        Ok(_) => old = new,
                        Err(Refusal::Conflict { last }) => old = last.0,
                        Err(Refusal::Inconsistent(_) | Refusal::TooFast) => {}
                        Err(refusal) => panic!("{refusal}"),
                    }
                }
            });
        }
    });
    let heads = disk.0.lock().expect("no panics").clone();
    let branch = heads.last().is_some_and(|last| head(true, last.size.0) == *last && last.size.0 > FORK);
    for pair in heads.windows(2) {
        assert!(pair[0].size <= pair[1].size, "a later record is smaller");
        assert_eq!(pair[1], head(branch, pair[1].size.0), "a later record is on another branch");
    }
    assert!(heads.len() > 4, "they got somewhere");
}

#[test]
fn a_witness_does_not_start_without_keys_or_logs_or_on_a_damaged_record() {
    let open = |keys, policy: &Policy, disk| Witness::open(keys, policy, disk).map(|_| ());
    assert!(matches!(open(vec![], &policy(), FaultyDisk::default()), Err(StartError::Keys)));
    let twice =
        vec![cosigner("a", SignatureType::Ed25519Cosignature, 2), cosigner("b", SignatureType::Ed25519Cosignature, 2)];
    assert!(matches!(open(twice, &policy(), FaultyDisk::default()), Err(StartError::Keys)));
    let nothing = Policy::parse(b"quorum none\n").expect("a policy");
    assert!(matches!(open(keys(), &nothing, FaultyDisk::default()), Err(StartError::NoLogs)));

    let disk = FaultyDisk::default();
    let witness = Witness::open(keys(), &policy(), disk.clone()).expect("an empty disk");
    witness.add_checkpoint(&request(false, 0, 7), NOW_MS).expect("new");
    let record = disk.read(ORIGIN_PATH).expect("it works").expect("a record");
    for at in (0..record.len()).step_by(7) {
        for damaged in [record[..at].to_vec(), {
            let mut flipped = record.clone();
            flipped[at] ^= 1;
            flipped
        }] {
            disk.write(ORIGIN_PATH, &damaged).expect("it works");
            assert!(matches!(open(keys(), &policy(), disk.clone()), Err(StartError::Record { .. })), "byte {at}");
        }
    }
    disk.write(ORIGIN_PATH, &record).expect("it works");
    Witness::open(keys(), &policy(), disk).expect("the record is whole again");
}

/// Keeps the head of every record that was written, in order. Shared by reference.
#[derive(Default)]
struct CountingDisk(Mutex<Vec<TreeHead>>);

impl CountingDisk {
    fn written(&self) -> usize {
        self.0.lock().expect("no panics").len()
    }
}

impl Disk for &CountingDisk {
    fn read(&self, _: &str) -> std::io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn write(&self, _: &str, bytes: &[u8]) -> std::io::Result<()> {
        let text = std::str::from_utf8(bytes).expect("records are text");
        let (_, note) = text.split_once("\n\n").expect("a record ends in its note");
        let head = Checkpoint::parse_unverified(note.as_bytes()).expect("a checkpoint").head;
        self.0.lock().expect("no panics").push(head);
        Ok(())
    }

    fn rename(&self, _: &str, _: &str) -> std::io::Result<()> {
        Ok(())
    }

    fn sync_names(&self) -> std::io::Result<()> {
        Ok(())
    }
}
