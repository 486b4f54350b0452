//! `logwood witness`: a tlog-witness server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use logwood_monitor::witness::{self, ServeOptions, StateDirectory, Witness};
use logwood_note::policy::POLICY_BYTES_MAX;
use logwood_note::{CosigningKey, Policy};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::failure::Usage;
use crate::{files, output};

/// Runs a witness: it cosigns the checkpoints of logs that only ever grew.
///
/// `POST /add-checkpoint` and `GET /<hex SHA-256 of the origin>/checkpoint` are as C2SP tlog-witness has them;
/// `GET /healthz` says that it runs. A request has at most 131,072 bytes and 63 proof hashes, and a log gets at most 10
/// new checkpoints a second cosigned. There is no TLS: put a proxy in front of it that has. Nothing secret is sent, and
/// a cosignature is verified by whoever uses it.
///
/// What was cosigned is synced to the state directory before it is answered. Never copy that directory, nor restore an
/// old one beside the same key: a witness that forgot what it cosigned can cosign a fork. If the directory is lost, make
/// a new key.
///
/// Prints a line `vkey ...` for each key, then `serving HTTP on ADDR`. Messages go to standard error; `RUST_LOG` sets how
/// many (`info` by default). Stops on SIGTERM or SIGINT, within 10 seconds.
///
/// Exit status: 0 stopped by a signal, 1 failed, 2 usage.
#[derive(Debug, Args)]
pub(crate) struct WitnessArgs {
    /// Where to serve HTTP; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7072")]
    listen: SocketAddr,
    /// The state directory: one file a log. It is made if it is not there. One process at a time may use it.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// A private key of type 0x04 (Ed25519 cosignatures) or 0x06 (ML-DSA-44), mode 0600. With several, every answer
    /// holds a cosignature of each.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    key: Vec<PathBuf>,
    /// A tlog-policy file that lists the logs: `log <vkey>` lines, and `quorum none`.
    #[arg(long, value_name = "POLICY")]
    logs: PathBuf,
    /// Messages as one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Serves until a signal comes.
///
/// # Errors
///
/// A policy that asks for witnesses, or names no log, is a usage error.
pub(crate) fn run(args: &WitnessArgs) -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if args.json {
        log.json().init();
    } else {
        log.init();
    }
    let policy = policy(args)?;
    let keys = args.key.iter().map(CosigningKey::load).collect::<Result<Vec<_>, _>>()?;
    let witness = Witness::open(keys, &policy, StateDirectory::open(&args.state)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(witness, args.listen))?;
    Ok(ExitCode::SUCCESS)
}

fn policy(args: &WitnessArgs) -> anyhow::Result<Policy> {
    let name = args.logs.display();
    let policy = Policy::parse(&files::read(&args.logs, POLICY_BYTES_MAX)?)
        .map_err(|error| Usage { problem: format!("--logs {name}: {error}") })?;
    if policy.needs_witnesses() {
        let problem = format!("--logs {name}: a witness takes logs on their word alone; write `quorum none`");
        return Err(Usage { problem }.into());
    }
    if policy.logs().is_empty() {
        return Err(Usage { problem: format!("--logs {name}: no log is listed; add `log <vkey>` lines") }.into());
    }
    Ok(policy)
}

async fn serve(witness: Witness<StateDirectory>, listen: SocketAddr) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    for key in witness.verifiers() {
        output::line(&format!("vkey {key}"))?;
    }
    tracing::info!(logs = witness.origins().count(), "witnessing");
    output::line(&format!("serving HTTP on {}", listener.local_addr()?))?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    witness::serve(witness, ServeOptions { listener, posix_ms, stop }).await;
    Ok(())
}

/// The clock. 0 before 1970.
fn posix_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}
