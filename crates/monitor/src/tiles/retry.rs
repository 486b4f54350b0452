//! When to ask again: exponential back-off with full jitter, or what the server asks for. No clock, no randomness.

use std::time::Duration;

/// Most times that one resource is asked for.
pub const ATTEMPTS_MAX: u32 = 6;

/// The first wait is up to this long, each later one up to twice as long as the one before.
const WAIT_FIRST: Duration = Duration::from_millis(250);

/// No wait is longer, whatever the server asks for.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// How long to wait after the failure number `failures` (from 1); `None` to give up.
///
/// * `retry_after` - what the server asked for.
/// * `random` - any number: the jitter that keeps many clients from coming back at once.
#[must_use]
pub fn wait(failures: u32, retry_after: Option<Duration>, random: u32) -> Option<Duration> {
    if failures >= ATTEMPTS_MAX {
        return None;
    }
    let most = WAIT_FIRST.saturating_mul(1 << failures.saturating_sub(1)).min(WAIT_MAX);
    let jittered = most.mul_f64(f64::from(random) / f64::from(u32::MAX));
    Some(retry_after.map_or(jittered, |asked| asked.min(WAIT_MAX)))
}

/// The seconds of a `Retry-After` field (RFC 9110 §10.2.3). Its other form, a date, counts as absent.
#[must_use]
pub fn parse_retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_and_end() {
        let longest = |failures| wait(failures, None, u32::MAX).map(|wait| wait.as_millis());
        let waits: Vec<_> = (1..=6).map(longest).collect();
        assert_eq!(waits, [Some(250), Some(500), Some(1_000), Some(2_000), Some(4_000), None]);
        assert_eq!(wait(3, None, 0), Some(Duration::ZERO));
        let half = wait(1, None, u32::MAX / 2).expect("not the last");
        assert!(half.abs_diff(125 * MILLISECOND) < MILLISECOND, "{half:?}");
    }

    #[test]
    fn the_server_says_how_long_within_reason() {
        assert_eq!(wait(1, parse_retry_after("7"), 0), Some(Duration::from_secs(7)));
        assert_eq!(wait(5, parse_retry_after(" 0 "), u32::MAX), Some(Duration::ZERO));
        assert_eq!(wait(1, parse_retry_after("18446744073709551615"), 0), Some(WAIT_MAX));
        assert_eq!(wait(6, parse_retry_after("1"), 0), None);
        for other in ["", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "18446744073709551616"] {
            assert_eq!(parse_retry_after(other), None, "{other:?}");
        }
    }
}
