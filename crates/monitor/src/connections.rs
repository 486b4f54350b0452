//! HTTP/1.1 connections of the servers here: so many at a time, each with so much time.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;

/// How long a request's header may take, and how long a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest header, in bytes: the smallest limit that hyper takes.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// How long requests in progress may take when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `router` until `stop` resolves; within 10 seconds then.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        // The number of connections is that of the tasks: a new one is accepted only if there is room.
        let is_full = connections.len() >= CONNECTIONS_MAX;
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept(), if !is_full => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), stopped.clone()));
                }
                Err(error) => {
                    // Open files have run out, or the peer is gone already. The next try waits for a moment.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
        tracing::warn!("connections were cut: their requests took too long");
    }
}

/// Serves one connection until it ends, or until the server stops and its request is answered.
async fn connection(stream: TcpStream, router: Router, mut stopped: watch::Receiver<bool>) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
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
