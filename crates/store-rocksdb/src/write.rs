//! The one write: a round becomes one batch, one WAL record, one sync.

use std::sync::atomic::Ordering;

use bytes::BufMut as _;
use logwood_store::{
    BUNDLE_ENTRIES, CommitError, LogNumber, LogRound, LogState, PackedBundle, PublishedHead, Refusal, Round, RoundNumber,
    StoredHead,
};
use rocksdb::{Direction, ErrorKind, IteratorMode, WriteBatch, WriteOptions};

use crate::options::{BUNDLES, INDEX, META, PIECES, TILES};
use crate::{RocksStore, index, keys, values};

/// What the last round left: the numbers that the next one continues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer {
    pub(crate) round: RoundNumber,
    pub(crate) next_log: u32,
}

impl RocksStore {
    pub(crate) fn write_round(&self, round: &Round) -> Result<(), CommitError> {
        let mut writer = self.writer.lock();
        if self.failed.load(Ordering::Acquire) {
            return Err(unknown("an earlier write failed: the store must be opened again"));
        }
        assert_eq!(round.number, writer.round.next(), "rounds are consecutive");
        let mut after = Writer { round: round.number, next_log: writer.next_log };
        let mut batch = WriteBatch::default();
        for log in &round.logs {
            self.add_log(&mut batch, round.number, log, &mut after).map_err(|error| self.fail(error))?;
        }
        let value = values::seal(keys::META_ROUND, 12, |value| {
            value.put_u64(after.round.0);
            value.put_u32(after.next_log);
        });
        batch.put_cf(self.family(META), keys::META_ROUND, value);

        let mut options = WriteOptions::default();
        options.set_sync(true);
        // A stall is then a definite refusal, before the WAL, not an unknown outcome.
        options.set_no_slowdown(true);
        match self.db.write_opt(batch, &options) {
            Ok(()) => {
                *writer = after;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Incomplete => {
                Err(CommitError::Refused { reason: Refusal::Stalled })
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    fn fail(&self, error: rocksdb::Error) -> CommitError {
        self.failed.store(true, Ordering::Release);
        unknown(error)
    }

    fn add_log(
        &self,
        batch: &mut WriteBatch,
        number: RoundNumber,
        round: &LogRound,
        after: &mut Writer,
    ) -> Result<(), rocksdb::Error> {
        let (log, meta) = (round.log, self.family(META));
        let mut put = |key: &[u8], value: Vec<u8>| batch.put_cf(meta, key, value);
        if let Some(settings) = &round.create {
            assert_eq!(log.0, after.next_log, "log numbers are given out in order");
            after.next_log += 1;
            let name = keys::meta_name(&settings.name);
            let value = values::seal(&name, 4, |value| value.put_u32(log.0));
            put(&name, value);
            let key = keys::meta_settings(log);
            put(&key, values::settings(&key, settings));
            let key = keys::meta_state(log);
            put(&key, values::state(&key, &LogState::Active));
            let head = logwood_merkle::TreeHead::empty();
            let key = keys::meta_head(log);
            put(&key, values::stored_head(&key, &StoredHead { head, round: number, time_ms: settings.created_ms }));
        }
        if let Some(state) = &round.state {
            let key = keys::meta_state(log);
            put(&key, values::state(&key, state));
        }
        for head in &round.published {
            self.add_published(batch, log, head);
        }
        for bundle in &round.repacked {
            self.add_bundle(batch, log, bundle);
            self.remove_pieces(batch, log, bundle.index)?;
        }
        self.add_extension(batch, number, round)
    }

    fn add_extension(&self, batch: &mut WriteBatch, number: RoundNumber, round: &LogRound) -> Result<(), rocksdb::Error> {
        let (log, Some(extension)) = (round.log, &round.extend) else { return Ok(()) };
        for bundle in &extension.bundles {
            self.add_bundle(batch, log, bundle);
        }
        for piece in &extension.pieces {
            let key = keys::piece(log, piece.first);
            batch.put_cf(self.family(PIECES), key, values::piece(&key, piece));
        }
        for (tile, hashes) in &extension.tiles {
            let key = keys::tile(log, *tile);
            batch.put_cf(self.family(TILES), key, values::seal(&key, hashes.len(), |value| value.put_slice(hashes)));
        }
        let stored = StoredHead { head: extension.head, round: number, time_ms: extension.time_ms };
        let key = keys::meta_head(log);
        batch.put_cf(self.family(META), key, values::stored_head(&key, &stored));
        let leaf_secret = self.has_leaf_index(round)?.then_some(&self.leaf_secret);
        index::write(batch, &self.family(INDEX), log, (extension, leaf_secret));
        Ok(())
    }

    fn add_bundle(&self, batch: &mut WriteBatch, log: LogNumber, bundle: &PackedBundle) {
        let family = self.family(BUNDLES);
        let key = keys::bundle(log, bundle.index, keys::PART_ENTRIES);
        batch.put_cf(family, key, values::seal(&key, bundle.data.len(), |value| value.put_slice(&bundle.data)));
        if bundle.identities.iter().all(Option::is_none) {
            return;
        }
        let key = keys::bundle(log, bundle.index, keys::PART_IDENTITIES);
        let sidecar = values::seal(&key, bundle.identities.len() * values::IDENTITY_BYTES, |value| {
            for identity in &bundle.identities {
                values::put_identity(value, *identity);
            }
        });
        batch.put_cf(family, key, sidecar);
    }

    /// Deletes the pieces that a packed bundle replaces: put once, deleted once.
    fn remove_pieces(&self, batch: &mut WriteBatch, log: LogNumber, bundle: u64) -> Result<(), rocksdb::Error> {
        let family = self.family(PIECES);
        let first = logwood_merkle::LeafIndex(bundle * BUNDLE_ENTRIES);
        let end = keys::index_bytes(first.0 + BUNDLE_ENTRIES - 1);
        let from = keys::piece(log, first);
        for row in self.db.iterator_cf(family, IteratorMode::From(&from, Direction::Forward)) {
            let (key, _) = row?;
            if key[..4] != keys::log(log) || key[4..] > end[..] {
                break;
            }
            batch.single_delete_cf(family, key);
        }
        Ok(())
    }

    fn add_published(&self, batch: &mut WriteBatch, log: LogNumber, head: &PublishedHead) {
        let meta = self.family(META);
        let key = keys::meta_published(log, head.head.size.0);
        batch.put_cf(meta, key, values::published(&key, head));
        batch.put_cf(meta, keys::meta_published_at(log, head.time_ms, head.head.size.0), []);
    }

    fn has_leaf_index(&self, round: &LogRound) -> Result<bool, rocksdb::Error> {
        if let Some(settings) = &round.create {
            return Ok(settings.leaf_index);
        }
        let key = keys::meta_settings(round.log);
        let value = self.db.get_pinned_cf(self.family(META), key)?;
        let settings = value.and_then(|value| values::read_settings(&key, &value, "log settings").ok());
        Ok(settings.is_none_or(|settings| settings.leaf_index))
    }
}

fn unknown(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CommitError {
    CommitError::Unknown { source: source.into() }
}
