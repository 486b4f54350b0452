//! A real server over a store in memory, and a proxy before it that fails and lies as it is told.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use logwood_client::{Client, ClientOptions, NewEntry};
use logwood_merkle::LeafIndex;
use logwood_note::{CosigningKey, Policy, PrivateKey, SignatureType};
use logwood_server::{LimitSettings, Limits, PublishOptions, ServeError, ServeOptions, free_space, serve};
use logwood_store::{LogStore, MemoryDisk, MemoryStore};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt as _;

pub struct Server {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    _data: TempDir,
}

impl Server {
    /// A new, empty server with a key of its own.
    pub async fn start(address: &str) -> Self {
        // A port that was given up may be somebody else's for a moment.
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            match Self::try_start(address).await {
                Some(server) => return server,
                None => assert!(Instant::now() < deadline, "it does not start on {address}"),
            }
        }
    }

    async fn try_start(address: &str) -> Option<Self> {
        let data = tempfile::tempdir().expect("a temporary directory");
        let disk = MemoryDisk::new();
        let limits = LimitSettings { disk_reserve_mib: 0, ..LimitSettings::default() };
        let options = ServeOptions {
            limits: Limits::try_from(limits).expect("valid limits"),
            free_space: free_space(data.path().to_owned()),
            opening_bytes: Arc::new(|| 64 << 20),
            data: data.path().to_owned(),
            grpc: address.parse().expect("an address"),
            http: None,
            http_append: false,
            tls: None,
            admin: data.path().join("admin.sock"),
            anchor: data.path().join("ANCHOR"),
            public_url: None,
            publishing: PublishOptions::default(),
            opener: Arc::new(move || Ok(Arc::new(MemoryStore::open(&disk)?) as Arc<dyn LogStore>)),
        };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let task = tokio::spawn(async move {
            let tell = move |started: &logwood_server::Started| tell.send(started.grpc).expect("the test waits");
            if let Err(error) = serve(options, tell, async { drop(stopped.await) }).await {
                assert!(matches!(error, ServeError::Io { .. }), "{error}");
            }
        });
        Some(Self { address: told.await.ok()?, stop, task, _data: data })
    }

    pub async fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.task.await.expect("it stops");
    }

    pub fn options(&self, state: Option<&Path>) -> ClientOptions {
        options(self.address, state)
    }
}

pub fn options(address: SocketAddr, state: Option<&Path>) -> ClientOptions {
    ClientOptions { state_dir: state.map(Path::to_owned), ..ClientOptions::new(format!("http://{address}"), "default") }
}

pub fn entry(number: u64) -> Bytes {
    Bytes::from(format!("entry {number}"))
}

pub fn new_entries(numbers: std::ops::Range<u64>) -> Vec<NewEntry> {
    numbers.map(|number| NewEntry { bytes: entry(number), identity: None.into() }).collect()
}

/// A witness with a seed of one repeated byte.
pub fn witness(seed: u8) -> CosigningKey {
    let key = PrivateKey::from_seed("witness.example", SignatureType::Ed25519Cosignature, &[seed; 32]);
    key.and_then(TryInto::try_into).expect("a cosigner")
}

/// The policy that asks for this log and this witness.
pub fn quorum(log: &Client, witness: &CosigningKey) -> Policy {
    let policy = format!("log {}\nwitness w {}\nquorum w\n", log.key(), witness.verifier());
    Policy::parse(policy.as_bytes()).expect("a policy")
}

/// Appends the entries 0 to `count` in one batch.
pub async fn fill(client: &Client, count: u64) {
    for (index, outcome) in (0..).zip(client.append_batch(new_entries(0..count)).await.expect("a verified answer")) {
        assert_eq!(outcome.expect("logged").index, LeafIndex(index));
    }
}

/// What goes wrong with a call.
#[derive(Clone)]
pub enum Fault {
    /// It is answered with this status, and nothing is done.
    Refuse(tonic::Status),
    /// The connection breaks, and nothing is done.
    CutBefore,
    /// It is done, and the connection breaks before the answer.
    CutAfter,
    /// The connection breaks after so many pieces of the answer.
    CutAmidst(usize),
    /// The one message of the answer is replaced.
    Lie(Arc<dyn Fn(Bytes) -> Vec<u8> + Send + Sync>),
    /// It is answered with this message alone, and nothing is done.
    Say(Vec<u8>),
    /// An answer begins, and never goes on; nothing is done.
    Hang,
}

impl Fault {
    /// The answer, changed by `change`.
    pub fn lie<T: prost::Message + Default>(change: impl Fn(&mut T) + Send + Sync + 'static) -> Self {
        Self::Lie(Arc::new(move |bytes| {
            let mut message = T::decode(bytes).expect("the server's message");
            change(&mut message);
            message.encode_to_vec()
        }))
    }

    /// `message` instead of an answer.
    pub fn say(message: &impl prost::Message) -> Self {
        Self::Say(message.encode_to_vec())
    }
}

/// Stands before a server: calls go through, but for those that the script says something about.
#[derive(Clone)]
pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<ProxyState>,
}

struct ProxyState {
    upstream: Channel,
    script: Mutex<HashMap<&'static str, VecDeque<Fault>>>,
    calls: Mutex<HashMap<String, usize>>,
    connections: Mutex<Vec<AbortHandle>>,
}

impl Proxy {
    pub async fn start(server: &Server) -> Self {
        let upstream = Endpoint::from_shared(format!("http://{}", server.address)).expect("a URL").connect_lazy();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (script, calls, connections) = (Mutex::default(), Mutex::default(), Mutex::default());
        let state = Arc::new(ProxyState { upstream, script, calls, connections });
        let accepting = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&accepting);
                let service = hyper::service::service_fn(move |request| Arc::clone(&state).answer(request));
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                let task = tokio::spawn(async move { drop(connection.await) });
                accepting.connections.lock().expect("no panic").push(task.abort_handle());
            }
        });
        Self { address, state }
    }

    /// The next calls of `method` (`Append`) meet these faults, one each.
    pub fn script(&self, method: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.state.script.lock().expect("no panic").entry(method).or_default().extend(faults);
    }

    /// Forgets what the script says of `method`.
    pub fn unscript(&self, method: &str) {
        self.state.script.lock().expect("no panic").remove(method);
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        self.state.abort_connections();
    }

    /// How many calls of `method` came since the last time.
    pub fn take_calls(&self, method: &str) -> usize {
        self.state.calls.lock().expect("no panic").remove(method).unwrap_or(0)
    }

    pub fn options(&self, state: Option<&Path>) -> ClientOptions {
        options(self.address, state)
    }
}

/// gRPC over HTTP/2, "Length-Prefixed-Message": no compression, four bytes of length.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("short"));
    framed.put_slice(message);
    framed.freeze()
}

type Answer = Result<http::Response<Body>, tonic::transport::Error>;

impl ProxyState {
    async fn answer(self: Arc<Self>, request: http::Request<Incoming>) -> Answer {
        let method = request.uri().path().rsplit('/').next().expect("a path has a last part").to_owned();
        *self.calls.lock().expect("no panic").entry(method.clone()).or_default() += 1;
        let fault = self.script.lock().expect("no panic").get_mut(&*method).and_then(VecDeque::pop_front);
        match fault {
            None => self.forward(request).await,
            Some(Fault::Refuse(status)) => Ok(status.into_http()),
            Some(Fault::CutBefore) => self.cut().await,
            Some(Fault::CutAfter) => {
                let answer = self.forward(request).await?;
                answer.into_body().collect().await.expect("a whole answer");
                self.cut().await
            }
            Some(Fault::CutAmidst(pieces)) => {
                let (head, body) = self.forward(request).await?.into_parts();
                let cut =
                    futures_util::stream::once(async move { self.cut().await }).map(|answer: Answer| match answer {
                        Ok(_) => unreachable!("the connection is gone"),
                        Err(error) => Err(tonic::Status::from_error(Box::new(error))),
                    });
                let body = BodyStream::new(body).take(pieces).chain(cut);
                Ok(http::Response::from_parts(head, Body::new(StreamBody::new(body))))
            }
            Some(Fault::Lie(change)) => {
                let (head, body) = self.forward(request).await?.into_parts();
                let body = body.collect().await.expect("a whole answer");
                let trailers = body.trailers().cloned();
                let message = change(body.to_bytes().slice(5..));
                let body = Full::new(framed(&message)).with_trailers(async move { trailers.map(Ok) });
                Ok(http::Response::from_parts(head, Body::new(body)))
            }
            Some(Fault::Hang) => {
                let never = futures_util::stream::pending::<Result<hyper::body::Frame<Bytes>, tonic::Status>>();
                let answer = http::Response::builder().header("content-type", "application/grpc");
                Ok(answer.body(Body::new(StreamBody::new(never))).expect("a valid header"))
            }
            Some(Fault::Say(message)) => {
                let good = http::HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    http::HeaderValue::from_static("0"),
                )]);
                let body = Full::new(framed(&message)).with_trailers(async move { Some(Ok(good)) });
                let answer = http::Response::builder().header("content-type", "application/grpc");
                Ok(answer.body(Body::new(body)).expect("a valid header"))
            }
        }
    }

    async fn forward(&self, request: http::Request<Incoming>) -> Answer {
        self.upstream.clone().oneshot(request.map(Body::new)).await
    }

    /// Breaks all connections, that of the caller among them.
    async fn cut(&self) -> Answer {
        self.abort_connections();
        std::future::pending().await
    }

    fn abort_connections(&self) {
        for connection in std::mem::take(&mut *self.connections.lock().expect("no panic")) {
            connection.abort();
        }
    }
}
