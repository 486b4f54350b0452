//! What a client still sends of a request that has its answer already.
//!
//! HTTP/1.1 closes a connection with unread bytes, and the reset that follows can overtake the answer; HTTP/2 resets the
//! stream after the answer (RFC 9113 §8.1), for which some clients, `curl` among them, drop the answer, although they must
//! not. So what is on its way is read first, and dropped.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, EXPECT};

/// How long a client may take to send the rest.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes that are read of it. Nothing is kept.
const DISCARD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Reads what is left of `body`, up to the limits.
pub(super) async fn discard(headers: &HeaderMap, body: &mut Incoming) {
    // It waits for leave to send a body whose length was enough to refuse it.
    let has_sent_nothing = headers.contains_key(EXPECT) && headers.contains_key(CONTENT_LENGTH);
    if has_sent_nothing || body.is_end_stream() {
        return;
    }
    let read = async {
        let mut left = DISCARD_BYTES_MAX;
        while left > 0
            && let Some(Ok(frame)) = body.frame().await
        {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        }
    };
    // Whoever takes longer may miss the answer.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, read).await;
}
