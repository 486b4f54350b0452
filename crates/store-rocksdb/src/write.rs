//! A round becomes one write batch, and one synced write.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

use logwood_merkle::TreeHead;
use logwood_store::{
    CommitError, Extension, LogNumber, LogRound, LogSettings, LogState, PackedBundle, PublishedHead, ReadError,
    Refusal, Round, RoundNumber, StoredHead,
};
use rocksdb::{ErrorKind, WriteBatch, WriteOptions};

use crate::index::Extent;
use crate::values::{self, LastRound};
use crate::{RocksStore, StaleHandle, keys, options};

/// Settings of logs kept in memory at most: whether each has a leaf index.
const LEAF_INDEX_CACHE_LOGS_MAX: usize = 4_096;

/// Rows of earlier rounds that a round deletes: more than the one that it adds, and so few that nobody waits for it.
const TRIMMED_ROUNDS_MAX: usize = 8;

/// What the writer knows between two rounds.
pub(crate) struct Writer {
    last: LastRound,
    halted: bool,
    leaf_index: HashMap<LogNumber, bool>,
    /// Rounds whose row of what they appended is still there, oldest first.
    appended: VecDeque<RoundNumber>,
}

impl Writer {
    pub(crate) fn new(last: LastRound, halted: bool) -> Self {
        Self { last, halted, leaf_index: HashMap::new(), appended: VecDeque::new() }
    }

    pub(crate) fn last(&self) -> LastRound {
        self.last
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted
    }

    /// Takes over the rows that a start found.
    pub(crate) fn resume(&mut self, appended: Vec<RoundNumber>) {
        self.appended = appended.into();
    }

    fn remember(&mut self, log: LogNumber, leaf_index: bool) {
        if self.leaf_index.len() >= LEAF_INDEX_CACHE_LOGS_MAX {
            self.leaf_index.clear();
        }
        self.leaf_index.insert(log, leaf_index);
    }

    fn unknown(&mut self, source: impl std::error::Error + Send + Sync + 'static) -> CommitError {
        self.halted = true;
        CommitError::Unknown { source: Box::new(source) }
    }
}

/// A round as it goes to the engine.
#[derive(Default)]
struct Staged {
    batch: WriteBatch,
    /// Of each extended log, in order: whether it has a leaf index.
    leaf_index: Vec<bool>,
    /// How many of [`Writer::appended`] it deletes.
    trimmed: usize,
}

impl RocksStore {
    pub(crate) fn write_round(&self, round: &Round) -> Result<(), CommitError> {
        let entries = extensions(round).map(|(_, extension)| extension.leaves.len()).sum();
        if !self.index.wait_for_room(entries) {
            return Err(CommitError::Refused { reason: Refusal::Stalled });
        }
        let mut writer = self.writer.lock();
        if writer.halted {
            return Err(CommitError::Unknown { source: Box::new(StaleHandle) });
        }
        assert_eq!(round.number, writer.last.round.next(), "rounds are numbered without a gap");
        let mut last = LastRound { round: round.number, ..writer.last };
        let staged = match self.stage_round(&mut writer, &mut last, round) {
            Ok(staged) => staged,
            Err(error) => return Err(writer.unknown(error)),
        };
        self.newest.store(round.number.0, Ordering::Release);
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        // A stall is then a refusal before the WAL, not an outcome in doubt.
        synced.set_no_slowdown(true);
        match self.db.write_opt(staged.batch, &synced) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Incomplete => {
                writer.leaf_index.clear();
                return Err(CommitError::Refused { reason: Refusal::Stalled });
            }
            Err(error) => return Err(writer.unknown(error)),
        }
        writer.last = last;
        writer.appended.drain(..staged.trimmed);
        if !staged.leaf_index.is_empty() {
            writer.appended.push_back(round.number);
            let extents = extensions(round).zip(staged.leaf_index);
            self.index
                .add(round.number, extents.map(|((log, extension), leaf_index)| extent(log, extension, leaf_index)));
        }
        Ok(())
    }

    fn stage_round(&self, writer: &mut Writer, last: &mut LastRound, round: &Round) -> Result<Staged, ReadError> {
        let mut staged = Staged::default();
        for log_round in &round.logs {
            if let Some(settings) = &log_round.create {
                assert_eq!(log_round.log, last.next_log, "a new log takes the next number");
                last.next_log = LogNumber(last.next_log.0 + 1);
                writer.remember(log_round.log, settings.leaf_index);
            }
            if log_round.extend.is_some() {
                staged.leaf_index.push(self.has_leaf_index(writer, log_round.log)?);
            }
            self.stage(&mut staged.batch, round.number, log_round)?;
        }
        let meta = self.family(options::META);
        if !staged.leaf_index.is_empty() {
            let key = keys::meta_appended(round.number);
            staged.batch.put_cf(meta, key, values::appended(&key, extensions(round)));
        }
        // What the index holds on disk need not be read back any more. It rides along, so that nothing else writes.
        let watermark = self.index.watermark();
        for done in writer.appended.iter().take(TRIMMED_ROUNDS_MAX).take_while(|round| **round <= watermark) {
            staged.batch.single_delete_cf(meta, keys::meta_appended(*done));
            staged.trimmed += 1;
            last.trimmed = *done;
        }
        staged.batch.put_cf(meta, keys::META_ROUND, values::last_round(last));
        Ok(staged)
    }

    fn has_leaf_index(&self, writer: &mut Writer, log: LogNumber) -> Result<bool, ReadError> {
        if let Some(known) = writer.leaf_index.get(&log) {
            return Ok(*known);
        }
        let leaf_index = self.settings(log)?.leaf_index;
        writer.remember(log, leaf_index);
        Ok(leaf_index)
    }

    /// Adds all that a round does to one log to `batch`.
    fn stage(&self, batch: &mut WriteBatch, number: RoundNumber, round: &LogRound) -> Result<(), ReadError> {
        let (log, meta) = (round.log, self.family(options::META));
        if let Some(settings) = &round.create {
            self.stage_log(batch, (log, number), settings);
        }
        if let Some(extension) = &round.extend {
            self.stage_extension(batch, (log, number), extension);
        }
        for bundle in &round.repacked {
            self.stage_bundle(batch, log, bundle);
            for key in self.piece_keys(log, bundle.index)? {
                batch.single_delete_cf(self.family(options::PIECES), key);
            }
        }
        for size in &round.thinned {
            self.unstage_head(batch, log, *size)?;
        }
        self.stage_heads(batch, log, &round.published)?;
        if let Some(state) = &round.state {
            let key = keys::meta_state(log);
            batch.put_cf(meta, key, values::state(&key, state));
        }
        Ok(())
    }

    fn stage_log(&self, batch: &mut WriteBatch, (log, round): (LogNumber, RoundNumber), settings: &LogSettings) {
        let meta = self.family(options::META);
        let key = keys::meta_name(&settings.name);
        batch.put_cf(meta, &key, values::seal(&key, 4, |value| value.extend(log.0.to_be_bytes())));
        let key = keys::meta_settings(log);
        batch.put_cf(meta, key, values::settings(&key, settings));
        let key = keys::meta_state(log);
        batch.put_cf(meta, key, values::state(&key, &LogState::Active));
        let head = StoredHead { head: TreeHead::empty(), round, time_ms: settings.created_ms };
        let key = keys::meta_head(log);
        batch.put_cf(meta, key, values::stored_head(&key, &head));
    }

    fn stage_extension(&self, batch: &mut WriteBatch, (log, round): (LogNumber, RoundNumber), extension: &Extension) {
        for bundle in &extension.bundles {
            self.stage_bundle(batch, log, bundle);
        }
        for piece in &extension.pieces {
            let key = keys::piece(log, piece.first);
            batch.put_cf(self.family(options::PIECES), key, values::piece(&key, piece));
        }
        for (tile, bytes) in &extension.tiles {
            let key = keys::tile(log, *tile);
            let value = values::seal(&key, bytes.len(), |value| value.extend_from_slice(bytes));
            batch.put_cf(self.family(options::TILES), key, value);
        }
        let head = StoredHead { head: extension.head, round, time_ms: extension.time_ms };
        let key = keys::meta_head(log);
        batch.put_cf(self.family(options::META), key, values::stored_head(&key, &head));
    }

    fn stage_bundle(&self, batch: &mut WriteBatch, log: LogNumber, bundle: &PackedBundle) {
        let family = self.family(options::BUNDLES);
        let key = keys::bundle(log, bundle.index, keys::PART_ENTRIES);
        batch.put_cf(family, key, values::seal(&key, bundle.data.len(), |value| value.extend_from_slice(&bundle.data)));
        if bundle.identities.iter().any(Option::is_some) {
            let key = keys::bundle(log, bundle.index, keys::PART_IDENTITIES);
            let sidecar = values::seal(&key, 256 * values::IDENTITY_BYTES, |value| {
                for identity in &bundle.identities {
                    values::put_identity(value, *identity);
                }
            });
            batch.put_cf(family, key, sidecar);
        }
    }

    fn stage_heads(&self, batch: &mut WriteBatch, log: LogNumber, heads: &[PublishedHead]) -> Result<(), ReadError> {
        let meta = self.family(options::META);
        for head in heads {
            let size = head.head.size.0;
            self.unstage_head(batch, log, size)?;
            let key = keys::meta_published(log, size);
            batch.put_cf(meta, key, values::published(&key, head));
            let key = keys::meta_published_at(log, head.time_ms, size);
            batch.put_cf(meta, key, values::seal(&key, 0, |_| {}));
        }
        Ok(())
    }

    /// Takes the head of this size out of the history, if it is there.
    fn unstage_head(&self, batch: &mut WriteBatch, log: LogNumber, size: u64) -> Result<(), ReadError> {
        let (meta, key) = (self.family(options::META), keys::meta_published(log, size));
        if let Some(old) = self.get(options::META, &key, "a published head")? {
            let old = values::read_published(&key, &old)?;
            batch.delete_cf(meta, key);
            batch.delete_cf(meta, keys::meta_published_at(log, old.time_ms, size));
        }
        Ok(())
    }
}

fn extensions(round: &Round) -> impl Iterator<Item = (LogNumber, &Extension)> {
    round.logs.iter().filter_map(|log| Some((log.log, log.extend.as_ref()?)))
}

fn extent(log: LogNumber, extension: &Extension, leaf_index: bool) -> Extent<'_> {
    let leaves: &[_] = if leaf_index { &extension.leaves } else { &[] };
    Extent { log, first: extension.first, leaves, identities: &extension.identities }
}
