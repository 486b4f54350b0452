//! A server in the test's own process, on a disk that the test commands.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use logwood_merkle::{LeafIndex, TileId};
use logwood_proto::v1::log_service_client::LogServiceClient;
use logwood_server::{LimitSettings, Limits, PublishOptions, ServeOptions, Started, serve};
use logwood_store::{
    CommitError, Entry, HeadQuery, IndexRow, IndexRows, LogNumber, LogQuery, LogRecord, LogStore, Lookup, MemoryDisk,
    MemoryStore, PublishedHead, ReadError, Round, StoreState,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// A disk that can be full, and damaged.
#[derive(Clone)]
pub(crate) struct Disk {
    memory: MemoryDisk,
    pub(crate) is_full: Arc<AtomicBool>,
    pub(crate) free: Arc<AtomicU64>,
    /// How often somebody looked at that.
    pub(crate) looks: Arc<AtomicU64>,
    /// What opening it takes.
    pub(crate) opening: Arc<AtomicU64>,
    /// How many rounds were committed.
    pub(crate) committed: Arc<AtomicU64>,
    /// How often its store was opened.
    pub(crate) opened: Arc<AtomicU64>,
    /// How often a log was loaded from it.
    pub(crate) loaded: Arc<AtomicU64>,
    /// Number of the log whose published heads cannot be read; `u64::MAX` for none.
    pub(crate) heads_damaged_of: Arc<AtomicU64>,
    /// Nothing can be looked up.
    pub(crate) is_index_damaged: Arc<AtomicBool>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            memory: MemoryDisk::default(),
            committed: Arc::default(),
            is_full: Arc::default(),
            free: Arc::new(AtomicU64::new(1 << 30)),
            looks: Arc::default(),
            opening: Arc::new(AtomicU64::new(64 << 20)),
            opened: Arc::default(),
            loaded: Arc::default(),
            heads_damaged_of: Arc::new(AtomicU64::new(u64::MAX)),
            is_index_damaged: Arc::default(),
        }
    }
}

struct Store {
    inner: MemoryStore,
    disk: Disk,
}

fn damaged<T>(what: &str) -> Result<T, ReadError> {
    Err(ReadError::Corrupt { what: what.to_owned() })
}

impl LogStore for Store {
    fn commit(&self, round: &Round) -> Result<(), CommitError> {
        if self.disk.is_full.load(Ordering::SeqCst) {
            return Err(CommitError::Unknown { source: io::Error::from(io::ErrorKind::StorageFull).into() });
        }
        let committed = self.inner.commit(round);
        self.disk.committed.fetch_add(u64::from(committed.is_ok()), Ordering::SeqCst);
        committed
    }

    fn state(&self) -> Result<StoreState, ReadError> {
        self.inner.state()
    }

    fn logs(&self, query: LogQuery<'_>) -> Result<Vec<LogRecord>, ReadError> {
        if matches!(query, LogQuery::Name(_)) {
            self.disk.loaded.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.logs(query)
    }

    fn entries(&self, log: LogNumber, first: LeafIndex, end: LeafIndex, max: usize) -> Result<Vec<Entry>, ReadError> {
        self.inner.entries(log, first, end, max)
    }

    fn bundle(&self, log: LogNumber, index: u64) -> Result<Option<Bytes>, ReadError> {
        self.inner.bundle(log, index)
    }

    fn tiles(&self, log: LogNumber, tiles: &[TileId]) -> Result<Vec<Option<Bytes>>, ReadError> {
        self.inner.tiles(log, tiles)
    }

    fn find(&self, log: LogNumber, lookups: &[Lookup]) -> Result<Vec<Option<LeafIndex>>, ReadError> {
        if self.disk.is_index_damaged.load(Ordering::SeqCst) {
            return damaged("the look-up index");
        }
        self.inner.find(log, lookups)
    }

    fn heads(&self, log: LogNumber, query: HeadQuery, heads_max: usize) -> Result<Vec<PublishedHead>, ReadError> {
        if self.disk.heads_damaged_of.load(Ordering::SeqCst) == u64::from(log.0) {
            return damaged("a published head");
        }
        self.inner.heads(log, query, heads_max)
    }
}

impl IndexRows for Store {
    fn visit_index(&self, log: LogNumber, visit: &mut dyn FnMut(IndexRow)) -> Result<(), ReadError> {
        self.inner.visit_index(log, visit)
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// An orderly end, after which another server may have the disk.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.task.await.expect("an orderly end");
    }
}

/// A server on `disk`, and a client.
pub(crate) async fn start(
    disk: &Disk,
    data: &Path,
    settings: (LimitSettings, PublishOptions),
) -> (Running, LogServiceClient<Channel>) {
    let (running, channel) = start_and_connect(disk, data, settings).await;
    (running, LogServiceClient::new(channel))
}

/// As [`start`], with a channel for whatever client.
pub(crate) async fn start_and_connect(
    disk: &Disk,
    data: &Path,
    settings: (LimitSettings, PublishOptions),
) -> (Running, Channel) {
    let options = options(disk, data, settings);
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    let task = tokio::spawn(async move {
        let tell = move |started: &Started| tell.send(started.grpc).expect("the test waits");
        serve(options, tell, async { drop(stopped.await) }).await.expect("serves");
    });
    let address = told.await.expect("starts");
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    (Running { stop, task }, endpoint.connect().await.expect("it listens"))
}

/// What a server on `disk` is started with.
pub(crate) fn options(disk: &Disk, data: &Path, (limits, publishing): (LimitSettings, PublishOptions)) -> ServeOptions {
    let (opening, free, opening_bytes) = (disk.clone(), Arc::clone(&disk.free), Arc::clone(&disk.opening));
    let looks = Arc::clone(&disk.looks);
    ServeOptions {
        data: data.to_owned(),
        grpc: "127.0.0.1:0".parse().expect("an address"),
        http: None,
        http_append: false,
        tls: None,
        admin: data.join("admin.sock"),
        anchor: data.join("ANCHOR"),
        public_url: None,
        publishing,
        opener: Arc::new(move || {
            if opening.is_full.load(Ordering::SeqCst) {
                return Err(io::Error::from(io::ErrorKind::StorageFull).into());
            }
            opening.opened.fetch_add(1, Ordering::SeqCst);
            let inner = MemoryStore::open(&opening.memory)?;
            Ok(Arc::new(Store { inner, disk: opening.clone() }) as Arc<dyn LogStore>)
        }),
        limits: Limits::try_from(limits).expect("valid limits"),
        free_space: Arc::new(move || {
            looks.fetch_add(1, Ordering::SeqCst);
            Ok(free.load(Ordering::SeqCst))
        }),
        opening_bytes: Arc::new(move || opening_bytes.load(Ordering::SeqCst)),
    }
}
