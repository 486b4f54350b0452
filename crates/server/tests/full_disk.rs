//! A disk that fills up: the log halts, reads go on, and appends are taken again once there is room.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use logwood_merkle::{LeafIndex, TileId};
use logwood_proto::v1;
use logwood_proto::v1::log_service_client::LogServiceClient;
use logwood_server::{LimitSettings, Limits, PublishOptions, ServeOptions, Started, serve};
use logwood_store::{
    CommitError, Entry, HeadQuery, IndexRow, LogNumber, LogQuery, LogRecord, LogStore, Lookup, MemoryDisk, MemoryStore,
    PublishedHead, ReadError, Round, StoreState,
};
use tokio::sync::oneshot;
use tonic::transport::Channel;
use tonic::{Code, Status};

const GIB: u64 = 1 << 30;

/// A disk that can be full, and how often its store was opened.
#[derive(Clone, Default)]
struct Disk {
    memory: MemoryDisk,
    is_full: Arc<AtomicBool>,
    free: Arc<AtomicU64>,
    opened: Arc<AtomicU64>,
}

struct Store {
    inner: MemoryStore,
    is_full: Arc<AtomicBool>,
}

impl LogStore for Store {
    fn commit(&self, round: &Round) -> Result<(), CommitError> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(CommitError::Unknown { source: io::Error::from(io::ErrorKind::StorageFull).into() });
        }
        self.inner.commit(round)
    }

    fn state(&self) -> Result<StoreState, ReadError> {
        self.inner.state()
    }

    fn logs(&self, query: LogQuery<'_>) -> Result<Vec<LogRecord>, ReadError> {
        self.inner.logs(query)
    }

    fn entries(&self, log: LogNumber, first: LeafIndex, end: LeafIndex, max: usize) -> Result<Vec<Entry>, ReadError> {
        self.inner.entries(log, first, end, max)
    }

    fn tiles(&self, log: LogNumber, tiles: &[TileId]) -> Result<Vec<Option<Bytes>>, ReadError> {
        self.inner.tiles(log, tiles)
    }

    fn find(&self, log: LogNumber, lookups: &[Lookup]) -> Result<Vec<Option<LeafIndex>>, ReadError> {
        self.inner.find(log, lookups)
    }

    fn heads(&self, log: LogNumber, query: HeadQuery, heads_max: usize) -> Result<Vec<PublishedHead>, ReadError> {
        self.inner.heads(log, query, heads_max)
    }

    fn visit_index(&self, log: LogNumber, visit: &mut dyn FnMut(IndexRow)) -> Result<(), ReadError> {
        self.inner.visit_index(log, visit)
    }
}

/// A server on `disk`; it stops when the sender is dropped.
async fn start(disk: &Disk, data: &std::path::Path) -> (oneshot::Sender<()>, LogServiceClient<Channel>) {
    let (opening, free) = (disk.clone(), Arc::clone(&disk.free));
    let limits = LimitSettings { disk_reserve_mib: 0, ..LimitSettings::default() };
    let options = ServeOptions {
        data: data.to_owned(),
        grpc: "127.0.0.1:0".parse().expect("an address"),
        admin: data.join("admin.sock"),
        anchor: data.join("ANCHOR"),
        public_url: None,
        publishing: PublishOptions::default(),
        opener: Arc::new(move || {
            opening.opened.fetch_add(1, Ordering::SeqCst);
            let inner = MemoryStore::open(&opening.memory)?;
            Ok(Arc::new(Store { inner, is_full: Arc::clone(&opening.is_full) }) as Arc<dyn LogStore>)
        }),
        limits: Limits::try_from(limits).expect("valid limits"),
        free_space: Arc::new(move || Ok(free.load(Ordering::SeqCst))),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let tell = move |started: &Started| tell.send(started.grpc).expect("the test waits");
        serve(options, tell, async { drop(stopped.await) }).await.expect("serves");
    });
    let address = told.await.expect("starts");
    (stop, LogServiceClient::connect(format!("http://{address}")).await.expect("it listens"))
}

async fn append(rpc: &mut LogServiceClient<Channel>, entry: &'static [u8]) -> Result<u64, Status> {
    let entry = Bytes::from_static(entry);
    let request = v1::AppendRequest { log: "default".into(), entry, ..Default::default() };
    Ok(rpc.append(request).await?.into_inner().index)
}

async fn read(rpc: &mut LogServiceClient<Channel>) -> Result<Bytes, Status> {
    let by = Some(v1::get_entry_request::By::Index(0));
    let request = v1::GetEntryRequest { log: "default".into(), by, ..Default::default() };
    Ok(rpc.get_entry(request).await?.into_inner().entry)
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_while_a_full_disk_halts_the_log_and_it_heals_once_there_is_room() {
    let data = tempfile::tempdir().expect("a directory");
    let disk = Disk::default();
    disk.free.store(GIB, Ordering::SeqCst);
    let (_stop, mut rpc) = start(&disk, data.path()).await;
    assert_eq!(append(&mut rpc, b"before").await.expect("logged"), 0);

    disk.free.store(0, Ordering::SeqCst);
    disk.is_full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(append(&mut rpc, b"no room").await.expect_err("the disk is full").code(), Code::Unavailable);
        assert_eq!(read(&mut rpc).await.expect("reads go on"), &b"before"[..]);
    }
    assert_eq!(disk.opened.load(Ordering::SeqCst), 1, "the store is not closed while it could not be opened again");

    disk.is_full.store(false, Ordering::SeqCst);
    disk.free.store(GIB, Ordering::SeqCst);
    // The server looks every two seconds, also while it is asked all the time.
    let index = loop {
        match append(&mut rpc, b"after").await {
            Ok(index) => break index,
            Err(status) => assert_eq!(status.code(), Code::Unavailable),
        }
    };
    assert_eq!(index, 1, "nothing that was refused is there");
    assert_eq!(read(&mut rpc).await.expect("served"), &b"before"[..]);
    assert_eq!(disk.opened.load(Ordering::SeqCst), 2);
}
