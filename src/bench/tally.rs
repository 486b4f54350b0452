//! Counting: calls, entries, latencies.

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;

/// What was answered, and verified.
pub(super) struct Tally {
    calls: u64,
    entries: u64,
    /// Microseconds.
    latency: Histogram<u64>,
}

/// The figures of a load.
pub(super) struct Report {
    pub(super) calls: u64,
    pub(super) entries: u64,
    pub(super) millis: u64,
    pub(super) p50_us: u64,
    pub(super) p90_us: u64,
    pub(super) p99_us: u64,
    pub(super) max_us: u64,
}

impl Tally {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { calls: 0, entries: 0, latency: Histogram::new(3).context("a histogram")? })
    }

    /// One call that was answered after `elapsed`.
    pub(super) fn call(&mut self, elapsed: Duration, entries: u64) -> anyhow::Result<()> {
        self.calls += 1;
        self.entries += entries;
        self.latency(elapsed, 1)
    }

    /// An answer of a stream to `entries` entries.
    pub(super) fn answer(&mut self, entries: u64) {
        self.calls += 1;
        self.entries += entries;
    }

    /// `count` entries or calls that took `elapsed`.
    pub(super) fn latency(&mut self, elapsed: Duration, count: u64) -> anyhow::Result<()> {
        let us = u64::try_from(elapsed.as_micros())?;
        self.latency.record_n(us, count).context("a latency out of range")
    }

    /// * `elapsed` - from the first call to the last answer.
    pub(super) fn report(&self, elapsed: Duration) -> Report {
        let quantile = |quantile| self.latency.value_at_quantile(quantile);
        Report {
            calls: self.calls,
            entries: self.entries,
            millis: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            max_us: self.latency.max(),
        }
    }
}

impl Report {
    /// `count` a second.
    pub(super) fn rate(&self, count: u64) -> u64 {
        count.saturating_mul(1000) / self.millis.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_by_the_second_and_latencies_in_microseconds() {
        let mut tally = Tally::new().unwrap();
        tally.call(Duration::from_millis(2), 1000).unwrap();
        tally.call(Duration::from_millis(2), 500).unwrap();
        let report = tally.report(Duration::from_millis(500));
        assert_eq!((report.calls, report.entries, report.rate(report.entries)), (2, 1500, 3000));
        assert!((1999..=2001).contains(&report.p50_us));
    }
}
