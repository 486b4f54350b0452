//! Loads of streams: as many entries under way as the window lets, each run verified as it comes back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::{Stream, StreamExt as _, stream};
use logwood_merkle::Hash;
use logwood_proto::v1;
use logwood_proto::v1::append_stream_request::Message;
use logwood_proto::v1::log_service_client::LogServiceClient;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::SharedTally;
use super::load::{Load, check_errors, check_run};
use super::tally::Tally;

/// Entries of one stream that are sent and not yet answered.
struct Window {
    began: Instant,
    room: Semaphore,
    /// When entry `n` was sent is at `n % sent_us.len()`, in microseconds since `began`.
    sent_us: Vec<AtomicU64>,
    /// How many entries were sent.
    sent: AtomicU64,
}

impl Window {
    fn new(entries: u32) -> Self {
        let entries = entries as usize;
        Self {
            began: Instant::now(),
            room: Semaphore::new(entries),
            sent_us: (0..entries).map(|_| AtomicU64::new(0)).collect(),
            sent: AtomicU64::new(0),
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn sent_us(&self, n: u64) -> &AtomicU64 {
        let slot = n % self.sent_us.len() as u64;
        &self.sent_us[usize::try_from(slot).expect("less than the length")]
    }
}

/// Streams until `deadline`.
///
/// * `in_flight` - entries of one stream that are under way at most.
pub(super) async fn run(
    channels: &[Channel],
    load: &Arc<Load>,
    streams: u32,
    in_flight: u32,
    deadline: Instant,
) -> anyhow::Result<Tally> {
    let tally: SharedTally = Arc::new(Mutex::new(Tally::new()?));
    let mut tasks = JoinSet::new();
    for (worker, channel) in (0..streams).zip(channels.iter().cycle()) {
        let client = LogServiceClient::new(channel.clone());
        let window = Arc::new(Window::new(in_flight));
        tasks.spawn(append(client, Arc::clone(load), worker, window, deadline, Arc::clone(&tally)));
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.context("a stream stopped")??;
    }
    let tally = Arc::into_inner(tally).context("a stream did not end")?;
    Ok(tally.into_inner().expect("nobody panics with the lock held"))
}

/// What one stream sends: it opens, then entries while there is room, until `deadline`.
fn requests(
    load: Arc<Load>,
    worker: u32,
    window: Arc<Window>,
    deadline: Instant,
) -> impl Stream<Item = v1::AppendStreamRequest> + Send + 'static {
    let open = v1::AppendStreamOpen { log: load.log.clone(), known_size: 0, range_proofs: true };
    let entries = stream::unfold(0, move |n| {
        let (load, window) = (Arc::clone(&load), Arc::clone(&window));
        async move {
            window.room.acquire().await.ok()?.forget();
            if Instant::now() >= deadline {
                return None;
            }
            window.sent_us(n).store(window.now_us(), Ordering::Relaxed);
            window.sent.store(n + 1, Ordering::Relaxed);
            let identity = load.identity(worker, n).map(v1::append_stream_entry::Identity::Key);
            Some((
                Message::Entry(v1::AppendStreamEntry { request_id: n, entry: load.entry(worker, n), identity }),
                n + 1,
            ))
        }
    });
    stream::iter([Message::Open(open)]).chain(entries).map(|message| v1::AppendStreamRequest { message: Some(message) })
}

async fn append(
    mut client: LogServiceClient<Channel>,
    load: Arc<Load>,
    worker: u32,
    window: Arc<Window>,
    deadline: Instant,
    tally: SharedTally,
) -> anyhow::Result<()> {
    let requests = requests(Arc::clone(&load), worker, Arc::clone(&window), deadline);
    let mut answers = client.append_stream(requests).await?.into_inner();
    let mut answered = 0;
    while let Some(answer) = answers.message().await? {
        check_errors(&answer.errors)?;
        let head = load.checker.head(answer.head)?;
        for run in &answer.runs {
            let leaves: Vec<_> = run.request_ids.iter().map(|&id| Hash::leaf(&load.entry(worker, id))).collect();
            check_run(&head, run, &leaves)?;
            count(&window, &run.request_ids, &tally)?;
            window.room.add_permits(leaves.len());
            answered += leaves.len() as u64;
        }
    }
    let sent = window.sent.load(Ordering::Relaxed);
    ensure!(answered == sent, "a stream sent {sent} entries, and {answered} were answered");
    Ok(())
}

/// Counts the entries of a run, whose proof has been checked.
fn count(window: &Window, request_ids: &[u64], tally: &SharedTally) -> anyhow::Result<()> {
    let now_us = window.now_us();
    let mut tally = tally.lock().expect("nobody panics with the lock held");
    for &id in request_ids {
        let elapsed_us = now_us.saturating_sub(window.sent_us(id).load(Ordering::Relaxed));
        tally.latency(Duration::from_micros(elapsed_us), 1)?;
    }
    tally.answer(request_ids.len() as u64);
    Ok(())
}
