//! The witness over HTTP/1.1. Everything that is decided is decided in [`Witness`].
//!
//! | request | answer |
//! |---|---|
//! | `POST /add-checkpoint` | 200 and signature lines; 400, 403, 404, 409, 413, 422, 429, 503 |
//! | `GET /<hex SHA-256 of the origin>/checkpoint` | 200 and the last cosigned checkpoint; 404 |
//! | `GET /healthz` | 200 |
//!
//! Source: C2SP tlog-witness, "HTTP Interface".

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use logwood_note::add_checkpoint::ADD_CHECKPOINT_BYTES_MAX;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{Disk, Refusal, Witness};
use crate::connections::{self, Peer};

/// Requests at a time that check signatures or write. The others wait.
const WORKING_MAX: usize = 16;

/// How long a request's body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Media type of a conflict's body (C2SP tlog-witness, "add-checkpoint").
const SIZE: HeaderValue = HeaderValue::from_static("text/x.tlog.size");

/// What the server needs besides the witness.
pub struct ServeOptions<F> {
    /// Where it listens.
    pub listener: TcpListener,
    /// The clock: POSIX milliseconds.
    pub posix_ms: fn() -> u64,
    /// The server stops when it resolves: it takes no new requests, and answers those that it has.
    pub stop: F,
}

struct Shared<D> {
    witness: Witness<D>,
    posix_ms: fn() -> u64,
    working: Semaphore,
}

/// Serves `witness` until it is told to stop; within 10 seconds then.
pub async fn serve<D: Disk + 'static>(witness: Witness<D>, options: ServeOptions<impl Future<Output = ()>>) {
    let ServeOptions { listener, posix_ms, stop } = options;
    let shared = Arc::new(Shared { witness, posix_ms, working: Semaphore::new(WORKING_MAX) });
    let router = Router::new()
        .route("/add-checkpoint", post(add_checkpoint::<D>))
        .route("/{origin}/checkpoint", get(checkpoint::<D>))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(shared);
    connections::serve(listener, router, stop).await;
}

async fn add_checkpoint<D: Disk + 'static>(
    State(shared): State<Arc<Shared<D>>>,
    Extension(peer): Extension<Arc<Peer>>,
    body: Body,
) -> Response {
    let body = axum::body::to_bytes(body, ADD_CHECKPOINT_BYTES_MAX);
    let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let text = format!("the body was cut short, or has more than {ADD_CHECKPOINT_BYTES_MAX} bytes\n");
            return answer(StatusCode::PAYLOAD_TOO_LARGE, TEXT, text);
        }
        Err(_) => return answer(StatusCode::REQUEST_TIMEOUT, TEXT, "the body took more than 10 seconds\n"),
    };
    peer.has_asked();
    let answered = tokio::spawn(async move {
        // A request that is being decided goes on if its peer hangs up: the task is not the connection's.
        let _permit = shared.working.acquire().await;
        tokio::task::block_in_place(|| shared.witness.add_checkpoint(&body, (shared.posix_ms)()))
    });
    match answered.await {
        Ok(Ok(lines)) => answer(StatusCode::OK, TEXT, lines),
        Ok(Err(refusal)) => refused(&refusal),
        Err(error) => {
            tracing::error!(%error, "a request was not answered");
            refused(&Refusal::Unavailable)
        }
    }
}

fn refused(refusal: &Refusal) -> Response {
    tracing::debug!(%refusal, "nothing was cosigned");
    let status = match refusal {
        Refusal::Malformed(_) | Refusal::Checkpoint(_) | Refusal::OldSize { .. } => StatusCode::BAD_REQUEST,
        Refusal::UnknownOrigin => StatusCode::NOT_FOUND,
        Refusal::Unsigned(_) | Refusal::Extensions => StatusCode::FORBIDDEN,
        Refusal::Conflict { last } => return answer(StatusCode::CONFLICT, SIZE, format!("{last}\n")),
        Refusal::Inconsistent(_) | Refusal::ProofFromNothing => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::TooFast => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = answer(status, TEXT, format!("{refusal}\n"));
    if matches!(refusal, Refusal::TooFast | Refusal::Unavailable) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

async fn checkpoint<D: Disk + 'static>(State(shared): State<Arc<Shared<D>>>, Path(origin): Path<String>) -> Response {
    match shared.witness.checkpoint(&origin) {
        Some(note) => answer(StatusCode::OK, TEXT, note),
        None => answer(StatusCode::NOT_FOUND, TEXT, "nothing was cosigned for this origin\n"),
    }
}

fn answer(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response {
    let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, headers, body.into()).into_response()
}
