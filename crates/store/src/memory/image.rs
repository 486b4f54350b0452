//! What is on a memory disk: the same records as on a real one, in maps.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex, TileId, TreeHead};

use crate::bundle::{self, Bundle};
use crate::contract::{HeadQuery, IndexRow, LogQuery, Lookup, ReadError};
use crate::records::{
    Entry, Extension, IdentityHash, LogNumber, LogRecord, LogRound, LogState, PackedBundle, Piece, PublishedHead,
    Round, RoundNumber, StoreState, StoredHead,
};
use crate::{BUNDLE_ENTRIES, UNPACKED_BUNDLES_MAX};

/// Fixed, so that a test that fails fails again.
const IDENTITY_SECRET: [u8; 32] = [0x1d; 32];
const LEAF_SECRET: [u8; 32] = [0x1f; 32];

#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    round: RoundNumber,
    logs: Vec<Log>,
}

#[derive(Clone, Debug)]
struct Log {
    record: LogRecord,
    bundles: BTreeMap<u64, PackedBundle>,
    /// By the index of their first entry.
    pieces: BTreeMap<u64, Piece>,
    tiles: HashMap<TileId, Bytes>,
    identities: HashMap<IdentityHash, u64>,
    leaves: HashMap<Hash, Vec<u64>>,
    heads: BTreeMap<u64, PublishedHead>,
}

impl Image {
    /// The rules that a round keeps: a breach is a bug of the sequencer's.
    pub(super) fn check(&self, round: &Round) {
        assert_eq!(round.number, self.round.next(), "rounds are numbered without a gap");
        assert!(round.logs.is_sorted_by(|a, b| a.log < b.log), "one element a log, in order");
        let mut next_log = self.logs.len();
        for log_round in &round.logs {
            let number = log_round.log.0 as usize;
            let size = if log_round.create.is_some() {
                assert_eq!(number, next_log, "a new log takes the next number");
                next_log += 1;
                0
            } else {
                assert!(number < self.logs.len(), "log {number} was not created");
                self.logs[number].record.head.head.size.0
            };
            if let Some(extension) = &log_round.extend {
                check_extension(extension, size);
            }
        }
    }

    pub(super) fn apply(&mut self, round: &Round) {
        for log_round in &round.logs {
            if let Some(settings) = &log_round.create {
                let head = StoredHead { head: TreeHead::empty(), round: round.number, time_ms: settings.created_ms };
                let (number, settings) = (log_round.log, settings.clone());
                let record = LogRecord { number, settings, state: LogState::Active, head, unpacked: Vec::new() };
                self.logs.push(Log::new(record));
            }
            self.logs[log_round.log.0 as usize].apply(round.number, log_round);
        }
        self.round = round.number;
    }

    pub(super) fn state(&self) -> StoreState {
        StoreState {
            round: self.round,
            next_log: LogNumber(u32::try_from(self.logs.len()).expect("logs are numbered by u32")),
            identity_secret: IDENTITY_SECRET,
            leaf_secret: LEAF_SECRET,
        }
    }

    pub(super) fn logs(&self, query: LogQuery<'_>) -> Vec<LogRecord> {
        let records = self.logs.iter().map(|log| LogRecord { unpacked: log.unpacked(), ..log.record.clone() });
        match query {
            LogQuery::Name(name) => records.filter(|record| record.settings.name == name).collect(),
            LogQuery::After { name, logs_max } => {
                let after = records.filter(|record| record.settings.name.as_str() > name);
                let mut found: Vec<_> = after.collect();
                found.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
                found.truncate(logs_max);
                found
            }
        }
    }

    pub(super) fn entries(
        &self,
        log: LogNumber,
        first: LeafIndex,
        end: LeafIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let Some(log) = self.log(log) else { return Ok(Vec::new()) };
        let end = end.0.min(log.record.head.head.size.0);
        let (mut entries, mut bytes, mut at) = (Vec::new(), 0_usize, first.0);
        while at < end && (entries.is_empty() || bytes < bytes_max) {
            for entry in log.run(at, end)? {
                if bytes >= bytes_max && !entries.is_empty() {
                    break;
                }
                bytes += entry.bytes.len();
                entries.push(entry);
                at += 1;
            }
        }
        Ok(entries)
    }

    pub(super) fn bundle(&self, log: LogNumber, index: u64) -> Option<Bytes> {
        self.log(log)?.bundles.get(&index).map(|bundle| bundle.data.clone())
    }

    pub(super) fn tiles(&self, log: LogNumber, tiles: &[TileId]) -> Vec<Option<Bytes>> {
        let log = self.log(log);
        tiles.iter().map(|tile| log.and_then(|log| log.tiles.get(tile)).cloned()).collect()
    }

    pub(super) fn find(&self, log: LogNumber, lookups: &[Lookup]) -> Vec<Option<LeafIndex>> {
        let log = self.log(log);
        let find = |lookup: &Lookup| match lookup {
            Lookup::Identity(identity) => log?.identities.get(identity).copied(),
            Lookup::Leaf(leaf) => log?.leaves.get(leaf)?.iter().min().copied(),
        };
        lookups.iter().map(|lookup| find(lookup).map(LeafIndex)).collect()
    }

    pub(super) fn heads(&self, log: LogNumber, query: HeadQuery, heads_max: usize) -> Vec<PublishedHead> {
        let Some(log) = self.log(log) else { return Vec::new() };
        let mut by_time: Vec<_> = log.heads.values().collect();
        by_time.sort_by_key(|head| (head.time_ms, head.head.size));
        let chosen: Vec<_> = match query {
            HeadQuery::FromSize(size) => log.heads.range(size..).map(|(_, head)| head).collect(),
            HeadQuery::FromTime(time_ms) => by_time.into_iter().filter(|head| head.time_ms >= time_ms).collect(),
            HeadQuery::Latest => log.heads.values().next_back().into_iter().collect(),
            HeadQuery::Below(size) => log.heads.range(..size).rev().map(|(_, head)| head).collect(),
        };
        chosen.into_iter().take(heads_max).cloned().collect()
    }

    pub(super) fn visit_index(&self, log: LogNumber, visit: &mut dyn FnMut(IndexRow)) {
        let Some(log) = self.log(log) else { return };
        let identities = log.identities.iter();
        let identities = identities.map(|(identity, index)| IndexRow::of_identity(identity, LeafIndex(*index)));
        let leaves = log.leaves.iter().flat_map(|(leaf, indices)| {
            indices.iter().map(|index| IndexRow::of_leaf(&LEAF_SECRET, leaf, LeafIndex(*index)))
        });
        let mut rows: Vec<_> = identities.chain(leaves).collect();
        rows.sort_unstable();
        rows.into_iter().for_each(visit);
    }

    pub(super) fn tamper_entry(&mut self, log: LogNumber, index: LeafIndex, bytes: Bytes) -> bool {
        let Some(log) = self.logs.get_mut(log.0 as usize) else { return false };
        let (number, place) = split(index.0);
        if let Some(bundle) = log.bundles.get_mut(&number) {
            let mut entries = unpacked(bundle, 0..256).expect("tampered with by this function only");
            entries[place].bytes = bytes;
            *bundle = bundle::pack(number, &entries);
            return true;
        }
        let Some((first, piece)) = log.pieces.range_mut(..=index.0).next_back() else {
            return false;
        };
        let Some(entry) = usize::try_from(index.0 - first).ok().and_then(|at| piece.entries.get_mut(at)) else {
            return false;
        };
        entry.bytes = bytes;
        true
    }

    pub(super) fn tamper_tile(&mut self, log: LogNumber, tile: TileId, bytes: Bytes) -> bool {
        let stored = self.logs.get_mut(log.0 as usize).and_then(|log| log.tiles.get_mut(&tile));
        stored.map(|stored| *stored = bytes).is_some()
    }

    pub(super) fn tamper_record(&mut self, log: LogNumber, change: impl FnOnce(&mut LogRecord)) -> bool {
        self.logs.get_mut(log.0 as usize).map(|log| change(&mut log.record)).is_some()
    }

    pub(super) fn tamper_heads(&mut self, log: LogNumber, change: impl FnOnce(&mut Vec<PublishedHead>)) -> bool {
        let Some(log) = self.logs.get_mut(log.0 as usize) else { return false };
        let mut heads: Vec<_> = std::mem::take(&mut log.heads).into_values().collect();
        change(&mut heads);
        log.heads = heads.into_iter().map(|head| (head.head.size.0, head)).collect();
        true
    }

    pub(super) fn tamper_index(&mut self, log: LogNumber, lookup: Lookup) -> bool {
        let Some(log) = self.logs.get_mut(log.0 as usize) else { return false };
        match lookup {
            Lookup::Identity(identity) => log.identities.remove(&identity).is_some(),
            Lookup::Leaf(leaf) => log.leaves.remove(&leaf).is_some(),
        }
    }

    pub(super) fn damage_entry(&mut self, log: LogNumber, index: LeafIndex) -> bool {
        let (number, _) = split(index.0);
        let bundle = self.logs.get_mut(log.0 as usize).and_then(|log| log.bundles.get_mut(&number));
        bundle.map(|bundle| bundle.data = Bytes::from_static(b"rot")).is_some()
    }

    fn log(&self, log: LogNumber) -> Option<&Log> {
        self.logs.get(log.0 as usize)
    }
}

impl Log {
    fn new(record: LogRecord) -> Self {
        Self {
            record,
            bundles: BTreeMap::new(),
            pieces: BTreeMap::new(),
            tiles: HashMap::new(),
            identities: HashMap::new(),
            leaves: HashMap::new(),
            heads: BTreeMap::new(),
        }
    }

    fn apply(&mut self, round: RoundNumber, log_round: &LogRound) {
        if let Some(extension) = &log_round.extend {
            self.extend(round, extension);
        }
        for bundle in &log_round.repacked {
            let first = bundle.index * BUNDLE_ENTRIES;
            self.pieces.retain(|index, _| !(first..first + BUNDLE_ENTRIES).contains(index));
            self.bundles.insert(bundle.index, bundle.clone());
        }
        self.heads.retain(|size, _| !log_round.thinned.contains(size));
        self.heads.extend(log_round.published.iter().map(|head| (head.head.size.0, head.clone())));
        if let Some(state) = &log_round.state {
            self.record.state = state.clone();
        }
    }

    fn extend(&mut self, round: RoundNumber, extension: &Extension) {
        let numbered = (extension.first.0..).zip(extension.leaves.iter().zip(&extension.identities));
        for (index, (leaf, identity)) in numbered {
            if let Some(identity) = identity {
                self.identities.insert(*identity, index);
            }
            if self.record.settings.leaf_index {
                self.leaves.entry(*leaf).or_default().push(index);
            }
        }
        self.bundles.extend(extension.bundles.iter().map(|bundle| (bundle.index, bundle.clone())));
        self.pieces.extend(extension.pieces.iter().map(|piece| (piece.first.0, piece.clone())));
        self.tiles.extend(extension.tiles.iter().cloned());
        self.record.head = StoredHead { head: extension.head, round, time_ms: extension.time_ms };
    }

    fn unpacked(&self) -> Vec<u64> {
        let full = self.record.head.head.size.0 / BUNDLE_ENTRIES;
        let bundles = full.saturating_sub(UNPACKED_BUNDLES_MAX)..full;
        bundles.filter(|number| !self.bundles.contains_key(number)).collect()
    }

    /// The entries from `at` on that lie in one record with it, up to `end`.
    fn run(&self, at: u64, end: u64) -> Result<Vec<Entry>, ReadError> {
        let (number, place) = split(at);
        if let Some(bundle) = self.bundles.get(&number) {
            let places = usize::try_from(end - at).map_or(256, |count| (place + count).min(256));
            let corrupt = |error| ReadError::Corrupt { what: format!("bundle {number}: {error}") };
            return unpacked(bundle, place..places).map_err(corrupt);
        }
        let missing = || ReadError::Corrupt { what: format!("entry {at} is neither in a bundle nor in a piece") };
        let (first, piece) = self.pieces.range(..=at).next_back().ok_or_else(missing)?;
        let skip = usize::try_from(at - first).unwrap_or(usize::MAX);
        let take = usize::try_from(end - at).unwrap_or(usize::MAX);
        let run: Vec<_> = piece.entries.iter().skip(skip).take(take).cloned().collect();
        if run.is_empty() { Err(missing()) } else { Ok(run) }
    }
}

fn split(index: u64) -> (u64, usize) {
    (index / BUNDLE_ENTRIES, usize::try_from(index % BUNDLE_ENTRIES).expect("below 256"))
}

fn unpacked(bundle: &PackedBundle, places: std::ops::Range<usize>) -> Result<Vec<Entry>, bundle::BundleError> {
    let entries = Bundle::parse(&bundle.data)?.entries(places.clone(), usize::MAX)?;
    let identities = bundle.identities[places].iter().copied();
    Ok(entries.into_iter().zip(identities).map(|(bytes, identity)| Entry { bytes, identity }).collect())
}

fn check_extension(extension: &Extension, size: u64) {
    assert_eq!(extension.first.0, size, "entries are appended at the size of the tree");
    assert!(!extension.leaves.is_empty(), "an extension has entries");
    assert_eq!(extension.leaves.len(), extension.identities.len(), "an identity or none for each leaf");
    assert_eq!(extension.head.size.0, size + extension.leaves.len() as u64, "the head covers the new entries");

    let bundles = extension.bundles.iter().map(|bundle| (bundle.index * BUNDLE_ENTRIES, BUNDLE_ENTRIES));
    let pieces = extension.pieces.iter().map(|piece| (piece.first.0, piece.entries.len() as u64));
    let mut parts: Vec<_> = bundles.chain(pieces).collect();
    parts.sort_unstable();
    let mut at = size;
    for (first, count) in parts {
        assert_eq!(first, at, "bundles and pieces hold each new entry once");
        assert!(count > 0 && first / BUNDLE_ENTRIES == (first + count - 1) / BUNDLE_ENTRIES, "no piece spans bundles");
        at += count;
    }
    assert_eq!(at, extension.head.size.0, "bundles and pieces hold each new entry once");
    assert!(extension.tiles.iter().all(|(_, bytes)| bytes.len() == 8_192), "a tile has 256 hashes");
}
