//! Reads, each value checked.

use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex, TileId};
use logwood_store::bundle::Bundle;
use logwood_store::{
    BUNDLE_ENTRIES, CommitError, Entry, HeadQuery, IdentityHash, IndexRow, LogNumber, LogQuery, LogRecord, LogStore,
    Lookup, PublishedHead, ReadError, Round, StoreState,
};
use rocksdb::{DBPinnableSlice, Direction, IteratorMode};

use crate::options::{BUNDLES, INDEX, META, PIECES, TILES};
use crate::values::{self, Reader};
use crate::{RocksStore, index, keys};

fn engine(source: rocksdb::Error) -> ReadError {
    ReadError::Unavailable { source: source.into() }
}

fn damaged(what: impl Into<String>) -> ReadError {
    ReadError::Corrupt { what: what.into() }
}

impl LogStore for RocksStore {
    fn commit(&self, round: &Round) -> Result<(), CommitError> {
        self.write_round(round)
    }

    fn state(&self) -> Result<StoreState, ReadError> {
        let writer = *self.writer.lock();
        Ok(StoreState {
            round: writer.round,
            next_log: LogNumber(writer.next_log),
            identity_secret: self.identity_secret,
            leaf_secret: self.leaf_secret,
        })
    }

    fn logs(&self, query: LogQuery<'_>) -> Result<Vec<LogRecord>, ReadError> {
        match query {
            LogQuery::Name(name) => {
                let key = keys::meta_name(name);
                let value = self.get(META, &key)?;
                value.map(|value| self.log_record(&key, &value)).into_iter().collect()
            }
            LogQuery::After { name, logs_max } => {
                let mut records = Vec::new();
                // The first key after the name: the name and a zero byte, which no name holds.
                let from = [keys::meta_name(name), vec![0]].concat();
                let mode = IteratorMode::From(if name.is_empty() { b"N" } else { &from }, Direction::Forward);
                for row in self.db.iterator_cf(self.family(META), mode) {
                    let (key, value) = row.map_err(engine)?;
                    if !key.starts_with(b"N") || records.len() == logs_max {
                        break;
                    }
                    records.push(self.log_record(&key, &value)?);
                }
                Ok(records)
            }
        }
    }

    fn entries(
        &self,
        log: LogNumber,
        first: LeafIndex,
        end: LeafIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::new();
        let (mut next, mut bytes) = (first.0, 0);
        while next < end.0 && (entries.is_empty() || bytes < bytes_max) {
            let more = match self.bundled(log, next, end.0, bytes_max - bytes.min(bytes_max))? {
                Some(more) => more,
                None => self.pieced(log, next, end.0)?,
            };
            if more.is_empty() {
                break;
            }
            for entry in more {
                if !entries.is_empty() && bytes >= bytes_max {
                    break;
                }
                bytes += entry.bytes.len();
                next += 1;
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn tiles(&self, log: LogNumber, tiles: &[TileId]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let keys = tiles.iter().map(|tile| keys::tile(log, *tile));
        let keyed: Vec<_> = keys.collect();
        let values = self.db.batched_multi_get_cf(self.family(TILES), &keyed, false);
        let checked = keyed.iter().zip(tiles).zip(values).map(|((key, tile), value)| {
            let Some(value) = value.map_err(engine)? else { return Ok(None) };
            let what = format!("tile {}/{} of log number {}", tile.level, tile.index, log.0);
            let hashes = values::open(key, &value, &what)?;
            Ok(Some(Bytes::copy_from_slice(hashes)))
        });
        checked.collect()
    }

    fn find(&self, log: LogNumber, lookups: &[Lookup]) -> Result<Vec<Option<LeafIndex>>, ReadError> {
        let mut found = vec![None; lookups.len()];
        let mut identities = Vec::new();
        for (place, lookup) in lookups.iter().enumerate() {
            match lookup {
                Lookup::Identity(identity) => {
                    identities.push((keys::identity(log, &index::identity_prefix(*identity)), *identity, place));
                }
                Lookup::Leaf(leaf) => found[place] = self.find_leaf(log, leaf)?,
            }
        }
        identities.sort_unstable_by_key(|(key, ..)| *key);
        let values = self.db.batched_multi_get_cf(self.family(INDEX), identities.iter().map(|(key, ..)| key), true);
        for ((_, identity, place), value) in identities.iter().zip(values) {
            let Some(value) = value.map_err(engine)? else { continue };
            let at = keys::index_from(&value).ok_or_else(|| damaged("a row of the identity index"))?;
            let stored = self.identity_at(log, LeafIndex(at))?;
            found[*place] = (stored == Some(*identity)).then_some(LeafIndex(at));
        }
        Ok(found)
    }

    fn heads(&self, log: LogNumber, query: HeadQuery, heads_max: usize) -> Result<Vec<PublishedHead>, ReadError> {
        match query {
            HeadQuery::FromSize(size) => self.published_from(log, size, heads_max),
            HeadQuery::FromTime(time_ms) => {
                let from = keys::meta_published_at(log, time_ms, 0);
                let mut heads = Vec::new();
                for row in self.db.iterator_cf(self.family(META), IteratorMode::From(&from, Direction::Forward)) {
                    let (key, _) = row.map_err(engine)?;
                    if !key.starts_with(&from[..5]) || heads.len() == heads_max {
                        break;
                    }
                    let size = key[13..].try_into().map(u64::from_be_bytes);
                    let size = size.map_err(|_| damaged("a row of the history by time"))?;
                    let head = self.published_from(log, size, 1)?.pop();
                    // A renewed head has a row for each of its times; only the last one counts.
                    heads.extend(head.filter(|head| head.head.size.0 == size && key[5..13] == head.time_ms.to_be_bytes()));
                }
                Ok(heads)
            }
            HeadQuery::Latest => {
                let from = keys::meta_published(log, u64::MAX);
                let mut rows = self.db.iterator_cf(self.family(META), IteratorMode::From(&from, Direction::Reverse));
                let Some(row) = rows.next().filter(|_| heads_max > 0) else { return Ok(Vec::new()) };
                let (key, value) = row.map_err(engine)?;
                if !key.starts_with(&from[..5]) {
                    return Ok(Vec::new());
                }
                Ok(vec![values::read_published(&key, &value)?])
            }
        }
    }

    fn visit_index(&self, log: LogNumber, visit: &mut dyn FnMut(IndexRow)) -> Result<(), ReadError> {
        let from = keys::log(log);
        for row in self.db.iterator_cf(self.family(INDEX), IteratorMode::From(&from, Direction::Forward)) {
            let (key, value) = row.map_err(engine)?;
            if !key.starts_with(&from) {
                break;
            }
            visit(index::row(&key, &value).ok_or_else(|| damaged("a row of the look-up index"))?);
        }
        Ok(())
    }
}

impl RocksStore {
    pub(crate) fn get(&self, family: &str, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, ReadError> {
        self.db.get_pinned_cf(self.family(family), key).map_err(engine)
    }

    fn log_record(&self, name_key: &[u8], value: &[u8]) -> Result<LogRecord, ReadError> {
        let what = format!("log `{}`", String::from_utf8_lossy(&name_key[1..]));
        let mut reader = Reader::new(values::open(name_key, value, &what)?, &what);
        let number = LogNumber(reader.u32()?);
        reader.end()?;
        let part = |key: &[u8]| self.get(META, key)?.ok_or_else(|| damaged(format!("{what} lacks a record")));
        let key = keys::meta_settings(number);
        let settings = values::read_settings(&key, &part(&key)?, &what)?;
        let key = keys::meta_state(number);
        let state = values::read_state(&key, &part(&key)?, &what)?;
        let key = keys::meta_head(number);
        let head = values::read_stored_head(&key, &part(&key)?, &what)?;
        if head.round > self.writer.lock().round {
            return Err(damaged(format!("{what} has a head of round {}, later than the store's last", head.round)));
        }
        Ok(LogRecord { number, settings, state, head })
    }

    /// Entries from `next` on out of its bundle; `None` if that bundle is not packed.
    fn bundled(&self, log: LogNumber, next: u64, end: u64, bytes_max: usize) -> Result<Option<Vec<Entry>>, ReadError> {
        let bundle = next / BUNDLE_ENTRIES;
        let key = keys::bundle(log, bundle, keys::PART_ENTRIES);
        let Some(value) = self.get(BUNDLES, &key)? else { return Ok(None) };
        let what = format!("bundle {bundle} of log number {}", log.0);
        let packed = Bundle::parse(values::open(&key, &value, &what)?).map_err(|_| damaged(what.clone()))?;
        let from = usize::try_from(next % BUNDLE_ENTRIES).expect("below 256");
        let to = usize::try_from((end - bundle * BUNDLE_ENTRIES).min(BUNDLE_ENTRIES)).expect("at most 256");
        let bytes = packed.entries(from..to, bytes_max).map_err(|_| damaged(what))?;
        let identities = self.sidecar(log, bundle)?;
        let entries = bytes.into_iter().zip(from..).map(|(bytes, place)| Entry {
            bytes,
            identity: identities.as_ref().and_then(|identities| identities[place]),
        });
        Ok(Some(entries.collect()))
    }

    fn sidecar(&self, log: LogNumber, bundle: u64) -> Result<Option<Vec<Option<IdentityHash>>>, ReadError> {
        let key = keys::bundle(log, bundle, keys::PART_IDENTITIES);
        let Some(value) = self.get(BUNDLES, &key)? else { return Ok(None) };
        let what = format!("the identities of bundle {bundle} of log number {}", log.0);
        let (rows, rest) = values::open(&key, &value, &what)?.as_chunks::<{ values::IDENTITY_BYTES }>();
        if rows.len() as u64 != BUNDLE_ENTRIES || !rest.is_empty() {
            return Err(damaged(what));
        }
        Ok(Some(rows.iter().map(|row| values::identity(*row)).collect()))
    }

    /// Entries from `next` on out of the piece that holds it; none if there is no such piece.
    fn pieced(&self, log: LogNumber, next: u64, end: u64) -> Result<Vec<Entry>, ReadError> {
        let from = keys::piece(log, LeafIndex(next));
        let mut rows = self.db.iterator_cf(self.family(PIECES), IteratorMode::From(&from, Direction::Reverse));
        let Some(row) = rows.next() else { return Ok(Vec::new()) };
        let (key, value) = row.map_err(engine)?;
        let Some(first) = keys::index_from(&key[4..]).filter(|_| key[..4] == from[..4]) else { return Ok(Vec::new()) };
        let entries = values::read_piece(&key, &value, LeafIndex(first))?;
        let skip = usize::try_from(next - first).unwrap_or(usize::MAX);
        let take = usize::try_from(end - next).unwrap_or(usize::MAX);
        Ok(entries.into_iter().skip(skip).take(take).collect())
    }

    fn identity_at(&self, log: LogNumber, at: LeafIndex) -> Result<Option<IdentityHash>, ReadError> {
        if let Some(identities) = self.sidecar(log, at.0 / BUNDLE_ENTRIES)? {
            return Ok(identities[usize::try_from(at.0 % BUNDLE_ENTRIES).expect("below 256")]);
        }
        Ok(self.pieced(log, at.0, at.0 + 1)?.first().and_then(|entry| entry.identity))
    }

    fn find_leaf(&self, log: LogNumber, leaf: &Hash) -> Result<Option<LeafIndex>, ReadError> {
        let prefix = index::leaf_prefix(&self.leaf_secret, leaf);
        let from = keys::leaf(log, &prefix, LeafIndex(0));
        let prefix_bytes = keys::LEAF_KEY_BYTES - keys::INDEX_BYTES;
        for row in self.db.iterator_cf(self.family(INDEX), IteratorMode::From(&from, Direction::Forward)) {
            let (key, _) = row.map_err(engine)?;
            if key.get(..prefix_bytes) != Some(&from[..prefix_bytes]) {
                break;
            }
            let at = keys::index_from(&key[prefix_bytes..]).ok_or_else(|| damaged("a row of the leaf index"))?;
            let entry = self.entries(log, LeafIndex(at), LeafIndex(at + 1), 1)?;
            if entry.first().is_some_and(|entry| Hash::leaf(&entry.bytes) == *leaf) {
                return Ok(Some(LeafIndex(at)));
            }
        }
        Ok(None)
    }

    fn published_from(&self, log: LogNumber, size: u64, heads_max: usize) -> Result<Vec<PublishedHead>, ReadError> {
        let from = keys::meta_published(log, size);
        let mut heads = Vec::new();
        for row in self.db.iterator_cf(self.family(META), IteratorMode::From(&from, Direction::Forward)) {
            let (key, value) = row.map_err(engine)?;
            if !key.starts_with(&from[..5]) || heads.len() == heads_max {
                break;
            }
            heads.push(values::read_published(&key, &value)?);
        }
        Ok(heads)
    }
}
