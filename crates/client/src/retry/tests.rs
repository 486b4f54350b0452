//! Waits grow, differ by chance, honour the server, and end at the deadline.

use std::sync::Arc;

use super::*;
use crate::testing::TestTiming;

fn refused(code: tonic::Code, retry_after: Option<Duration>) -> ClientError {
    let (reason, size, message) = (None, None, "no".to_owned());
    ClientError::Rejected { code, reason, size, retry_after, message }
}

fn unreachable() -> ClientError {
    ClientError::Unreachable { server: "here".to_owned(), message: "gone".to_owned() }
}

/// Fails with `error` until the attempts end; the waits in between.
async fn waits(timing: &Arc<TestTiming>, within: Duration, error: impl Fn() -> ClientError) -> Vec<Duration> {
    let mut attempts = Attempts::new(&**timing, within);
    while attempts.pause(error()).await.is_ok() {}
    timing.take_waits()
}

#[tokio::test]
async fn waits_double_up_to_a_bound_and_end_at_the_deadline() {
    let timing = TestTiming::with_random(u64::MAX);
    let waits = waits(&timing, Duration::from_secs(10), unreachable).await;
    assert!(waits[0] <= WAIT_FIRST && waits[0] >= WAIT_FIRST / 2);
    for pair in waits.windows(2) {
        assert!(pair[1] >= pair[0] && pair[1] <= WAIT_MAX, "{waits:?}");
    }
    let total: Duration = waits.iter().sum();
    assert!(total < Duration::from_secs(10) && total > Duration::from_secs(7), "{total:?}");
}

#[test]
fn chance_takes_up_to_half_of_a_wait() {
    let wait = Duration::from_millis(100);
    assert_eq!(jittered(wait, 0), wait / 2);
    assert_eq!(jittered(wait, 50_000), wait);
    for random in 0..200_000 {
        assert!((wait / 2..=wait).contains(&jittered(wait, random)));
    }
    assert_eq!(jittered(Duration::ZERO, 7), Duration::ZERO);
}

#[tokio::test]
async fn the_wait_that_the_server_asks_for_is_the_least() {
    let timing = TestTiming::with_random(0);
    let asked = Duration::from_millis(700);
    for code in [tonic::Code::Unavailable, tonic::Code::ResourceExhausted] {
        let waits = waits(&timing, Duration::from_secs(5), || refused(code, Some(asked))).await;
        assert!(waits.len() > 2 && waits.iter().all(|wait| *wait >= asked), "{waits:?}");
    }
    let waits = waits(&timing, Duration::from_secs(5), || refused(tonic::Code::Unavailable, Some(Duration::MAX))).await;
    assert!(waits.is_empty(), "no wait passes the deadline");
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    let timing = TestTiming::with_random(0);
    let second = Some(Duration::from_secs(1));
    for error in [
        || refused(tonic::Code::ResourceExhausted, None),
        || refused(tonic::Code::InvalidArgument, Some(Duration::ZERO)),
        || refused(tonic::Code::FailedPrecondition, None),
        || ClientError::failed("a bad signature"),
    ] {
        assert!(waits(&timing, Duration::from_secs(5), error).await.is_empty());
    }
    assert!(!waits(&timing, Duration::from_secs(5), || refused(tonic::Code::Unavailable, second)).await.is_empty());
}

#[tokio::test]
async fn a_deadline_beyond_the_clock_is_none() {
    let timing = TestTiming::with_random(0);
    let mut attempts = Attempts::new(&*timing, Duration::MAX);
    attempts.pause(unreachable()).await.expect("there is always time left");
    assert!(attempts.left() > Duration::from_secs(u64::MAX / 2));
}
