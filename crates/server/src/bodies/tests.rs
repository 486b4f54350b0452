//! Bodies under the shared budget: slow, endless, broken off.

use std::future::poll_fn;
use std::task::Waker;

use http_body::Body as _;
use http_body_util::StreamBody;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;
use crate::limits::LimitSettings;

const APPEND: &str = "/logwood.v1.LogService/Append";
const BATCH: &str = "/logwood.v1.LogService/AppendBatch";
const STREAM: &str = "/logwood.v1.LogService/AppendStream";

type Peer = mpsc::UnboundedSender<Result<Frame<Bytes>, Status>>;

fn bodies(budget_bytes: usize) -> Bodies {
    Bodies { limits: Limits::default(), budget: Budget::new(budget_bytes) }
}

/// A body, and the peer that sends it.
fn body(bodies: &Bodies, path: &str) -> (Peer, LimitedBody) {
    let (peer, frames) = mpsc::unbounded_channel();
    (peer, bodies.limit(path, Body::new(StreamBody::new(UnboundedReceiverStream::new(frames)))))
}

fn send(peer: &Peer, data: &[u8]) {
    peer.send(Ok(Frame::data(Bytes::copy_from_slice(data)))).expect("the body is there");
}

fn message(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&[0], &length[..], payload].concat()
}

fn header(length: u32) -> Vec<u8> {
    [&[0], &length.to_be_bytes()[..]].concat()
}

/// What can be had without waiting.
fn poll(body: &mut LimitedBody) -> Poll<Option<Result<Bytes, Status>>> {
    // tokio makes a task that has had much wait for its turn: not here.
    let mut next = tokio::task::coop::unconstrained(poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)));
    let frame = Pin::new(&mut next).poll(&mut Context::from_waker(Waker::noop()));
    frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().expect("data"))))
}

fn data(body: &mut LimitedBody) -> Vec<u8> {
    let mut all = Vec::new();
    while let Poll::Ready(Some(frame)) = poll(body) {
        all.extend_from_slice(&frame.expect("within the limits"));
    }
    all
}

fn refusal(body: &mut LimitedBody) -> Status {
    match poll(body) {
        Poll::Ready(Some(Err(status))) => status,
        other => panic!("not refused: {other:?}"),
    }
}

fn limit(status: &Status) -> String {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    status.get_details_quota_failure().expect("a quota failure").violations[0].subject.clone()
}

#[tokio::test]
async fn messages_arrive_as_they_were_sent_wherever_frames_cut_them() {
    let all = [message(b""), message(b"one"), message(&[7; 300]), message(b"")].concat();
    for path in [BATCH, STREAM] {
        for frame_bytes in [1, 2, 3, 5, 7, 64, all.len()] {
            let bodies = bodies(1 << 20);
            let (peer, mut body) = body(&bodies, path);
            all.chunks(frame_bytes).for_each(|frame| send(&peer, frame));
            assert_eq!(data(&mut body), all, "{path} in frames of {frame_bytes}");
            drop(peer);
            assert!(matches!(poll(&mut body), Poll::Ready(None)));
        }
    }
}

#[tokio::test]
async fn a_message_over_its_methods_limit_is_refused_by_its_header_alone() {
    let limits = Limits::default();
    let methods = [
        (APPEND, limits.append_message_bytes()),
        (STREAM, limits.append_message_bytes()),
        (BATCH, limits.batch_message_bytes()),
        ("/logwood.v1.LogService/GetEntry", limits.other_message_bytes()),
        ("/logwood.v1.AdminService/CreateLog", limits.other_message_bytes()),
    ];
    for (path, bytes_max) in methods {
        for length in [u32::try_from(bytes_max).expect("small") + 1, 1 << 31, u32::MAX] {
            let bodies = bodies(1 << 20);
            let (peer, mut body) = body(&bodies, path);
            send(&peer, &header(length));
            let status = refusal(&mut body);
            assert_eq!(limit(&status), "message", "{path}");
            assert!(status.message().contains(&format!("{length} bytes")) && status.get_details_retry_info().is_none());
            drop(body);
            assert_eq!(bodies.budget.available(), 1 << 20);
        }
        let bodies = bodies(1 << 30);
        let (peer, mut body) = body(&bodies, path);
        let whole = message(&vec![1; bytes_max]);
        send(&peer, &whole);
        assert_eq!(data(&mut body), whole, "{path} takes its limit");
    }
}

#[tokio::test]
async fn nothing_is_passed_on_or_reserved_before_all_of_a_message_is_here_and_counted() {
    let bodies = bodies(1 << 20);
    let (peer, mut body) = body(&bodies, BATCH);
    send(&peer, &header(500_000));
    send(&peer, &[1; 1_000]);
    assert!(poll(&mut body).is_pending(), "tonic would reserve what the header declares");
    let counted = (1 << 20) - bodies.budget.available();
    assert!((1_005..2_000).contains(&counted), "what was sent is counted, not what was declared: {counted}");
    send(&peer, &vec![1; 499_000]);
    assert_eq!(data(&mut body).len(), 500_005);
    drop(body);
    assert_eq!(bodies.budget.available(), 1 << 20);
}

#[tokio::test]
async fn frames_of_one_byte_are_not_free() {
    let bodies = bodies(100_000);
    let (peer, mut body) = body(&bodies, BATCH);
    send(&peer, &header(50_000));
    (0..1_000).for_each(|_| send(&peer, b"x"));
    assert_eq!(limit(&refusal(&mut body)), "bodies");
}

#[tokio::test]
async fn an_unary_call_that_the_budget_does_not_cover_is_refused_and_may_be_retried() {
    let bodies = bodies(10_000);
    let (first_peer, mut first) = body(&bodies, BATCH);
    send(&first_peer, &header(100_000));
    send(&first_peer, &[1; 8_000]);
    assert!(poll(&mut first).is_pending());
    let (peer, mut second) = body(&bodies, BATCH);
    send(&peer, &message(&[1; 8_000]));
    let status = refusal(&mut second);
    assert_eq!(limit(&status), "bodies");
    assert!(status.get_details_retry_info().is_some());
    drop(first);
    let (peer, mut third) = body(&bodies, BATCH);
    send(&peer, &message(&[1; 8_000]));
    assert_eq!(data(&mut third).len(), 8_005);
}

#[tokio::test]
async fn a_stream_is_pushed_back_while_the_budget_is_empty_and_goes_on_after() {
    let bodies = bodies(100_000);
    let taken = bodies.budget.try_take(90_000).expect("room");
    let (peer, mut body) = body(&bodies, STREAM);
    send(&peer, &message(b"entry"));
    assert!(poll(&mut body).is_pending(), "the frame stays where it is: the peer's window closes");
    drop(taken);
    assert_eq!(data(&mut body), message(b"entry"));
}

#[tokio::test]
async fn what_a_stream_has_passed_on_stays_counted_until_its_handler_lets_go() {
    let bodies = bodies(1 << 20);
    let (peer, mut body) = body(&bodies, STREAM);
    let held = body.held().expect("a stream").clone();
    let two = [message(&[1; 10_000]), message(&[2; 10_000])].concat();
    send(&peer, &two[..15_000]);
    assert_eq!(data(&mut body).len(), 10_005);
    let first = held.take().expect("one message was passed on");
    assert!((10_005..10_500).contains(&first.bytes()), "{}", first.bytes());
    send(&peer, &two[15_000..]);
    assert_eq!(data(&mut body).len(), 10_005);
    drop(body);
    assert!((1 << 20) - bodies.budget.available() >= 20_010, "the handler has both");
    drop((first, held));
    assert_eq!(bodies.budget.available(), 1 << 20);
}

#[tokio::test]
async fn an_unary_request_that_comes_too_slowly_is_dropped() {
    let bodies = bodies(1 << 20);
    for sent in [&b""[..], &header(10), &message(b"all of it")[..13]] {
        let (peer, mut body) = body(&bodies, APPEND);
        body.timeout = Duration::ZERO;
        if !sent.is_empty() {
            send(&peer, sent);
        }
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let status = frame.expect("no end").expect_err("too late");
        assert_eq!(limit(&status), "bodies", "after {} bytes", sent.len());
    }
}

#[tokio::test]
async fn a_stream_may_be_silent_between_messages_but_not_in_the_middle_of_one() {
    let bodies = bodies(1 << 20);
    let (peer, mut body) = body(&bodies, STREAM);
    body.timeout = Duration::ZERO;
    assert!(poll(&mut body).is_pending());
    assert!(body.started.is_none(), "no message is due");
    send(&peer, &message(b"entry"));
    assert_eq!(data(&mut body), message(b"entry"));
    assert!(body.started.is_none() && body.alarm.is_none());
    send(&peer, &header(1_000));
    let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    assert_eq!(limit(&frame.expect("no end").expect_err("too late")), "bodies");
}

#[tokio::test]
async fn a_request_that_ends_in_the_middle_of_a_message_is_invalid() {
    for path in [APPEND, STREAM] {
        let bodies = bodies(1 << 20);
        for sent in [&[0][..], &header(3), &message(b"abc")[..7]] {
            let (peer, mut body) = body(&bodies, path);
            send(&peer, sent);
            drop(peer);
            assert_eq!(refusal(&mut body).code(), Code::InvalidArgument);
        }
    }
}

#[test]
fn the_least_budget_takes_the_largest_message_in_the_smallest_frames_that_a_client_should_send() {
    let settings = LimitSettings { bodies_mib: 9, ..LimitSettings::default() };
    let limits = Limits::try_from(settings).expect("the least");
    // Frames of 16 KiB, HTTP/2's default.
    let frames = limits.batch_message_bytes().div_ceil(16 * 1024) + 1;
    let cost = limits.batch_message_bytes() + HEADER_BYTES + frames * 2 * FRAME_OVERHEAD_BYTES;
    assert!(cost <= limits.bodies_bytes());
}
