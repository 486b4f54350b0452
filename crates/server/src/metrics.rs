//! What the process counts, for Prometheus (`OpenMetrics` text). `docs/metrics.md` has a row for each.
//!
//! Labels are names of rpcs, codes, kinds of resources and statuses, all from fixed lists, and names of logs, of which at
//! most [`LOGS_SHOWN_MAX`] are shown. Nothing that a caller sends becomes a label.

mod rpc;
mod scrape;

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use logwood_store::CommitError;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

pub(crate) use self::rpc::RpcLayer;
use self::rpc::Rpcs;
pub(crate) use self::scrape::Fill;

/// Logs whose gauges are shown, in order of their names.
const LOGS_SHOWN_MAX: usize = 1_000;

/// Witnesses whose gauges are shown for each log: more than a policy that a log takes can have.
const WITNESSES_SHOWN_MAX: usize = 64;

/// Kinds of HTTP resources.
const RESOURCES: [&str; 10] =
    ["checkpoint", "tile", "entries", "seal", "add", "logs", "healthz", "readyz", "metrics", "other"];

/// Statuses that the HTTP API answers with.
const STATUSES: [u16; 15] = [200, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 429, 500, 501, 503];

type WitnessDurations = Family<[(&'static str, String); 1], Histogram, fn() -> Histogram>;

type OneLabel = [(&'static str, &'static str); 1];

/// From 0.25 ms to 8 s.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

/// Every counter and histogram of the process.
pub(crate) struct Metrics {
    registry: Registry,
    rpcs: Rpcs,
    http_requests: Family<[(&'static str, String); 2], Counter>,
    http_durations: Family<OneLabel, Histogram, fn() -> Histogram>,
    http_evicted: Counter,
    http_refused: Counter,
    rounds: Counter,
    entries: Counter,
    commits: Histogram,
    commit_failures: Family<OneLabel, Counter>,
    witness_durations: WitnessDurations,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("logwood");
        let rpcs = Rpcs::new(&mut registry);
        let http_requests = Family::<[(&'static str, String); 2], Counter>::default();
        registry.register("http_requests", "HTTP requests that were answered", http_requests.clone());
        let http_durations: Family<_, _, fn() -> Histogram> = Family::new_with_constructor(durations);
        let help = "From an HTTP request's head to the head of its answer";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, http_durations.clone());
        let help = "HTTP connections that made room for new ones";
        let http_evicted = counter(&mut registry, "http_connections_evicted", help);
        let help = "HTTP connections that were closed at once, because none could make room";
        let http_refused = counter(&mut registry, "http_connections_refused", help);
        let rounds = counter(&mut registry, "rounds", "Rounds that are durable");
        let entries = counter(&mut registry, "entries_appended", "New entries that are durable");
        let commits = durations();
        let help = "The synced write of one round";
        registry.register_with_unit("round_commit_duration", help, Unit::Seconds, commits.clone());
        let commit_failures = Family::<OneLabel, Counter>::default();
        let help = "Rounds that failed: refused (nothing was written) or unknown (the process reloads)";
        registry.register("round_commit_failures", help, commit_failures.clone());
        let witness_durations: WitnessDurations = Family::new_with_constructor(durations);
        let help = "From a request to a witness to the end of its answer, whatever it says";
        registry.register_with_unit("witness_request_duration", help, Unit::Seconds, witness_durations.clone());
        for resource in RESOURCES {
            drop(http_requests.get_or_create(&[("resource", resource.to_owned()), ("status", "200".to_owned())]));
            drop(http_durations.get_or_create(&[("resource", resource)]));
        }
        for outcome in ["refused", "unknown"] {
            drop(commit_failures.get_or_create(&[("outcome", outcome)]));
        }
        Self {
            registry,
            rpcs,
            http_requests,
            http_durations,
            http_evicted,
            http_refused,
            rounds,
            entries,
            commits,
            commit_failures,
            witness_durations,
        }
    }

    /// A layer that counts the calls of a gRPC server.
    pub(crate) fn rpc_layer(self: &Arc<Self>) -> RpcLayer {
        RpcLayer(Arc::clone(self))
    }

    pub(crate) fn http_answered(&self, resource: &'static str, status: StatusCode, duration: Duration) {
        let status =
            STATUSES.iter().find(|known| **known == status.as_u16()).map_or("other".to_owned(), u16::to_string);
        self.http_requests.get_or_create(&[("resource", resource.to_owned()), ("status", status)]).inc();
        self.http_durations.get_or_create(&[("resource", resource)]).observe(duration.as_secs_f64());
    }

    pub(crate) fn http_evicted(&self) {
        self.http_evicted.inc();
    }

    pub(crate) fn http_refused(&self) {
        self.http_refused.inc();
    }

    /// A witness answered.
    pub(crate) fn witness_answered(&self, name: &str, duration: Duration) {
        self.witness_durations.get_or_create(&[("witness", label(name))]).observe(duration.as_secs_f64());
    }

    /// A round of so many new entries was written, or not.
    pub(crate) fn committed(&self, entries: u64, duration: Duration, outcome: &Result<(), CommitError>) {
        let failed = |outcome| self.commit_failures.get_or_create(&[("outcome", outcome)]).inc();
        match outcome {
            Ok(()) => {
                self.rounds.inc();
                self.entries.inc_by(entries);
                self.commits.observe(duration.as_secs_f64());
            }
            Err(CommitError::Refused { .. }) => drop(failed("refused")),
            Err(CommitError::Unknown { .. }) => drop(failed("unknown")),
        }
    }
}

/// A name from a policy as the value of a label: what the text format would have to escape is replaced.
fn label(name: &str) -> String {
    name.chars().map(|c| if c.is_control() || matches!(c, '"' | '\\') { '_' } else { c }).collect()
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

#[cfg(test)]
mod tests;
