//! HTTP/1.1 connections of the servers here: so many at a time, each with so much time.
//!
//! Nobody keeps others out by saying nothing: if there are too many connections, a new one takes the place of the one
//! whose peer has been silent for longest. Peers whose request is being worked on are not silent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 256;

/// How long a request's header may take, and how long a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest header, in bytes: the smallest limit that hyper takes.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// How long requests in progress may take when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the peer of a connection is waited for: an extension of every request.
pub(crate) struct Peer {
    /// Since when it has owed a request, or the rest of one. `None`: the next step is ours.
    silent_since: Mutex<Option<Instant>>,
}

impl Peer {
    fn new() -> Arc<Self> {
        Arc::new(Self { silent_since: Mutex::new(Some(Instant::now())) })
    }

    /// The whole request is here: until it is answered, the connection is kept.
    pub(crate) fn has_asked(&self) {
        *self.silent_since.lock() = None;
    }

    fn was_heard(&self) {
        *self.silent_since.lock() = Some(Instant::now());
    }
}

/// Serves `router` until `stop` resolves; within 10 seconds then.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(false);
    let mut connections = Connections::default();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept(), if connections.has_room() => match accepted {
                Ok((stream, _)) => {
                    connections.evict().await;
                    connections.spawn(stream, &router, &stopped);
                }
                Err(error) => {
                    // Open files have run out, or the peer is gone already. The next try waits for a moment.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            true = connections.join_next() => {}
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let ended = async { while connections.join_next().await {} };
    if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
        tracing::warn!("connections were cut: their requests took too long");
    }
}

/// The connections there are.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    peers: HashMap<Id, (AbortHandle, Arc<Peer>)>,
}

impl Connections {
    /// Whether there is a place for another one, or one whose peer is silent.
    fn has_room(&self) -> bool {
        self.tasks.len() < CONNECTIONS_MAX || self.most_silent().is_some()
    }

    fn most_silent(&self) -> Option<&AbortHandle> {
        let silent = self.peers.values().filter_map(|(task, peer)| Some(((*peer.silent_since.lock())?, task)));
        silent.min_by_key(|(since, _)| *since).map(|(_, task)| task)
    }

    /// Makes room for one.
    async fn evict(&mut self) {
        while self.tasks.len() >= CONNECTIONS_MAX {
            if let Some(task) = self.most_silent() {
                task.abort();
            }
            self.join_next().await;
        }
    }

    fn spawn(&mut self, stream: TcpStream, router: &Router, stopped: &watch::Receiver<bool>) {
        let peer = Peer::new();
        let task = self.tasks.spawn(connection(stream, router.clone(), Arc::clone(&peer), stopped.clone()));
        self.peers.insert(task.id(), (task, peer));
    }

    /// Waits for the end of a connection. False if there is none.
    async fn join_next(&mut self) -> bool {
        let id = match self.tasks.join_next_with_id().await {
            None => return false,
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
        };
        self.peers.remove(&id);
        true
    }
}

/// Serves one connection until it ends, or until the server stops and its request is answered.
async fn connection(stream: TcpStream, router: Router, peer: Arc<Peer>, mut stopped: watch::Receiver<bool>) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_BYTES_MAX);
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        peer.was_heard();
        request.extensions_mut().insert(Arc::clone(&peer));
        let (answer, peer) = (hyper::service::Service::call(&router, request), Arc::clone(&peer));
        async move {
            let answer = answer.await;
            peer.was_heard();
            answer
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        // The guard that it gives must not be held while the last request is answered.
        () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

#[cfg(test)]
mod tests;
