//! What surrounds every call: how many there may be, its request as it arrives, its answer until the socket has it.
//!
//! hyper takes the next frame of an answer as soon as it has passed on the one before, and drops the body at its end,
//! whether or not the peer has opened its window for any of it. So a frame carries its share of the budget with it:
//! the share goes back when the frame's bytes are dropped, because the socket took them or the peer has gone.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::bodies::Bodies;
use crate::budget::{Budget, Held, Share};
use crate::connections::{Calling, Outstanding, Peer};
use crate::limits::Limits;
use crate::status;

/// Counts the calls of the process.
#[derive(Clone)]
pub(crate) struct CallLayer {
    bodies: Bodies,
    calls: Budget,
    calls_max: usize,
}

impl CallLayer {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { bodies: Bodies::new(limits), calls: Budget::new(limits.calls()), calls_max: limits.calls() }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Calls { inner, layer: self.clone() }
    }
}

/// The service under the layer.
#[derive(Clone)]
pub(crate) struct Calls<S> {
    inner: S,
    layer: CallLayer,
}

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<AnswerBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(call) = self.layer.calls.try_take(1) else {
            let message = format!("the server answers {} calls at once at most", self.layer.calls_max);
            let refusal = status::exhausted("calls", message).into_http();
            return Box::pin(std::future::ready(Ok(refusal.map(AnswerBody::uncounted))));
        };
        let (mut parts, body) = request.into_parts();
        let peer = parts.extensions.get::<Arc<Peer>>().cloned();
        let calling = peer.as_ref().map(Peer::called);
        let body = self.layer.bodies.limit(parts.uri.path(), body);
        if let Some(held) = body.held() {
            parts.extensions.insert(held.clone());
        }
        let answer = self.inner.call(Request::from_parts(parts, Body::new(body)));
        Box::pin(async move {
            let (mut parts, inner) = answer.await?.into_parts();
            if is_misread(&parts.headers) {
                return Ok(status::malformed().into_http().map(AnswerBody::uncounted));
            }
            let held = parts.extensions.remove::<Held>();
            Ok(Response::from_parts(parts, AnswerBody { inner, held, peer, _call: Some((call, calling)) }))
        })
    }
}

/// Whether the answer is what tonic says of a request that is no message of the contract: `INTERNAL`, as if it were our
/// fault.
fn is_misread(headers: &HeaderMap) -> bool {
    // A look at the code first: all but a few answers have none here.
    headers.get(Status::GRPC_STATUS).is_some_and(|code| code == "13")
        && Status::from_header_map(headers).is_some_and(|status| status::is_misread(&status))
}

/// The body of an answer.
pub(crate) struct AnswerBody {
    inner: Body,
    /// Covers the messages that tonic has encoded.
    held: Option<Held>,
    peer: Option<Arc<Peer>>,
    _call: Option<(Share, Option<Calling>)>,
}

impl AnswerBody {
    fn uncounted(inner: Body) -> Self {
        Self { inner, held: None, peer: None, _call: None }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx)).transpose()?;
        let share = self.held.as_ref().and_then(Held::take);
        let counted = |data| match share {
            Some(share) => {
                Bytes::from_owner(Counted { data, _share: share, _sent: self.peer.as_ref().map(Peer::sending) })
            }
            None => data,
        };
        Poll::Ready(frame.map(|frame| Ok(frame.map_data(counted))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Bytes of an answer with what they take of the budget.
struct Counted {
    data: Bytes,
    _share: Share,
    _sent: Option<Outstanding>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests;
