//! A tlog-tiles log over HTTP: limits on every answer, repeats of what may pass, one verdict for each failure.
//!
//! | answer | verdict |
//! |---|---|
//! | 404, 410 | missing: the log does not have what its checkpoint promises |
//! | bytes that are not what the tree says, or too many of them | wrong |
//! | bytes that do not decompress | asked once more, then wrong |
//! | 408, 425, 429, 5xx, no connection, a cut body | asked again, then unavailable |
//! | silence for 30 seconds | asked once more, then unavailable |
//! | anything else | unavailable |
//!
//! Source: C2SP tlog-tiles.

mod bundle;
mod proofs;
pub mod retry;

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use logwood_merkle::{Hash, TileId, TileNodes, TilePath};
use logwood_note::note::NOTE_BYTES_MAX;
use logwood_proto::with_causes;
use reqwest::header::{CONTENT_ENCODING, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode, Url, redirect};

use crate::failure::{Failure, Problem};
use bundle::{BundleCheck, BundleEntries};
use proofs::RecentTiles;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long an answer may take, silent or not. A bundle has at most 16 MiB.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(5);
/// Most redirects of one request.
const REDIRECTS_MAX: usize = 4;
/// Hashes or entries of a full tile or bundle.
pub const FULL: u16 = 256;

/// What differs between a run and a test of it: time and chance.
pub trait World: Send + Sync {
    /// Waits.
    fn sleep(&self, wait: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    /// Any number.
    fn random(&self) -> u32;
}

/// The clock and the randomness of this machine.
pub struct RealWorld;

impl World for RealWorld {
    fn sleep(&self, wait: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(wait))
    }

    fn random(&self) -> u32 {
        // Without randomness the longest wait is as good as any.
        getrandom::u32().unwrap_or(u32::MAX)
    }
}

/// Where the bytes of an answer go.
trait Sink {
    /// Takes the next bytes. True if no more are needed.
    fn push(&mut self, bytes: &[u8]) -> Result<bool, String>;
    /// Takes the end.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl Sink for BundleCheck<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<bool, String> {
        Self::push(self, bytes).map_err(|error| error.to_string())
    }

    fn finish(&mut self) -> Result<(), String> {
        Self::finish(self).map_err(|error| error.to_string())
    }
}

impl Sink for BundleEntries {
    fn push(&mut self, bytes: &[u8]) -> Result<bool, String> {
        Ok(Self::push(self, bytes))
    }

    fn finish(&mut self) -> Result<(), String> {
        Self::finish(self).map_err(|error| error.to_string())
    }
}

/// Keeps the bytes, up to a limit.
struct Whole {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Sink for Whole {
    fn push(&mut self, bytes: &[u8]) -> Result<bool, String> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(format!("the answer has more than {} bytes", self.bytes_max));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(false)
    }
}

/// Asks only whether there is anything.
struct Presence;

impl Sink for Presence {
    fn push(&mut self, _: &[u8]) -> Result<bool, String> {
        Ok(true)
    }
}

/// One attempt that failed.
enum Attempt {
    Again {
        reason: String,
        retry_after: Option<Duration>,
    },
    /// Nothing came for as long as anybody waits.
    Silent(String),
    /// The whole answer came, and does not decompress: something on the way may have spoilt it.
    Corrupt(String),
    Over(Problem),
}

/// A log at a URL.
#[derive(Clone)]
pub struct Source {
    client: Client,
    base: Url,
    world: Arc<dyn World>,
    recent: Arc<RecentTiles>,
}

impl Source {
    /// * `base` - the URL of the log: `checkpoint` is right below it.
    /// * `roots` - the certificates to trust instead of the system's, in PEM.
    ///
    /// # Errors
    ///
    /// [`SetUpError`] if the roots are none, or TLS cannot be set up.
    pub fn new(base: &Url, roots: Option<&[u8]>, world: Arc<dyn World>) -> Result<Self, SetUpError> {
        let mut base = base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // Fails only where a provider is there already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("logwood/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_MAX)
            .timeout(ANSWER_TIMEOUT)
            .redirect(redirect::Policy::limited(REDIRECTS_MAX))
            .https_only(base.scheme() == "https");
        if let Some(pem) = roots {
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(pem).map_err(SetUpError::Roots)?);
        } else if base.scheme() == "http" {
            // So that plain text works on a machine without any root certificates.
            builder = builder.tls_certs_only([]);
        }
        Ok(Self { client: builder.build().map_err(SetUpError::Client)?, base, world, recent: Arc::default() })
    }

    /// The checkpoint note, not verified.
    ///
    /// # Errors
    ///
    /// [`Failure`], once asking again does not help.
    pub async fn checkpoint(&self) -> Result<Vec<u8>, Failure> {
        let sink = || Whole { bytes: Vec::new(), bytes_max: NOTE_BYTES_MAX };
        Ok(self.get("checkpoint", sink).await?.bytes)
    }

    /// What a Logwood server has as the seal of a log, asked for once. `None` if it does not answer so.
    pub async fn seal(&self) -> Option<Bytes> {
        let mut sink = Whole { bytes: Vec::new(), bytes_max: NOTE_BYTES_MAX };
        let answer = self.attempt("seal", &mut sink).await;
        answer.is_ok().then(|| sink.bytes.into())
    }

    /// The first `width` hashes of the tile `tile`, not verified.
    ///
    /// # Errors
    ///
    /// [`Failure`], once asking again does not help.
    pub async fn tile(&self, tile: TileId, width: u16) -> Result<TileNodes, Failure> {
        let wanted = usize::from(width) * Hash::LEN;
        let path = TilePath::Hashes { tile, width };
        let (path, served) = match self.tile_bytes(path).await {
            // A log may drop partial tiles once the full one is there (C2SP tlog-tiles).
            Err(failure) if failure.is_missing() && width < FULL => {
                let full = TilePath::Hashes { tile, width: FULL };
                (full, self.tile_bytes(full).await.map_err(|other| if other.is_missing() { failure } else { other })?)
            }
            served => (path, served?),
        };
        let expected = usize::from(path.width()) * Hash::LEN;
        if served.len() != expected {
            let reason = format!("{} bytes are served, not {expected}", served.len());
            return Err(Failure::wrong(path.to_string(), reason));
        }
        TileNodes::from_bytes(&served[..wanted]).map_err(|error| Failure::wrong(path.to_string(), error.to_string()))
    }

    async fn tile_bytes(&self, path: TilePath) -> Result<Vec<u8>, Failure> {
        let bytes_max = usize::from(path.width()) * Hash::LEN;
        Ok(self.get(&path.to_string(), || Whole { bytes: Vec::new(), bytes_max }).await?.bytes)
    }

    /// Checks that the entry bundle `index` has entries with the leaf hashes `leaves`: 1..=256 of them.
    ///
    /// # Errors
    ///
    /// [`Failure`], once asking again does not help.
    ///
    /// # Panics
    ///
    /// If there are more.
    pub async fn check_bundle(&self, index: u64, leaves: &[Hash]) -> Result<(), Failure> {
        let width = u16::try_from(leaves.len()).expect("at most 256");
        let path = TilePath::Entries { index, width }.to_string();
        match self.get(&path, || BundleCheck::new(leaves, false)).await {
            Err(failure) if failure.is_missing() && width < FULL => {
                let full = TilePath::Entries { index, width: FULL }.to_string();
                let checked = self.get(&full, || BundleCheck::new(leaves, true)).await;
                checked.map_err(|other| if other.is_missing() { failure } else { other }).map(drop)
            }
            checked => checked.map(drop),
        }
    }

    /// The first `width` entries of the entry bundle `index`, not verified: at most 16 MiB.
    ///
    /// # Errors
    ///
    /// [`Failure`], once asking again does not help.
    pub async fn bundle(&self, index: u64, width: u16) -> Result<Vec<Bytes>, Failure> {
        let path = TilePath::Entries { index, width }.to_string();
        let entries = match self.get(&path, || BundleEntries::new(width)).await {
            Err(failure) if failure.is_missing() && width < FULL => {
                let full = TilePath::Entries { index, width: FULL }.to_string();
                let entries = self.get(&full, || BundleEntries::new(width)).await;
                entries.map_err(|other| if other.is_missing() { failure } else { other })
            }
            entries => entries,
        };
        Ok(entries?.take())
    }

    /// Whether the full entry bundle `index` is served.
    ///
    /// # Errors
    ///
    /// [`Failure`], once asking again does not help.
    pub async fn has_bundle(&self, index: u64) -> Result<bool, Failure> {
        let path = TilePath::Entries { index, width: FULL }.to_string();
        match self.get(&path, || Presence).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_missing() => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Fetches `path` into a new sink, again and again while that may help.
    async fn get<S: Sink>(&self, path: &str, new_sink: impl Fn() -> S) -> Result<S, Failure> {
        let (mut failures, mut is_corrupt, mut is_silent) = (0, false, false);
        loop {
            let mut sink = new_sink();
            let (reason, retry_after) = match self.attempt(path, &mut sink).await {
                Ok(()) => return Ok(sink),
                Err(Attempt::Over(problem)) => return Err(Failure { path: path.to_owned(), problem }),
                Err(Attempt::Corrupt(reason)) if is_corrupt => return Err(Failure::wrong(path, reason)),
                Err(Attempt::Corrupt(reason)) => {
                    is_corrupt = true;
                    (reason, None)
                }
                Err(Attempt::Silent(reason)) if is_silent => {
                    return Err(Failure::unavailable(path, format!("{reason}, twice: try again later")));
                }
                Err(Attempt::Silent(reason)) => {
                    is_silent = true;
                    (reason, None)
                }
                Err(Attempt::Again { reason, retry_after }) => (reason, retry_after),
            };
            failures += 1;
            let Some(wait) = retry::wait(failures, retry_after, self.world.random()) else {
                let reason = format!("{reason} ({failures} attempts): try again later");
                return Err(Failure::unavailable(path, reason));
            };
            self.world.sleep(wait).await;
        }
    }

    async fn attempt(&self, path: &str, sink: &mut impl Sink) -> Result<(), Attempt> {
        let unavailable = |reason: String| Attempt::Over(Problem::Unavailable(reason));
        let url = self.base.join(path).map_err(|error| unavailable(error.to_string()))?;
        let mut response = match self.client.get(url).send().await {
            Ok(response) => response,
            Err(error) if error.is_builder() || error.is_redirect() => return Err(unavailable(whole(&error))),
            Err(error) => return Err(broken(&error)),
        };
        check_status(&response)?;
        // What reqwest can decode it has decoded, and taken the field away.
        if let Some(coding) = response.headers().get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
            return Err(unavailable(format!("the answer has the coding {coding:?}, which nobody asked for")));
        }
        let wrong = |reason| Attempt::Over(Problem::Wrong(reason));
        loop {
            let chunk = response.chunk().await;
            let chunk = chunk.map_err(|error| broken_body(&error))?;
            let Some(bytes) = chunk else { return sink.finish().map_err(wrong) };
            if sink.push(&bytes).map_err(wrong)? {
                return Ok(());
            }
        }
    }
}

/// Why a log cannot be asked at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetUpError {
    /// The roots to trust are none.
    #[error("the file of root certificates holds no PEM certificate")]
    Roots(#[source] reqwest::Error),
    /// The machine lacks something.
    #[error("HTTP cannot be set up")]
    Client(#[source] reqwest::Error),
}

fn check_status(response: &Response) -> Result<(), Attempt> {
    let status = response.status();
    let may_pass = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Attempt::Over(Problem::Missing)),
        status if status.is_server_error() || may_pass.contains(&status) => {
            let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = retry_after.and_then(retry::parse_retry_after);
            Err(Attempt::Again { reason: format!("the server answers {status}"), retry_after })
        }
        status => Err(Attempt::Over(Problem::Unavailable(format!("the server answers {status}")))),
    }
}

/// Whether a body broke on its way, or is no compressed data: `reqwest` calls both an error of decoding, but only behind
/// the first is one of the connection.
fn broken_body(error: &reqwest::Error) -> Attempt {
    if error.is_timeout() || is_of_connection(error) {
        return broken(error);
    }
    Attempt::Corrupt(with_causes("the answer does not decompress", error))
}

/// What there is of a request that was not answered, or not to the end.
fn broken(error: &reqwest::Error) -> Attempt {
    let reason = whole(error);
    if error.is_timeout() { Attempt::Silent(reason) } else { Attempt::Again { reason, retry_after: None } }
}

fn is_of_connection(error: &(dyn Error + 'static)) -> bool {
    error.is::<hyper::Error>() || error.source().is_some_and(is_of_connection)
}

/// `error` and its causes, without the URL, which the path in front says already.
fn whole(error: &reqwest::Error) -> String {
    with_causes(if error.is_timeout() { "no answer in time" } else { "no whole answer" }, error)
}

#[cfg(test)]
mod tests;
