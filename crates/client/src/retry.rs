//! When a call is tried again, and how long is waited before that.
//!
//! ```text
//! own wait      50 ms, doubled each time up to 2 s; of that a random half to whole is waited
//! server asks   RetryInfo on UNAVAILABLE or RESOURCE_EXHAUSTED: at least that, and the own wait on top
//! never         past the deadline of the call; nor an entry that was sent without an identity
//! ```
//!
//! Without chance, all callers that one restart sent away would come back at one moment.

use std::fmt;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::ClientError;

/// Wait before the second attempt, at most; it doubles from there on.
const WAIT_FIRST: Duration = Duration::from_millis(50);

/// Longest wait of the client's own making.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// A wait, in a box.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a client's time and chance come from, so that a test can bring its own.
pub trait Timing: Send + Sync + fmt::Debug {
    /// A clock that never goes backwards.
    fn now(&self) -> Instant;

    /// Done once `wait` is over.
    fn sleep(&self, wait: Duration) -> Sleep;

    /// Uniformly random.
    fn random(&self) -> u64;
}

/// The operating system's clock and chance.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemTiming;

impl Timing for SystemTiming {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(wait))
    }

    fn random(&self) -> u64 {
        // Without randomness all waits are whole: slower, and still correct.
        getrandom::u64().unwrap_or(u64::MAX)
    }
}

/// The attempts at one call.
pub(crate) struct Attempts<'a> {
    timing: &'a dyn Timing,
    within: Duration,
    began: Instant,
    wait: Duration,
}

impl<'a> Attempts<'a> {
    /// * `within` - how long after now the last attempt may begin.
    pub(crate) fn new(timing: &'a dyn Timing, within: Duration) -> Self {
        Self { timing, within, began: timing.now(), wait: WAIT_FIRST }
    }

    /// Something succeeded: all begins anew.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.timing, self.within);
    }

    /// A stream broke that was opened then: if it lived for a while, it was no failed attempt.
    pub(crate) fn lived(&mut self, opened: Option<Instant>) {
        if opened.is_some_and(|opened| self.timing.now().saturating_duration_since(opened) >= WAIT_MAX) {
            self.reset();
        }
    }

    /// What is left until the deadline.
    pub(crate) fn left(&self) -> Duration {
        self.within.saturating_sub(self.timing.now().saturating_duration_since(self.began))
    }

    /// Waits before another attempt; gives `error` back if it is not transient, or the deadline is too near.
    pub(crate) async fn pause(&mut self, error: ClientError) -> Result<(), ClientError> {
        let own = jittered(self.wait, self.timing.random());
        let wait = error.retry_after().map_or(own, |asked| asked.saturating_add(own));
        if !error.is_transient() || wait >= self.left() {
            return Err(error);
        }
        tracing::debug!(%error, wait_ms = wait.as_millis(), "the call is retried");
        self.timing.sleep(wait).await;
        self.wait = (self.wait * 2).min(WAIT_MAX);
        Ok(())
    }
}

/// Between half of `wait` and all of it.
fn jittered(wait: Duration, random: u64) -> Duration {
    let half_us = u64::try_from(wait.as_micros() / 2).unwrap_or(u64::MAX / 2);
    Duration::from_micros(half_us + random % (half_us + 1))
}

#[cfg(test)]
mod tests;
