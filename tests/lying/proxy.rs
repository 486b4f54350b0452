//! The liar: it stands before real servers, forwards gRPC and HTTP, and changes on the way what its lie says.
//!
//! ```text
//!   client, command  ── gRPC ──┐                 ┌──> honest        the log
//!   monitor          ── both ──┼──> one port ──> ├──> older         a copy of an earlier state
//!   fsck URL         ── HTTP ──┘    the lie      └──> rewritten ... true signatures under false trees
//! ```
//!
//! Until it is told to lie it is honest, so that a tool can get to know the log through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as HttpBody, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt as _;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Whose answers are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The log as it is.
    Honest,
    /// A copy of it from an earlier time.
    Older,
    /// That copy, which goes on from there by itself.
    Regrown,
    /// A copy in which one old entry is another, and every hash and signature above it redone.
    Rewritten,
    /// A copy of that, which has grown.
    Grown,
    /// A copy of the log as it is, which goes on by itself.
    Twin,
}

/// A real server.
pub(crate) struct Upstream {
    rpc: Channel,
    /// Address of the HTTP API.
    http: String,
}

impl Upstream {
    /// * `url` - of the gRPC port.
    pub(crate) fn new(url: &str, http: &str) -> Self {
        let rpc = Endpoint::from_shared(url.to_owned()).expect("a URL").connect_lazy();
        Self { rpc, http: http.to_owned() }
    }
}

/// What becomes of a message of a gRPC answer.
pub(crate) enum Said {
    Message(Bytes),
    /// The answer ends here, with OK.
    End,
    /// The answer ends here, without saying how.
    Abandoned,
    /// The connection breaks here.
    Cut,
}

/// What becomes of a resource over HTTP.
pub(crate) enum Served {
    Body(Vec<u8>),
    /// With `Content-Encoding: gzip`, whatever it is.
    Gzip(Vec<u8>),
    Status(u16),
    /// So much of a longer body; then the connection breaks.
    Cut(Vec<u8>),
}

type Route = dyn Fn(&str) -> View + Send + Sync;
type Ask = dyn Fn(&str, Bytes) -> Bytes + Send + Sync;
type Say = dyn Fn(&str, Bytes) -> Said + Send + Sync;
type Serve = dyn Fn(&str, Vec<u8>) -> Served + Send + Sync;

/// What a liar does. By default nothing: everything comes from the honest server, as it is.
pub(crate) struct Lie {
    route: Box<Route>,
    log: Option<&'static str>,
    ask: Box<Ask>,
    say: Vec<Box<Say>>,
    serve: Box<Serve>,
    is_silent: bool,
}

impl Default for Lie {
    fn default() -> Self {
        Self {
            route: Box::new(|_| View::Honest),
            log: None,
            ask: Box::new(|_, message| message),
            say: Vec::new(),
            serve: Box::new(|_, body| Served::Body(body)),
            is_silent: false,
        }
    }
}

/// A message, changed.
pub(crate) fn changed<T: prost::Message + Default>(message: Bytes, change: impl Fn(&mut T)) -> Bytes {
    let mut message = T::decode(message).expect("a message of this kind");
    change(&mut message);
    message.encode_to_vec().into()
}

impl Lie {
    /// All answers are those of another server.
    pub(crate) fn of(view: View) -> Self {
        Self::default().routed(move |_| view)
    }

    /// The server whose answer is passed on, by rpc (`Append`); over HTTP, by path below the log's URL.
    pub(crate) fn routed(self, route: impl Fn(&str) -> View + Send + Sync + 'static) -> Self {
        Self { route: Box::new(route), ..self }
    }

    /// Nothing is answered, ever.
    pub(crate) fn silent() -> Self {
        Self { is_silent: true, ..Self::default() }
    }

    /// Whichever log is asked for, this one answers.
    pub(crate) fn in_place(self, log: &'static str) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Changes each request of some rpcs.
    pub(crate) fn asking(self, ask: impl Fn(&str, Bytes) -> Bytes + Send + Sync + 'static) -> Self {
        Self { ask: Box::new(ask), ..self }
    }

    /// Decides what becomes of each message of an answer.
    pub(crate) fn saying(mut self, say: impl Fn(&str, Bytes) -> Said + Send + Sync + 'static) -> Self {
        self.say.push(Box::new(say));
        self
    }

    /// Changes each message in the answers of `rpc`.
    pub(crate) fn changing<T: prost::Message + Default>(
        self,
        rpc: &'static str,
        change: impl Fn(&mut T) + Send + Sync + 'static,
    ) -> Self {
        self.saying(move |called, message| {
            Said::Message(if called == rpc { changed(message, &change) } else { message })
        })
    }

    /// Decides what becomes of each resource over HTTP, by its path below the log's URL.
    pub(crate) fn serving(self, serve: impl Fn(&str, Vec<u8>) -> Served + Send + Sync + 'static) -> Self {
        Self { serve: Box::new(serve), ..self }
    }

    fn said(&self, rpc: &str, message: Bytes) -> Said {
        self.say.iter().fold(Said::Message(message), |said, say| match said {
            Said::Message(message) => say(rpc, message),
            said => said,
        })
    }

    fn asked(&self, rpc: &str, message: Bytes) -> Bytes {
        let message = match self.log {
            Some(log) => with_log(&message, log),
            None => message,
        };
        (self.ask)(rpc, message)
    }
}

/// The same request to another log: every one begins with its name, field 1, of less than 128 bytes.
fn with_log(request: &Bytes, log: &str) -> Bytes {
    assert_eq!(request[0], 0x0a, "a request begins with the log's name");
    let mut renamed = BytesMut::new();
    renamed.put_u8(0x0a);
    renamed.put_u8(u8::try_from(log.len()).expect("a short name"));
    renamed.put_slice(log.as_bytes());
    renamed.put_slice(&request[2 + usize::from(request[1])..]);
    renamed.freeze()
}

/// A liar on a port of its own.
pub(crate) struct Liar {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    servers: Arc<dyn Fn(View) -> Arc<Upstream> + Send + Sync>,
    /// What it is until it lies.
    before: Arc<Lie>,
    lie: Arc<Lie>,
    lies: AtomicBool,
}

impl Liar {
    /// * `before` - whose answers it passes on as they are, until [`Liar::lie`].
    pub(crate) async fn start(
        servers: Arc<dyn Fn(View) -> Arc<Upstream> + Send + Sync>,
        before: View,
        lie: Lie,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (before, lie) = (Arc::new(Lie::of(before)), Arc::new(lie));
        let state = Arc::new(State { servers, before, lie, lies: AtomicBool::new(false) });
        let accepting = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, cut) = (Arc::clone(&accepting), Arc::new(Notify::new()));
                let cutting = Arc::clone(&cut);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        answer(Arc::clone(&state), request, Arc::clone(&cut))
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // However the connection ends, the caller has noticed.
                    tokio::select! {
                        _ = builder.serve_connection(TokioIo::new(stream), service) => {}
                        () = cutting.notified() => {}
                    }
                });
            }
        });
        Self { address, state }
    }

    /// From now on it lies.
    pub(crate) fn lie(&self) {
        self.state.lies.store(true, Ordering::SeqCst);
    }

    /// For clients.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// For monitors: `log` over gRPC.
    pub(crate) fn grpc(&self, log: &str) -> String {
        format!("grpc://{}/{log}", self.address)
    }

    /// For monitors and fsck: `log` over HTTP.
    pub(crate) fn tiles(&self, log: &str) -> String {
        format!("http://{}/logs/{log}", self.address)
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>, cut: Arc<Notify>) -> Result<Response<Body>, Error> {
    let lie = Arc::clone(if state.lies.load(Ordering::SeqCst) { &state.lie } else { &state.before });
    if lie.is_silent {
        return std::future::pending().await;
    }
    let path = request.uri().path().to_owned();
    if let Some(rpc) = path.strip_prefix("/logwood.v1.LogService/") {
        let upstream = (state.servers)((lie.route)(rpc));
        return call(&upstream, rpc.to_owned(), lie, request, cut).await;
    }
    let (log, path) = path.strip_prefix("/logs/").and_then(|rest| rest.split_once('/')).expect("a log's resource");
    let upstream = (state.servers)((lie.route)(path));
    fetch(&upstream, &lie, log, path).await
}

/// Forwards a call.
async fn call(
    upstream: &Upstream,
    rpc: String,
    lie: Arc<Lie>,
    request: Request<Incoming>,
    cut: Arc<Notify>,
) -> Result<Response<Body>, Error> {
    let (asking, called) = (Arc::clone(&lie), rpc.clone());
    let ask = move |message| Said::Message(asking.asked(&called, message));
    let request = request.map(|body| relay(body, ask, Arc::clone(&cut)));
    let answer = upstream.rpc.clone().oneshot(request).await?;
    Ok(answer.map(|body| relay(body, move |message| lie.said(&rpc, message), cut)))
}

/// Passes on a gRPC body, message by message ("Length-Prefixed-Message": no compression, four bytes of length).
fn relay<B>(body: B, change: impl Fn(Bytes) -> Said + Send + 'static, cut: Arc<Notify>) -> Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Error> + Send,
{
    let (pieces, relayed) = mpsc::channel::<Result<Frame<Bytes>, Error>>(16);
    tokio::spawn(async move {
        let mut body = std::pin::pin!(body);
        let mut waiting = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let data = match frame.map(Frame::into_data) {
                Ok(Ok(data)) => data,
                Ok(Err(trailers)) => return drop(pieces.send(Ok(trailers)).await),
                Err(error) => return drop(pieces.send(Err(error.into())).await),
            };
            waiting.extend_from_slice(&data);
            while let Some(message) = take_message(&mut waiting) {
                let sent = match change(message) {
                    Said::Message(message) => pieces.send(Ok(Frame::data(framed(&message)))).await,
                    Said::End => return drop(pieces.send(Ok(good())).await),
                    Said::Abandoned => return,
                    Said::Cut => {
                        cut.notify_one();
                        return pieces.closed().await;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        }
    });
    Body::new(StreamBody::new(ReceiverStream::new(relayed)))
}

fn take_message(waiting: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(waiting.get(1..5)?.try_into().expect("four bytes"));
    let length = usize::try_from(length).expect("it is in memory");
    if waiting.len() < 5 + length {
        return None;
    }
    waiting.advance(5);
    Some(waiting.split_to(length).freeze())
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("short"));
    framed.put_slice(message);
    framed.freeze()
}

/// The trailers of an answer that is OK.
fn good() -> Frame<Bytes> {
    Frame::trailers(
        [("grpc-status", "0")]
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .into_iter()
            .collect(),
    )
}

/// Forwards a `GET` over HTTP.
async fn fetch(upstream: &Upstream, lie: &Lie, log: &str, path: &str) -> Result<Response<Body>, Error> {
    let log = lie.log.unwrap_or(log);
    let uri: http::Uri = format!("http://{}/logs/{log}/{path}", upstream.http).parse()?;
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let answer = client.get(uri).await?;
    if answer.status() != 200 {
        return Ok(answer.map(Body::new));
    }
    let body = answer.into_body().collect().await?.to_bytes().to_vec();
    let response = Response::builder();
    Ok(match (lie.serve)(path, body) {
        Served::Body(body) => response.body(Body::new(Full::new(Bytes::from(body))))?,
        Served::Gzip(body) => {
            response.header("content-encoding", "gzip").body(Body::new(Full::new(Bytes::from(body))))?
        }
        Served::Status(status) => response.status(status).body(Body::empty())?,
        Served::Cut(part) => {
            let broken = [Ok(Frame::data(Bytes::from(part))), Err(Error::from("the connection breaks"))];
            response.body(Body::new(StreamBody::new(tokio_stream::iter(broken))))?
        }
    })
}
