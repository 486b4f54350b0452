//! `logwood serve`: the server on the embedded store.

mod environment;
mod settings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use logwood_server::{PublishOptions, ServeOptions, Started, StoreOpener};
use logwood_store::LogStore;
use logwood_store_rocksdb::{OpenError, RocksStore};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use settings::{AnchorEvery, Listen, Settings, TornTail};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{anchor, output, repair};

/// Runs the service. A first run on an empty directory makes a log named `default` and prints its verifier key.
///
/// Settings come from defaults, then --config, then the environment (`LOGWOOD_` and the name of the flag, as
/// `LOGWOOD_TLS_CERT`; `LOGWOOD_HTTP__LISTEN` and `LOGWOOD_HTTP__APPEND`; `LOGWOOD_LIMITS__<NAME>`), then flags; the last
/// one counts. The table `[limits]` of the file sets the limits that --print-config shows. Stops on SIGTERM or SIGINT:
/// takes no new calls, answers those that wait, and exits within 10 seconds.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A TOML file of settings; its keys are the names of the flags, and those that docs/settings.md adds.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory: store, keys, admin socket [default: logwood-data].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to serve gRPC; port 0 picks a free one [default: 127.0.0.1:7070]. Beyond the loopback it takes --tls-cert
    /// and --tls-key, or --insecure.
    #[arg(long, value_name = "ADDR")]
    grpc: Option<SocketAddr>,
    /// Where to serve HTTP (tiles, checkpoints, metrics), as --grpc; `off` for nowhere [default: 127.0.0.1:7071].
    #[arg(long, value_name = "ADDR")]
    http: Option<Listen>,
    /// Serve TLS on both, with this certificate chain (PEM).
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Serve only clients that show a certificate under one of these roots (PEM).
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Serve plain text beyond the loopback: whoever is on the way can read and change it.
    #[arg(long)]
    insecure: bool,
    /// The Unix socket of the admin service [default: admin.sock in the data directory].
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
    /// The anchor: the newest published head of each log, which keeps an old copy of the data directory from signing.
    /// Better on another disk [default: ANCHOR in the data directory].
    #[arg(long, value_name = "PATH")]
    anchor: Option<PathBuf>,
    /// What a start does about a write-ahead log that ends in a damaged record, after a power cut perhaps: stop, or do
    /// what `logwood repair --drop-torn-tail` does [default: refuse].
    #[arg(long, value_name = "WHAT")]
    torn_tail: Option<TornTail>,
    /// Let this witness, by its name in a log's policy, say what it likes: the log signs although the witness claims to
    /// know more of it. For a witness that is known to be wrong; it is still asked. Repeatable; in
    /// `LOGWOOD_DISTRUST_WITNESS`, names are parted by spaces.
    #[arg(long, value_name = "NAME")]
    distrust_witness: Vec<String>,
    /// What the origins of new logs are made from, for example `https://logs.example.com`.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Print the settings that would be used, as TOML, and stop.
    #[arg(long)]
    print_config: bool,
}

/// Serves until a signal comes.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(args)?;
    if args.print_config {
        output::bytes(toml::to_string(&settings)?.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .init();
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(settings))?;
    Ok(ExitCode::SUCCESS)
}

/// Raises the soft limit of open files to the hard one. The usual soft limit, 1,024, is what the store alone may open.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let limits = settings.limits()?;
    let tls = settings.tls()?;
    let (data, named, torn_tail) = (settings.data.clone(), settings.anchor.clone(), settings.torn_tail);
    let witnesses = settings.witnesses()?;
    for name in &settings.distrust_witness {
        tracing::warn!(witness = name, "distrusted by the operator: it does not keep a log from signing");
    }
    let opener: StoreOpener = Arc::new(move || {
        let store: Arc<dyn LogStore> = Arc::new(open(&data, named.as_deref(), torn_tail)?);
        Ok(store)
    });
    let levels = settings.logs.iter().filter_map(|(name, log)| Some((name.clone(), log.acknowledge?.into())));
    let acknowledge = levels.collect();
    let db = settings.data.join("db");
    let admin = settings.admin.unwrap_or_else(|| settings.data.join("admin.sock"));
    let anchor = settings.anchor.unwrap_or_else(|| settings.data.join("ANCHOR"));
    let options = ServeOptions {
        limits,
        free_space: logwood_server::free_space(settings.data.clone()),
        opening_bytes: Arc::new(move || RocksStore::opening_bytes(&db)),
        data: settings.data,
        grpc: settings.grpc,
        http: settings.http.listen.0,
        http_append: settings.http.append,
        tls,
        admin,
        anchor,
        public_url: settings.public_url,
        publishing: PublishOptions {
            interval_ms: settings.publish_interval_ms,
            refresh_ms: settings.refresh_interval_ms,
            anchor_every_round: settings.anchor_every == AnchorEvery::Round,
            acknowledge,
            witnesses,
        },
        opener,
    };
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

/// Opens the store in the data directory `data`. If the settings say so, a damaged last record is cut off first.
fn open(data: &Path, anchor: Option<&Path>, torn_tail: TornTail) -> anyhow::Result<RocksStore> {
    let db = data.join("db");
    if !repair::unfrozen(&db)?.is_empty() {
        anyhow::bail!("a repair that accepts a loss was interrupted: run `logwood repair --rebuild-index` again");
    }
    match RocksStore::open(&db) {
        Err(OpenError::TornTail { .. }) if torn_tail == TornTail::Repair => {
            let dropped = repair::drop_torn_tail(&db, &anchor::read(data, anchor)?, false)?;
            let (bytes, round, copy) = (dropped.bytes, dropped.round, dropped.copy.display());
            tracing::warn!(bytes, round, %copy, "a damaged last record was cut off the write-ahead log; a copy is kept");
            Ok(RocksStore::open(&db)?)
        }
        opened => Ok(opened?),
    }
}

/// One line a fact on standard output, so that scripts can wait for it. Where nobody can read them, it is served all the
/// same.
fn announce(started: &Started) {
    let log = &started.default_log;
    let made = started.created.then(|| format!("made log `{}`, origin {}", log.name, log.origin));
    let vkeys = log.vkeys.iter().map(|vkey| format!("vkey {vkey}"));
    let http = started.http.map(|http| format!("serving HTTP on {http}"));
    let lines = made.into_iter().chain(vkeys).chain(http).chain([format!("serving gRPC on {}", started.grpc)]);
    for line in lines {
        if let Err(error) = output::line(&line) {
            return tracing::warn!(error = format!("{error:#}"), line, "cannot be announced");
        }
    }
}
