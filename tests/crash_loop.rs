//! Ten SIGKILLs under load: what was acknowledged is there, once, under receipts that verify.

mod common;

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use common::{Server, eventually};
use logwood_client::{Client, ClientOptions, NewEntry};
use logwood_merkle::{CompactRange, Hash};
use logwood_note::{Checkpoint, Receipt, SignedNote, VerifierKey};
use logwood_proto::v1;
use logwood_proto::v1::log_service_client::LogServiceClient;
use logwood_store::{LogQuery, LogStore as _};
use logwood_store_rocksdb::RocksStore;
use tokio::sync::Mutex;

const KILLS: usize = 10;
/// Acknowledged entries between two kills.
const ENTRIES_PER_LIFE: u64 = 300;

/// What was acknowledged: identity to entry and index, and each receipt.
#[derive(Default)]
struct Book {
    indices: HashMap<Bytes, (Bytes, u64)>,
    receipts: Vec<(Bytes, Receipt)>,
}

impl Book {
    fn enter(&mut self, identity: Bytes, entry: Bytes, index: u64, receipt: Option<Receipt>) {
        let known = self.indices.entry(identity).or_insert_with(|| (entry.clone(), index));
        assert_eq!(*known, (entry.clone(), index), "one identity got two indices");
        self.receipts.extend(receipt.map(|receipt| (entry, receipt)));
    }
}

struct Load {
    url: String,
    key: VerifierKey,
    stop: AtomicBool,
    acknowledged: AtomicU64,
    book: Mutex<Book>,
}

impl Load {
    async fn client(&self) -> Option<Client> {
        let options = ClientOptions { vkey: Some(self.key.clone()), ..ClientOptions::new(&self.url, "default") };
        Client::connect(options).await.ok()
    }

    /// The same event from every writer that numbers it: identities repeat across writers on purpose.
    fn event(writer: &str, number: u64) -> (Bytes, Bytes) {
        (format!("{writer}-{number}").into(), format!("event {number} of {writer}").into())
    }

    async fn unary(self: Arc<Self>, writer: &'static str) {
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let (identity, entry) = Self::event(writer, number);
            let Some(client) = self.client().await else { continue };
            let Ok(appended) = client.append(entry.clone(), Some(identity.clone())).await else { continue };
            self.book.lock().await.enter(identity, entry, appended.index.0, Some(appended.receipt));
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            // Every third event is sent twice: the retry must find the first.
            number += u64::from(appended.duplicate || number % 3 != 0);
        }
    }

    async fn batches(self: Arc<Self>) {
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let events: Vec<_> = (number..number + 20).map(|number| Self::event("batch", number)).collect();
            let entries = events
                .iter()
                .map(|(identity, entry)| NewEntry { bytes: entry.clone(), identity: identity.clone().into() });
            let Some(client) = self.client().await else { continue };
            let Ok(answers) = client.append_batch(entries.collect()).await else { continue };
            let mut book = self.book.lock().await;
            for ((identity, entry), appended) in events.into_iter().zip(answers) {
                let appended = appended.expect("no entry of the batch is refused");
                book.enter(identity, entry, appended.index.0, Some(appended.receipt));
            }
            self.acknowledged.fetch_add(20, Ordering::Relaxed);
            number += 20;
        }
    }

    /// One stream a life of the server; what was not answered is sent again on the next.
    async fn stream(self: Arc<Self>) {
        let mut next = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(mut rpc) = LogServiceClient::connect(self.url.clone()).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let open = v1::AppendStreamOpen { log: "default".into(), known_size: 0, range_proofs: true };
            let open = v1::append_stream_request::Message::Open(open);
            let entries = (next..next + 50).map(|number| {
                let (identity, entry) = Self::event("stream", number);
                v1::append_stream_request::Message::Entry(v1::AppendStreamEntry {
                    request_id: number,
                    entry,
                    identity: Some(v1::append_stream_entry::Identity::Key(identity)),
                })
            });
            let messages: Vec<_> = std::iter::once(open)
                .chain(entries)
                .map(|message| v1::AppendStreamRequest { message: Some(message) })
                .collect();
            let Ok(answers) = rpc.append_stream(tokio_stream::iter(messages)).await else { continue };
            let mut answers = answers.into_inner();
            while let Ok(Some(answer)) = answers.message().await {
                let mut book = self.book.lock().await;
                for run in answer.runs {
                    for (index, number) in (run.first_index..).zip(run.request_ids) {
                        let (identity, entry) = Self::event("stream", number);
                        book.enter(identity, entry, index, None);
                        next = next.max(number + 1);
                        self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

#[test]
fn bundles_filled_before_a_kill_are_packed_after_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let append = |server: &Server, lines: std::ops::Range<u32>| {
        let events: Vec<_> = lines.map(|line| format!("event {line}\n")).collect();
        std::fs::write(dir.path().join("events"), events.concat()).expect("written");
        // Not settled: a published head would be a round that takes the bundle along.
        let appended = Command::new(env!("CARGO_BIN_EXE_logwood"))
            .args(["append", "--settle-within", "0", "--server", &server.url, "--client-state", "state", "events"])
            .current_dir(dir.path())
            .output()
            .expect("append runs");
        assert!(appended.status.success(), "{}", String::from_utf8_lossy(&appended.stderr));
    };
    let unpacked = || {
        let store = RocksStore::open_read_only(&data.join("db")).expect("the store opens");
        store.logs(LogQuery::Name("default")).expect("readable").remove(0).unpacked
    };
    // No tick comes between the last entry and the kill: its round would take the bundle along.
    let rarely = [("LOGWOOD_PUBLISH_INTERVAL_MS", "3600000")];
    let server = Server::start_with(&data, 0, &[], &rarely);
    append(&server, 0..200);
    append(&server, 200..256);
    drop(server);
    assert_eq!(unpacked(), [0], "no round came that could take the bundle along");
    let server = Server::start_with(&data, 0, &[], &rarely);
    append(&server, 256..257);
    append(&server, 257..258);
    drop(server);
    assert!(unpacked().is_empty(), "the next rounds replaced the pieces");
}

/// The root of the tree at every size, from the index of each entry.
fn roots(logged: &HashMap<Bytes, u64>) -> HashMap<u64, Hash> {
    let mut entries: Vec<_> = logged.iter().map(|(entry, index)| (*index, entry)).collect();
    entries.sort_unstable();
    let mut range = CompactRange::new();
    let grow = |(_, entry): (u64, &Bytes)| {
        range.append(Hash::leaf(entry), |_, _| ());
        (range.size().0, range.root())
    };
    entries.into_iter().map(grow).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_entries_survive_ten_kills_once_and_with_good_receipts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::start(dir.path(), 0, &[]);
    let key: VerifierKey = server.vkey.parse().expect("a verifier key");
    let load = Arc::new(Load {
        url: server.url.clone(),
        key: key.clone(),
        stop: AtomicBool::new(false),
        acknowledged: AtomicU64::new(0),
        book: Mutex::default(),
    });
    let writers = vec![
        tokio::spawn(Arc::clone(&load).unary("unary")),
        tokio::spawn(Arc::clone(&load).unary("unary")),
        tokio::spawn(Arc::clone(&load).batches()),
        tokio::spawn(Arc::clone(&load).stream()),
    ];
    for life in 1..=KILLS as u64 {
        let is_loaded = || load.acknowledged.load(Ordering::Relaxed) >= life * ENTRIES_PER_LIFE;
        eventually("entries are acknowledged", is_loaded).await;
        let port = server.port;
        drop(server);
        server = Server::start(dir.path(), port, &[]);
    }
    load.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no writer panics");
    }
    let client = load.client().await.expect("the server answers");
    let book = load.book.lock().await;
    for (entry, receipt) in &book.receipts {
        receipt.verify(entry, &key, None).expect("every acknowledged receipt verifies");
    }
    let size = client.head().await.expect("a head").head.size.0;
    let mut logged = HashMap::new();
    client
        .read_range(0, size, |index, entry| {
            assert!(logged.insert(entry, index.0).is_none(), "an event is in the log twice");
        })
        .await
        .expect("every entry verifies");
    for (entry, index) in book.indices.values() {
        assert_eq!(logged.get(entry), Some(index), "an acknowledged entry is lost");
    }
    let roots = roots(&logged);
    for (_, receipt) in &book.receipts {
        let note = SignedNote::parse(&receipt.checkpoint).expect("a note");
        let head = Checkpoint::parse_text(note.text()).expect("a checkpoint").head;
        assert_eq!(roots.get(&head.size.0), Some(&head.root), "no head was signed that the final log does not extend");
    }

    drop(server);
    let fsck = Command::new(env!("CARGO_BIN_EXE_logwood"))
        .args(["fsck", "--vkey", &key.to_string()])
        .arg(dir.path())
        .output()
        .expect("fsck runs");
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stderr));
}
