//! Calls over the limit, and those that outlive it.

use http_body_util::{BodyExt as _, Full};
use tonic::Code;
use tower::{ServiceExt as _, service_fn};

use super::*;
use crate::limits::LimitSettings;

fn layer(calls: u32) -> CallLayer {
    CallLayer::new(Limits::try_from(LimitSettings { calls, ..LimitSettings::default() }).expect("valid"))
}

/// Answers every call with 1,000 bytes, counted by `budget`.
fn counting(
    budget: &Budget,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Status, Future: Send + 'static> + Clone + use<> {
    let budget = budget.clone();
    service_fn(move |_| {
        let held = Held::default();
        held.add(budget.try_take(1_000).expect("room"));
        let mut response = Response::new(Body::new(Full::new(Bytes::from_static(&[1; 1_000]))));
        response.extensions_mut().insert(held);
        std::future::ready(Ok(response))
    })
}

#[tokio::test]
async fn a_call_too_many_is_refused_and_served_once_another_has_ended() {
    let service = layer(1).layer(counting(&Budget::new(1 << 20)));
    let first = service.clone().oneshot(Request::new(Body::empty())).await.expect("answered");
    let second = service.clone().oneshot(Request::new(Body::empty())).await.expect("answered");
    let status = Status::from_header_map(second.headers()).expect("a refusal");
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(first);
    let third = service.oneshot(Request::new(Body::empty())).await.expect("answered");
    assert!(Status::from_header_map(third.headers()).is_none());
}

#[tokio::test]
async fn an_answer_is_counted_until_its_bytes_are_gone_though_its_body_ended_before() {
    let budget = Budget::new(1_000);
    let service = layer(10).layer(counting(&budget));
    let answer = service.oneshot(Request::new(Body::empty())).await.expect("answered");
    let mut body = answer.into_body();
    let data = body.frame().await.expect("a frame").expect("no error").into_data().expect("data");
    assert!(body.frame().await.is_none());
    drop(body);
    assert_eq!((data.len(), budget.available()), (1_000, 0), "the socket has not taken it yet");
    let sent = data.slice(..10);
    drop(data);
    assert_eq!(budget.available(), 0);
    drop(sent);
    assert_eq!(budget.available(), 1_000);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_not_counted_for_ever() {
    let budget = Budget::new(1_000);
    let service = layer(10).layer(counting(&budget));
    drop(service.oneshot(Request::new(Body::empty())).await.expect("answered"));
    assert_eq!(budget.available(), 1_000);
}
