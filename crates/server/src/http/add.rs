//! `POST /logs/<name>/add`: what one can do with `curl`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderName, ORIGIN};
use hyper::{HeaderMap, StatusCode};
use logwood_proto::v1;
use logwood_store::ENTRY_BYTES_MAX;

use super::answer::{Answer, Cache, Meta, failed, refusal};
use crate::append;
use crate::core::Core;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes a retried entry the same entry.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Why an entry was not taken, and a line that says so.
struct Refused(StatusCode, String);

impl Refused {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self(status, text.into())
    }
}

/// Appends the body as one entry; answers with its index once it is under a signed head.
pub(super) async fn add(core: &Core, name: &str, headers: &HeaderMap, body: &mut Incoming) -> Answer {
    let request = match receive(name, headers, body).await {
        Ok(request) => request,
        Err(Refused(status, text)) => return refusal(status, &text),
    };
    match append::append(core, request).await {
        Ok(appended) => Meta::plain("text/plain; charset=utf-8", Cache::Never, None)
            .content(Bytes::from(appended.index.to_string())),
        Err(status) => failed(&status),
    }
}

async fn receive(name: &str, headers: &HeaderMap, body: &mut Incoming) -> Result<v1::AppendRequest, Refused> {
    // A page of any site may make a browser send a plain POST to this machine.
    if headers.contains_key(ORIGIN) {
        return Err(Refused::new(StatusCode::FORBIDDEN, "web pages cannot append"));
    }
    let identity = identity(headers)?;
    let entry = tokio::time::timeout(BODY_TIMEOUT, read(headers, body)).await;
    let late = |_| Refused::new(StatusCode::REQUEST_TIMEOUT, "the entry took more than 10 seconds to arrive");
    let entry = entry.map_err(late)??;
    if entry.is_empty() {
        let text = "the body is the entry, and an entry has at least one byte";
        return Err(Refused::new(StatusCode::BAD_REQUEST, text));
    }
    let identity = identity.map(v1::append_request::Identity::Key);
    Ok(v1::AppendRequest { log: name.to_owned(), entry, identity, ..Default::default() })
}

fn identity(headers: &HeaderMap) -> Result<Option<Bytes>, Refused> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (keys.next(), keys.next()) {
        (key, None) => Ok(key.map(|key| Bytes::copy_from_slice(key.as_bytes()))),
        _ => Err(Refused::new(StatusCode::BAD_REQUEST, "more than one Idempotency-Key")),
    }
}

/// The body, which is refused as soon as it is known to be longer than an entry.
async fn read(headers: &HeaderMap, body: &mut Incoming) -> Result<Bytes, Refused> {
    let too_long =
        || Refused::new(StatusCode::PAYLOAD_TOO_LARGE, format!("an entry has at most {ENTRY_BYTES_MAX} bytes"));
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > ENTRY_BYTES_MAX as u64) {
        return Err(too_long());
    }
    let mut entry = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refused::new(StatusCode::BAD_REQUEST, "the body was cut short"))?;
        let Ok(data) = frame.into_data() else { continue };
        if entry.len() + data.len() > ENTRY_BYTES_MAX {
            return Err(too_long());
        }
        entry.extend_from_slice(&data);
    }
    Ok(entry.freeze())
}
