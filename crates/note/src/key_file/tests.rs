//! Key files: what is written can be read, and only by its owner.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::testing::key;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn a_created_file_is_private_and_loads() {
    let directory = directory();
    let path = directory.path().join("key");
    let key = key("log.example", 3);
    key.create(&path).expect("created");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::read_to_string(&path).expect("text"), format!("{}\n", *key.private().to_private_text()));
    assert_eq!(SigningKey::load(&path).expect("loaded").verifier(), key.verifier());
}

#[test]
fn a_pem_file_is_as_private() {
    let directory = directory();
    let path = directory.path().join("key.pem");
    let key = key("log.example", 3);
    key.private().create_pem(&path).expect("created");
    assert_eq!(mode(&path), 0o600);
    let read = PrivateKey::load_pem(&path, "log.example").expect("loaded");
    assert_eq!(read.verifier(), key.verifier());
    assert!(matches!(PrivateKey::load(&path), Err(KeyFileError::Key { .. })));
    set_mode(&path, 0o644);
    assert!(matches!(PrivateKey::load_pem(&path, "log.example"), Err(KeyFileError::Mode { .. })));
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let directory = directory();
    let path = directory.path().join("key");
    fs::write(&path, "precious").expect("written");
    let refused = key("a", 1).create(&path);
    assert!(matches!(refused, Err(KeyFileError::Exists { .. })));
    assert_eq!(fs::read(&path).expect("bytes"), b"precious");
}

#[test]
fn only_modes_0600_and_0400_are_accepted() {
    let directory = directory();
    let path = directory.path().join("key");
    key("a", 1).create(&path).expect("created");
    for accepted in [0o600, 0o400] {
        set_mode(&path, accepted);
        SigningKey::load(&path).expect("accepted");
    }
    for refused in [0o640, 0o604, 0o644, 0o660, 0o700, 0o440, 0o444, 0o666, 0o4600, 0o1600] {
        set_mode(&path, refused);
        let error = SigningKey::load(&path).expect_err("refused");
        assert!(matches!(error, KeyFileError::Mode { mode, .. } if mode == refused), "{refused:o}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

#[test]
fn only_regular_files_are_read() {
    let directory = directory();
    let refused = SigningKey::load(directory.path());
    assert!(matches!(refused, Err(KeyFileError::NotRegular { .. })));
    let refused = SigningKey::load("/dev/null");
    assert!(matches!(refused, Err(KeyFileError::NotRegular { .. })));

    // A pipe that nobody writes to must not hold us up.
    let pipe = directory.path().join("pipe");
    let owner = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, owner, 0).expect("pipe");
    assert!(matches!(SigningKey::load(&pipe), Err(KeyFileError::NotRegular { .. })));
}

#[test]
fn a_link_is_judged_by_the_file_it_leads_to() {
    let directory = directory();
    let (path, link) = (directory.path().join("key"), directory.path().join("link"));
    key("a", 1).create(&path).expect("created");
    std::os::unix::fs::symlink(&path, &link).expect("linked");
    SigningKey::load(&link).expect("accepted");
    set_mode(&path, 0o644);
    assert!(matches!(SigningKey::load(&link), Err(KeyFileError::Mode { .. })));
}

#[test]
fn files_without_a_key_are_refused() {
    let directory = directory();
    let path = directory.path().join("key");
    let missing = SigningKey::load(&path);
    assert!(matches!(missing, Err(KeyFileError::Io { action: "read", .. })));

    let text = key("a", 1).private().to_private_text();
    fs::write(&path, "").expect("written");
    set_mode(&path, 0o600);
    let two_lines = format!("{}\n\n", *text);
    for content in [&b""[..], b"\xff\xfe", b"PRIVATE+KEY+", two_lines.as_bytes(), &[b'a'; KEY_FILE_BYTES_MAX]] {
        fs::write(&path, content).expect("written");
        let refused = SigningKey::load(&path);
        assert!(matches!(refused, Err(KeyFileError::Key { .. })), "{content:?}");
    }
    fs::write(&path, [b'a'; KEY_FILE_BYTES_MAX + 1]).expect("written");
    assert!(matches!(SigningKey::load(&path), Err(KeyFileError::TooLong { .. })));

    fs::write(&path, text.as_bytes()).expect("written");
    SigningKey::load(&path).expect("the final newline may be missing");
}

#[test]
fn a_key_with_the_longest_name_fits_the_limit() {
    let directory = directory();
    let path = directory.path().join("key");
    key(&"n".repeat(crate::key::KEY_NAME_BYTES_MAX), 1).create(&path).expect("created");
    SigningKey::load(&path).expect("loaded");
}

#[test]
fn a_file_of_another_type_of_key_is_refused_with_what_is_needed() {
    let directory = directory();
    let (signing, cosigning) = (directory.path().join("signing"), directory.path().join("cosigning"));
    key("a", 1).create(&signing).expect("created");
    crate::testing::cosigner("a", crate::SignatureType::MlDsa44Cosignature, 1).create(&cosigning).expect("created");
    assert_eq!(mode(&cosigning), 0o600);
    assert!(matches!(SigningKey::load(&cosigning), Err(KeyFileError::Key { source: KeyError::WrongType { .. }, .. })));
    assert!(matches!(CosigningKey::load(&signing), Err(KeyFileError::Key { source: KeyError::WrongType { .. }, .. })));
    for path in [signing, cosigning] {
        PrivateKey::load(path).expect("a private key of any type");
    }
}

#[test]
fn a_directory_that_is_not_there_is_reported() {
    let directory = directory();
    let refused = key("a", 1).create(directory.path().join("no/key"));
    assert!(matches!(refused, Err(KeyFileError::Io { action: "create", .. })));
}
