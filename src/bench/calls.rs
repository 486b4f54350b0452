//! Loads of single calls: each worker makes one after the other.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use logwood_merkle::{Hash, LeafIndex, verify};
use logwood_proto::v1::log_service_client::LogServiceClient;
use logwood_proto::{BATCH_ENTRIES_MAX, hashes, v1};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::SharedTally;
use super::load::{Load, check_errors, check_run};
use super::tally::Tally;
use crate::failure::VerificationFailed;

/// Health checks until `deadline`, `in_flight` at once.
pub(super) async fn null(channels: &[Channel], in_flight: u32, deadline: Instant) -> anyhow::Result<Tally> {
    workers(channels, in_flight, deadline, |channel, _| {
        let client = HealthClient::new(channel);
        move |_| {
            let mut client = client.clone();
            async move {
                client.check(HealthCheckRequest::default()).await?;
                Ok(0)
            }
        }
    })
    .await
}

/// Single appends until `deadline`, each receipt verified.
pub(super) async fn unary(
    channels: &[Channel],
    load: &Arc<Load>,
    in_flight: u32,
    deadline: Instant,
) -> anyhow::Result<Tally> {
    workers(channels, in_flight, deadline, |channel, worker| {
        let (client, load) = (LogServiceClient::new(channel), Arc::clone(load));
        move |n| append(client.clone(), Arc::clone(&load), worker, n)
    })
    .await
}

async fn append(mut client: LogServiceClient<Channel>, load: Arc<Load>, worker: u32, n: u64) -> anyhow::Result<u64> {
    let entry = load.entry(worker, n);
    let request = v1::AppendRequest {
        log: load.log.clone(),
        entry: entry.clone(),
        identity: load.identity(worker, n).map(v1::append_request::Identity::Key),
        ..v1::AppendRequest::default()
    };
    let answer = client.append(request).await?.into_inner();
    ensure!(!answer.duplicate, "an entry that was never sent before is called a duplicate");
    let head = load.checker.head(answer.head)?;
    let proof = hashes("inclusion", &answer.inclusion)?;
    verify::inclusion(Hash::leaf(&entry), LeafIndex(answer.index), &head, &proof)
        .map_err(|error| VerificationFailed::new(&error))?;
    Ok(1)
}

/// Full batches until `deadline`, each run verified.
pub(super) async fn batch(
    channels: &[Channel],
    load: &Arc<Load>,
    in_flight: u32,
    deadline: Instant,
) -> anyhow::Result<Tally> {
    workers(channels, in_flight, deadline, |channel, worker| {
        let client = LogServiceClient::new(channel);
        let load = Arc::clone(load);
        move |n| append_batch(client.clone(), Arc::clone(&load), worker, n)
    })
    .await
}

async fn append_batch(
    mut client: LogServiceClient<Channel>,
    load: Arc<Load>,
    worker: u32,
    n: u64,
) -> anyhow::Result<u64> {
    let first = n * BATCH_ENTRIES_MAX as u64;
    let numbers = first..first + BATCH_ENTRIES_MAX as u64;
    let entries = numbers
        .map(|n| v1::BatchEntry {
            entry: load.entry(worker, n),
            identity: load.identity(worker, n).map(v1::batch_entry::Identity::Key),
        })
        .collect();
    let request = v1::AppendBatchRequest { log: load.log.clone(), entries, ..v1::AppendBatchRequest::default() };
    let answer = client.append_batch(request).await?.into_inner();
    check_errors(&answer.errors)?;
    let head = load.checker.head(answer.head)?;
    let mut answered = 0;
    for run in &answer.runs {
        let leaves: Vec<_> = run.request_ids.iter().map(|id| Hash::leaf(&load.entry(worker, first + id))).collect();
        check_run(&head, run, &leaves)?;
        answered += leaves.len();
    }
    ensure!(answered == BATCH_ENTRIES_MAX, "an answer covers {answered} of {BATCH_ENTRIES_MAX} entries");
    Ok(answered as u64)
}

/// Runs `in_flight` workers, spread over the channels.
///
/// * `worker` - makes a worker's call, which answers with the number of its entries.
async fn workers<C, F>(
    channels: &[Channel],
    in_flight: u32,
    deadline: Instant,
    worker: impl Fn(Channel, u32) -> C,
) -> anyhow::Result<Tally>
where
    C: FnMut(u64) -> F + Send + 'static,
    F: Future<Output = anyhow::Result<u64>> + Send + 'static,
{
    let tally: SharedTally = Arc::new(Mutex::new(Tally::new()?));
    let mut tasks = JoinSet::new();
    for (number, channel) in (0..in_flight).zip(channels.iter().cycle()) {
        tasks.spawn(repeat(worker(channel.clone(), number), deadline, Arc::clone(&tally)));
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.context("a worker stopped")??;
    }
    let tally = Arc::into_inner(tally).context("a worker did not end")?;
    Ok(tally.into_inner().expect("nobody panics with the lock held"))
}

async fn repeat<F>(mut call: impl FnMut(u64) -> F, deadline: Instant, tally: SharedTally) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<u64>>,
{
    for n in 0.. {
        let began = Instant::now();
        if began >= deadline {
            break;
        }
        let entries = call(n).await?;
        tally.lock().expect("nobody panics with the lock held").call(began.elapsed(), entries)?;
    }
    Ok(())
}
