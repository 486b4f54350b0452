//! Appending a stream of entries, in order, many under way at once.
//!
//! ```text
//! AppendSender ──> room ──> window of unanswered entries ──> one gRPC stream ──> answers, each verified
//!                   ^            │      ^                        │ breaks             │
//!                   │            │      └── sent again, in order ┘                    v
//!                   └────────────┴────────────────── freed once taken from the AppendReceiver
//! ```
//!
//! An entry stays in the window, with its identity, until an answer for it has been verified. When the stream breaks,
//! a new one begins with what is in the window: entries that the server had logged come back as duplicates, at the
//! index that they have. Entries without an identity cannot be sent again, so with one of them in the window a broken
//! stream is the end. One index for two of the newest entries is a lie, as is a duplicate of an entry that the client
//! identified itself and sent once only. The order of entries is kept through all of this, since each stream is logged in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt as _, TryFutureExt as _};
use logwood_merkle::Hash;
use logwood_note::entries::ENTRY_BYTES_MAX;
use logwood_proto::v1;
use logwood_proto::v1::append_stream_request::Message;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::append::{not_sent, receipts};
use crate::channel::ANSWER_TIMEOUT;
use crate::client::{Store, size_of};
use crate::places::Places;
use crate::retry::Attempts;
use crate::{Appended, Client, ClientError, EntryRefused, Identity, NewEntry, VerifiedHead, places};

/// Requests that wait for the transport: it takes them as HTTP/2 flow control allows.
const REQUESTS_MAX: usize = 64;

/// How much of a stream may be under way: sent, not yet answered, or answered and not yet taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Entries, at least one.
    pub entries_max: u32,
    /// Bytes of entries, at least 65,535.
    pub bytes_max: u32,
}

impl Default for Window {
    /// 8,192 entries and 8 MiB: about two rounds of a server under load.
    fn default() -> Self {
        Self { entries_max: 8_192, bytes_max: 8 * 1024 * 1024 }
    }
}

/// Where the entries of a stream go in. From [`Client::append_stream`]; to drop it ends the stream in order.
#[derive(Debug)]
pub struct AppendSender {
    server: String,
    entries: mpsc::UnboundedSender<Sent>,
    room: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    next_id: u64,
}

/// Where the outcomes of a stream come out. From [`Client::append_stream`]; to drop it breaks the stream off.
#[derive(Debug)]
pub struct AppendReceiver {
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    /// Ends with the receiver.
    _driver: JoinSet<()>,
}

/// What became of one entry, and the room in the window that this takes; or why the stream ended.
type Outcome = Result<(u64, Result<Appended, EntryRefused>, Room), ClientError>;

type Room = [OwnedSemaphorePermit; 2];

/// An entry in the window.
#[derive(Debug)]
struct Sent {
    leaf: Hash,
    message: v1::AppendStreamEntry,
    /// The identity is this client's own, and the entry was not sent again.
    is_first: bool,
    room: Room,
}

impl Client {
    /// Opens a stream of appends. Entries go in by the sender; receipts come out of the receiver, each verified.
    ///
    /// Transient errors break the stream, which is taken up again where it broke; see the module for how.
    #[must_use]
    pub fn append_stream(&self, window: Window) -> (AppendSender, AppendReceiver) {
        let (entries, to_send) = mpsc::unbounded_channel();
        let (answered, outcomes) = mpsc::unbounded_channel();
        let semaphore = |permits: u32| Arc::new(Semaphore::new(permits as usize));
        let (room, bytes) = (semaphore(window.entries_max), semaphore(window.bytes_max));
        let driver = Driver {
            client: self.clone(),
            entries: to_send,
            outcomes: answered,
            unanswered: Mutex::new(Unanswered::new(self.timing().now())),
        };
        let mut driving = JoinSet::new();
        driving.spawn(driver.run());
        let sender = AppendSender { server: self.server().to_owned(), entries, room, bytes, next_id: 0 };
        (sender, AppendReceiver { outcomes, _driver: driving })
    }
}

impl AppendSender {
    /// Sends `entry`, once there is room in the window. The number that its outcome will have: 0, 1, 2 and so on.
    ///
    /// # Errors
    ///
    /// * [`ClientError::BadOption`] if the entry is empty or longer than 65,535 bytes; the stream goes on.
    /// * [`ClientError::Unreachable`] if the stream has ended; the receiver says why.
    pub async fn send(&mut self, entry: NewEntry) -> Result<u64, ClientError> {
        let NewEntry { bytes: entry, identity } = entry;
        let length = u32::try_from(entry.len()).unwrap_or(u32::MAX);
        if entry.is_empty() || entry.len() > ENTRY_BYTES_MAX {
            let message = format!("{length} bytes: an entry has 1 to {ENTRY_BYTES_MAX}");
            return Err(ClientError::BadOption { option: "entry", message });
        }
        let is_first = matches!(identity, Identity::Random);
        let identity = identity.into_key()?.map(v1::append_stream_entry::Identity::Key);
        let ended = || ClientError::Unreachable {
            server: self.server.clone(),
            message: "the stream has ended; its receiver says why".to_owned(),
        };
        let one = Arc::clone(&self.room).acquire_owned();
        let room = [
            one.await.map_err(|_| ended())?,
            Arc::clone(&self.bytes).acquire_many_owned(length).await.map_err(|_| ended())?,
        ];
        let request_id = self.next_id;
        let leaf = Hash::leaf(&entry);
        let sent = Sent { leaf, message: v1::AppendStreamEntry { request_id, entry, identity }, is_first, room };
        self.entries.send(sent).map_err(|_| ended())?;
        self.next_id += 1;
        Ok(request_id)
    }
}

impl AppendReceiver {
    /// The next outcome, with the number that [`AppendSender::send`] gave. `None` once the sender is dropped and every
    /// entry has had its outcome. May be cancelled: no outcome is lost.
    ///
    /// # Errors
    ///
    /// As [`Client::append`]; the stream is over then. Of entries that had no outcome it is not known whether they are
    /// logged: append them again, with their identities.
    pub async fn next(&mut self) -> Option<Result<(u64, Result<Appended, EntryRefused>), ClientError>> {
        let outcome = self.outcomes.recv().await?;
        Some(outcome.map(|(id, outcome, _room)| (id, outcome)))
    }
}

/// The window's contents.
#[derive(Debug)]
struct Unanswered {
    by_id: BTreeMap<u64, Sent>,
    /// Where the newest of those are that were answered.
    places: Places,
    /// All entries were sent.
    is_complete: bool,
    /// Since when an answer is due, if one is.
    due_since: Instant,
}

impl Unanswered {
    fn new(now: Instant) -> Self {
        Self { by_id: BTreeMap::new(), places: Places::default(), is_complete: false, due_since: now }
    }

    fn insert(&mut self, sent: Sent, now: Instant) {
        if self.by_id.is_empty() {
            self.due_since = now;
        }
        self.by_id.insert(sent.message.request_id, sent);
    }

    fn take(&mut self, id: u64) -> Result<Sent, ClientError> {
        self.by_id.remove(&id).ok_or_else(|| not_sent(id))
    }

    /// Checks that an entry was logged at a place of its own.
    fn check_place(&mut self, id: u64, appended: &Appended) -> Result<(), ClientError> {
        let Sent { message, is_first, .. } = self.by_id.get(&id).ok_or_else(|| not_sent(id))?;
        let identity = message.identity.clone().map(|v1::append_stream_entry::Identity::Key(key)| key);
        self.places.note(&places::Sent { identity, is_first: *is_first }, appended)
    }

    /// How long an answer may still take. Nothing is due while nothing is unanswered.
    fn patience(&self, now: Instant) -> Duration {
        let waited = now.saturating_duration_since(self.due_since);
        if self.by_id.is_empty() { ANSWER_TIMEOUT } else { ANSWER_TIMEOUT.saturating_sub(waited) }
    }

    /// Whether all of it may be sent again.
    fn is_repeatable(&self) -> bool {
        self.by_id.values().all(|sent| sent.message.identity.is_some())
    }
}

/// Keeps a stream open for as long as there is something to send or to hear.
struct Driver {
    client: Client,
    entries: mpsc::UnboundedReceiver<Sent>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    unanswered: Mutex<Unanswered>,
}

impl Driver {
    async fn run(mut self) {
        let client = self.client.clone();
        let mut attempts = client.attempts();
        while let Err(error) = self.stream(&mut attempts).await {
            let is_repeatable = self.unanswered.lock().is_repeatable();
            let ended = if is_repeatable { attempts.pause(error).await } else { Err(error) };
            if let Err(error) = ended {
                // The receiver may be gone; there is nobody else to tell.
                let _ = self.outcomes.send(Err(error));
                return;
            }
        }
    }

    /// One gRPC stream, to its end: what is unanswered, then what comes.
    async fn stream(&mut self, attempts: &mut Attempts<'_>) -> Result<(), ClientError> {
        let Self { client, entries, outcomes, unanswered } = self;
        let known = client.remembered();
        let open = v1::AppendStreamOpen { log: client.log(), known_size: size_of(known.as_ref()), range_proofs: true };
        let (requests, body) = mpsc::channel(REQUESTS_MAX);
        let mut rpc = client.rpc();
        let answers = rpc.append_stream(ReceiverStream::new(body));
        let answers = answers.map_ok(tonic::Response::into_inner).try_flatten_stream();
        let feeding = feed(open, entries, (unanswered, client), requests);
        let listening = Listener { client, outcomes, unanswered, known, newest: None }.listen(answers, attempts);
        tokio::pin!(feeding, listening);
        tokio::select! {
            heard = &mut listening => heard,
            () = &mut feeding => listening.await,
        }
    }
}

/// Sends the unanswered entries again, then new ones. Each is in the window before it is sent.
async fn feed(
    open: v1::AppendStreamOpen,
    entries: &mut mpsc::UnboundedReceiver<Sent>,
    (unanswered, client): (&Mutex<Unanswered>, &Client),
    requests: mpsc::Sender<v1::AppendStreamRequest>,
) {
    let again: Vec<_> = {
        let mut unanswered = unanswered.lock();
        unanswered.due_since = client.timing().now();
        let again = unanswered.by_id.values_mut().map(|sent| {
            sent.is_first = false;
            Message::Entry(sent.message.clone())
        });
        again.collect()
    };
    for message in std::iter::once(Message::Open(open)).chain(again) {
        if requests.send(v1::AppendStreamRequest { message: Some(message) }).await.is_err() {
            // The stream broke: who listens to it says so.
            return;
        }
    }
    while let Some(sent) = entries.recv().await {
        let message = Message::Entry(sent.message.clone());
        unanswered.lock().insert(sent, client.timing().now());
        if requests.send(v1::AppendStreamRequest { message: Some(message) }).await.is_err() {
            return;
        }
    }
    unanswered.lock().is_complete = true;
}

/// Hears the answers of one gRPC stream.
struct Listener<'a> {
    client: &'a Client,
    outcomes: &'a mpsc::UnboundedSender<Outcome>,
    unanswered: &'a Mutex<Unanswered>,
    /// The head before the next one.
    known: Option<VerifiedHead>,
    /// Request and index of the newest entry that is no duplicate.
    newest: Option<(u64, u64)>,
}

impl Listener<'_> {
    async fn listen(
        mut self,
        answers: impl Stream<Item = Result<v1::AppendStreamResponse, tonic::Status>>,
        attempts: &mut Attempts<'_>,
    ) -> Result<(), ClientError> {
        tokio::pin!(answers);
        let timing = self.client.timing();
        let gone = |message: &str| ClientError::Unreachable {
            server: self.client.server().to_owned(),
            message: message.to_owned(),
        };
        loop {
            let patience = self.unanswered.lock().patience(timing.now());
            let answer = tokio::select! {
                answer = answers.next() => answer,
                () = timing.sleep(patience) => {
                    if self.unanswered.lock().patience(timing.now()).is_zero() {
                        return Err(gone("no answer to the entries of a stream"));
                    }
                    continue;
                }
            };
            match answer {
                Some(Ok(answer)) => {
                    self.answer(answer).await?;
                    attempts.reset();
                }
                Some(Err(status)) => {
                    let error = self.client.status(&status);
                    return Err(self.client.judge_refusal(error, self.known.as_ref()).await);
                }
                None => {
                    let unanswered = self.unanswered.lock();
                    let is_done = unanswered.is_complete && unanswered.by_id.is_empty();
                    return if is_done { Ok(()) } else { Err(gone("it ended a stream of appends early")) };
                }
            }
        }
    }

    /// Verifies an answer, and gives out what it says of each entry.
    async fn answer(&mut self, answer: v1::AppendStreamResponse) -> Result<(), ClientError> {
        let v1::AppendStreamResponse { head, runs, errors } = answer;
        if runs.is_empty() && errors.is_empty() {
            // Without this a server could keep a caller waiting for ever.
            return Err(ClientError::failed("an answer of the stream says nothing of any entry"));
        }
        if head.is_some() || !runs.is_empty() {
            let head = self.client.accept(head, self.known.as_ref(), (true, Store::Soon)).await?;
            for run in &runs {
                self.check_order(run)?;
                let find = |id: u64| self.unanswered.lock().by_id.get(&id).map(|sent| sent.leaf);
                for (id, appended) in receipts(find, &head, run)? {
                    self.unanswered.lock().check_place(id, &appended)?;
                    self.give_out(id, Ok(appended))?;
                }
            }
            self.known = Some(head);
        }
        for error in errors {
            self.give_out(error.request_id, Err(error.into()))?;
        }
        self.unanswered.lock().due_since = self.client.timing().now();
        Ok(())
    }

    fn give_out(&self, id: u64, outcome: Result<Appended, EntryRefused>) -> Result<(), ClientError> {
        let sent = self.unanswered.lock().take(id)?;
        // The receiver may be gone; the driver then ends with it.
        let _ = self.outcomes.send(Ok((id, outcome, sent.room)));
        Ok(())
    }

    /// Entries of one stream are logged in the order in which they were sent.
    fn check_order(&mut self, run: &v1::Run) -> Result<(), ClientError> {
        if run.duplicate {
            return Ok(());
        }
        for (index, &id) in (run.first_index..).zip(&run.request_ids) {
            if self.newest.is_some_and(|(newest_id, newest)| id <= newest_id || index <= newest) {
                return Err(ClientError::failed(format!("entry {id} of the stream was logged out of order")));
            }
            self.newest = Some((id, index));
        }
        Ok(())
    }
}
