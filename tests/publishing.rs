//! Publishing on a real server: levels, the second key, and settings that cannot be kept.

mod common;

use std::path::Path;

use common::{Server, command};
use logwood_note::{SignatureType, SignedNote, VerifierKey};
use logwood_proto::v1;
use logwood_proto::v1::log_service_client::LogServiceClient;
use tonic::Code;
use tonic::transport::Channel;

type Rpc = LogServiceClient<Channel>;

fn configure(dir: &Path, text: &str) -> String {
    let path = dir.join("config.toml");
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

async fn head(rpc: &mut Rpc, log: &str, level: v1::HeadLevel) -> v1::SignedTreeHead {
    let request = v1::GetTreeHeadRequest { log: log.into(), level: level.into(), known_size: 0 };
    rpc.get_tree_head(request).await.expect("a head").into_inner().head.expect("a head")
}

fn append(log: &str, entry: &str) -> v1::AppendRequest {
    v1::AppendRequest { log: log.into(), entry: entry.to_owned().into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_acknowledges_at_published_lets_nothing_else_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "publish-interval-ms = 20\n[logs.default]\nacknowledge = \"published\"\n";
    let server = Server::start(&dir.path().join("data"), 0, &["--config", &configure(dir.path(), text)]);
    let mut rpc = Rpc::connect(server.url.clone()).await.expect("it listens");
    for number in 0..5 {
        let answer = rpc.append(append("default", &format!("entry {number}"))).await.expect("published in time");
        let receipt = answer.into_inner().head.expect("a head");
        assert_eq!(receipt.level(), v1::HeadLevel::Published);
        let signed = head(&mut rpc, "default", v1::HeadLevel::Signed).await;
        let published = head(&mut rpc, "default", v1::HeadLevel::Published).await;
        assert_eq!((signed.level(), &signed.checkpoint), (v1::HeadLevel::Published, &published.checkpoint));
        assert_eq!(receipt.checkpoint, published.checkpoint, "nothing is appended meanwhile");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_published_is_beyond_the_head() {
    let dir = tempfile::tempdir().expect("a directory");
    // Making the log publishes its empty tree, and that was it for an hour.
    let text = "publish-interval-ms = 3600000\n[logs.default]\nacknowledge = \"published\"\n";
    let server = Server::start(&dir.path().join("data"), 0, &["--config", &configure(dir.path(), text)]);
    let mut rpc = Rpc::connect(server.url.clone()).await.expect("it listens");
    let late = rpc.append(append("default", "entry")).await.expect_err("not published in time");
    assert_eq!(late.code(), Code::Unavailable, "{late}");
    let by = Some(v1::get_entry_request::By::Index(0));
    let early = rpc.get_entry(v1::GetEntryRequest { log: "default".into(), by, ..Default::default() }).await;
    assert_eq!(early.expect_err("not let out").code(), Code::OutOfRange);
    let request = v1::ReadEntriesRequest { log: "default".into(), ..Default::default() };
    let mut entries = rpc.read_entries(request).await.expect("a stream").into_inner();
    assert!(entries.message().await.expect("an end").is_none(), "nothing is let out");
}

/// The time that the log's ML-DSA-44 key says in a published head, which `keys` must have signed.
fn cosigned_at(head: &v1::SignedTreeHead, keys: &[VerifierKey]) -> u64 {
    let note = SignedNote::parse(&head.checkpoint).expect("a note");
    let verified = note.verify(keys).expect("verifies");
    assert_eq!(verified.len(), 2, "a line of each key");
    assert!(head.time_is_cosigned, "and the answer says so");
    let key = keys.iter().find(|key| key.kind() == SignatureType::MlDsa44Cosignature).expect("a key of type 0x06");
    let line = verified.into_iter().find(|line| line.claims(key)).expect("its line");
    key.timestamp(&line.bytes).expect("a cosignature")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_an_ml_dsa_key_cosigns_what_it_publishes_and_renews_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = configure(dir.path(), "publish-interval-ms = 10\nrefresh-interval-ms = 50\n");
    let server = Server::start(&dir.path().join("data"), 0, &["--config", &config]);
    let create = ["logs", "create", "audit", "--ml-dsa", "--json", "--admin", "data/admin.sock"];
    let (code, made) = command(&create, dir.path());
    assert_eq!(code, Some(0), "{made}");
    let made: serde_json::Value = serde_json::from_str(&made).expect("JSON");
    let keys: Vec<VerifierKey> = (made["vkeys"].as_array().expect("keys").iter())
        .map(|vkey| vkey.as_str().expect("text").parse().expect("a vkey"))
        .collect();
    assert_eq!(keys.iter().map(VerifierKey::kind).collect::<Vec<_>>()[0], SignatureType::Ed25519, "the first one");

    let mut rpc = Rpc::connect(server.url.clone()).await.expect("it listens");
    let first = cosigned_at(&head(&mut rpc, "audit", v1::HeadLevel::Published).await, &keys);
    let mut renewed = first;
    while renewed == first {
        renewed = cosigned_at(&head(&mut rpc, "audit", v1::HeadLevel::Published).await, &keys);
    }
    assert!(renewed > first, "time goes on though nothing is appended");
    assert!(!head(&mut rpc, "default", v1::HeadLevel::Published).await.time_is_cosigned, "that log has one key");
    rpc.append(append("audit", "entry")).await.expect("appended");
    drop(rpc);
    server.stop();

    let server = Server::start(&dir.path().join("data"), 0, &["--config", &config]);
    let mut rpc = Rpc::connect(server.url.clone()).await.expect("it listens");
    let after = cosigned_at(&head(&mut rpc, "audit", v1::HeadLevel::Published).await, &keys);
    assert!(after >= renewed, "and not back over a restart");
}

#[test]
fn a_log_without_its_second_key_does_not_sign() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    let create = ["logs", "create", "audit", "--ml-dsa", "--admin", "data/admin.sock"];
    assert_eq!(command(&create, dir.path()).0, Some(0));
    server.stop();
    std::fs::remove_file(dir.path().join("data/keys/audit+ml-dsa-44")).expect("removed");
    let server = Server::start(&dir.path().join("data"), 0, &[]);
    std::fs::write(dir.path().join("one"), "first\n").expect("written");
    let append = ["append", "one", "--log", "audit", "--server", &server.url, "--client-state", "state"];
    let (code, text) = command(&append, dir.path());
    assert!(code == Some(1) && text.contains("read-only"), "{text}");
}

#[test]
fn settings_that_no_log_can_keep_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    for (text, problem) in [
        ("[logs.default]\nacknowledge = \"witnessed\"\n", "needs witnesses"),
        ("[logs.default]\nacknowledge = \"sometimes\"\n", "sometimes"),
        ("[logs.Default]\n", "logs.Default"),
        ("publish-interval-ms = 0\n", "publish-interval-ms = 0"),
        ("anchor-every = \"day\"\n", "day"),
    ] {
        let (code, said) = command(&["serve", "--print-config", "--config", &configure(dir.path(), text)], dir.path());
        assert_eq!(code, Some(2), "{text}: {said}");
        assert!(said.contains(problem), "{text}: {said}");
    }
}
