//! Three services that append at once, through a crash of the server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use logwood_client::{Appended, Client, ClientError};
use logwood_merkle::LeafIndex;
use logwood_note::{Receipt, VerifierKey};

use super::events::Event;
use crate::child::ServerProcess;
use crate::output::line;

const SERVICES: usize = 3;

/// Calls that one service has under way at once.
const IN_FLIGHT: usize = 16;

/// How long a service keeps trying while the server is down.
const PATIENCE: Duration = Duration::from_mins(1);

/// An acknowledged event.
pub(super) struct Logged {
    pub(super) index: LeafIndex,
    pub(super) receipt: Receipt,
    pub(super) elapsed: Duration,
}

/// Appends all events; the server is killed once half of them are acknowledged, and started again.
pub(super) async fn append_through_a_crash(
    server: &mut ServerProcess,
    data: &Path,
    events: &[Event],
    key: &VerifierKey,
    dir: &Path,
) -> anyhow::Result<Vec<Logged>> {
    let events: Arc<Vec<Event>> = Arc::new(events.to_vec());
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for worker in 0..SERVICES * IN_FLIGHT {
        let (events, acknowledged) = (Arc::clone(&events), Arc::clone(&acknowledged));
        let state = dir.join(format!("service-{}", worker % SERVICES));
        let mut service = Worker { url: server.url.clone(), key: key.clone(), state, client: None };
        tasks.push(tokio::spawn(async move {
            let mut logged = Vec::new();
            for place in (worker..events.len()).step_by(SERVICES * IN_FLIGHT) {
                logged.push((place, service.append(&events[place]).await?));
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(logged)
        }));
    }
    while acknowledged.load(Ordering::Relaxed) < events.len() / 2
        && !tasks.iter().any(tokio::task::JoinHandle::is_finished)
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.kill()?;
    line(&format!(
        "3. SIGKILL after {} acknowledged events, in the middle of others. Starting again; the services retry.",
        acknowledged.load(Ordering::Relaxed)
    ))?;
    *server = ServerProcess::start_own(data, server.port)?;
    let mut all = Vec::with_capacity(events.len());
    for task in tasks {
        all.extend(task.await.context("a service stopped")??);
    }
    all.sort_by_key(|(place, _)| *place);
    Ok(all.into_iter().map(|(_, logged)| logged).collect())
}

/// One worker's connection, made again after each failure.
struct Worker {
    url: String,
    key: VerifierKey,
    state: PathBuf,
    client: Option<Client>,
}

impl Worker {
    /// Appends one event and retries with the same identity until it is acknowledged.
    async fn append(&mut self, event: &Event) -> anyhow::Result<Logged> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let began = Instant::now();
            match self.attempt(event).await {
                Ok(appended) => {
                    return Ok(Logged { index: appended.index, receipt: appended.receipt, elapsed: began.elapsed() });
                }
                Err(error) if error.is_tampering() || Instant::now() > deadline => return Err(error.into()),
                Err(_) => {
                    self.client = None;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn attempt(&mut self, event: &Event) -> Result<Appended, ClientError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => super::client(&self.url, &self.key, &self.state).await?,
        };
        let client = self.client.insert(client);
        client.append(event.bytes.clone(), Some(event.identity.clone())).await
    }
}
