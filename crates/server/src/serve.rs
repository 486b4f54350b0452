//! Start and stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use futures_util::StreamExt as _;
use logwood_proto::v1::admin_service_server::AdminServiceServer;
use logwood_proto::v1::log_service_server::LogServiceServer;
use logwood_proto::{Coalesced, v1};
use logwood_sequencer::Level;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::admin::{Admin, create_log};
use crate::anchor::Anchor;
use crate::core::Core;
use crate::nodes::Nodes;
use crate::publisher::{self, WANTED_MAX};
use crate::registry::Registry;
use crate::service::Service;
use crate::slot::{StoreOpener, StoreSlot};
use crate::writer::{self, Command, Shared};

/// The log that a first run makes.
const DEFAULT_LOG: &str = "default";

/// How long calls may take to finish once the server stops, in milliseconds.
const STOP_MS: u64 = 5_000;

/// Flow-control windows: 256 KiB a stream, 1 MiB a connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Streams of one connection at once.
const STREAMS_MAX: u32 = 1_000;

/// What to serve, and where.
pub struct ServeOptions {
    /// The data directory; its `keys/` is made if need be.
    pub data: PathBuf,
    /// Address of the public gRPC service. Port 0 picks a free one.
    pub grpc: SocketAddr,
    /// Path of the admin service's Unix socket.
    pub admin: PathBuf,
    /// The anchor file, better on another disk than the data.
    pub anchor: PathBuf,
    /// What origins of new logs are made from.
    pub public_url: Option<String>,
    /// When heads are published, and what appends wait for.
    pub publishing: PublishOptions,
    /// Opens the store.
    pub opener: StoreOpener,
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
}

impl Default for PublishOptions {
    /// Every second, renewed after 10 minutes; every log acknowledges under signed heads.
    fn default() -> Self {
        Self { interval_ms: 1_000, refresh_ms: 600_000, anchor_every_round: false, acknowledge: BTreeMap::new() }
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
    /// The log `default`.
    pub default_log: v1::LogInfo,
    /// Whether this run made it.
    pub created: bool,
}

/// Why the server did not start, or stopped.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The store cannot be opened.
    #[error("{0}")]
    Store(Box<dyn std::error::Error + Send + Sync>),
    /// A directory, socket or thread could not be made.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The log `default` could not be made or loaded.
    #[error("log `{DEFAULT_LOG}`: {0}")]
    DefaultLog(String),
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
    let keys = options.data.join("keys");
    std::fs::create_dir_all(&keys).map_err(io(format!("make {}", keys.display())))?;
    let slot = StoreSlot::open(options.opener).map_err(ServeError::Store)?;
    // Only now: the store's lock says that no other process of this directory is using the anchor.
    let anchor = Anchor::open(&options.anchor).map_err(io(format!("open the anchor {}", options.anchor.display())))?;
    let Some(store) = slot.get() else { return Err(ServeError::Store("the store is closed".into())) };
    let state = store.state().map_err(|error| ServeError::Store(error.into()))?;
    let shared = Arc::new(Shared {
        slot,
        nodes: Nodes::new(),
        registry: Registry::new(keys),
        halted: AtomicBool::new(false),
        epoch: AtomicU64::new(0),
        anchor,
        anchor_every_round: options.publishing.anchor_every_round,
    });
    let commands = writer::start(&shared, store, state.round).map_err(io("start the sequencer's threads"))?;
    let (public_url, publishing) = (options.public_url, options.publishing);
    let (wanted, wants) = mpsc::channel(WANTED_MAX);
    let (inbox, secret) = (Arc::clone(&commands), &state.identity_secret);
    let core = Core::new(Arc::clone(&shared), inbox, secret, public_url, (publishing, wanted));
    let core = Arc::new(core);
    let publisher = tokio::spawn(publisher::run(Arc::clone(&core), wants));

    let (default_log, created) = default_log(&core).await?;
    let listener = TcpListener::bind(options.grpc).await.map_err(io(format!("listen on {}", options.grpc)))?;
    let grpc = listener.local_addr().map_err(io("read the gRPC address"))?;
    // The data directory's lock is held: a socket that is still there is a dead process's.
    match std::fs::remove_file(&options.admin) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io(format!("replace {}", options.admin.display()))(error));
        }
        _ => {}
    }
    let admin = UnixListener::bind(&options.admin).map_err(io(format!("listen on {}", options.admin.display())))?;
    started(&Started { grpc, default_log, created });

    let (stopping, stopped) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        stopping.send_replace(true);
    });
    let outcome = run(&core, listener, admin, stopped).await;

    publish_all(&core).await;
    publisher.abort();
    let (done, flushed) = oneshot::channel();
    let _ = commands.send(Command::Stop(done));
    let _ = tokio::time::timeout(Duration::from_secs(1), flushed).await;
    shared.slot.close();
    let _ = std::fs::remove_file(&options.admin);
    outcome
}

/// Publishes what is not published yet, in one round and one sync, for at most as long as calls may take to finish.
async fn publish_all(core: &Core) {
    let logs = core.shared.registry.all();
    let published = futures_util::future::join_all(logs.iter().map(|log| async {
        if let Err(status) = publisher::publish(core, log).await {
            tracing::warn!(log = log.settings.name, %status, "the last head was not published");
        }
    }));
    if tokio::time::timeout(Duration::from_millis(STOP_MS / 2), published).await.is_err() {
        tracing::warn!("not every last head was published in time; they are once their logs are touched again");
    }
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

async fn run(
    core: &Arc<Core>,
    listener: TcpListener,
    admin: UnixListener,
    stopped: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<LogServiceServer<Service>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were compiled with the services");
    let service = LogServiceServer::new(Service(Arc::clone(core)))
        .max_decoding_message_size(logwood_proto::BATCH_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(logwood_proto::ANSWER_BYTES_MAX);
    let server = |stopped: &watch::Receiver<bool>| {
        let mut stopped = stopped.clone();
        let stop = async move {
            let _ = stopped.wait_for(|&stopped| stopped).await;
        };
        let server = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .tcp_nodelay(true);
        (server, stop)
    };
    // The builder's own setting does not reach the sockets of a listener that it is given.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let incoming = incoming.map(|io| io.map(Coalesced::new));
    let (mut public, stop_public) = server(&stopped);
    let public = public
        .add_service(service)
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming_shutdown(incoming, stop_public);
    let (mut private, stop_private) = server(&stopped);
    let private = private
        .add_service(AdminServiceServer::new(Admin(Arc::clone(core))))
        .serve_with_incoming_shutdown(UnixListenerStream::new(admin), stop_private);

    let mut deadline = stopped;
    let deadline = async move {
        let _ = deadline.wait_for(|&stopped| stopped).await;
        tokio::time::sleep(Duration::from_millis(STOP_MS)).await;
    };
    tokio::select! {
        outcome = async { tokio::try_join!(public, private) } => { outcome?; }
        // Streams that do not end by themselves (followers, watchers) are cut off here.
        () = deadline => tracing::info!("some calls did not end in time; closing"),
    }
    Ok(())
}
