//! The client itself: its connection, the key it trusts, the head it remembers.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logwood_note::{LogName, VerifierKey};
use logwood_proto::v1;
use logwood_proto::v1::log_service_client::LogServiceClient;
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::channel::connect;
use crate::state::StateFile;
use crate::verify::{behind, same_tree, signed_head};
use crate::{ClientError, VerifiedHead};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for the first byte of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// The state file is written at most this often while entries are appended, and once more at the end.
const STORE_INTERVAL: Duration = Duration::from_secs(1);

/// What to connect to, and what to trust.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// URL of the server's gRPC port, as `http://127.0.0.1:7070`.
    pub server: String,
    /// Name of the log.
    pub log: String,
    /// The key to trust. Without, the one remembered; without that, the server's own, which is then pinned.
    pub vkey: Option<VerifierKey>,
    /// Directory that remembers the key and the last verified head. `None`: nothing outlives the client.
    pub state_dir: Option<PathBuf>,
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
    pinned_now: bool,
    rpc: LogServiceClient<Channel>,
    state: Option<StateFile>,
    memory: Mutex<Memory>,
}

/// The largest head verified so far, and whether the state file has it.
#[derive(Default)]
struct Memory {
    latest: Option<VerifiedHead>,
    stored: Option<Instant>,
    is_stored: bool,
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
    /// * [`ClientError::BadOption`] for a malformed URL or log name.
    /// * [`ClientError::Unreachable`] if there is no server.
    /// * [`ClientError::State`] if what is remembered cannot be read.
    /// * [`ClientError::Rejected`] if a key has to be pinned and there is no such log.
    /// * [`ClientError::Verification`] if a key has to be pinned and does not verify the log's own head.
    pub async fn connect(options: ClientOptions) -> Result<Self, ClientError> {
        let ClientOptions { server, log, vkey, state_dir } = options;
        let log = log
            .parse::<LogName>()
            .map_err(|error| ClientError::BadOption { option: "log", message: error.to_string() })?
            .to_string();
        let rpc = LogServiceClient::new(open_channel(&server).await?);
        let state = state_dir.map(|directory| StateFile::new(&directory, &server, &log));
        let remembered = state.as_ref().map(StateFile::load).transpose()?.flatten();

        // A key that the caller names is trusted over one remembered, and a head of another key is no memory of it.
        let trusted = vkey.or_else(|| remembered.as_ref().map(|remembered| remembered.key.clone()));
        let latest = remembered.filter(|found| trusted.as_ref() == Some(&found.key)).and_then(|found| found.head);
        let pinned_now = trusted.is_none();
        let (key, latest) = match trusted {
            Some(key) => (key, latest),
            None => pin(&server, &log, rpc.clone()).await.map(|(key, head)| (key, Some(head)))?,
        };
        let memory = Mutex::new(Memory { latest, ..Memory::default() });
        let client = Self { inner: Arc::new(Inner { server, log, key, pinned_now, rpc, state, memory }) };
        if pinned_now {
            client.inner.store(Store::Now)?;
        }
        Ok(client)
    }

    /// The key that this client trusts.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        &self.inner.key
    }

    /// Whether the key came from the server just now: the caller should be told, and compare it elsewhere.
    #[must_use]
    pub fn pinned_now(&self) -> bool {
        self.inner.pinned_now
    }

    /// The largest head verified so far, from this run or an earlier one.
    #[must_use]
    pub fn remembered(&self) -> Option<VerifiedHead> {
        self.inner.memory.lock().latest.clone()
    }

    /// The log's latest head, verified and remembered.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Verification`] if it is not signed by the key, or does not extend the remembered head.
    /// * [`ClientError::Rejected`] if it is smaller than the remembered head, which by itself proves nothing.
    /// * [`ClientError::Unreachable`] and [`ClientError::State`].
    pub async fn head(&self) -> Result<VerifiedHead, ClientError> {
        let known = self.remembered();
        let answer = self.tree_head(size_of(known.as_ref())).await;
        match (answer, &known) {
            (Ok(message), _) => self.accept(message, known.as_ref(), Store::Now),
            (Err(error), Some(known)) if error.is_beyond_head() => Err(self.judge_smaller(known).await?),
            (Err(error), _) => Err(error),
        }
    }

    /// The server says that it has less than was verified before: look at what it signs now.
    async fn judge_smaller(&self, known: &VerifiedHead) -> Result<ClientError, ClientError> {
        let smaller = signed_head(self.tree_head(0).await?, self.key(), None, None)?;
        same_tree(known, &smaller)?;
        Ok(behind(known, smaller.head.size))
    }

    async fn tree_head(&self, known_size: u64) -> Result<Option<v1::SignedTreeHead>, ClientError> {
        let level = v1::HeadLevel::Unspecified.into();
        let request = v1::GetTreeHeadRequest { log: self.log(), level, known_size };
        let answer = self.rpc().get_tree_head(request).await.map_err(|status| self.status(&status))?;
        Ok(answer.into_inner().head)
    }

    /// Verifies the head of an answer to a request that named the size of `known`, and remembers it.
    pub(crate) fn accept(
        &self,
        message: Option<v1::SignedTreeHead>,
        known: Option<&VerifiedHead>,
        store: Store,
    ) -> Result<VerifiedHead, ClientError> {
        let head = signed_head(message, self.key(), known, self.remembered().as_ref())?;
        {
            let mut memory = self.inner.memory.lock();
            if let Some(latest) = &memory.latest {
                same_tree(latest, &head)?;
            }
            // A concurrent call may have moved on; both its head and this one extend `known`.
            if memory.latest.as_ref().is_none_or(|latest| latest.head.size < head.head.size) {
                memory.latest = Some(head.clone());
                memory.is_stored = false;
            }
        }
        self.inner.store(store)?;
        Ok(head)
    }

    pub(crate) fn rpc(&self) -> LogServiceClient<Channel> {
        self.inner.rpc.clone()
    }

    pub(crate) fn log(&self) -> String {
        self.inner.log.clone()
    }

    pub(crate) fn status(&self, status: &tonic::Status) -> ClientError {
        ClientError::from_status(&self.inner.server, status)
    }
}

impl Inner {
    /// Writes the state file if it is behind and, for [`Store::Soon`], not fresh.
    fn store(&self, when: Store) -> Result<(), ClientError> {
        let Some(state) = &self.state else {
            return Ok(());
        };
        let latest = {
            let mut memory = self.memory.lock();
            let is_fresh = memory.stored.is_some_and(|stored| stored.elapsed() < STORE_INTERVAL);
            if memory.is_stored || (when == Store::Soon && is_fresh) {
                return Ok(());
            }
            memory.is_stored = true;
            memory.stored = Some(Instant::now());
            memory.latest.clone()
        };
        state.store(&self.key, latest.as_ref()).inspect_err(|_| self.memory.lock().is_stored = false)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.memory.get_mut().latest.is_some()
            && let Err(error) = self.store(Store::Now)
        {
            tracing::warn!(%error, "the last verified head is not remembered");
        }
    }
}

/// The size that a request names as known.
pub(crate) fn size_of(known: Option<&VerifiedHead>) -> u64 {
    known.map_or(0, |known| known.head.size.0)
}

async fn open_channel(server: &str) -> Result<Channel, ClientError> {
    let endpoint = Endpoint::from_shared(server.to_owned())
        .map_err(|error| ClientError::BadOption { option: "server", message: error.to_string() })?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT);
    connect(&endpoint).await.map_err(|error| {
        let ClientError::Verification { what: message } = ClientError::failed_check("no connection", &error) else {
            unreachable!("failed_check makes this variant only")
        };
        ClientError::Unreachable { server: server.to_owned(), message }
    })
}

/// First contact: the server's own key, if it verifies the server's own head.
async fn pin(
    server: &str,
    log: &str,
    mut rpc: LogServiceClient<Channel>,
) -> Result<(VerifierKey, VerifiedHead), ClientError> {
    let request = v1::DescribeLogRequest { log: log.to_owned(), known_size: 0 };
    let answer = rpc.describe_log(request).await.map_err(|status| ClientError::from_status(server, &status))?;
    let v1::DescribeLogResponse { info, head } = answer.into_inner();
    let Some(vkey) = info.and_then(|info| info.vkeys.into_iter().next()) else {
        return Err(ClientError::Verification { what: "the server names no key of the log".to_owned() });
    };
    let key = vkey.parse().map_err(|error| ClientError::failed_check("the log's key is malformed", &error))?;
    let head = signed_head(head, &key, None, None)?;
    Ok((key, head))
}
