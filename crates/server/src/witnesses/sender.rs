//! HTTP to witnesses. Whatever they answer, it takes a bounded time and a bounded number of bytes.

use std::time::Duration;

use logwood_proto::with_causes;
use logwood_sequencer::witnessing::ANSWER_BYTES_MAX;
use reqwest::{Client, Response, Url, redirect};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request may take in all. A witness that is slow holds back nobody else: what it says counts when it comes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection that nobody uses is kept. Less than most servers do.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// A client that follows no redirects: whoever is asked is in the policy.
#[derive(Clone)]
pub(super) struct Sender {
    client: Client,
}

impl Sender {
    /// # Errors
    ///
    /// There are no roots of certificates, or no TLS.
    pub(super) fn new(needs_tls: bool) -> Result<Self, reqwest::Error> {
        // What another part of the process has installed is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("logwood/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .no_gzip()
            .no_zstd()
            .redirect(redirect::Policy::none());
        if !needs_tls {
            // So that plain text works on a machine without any root certificates.
            builder = builder.tls_certs_only([]);
        }
        Ok(Self { client: builder.build()? })
    }

    /// `POST`: status and body, or why there is no whole answer.
    pub(super) async fn post(&self, url: Url, body: Vec<u8>) -> Result<(u16, Vec<u8>), String> {
        answer(self.client.post(url).body(body).send().await).await
    }
}

async fn answer(response: reqwest::Result<Response>) -> Result<(u16, Vec<u8>), String> {
    let mut response = response.map_err(|error| whole(&error))?;
    let (status, mut body) = (response.status().as_u16(), Vec::new());
    while let Some(bytes) = response.chunk().await.map_err(|error| whole(&error))? {
        if body.len() + bytes.len() > ANSWER_BYTES_MAX {
            return Err(format!("the answer has more than {ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&bytes);
    }
    Ok((status, body))
}

/// `error` and its causes, without the URL.
fn whole(error: &reqwest::Error) -> String {
    with_causes(if error.is_timeout() { "no answer in time" } else { "no whole answer" }, error)
}
