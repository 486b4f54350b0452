//! The HTTP read API (C2SP tlog-tiles under `/logs/<name>/`), `POST .../add`, health and metrics.
//!
//! [`serve`] accepts connections, [`connections`] bounds them, [`route`] reads paths, [`content`] answers. HTTP/1.1 and
//! HTTP/2, over TLS or without. `docs/http.md` has what a reader may rely on.

mod add;
mod answer;
mod connections;
mod content;
mod encoding;
mod route;
mod unread;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use logwood_merkle::TilePath;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tonic::Status;

use self::answer::{
    Answer, Cache, Meta, failed, finish, is_grpc, method_not_allowed, not_found, not_grpc, options, refusal,
};
use self::connections::{Admission, Admitted, Connections, FIRST_REQUEST, InProgress};
use self::content::Bundles;
use self::route::{Part, Route};
use crate::core::Core;
use crate::metrics::Metrics;

/// Connections at once. One that waits for a request, or that takes long over an answer, makes room for a new one.
const CONNECTIONS_MAX: usize = 512;

/// Entries that are received at once: 64 MiB at most, however many connections and streams there are.
const ADDS_MAX: usize = 1_024;

/// Bytes of a request's head: its line and its fields.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Fields of a request.
const FIELDS_MAX: usize = 64;

/// Requests of one HTTP/2 connection at once.
const STREAMS_MAX: u32 = 64;

/// What HTTP/2 may buffer of one answer, in bytes.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// How often a connection's deadline is looked at: a connection lives at most so much longer than it says.
const DEADLINE_CHECK: Duration = Duration::from_secs(2);

/// How long a connection that is told to end may take, in milliseconds.
const CLOSE_MS: u64 = 1_000;

/// Of the answers of `/metrics`.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long to wait after a connection could not be accepted (no file descriptors, as a rule).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What the HTTP service is made from.
pub(crate) struct Http {
    core: Arc<Core>,
    /// Whether `POST .../add` is there.
    append: bool,
    bundles: Bundles,
    /// Entries being received.
    adds: Semaphore,
    connections: Arc<Connections>,
}

impl Http {
    pub(crate) fn new(core: &Arc<Core>, append: bool) -> Arc<Self> {
        let (core, bundles, adds) = (Arc::clone(core), Bundles::new(), Semaphore::new(ADDS_MAX));
        Arc::new(Self { core, append, bundles, adds, connections: Connections::new(CONNECTIONS_MAX) })
    }

    fn metrics(&self) -> &Metrics {
        &self.core.shared.metrics
    }

    /// Answers one request; never fails.
    async fn answer(&self, request: Request<Incoming>, in_progress: &InProgress) -> Answer {
        let start = Instant::now();
        let (head, mut body) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let route = Route::parse(head.uri.path(), head.uri.query());
        let route = route.filter(|route| self.append || !matches!(route, Route::Log { part: Part::Add, .. }));
        let answer = match route {
            None if is_grpc(&head.headers) => not_grpc(),
            None => not_found(),
            Some(route) if !route.allows(&head.method) => method_not_allowed(route.allowed()),
            Some(route) if head.method == Method::OPTIONS => options(route.allowed()),
            Some(Route::Log { name, part: Part::Add }) => {
                if let Ok(_receiving) = self.adds.try_acquire() {
                    add::add(&self.core, name, &head.headers, &mut body).await
                } else {
                    let text = format!("at most {ADDS_MAX} entries are received at once: try again");
                    refusal(StatusCode::TOO_MANY_REQUESTS, &text)
                }
            }
            Some(route) => self.read(route, &head.headers, in_progress).await.unwrap_or_else(|status| failed(&status)),
        };
        unread::discard(&head.headers, &mut body).await;
        let label = route.map_or("other", Route::label);
        self.metrics().http_answered(label, answer.status(), start.elapsed());
        finish(answer, is_head)
    }

    async fn read(
        &self,
        route: Route<'_>,
        headers: &hyper::HeaderMap,
        in_progress: &InProgress,
    ) -> Result<Answer, Status> {
        let core = &*self.core;
        let (name, part) = match route {
            Route::Logs { after } => return tokio::task::block_in_place(|| content::logs(core, after, headers)),
            Route::Healthz => return Ok(text("ok\n")),
            Route::Readyz => return Ok(self.ready()),
            Route::Metrics => {
                let text = self.metrics().scrape(core, self.connections.open());
                return Ok(Meta::plain(OPENMETRICS, Cache::Never, None).content(text.into()));
            }
            Route::Log { name, part } => (name, part),
        };
        let log = tokio::task::block_in_place(|| core.log(name))?;
        match part {
            Part::Checkpoint => Ok(content::checkpoint(core, &log, headers)),
            Part::Seal => Ok(content::seal(&log, headers)),
            Part::Tile(path) if !path.is_complete(log.visible_size()) => Ok(not_found()),
            Part::Tile(path @ TilePath::Hashes { .. }) => {
                tokio::task::block_in_place(|| content::tile(core, &log, path, headers))
            }
            Part::Tile(path) => {
                let room = || self.bundles.room(&self.connections, in_progress);
                content::entries(core, &log, path, (&self.bundles, room), headers).await
            }
            Part::Add => Ok(not_found()),
        }
    }

    /// Whether reads and writes are served: the store is open, and the process is not about to stop.
    fn ready(&self) -> Answer {
        let is_halted = *self.core.shared.halted.borrow() || self.core.shared.slot.get().is_none();
        match (is_halted, self.core.bounds.is_stopping()) {
            (_, true) => refusal(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            (true, _) => refusal(StatusCode::SERVICE_UNAVAILABLE, "reloading from storage"),
            (false, false) => text("ok\n"),
        }
    }
}

fn text(text: &'static str) -> Answer {
    Meta::plain("text/plain; charset=utf-8", Cache::Never, None).content(Bytes::from_static(text.as_bytes()))
}

/// Serves until the server stops, and then until each connection has ended.
pub(crate) async fn serve(http: Arc<Http>, listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
    let tls = tls.map(TlsAcceptor::from);
    let stopping = http.core.bounds.stopping();
    tokio::pin!(stopping);
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopping => break,
            Some(_) = tasks.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let admitted = match http.connections.admit(Instant::now()) {
            Admission::Admitted(admitted) => admitted,
            Admission::Replacing(admitted) => {
                http.metrics().http_evicted();
                admitted
            }
            Admission::Full => {
                http.metrics().http_refused();
                continue;
            }
        };
        tasks.spawn(connection(Arc::clone(&http), Arc::new(admitted), stream, tls.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

async fn connection(http: Arc<Http>, admitted: Arc<Admitted>, stream: TcpStream, tls: Option<TlsAcceptor>) {
    // Nagle's delay is for terminals. Without the option the answers are the same, only later.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return converse(http, admitted, stream).await };
    let evicted = admitted.evicted();
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(FIRST_REQUEST, tls.accept(stream)) => shaken,
        () = evicted.cancelled() => return,
    };
    if let Ok(Ok(stream)) = shaken {
        converse(http, admitted, stream).await;
    }
}

/// Answers the requests of one connection until it ends, is idle for too long, or has to make room.
async fn converse<S>(http: Arc<Http>, admitted: Arc<Admitted>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (evicted, core) = (admitted.evicted(), Arc::clone(&http.core));
    let requests = Arc::clone(&admitted);
    let service = service_fn(move |request| {
        let (http, in_progress) = (Arc::clone(&http), requests.begin());
        async move {
            let answer = http.answer(request, &in_progress).await;
            Ok::<_, Infallible>(answer.map(|body| while_sent(body, in_progress)))
        }
    });
    let protocols = protocols();
    let connection = protocols.serve_connection(TokioIo::new(stream), service);
    let stopping = core.bounds.stopping();
    tokio::pin!(connection, stopping);
    let mut check = tokio::time::interval(DEADLINE_CHECK);
    loop {
        tokio::select! {
            // An error is the other side's doing: it broke the protocol, or went away.
            _ = &mut connection => return,
            () = evicted.cancelled() => return,
            _ = &mut stopping => break,
            _ = check.tick() => if admitted.deadline() <= Instant::now() { break },
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(Duration::from_millis(CLOSE_MS), connection).await;
}

/// The bytes of an answer, and the request that is in progress until the last of them has left.
struct Sending {
    bytes: Bytes,
    _in_progress: InProgress,
}

impl AsRef<[u8]> for Sending {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn while_sent(bytes: Bytes, in_progress: InProgress) -> Full<Bytes> {
    if bytes.is_empty() {
        return Full::default();
    }
    Full::new(Bytes::from_owner(Sending { bytes, _in_progress: in_progress }))
}

fn protocols() -> auto::Builder<TokioExecutor> {
    let mut protocols = auto::Builder::new(TokioExecutor::new());
    protocols
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_REQUEST)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(FIELDS_MAX);
    protocols
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).expect("16 KiB"))
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX);
    protocols
}
