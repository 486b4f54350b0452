//! Appending: one entry, a batch, a stream.

mod logged;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use logwood_merkle::LeafIndex;
use logwood_proto::{Reason, hashes_to_bytes, v1};
use logwood_sequencer::{Level, NewEntry, Placement};
use tonic::{Code, Status, Streaming};

use self::logged::Logged;
use crate::budget::Held;
use crate::core::{Core, WhenFull, check_known};
use crate::read::level;
use crate::registry::{LogHandle, Published, Released, Shown};
use crate::service::Answers;
use crate::status;

pub(crate) async fn append(core: &Core, request: v1::AppendRequest) -> Result<v1::AppendResponse, Status> {
    let log = core.log(&request.log)?;
    let level = level("wait", request.wait)?;
    let identity = request.identity.as_ref().map(|v1::append_request::Identity::Key(key)| &key[..]);
    let entry = core.entry(&request.entry, identity)?;
    log.check_witnesses(level)?;
    Core::check_appendable(&log, 1)?;
    check_known(request.known_size, log.visible_size().0)?;

    let (acknowledged, released) = core.submit(&log, vec![entry], WhenFull::Refuse).await?;
    let placement = acknowledged.placements[0];
    let index = placement.index();
    let shown = cover(&log, released, index, (level, core.wait(&log, request.wait_ms))).await?;
    let duplicate = match placement {
        Placement::New(_) => false,
        Placement::Duplicate(_) => true,
        Placement::Taken(_) => return Err(status::identity_taken(index.0)),
    };
    let store = core.store()?;
    let view = (log.number, shown.view());
    let inclusion = core.shared.nodes.inclusion(&*store, view, index, shown.head.size).map_err(status::node)?;
    let head = core.signed_head(&log, &shown, request.known_size)?;
    Ok(v1::AppendResponse { index: index.0, duplicate, head: Some(head), inclusion: hashes_to_bytes(&inclusion) })
}

pub(crate) async fn append_batch(
    core: &Core,
    request: v1::AppendBatchRequest,
) -> Result<v1::AppendBatchResponse, Status> {
    let log = core.log(&request.log)?;
    let level = level("wait", request.wait)?;
    let count = request.entries.len();
    let count_max = core.bounds.limits.batch_entries();
    if count == 0 || count > count_max {
        return Err(status::invalid("entries", format!("a batch has 1 to {count_max} entries, not {count}")));
    }
    log.check_witnesses(level)?;
    Core::check_appendable(&log, count)?;
    check_known(request.known_size, log.visible_size().0)?;

    let mut group = Group::default();
    for (position, entry) in (0u64..).zip(request.entries) {
        let identity = entry.identity.as_ref().map(|v1::batch_entry::Identity::Key(key)| &key[..]);
        group.push(position, core.entry(&entry.entry, identity));
    }
    let mut logged = group.log(core, &log, WhenFull::Refuse, (level, core.wait(&log, request.wait_ms))).await?;
    let head = logged.prove(core, &log, request.known_size)?;
    Ok(v1::AppendBatchResponse { head, runs: logged.runs, errors: logged.errors })
}

/// What a stream's entries come from and where its answers go.
pub(crate) struct Stream {
    pub(crate) requests: Streaming<v1::AppendStreamRequest>,
    /// What the requests that were received count for.
    pub(crate) held: Held,
    pub(crate) answers: Answers<v1::AppendStreamResponse>,
}

/// Runs one stream: entries gather while the group before them is being logged, so that those of one round stay
/// contiguous, and HTTP/2 flow control pushes back once a group is full.
///
/// When the server stops, what has been received is logged and answered before the stream ends.
pub(crate) async fn append_stream(core: Arc<Core>, stream: Stream) -> Result<(), Status> {
    let Stream { mut requests, held, answers } = stream;
    let Some(first) = next(&core, &mut requests).await? else { return Ok(()) };
    let Some(v1::append_stream_request::Message::Open(open)) = first.message else {
        return Err(status::invalid("open", "the first message of a stream opens it"));
    };
    let log = core.log(&open.log)?;
    check_known(open.known_size, log.visible_size().0)?;
    let mut known_size = open.known_size;
    let mut group = Group::default();
    let mut ended = false;
    while !ended || !group.is_empty() {
        if group.is_empty() {
            ended = !group.take(&core, next(&core, &mut requests).await?)?;
            continue;
        }
        Core::check_appendable(&log, group.entries.len())?;
        let counted = held.take();
        let wait = (Level::Signed, core.wait(&log, 0));
        let logged = std::mem::take(&mut group).log(&core, &log, WhenFull::Wait, wait);
        tokio::pin!(logged);
        let logged = loop {
            tokio::select! {
                logged = &mut logged => break logged?,
                message = requests.next(), if !ended && !group.is_full(&core) && !core.bounds.is_stopping() => {
                    ended = !group.take(&core, read(message)?)?;
                }
            }
        };
        drop(counted);
        // What has arrived meanwhile goes with the next round.
        while !ended && !group.is_full(&core) && !core.bounds.is_stopping() {
            let Some(message) = futures_util::FutureExt::now_or_never(requests.next()) else { break };
            ended = !group.take(&core, read(message)?)?;
        }
        for part in logged.parts(core.bounds.limits.stream_answer_bytes(), open.range_proofs) {
            let room = core.bounds.stream_answer().await;
            let size = part.shown.as_ref().map(|shown| shown.head.size.0);
            let answer = part.answer(&core, &log, open.range_proofs, known_size)?;
            known_size = size.unwrap_or(known_size);
            if !answers.send(answer, room).await {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The next message, unless the server stops while there is none.
async fn next(
    core: &Core,
    requests: &mut Streaming<v1::AppendStreamRequest>,
) -> Result<Option<v1::AppendStreamRequest>, Status> {
    tokio::select! {
        biased;
        status = core.bounds.stopping() => Err(status),
        message = requests.next() => read(message),
    }
}

/// A message of a stream; one that is none of the contract is the caller's fault.
fn read(message: Option<Result<v1::AppendStreamRequest, Status>>) -> Result<Option<v1::AppendStreamRequest>, Status> {
    let malformed = |status: Status| if status::is_misread(&status) { status::malformed() } else { status };
    message.transpose().map_err(malformed)
}

/// Entries of one call that go into one round, and those that were refused on arrival.
#[derive(Default)]
struct Group {
    ids: Vec<u64>,
    entries: Vec<NewEntry>,
    bytes: usize,
    errors: Vec<v1::EntryError>,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.errors.is_empty()
    }

    /// Whether it waits for its round before the stream is read on. One that is not fits the queue with any entry more.
    fn is_full(&self, core: &Core) -> bool {
        let (entries_max, bytes_max) = core.bounds.limits.stream_group();
        self.entries.len() + self.errors.len() >= entries_max || self.bytes >= bytes_max
    }

    /// Adds a message of a stream. `false` at its end.
    fn take(&mut self, core: &Core, message: Option<v1::AppendStreamRequest>) -> Result<bool, Status> {
        let Some(message) = message else { return Ok(false) };
        let Some(v1::append_stream_request::Message::Entry(entry)) = message.message else {
            return Err(status::invalid("entry", "every message after the first is an entry"));
        };
        let identity = entry.identity.as_ref().map(|v1::append_stream_entry::Identity::Key(key)| &key[..]);
        self.push(entry.request_id, core.entry(&entry.entry, identity));
        Ok(true)
    }

    fn push(&mut self, id: u64, entry: Result<NewEntry, Status>) {
        match entry {
            Ok(entry) => {
                self.bytes += entry.bytes.len();
                self.ids.push(id);
                self.entries.push(entry);
            }
            Err(status) => self.errors.push(entry_error(id, &status, None)),
        }
    }

    /// Logs the entries in one round and says where each is.
    async fn log(
        self,
        core: &Core,
        log: &LogHandle,
        when_full: WhenFull,
        wait: (Level, Duration),
    ) -> Result<Logged, Status> {
        let mut logged = Logged { shown: None, runs: Vec::new(), errors: self.errors };
        if self.entries.is_empty() {
            return Ok(logged);
        }
        let (acknowledged, released) = core.submit(log, self.entries, when_full).await?;
        let last = acknowledged.placements.iter().map(|placement| placement.index()).max();
        let last = last.expect("as many placements as entries, of which there is one");
        let shown = cover(log, released, last, wait).await?;
        let mut new = BTreeMap::new();
        let mut old = Vec::new();
        for (id, placement) in self.ids.into_iter().zip(acknowledged.placements) {
            match placement {
                Placement::New(index) => drop(new.insert(index.0, id)),
                Placement::Duplicate(index) => old.push((index.0, id)),
                Placement::Taken(index) => {
                    logged.errors.push(entry_error(id, &status::identity_taken(index.0), Some(index.0)));
                }
            }
        }
        old.sort_unstable();
        logged.runs = runs(new.into_iter().collect(), false);
        logged.runs.extend(runs_of_duplicates(old));
        logged.shown = (!logged.runs.is_empty()).then_some(shown);
        Ok(logged)
    }
}

/// Cuts (index, request id) pairs in strictly increasing order of index into runs.
fn runs(pairs: Vec<(u64, u64)>, duplicate: bool) -> Vec<v1::Run> {
    let mut runs: Vec<v1::Run> = Vec::new();
    for (index, id) in pairs {
        match runs.last_mut() {
            Some(run) if run.first_index + run.request_ids.len() as u64 == index => run.request_ids.push(id),
            _ => runs.push(v1::Run { first_index: index, request_ids: vec![id], duplicate, range_proof: None }),
        }
    }
    runs
}

/// As [`runs`], where one index may be asked for several times: each repeat goes into a further layer of runs.
fn runs_of_duplicates(mut pairs: Vec<(u64, u64)>) -> Vec<v1::Run> {
    let mut all = Vec::new();
    while !pairs.is_empty() {
        let (mut layer, mut rest) = (Vec::new(), Vec::new());
        for pair in pairs {
            let repeated = layer.last().is_some_and(|&(index, _)| index == pair.0);
            if repeated { rest.push(pair) } else { layer.push(pair) }
        }
        all.extend(runs(layer, true));
        pairs = rest;
    }
    all
}

fn entry_error(request_id: u64, status: &Status, index: Option<u64>) -> v1::EntryError {
    v1::EntryError { request_id, code: status.code().into(), message: status.message().to_owned(), index }
}

/// An index is told only under a head that covers it: if signing was refused, nobody is acknowledged.
fn check_covered(released: &Released, index: LeafIndex) -> Result<(), Status> {
    if index.0 < released.view.head().size.0 {
        return Ok(());
    }
    Err(status::with_reason(
        Code::FailedPrecondition,
        Reason::RollbackGuard,
        "the head that covers the entry was not signed",
    ))
}

/// Waits until a head covers the entry at `last` that is of the level asked for, and of the log's own.
///
/// * `wait` - how long at most. When that is over, the answer is given under the level reached, if the log lets that out.
async fn cover(
    log: &LogHandle,
    released: Arc<Released>,
    last: LeafIndex,
    (level, wait): (Level, Duration),
) -> Result<Shown, Status> {
    check_covered(&released, last)?;
    if level.max(log.acknowledge) == Level::Signed {
        return Ok(Shown::signed(released));
    }
    let covers = |head: &Option<Arc<Published>>| head.as_ref().is_some_and(|head| last.0 < head.head.size.0);
    let mut newest = log.newest(level).subscribe();
    let reached = tokio::time::timeout(wait, newest.wait_for(covers)).await;
    let reached = reached.ok().and_then(Result::ok).and_then(|head| head.clone());
    // Perhaps a lower level, if not the one that was asked for.
    let lower = || log.newest(Level::Published).borrow().clone().filter(|head| last.0 < head.head.size.0);
    match (reached.or_else(lower), log.acknowledge) {
        (Some(published), _) => Ok(Shown::published(&published, log.released.load_full())),
        (None, Level::Signed) => Ok(Shown::signed(released)),
        (None, Level::Published | Level::Witnessed) => Err(status::level_not_reached()),
    }
}
