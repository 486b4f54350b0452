//! The client against a real server over a store in memory: through sockets, with nothing replaced.

mod common;

use bytes::Bytes;
use common::{Server, entry, fill};
use logwood_client::{Client, ClientError, ClientOptions, HeadsFrom, Which};
use logwood_merkle::{Hash, LeafIndex, TreeSize, range};
use logwood_note::{Checkpoint, SigningKey};
use logwood_proto::v1::HeadLevel;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_appended_is_read_and_proved() {
    let server = Server::start("127.0.0.1:0").await;
    let client = Client::connect(server.options(None)).await.expect("a server");
    assert!(client.pinned_now());
    fill(&client, 21).await;

    let one = client.append(entry(21), Some(Bytes::from_static(b"id"))).await.expect("logged");
    one.receipt.verify(&entry(21), client.key(), None).expect("a receipt that verifies offline");
    let again = client.append(entry(21), Some(Bytes::from_static(b"id"))).await.expect("found");
    assert_eq!((again.index, again.duplicate), (one.index, true));
    let taken = client.append(entry(22), Some(Bytes::from_static(b"id"))).await.expect_err("the identity is taken");
    assert!(matches!(taken, ClientError::Rejected { code: tonic::Code::AlreadyExists, .. }), "{taken}");

    let head = client.head().await.expect("a head");
    assert_eq!(head.head.size, TreeSize(22));
    Checkpoint::open(&head.note, client.key(), None).expect("signed");
    let found = client.get(LeafIndex(7)).await.expect("an entry");
    assert_eq!(found.bytes, entry(7));
    found.receipt.verify(&entry(7), client.key(), None).expect("a receipt that verifies offline");
    let beyond = client.get(LeafIndex(22)).await.expect_err("beyond the head");
    assert!(matches!(beyond, ClientError::Rejected { code: tonic::Code::OutOfRange, .. }), "{beyond}");

    for old in 1..=22 {
        for new in [old, 16.max(old), 22] {
            client.consistency(TreeSize(old), TreeSize(new)).await.expect("a verified proof");
        }
    }
    let leaves: Vec<_> = (3..19).map(|number| Hash::leaf(&entry(number))).collect();
    let (proof, head) =
        client.range_proof(LeafIndex(3), &leaves, HeadLevel::Unspecified).await.expect("a verified range proof");
    range::verify(LeafIndex(3), &leaves, &head.head, &proof).expect("a proof that verifies offline");
    let indices = [0, 5, 6, 21].map(LeafIndex);
    assert_eq!(client.multiproof(&indices).await.expect("a verified multiproof").leaves.len(), 4);

    let mut read = Vec::new();
    client.read_range(2, 0, |index, bytes| read.push((index.0, bytes))).await.expect("verified entries");
    assert_eq!(read, (2..22).map(|number| (number, entry(number))).collect::<Vec<_>>());
    let (info, _) = client.describe_unverified().await.expect("described");
    assert_eq!(info.vkeys, [client.key().to_string()]);
    let mut names = Vec::new();
    client.list_logs_unverified(|info| names.push(info.name)).await.expect("listed");
    assert_eq!(names, ["default"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_found_by_its_leaf_hash_and_under_old_heads() {
    let server = Server::start("127.0.0.1:0").await;
    let client = Client::connect(server.options(None)).await.expect("a server");
    fill(&client, 9).await;
    let old = client.head().await.expect("a head");
    client.append(entry(9), None).await.expect("logged");
    let leaf = Hash::leaf(&entry(4));
    let found = client.entry(Which::Leaf(leaf), HeadLevel::Unspecified).await.expect("an entry");
    assert_eq!((found.bytes, found.receipt.index), (entry(4), LeafIndex(4)));
    for index in [None, Some(LeafIndex(4))] {
        let (receipt, head) = client.receipt(leaf, index).await.expect("a receipt");
        receipt.verify(&entry(4), client.key(), None).expect("good");
        assert_eq!(head.head.size, TreeSize(10));
    }
    assert!(client.receipt(leaf, Some(LeafIndex(5))).await.is_err_and(|error| error.is_tampering()));
    let missing = client.receipt(Hash::leaf(b"never appended"), None).await.expect_err("not there");
    assert!(matches!(missing, ClientError::Rejected { code: tonic::Code::NotFound, .. }), "{missing}");
    client.inclusion_in(&old.head, LeafIndex(4), leaf).await.expect("proved in the old tree");
    let none = client.inclusion_in(&old.head, LeafIndex(9), Hash::leaf(&entry(9))).await.expect_err("not yet there");
    assert!(matches!(none, ClientError::Rejected { code: tonic::Code::OutOfRange, .. }), "{none}");

    client.settle(HeadLevel::Published, logwood_client::SETTLE_WITHIN).await.expect("published").expect("a head");
    let published = client.entry(Which::Index(LeafIndex(4)), HeadLevel::Published).await.expect("an entry");
    assert!(published.head.level == HeadLevel::Published && published.head.head.size >= TreeSize(10));
    let wait = (HeadLevel::Published, std::time::Duration::from_mins(1));
    let waited = client.append_until(entry(10), None, wait).await.expect("logged");
    assert_eq!((waited.head.level, client.unsettled()), (HeadLevel::Published, 1), "the server's word settles nothing");
    let settled = client.settle(HeadLevel::Published, logwood_client::SETTLE_WITHIN).await.expect("published");
    assert_eq!((settled.map(|head| head.head), client.unsettled()), (Some(waited.head.head), 0));
    let published = client.entry(Which::Index(LeafIndex(4)), HeadLevel::Published).await.expect("an entry");
    let mut heads = client.heads(HeadsFrom::Size(TreeSize(0)));
    let page = heads.next_page().await.expect("verified");
    assert_eq!(page.first().expect("the first").head.size, TreeSize(0));
    assert_eq!(page.last(), Some(&published.head));
    assert!(heads.next_page().await.expect("the end").is_empty());
    let from = HeadsFrom::TimeMs(published.head.time_ms);
    assert_eq!(client.heads(from).next_page().await.expect("verified").last(), Some(&published.head));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_and_a_replaced_log_are_tampering() {
    let server = Server::start("127.0.0.1:0").await;
    let state = tempfile::tempdir().expect("a temporary directory");
    let client = Client::connect(server.options(Some(state.path()))).await.expect("a server");
    fill(&client, 5).await;
    drop(client);

    let client = Client::connect(server.options(Some(state.path()))).await.expect("a server");
    assert!(!client.pinned_now());
    assert_eq!(client.remembered().expect("remembered").head.size, TreeSize(5));
    let stranger = SigningKey::from_seed(client.key().name(), &[9; 32]).expect("a key name").verifier().clone();
    let options = ClientOptions { vkey: Some(stranger), ..server.options(Some(state.path())) };
    let error = Client::connect(options).await.expect("a server").head().await.expect_err("another key");
    assert!(error.is_tampering(), "{error}");
    drop(client);

    // Another log takes the address: the remembered key tells it, even while it is smaller.
    let address = server.address.to_string();
    server.stop().await;
    let server = Server::start(&address).await;
    let client = Client::connect(server.options(Some(state.path()))).await.expect("a server");
    let error = client.head().await.expect_err("another log");
    assert!(error.is_tampering(), "{error}");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn no_server_is_unreachable_and_a_bad_option_is_told_apart() {
    let options = |server: &str, log: &str| ClientOptions::new(server, log);
    let none = Client::connect(options("http://127.0.0.1:1", "default")).await.expect_err("nothing listens");
    assert!(matches!(none, ClientError::Unreachable { .. }), "{none}");
    let bad = Client::connect(options("http://127.0.0.1:1", "No Log")).await.expect_err("not a name");
    assert!(matches!(bad, ClientError::BadOption { option: "log", .. }), "{bad}");
}
