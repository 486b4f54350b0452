//! The client against a real server over a store in memory: through sockets, with nothing replaced.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use logwood_client::{Client, ClientError, ClientOptions, NewEntry};
use logwood_merkle::{Hash, LeafIndex, TreeSize, range};
use logwood_note::{Checkpoint, SigningKey};
use logwood_server::{LimitSettings, Limits, PublishOptions, ServeOptions, free_space, serve};
use logwood_store::{LogStore, MemoryDisk, MemoryStore};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    _data: TempDir,
}

impl Server {
    /// A new, empty server with a key of its own.
    async fn start(address: &str) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let disk = MemoryDisk::new();
        let limits = LimitSettings { disk_reserve_mib: 0, ..LimitSettings::default() };
        let options = ServeOptions {
            limits: Limits::try_from(limits).expect("valid limits"),
            free_space: free_space(data.path().to_owned()),
            data: data.path().to_owned(),
            grpc: address.parse().expect("an address"),
            admin: data.path().join("admin.sock"),
            anchor: data.path().join("ANCHOR"),
            public_url: None,
            publishing: PublishOptions::default(),
            opener: Arc::new(move || Ok(Arc::new(MemoryStore::open(&disk)?) as Arc<dyn LogStore>)),
        };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let task = tokio::spawn(async move {
            let tell = move |started: &logwood_server::Started| tell.send(started.grpc).expect("the test waits");
            serve(options, tell, async { drop(stopped.await) }).await.expect("serves");
        });
        Self { address: told.await.expect("starts"), stop, task, _data: data }
    }

    async fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.task.await.expect("it stops");
    }

    fn options(&self, state: Option<&Path>) -> ClientOptions {
        let server = format!("http://{}", self.address);
        ClientOptions { server, log: "default".to_owned(), vkey: None, state_dir: state.map(Path::to_owned) }
    }
}

fn entry(number: u64) -> Bytes {
    Bytes::from(format!("entry {number}"))
}

async fn fill(client: &Client, count: u64) {
    let entries = (0..count).map(|number| NewEntry { bytes: entry(number), identity: None }).collect();
    for (index, outcome) in (0..).zip(client.append_batch(entries).await.expect("a verified answer")) {
        assert_eq!(outcome.expect("logged").index, LeafIndex(index));
    }
}

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
    let (bytes, receipt, _) = client.get(LeafIndex(7)).await.expect("an entry");
    assert_eq!(bytes, entry(7));
    receipt.verify(&bytes, client.key(), None).expect("a receipt that verifies offline");
    let beyond = client.get(LeafIndex(22)).await.expect_err("beyond the head");
    assert!(matches!(beyond, ClientError::Rejected { code: tonic::Code::OutOfRange, .. }), "{beyond}");

    for old in 1..=22 {
        for new in [old, 16.max(old), 22] {
            client.consistency(TreeSize(old), TreeSize(new)).await.expect("a verified proof");
        }
    }
    let (proof, head) = client.range_proof(3, 19).await.expect("a verified range proof");
    let leaves: Vec<_> = (3..19).map(|number| Hash::leaf(&entry(number))).collect();
    range::verify(LeafIndex(3), &leaves, &head.head, &proof).expect("a proof that verifies offline");
    let indices = [0, 5, 6, 21].map(LeafIndex);
    assert_eq!(client.multiproof(&indices).await.expect("a verified multiproof").leaves.len(), 4);

    let mut read = Vec::new();
    client.read_range(2, 0, |index, bytes| read.push((index.0, bytes))).await.expect("verified entries");
    assert_eq!(read, (2..22).map(|number| (number, entry(number))).collect::<Vec<_>>());
    assert_eq!(client.describe().await.expect("described").vkeys, [client.key().to_string()]);
    assert_eq!(client.list_logs().await.expect("listed").len(), 1);
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
    let options = |server: &str, log: &str| ClientOptions {
        server: server.to_owned(),
        log: log.to_owned(),
        vkey: None,
        state_dir: None,
    };
    let none = Client::connect(options("http://127.0.0.1:1", "default")).await.expect_err("nothing listens");
    assert!(matches!(none, ClientError::Unreachable { .. }), "{none}");
    let bad = Client::connect(options("http://127.0.0.1:1", "No Log")).await.expect_err("not a name");
    assert!(matches!(bad, ClientError::BadOption { option: "log", .. }), "{bad}");
}
