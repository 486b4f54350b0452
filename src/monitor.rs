//! `logwood monitor`: watches logs for everybody who cannot.

mod alarm;
mod catch_up;
mod deliver;
mod fetch;
mod filter;
mod heads;
mod hook;
mod state;
mod watch;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use logwood_client::TlsOptions;
use logwood_monitor::source::{Source, SourceError};
use logwood_monitor::status::{self, Status};
use logwood_monitor::tiles::{RealWorld, World};
use logwood_note::Policy;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Usage;
use crate::trust::TrustArgs;
use crate::{files, output};
use alarm::{Alarms, Kind};
use deliver::{DeliverArgs, Deliverer};
use state::StateFile;
use watch::{Plan, Watch};

/// Most bytes of a file of root certificates.
const ROOTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Between the rounds of `--once`, while a head waits for its proof.
const ONCE_INTERVAL: Duration = Duration::from_secs(1);

/// How long what is in progress may take once a signal has come.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long alarms that were raised before may still take to be told then.
const HOOK_STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// Shown by `--help`.
const EXAMPLES: &str = "\
Examples:
  Check everything every hour, from cron; the exit status tells `down` (1) from `lying` (3):
    logwood monitor --once --check-only --vkey \"$KEY\" --state state --evidence-dir evidence \\
        --source https://log.example.com/logs/audit --source https://mirror.example.net/audit

  Hand what root did to a program, as it happens, and page somebody about alarms:
    logwood monitor --policy audit.policy --state state --source grpcs://log.example.com:7070/audit \\
        --source witness+https://witness.example.org --max-age 3600 --match '/user=^root$' \\
        --webhook http://127.0.0.1:8080/events --on-alarm './page' --listen 127.0.0.1:9090

  Keep a copy of every entry, one JSON object a line, and none twice:
    logwood monitor --vkey \"$KEY\" --state state --out log.ndjson --source https://log.example.com/logs/audit
";

/// Follows logs from several vantage points, checks everything, delivers each entry, and raises alarms with evidence.
///
/// Each round asks every source for its head. The signatures and the policy's quorum must hold, and all heads of a log,
/// from all sources and all rounds, must be of one history. Then the tree is recomputed from every entry; an entry is
/// delivered once it is shown to be in the history of the verified head, in order and at least once. Sources are matched
/// to logs by origin, so that one monitor follows as many logs as the policy lists.
///
/// Sources are http(s)://... (any tlog-tiles log or mirror: `checkpoint` is right below the URL), grpc(s)://HOST:PORT/LOG
/// (a Logwood server; without a path its log `default`), and witness+http(s)://... (a witness's monitoring prefix; heads
/// only). Give at least two that do not belong to one operator: a lie to you alone shows in no single source.
///
/// Alarms, with their exit status: `split-view`, `broken-seal`, `bad-signature`, `bad-entry`, `bad-tile`, `bad-proof` and
/// `bad-answer` are 3: something does not verify. `rollback` (a source shows a smaller head than before), `no-quorum`, `stale`, `future`
/// (a cosignature of a time to come), `unproved`, `unreachable` and `undelivered` are 1, unless there is evidence. Each is told once while it lasts: on standard error, to --on-alarm,
/// and in a file of --evidence-dir. A file *.logwood-evidence proves a fault to anybody:
/// `logwood verify --evidence FILE --vkey K` exits with 3. A file incident-*.json proves nothing.
///
/// The state is one small file in a directory of its own, O(log n), replaced after each batch was confirmed: a crash repeats at most one batch.
///
/// Exit status: 0 good, 1 failed, 2 usage, 3 something does not verify. Without --once it goes on after an alarm; stopped
/// by SIGTERM or SIGINT, within 10 seconds and a minute more if --on-alarm hangs, it exits with the status of the worst that it raised.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct MonitorArgs {
    #[command(flatten)]
    trust: TrustArgs,
    /// The log's origin, where it differs from the name of its key.
    #[arg(long)]
    origin: Option<String>,
    /// Where to see the log; repeatable.
    #[arg(long, value_name = "URL", required = true)]
    source: Vec<String>,
    /// What was verified and delivered. Made at the first run; one monitor at a time may use it.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Where evidence and incidents go, one file each; 1,000 incidents at most.
    #[arg(long, value_name = "DIR")]
    evidence_dir: Option<PathBuf>,
    #[command(flatten)]
    deliver: DeliverArgs,
    /// For a log that is not in the state yet: begin with the entry of this index (at most the last one), and deliver
    /// none before it. What they hash to is taken from the signed tree.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// Entries after which the state is written: at most so many are repeated after a crash.
    #[arg(long, value_name = "ENTRIES", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=256))]
    batch: u16,
    /// Run this shell command for each alarm, one at a time; nothing else waits for it. It gets the alarm as JSON on standard input, and `LOGWOOD_ALARM` (its kind),
    /// `LOGWOOD_ALARM_SUBJECT` (the source or log) and `LOGWOOD_ALARM_FILE` (evidence or incident, or empty).
    #[arg(long, value_name = "CMD")]
    on_alarm: Option<String>,
    /// Alarm if the newest cosignature of a log's head is older. Only witnesses, and logs with a key of type 0x06, say
    /// when they signed.
    #[arg(long, value_name = "SECONDS")]
    max_age: Option<u64>,
    /// One round, all that it shows, and exit: for cron.
    #[arg(long)]
    once: bool,
    /// Seconds between two rounds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    interval: u32,
    /// Serve `/metrics` and `/healthz` there; port 0 picks a free one. Prints `serving HTTP on ADDR` on standard error.
    #[arg(long, value_name = "ADDR", conflicts_with = "once")]
    listen: Option<SocketAddr>,
    /// The roots to trust for https://, grpcs:// and witness+https:// instead of the system's (PEM).
    #[arg(long, env = "LOGWOOD_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Alarms and verdicts as one JSON object a line on standard output, too.
    #[arg(long)]
    json: bool,
}

/// Watches, once or until a signal comes.
///
/// # Errors
///
/// [`Usage`] for keys, sources and files that do not belong together.
pub(crate) async fn run(args: MonitorArgs) -> anyhow::Result<ExitCode> {
    let policy = args.trust.policy_for(args.origin.as_deref())?;
    let sources = sources(&args, &policy)?;
    let file = StateFile::open(&args.state)?;
    let state = file.load(&policy, args.origin.as_deref(), posix_seconds())?;
    let deliverer = Deliverer::new(&args.deliver, state.out_bytes)?;
    let status = Arc::new(Status::new(&Kind::names()));
    let alarms = Alarms::new(
        (args.trust.keys()?, args.origin.clone()),
        (args.evidence_dir.clone(), args.on_alarm.clone()),
        args.json,
        Arc::clone(&status),
    );
    if let Some(listen) = args.listen {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        eprintln!("serving HTTP on {}", listener.local_addr()?);
        tokio::spawn(status::serve(listener, Arc::clone(&status)));
    }
    let plan = Plan {
        policy: &policy,
        origin: args.origin.as_deref(),
        from: args.from,
        interval: if args.once { ONCE_INTERVAL } else { Duration::from_secs(args.interval.into()) },
        age_max: args.max_age,
        batch_entries: args.batch.into(),
        posix_seconds,
        once: args.once,
    };
    let stopping = Arc::new(AtomicBool::new(false));
    let mut watch = Watch::new(plan, sources, (state, file), deliverer, (alarms, status), Arc::clone(&stopping));
    tokio::select! {
        outcome = watch.run() => outcome?,
        outcome = stop(&stopping) => outcome?,
    }
    watch.alarms.finish((!args.once).then_some(HOOK_STOP_TIMEOUT)).await;
    report(&args, &watch)
}

/// Every place where a head may be seen.
fn sources(args: &MonitorArgs, policy: &Policy) -> anyhow::Result<Vec<Source>> {
    let named = policy.logs().iter().map(|log| log.key.name().to_owned());
    let origins: Vec<_> = match &args.origin {
        Some(origin) => vec![origin.clone()],
        None => named.collect::<BTreeSet<_>>().into_iter().collect(),
    };
    let roots = args.tls_ca.as_deref().map(|path| files::read(path, ROOTS_BYTES_MAX)).transpose()?;
    let tls = TlsOptions { ca: args.tls_ca.clone(), identity: None };
    let world: Arc<dyn World> = Arc::new(RealWorld);
    let mut sources = Vec::new();
    for url in &args.source {
        let parsed = Source::parse(url, &origins, roots.as_deref(), &tls, &world);
        sources.extend(parsed.map_err(|error| match error {
            SourceError::Url { .. } => anyhow::Error::from(Usage { problem: error.to_string() }),
            error => error.into(),
        })?);
    }
    if sources.iter().any(Source::has_entries) {
        return Ok(sources);
    }
    Err(Usage { problem: "a witness has heads and no entries: give a --source that has them".into() }.into())
}

/// Resolves some time after a signal; what is in progress is told to end at once.
async fn stop(stopping: &AtomicBool) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stopping.store(true, Ordering::Relaxed);
    tokio::time::sleep(STOP_TIMEOUT).await;
    Ok(())
}

/// Says what was verified.
fn report(args: &MonitorArgs, watch: &Watch<'_>) -> anyhow::Result<ExitCode> {
    let code = watch.alarms.exit_code();
    for log in watch.logs() {
        let (origin, head, size) = (&log.known.origin, log.known.head, log.tree.size());
        if args.json {
            output::json(&json!({
                "verified": code == 0 && size == head.size,
                "origin": origin,
                "entries": size.0,
                "size": head.size.0,
                "root": output::base64(head.root),
                "cosigned": log.known.seconds,
            }))?;
        }
        let text = format!(
            "{origin}: {size} entries are those of its head of size {}; root {}",
            head.size,
            output::base64(head.root)
        );
        eprintln!("logwood: {}", output::printable(&text));
    }
    anyhow::ensure!(code != 0 || !args.once || !watch.logs().is_empty(), "no source shows a log of these keys");
    Ok(ExitCode::from(code))
}

/// The clock. 0 before 1970.
fn posix_seconds() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}
