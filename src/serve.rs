//! `logwood serve`: the server on the embedded store.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use logwood_server::{ServeOptions, Started, StoreOpener};
use logwood_store::LogStore;
use logwood_store_rocksdb::RocksStore;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the service. A first run on an empty directory makes a log named `default` and prints its verifier key.
///
/// Stops on SIGTERM or SIGINT: takes no new calls, answers those that wait, and exits within 10 seconds.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The data directory: store, keys, admin socket.
    #[arg(long, value_name = "DIR", default_value = "logwood-data", env = "LOGWOOD_DATA")]
    data: PathBuf,
    /// Where to serve gRPC. Port 0 picks a free one. There is no TLS yet: keep it on the loopback.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070", env = "LOGWOOD_GRPC")]
    grpc: SocketAddr,
    /// The Unix socket of the admin service [default: admin.sock in the data directory].
    #[arg(long, value_name = "PATH", env = "LOGWOOD_ADMIN")]
    admin: Option<PathBuf>,
    /// The anchor: the newest published head of each log, which keeps an old copy of the data directory from signing.
    /// Better on another disk [default: ANCHOR in the data directory].
    #[arg(long, value_name = "PATH", env = "LOGWOOD_ANCHOR")]
    anchor: Option<PathBuf>,
    /// What the origins of new logs are made from, for example `https://logs.example.com`.
    #[arg(long, value_name = "URL", env = "LOGWOOD_PUBLIC_URL")]
    public_url: Option<String>,
}

/// Serves until a signal comes.
pub(crate) fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .init();
    anyhow::ensure!(
        args.grpc.ip().is_loopback(),
        "--grpc {}: without TLS only loopback addresses are served",
        args.grpc
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let db = args.data.join("db");
    let opener: StoreOpener = Arc::new(move || {
        let store: Arc<dyn LogStore> = Arc::new(RocksStore::open(&db)?);
        Ok(store)
    });
    let admin = args.admin.unwrap_or_else(|| args.data.join("admin.sock"));
    let anchor = args.anchor.unwrap_or_else(|| args.data.join("ANCHOR"));
    let options = ServeOptions { data: args.data, grpc: args.grpc, admin, anchor, public_url: args.public_url, opener };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    logwood_server::serve(options, announce, stop).await?;
    Ok(())
}

/// One line a fact on standard output, so that scripts can wait for it.
fn announce(started: &Started) {
    if started.created {
        println!("made log `{}`, origin {}", started.default_log.name, started.default_log.origin);
    }
    for vkey in &started.default_log.vkeys {
        println!("vkey {vkey}");
    }
    println!("serving gRPC on {}", started.grpc);
}
