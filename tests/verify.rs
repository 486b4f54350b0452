//! `logwood verify` from the outside: which exit status for which file.

use std::fs;
use std::path::Path;
use std::process::Command;

use logwood_merkle::{Hash, LeafIndex, RangeProof, TreeHead, TreeSize};
use logwood_note::{
    CosigningKey, Evidence, PrivateKey, RangeFile, Receipt, SignatureType, SignedNote, SigningKey, assemble_note,
    push_entry, sign_checkpoint,
};

const ORIGIN: &str = "log.example/logs/audit";

fn status(arguments: &[&str], directory: &Path) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logwood"));
    command.arg("verify").args(arguments).current_dir(directory).env_remove("LOGWOOD_VKEY");
    command.output().expect("the command runs").status.code()
}

/// A log of two entries: its key, its signed checkpoint, and the leaves.
fn log() -> (SigningKey, Vec<u8>, [Hash; 2]) {
    let key = SigningKey::from_seed(ORIGIN, &[7; 32]).expect("a good name");
    let leaves = [Hash::leaf(b"first"), Hash::leaf(b"second")];
    let head = TreeHead { size: TreeSize(2), root: Hash::node(&leaves[0], &leaves[1]) };
    let checkpoint = sign_checkpoint(&key, ORIGIN, &head);
    (key, checkpoint, leaves)
}

#[test]
fn a_receipt_is_good_or_the_status_says_how_it_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let (key, checkpoint, leaves) = log();
    let vkey = key.verifier().to_string();
    let receipt = Receipt { extra: None, index: LeafIndex(1), proof: vec![leaves[0]], checkpoint }.to_bytes();
    fs::write(path.join("receipt"), &receipt).expect("written");
    fs::write(path.join("entry"), b"second").expect("written");
    let run = |receipt: &str, entry: &str| status(&["--vkey", &vkey, receipt, entry], path);
    assert_eq!(run("receipt", "entry"), Some(0));
    assert_eq!(run("receipt", "no such file"), Some(1));
    assert_eq!(run("no such file", "entry"), Some(1));
    assert_eq!(status(&["--vkey", "not a key", "receipt", "entry"], path), Some(2));
    assert_eq!(status(&["receipt", "entry"], path), Some(2), "a key is always needed");

    fs::write(path.join("forged"), b"sekond").expect("written");
    assert_eq!(run("receipt", "forged"), Some(3));
    fs::write(path.join("huge"), vec![b'a'; 65_536]).expect("written");
    assert_eq!(run("receipt", "huge"), Some(3));
    for place in (0..receipt.len()).step_by(7) {
        let mut flipped = receipt.clone();
        flipped[place] ^= 1;
        fs::write(path.join("flipped"), &flipped).expect("written");
        assert_eq!(run("flipped", "entry"), Some(3), "byte {place}");
    }
}

#[test]
fn a_range_is_complete_or_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let (key, checkpoint, _) = log();
    let vkey = key.verifier().to_string();
    let RangeProof { left, right } = RangeProof::default();
    let proof = RangeFile { range: 0..2, left, right, checkpoint };
    fs::write(path.join("proof.logwood-range"), proof.to_bytes()).expect("written");
    let write = |entries: &[&[u8]]| {
        let mut bytes = Vec::new();
        for entry in entries {
            push_entry(entry, &mut bytes).expect("short");
        }
        fs::write(path.join("entries"), bytes).expect("written");
    };
    let run = || status(&["--vkey", &vkey, "--range", "."], path);
    assert_eq!(run(), Some(1), "there are no entries yet");
    write(&[b"first", b"second"]);
    assert_eq!(run(), Some(0));
    write(&[b"second", b"first"]);
    assert_eq!(run(), Some(3));
    write(&[b"first"]);
    assert_eq!(run(), Some(3));
    fs::write(path.join("entries"), b"\0\x05fir").expect("written");
    assert_eq!(run(), Some(3), "cut short");
}

/// A log with both kinds of key, two witnesses, and a policy that needs both.
#[test]
fn a_policy_asks_for_the_log_and_its_witnesses() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let (key, checkpoint, leaves) = log();
    let text = SignedNote::parse(&checkpoint).expect("a note").text().to_owned();
    let log_line = SignedNote::parse(&checkpoint).expect("a note").signatures()[0].clone();
    let cosigner = |name: &str, kind| -> CosigningKey {
        PrivateKey::from_seed(name, kind, &[8; 32]).and_then(TryInto::try_into).expect("a cosigner")
    };
    let one = cosigner("witness.example/1", SignatureType::Ed25519Cosignature);
    let two = cosigner("witness.example/2", SignatureType::MlDsa44Cosignature);
    let policy = format!(
        "log {}\nwitness one {}\nwitness two {}\ngroup both all one two\nquorum both\n",
        key.verifier(),
        one.verifier(),
        two.verifier()
    );
    fs::write(path.join("policy"), &policy).expect("written");
    fs::write(path.join("no-log"), policy.split_once('\n').expect("lines").1).expect("written");
    fs::write(path.join("malformed"), format!("{policy}quorum none\n")).expect("written");
    fs::write(path.join("entry"), b"second").expect("written");
    let receipt = |name: &str, cosigners: &[&CosigningKey]| {
        let lines = cosigners.iter().map(|key| key.cosign(&text, 1_774_353_600).expect("a checkpoint"));
        let lines: Vec<_> = std::iter::once(log_line.clone()).chain(lines).collect();
        let checkpoint = assemble_note(&text, &lines).expect("a note");
        let receipt = Receipt { extra: None, index: LeafIndex(1), proof: vec![leaves[0]], checkpoint };
        fs::write(path.join(name), receipt.to_bytes()).expect("written");
    };
    receipt("witnessed", &[&one, &two]);
    receipt("half", &[&two]);

    let run = |arguments: &[&str], receipt: &str| status(&[arguments, &[receipt, "entry"]].concat(), path);
    let vkey = key.verifier().to_string();
    assert_eq!(run(&["--policy", "policy"], "witnessed"), Some(0));
    assert_eq!(run(&["--policy", "policy"], "half"), Some(3));
    assert_eq!(run(&["--vkey", &vkey], "half"), Some(0), "the log alone is trusted here");
    assert_eq!(run(&["--policy", "policy", "--vkey", &vkey], "witnessed"), Some(0));
    assert_eq!(run(&["--policy", "no-log", "--vkey", &vkey], "witnessed"), Some(0));
    assert_eq!(run(&["--policy", "no-log", "--vkey", &vkey], "half"), Some(3));
    assert_eq!(run(&["--policy", "no-log"], "witnessed"), Some(2), "whose log?");
    let stranger = SigningKey::from_seed(ORIGIN, &[9; 32]).expect("a good name").verifier().to_string();
    assert_eq!(run(&["--policy", "policy", "--vkey", &stranger], "witnessed"), Some(2), "not in the policy");
    assert_eq!(run(&["--policy", "malformed"], "witnessed"), Some(2));
    assert_eq!(run(&["--policy", "no such file"], "witnessed"), Some(1));
    assert_eq!(run(&["--vkey", &one.verifier().to_string()], "witnessed"), Some(2), "a witness's key is no log's");
}

#[test]
fn evidence_proves_a_fault_or_nothing_and_is_never_good() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let (key, first, leaves) = log();
    let vkey = key.verifier().to_string();
    let forged = TreeHead { size: TreeSize(2), root: Hash::node(&leaves[1], &leaves[0]) };
    let second = sign_checkpoint(&key, ORIGIN, &forged);
    let proof = Evidence::SplitView { first: first.clone(), second }.to_bytes();
    fs::write(path.join("proof"), &proof).expect("written");
    fs::write(path.join("honest"), Evidence::SplitView { first: first.clone(), second: first }.to_bytes())
        .expect("written");
    fs::write(path.join("malformed"), &proof[1..]).expect("written");
    let stranger = SigningKey::from_seed(ORIGIN, &[9; 32]).expect("a good name").verifier().to_string();

    let judge = |vkey: &str, file: &str| status(&["--vkey", vkey, "--evidence", file], path);
    assert_eq!(judge(&vkey, "proof"), Some(3));
    assert_eq!(judge(&vkey, "honest"), Some(1));
    assert_eq!(judge(&vkey, "malformed"), Some(1));
    assert_eq!(judge(&vkey, "no such file"), Some(1));
    assert_eq!(judge(&stranger, "proof"), Some(1));
    assert_eq!(judge("not a key", "proof"), Some(2));
    assert_eq!(status(&["--evidence", "proof"], path), Some(2), "a key is always needed");
    assert_eq!(status(&["--vkey", &vkey, "--evidence", "proof", "--range", "."], path), Some(2));

    let output = Command::new(env!("CARGO_BIN_EXE_logwood"))
        .args(["verify", "--json", "--vkey", &vkey, "--evidence", "proof"])
        .current_dir(path)
        .output()
        .expect("the command runs");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["proved"], &json["kind"]), (&true.into(), &"a".into()));
    assert!(json["sentence"].as_str().expect("a sentence").contains("two different histories"));
}

#[test]
fn an_origin_that_the_keys_of_several_logs_would_vouch_for_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let (key, _, leaves) = log();
    // The other log's operator signs a head in the name of this one.
    let other = SigningKey::from_seed("other.example/log", &[8; 32]).expect("a good name");
    let head = TreeHead { size: TreeSize(2), root: Hash::node(&leaves[0], &leaves[1]) };
    let checkpoint = sign_checkpoint(&other, ORIGIN, &head);
    let receipt = Receipt { extra: None, index: LeafIndex(1), proof: vec![leaves[0]], checkpoint }.to_bytes();
    fs::write(path.join("receipt"), receipt).expect("written");
    fs::write(path.join("entry"), b"second").expect("written");
    let (own, others) = (key.verifier().to_string(), other.verifier().to_string());
    let of_both = ["--vkey", &own, "--vkey", &others, "--origin", ORIGIN];
    assert_eq!(status(&[&of_both[..], &["receipt", "entry"]].concat(), path), Some(2));
    assert_eq!(status(&[&of_both[..], &["--evidence", "receipt"]].concat(), path), Some(2));
    assert_eq!(status(&["--vkey", &others, "--origin", ORIGIN, "receipt", "entry"], path), Some(0));
}
