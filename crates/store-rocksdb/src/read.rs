//! Reads: each value is checked when it is read, and each look-up hit against the entry itself.

use std::ops::Range;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex, TileId};
use logwood_store::bundle::Bundle;
use logwood_store::{
    BUNDLE_ENTRIES, Entry, HeadQuery, IdentityHash, LOG_ENTRIES_MAX, LogNumber, LogQuery, LogRecord, LogSettings,
    Lookup, PublishedHead, ReadError, StoredHead, UNPACKED_BUNDLES_MAX,
};
use rocksdb::{DBPinnableSlice, Direction, ErrorKind, IteratorMode};

use crate::{RocksStore, keys, options, values};

pub(crate) fn unavailable(source: rocksdb::Error) -> ReadError {
    if is_damage(&source) {
        return ReadError::Corrupt { what: source.into_string() };
    }
    ReadError::Unavailable { source: Box::new(source) }
}

/// Whether the engine found its files damaged or gone. Otherwise the system did not let it read them.
pub(crate) fn is_damage(error: &rocksdb::Error) -> bool {
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotSupported => true,
        ErrorKind::IOError => error.as_ref().contains("No such file or directory"),
        _ => false,
    }
}

/// Says of damage that the engine reports what was read there.
pub(crate) fn named(what: &str) -> impl Fn(ReadError) -> ReadError {
    move |error| match error {
        ReadError::Corrupt { what: problem } => corrupt(format!("{what}: {problem}")),
        other @ ReadError::Unavailable { .. } => other,
    }
}

fn name_of_bundle(log: LogNumber, number: u64) -> String {
    let first = number * BUNDLE_ENTRIES;
    format!("bundle {number} (entries {first} to {}) of log {}", first + BUNDLE_ENTRIES - 1, log.0)
}

pub(crate) fn corrupt(what: String) -> ReadError {
    ReadError::Corrupt { what }
}

pub(crate) fn place(index: u64) -> usize {
    usize::try_from(index % BUNDLE_ENTRIES).expect("below 256")
}

impl RocksStore {
    /// * `what` - that is read, for the report of damage.
    pub(crate) fn get(&self, family: &str, key: &[u8], what: &str) -> Result<Option<DBPinnableSlice<'_>>, ReadError> {
        self.db.get_pinned_cf(self.family(family), key).map_err(|error| named(what)(unavailable(error)))
    }

    /// Shows rows from `from` on while they begin with `prefix` and `visit` wants more.
    pub(crate) fn scan(
        &self,
        family: &str,
        (prefix, from): (&[u8], &[u8]),
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        for row in self.db.iterator_cf(self.family(family), IteratorMode::From(from, Direction::Forward)) {
            let (key, value) = row.map_err(|error| named(&format!("the rows of `{family}`"))(unavailable(error)))?;
            if !key.starts_with(prefix) || !visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn settings(&self, log: LogNumber) -> Result<LogSettings, ReadError> {
        let (key, what) = (keys::meta_settings(log), format!("the settings of log {}", log.0));
        let value = self.get(options::META, &key, &what)?.ok_or_else(|| corrupt(format!("{what} are missing")))?;
        values::read_settings(&key, &value, &what)
    }

    pub(crate) fn head(&self, log: LogNumber) -> Result<Option<StoredHead>, ReadError> {
        let (key, what) = (keys::meta_head(log), format!("the head of log {}", log.0));
        let Some(value) = self.get(options::META, &key, &what)? else { return Ok(None) };
        let head = values::read_stored_head(&key, &value, &what)?;
        let newest = self.newest.load(Ordering::Acquire);
        if head.round.0 > newest {
            // It comes from other files.
            return Err(corrupt(format!("log {} has a head of round {}, the last is {newest}", log.0, head.round)));
        }
        Ok(Some(head))
    }

    fn record(&self, number: LogNumber) -> Result<LogRecord, ReadError> {
        let missing = |what: &str| corrupt(format!("the {what} of log {} is missing", number.0));
        let (key, what) = (keys::meta_state(number), format!("the state of log {}", number.0));
        let state = self.get(options::META, &key, &what)?.ok_or_else(|| missing("state"))?;
        let state = values::read_state(&key, &state, &what)?;
        let head = self.head(number)?.ok_or_else(|| missing("head"))?;
        let unpacked = self.unpacked(number, head.head.size.0)?;
        Ok(LogRecord { number, settings: self.settings(number)?, state, head, unpacked })
    }

    /// Full bundles at the end of a log of `size` that lie in pieces. Only these have pieces, but for the open bundle.
    fn unpacked(&self, log: LogNumber, size: u64) -> Result<Vec<u64>, ReadError> {
        let full = size / BUNDLE_ENTRIES;
        let from = keys::piece(log, LeafIndex(full.saturating_sub(UNPACKED_BUNDLES_MAX) * BUNDLE_ENTRIES));
        let mut found = Vec::new();
        let pieces = self.scan(options::PIECES, (&keys::log(log), &from), |key, _| {
            let number =
                keys::index_from(&key[4..]).ok_or_else(|| corrupt("the key of a piece".into()))? / BUNDLE_ENTRIES;
            if number < full && found.last() != Some(&number) {
                found.push(number);
            }
            Ok(number < full)
        });
        pieces.map_err(named(&format!("the pieces of log {}", log.0)))?;
        Ok(found)
    }

    pub(crate) fn read_logs(&self, query: LogQuery<'_>) -> Result<Vec<LogRecord>, ReadError> {
        let number = |key: &[u8], value: &[u8]| {
            let what = "a log's name";
            let mut reader = values::Reader::new(values::open(key, value, what)?, what);
            Ok::<_, ReadError>(LogNumber(reader.u32()?))
        };
        let mut numbers = Vec::new();
        match query {
            LogQuery::Name(name) => {
                let key = keys::meta_name(name);
                if let Some(value) = self.get(options::META, &key, "a log's name")? {
                    numbers.push(number(&key, &value)?);
                }
            }
            LogQuery::After { logs_max: 0, .. } => {}
            LogQuery::After { name, logs_max } => {
                let from = keys::meta_name(name);
                self.scan(options::META, (b"N", &from), |key, value| {
                    if key != from {
                        numbers.push(number(key, value)?);
                    }
                    Ok(numbers.len() < logs_max)
                })?;
            }
        }
        numbers.into_iter().map(|number| self.record(number)).collect()
    }

    /// The entries of `range`, which lies in one bundle; at least one, cut at `bytes_max`.
    pub(crate) fn run(
        &self,
        log: LogNumber,
        range: Range<u64>,
        full: bool,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        // The bundle may be packed between the first look and the second, but never unpacked again.
        for attempt in 0..2 {
            if full && let Some(entries) = self.run_of_bundle(log, range.clone(), bytes_max)? {
                return Ok(entries);
            }
            let entries = self.run_of_pieces(log, range.clone(), bytes_max)?;
            if !entries.is_empty() {
                return Ok(entries);
            }
            if attempt == 0 && !full {
                break;
            }
        }
        Err(corrupt(format!("entry {} of log {} is in no bundle and in no piece", range.start, log.0)))
    }

    fn run_of_bundle(
        &self,
        log: LogNumber,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Result<Option<Vec<Entry>>, ReadError> {
        let number = range.start / BUNDLE_ENTRIES;
        let key = keys::bundle(log, number, keys::PART_ENTRIES);
        let what = name_of_bundle(log, number);
        let Some(value) = self.get(options::BUNDLES, &key, &what)? else { return Ok(None) };
        let data = values::open(&key, &value, &what)?;
        let places = place(range.start)..place(range.end - 1) + 1;
        let entries = Bundle::parse(data).and_then(|bundle| bundle.entries(places.clone(), bytes_max));
        let entries = entries.map_err(|error| corrupt(format!("{what}: {error}")))?;
        let identities = self.sidecar(log, number)?;
        let identity = |place: usize| identities.as_ref().and_then(|all| all[place]);
        Ok(Some(entries.into_iter().zip(places).map(|(bytes, at)| Entry { bytes, identity: identity(at) }).collect()))
    }

    pub(crate) fn read_bundle(&self, log: LogNumber, number: u64) -> Result<Option<Bytes>, ReadError> {
        let key = keys::bundle(log, number, keys::PART_ENTRIES);
        let what = name_of_bundle(log, number);
        let Some(value) = self.get(options::BUNDLES, &key, &what)? else { return Ok(None) };
        values::open(&key, &value, &what).map(|data| Some(Bytes::copy_from_slice(data)))
    }

    /// The identities of a bundle; nothing if no entry has one.
    pub(crate) fn sidecar(&self, log: LogNumber, bundle: u64) -> Result<Option<Vec<Option<IdentityHash>>>, ReadError> {
        let key = keys::bundle(log, bundle, keys::PART_IDENTITIES);
        let what = format!("the identities of {}", name_of_bundle(log, bundle));
        let Some(value) = self.get(options::BUNDLES, &key, &what)? else { return Ok(None) };
        let (all, rest) = values::open(&key, &value, &what)?.as_chunks::<{ values::IDENTITY_BYTES }>();
        if all.len() != 256 || !rest.is_empty() {
            return Err(corrupt(format!("{what} are not 256")));
        }
        Ok(Some(all.iter().map(|bytes| values::identity(*bytes)).collect()))
    }

    pub(crate) fn run_of_pieces(
        &self,
        log: LogNumber,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let (mut entries, mut bytes, mut at) = (Vec::<Entry>::new(), 0_usize, range.start);
        let mut rows = self.db.raw_iterator_cf(self.family(options::PIECES));
        rows.seek_for_prev(keys::piece(log, LeafIndex(at)));
        while at < range.end
            && let Some((key, value)) = rows.item()
            && key.len() == keys::PIECE_KEY_BYTES
            && key.starts_with(&keys::log(log))
        {
            let first = keys::index_from(&key[4..]).expect("the key was measured");
            let piece = values::read_piece(key, value, LeafIndex(first))?;
            let skip = usize::try_from(at.saturating_sub(first)).unwrap_or(usize::MAX);
            if first > at || skip >= piece.len() {
                return Ok(entries);
            }
            for entry in piece.into_iter().skip(skip) {
                if at == range.end || (!entries.is_empty() && bytes >= bytes_max) {
                    return Ok(entries);
                }
                bytes += entry.bytes.len();
                entries.push(entry);
                at += 1;
            }
            rows.next();
        }
        let what = format!("the piece with entry {at} of log {}", log.0);
        rows.status().map_err(|error| named(&what)(unavailable(error)))?;
        Ok(entries)
    }

    pub(crate) fn piece_keys(&self, log: LogNumber, bundle: u64) -> Result<Vec<Vec<u8>>, ReadError> {
        let from = keys::piece(log, LeafIndex(bundle * BUNDLE_ENTRIES));
        let mut found = Vec::new();
        self.scan(options::PIECES, (&keys::log(log), &from), |key, _| {
            let inside = keys::index_from(&key[4..]).is_some_and(|first| first / BUNDLE_ENTRIES == bundle);
            if inside {
                found.push(key.to_vec());
            }
            Ok(inside)
        })?;
        Ok(found)
    }

    pub(crate) fn read_tiles(&self, log: LogNumber, tiles: &[TileId]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let read = |tile: &TileId| {
            if tile.index >= LOG_ENTRIES_MAX {
                return Ok(None);
            }
            let key = keys::tile(log, *tile);
            let what = format!("tile {}/{} of log {}", tile.level, tile.index, log.0);
            let Some(value) = self.get(options::TILES, &key, &what)? else { return Ok(None) };
            let record = values::open(&key, &value, &what)?;
            if record.len() != 8_192 {
                return Err(corrupt(format!("{what} has {} bytes", record.len())));
            }
            Ok(Some(Bytes::copy_from_slice(record)))
        };
        tiles.iter().map(read).collect()
    }

    pub(crate) fn read_find(&self, log: LogNumber, lookups: &[Lookup]) -> Result<Vec<Option<LeafIndex>>, ReadError> {
        let mut found = self.index.find_recent(log, lookups);
        let (mut places, mut identities) = (Vec::new(), Vec::new());
        for (at, lookup) in lookups.iter().enumerate() {
            match lookup {
                Lookup::Identity(_) if found[at].is_some() => {}
                Lookup::Identity(identity) => {
                    places.push(at);
                    identities.push(*identity);
                }
                // What is on disk has the lower indices.
                Lookup::Leaf(leaf) => found[at] = self.find_leaf(log, leaf)?.or(found[at]),
            }
        }
        if identities.is_empty() {
            return Ok(found);
        }
        let candidates = self.index.candidates(log, &identities)?;
        for ((at, identity), candidates) in places.into_iter().zip(&identities).zip(candidates) {
            for candidate in candidates {
                if self.identity_at(log, candidate)? == Some(*identity) {
                    found[at] = Some(LeafIndex(candidate));
                    break;
                }
            }
        }
        Ok(found)
    }

    fn entry_at(&self, log: LogNumber, index: u64) -> Result<Option<Entry>, ReadError> {
        let Some(head) = self.head(log)? else { return Ok(None) };
        if index >= head.head.size.0 {
            return Ok(None);
        }
        let full = (index / BUNDLE_ENTRIES + 1) * BUNDLE_ENTRIES <= head.head.size.0;
        Ok(self.run(log, index..index + 1, full, 0)?.into_iter().next())
    }

    fn identity_at(&self, log: LogNumber, index: u64) -> Result<Option<IdentityHash>, ReadError> {
        match self.sidecar(log, index / BUNDLE_ENTRIES)? {
            Some(identities) => Ok(identities[place(index)]),
            None => Ok(self.entry_at(log, index)?.and_then(|entry| entry.identity)),
        }
    }

    fn leaf_at(&self, log: LogNumber, index: u64) -> Result<Option<Hash>, ReadError> {
        let tile = TileId { level: 0, index: index / BUNDLE_ENTRIES };
        if let Some(tile) = self.read_tiles(log, &[tile])?.pop().flatten() {
            let at = place(index) * 32;
            return Ok(Hash::try_from(&tile[at..at + 32]).ok());
        }
        Ok(self.entry_at(log, index)?.map(|entry| Hash::leaf(&entry.bytes)))
    }

    fn find_leaf(&self, log: LogNumber, leaf: &Hash) -> Result<Option<LeafIndex>, ReadError> {
        let mut found = None;
        self.index.leaf_candidates(log, leaf, |candidate| {
            if self.leaf_at(log, candidate.0)? == Some(*leaf) {
                found = Some(candidate);
            }
            Ok(found.is_some())
        })?;
        Ok(found)
    }

    pub(crate) fn read_heads(
        &self,
        log: LogNumber,
        query: HeadQuery,
        heads_max: usize,
    ) -> Result<Vec<PublishedHead>, ReadError> {
        let by_size = keys::meta_published(log, 0);
        let mut heads = Vec::new();
        match query {
            _ if heads_max == 0 => {}
            HeadQuery::FromSize(size) => {
                let from = keys::meta_published(log, size);
                self.scan(options::META, (&by_size[..5], &from), |key, value| {
                    heads.push(values::read_published(key, value)?);
                    Ok(heads.len() < heads_max)
                })?;
            }
            HeadQuery::FromTime(time_ms) => {
                let from = keys::meta_published_at(log, time_ms, 0);
                self.scan(options::META, (&from[..5], &from), |key, value| {
                    values::open(key, value, "a time in the history of heads")?;
                    let size = key.last_chunk().map(|size| u64::from_be_bytes(*size)).unwrap_or_default();
                    let key = keys::meta_published(log, size);
                    let head = self
                        .get(options::META, &key, "a published head")?
                        .ok_or_else(|| corrupt(format!("the head of size {size} is missing")))?;
                    heads.push(values::read_published(&key, &head)?);
                    Ok(heads.len() < heads_max)
                })?;
            }
            HeadQuery::Latest => {
                let mut rows = self.db.raw_iterator_cf(self.family(options::META));
                rows.seek_for_prev(keys::meta_published(log, u64::MAX));
                rows.status().map_err(unavailable)?;
                if let Some((key, value)) = rows.item().filter(|(key, _)| key.starts_with(&by_size[..5])) {
                    heads.push(values::read_published(key, value)?);
                }
            }
            HeadQuery::Below(size) => {
                let Some(largest) = size.checked_sub(1) else { return Ok(heads) };
                let mut rows = self.db.raw_iterator_cf(self.family(options::META));
                rows.seek_for_prev(keys::meta_published(log, largest));
                while let Some((key, value)) = rows.item().filter(|(key, _)| key.starts_with(&by_size[..5])) {
                    heads.push(values::read_published(key, value)?);
                    if heads.len() == heads_max {
                        break;
                    }
                    rows.prev();
                }
                rows.status().map_err(unavailable)?;
            }
        }
        Ok(heads)
    }
}
