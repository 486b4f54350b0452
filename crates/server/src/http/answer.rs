//! From content to an answer: validators, cache times, `HEAD`, and what a failure looks like.

use bytes::Bytes;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Response, StatusCode};
use logwood_merkle::Hash;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

pub(super) type Answer = Response<Bytes>;

/// When a caller that was pushed back may try again, in seconds: the least that the field can say.
const RETRY_AFTER_S: &str = "1";

/// How long a browser may remember that reading is allowed, in seconds.
const PREFLIGHT_S: &str = "86400";

/// How long an answer may be kept by caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// A year: it can never change.
    Forever,
    /// Seven days: it can never change either, but the completed tile replaces it.
    Days,
    /// So many seconds. 0: it has to be asked for again each time.
    Seconds(u64),
    /// Not at all.
    Never,
}

impl Cache {
    fn value(self) -> HeaderValue {
        match self {
            Self::Forever => HeaderValue::from_static("public, max-age=31536000, immutable"),
            Self::Days => HeaderValue::from_static("public, max-age=604800"),
            Self::Seconds(0) => HeaderValue::from_static("no-cache"),
            Self::Seconds(seconds) => {
                HeaderValue::try_from(format!("public, max-age={seconds}")).expect("digits are visible ASCII")
            }
            Self::Never => HeaderValue::from_static("no-store"),
        }
    }
}

/// An encoding of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    Gzip,
    Zstd,
}

impl Coding {
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// Names exact bytes (RFC 9110 §8.8.3).
#[derive(Clone, Debug)]
pub(super) struct Validator(Hash);

impl Validator {
    /// Of bytes that are at hand.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Hash::from_bytes(Sha256::digest(bytes).into()))
    }

    /// The entity tag of one encoding of the bytes.
    fn tag(&self, coding: Coding) -> String {
        match coding.name() {
            None => format!("\"{}\"", self.0),
            Some(name) => format!("\"{}-{name}\"", self.0),
        }
    }

    /// The first of `codings` in which the client has the bytes already (RFC 9110 §13.1.2).
    pub(super) fn held(&self, headers: &HeaderMap, codings: &[Coding]) -> Option<Coding> {
        let lines = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let tags: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let is_held = |coding: &Coding| {
            let tag = self.tag(*coding);
            tags.iter().any(|held| *held == "*" || held.strip_prefix("W/").unwrap_or(held) == tag)
        };
        codings.iter().copied().find(is_held)
    }
}

/// What of an answer does not depend on the body.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    pub(super) content_type: &'static str,
    pub(super) cache: Cache,
    /// `None`: not worth asking whether it changed.
    pub(super) validator: Option<Validator>,
    pub(super) coding: Coding,
    /// Whether there are several encodings to choose from.
    pub(super) varies: bool,
}

impl Meta {
    /// Of something that has one encoding.
    pub(super) fn plain(content_type: &'static str, cache: Cache, validator: Option<Validator>) -> Self {
        Self { content_type, cache, validator, coding: Coding::Plain, varies: false }
    }

    fn fill(&self, headers: &mut HeaderMap) {
        headers.insert(CACHE_CONTROL, self.cache.value());
        if let Some(validator) = &self.validator {
            let tag = HeaderValue::try_from(validator.tag(self.coding)).expect("hexadecimal digits are visible ASCII");
            headers.insert(ETAG, tag);
        }
        if self.varies {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
    }

    /// The content itself.
    pub(super) fn content(&self, body: Bytes) -> Answer {
        let mut answer = Response::new(body);
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(coding) = self.coding.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        self.fill(headers);
        answer
    }

    /// The client has it already.
    pub(super) fn not_modified(&self) -> Answer {
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        self.fill(answer.headers_mut());
        answer
    }

    /// `body`, unless the client has it already.
    pub(super) fn answer(&self, headers: &HeaderMap, body: Bytes) -> Answer {
        let held = self.validator.as_ref().and_then(|validator| validator.held(headers, &[self.coding]));
        if held.is_some() { self.not_modified() } else { self.content(body) }
    }
}

/// A failure, with a line of text that says what to do. Caches keep none.
pub(super) fn refusal(status: StatusCode, text: &str) -> Answer {
    let meta = Meta::plain("text/plain; charset=utf-8", Cache::Never, None);
    let mut answer = meta.content(Bytes::from(format!("{text}\n")));
    *answer.status_mut() = status;
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    }
    answer
}

pub(super) fn not_found() -> Answer {
    refusal(StatusCode::NOT_FOUND, "not found")
}

/// Whether the request is a gRPC call, of a client that was given the wrong address.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// What such a client can show to whoever gave it the address.
pub(super) fn not_grpc() -> Answer {
    Status::unimplemented("this is the HTTP listener; gRPC is served on that of --grpc, port 7070 by default")
        .into_http()
}

pub(super) fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, &format!("allowed: {allowed}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// `OPTIONS`: what may be done, for browsers that ask before they read.
pub(super) fn options(allowed: &'static str) -> Answer {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(allowed));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("if-none-match"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_S));
    answer
}

/// The answer for a failure of the services behind. Their messages are meant for callers.
pub(super) fn failed(status: &Status) -> Answer {
    let code = match status.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::NotFound | Code::OutOfRange => StatusCode::NOT_FOUND,
        Code::AlreadyExists => StatusCode::CONFLICT,
        Code::FailedPrecondition | Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable | Code::Aborted | Code::Cancelled | Code::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refusal(code, status.message())
}

/// Anybody may read from a page of another origin; `HEAD` leaves out the body and keeps its length.
pub(super) fn finish(mut answer: Answer, is_head: bool) -> Answer {
    let length = answer.body().len();
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag"));
    if is_head && answer.status() == StatusCode::OK {
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if is_head { answer.map(|_| Bytes::new()) } else { answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_the_client_sends_back_is_known_in_every_form() {
        let validator = Validator::of(b"bytes");
        let (plain, gzip) = (validator.tag(Coding::Plain), validator.tag(Coding::Gzip));
        assert_ne!(plain, gzip, "two encodings are two representations");
        let both = [Coding::Gzip, Coding::Plain];
        for (field, held) in [
            (plain.clone(), Some(Coding::Plain)),
            (format!("W/{plain}"), Some(Coding::Plain)),
            (format!("\"other\", {gzip}"), Some(Coding::Gzip)),
            ("*".to_owned(), Some(Coding::Gzip)),
            ("\"other\"".to_owned(), None),
            (plain.trim_matches('"').to_owned(), None),
        ] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, field.parse().expect("a field value"))]);
            assert_eq!(validator.held(&headers, &both), held, "{field}");
        }
    }
}
