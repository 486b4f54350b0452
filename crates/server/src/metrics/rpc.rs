//! Counts the calls of the gRPC services, by rpc and code, as they pass on their way out.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use logwood_proto::v1;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::time::Instant;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::{Metrics, durations};

/// gRPC codes, by their number, as logs and documents write them.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// One rpc, or all that are not ours.
#[derive(Clone)]
struct Rpc {
    name: String,
    duration: Histogram,
}

type Durations = Family<[(&'static str, String); 1], Histogram, fn() -> Histogram>;

/// What is counted of each rpc, by its path.
pub(super) struct Rpcs {
    requests: Family<[(&'static str, String); 2], Counter>,
    by_path: HashMap<String, Rpc>,
    other: Rpc,
}

impl Rpcs {
    /// One for each rpc of the compiled contract, so that no list has to be kept.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let requests = Family::<[(&'static str, String); 2], Counter>::default();
        let duration: Durations = Family::new_with_constructor(durations);
        let rpc = |name: &str| {
            drop(requests.get_or_create(&labels(name, Code::Ok)));
            Rpc { name: name.to_owned(), duration: duration.get_or_create_owned(&[("rpc", name.to_owned())]) }
        };
        let contract = FileDescriptorSet::decode(v1::FILE_DESCRIPTOR_SET).expect("it was compiled with this program");
        let mut by_path = HashMap::new();
        for file in &contract.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    by_path.insert(path, rpc(method.name()));
                }
            }
        }
        let other = rpc("other");
        registry.register("grpc_requests", "gRPC calls that ended, streams included", requests.clone());
        let help = "From a gRPC call's beginning to its end, which for a stream is when either side ends it";
        registry.register_with_unit("grpc_request_duration", help, Unit::Seconds, duration);
        Self { requests, by_path, other }
    }

    fn get(&self, path: &str) -> Rpc {
        self.by_path.get(path).unwrap_or(&self.other).clone()
    }

    fn ended(&self, rpc: &Rpc, code: Code, start: Instant) {
        self.requests.get_or_create(&labels(&rpc.name, code)).inc();
        rpc.duration.observe(start.elapsed().as_secs_f64());
    }
}

fn labels(rpc: &str, code: Code) -> [(&'static str, String); 2] {
    let code = usize::try_from(i32::from(code)).ok().and_then(|code| CODES.get(code)).unwrap_or(&"UNKNOWN");
    [("rpc", rpc.to_owned()), ("code", (*code).to_owned())]
}

/// Puts [`RpcCounts`] around a server's services.
#[derive(Clone)]
pub(crate) struct RpcLayer(pub(super) Arc<Metrics>);

impl<S> Layer<S> for RpcLayer {
    type Service = RpcCounts<S>;

    fn layer(&self, inner: S) -> RpcCounts<S> {
        RpcCounts { inner, metrics: Arc::clone(&self.0) }
    }
}

/// Counts the calls that pass through.
#[derive(Clone)]
pub(crate) struct RpcCounts<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, A, B> Service<Request<B>> for RpcCounts<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = Response<Watched<A>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Watched<A>>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let rpc = self.metrics.rpcs.get(request.uri().path());
        let mut call = Call { metrics: Arc::clone(&self.metrics), rpc, start: Instant::now(), has_ended: false };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            call.look(answer.headers());
            Ok(answer.map(|body| Watched { body, call }))
        })
    }
}

/// A call that is counted once, when its code is known, or as cancelled if it never is.
struct Call {
    metrics: Arc<Metrics>,
    rpc: Rpc,
    start: Instant,
    has_ended: bool,
}

impl Call {
    /// Ends the call if `headers` hold its code.
    fn look(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.end(status.code());
        }
    }

    fn end(&mut self, code: Code) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.metrics.rpcs.ended(&self.rpc, code, self.start);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// An answer's body on its way out; the trailers hold the code.
pub(crate) struct Watched<A> {
    body: A,
    call: Call,
}

impl<A: http_body::Body<Error = Status> + Unpin> http_body::Body for Watched<A> {
    type Data = A::Data;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<A::Data>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.call.look(trailers);
                }
            }
            Some(Err(status)) => self.call.end(status.code()),
            None => self.call.end(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
