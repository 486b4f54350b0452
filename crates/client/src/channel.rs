//! Channels to a server.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use logwood_proto::Coalesced;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::ServiceExt as _;

use crate::{ClientError, TlsOptions};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for the first byte of an answer, and for the next answer of a stream that owes one.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a quiet connection is asked whether it still is one, and how long for the answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Connects to `server`, by a socket that sends what is ready in one write. Not for what must be verified, as
/// [`crate::Client`] does: what comes through the channel is the server's word.
///
/// * `server` - `http://HOST:PORT`, or `https://HOST:PORT` for TLS.
/// * `tls` - roots and certificate for `https://`.
///
/// # Errors
///
/// * [`ClientError::BadOption`] for a URL that is anything else, and for files of `tls` that do not hold what they should.
/// * [`ClientError::Unreachable`] if no connection is made.
pub async fn connect(server: &str, tls: &TlsOptions) -> Result<Channel, ClientError> {
    let bad = |option, message| ClientError::BadOption { option, message };
    let mut endpoint = Endpoint::from(parse(server).map_err(|message| bad("server", message))?);
    if endpoint.uri().scheme_str() == Some("https") {
        endpoint = endpoint.tls_config(tls.config()?).map_err(|error| bad("tls-ca", error.to_string()))?;
    } else if tls.is_given() {
        return Err(bad("server", "certificates are for servers whose URL begins with https://".to_owned()));
    }
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let gathering = tcp.map_response(|io| TokioIo::new(Coalesced::new(io.into_inner())));
    let channel = endpoint.connect_with_connector(gathering).await;
    channel.map_err(|error| ClientError::unreachable(server, &error))
}

/// Scheme, host and port. More than these would be dropped in silence; and a password among it is nobody's to read.
fn parse(server: &str) -> Result<Uri, String> {
    let expected = || "give http://HOST:PORT or https://HOST:PORT, with no user, path or query".to_owned();
    let uri: Uri = server.parse().map_err(|_| expected())?;
    let (_, rest) = server.split_once("://").ok_or_else(expected)?;
    let authority = uri.authority().ok_or_else(expected)?;
    let is_bare = rest.strip_suffix('/').unwrap_or(rest) == authority.as_str();
    // User info would stand before the host; and a port that is none would be dropped, too.
    let port = authority.as_str().strip_prefix(authority.host());
    let is_port = |port: &str| port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let is_host = !authority.host().is_empty() && port.is_some_and(|port| port.is_empty() || is_port(port));
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if is_bare && is_host && is_http { Ok(uri) } else { Err(expected()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_scheme_a_host_and_a_port() {
        for good in ["http://127.0.0.1:7070", "https://log.example", "http://[::1]:7070/", "HTTPS://LOG.example:443"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        let words = ["", "localhost:7070", "127.0.0.1:7070", "log.example", "http://", "http://:7070", "http:/x"];
        let more = [
            "http://a/logs",
            "http://a?x=y",
            "http://a/?x",
            "http://a/#x",
            "http://a#x",
            "http://me:pw@a",
            "http://me@a",
        ];
        for bad in
            words.iter().chain(&more).chain(&["ftp://a", "unix:///a", "http://a b", "http://a:65536", "http://a//"])
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
