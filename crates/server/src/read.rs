//! Reading: entries, proofs, heads, logs.

use std::sync::Arc;

use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex, TreeSize};
use logwood_proto::{Reason, hashes_to_bytes, range_proof_to_message, v1};
use logwood_sequencer::Level;
use logwood_store::{ENTRY_BYTES_MAX, HeadQuery, LogQuery, LogRecord, LogSettings, LogStore, Lookup};
use prost::Message;
use tonic::Status;

use crate::core::{Core, HEADS_AT_ONCE, check_known};
use crate::limits::HEAD_BYTES_MAX;
use crate::publisher::published;
use crate::registry::{LogHandle, RETIRED, Shown};
use crate::service::Answers;
use crate::status;

/// How often one call reads on in search of heads that the log lets out.
const READS_MAX: usize = 32;

/// Where an entry is asked for.
pub(crate) enum By<'a> {
    Index(u64),
    LeafHash(&'a Bytes),
}

pub(crate) fn get_tree_head(core: &Core, request: &v1::GetTreeHeadRequest) -> Result<v1::GetTreeHeadResponse, Status> {
    let log = core.log(&request.log)?;
    let shown = Core::shown_at(&log, level("level", request.level)?)?;
    Ok(v1::GetTreeHeadResponse { head: Some(core.signed_head(&log, &shown, request.known_size)?) })
}

/// A level as a request names it. The log's own level is the least, so no level is as good as the lowest.
pub(crate) fn level(field: &str, level: i32) -> Result<Level, Status> {
    match v1::HeadLevel::try_from(level) {
        Ok(v1::HeadLevel::Unspecified | v1::HeadLevel::Signed) => Ok(Level::Signed),
        Ok(v1::HeadLevel::Published) => Ok(Level::Published),
        Ok(v1::HeadLevel::Witnessed) => Ok(Level::Witnessed),
        Err(_) => Err(status::invalid(field, format!("{level} is no level"))),
    }
}

fn page(core: &Core, page_size: u32) -> Result<usize, Status> {
    let most = core.bounds.limits.page_entries();
    match usize::try_from(page_size) {
        Ok(0) => Ok(most),
        Ok(size) if size <= most => Ok(size),
        _ => Err(status::invalid("page_size", format!("a page has at most {most} elements"))),
    }
}

/// Whether one more element of a page still fits an answer, which has so many bytes already.
fn fits(core: &Core, bytes: &mut usize, element: &impl Message) -> bool {
    // A tag, a length, and what follows the page.
    *bytes += element.encoded_len() + 8;
    *bytes + HEAD_BYTES_MAX <= core.bounds.limits.answer_bytes()
}

pub(crate) fn list_tree_heads(
    core: &Core,
    request: &v1::ListTreeHeadsRequest,
) -> Result<v1::ListTreeHeadsResponse, Status> {
    let log = core.log(&request.log)?;
    let page = page(core, request.page_size)?;
    check_known(request.known_size, log.visible_size().0)?;
    let Some(newest) = log.shown_at(Level::Published) else {
        return Ok(v1::ListTreeHeadsResponse { heads: Vec::new(), next_size: None });
    };
    let query = match request.start {
        Some(v1::list_tree_heads_request::Start::FromSize(size)) => HeadQuery::FromSize(size),
        Some(v1::list_tree_heads_request::Start::FromTimeMs(time)) => HeadQuery::FromTime(time),
        None => HeadQuery::FromSize(0),
    };
    let least = Level::Published.max(log.acknowledge);
    let mut heads = Vec::new();
    let (mut query, mut next_size, mut known_size, mut bytes) = (query, None, request.known_size, 0);
    for _ in 0..READS_MAX {
        // A few at a time: each may have many signatures, and what does not fit is read for nothing.
        let stored = core.store()?.heads(log.number, query, HEADS_AT_ONCE).map_err(status::read)?;
        // What is stored is served only once the anchor has it.
        next_size = stored.last().map(|last| last.head.size.0 + 1).filter(|&next| next <= newest.head.size.0);
        for head in stored.iter().filter(|head| head.head.size <= newest.head.size) {
            let published = published(&log.settings.origin, log.watched.as_deref(), head)?;
            if least == Level::Witnessed && !published.is_witnessed {
                continue;
            }
            let shown = Shown::published(&published, log.released.load_full());
            let signed = core.signed_head(&log, &shown, base(known_size, &shown))?;
            if heads.len() == page || !fits(core, &mut bytes, &signed) {
                return Ok(v1::ListTreeHeadsResponse { heads, next_size: Some(head.head.size.0) });
            }
            heads.push(signed);
            known_size = known_size.max(head.head.size.0);
        }
        let Some(next) = next_size else { break };
        query = HeadQuery::FromSize(next);
    }
    Ok(v1::ListTreeHeadsResponse { heads, next_size })
}

/// Where the proof of a head of the history begins: a head below what the caller knows has none from there.
fn base(known_size: u64, shown: &Shown) -> u64 {
    if known_size <= shown.head.size.0 { known_size } else { 0 }
}

pub(crate) async fn watch_tree_heads(
    core: Arc<Core>,
    request: v1::WatchTreeHeadsRequest,
    answers: Answers<v1::WatchTreeHeadsResponse>,
) -> Result<(), Status> {
    let log = core.log(&request.log)?;
    let level = level("level", request.level)?.max(Level::Published).max(log.acknowledge);
    log.check_witnesses(level)?;
    check_known(request.known_size, log.visible_size().0)?;
    let mut watch = log.newest(level).subscribe();
    let mut grown = log.grown.subscribe();
    let (mut from, mut known_size) = (request.from_size, request.known_size);
    loop {
        let newest = watch.borrow_and_update().as_ref().map(|newest| newest.head.size);
        // What is stored is served only once the anchor has it.
        while let Some(newest) = newest.filter(|newest| newest.0 >= from) {
            let mut page =
                core.store()?.heads(log.number, HeadQuery::FromSize(from), HEADS_AT_ONCE).map_err(status::read)?;
            page.retain(|head| head.head.size <= newest);
            if page.is_empty() {
                break;
            }
            for head in page {
                let published = published(&log.settings.origin, log.watched.as_deref(), &head)?;
                from = head.head.size.0 + 1;
                if level == Level::Witnessed && !published.is_witnessed {
                    continue;
                }
                let room = core.bounds.stream_answer().await;
                let shown = Shown::published(&published, log.released.load_full());
                let signed = core.signed_head(&log, &shown, base(known_size, &shown))?;
                known_size = known_size.max(head.head.size.0);
                if !answers.send(v1::WatchTreeHeadsResponse { head: Some(signed) }, room).await {
                    return Ok(());
                }
            }
        }
        tokio::select! {
            changed = watch.changed() => changed.map_err(|_| status::halted())?,
            _ = grown.wait_for(|&size| size == RETIRED) => return Err(status::halted()),
            () = answers.closed() => return Ok(()),
        }
    }
}

/// The index of the entry, checked against the head.
fn locate(core: &Core, log: &LogHandle, size: u64, by: &By<'_>) -> Result<LeafIndex, Status> {
    let index = match by {
        By::Index(index) => *index,
        By::LeafHash(bytes) => {
            if !log.settings.leaf_index {
                return Err(status::precondition(Reason::NoLeafIndex, "the log keeps no index of leaf hashes"));
            }
            let leaf = logwood_proto::hash("leaf_hash", bytes).map_err(status::field)?;
            let found = core.store()?.find(log.number, &[Lookup::Leaf(leaf)]).map_err(status::read)?;
            let found = found.first().copied().flatten().filter(|index| index.0 < size);
            found.ok_or_else(|| Status::not_found("no entry has that leaf hash"))?.0
        }
    };
    if index >= size { Err(status::beyond_head("index", index, size)) } else { Ok(LeafIndex(index)) }
}

pub(crate) fn get_entry(core: &Core, request: &v1::GetEntryRequest) -> Result<v1::GetEntryResponse, Status> {
    let log = core.log(&request.log)?;
    let by = match &request.by {
        Some(v1::get_entry_request::By::Index(index)) => By::Index(*index),
        Some(v1::get_entry_request::By::LeafHash(hash)) => By::LeafHash(hash),
        None => return Err(status::invalid("by", "give an index or a leaf hash")),
    };
    let shown = Core::shown_at(&log, level("head", request.head)?)?;
    let index = locate(core, &log, shown.head.size.0, &by)?;
    let head = core.signed_head(&log, &shown, request.known_size)?;
    let store = core.store()?;
    let view = (log.number, shown.view());
    let inclusion = core.shared.nodes.inclusion(&*store, view, index, shown.head.size).map_err(status::node)?;
    let entry = store.entries(log.number, index, LeafIndex(index.0 + 1), 1).map_err(status::read)?.pop();
    let entry = entry.ok_or_else(|| Status::data_loss("an entry is missing; the operator must run `logwood fsck`"))?;
    Ok(v1::GetEntryResponse {
        index: index.0,
        entry: entry.bytes,
        head: Some(head),
        inclusion: hashes_to_bytes(&inclusion),
    })
}

pub(crate) async fn read_entries(
    core: Arc<Core>,
    request: v1::ReadEntriesRequest,
    answers: Answers<v1::ReadEntriesResponse>,
) -> Result<(), Status> {
    let log = core.log(&request.log)?;
    let mut shown = Core::shown(&log)?;
    let size = shown.head.size.0;
    check_known(request.known_size, size)?;
    for (field, asked) in [("first_index", request.first_index), ("end_index", request.end_index)] {
        if asked > size {
            return Err(status::beyond_head(field, asked, size));
        }
    }
    if request.follow && request.end_index != 0 {
        return Err(status::invalid("follow", "excludes end_index"));
    }
    if request.end_index != 0 && request.end_index <= request.first_index {
        return Err(status::invalid("end_index", "the range is empty or reversed"));
    }
    let mut grown = log.grown.subscribe();
    let (mut next, mut known_size) = (request.first_index, request.known_size);
    loop {
        let size = shown.head.size.0;
        let end = if request.end_index == 0 { size } else { request.end_index };
        while next < end {
            let room = core.bounds.stream_answer().await;
            let answer = read_some(&core, &log, &shown, next..end, known_size)?;
            next += answer.entries.len() as u64;
            known_size = size;
            if !answers.send(answer, room).await {
                return Ok(());
            }
        }
        if !request.follow {
            return Ok(());
        }
        tokio::select! {
            grew = grown.wait_for(|&size| size > next) => drop(grew.map_err(|_| status::halted())?),
            () = answers.closed() => return Ok(()),
        }
        if *grown.borrow() == RETIRED {
            return Err(status::halted());
        }
        shown = Core::shown(&log)?;
    }
}

fn read_some(
    core: &Core,
    log: &LogHandle,
    shown: &Shown,
    range: std::ops::Range<u64>,
    known_size: u64,
) -> Result<v1::ReadEntriesResponse, Status> {
    let store = core.store()?;
    let page = core.bounds.limits.page_entries();
    let (first, end) = (LeafIndex(range.start), LeafIndex(range.end.min(range.start + page as u64)));
    // The store stops once it has so many bytes: one entry more than these may be there. Each has a tag and a length.
    let bytes_max = core.bounds.limits.stream_answer_bytes() - ENTRY_BYTES_MAX - 4 * page - HEAD_BYTES_MAX;
    let entries = store.entries(log.number, first, end, bytes_max).map_err(status::read)?;
    if entries.is_empty() {
        return Err(Status::data_loss("entries are missing; the operator must run `logwood fsck`"));
    }
    let covered = range.start..range.start + entries.len() as u64;
    let proof = core.shared.nodes.range(&*store, (log.number, shown.view()), covered, shown.head.size);
    Ok(v1::ReadEntriesResponse {
        first_index: range.start,
        entries: entries.into_iter().map(|entry| entry.bytes).collect(),
        head: Some(core.signed_head(log, shown, known_size)?),
        range_proof: Some(range_proof_to_message(&proof.map_err(status::node)?)),
    })
}

/// The size that a proof is asked for: 0 means that of the head.
fn proof_size(asked: u64, head: u64) -> Result<TreeSize, Status> {
    match asked {
        0 => Ok(TreeSize(head)),
        size if size > head => Err(status::beyond_head("size", size, head)),
        size => Ok(TreeSize(size)),
    }
}

pub(crate) fn get_inclusion_proof(
    core: &Core,
    request: &v1::GetInclusionProofRequest,
) -> Result<v1::GetInclusionProofResponse, Status> {
    let log = core.log(&request.log)?;
    let shown = Core::shown(&log)?;
    let by = match &request.by {
        Some(v1::get_inclusion_proof_request::By::Index(index)) => By::Index(*index),
        Some(v1::get_inclusion_proof_request::By::LeafHash(hash)) => By::LeafHash(hash),
        None => return Err(status::invalid("by", "give an index or a leaf hash")),
    };
    let size = proof_size(request.size, shown.head.size.0)?;
    let index = locate(core, &log, shown.head.size.0, &by)?;
    if index.0 >= size.0 {
        return Err(status::beyond_tree("index", index.0, size, shown.head.size));
    }
    let head = core.signed_head(&log, &shown, request.known_size)?;
    let view = (log.number, shown.view());
    let inclusion = core.shared.nodes.inclusion(&*core.store()?, view, index, size).map_err(status::node)?;
    Ok(v1::GetInclusionProofResponse {
        index: index.0,
        size: size.0,
        inclusion: hashes_to_bytes(&inclusion),
        head: Some(head),
    })
}

pub(crate) fn get_inclusion_proofs(
    core: &Core,
    request: &v1::GetInclusionProofsRequest,
) -> Result<v1::GetInclusionProofsResponse, Status> {
    let log = core.log(&request.log)?;
    let shown = Core::shown(&log)?;
    let size = proof_size(request.size, shown.head.size.0)?;
    let count = request.indices.len();
    let count_max = core.bounds.limits.multiproof_indices();
    if count == 0 || count > count_max {
        return Err(status::invalid("indices", format!("a multiproof has 1 to {count_max} indices, not {count}")));
    }
    if !request.indices.is_sorted_by(|a, b| a < b) {
        return Err(status::invalid("indices", "must be strictly increasing"));
    }
    if let Some(&last) = request.indices.last().filter(|&&last| last >= size.0) {
        return Err(status::beyond_tree("indices", last, size, shown.head.size));
    }
    let indices: Vec<_> = request.indices.iter().map(|&index| LeafIndex(index)).collect();
    let head = core.signed_head(&log, &shown, request.known_size)?;
    let store = core.store()?;
    let view = (log.number, shown.view());
    let leaves = indices.iter().map(|&index| core.shared.nodes.leaf(&*store, view, index));
    let leaves = leaves.collect::<Result<Vec<Hash>, _>>().map_err(status::node)?;
    let proof = core.shared.nodes.multi(&*store, view, &indices, size).map_err(status::node)?;
    Ok(v1::GetInclusionProofsResponse {
        leaf_hashes: hashes_to_bytes(&leaves),
        size: size.0,
        multiproof: hashes_to_bytes(&proof),
        head: Some(head),
    })
}

pub(crate) fn get_range_proof(
    core: &Core,
    request: &v1::GetRangeProofRequest,
) -> Result<v1::GetRangeProofResponse, Status> {
    let log = core.log(&request.log)?;
    let shown = Core::shown(&log)?;
    let size = proof_size(request.size, shown.head.size.0)?;
    let range = request.first_index..request.end_index;
    if range.is_empty() {
        return Err(status::invalid("end_index", "the range is empty or reversed"));
    }
    if range.end > size.0 {
        return Err(status::beyond_tree("end_index", range.end, size, shown.head.size));
    }
    let head = core.signed_head(&log, &shown, request.known_size)?;
    let view = (log.number, shown.view());
    let proof = core.shared.nodes.range(&*core.store()?, view, range, size).map_err(status::node)?;
    Ok(v1::GetRangeProofResponse { size: size.0, range_proof: Some(range_proof_to_message(&proof)), head: Some(head) })
}

pub(crate) fn get_consistency_proof(
    core: &Core,
    request: &v1::GetConsistencyProofRequest,
) -> Result<v1::GetConsistencyProofResponse, Status> {
    let log = core.log(&request.log)?;
    let shown = Core::shown(&log)?;
    let size = shown.head.size.0;
    let (old, new) = (request.old_size, request.new_size);
    for (field, asked) in [("old_size", old), ("new_size", new)] {
        if asked > size {
            return Err(status::beyond_head(field, asked, size));
        }
    }
    if old == 0 || old > new {
        return Err(status::invalid("old_size", "0 < old_size <= new_size"));
    }
    let view = (log.number, shown.view());
    let proof =
        core.shared.nodes.consistency(&*core.store()?, view, TreeSize(old), TreeSize(new)).map_err(status::node)?;
    Ok(v1::GetConsistencyProofResponse { consistency: hashes_to_bytes(&proof) })
}

pub(crate) fn list_logs(core: &Core, request: &v1::ListLogsRequest) -> Result<v1::ListLogsResponse, Status> {
    let page = page(core, request.page_size)?;
    if request.page_token.len() > 64 {
        return Err(status::invalid("page_token", "is none that this server gave out"));
    }
    let query = LogQuery::After { name: &request.page_token, logs_max: page + 1 };
    let store = core.store()?;
    let mut records = store.logs(query).map_err(status::read)?;
    let mut more = records.len() > page;
    records.truncate(page);
    let (mut logs, mut bytes) = (Vec::new(), 0);
    for record in records {
        let info = match core.shared.registry.by_number(record.number) {
            Some(log) => Core::info(&log),
            None => unloaded(core, &*store, record),
        };
        if !fits(core, &mut bytes, &info) {
            more = true;
            break;
        }
        logs.push(info);
    }
    let next_page_token = logs.last().filter(|_| more).map(|last| last.name.clone()).unwrap_or_default();
    Ok(v1::ListLogsResponse { logs, next_page_token })
}

/// A log as it is listed while it is not in memory: nothing is loaded for a list, however many logs it has. One that
/// cannot be read has size 0.
fn unloaded(core: &Core, store: &dyn LogStore, record: LogRecord) -> v1::LogInfo {
    let size = core.listed_size(store, &record);
    let LogRecord { settings, state, .. } = record;
    let (state, seal) = Core::state(&state);
    let LogSettings { name, origin, vkeys, .. } = settings;
    v1::LogInfo { name, origin, vkeys, state, size: size.0, seal, witnesses: Vec::new() }
}

pub(crate) fn describe_log(core: &Core, request: &v1::DescribeLogRequest) -> Result<v1::DescribeLogResponse, Status> {
    let log = core.log(&request.log)?;
    let head = core.signed_head(&log, &Core::shown(&log)?, request.known_size)?;
    Ok(v1::DescribeLogResponse { info: Some(Core::info(&log)), head: Some(head) })
}
