//! What a running monitor tells of itself over HTTP: `/metrics` (`OpenMetrics` text) and `/healthz`.
//!
//! Labels are origins of logs that the monitor has keys for, and kinds of alarms from a fixed list.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::connections;

/// A monitor that has looked at no source for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_mins(15);

type Label = [(&'static str, String); 1];
type Size = Gauge<u64, AtomicU64>;

/// The figures, and since when there was no round of the sources.
pub struct Status {
    registry: Registry,
    head_size: Family<Label, Size>,
    delivered: Family<Label, Size>,
    cosigned: Family<Label, Size>,
    rounds: Counter,
    alarms: Family<Label, Counter>,
    active: Family<Label, Gauge>,
    /// Every kind of alarm.
    kinds: Vec<&'static str>,
    last_round: Mutex<Instant>,
}

impl Status {
    /// All at zero.
    ///
    /// * `kinds` - of alarms.
    #[must_use]
    pub fn new(kinds: &[&'static str]) -> Self {
        let mut registry = Registry::with_prefix("logwood_monitor");
        let (head_size, delivered, cosigned) = <(Family<_, _>, Family<_, _>, Family<_, _>)>::default();
        registry.register("head_size", "Entries under the largest head that was verified", Family::clone(&head_size));
        registry.register("entries", "Entries that were verified and delivered", Family::clone(&delivered));
        let help = "Newest POSIX second at which somebody cosigned that head; 0 if nobody did";
        registry.register("cosigned_seconds", help, Family::clone(&cosigned));
        let (rounds, alarms, active) = <(Counter, Family<Label, Counter>, Family<Label, Gauge>)>::default();
        registry.register("rounds", "Times that every source was asked for its head", rounds.clone());
        registry.register("alarms", "Alarms that were raised", alarms.clone());
        registry.register("alarms_active", "Alarms whose cause was still there at the last round", active.clone());
        for kind in kinds {
            drop(alarms.get_or_create(&[("kind", (*kind).to_owned())]));
            drop(active.get_or_create(&[("kind", (*kind).to_owned())]));
        }
        let last_round = Mutex::new(Instant::now());
        let kinds = kinds.to_vec();
        Self { registry, head_size, delivered, cosigned, rounds, alarms, active, kinds, last_round }
    }

    /// Every source was asked for its head.
    ///
    /// * `active` - the kinds of alarms whose cause is still there, one for each alarm.
    pub fn round(&self, active: &[&'static str]) {
        self.rounds.inc();
        *self.last_round.lock() = Instant::now();
        // A series that ends says nothing: a kind that is over goes to 0.
        for kind in &self.kinds {
            let count = active.iter().filter(|other| *other == kind).count();
            let gauge = self.active.get_or_create(&[("kind", (*kind).to_owned())]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// An alarm was raised.
    pub fn alarm(&self, kind: &'static str) {
        self.alarms.get_or_create(&[("kind", kind.to_owned())]).inc();
    }

    /// Where the monitor stands with a log.
    ///
    /// * `head_size`, `delivered` - entries under its head, and those of them that were delivered.
    /// * `cosigned_seconds` - the newest time that a signature of the head vouches for.
    pub fn log(&self, origin: &str, (head_size, delivered): (u64, u64), cosigned_seconds: Option<u64>) {
        let label = [("log", origin.to_owned())];
        self.head_size.get_or_create(&label).set(head_size);
        self.delivered.get_or_create(&label).set(delivered);
        self.cosigned.get_or_create(&label).set(cosigned_seconds.unwrap_or(0));
    }
}

/// Serves `status` for as long as the task lives.
pub async fn serve(listener: TcpListener, status: Arc<Status>) {
    let router = Router::new().route("/metrics", get(metrics)).route("/healthz", get(healthz)).with_state(status);
    connections::serve(listener, router, std::future::pending()).await;
}

async fn metrics(State(status): State<Arc<Status>>) -> Response {
    let mut text = String::new();
    if encode(&mut text, &status.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, media_type)], text).into_response()
}

async fn healthz(State(status): State<Arc<Status>>) -> Response {
    if status.last_round.lock().elapsed() < STUCK_AFTER {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "no source was asked for 15 minutes\n").into_response()
}
