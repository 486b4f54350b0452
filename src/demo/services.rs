//! Three services that append at once, through a crash of the server.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
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
        let (events, acknowledged, key) = (Arc::clone(&events), Arc::clone(&acknowledged), key.clone());
        let (url, state) = (server.url.clone(), dir.join(format!("service-{}", worker % SERVICES)));
        tasks.push(tokio::spawn(async move {
            let mut logged = Vec::new();
            for place in (worker..events.len()).step_by(SERVICES * IN_FLIGHT) {
                logged.push((place, append(&url, &key, &state, &events[place]).await?));
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
    *server = ServerProcess::start(data, server.port)?;
    let mut all = Vec::with_capacity(events.len());
    for task in tasks {
        all.extend(task.await.context("a service stopped")??);
    }
    all.sort_by_key(|(place, _)| *place);
    Ok(all.into_iter().map(|(_, logged)| logged).collect())
}

/// Appends one event and retries with the same identity until it is acknowledged.
async fn append(url: &str, key: &VerifierKey, state: &Path, event: &Event) -> anyhow::Result<Logged> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let began = Instant::now();
        let attempt = match super::client(url, key, state).await {
            Ok(client) => client.append(event.bytes.clone(), Some(event.identity.clone())).await,
            Err(error) => Err(error),
        };
        match attempt {
            Ok(appended) => {
                return Ok(Logged { index: appended.index, receipt: appended.receipt, elapsed: began.elapsed() });
            }
            Err(error) if error.is_tampering() || Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
