//! Start and stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use logwood_proto::v1;
use logwood_sequencer::Level;
use logwood_store::{LogNumber, LogQuery, LogStore, ReadError};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::admin::create_log;
use crate::anchor::Anchor;
use crate::bounds::Bounds;
use crate::core::Core;
use crate::disk::{DiskReserve, FreeSpace, OpeningBytes, is_disk_full};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::publisher::{self, WANTED_MAX};
use crate::registry::Registry;
use crate::slot::{StoreOpener, StoreSlot};
use crate::tls::{Tls, TlsError, TlsFiles};
use crate::transport::{self, Listeners};
use crate::wake::wake;
use crate::witnesses::{WitnessOptions, Witnesses};
use crate::writer::{self, Command, Shared};

/// The log that a first run makes.
const DEFAULT_LOG: &str = "default";

/// How long publishing the last heads may take, once every call has ended.
const LAST_HEADS: Duration = Duration::from_millis(2_500);

/// What to serve, and where.
pub struct ServeOptions {
    /// The data directory; its `keys/` is made if need be.
    pub data: PathBuf,
    /// Address of the public gRPC service. Port 0 picks a free one.
    pub grpc: SocketAddr,
    /// Path of the admin service's Unix socket.
    pub admin: PathBuf,
    /// Address of the HTTP API. Port 0 picks a free one; `None`: there is none.
    pub http: Option<SocketAddr>,
    /// Whether `POST /logs/<name>/add` appends.
    pub http_append: bool,
    /// Certificate and key of both listeners. `None`: plain text.
    pub tls: Option<TlsFiles>,
    /// The anchor file, better on another disk than the data.
    pub anchor: PathBuf,
    /// What origins of new logs are made from.
    pub public_url: Option<String>,
    /// When heads are published, and what appends wait for.
    pub publishing: PublishOptions,
    /// Opens the store.
    pub opener: StoreOpener,
    /// Every limit.
    pub limits: Limits,
    /// Says how much disk is free where the data is.
    pub free_space: FreeSpace,
    /// Says how much must be free there before the store is opened, also if there is no reserve: opening writes.
    pub opening_bytes: OpeningBytes,
}

/// When heads are published, and what appends wait for.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// How often a log that grows is published, in milliseconds; at least 1.
    pub interval_ms: u64,
    /// How long after a publication the signatures of a head that tell its age are renewed, in milliseconds; 0: never.
    pub refresh_ms: u64,
    /// Whether the anchor is written in every round, before its heads are signed, and not only when one is published:
    /// one more sync a round, so that no old copy of the directory can sign anything that contradicts a receipt.
    pub anchor_every_round: bool,
    /// Logs that acknowledge at another level than [`Level::Signed`], by name.
    pub acknowledge: BTreeMap<String, Level>,
    /// Who cosigns published heads.
    pub witnesses: WitnessOptions,
}

impl Default for PublishOptions {
    /// Every second, renewed after 10 minutes; every log acknowledges under signed heads, and none has witnesses.
    fn default() -> Self {
        Self {
            interval_ms: 1_000,
            refresh_ms: 600_000,
            anchor_every_round: false,
            acknowledge: BTreeMap::new(),
            witnesses: WitnessOptions::default(),
        }
    }
}

impl PublishOptions {
    /// What an append to this log waits for.
    pub(crate) fn acknowledge(&self, log: &str) -> Level {
        self.acknowledge.get(log).copied().unwrap_or_default()
    }
}

/// What a started server says of itself.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where the public gRPC service listens.
    pub grpc: SocketAddr,
    /// Where the HTTP API listens.
    pub http: Option<SocketAddr>,
    /// The log `default`.
    pub default_log: v1::LogInfo,
    /// Whether this run made it.
    pub created: bool,
}

/// Why the server did not start, or stopped.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(Box<dyn std::error::Error + Send + Sync>),
    /// The disk is full: the store was not opened, or not wholly.
    #[error(
        "the disk of {data} is full: {free_mib} MiB are free, and a start needs {opening_mib} MiB. Nothing is lost: free some \
         space, and start again",
        data = data.display()
    )]
    DiskFull {
        /// The data directory.
        data: PathBuf,
        /// What is free, in MiB.
        free_mib: u64,
        /// What must be, in MiB.
        opening_mib: u64,
    },
    /// A directory, socket or thread could not be made.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The anchor is damaged: what the logs signed last is not known.
    #[error(
        "the anchor {path} is damaged, so that nobody knows what the logs have signed: put a whole copy of it in its \
         place, or move it away; the logs are then read-only until `logwood logs thaw` has compared each with the \
         checkpoints that others hold",
        path = path.display()
    )]
    Anchor {
        /// The file. Nothing was written to it.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// The log `default` could not be made or loaded.
    #[error("log `{DEFAULT_LOG}`: {0}")]
    DefaultLog(String),
    /// Certificate or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Witnesses cannot be asked.
    #[error("witnesses cannot be asked over TLS: {0}")]
    Witnesses(#[source] reqwest::Error),
    /// The transport failed.
    #[error("the gRPC transport failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> ServeError {
    move |source| ServeError::Io { action: action.into(), source }
}

/// Serves until `stop` resolves; then stops accepting, answers what is queued, and closes the store.
///
/// * `started` - called once, when the sockets listen.
///
/// # Errors
///
/// [`ServeError`], with what to do in its text.
pub async fn serve(
    options: ServeOptions,
    started: impl FnOnce(&Started),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let tls = options.tls.as_ref().map(Tls::load).transpose()?;
    // First of all: an occupied port leaves nothing behind.
    let grpc = bind(options.grpc).await?;
    let http = match options.http {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let address = |listener: &TcpListener| listener.local_addr().map_err(io("read the address of a listener"));
    let addresses = (address(&grpc)?, http.as_ref().map(address).transpose()?);
    let keys = options.data.join("keys");
    std::fs::create_dir_all(&keys).map_err(io(format!("make {}", keys.display())))?;
    let slot = open_store(&options)?;
    let Some(store) = slot.get() else { return Err(ServeError::Store("the store is closed".into())) };
    let state = store.state().map_err(|error| ServeError::Store(error.into()))?;
    // Only now: the store's lock says that no other process of this directory is using the anchor or the socket.
    let anchor = open_anchor(&options.anchor, &*store)?;
    let admin = bind_admin(&options.admin)?;
    let disk = Arc::new(disk_reserve(&options));
    let shared = Arc::new(shared(&options, keys, slot, (anchor, Arc::clone(&disk))));
    let (stopping, stopped) = watch::channel(false);
    let commands = writer::start(&shared, store, state.round).map_err(io("start the sequencer's threads"))?;
    let bounds = Bounds::new(options.limits, Arc::clone(&disk), stopped);
    let (public_url, publishing) = (options.public_url, options.publishing);
    let (tell, told) = mpsc::channel(WANTED_MAX);
    let witnesses = Witnesses::new(publishing.witnesses.clone(), Arc::clone(&shared), tell.clone());
    let publishing = (publishing, witnesses.map_err(ServeError::Witnesses)?, tell);
    let (inbox, secret) = (Arc::clone(&commands), &state.identity_secret);
    let core = Arc::new(Core::new(Arc::clone(&shared), bounds, inbox, secret, public_url, publishing));
    let publisher = tokio::spawn(publisher::run(Arc::clone(&core), told));

    let (default_log, created) = match default_log(&core).await {
        Ok(made) => made,
        Err(error) => {
            end([publisher]).await;
            return Err(error);
        }
    };
    started(&Started { grpc: addresses.0, http: addresses.1, default_log, created });

    let disk = tokio::spawn(disk.watch());
    let waking = tokio::spawn(wake(Arc::clone(&core)));
    tokio::spawn(async move {
        stop.await;
        stopping.send_replace(true);
    });
    let listeners = Listeners { grpc, http, admin, http_append: options.http_append, tls };
    let outcome = Box::pin(transport::run(&core, listeners)).await;

    publish_all(&core).await;
    end([disk, waking, publisher]).await;
    let (done, flushed) = oneshot::channel();
    let _ = commands.send(Command::Stop(done));
    let _ = tokio::time::timeout(Duration::from_secs(1), flushed).await;
    shared.slot.close();
    let _ = std::fs::remove_file(&options.admin);
    outcome
}

/// What the threads and the readers share when nothing has happened yet.
fn shared(
    options: &ServeOptions,
    keys: PathBuf,
    slot: StoreSlot,
    (anchor, disk): (Anchor, Arc<DiskReserve>),
) -> Shared {
    Shared {
        slot,
        nodes: Nodes::new(),
        registry: Registry::new(keys),
        halted: watch::Sender::new(false),
        epoch: AtomicU64::new(0),
        anchor,
        anchor_every_round: options.publishing.anchor_every_round,
        disk,
        round: options.limits.round(),
        metrics: Arc::new(Metrics::new()),
        crowded: Notify::new(),
    }
}

/// Ends tasks, and waits until they have: one that still blocks in place when the runtime goes finds no timers afterwards,
/// and panics.
async fn end<const N: usize>(tasks: [JoinHandle<()>; N]) {
    tasks.iter().for_each(JoinHandle::abort);
    for task in tasks {
        // It was cancelled, or is over.
        let _ = task.await;
    }
}

fn disk_reserve(options: &ServeOptions) -> DiskReserve {
    let (free, opening) = (Arc::clone(&options.free_space), Arc::clone(&options.opening_bytes));
    DiskReserve::new(options.limits.disk_reserve_bytes(), free, opening)
}

/// Opens the store, if there is room for what that writes.
fn open_store(options: &ServeOptions) -> Result<StoreSlot, ServeError> {
    let opening = (options.opening_bytes)();
    let full = |free: u64| ServeError::DiskFull {
        data: options.data.clone(),
        free_mib: free >> 20,
        opening_mib: opening.div_ceil(1 << 20),
    };
    match (options.free_space)() {
        Ok(free) if free < opening => return Err(full(free)),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the free disk space cannot be read"),
    }
    StoreSlot::open(Arc::clone(&options.opener)).map_err(|error| {
        if is_disk_full(&*error) { full((options.free_space)().unwrap_or(0)) } else { ServeError::Store(error) }
    })
}

/// Opens the anchor, and says so if it should know logs and knows none.
fn open_anchor(path: &Path, store: &dyn LogStore) -> Result<Anchor, ServeError> {
    let failed = |error: ReadError| ServeError::Store(error.into());
    let size = |log: &str| {
        let record = store.logs(LogQuery::Name(log)).map_err(std::io::Error::other)?.pop();
        Ok(record.map(|record| record.head.head.size))
    };
    let anchor = Anchor::open(path, size).map_err(|source| match source.kind() {
        std::io::ErrorKind::InvalidData => ServeError::Anchor { path: path.to_owned(), source },
        _ => io(format!("open the anchor {}", path.display()))(source),
    })?;
    if anchor.is_empty() && store.state().map_err(failed)?.next_log > LogNumber(0) {
        tracing::error!(
            anchor = %path.display(),
            "the anchor knows no log: was it moved or lost? Logs that have signed heads are read-only until it is back, \
             or until `logwood logs thaw` has compared each with the checkpoints that others hold"
        );
    }
    Ok(anchor)
}

/// Publishes what is not published yet, in one round and one sync, for at most as long as calls may take to finish.
async fn publish_all(core: &Core) {
    let logs = core.shared.registry.all();
    let published = futures_util::future::join_all(logs.iter().map(|log| async {
        if let Err(status) = publisher::publish(core, log).await {
            tracing::warn!(log = log.settings.name, %status, "the last head was not published");
        }
    }));
    if tokio::time::timeout(LAST_HEADS, published).await.is_err() {
        tracing::warn!("not every last head was published in time; they are once their logs are touched again");
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(io(format!("listen on {address}")))
}

/// The data directory's lock is held: a socket that is still there is a dead process's.
fn bind_admin(path: &Path) -> Result<UnixListener, ServeError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io(format!("replace {}", path.display()))(error));
        }
        _ => {}
    }
    UnixListener::bind(path).map_err(io(format!("listen on {}", path.display())))
}

/// The log `default`: made on a first run.
async fn default_log(core: &Core) -> Result<(v1::LogInfo, bool), ServeError> {
    let failed = |status: tonic::Status| ServeError::DefaultLog(status.message().to_owned());
    match tokio::task::block_in_place(|| core.log(DEFAULT_LOG)) {
        Ok(log) => Ok((Core::info(&log), false)),
        Err(status) if status.code() == tonic::Code::NotFound => {
            let request = v1::CreateLogRequest { log: DEFAULT_LOG.into(), ..Default::default() };
            let log = create_log(core, &request).await.map_err(failed)?;
            Ok((Core::info(&log), true))
        }
        Err(status) => Err(failed(status)),
    }
}
