//! `logwood demo`: the main job, told in sentences: append, crash, retry, prove, and catch a rewriting operator.

mod events;
mod forge;
mod services;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use logwood_client::{Client, ClientError, ClientOptions, LoggedEntry};
use logwood_merkle::{LeafIndex, TreeSize};
use logwood_note::VerifierKey;
use logwood_store::LogStore as _;
use logwood_store_rocksdb::RocksStore;

use crate::child::ServerProcess;
use crate::output::line;
use services::Logged;

/// Shows the whole way of an entry on real events, and a malicious operator being caught. Takes under two minutes.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Files of events, one a line. Default: this machine's package log and the history of the repository here.
    #[arg(value_name = "FILE")]
    events: Vec<PathBuf>,
}

/// Tells the story; every claim in it is checked before it is printed.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let events = events::load(&args.events)?;
    let dir = tempfile::Builder::new().prefix("logwood-demo-").tempdir().context("cannot make a directory")?;
    let data = dir.path().join("data");
    line(&format!("1. Starting a server in {}.", data.display()))?;
    let mut server = ServerProcess::start_own(&data, 0)?;
    let key: VerifierKey = server.vkey.parse().context("the server printed a bad verifier key")?;
    line(&format!("   Its log has the verifier key {key}"))?;
    line("   That line is all that a verifier has to trust.")?;

    line(&format!("2. Three services append {} real events at once, each with an identity.", events.len()))?;
    let logged = services::append_through_a_crash(&mut server, &data, &events, &key, dir.path()).await?;
    check_nothing_lost_or_doubled(&server, &events, &logged, &key, dir.path()).await?;
    let checkpoint = show_proofs(&server, &logged, &key, dir.path()).await?;
    server.stop()?;
    let figures = figures(&data, &logged, events.iter().map(|event| event.bytes.len()).sum())?;

    let old = dir.path().join("checkpoint.old");
    std::fs::write(&old, &checkpoint).context("cannot keep the checkpoint")?;
    catch_the_operator(&server, &data, &key, &old, dir.path()).await?;
    line(&figures)?;
    Ok(ExitCode::SUCCESS)
}

/// A client of one of the parties in the story; each remembers in a directory of its own.
pub(crate) async fn client(url: &str, key: &VerifierKey, state: &Path) -> Result<Client, ClientError> {
    let (vkey, state_dir) = (Some(key.clone()), Some(state.to_owned()));
    Client::connect(ClientOptions { vkey, state_dir, ..ClientOptions::new(url, "default") }).await
}

async fn check_nothing_lost_or_doubled(
    server: &ServerProcess,
    events: &[events::Event],
    logged: &[Logged],
    key: &VerifierKey,
    dir: &Path,
) -> anyhow::Result<()> {
    let auditor = client(&server.url, key, &dir.join("auditor")).await?;
    let head = auditor.head().await?;
    let mut indices: Vec<_> = logged.iter().map(|logged| logged.index.0).collect();
    indices.sort_unstable();
    indices.dedup();
    ensure!(indices.len() == events.len(), "two events share an index");
    ensure!(head.head.size.0 == events.len() as u64, "the log has {} entries, not {}", head.head.size, events.len());
    line(&format!(
        "4. Nothing was lost and nothing doubled: {} events, {} indices, a tree of {} entries.",
        events.len(),
        indices.len(),
        head.head.size
    ))?;
    for (event, logged) in events.iter().zip(logged) {
        logged.receipt.verify(&event.bytes, key, None).context("a receipt does not verify")?;
    }
    line(&format!("5. Every one of the {} receipts verifies offline, with the key alone.", logged.len()))?;
    let again = auditor.append(events[0].bytes.clone(), Some(events[0].identity.clone())).await?;
    ensure!(again.duplicate && again.index == logged[0].index, "a retry was logged again");
    line(&format!("   Appending the first event again gives index {} again, marked as a duplicate.", again.index))
}

/// Shows one proof of each kind; returns the checkpoint that somebody keeps elsewhere.
async fn show_proofs(
    server: &ServerProcess,
    logged: &[Logged],
    key: &VerifierKey,
    dir: &Path,
) -> anyhow::Result<bytes::Bytes> {
    let auditor = client(&server.url, key, &dir.join("auditor")).await?;
    let index = LeafIndex(logged.len() as u64 / 2);
    let LoggedEntry { receipt, head, .. } = auditor.get(index).await?;
    line(&format!("6. Entry {index} is in the tree of {} entries, by these hashes:", head.head.size))?;
    for hash in &receipt.proof {
        line(&format!("      {hash}"))?;
    }
    let old = TreeSize((logged.len() as u64 / 3).max(1));
    let proof = auditor.consistency(old, head.head.size).await?;
    line(&format!(
        "   The tree of {} entries begins with the {old} entries that were there before: {} hashes prove it.",
        head.head.size,
        proof.len()
    ))?;
    Ok(head.note)
}

async fn catch_the_operator(
    honest: &ServerProcess,
    data: &Path,
    key: &VerifierKey,
    checkpoint: &Path,
    dir: &Path,
) -> anyhow::Result<()> {
    let forged = dir.join("forged");
    let victim = forge::rewrite(data, &forged)?;
    line(&format!(
        "7. A malicious operator rewrites entry {victim} on a copy, and every hash and signature above it."
    ))?;
    // It complains that the copy has no anchor, which the operator alone would read.
    let quiet = [("RUST_LOG", "off")];
    let mut server = ServerProcess::start(&std::env::current_exe()?, (&forged, honest.port), &[], &quiet)?;
    let auditor = client(&server.url, key, &dir.join("auditor")).await?;
    match auditor.head().await {
        Err(error) if error.is_tampering() => line(&format!("   The client remembers an older head: {error}"))?,
        other => anyhow::bail!("the client did not notice the rewritten entry: {other:?}"),
    }
    server.stop()?;
    let fsck = |checkpoint: Option<&Path>| {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("fsck").arg("--vkey").arg(key.to_string());
        if let Some(checkpoint) = checkpoint {
            command.arg("--checkpoint").arg(checkpoint);
        }
        command.arg(&forged).output()
    };
    let alone = fsck(None).context("cannot run fsck")?;
    ensure!(alone.status.code() == Some(0), "the forgery is not even consistent with itself: {alone:?}");
    line("   By itself the copy is flawless: fsck exits with 0. That is why checkpoints are kept elsewhere.")?;
    let caught = fsck(Some(checkpoint)).context("cannot run fsck")?;
    ensure!(caught.status.code() == Some(3), "fsck did not notice: {caught:?}");
    line("   Against the checkpoint that somebody kept, fsck exits with 3:")?;
    line(&format!("      {}", String::from_utf8_lossy(&caught.stderr).trim()))
}

fn figures(data: &Path, logged: &[Logged], raw_bytes: usize) -> anyhow::Result<String> {
    let mut latency = Histogram::<u64>::new(3).context("a histogram")?;
    for logged in logged {
        latency.record(u64::try_from(logged.elapsed.as_micros())?).context("a latency out of range")?;
    }
    let rounds = RocksStore::open_read_only(&data.join("db"))?.state()?.round;
    let disk = directory_bytes(&data.join("db"))?;
    let entries = logged.len() as u64;
    Ok(format!(
        "8. Figures: {entries} entries in {rounds} rounds; {} bytes on disk an entry (raw: {}); an append took {} us \
         at the median, {} us at the 99th percentile.",
        disk / entries,
        raw_bytes as u64 / entries,
        latency.value_at_quantile(0.5),
        latency.value_at_quantile(0.99),
    ))
}

fn directory_bytes(dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for file in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}
