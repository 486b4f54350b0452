//! What is looked up when it is asked for: the queue, the logs, the open connections.

use std::sync::atomic::AtomicU64;

use logwood_proto::v1::WitnessStatus;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::{LOGS_SHOWN_MAX, Metrics, WITNESSES_SHOWN_MAX, label};
use crate::clock::now_ms;
use crate::core::Core;
use crate::registry::LogHandle;

type Amount = Gauge<u64, AtomicU64>;
type Seconds = Gauge<f64, AtomicU64>;

/// A level and its limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fill {
    pub(crate) now: u64,
    pub(crate) max: u64,
}

/// The state of the process at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) queue_entries: Fill,
    pub(super) queue_bytes: Fill,
    pub(super) http_connections: u64,
    pub(super) is_halted: bool,
    pub(super) logs: u64,
    /// The first [`LOGS_SHOWN_MAX`] of the logs in memory.
    pub(super) shown: Vec<LogSample>,
}

/// One log at one moment.
#[derive(Debug)]
pub(super) struct LogSample {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) published_size: u64,
    pub(super) published_ms: u64,
    /// How long ago the newest published head was taken, if there is something to publish; else 0.
    pub(super) publish_age_ms: u64,
    /// If the log has witnesses: entries under the largest head with a quorum, and how each does.
    pub(super) witnessed: Option<(u64, Vec<WitnessStatus>)>,
}

impl LogSample {
    fn of(log: &LogHandle, now_ms: u64) -> Self {
        let size = log.released.load().view.head().size.0;
        let published = log.published.borrow().clone();
        let (published_size, published_ms) =
            published.map_or((0, 0), |published| (published.head.size.0, published.time_ms));
        let publish_age_ms = if size > published_size { now_ms.saturating_sub(published_ms) } else { 0 };
        let witnessed = log.watched.as_ref().map(|watched| {
            let size = log.witnessed.borrow().as_ref().map_or(0, |witnessed| witnessed.head.size.0);
            (size, watched.statuses())
        });
        Self { name: log.settings.name.clone(), size, published_size, published_ms, publish_age_ms, witnessed }
    }
}

impl Metrics {
    /// Everything, as `/metrics` shows it.
    pub(crate) fn scrape(&self, core: &Core, http_connections: usize) -> String {
        let mut logs = core.shared.registry.all();
        let count = logs.len() as u64;
        logs.sort_unstable_by(|a, b| a.settings.name.cmp(&b.settings.name));
        logs.truncate(LOGS_SHOWN_MAX);
        let now_ms = now_ms();
        let (queue_entries, queue_bytes) = core.queue_levels();
        let snapshot = Snapshot {
            queue_entries,
            queue_bytes,
            http_connections: http_connections as u64,
            is_halted: *core.shared.halted.borrow(),
            logs: count,
            shown: logs.iter().map(|log| LogSample::of(log, now_ms)).collect(),
        };
        self.text(&snapshot)
    }

    /// The `OpenMetrics` text of everything.
    pub(super) fn text(&self, snapshot: &Snapshot) -> String {
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &gauges(snapshot)))
            .and_then(|()| encode_eof(&mut text));
        written.expect("writing to a String cannot fail");
        text
    }
}

fn amount(value: u64) -> Amount {
    let gauge = Amount::default();
    gauge.set(value);
    gauge
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this age are far below 2^53")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}

fn gauges(snapshot: &Snapshot) -> Registry {
    let mut registry = Registry::with_prefix("logwood");
    let Snapshot { queue_entries, queue_bytes, .. } = snapshot;
    registry.register("queue_entries", "Entries that wait for a round or for its end", amount(queue_entries.now));
    let help = "Entries that may wait; beyond that appends are refused";
    registry.register("queue_entries_limit", help, amount(queue_entries.max));
    let help = "Bytes of the entries that wait";
    registry.register_with_unit("queue", help, Unit::Bytes, amount(queue_bytes.now));
    let help = "Bytes that may wait; beyond that appends are refused";
    registry.register_with_unit("queue_limit", help, Unit::Bytes, amount(queue_bytes.max));
    registry.register("http_connections", "Open HTTP connections", amount(snapshot.http_connections));
    let help = "1 while the outcome of a write is unknown and the store is being opened again";
    registry.register("halted", help, amount(snapshot.is_halted.into()));
    let help = format!("Logs in memory; those beyond {LOGS_SHOWN_MAX} have no gauges of their own");
    registry.register("logs_loaded", help, amount(snapshot.logs));

    let (size, published) = (LogFamily::<Amount>::default(), LogFamily::<Amount>::default());
    let (time, age) = (LogFamily::<Seconds>::default(), LogFamily::<Seconds>::default());
    for log in &snapshot.shown {
        let labels = LogLabel { log: log.name.clone() };
        size.get_or_create(&labels).set(log.size);
        published.get_or_create(&labels).set(log.published_size);
        time.get_or_create(&labels).set(seconds(log.published_ms));
        age.get_or_create(&labels).set(seconds(log.publish_age_ms));
    }
    registry.register("log_entries", "Entries under the newest signed head", size);
    registry.register("log_published_entries", "Entries under the newest published head", published);
    let help = "When the newest published head was taken, POSIX time";
    registry.register_with_unit("log_published_timestamp", help, Unit::Seconds, time);
    let help = "How long ago that was, if there are entries that are not published yet; else 0";
    registry.register_with_unit("log_publish_age", help, Unit::Seconds, age);
    witnesses(&mut registry, &snapshot.shown);
    registry
}

fn witnesses(registry: &mut Registry, shown: &[LogSample]) {
    let (witnessed, cosigned) = (LogFamily::<Amount>::default(), Family::<WitnessLabels, Amount>::default());
    let (time, failures) = (Family::<WitnessLabels, Seconds>::default(), Family::<WitnessLabels, Counter>::default());
    for log in shown {
        let Some((size, statuses)) = &log.witnessed else { continue };
        witnessed.get_or_create(&LogLabel { log: log.name.clone() }).set(*size);
        for status in statuses.iter().take(WITNESSES_SHOWN_MAX) {
            let labels = WitnessLabels { log: log.name.clone(), witness: label(&status.name) };
            cosigned.get_or_create(&labels).set(status.size);
            time.get_or_create(&labels).set(seconds(status.cosigned_ms));
            failures.get_or_create(&labels).inc_by(status.failures);
        }
    }
    let help = "Entries under the largest head with a quorum of the log's witnesses";
    registry.register("log_witnessed_entries", help, witnessed);
    let help = "Entries under the largest head that the witness cosigned since the start";
    registry.register("witness_cosigned_entries", help, cosigned);
    let help = "When the witness last cosigned a head of the log, POSIX time; 0: not since the start";
    registry.register_with_unit("witness_cosigned_timestamp", help, Unit::Seconds, time);
    registry.register("witness_failures", "Requests to the witness that came to nothing", failures);
}

type LogFamily<M> = Family<LogLabel, M>;

/// The witness that a metric is of, and the log that it was asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WitnessLabels {
    log: String,
    witness: String,
}

/// The log that a gauge is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LogLabel {
    log: String,
}
