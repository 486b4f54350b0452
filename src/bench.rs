//! `logwood bench`: a load, and how fast it is answered.
//!
//! ```text
//! null    the health check: what a call costs that does nothing
//! unary   one entry a call       ─┐
//! batch   1,000 entries a call    ├─> signed head and proof verified before an entry counts
//! stream  entries in any number  ─┘
//! ```
//!
//! A head's signature is judged once for each distinct checkpoint; proofs are judged entry by entry, or run by run.
//! Entries are random bytes, which do not compress.

mod calls;
mod disk;
mod load;
mod stream;
mod tally;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use logwood_client::TlsOptions;
use logwood_proto::v1::DescribeLogRequest;
use logwood_proto::v1::log_service_client::LogServiceClient;
use serde_json::json;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::child::ServerProcess;
use crate::connect::{self, TlsArgs};
use crate::{output, progress};
use load::{Checker, Load};
use tally::{Report, Tally};

/// Shown by `--help`.
const EXAMPLES: &str = "\
Examples:
  logwood bench unary --identities
      Single appends, 256 in flight, to a server of its own. `bench null` tells what the calls alone cost.
  logwood bench unary --in-flight 1
      How long one append takes, beside how long this disk takes to sync.
  logwood bench stream --seconds 60 --server https://log.example:7070 --tls-ca ca.pem
      Another machine's server. The entries stay in its log.
";

/// Puts a load on a server and prints throughput and latency. Every answer is verified before it counts.
///
/// Exit status 0 if every answer verified; 1 if a call failed; 2 for wrong usage; 3 if an answer did not verify.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// What is called.
    kind: Kind,
    /// The server to load: http:// or https://. It keeps the entries for ever. Default: one of its own, in a temporary
    /// directory under `TMPDIR`.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
    /// The log to append to.
    #[arg(long, default_value = "default", value_name = "NAME")]
    log: String,
    /// Calls under way at once; for `stream`, unanswered entries a stream [default: 256; batch 4; stream 16384].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_flight: Option<u32>,
    /// Bytes of an entry.
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    entry_bytes: u32,
    /// How long the load lasts.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Give each entry an identity of its own.
    #[arg(long)]
    identities: bool,
    /// Streams at once, for `stream`.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    streams: u32,
    /// Connections that calls and streams are spread over.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// One JSON object on standard output.
    #[arg(long)]
    json: bool,
}

/// What the tasks of a load count into.
type SharedTally = Arc<Mutex<Tally>>;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The health check, which touches no log.
    Null,
    /// `Append`, with its complete receipt.
    Unary,
    /// `AppendBatch`, 1,000 entries each.
    Batch,
    /// `AppendStream`, with range proofs.
    Stream,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Unary => "unary",
            Self::Batch => "batch",
            Self::Stream => "stream",
        }
    }

    fn default_in_flight(self) -> u32 {
        match self {
            Self::Null | Self::Unary => 256,
            Self::Batch => 4,
            Self::Stream => 16_384,
        }
    }
}

/// Runs the load.
///
/// # Errors
///
/// If there is no server, a call fails, or an answer fails verification.
pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let (url, tls, mut own) = match &args.server {
        Some(url) => (url.clone(), args.tls.options(), None),
        None => OwnServer::start().map(|own| (own.process.url.clone(), TlsOptions::default(), Some(own)))?,
    };
    let in_flight = args.in_flight.unwrap_or_else(|| args.kind.default_in_flight());
    let sync_us = match &own {
        Some(own) if args.kind == Kind::Unary && in_flight == 1 => Some(disk::sync_us(own.dir.path())?),
        _ => None,
    };
    let channels = connect(&url, &tls, args.connections).await?;
    let load = Arc::new(load(&args, &channels).await?);
    let bar = progress::waiting(&format!("{} for {} s", args.kind.name(), args.seconds));
    let began = Instant::now();
    let deadline = began + Duration::from_secs(args.seconds.into());
    let tally = match args.kind {
        Kind::Null => calls::null(&channels, in_flight, deadline).await?,
        Kind::Unary => calls::unary(&channels, &load, in_flight, deadline).await?,
        Kind::Batch => calls::batch(&channels, &load, in_flight, deadline).await?,
        Kind::Stream => stream::run(&channels, &load, args.streams, in_flight, deadline).await?,
    };
    let elapsed = began.elapsed();
    bar.finish_and_clear();
    print(&args, in_flight, &tally.report(elapsed), sync_us)?;
    if let Some(own) = &mut own {
        own.process.stop()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A server for this load alone. Dropped in this order: it must be gone before its directory.
struct OwnServer {
    process: ServerProcess,
    dir: TempDir,
}

impl OwnServer {
    fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("logwood-bench-").tempdir().context("cannot make a directory")?;
        let process = ServerProcess::start_own(&dir.path().join("data"), 0)?;
        Ok(Self { process, dir })
    }
}

async fn connect(url: &str, tls: &TlsOptions, connections: u32) -> anyhow::Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for _ in 0..connections {
        channels.push(logwood_client::connect(url, tls).await.map_err(connect::failed)?);
    }
    Ok(channels)
}

/// The key is the server's word: a load measures speed, and has nobody's trust to keep.
async fn load(args: &BenchArgs, channels: &[Channel]) -> anyhow::Result<Load> {
    let mut client = LogServiceClient::new(channels[0].clone());
    let request = DescribeLogRequest { log: args.log.clone(), known_size: 0 };
    let info = client.describe_log(request).await?.into_inner().info.context("the server describes no log")?;
    let vkey = info.vkeys.first().context("the log has no key")?;
    let checker = Checker::new(vkey.parse().context("the server names a bad verifier key")?);
    Load::new(args.log.clone(), args.entry_bytes, args.identities, checker)
}

fn print(args: &BenchArgs, in_flight: u32, report: &Report, sync_us: Option<u64>) -> anyhow::Result<()> {
    let Report { calls, entries, millis, p50_us, p90_us, p99_us, max_us } = report;
    let (calls_rate, entries_rate) = (report.rate(*calls), report.rate(*entries));
    let kind = args.kind.name();
    if args.json {
        return output::json(&json!({
            "kind": kind, "in_flight": in_flight, "entry_bytes": args.entry_bytes, "identities": args.identities,
            "streams": args.streams, "connections": args.connections, "calls": calls, "entries": entries,
            "millis": millis, "calls_per_second": calls_rate, "entries_per_second": entries_rate,
            "p50_us": p50_us, "p90_us": p90_us, "p99_us": p99_us, "max_us": max_us, "fdatasync_p50_us": sync_us,
        }));
    }
    if args.kind == Kind::Null {
        output::line(&format!("null: {calls_rate} calls/s ({calls} in {millis} ms), {in_flight} in flight"))?;
    } else {
        output::line(&format!(
            "{kind}: {entries_rate} entries/s ({entries} of {} bytes in {millis} ms, all verified), {in_flight} in flight",
            args.entry_bytes
        ))?;
    }
    output::line(&format!("latency in us: p50 {p50_us}, p90 {p90_us}, p99 {p99_us}, max {max_us}"))?;
    if let Some(sync_us) = sync_us {
        output::line(&format!("fdatasync of 4 KiB in the same directory, in us: p50 {sync_us}"))?;
    }
    Ok(())
}
