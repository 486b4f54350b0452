//! The client itself: its connection, the key it trusts, the heads it remembers.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logwood_note::{LogName, Policy, VerifierKey};
use logwood_proto::v1;
use logwood_proto::v1::log_service_client::LogServiceClient;
use parking_lot::Mutex;
use tonic::transport::Channel;

use crate::channel::connect;
use crate::memory::{Memory, Snapshot};
use crate::retry::{Attempts, SystemTiming, Timing};
use crate::state::{KeySource, StateFile};
use crate::tls::TlsOptions;
use crate::verify::signed_head;
use crate::{ClientError, VerifiedHead, policy};

/// The generated client.
pub(crate) type Rpc = LogServiceClient<Channel>;

/// The state file is written at most this often while entries are appended, and once more at the end.
const STORE_INTERVAL: Duration = Duration::from_secs(1);

/// More heads than that are not left to settling: they are shown to be extended by the latest one first.
const UNSETTLED_HEADS: usize = 64;

/// What to connect to, and what to trust.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// URL of the server's gRPC port, as `http://127.0.0.1:7070`, or `https://` for TLS.
    pub server: String,
    /// Name of the log.
    pub log: String,
    /// The key to trust. Without, the one remembered; without that, the server's own, which is then pinned.
    pub vkey: Option<VerifierKey>,
    /// Whom to trust besides, or instead of `vkey`: the log that it lists, and its quorum for witnessed heads. If it lists
    /// several logs and no key is remembered, `vkey` says which one is meant. Without a
    /// quorum no head counts as witnessed, and none that is can be asked for.
    pub policy: Option<Policy>,
    /// Directory that remembers keys and verified heads, and may be shared. `None`: nothing outlives the client.
    pub state_dir: Option<PathBuf>,
    /// How long after its beginning a call may begin another attempt, each of which takes at most 30 seconds. Only what
    /// is safe is retried: reads, and entries with an identity.
    pub retry_within: Duration,
    /// Roots and certificate for `https://`.
    pub tls: TlsOptions,
}

impl ClientOptions {
    /// Trusts what the server says first, remembers nothing, retries for 30 seconds.
    #[must_use]
    pub fn new(server: impl Into<String>, log: impl Into<String>) -> Self {
        let (server, log) = (server.into(), log.into());
        let (retry_within, tls) = (Duration::from_secs(30), TlsOptions::default());
        Self { server, log, vkey: None, policy: None, state_dir: None, retry_within, tls }
    }
}

/// A verifying client of one log. Cheap to clone; clones share connection and memory.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    server: String,
    log: String,
    key: VerifierKey,
    policy: Option<Policy>,
    source: KeySource,
    rpc: Rpc,
    retry_within: Duration,
    timing: Arc<dyn Timing>,
    memory: Mutex<Memory>,
    state: Option<StateFile>,
    stored: Mutex<Stored>,
    /// Held by the one call that relates heads to the latest.
    relating: tokio::sync::Mutex<()>,
}

/// What the state file holds, as far as this client knows.
#[derive(Default)]
struct Stored {
    base: Snapshot,
    at: Option<Instant>,
}

/// Whether a head must reach the state file before the call returns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Now,
    Soon,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.inner.server)
            .field("log", &self.inner.log)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects, and decides on the key to trust.
    ///
    /// # Errors
    ///
    /// * [`ClientError::BadOption`] for a malformed URL or log name, and a key or policy that is not this log's.
    /// * [`ClientError::Unreachable`] if there is no server.
    /// * [`ClientError::State`] if what is remembered cannot be read.
    /// * [`ClientError::Rejected`] if a key has to be pinned and there is no such log.
    /// * [`ClientError::Verification`] if a key has to be pinned and does not verify the log's own head.
    pub async fn connect(options: ClientOptions) -> Result<Self, ClientError> {
        Self::connect_with(options, Arc::new(SystemTiming)).await
    }

    /// As [`Client::connect`], with another source of time and chance.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn connect_with(options: ClientOptions, timing: Arc<dyn Timing>) -> Result<Self, ClientError> {
        let ClientOptions { server, log, vkey, policy, state_dir, retry_within, tls } = options;
        let log = log
            .parse::<LogName>()
            .map_err(|error| ClientError::BadOption { option: "log", message: error.to_string() })?
            .to_string();
        let rpc = LogServiceClient::new(connect(&server, &tls).await?);
        let state = state_dir.map(|directory| StateFile::new(&directory, &server, &log));
        let load = |key| state.as_ref().map_or(Ok(None), |state| state.load(key));
        // A key that the caller names is trusted over one remembered, and a head of another key is no memory of it.
        let pinned = if vkey.is_some() { None } else { load(None)?.map(|remembered| remembered.key) };
        let (policy, chosen) = policy::choose(policy, vkey, pinned)?;
        let (key, source, memory, base) = if let Some((key, source)) = chosen {
            let snapshot = load(Some(&key))?.map(|remembered| remembered.snapshot).unwrap_or_default();
            (key, source, Memory::new(snapshot.clone()), snapshot)
        } else {
            let (key, head) = pin(&server, &log, rpc.clone()).await?;
            let memory = Memory::new(Snapshot { latest: Some(head), unsettled: Vec::new() });
            (key, KeySource::PinnedNow, memory, Snapshot::default())
        };
        let inner = Inner {
            server,
            log,
            key,
            policy,
            source,
            rpc,
            retry_within,
            timing,
            memory: Mutex::new(memory),
            state,
            stored: Mutex::new(Stored { base, at: None }),
            relating: tokio::sync::Mutex::default(),
        };
        let client = Self { inner: Arc::new(inner) };
        if source == KeySource::PinnedNow {
            client.remember(Store::Now).await?;
        }
        Ok(client)
    }

    /// The key that this client trusts.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        &self.inner.key
    }

    /// The policy, for this log alone.
    pub(crate) fn policy(&self) -> Option<&Policy> {
        self.inner.policy.as_ref()
    }

    /// Whether the key came from the server just now: the caller should be told, and compare it elsewhere.
    #[must_use]
    pub fn pinned_now(&self) -> bool {
        self.inner.source == KeySource::PinnedNow
    }

    /// The largest head verified so far, from this run or an earlier one.
    #[must_use]
    pub fn remembered(&self) -> Option<VerifiedHead> {
        self.inner.memory.lock().latest().cloned()
    }

    /// Verifies the head of an answer to a request that named the size of `known`, and remembers it.
    ///
    /// * `receipts` - whether receipts are given out under it, which then have to be settled.
    pub(crate) async fn accept(
        &self,
        message: Option<v1::SignedTreeHead>,
        known: Option<&VerifiedHead>,
        (receipts, store): (bool, Store),
    ) -> Result<VerifiedHead, ClientError> {
        // The same note again is not judged twice, unless that shows an unsettled head to be extended.
        let seen = {
            let memory = self.inner.memory.lock();
            let tells_more = known.is_some_and(|known| memory.is_unsettled(known));
            memory.latest().filter(|_| !tells_more).cloned()
        };
        let is_seen = seen.as_ref().is_some_and(|seen| message.as_ref().is_some_and(|m| m.checkpoint == seen.note));
        let head = self.signed_head(message, known, seen.as_ref())?;
        let known = known.filter(|known| !is_seen && known.head != head.head);
        let unsettled = {
            let mut memory = self.inner.memory.lock();
            memory.advance(known, &head, receipts)?;
            memory.unsettled().len()
        };
        if unsettled > UNSETTLED_HEADS {
            self.relate_unsettled().await?;
        }
        self.remember(store).await?;
        Ok(head)
    }

    /// Shows that the latest head extends every smaller one that is unsettled, so that it alone remains.
    async fn relate_unsettled(&self) -> Result<(), ClientError> {
        let Ok(_only_one) = self.inner.relating.try_lock() else {
            return Ok(());
        };
        let Some(latest) = self.remembered() else {
            return Ok(());
        };
        let mut unsettled = self.inner.memory.lock().unsettled().to_vec();
        unsettled.retain(|head| head.head.size < latest.head.size);
        for head in unsettled {
            match self.one_history(&head, &latest).await {
                Ok(()) => self.inner.memory.lock().extended(&head, &latest),
                Err(error) if error.is_tampering() => return Err(error),
                // Settling will ask again.
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Notes that `head`, from a call that named no size, is of one history with `latest`, as was shown.
    pub(crate) fn joined(&self, latest: Option<&VerifiedHead>, head: &VerifiedHead) -> Result<(), ClientError> {
        let mut memory = self.inner.memory.lock();
        match latest {
            Some(latest) if latest.head.size > head.head.size => Ok(()),
            latest => memory.advance(latest.filter(|latest| latest.head != head.head), head, false),
        }
    }

    /// Access to what was verified.
    pub(crate) fn with_memory<T>(&self, access: impl FnOnce(&mut Memory) -> T) -> T {
        access(&mut self.inner.memory.lock())
    }

    /// Merges with the state file if it is behind and, for [`Store::Soon`], not fresh.
    pub(crate) async fn remember(&self, when: Store) -> Result<(), ClientError> {
        if self.inner.state.is_none() || !self.inner.is_due(when) {
            return Ok(());
        }
        let inner = Arc::clone(&self.inner);
        let synced = tokio::task::spawn_blocking(move || inner.sync()).await;
        // Nobody cancels it, so all that can have happened is a panic.
        let unrelated = synced.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        // Another process got on, too. If the server cannot be asked now, settling will ask.
        if let (Some(smaller), Some(latest)) = (unrelated, self.remembered()) {
            match self.one_history(&smaller, &latest).await {
                Err(error) if error.is_tampering() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Calls until there is an answer, an error that will not pass, or no time left. Only for what is safe to repeat.
    pub(crate) async fn retrying<T, F>(&self, call: impl FnMut(Rpc) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.calling(true, call).await
    }

    /// As [`Client::retrying`], but only once unless `is_safe`.
    pub(crate) async fn calling<T, F>(&self, is_safe: bool, mut call: impl FnMut(Rpc) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let mut attempts = self.attempts();
        loop {
            let error = match call(self.rpc()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => self.status(&status),
            };
            if !is_safe {
                return Err(error);
            }
            attempts.pause(error).await?;
        }
    }

    pub(crate) fn attempts(&self) -> Attempts<'_> {
        Attempts::new(self.timing(), self.inner.retry_within)
    }

    pub(crate) fn timing(&self) -> &dyn Timing {
        &*self.inner.timing
    }

    pub(crate) fn rpc(&self) -> Rpc {
        self.inner.rpc.clone()
    }

    pub(crate) fn log(&self) -> String {
        self.inner.log.clone()
    }

    pub(crate) fn server(&self) -> &str {
        &self.inner.server
    }

    pub(crate) fn status(&self, status: &tonic::Status) -> ClientError {
        ClientError::from_status(&self.inner.server, status)
    }
}

impl Inner {
    fn is_due(&self, when: Store) -> bool {
        // Whoever holds the lock is writing just now.
        when == Store::Now
            || self.stored.try_lock().is_some_and(|stored| {
                let now = self.timing.now();
                stored.at.is_none_or(|at| now.saturating_duration_since(at) >= STORE_INTERVAL)
            })
    }

    /// Merges with the state file, unless that holds all that is known.
    fn sync(&self) -> Result<Option<VerifiedHead>, ClientError> {
        let Some(state) = &self.state else {
            return Ok(None);
        };
        let mut stored = self.stored.lock();
        if self.memory.lock().snapshot() == stored.base {
            return Ok(None);
        }
        let unrelated = state.sync(&self.key, self.source, &self.memory, &mut stored.base)?;
        stored.at = Some(self.timing.now());
        Ok(unrelated)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.sync() {
            tracing::warn!(%error, "the last verified head is not remembered");
        }
    }
}

/// The size that a request names as known.
pub(crate) fn size_of(known: Option<&VerifiedHead>) -> u64 {
    known.map_or(0, |known| known.head.size.0)
}

/// First contact: the server's own key, if it verifies the server's own head.
async fn pin(server: &str, log: &str, mut rpc: Rpc) -> Result<(VerifierKey, VerifiedHead), ClientError> {
    let request = v1::DescribeLogRequest { log: log.to_owned(), known_size: 0 };
    let answer = rpc.describe_log(request).await.map_err(|status| ClientError::from_status(server, &status))?;
    let v1::DescribeLogResponse { info, head } = answer.into_inner();
    let Some(vkey) = info.and_then(|info| info.vkeys.into_iter().next()) else {
        return Err(ClientError::failed("the server names no key of the log"));
    };
    let key = vkey.parse().map_err(|error| ClientError::failed_check("the log's key is malformed", &error))?;
    let head = signed_head(head, &key, None, None)?;
    Ok((key, head))
}
