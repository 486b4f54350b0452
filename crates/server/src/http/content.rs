//! What can be read of a log: its published checkpoint, its tiles, its entry bundles, its seal.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::{HeaderMap, StatusCode};
use logwood_merkle::{LeafIndex, TILE_WIDTH, TileId, TilePath};
use logwood_sequencer::Level;
use logwood_store::bundle::Bundle;
use logwood_store::{BUNDLE_ENTRIES, LogQuery, LogState};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::Status;

use super::answer::{Answer, Cache, Coding, Meta, Validator, not_found, refusal};
use super::connections::{Connections, InProgress};
use super::encoding::Accepted;
use crate::core::Core;
use crate::registry::LogHandle;
use crate::status;

/// Bundles being made and sent, in KiB: 128 MiB.
const BUNDLES_KIB_MAX: u32 = 128 * 1024;

/// The largest bundle, in KiB: 256 entries of 65,535 bytes, with two bytes of length each.
const BUNDLE_KIB_MAX: u32 = 16 * 1024 + 1;

/// Bundles being made at once: each takes about four times its size until it is.
const BUILDS_MAX: usize = 2;

/// How long a request waits for its part of [`BUNDLES_KIB_MAX`], and then once more after another was made to give up its
/// own, for at most [`BUNDLE_TURNS`] times.
const BUNDLE_WAIT: Duration = Duration::from_secs(1);
const BUNDLE_TURNS: usize = 5;

/// Logs in one page of the list.
const LOGS_MAX: usize = 100;

const TEXT: &str = "text/plain; charset=utf-8";
const BINARY: &str = "application/octet-stream";

/// What bundles share.
pub(super) struct Bundles {
    /// KiB, from the start of making one until the last byte is sent.
    room: Arc<Semaphore>,
    builds: Semaphore,
}

impl Bundles {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(BUNDLES_KIB_MAX as usize)), builds: Semaphore::new(BUILDS_MAX) }
    }

    /// Room for the largest bundle. While there is none, whoever takes longest to read an answer loses its connection.
    pub(super) async fn room(&self, connections: &Connections, request: &InProgress) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.room).acquire_many_owned(BUNDLE_KIB_MAX);
        tokio::pin!(permit);
        for _ in 0..BUNDLE_TURNS {
            match tokio::time::timeout(BUNDLE_WAIT, &mut permit).await {
                Ok(permit) => {
                    request.holds_bundle();
                    return permit.ok();
                }
                Err(_) => drop(connections.put_out_slowest(Instant::now())),
            }
        }
        None
    }
}

/// Bytes that hold their part of the budget until the last of them is sent.
struct Leased {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The newest published checkpoint, kept no longer than until there may be a newer one.
pub(super) fn checkpoint(core: &Core, log: &LogHandle, headers: &HeaderMap) -> Answer {
    let Some(published) = log.newest(Level::Published).borrow().clone() else { return not_found() };
    let cache = until_published(core);
    Meta::plain(TEXT, cache, Some(Validator::of(&published.note))).answer(headers, published.note.clone())
}

/// The seal of a log that has one.
pub(super) fn seal(log: &LogHandle, headers: &HeaderMap) -> Answer {
    let LogState::Sealed { note } = log.state.read().clone() else { return not_found() };
    Meta::plain(TEXT, Cache::Forever, Some(Validator::of(&note))).answer(headers, note)
}

/// For as long as there cannot be anything newer.
fn until_published(core: &Core) -> Cache {
    Cache::Seconds(core.publishing.interval_ms / 1_000)
}

fn cache_of(path: TilePath) -> Cache {
    if u64::from(path.width()) == TILE_WIDTH { Cache::Forever } else { Cache::Days }
}

/// A tile of hashes.
pub(super) fn tile(core: &Core, log: &LogHandle, path: TilePath, headers: &HeaderMap) -> Result<Answer, Status> {
    let TilePath::Hashes { tile, width } = path else { return Ok(not_found()) };
    let released = log.released.load_full();
    let hashes = core.shared.nodes.tile_hashes(&*core.store()?, (log.number, &released.view), tile, width);
    let hashes = hashes.map_err(status::read)?;
    let meta = Meta::plain(BINARY, cache_of(path), Some(Validator::of(&hashes)));
    Ok(meta.answer(headers, hashes.into()))
}

/// A bundle of entries, in the best encoding that the client takes: the stored zstd frames as they are, gzip, or plain.
///
/// Its validator is the hash of its leaf hashes, which name its bytes, so that a client that has it costs no read of it.
pub(super) async fn entries(
    core: &Core,
    log: &LogHandle,
    path: TilePath,
    (bundles, room): (&Bundles, impl AsyncFnOnce() -> Option<OwnedSemaphorePermit>),
    headers: &HeaderMap,
) -> Result<Answer, Status> {
    let TilePath::Entries { index, width } = path else { return Ok(not_found()) };
    let accepted = Accepted::of(headers);
    let zstd = accepted.zstd && u64::from(width) == BUNDLE_ENTRIES;
    let codings = [zstd.then_some(Coding::Zstd), accepted.gzip.then_some(Coding::Gzip), Some(Coding::Plain)];
    let codings: Vec<Coding> = codings.into_iter().flatten().collect();
    let leaves = tokio::task::block_in_place(|| {
        let released = log.released.load_full();
        let id = TileId { level: 0, index };
        core.shared.nodes.tile_hashes(&*core.store()?, (log.number, &released.view), id, width).map_err(status::read)
    })?;
    let validator = Validator::of(&leaves);
    let meta = |coding| Meta {
        content_type: BINARY,
        cache: cache_of(path),
        validator: Some(validator.clone()),
        coding,
        varies: true,
    };
    if let Some(held) = validator.held(headers, &codings) {
        return Ok(meta(held).not_modified());
    }
    let Some(permit) = room().await else {
        let text = format!("bundles being sent take at most {BUNDLES_KIB_MAX} KiB: try again");
        return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, &text));
    };
    let _build = bundles.builds.acquire().await;
    tokio::task::block_in_place(|| {
        let (coding, bytes) = bundle(core, log, (index, width), &codings)?;
        Ok(meta(coding).content(lease(bytes, permit)))
    })
}

/// Keeps as much of the permit as the bytes take.
fn lease(bytes: Vec<u8>, mut permit: OwnedSemaphorePermit) -> Bytes {
    let surplus = permit.num_permits().saturating_sub(bytes.len().div_ceil(1024));
    drop(permit.split(surplus));
    Bytes::from_owner(Leased { bytes, _permit: permit })
}

/// The first `width` entries of a bundle in the first of `codings` that it can be had in.
fn bundle(
    core: &Core,
    log: &LogHandle,
    (index, width): (u64, u16),
    codings: &[Coding],
) -> Result<(Coding, Vec<u8>), Status> {
    let store = core.store()?;
    let damaged = || Status::data_loss("entries are missing; the operator must run `logwood fsck`");
    if codings.contains(&Coding::Zstd) {
        let packed = store.bundle(log.number, index).map_err(status::read)?;
        let packed = packed.as_deref().map(Bundle::parse).transpose().map_err(|_| damaged())?;
        if let Some(frames) = packed.and_then(|packed| packed.zstd_frames()) {
            return Ok((Coding::Zstd, frames));
        }
    }
    let first = index * BUNDLE_ENTRIES;
    let range = (LeafIndex(first), LeafIndex(first + u64::from(width)));
    let entries = store.entries(log.number, range.0, range.1, usize::MAX).map_err(status::read)?;
    if entries.len() != usize::from(width) {
        return Err(damaged());
    }
    let mut plain = Vec::with_capacity(entries.iter().map(|entry| entry.bytes.len() + 2).sum());
    for entry in &entries {
        let length = u16::try_from(entry.bytes.len()).expect("an entry has at most 65,535 bytes");
        plain.extend(length.to_be_bytes());
        plain.extend_from_slice(&entry.bytes);
    }
    drop(entries);
    if !codings.contains(&Coding::Gzip) {
        return Ok((Coding::Plain, plain));
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let gzip = gzip.write_all(&plain).and_then(|()| gzip.finish());
    Ok((Coding::Gzip, gzip.expect("writing to a Vec cannot fail")))
}

/// One page of the logs: their newest published sizes, and where to read on. No log is loaded for it.
pub(super) fn logs(core: &Core, after: &str, headers: &HeaderMap) -> Result<Answer, Status> {
    let store = core.store()?;
    let query = LogQuery::After { name: after, logs_max: LOGS_MAX + 1 };
    let mut records = store.logs(query).map_err(status::read)?;
    let more = records.len() > LOGS_MAX;
    records.truncate(LOGS_MAX);
    let next = records.last().filter(|_| more).map(|last| format!("/logs?after={}", last.settings.name));
    let mut logs = Vec::with_capacity(records.len());
    for record in records {
        let size = core.listed_size(&*store, &record);
        let prefix = format!("/logs/{}", record.settings.name);
        let seal = matches!(record.state, LogState::Sealed { .. }).then(|| format!("{prefix}/seal"));
        logs.push(json!({
            "name": record.settings.name,
            "origin": record.settings.origin,
            "vkeys": record.settings.vkeys,
            "size": size.0,
            "links": { "checkpoint": format!("{prefix}/checkpoint"), "tiles": format!("{prefix}/tile/"), "seal": seal },
        }));
    }
    let body = json!({ "logs": Value::Array(logs), "next": next });
    let body = Bytes::from(format!("{body:#}\n"));
    let cache = until_published(core);
    Ok(Meta::plain("application/json", cache, Some(Validator::of(&body))).answer(headers, body))
}
