//! `logwood keys` from the outside: what each form of a key becomes, and which exit status says what.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use logwood_note::{PrivateKey, SignatureType, SigningKey, VerifierKey};
use serde_json::Value;

const NAME: &str = "log.example/logs/audit";

fn keys(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logwood"));
    command.arg("keys").args(arguments).current_dir(directory).output().expect("the command runs")
}

/// What a command that must succeed prints, without the newline.
fn line(directory: &Path, arguments: &[&str]) -> String {
    let output = keys(directory, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

fn status(directory: &Path, arguments: &[&str]) -> Option<i32> {
    keys(directory, arguments).status.code()
}

#[test]
fn every_type_is_made_shown_and_private() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    for (name, kind) in [
        ("ed25519", SignatureType::Ed25519),
        ("ed25519-cosignature", SignatureType::Ed25519Cosignature),
        ("ml-dsa-44", SignatureType::MlDsa44Cosignature),
    ] {
        let vkey = line(path, &["generate", "--type", name, "--name", NAME, "--out", name]);
        let key: VerifierKey = vkey.parse().expect("a vkey");
        assert_eq!((key.name(), key.kind()), (NAME, kind));
        assert_eq!(line(path, &["show", name]), vkey);
        let mode = path.join(name).metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(PrivateKey::load(path.join(name)).expect("a key").verifier(), &key);

        for shown in [name, &vkey] {
            let json: Value = serde_json::from_str(&line(path, &["show", "--json", shown])).expect("JSON");
            assert_eq!(json["name"], NAME);
            assert_eq!(json["id"], key.id().to_string());
            assert_eq!(json["type"], name);
            assert_eq!(json["vkey"], vkey);
        }
        assert!(line(path, &["show", &vkey]).contains(&format!("type  {:#04x}, {name}", kind.byte())));
        assert_eq!(status(path, &["generate", "--name", NAME, "--out", name]), Some(1), "never overwritten");
    }
    // Without a type, what a log needs.
    line(path, &["generate", "--name", NAME, "--out", "default"]);
    SigningKey::load(path.join("default")).expect("a log's key");
    assert_eq!(status(path, &["generate", "--name", "a b", "--out", "other"]), Some(2));
    assert_eq!(status(path, &["generate", "--name", "a", "--type", "rsa", "--out", "other"]), Some(2));
    assert_eq!(status(path, &["show", "missing"]), Some(1));
}

#[test]
fn types_of_one_algorithm_become_one_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let vkey = line(path, &["generate", "--name", NAME, "--out", "log"]);
    let converted = line(path, &["convert", "log", "--to", "ed25519-cosignature", "--out", "witness"]);
    assert_eq!(line(path, &["show", "witness"]), converted);
    // The public halves convert by themselves.
    assert_eq!(line(path, &["convert", &vkey, "--to", "ed25519-cosignature"]), converted);
    assert_eq!(line(path, &["convert", &converted, "--to", "ed25519"]), vkey);
    let json: Value =
        serde_json::from_str(&line(path, &["convert", "--json", &vkey, "--to", "ed25519"])).expect("JSON");
    assert_eq!(json["vkey"], vkey);

    for refused in [
        &["convert", "log", "--to", "ml-dsa-44", "--out", "x"][..],
        &["convert", "log", "--to", "ed25519-cosignature"],
        &["convert", &vkey, "--to", "ml-dsa-44"],
        &["convert", &vkey, "--to", "pem"],
        &["convert", &vkey, "--to", "ed25519", "--out", "x"],
        &["convert", "log"],
    ] {
        assert_eq!(status(path, refused), Some(2), "{refused:?}");
    }
    assert_eq!(status(path, &["convert", "log", "--to", "ed25519", "--out", "witness"]), Some(1), "it is there");
    assert!(!path.join("x").exists());
}

#[test]
fn pem_goes_out_and_comes_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    for kind in ["ed25519", "ml-dsa-44"] {
        let (file, pem, back) = (format!("{kind}.key"), format!("{kind}.pem"), format!("{kind}.back"));
        let vkey = line(path, &["generate", "--type", kind, "--name", NAME, "--out", &file]);
        assert_eq!(line(path, &["convert", &file, "--to", "pem", "--out", &pem]), vkey);
        let mode = path.join(&pem).metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(line(path, &["convert", &pem, "--name", NAME, "--to", kind, "--out", &back]), vkey);
        assert_eq!(std::fs::read(path.join(&file)).expect("read"), std::fs::read(path.join(&back)).expect("read"));
        assert_eq!(status(path, &["convert", &pem, "--to", kind, "--out", "x"]), Some(1), "PEM holds no name");
    }
}
