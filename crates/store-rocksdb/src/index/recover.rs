//! At a start: what the rounds above the watermark appended, read back from sidecars, tiles and pieces.

use std::collections::BTreeMap;
use std::ops::Range;

use logwood_merkle::{Hash, LeafIndex, TileId};
use logwood_store::{BUNDLE_ENTRIES, IdentityHash, LogNumber, ReadError, RoundNumber};

use super::rebuild::UNFINISHED;
use super::{Extent, stored_watermark};
use crate::read::{corrupt, place};
use crate::values::{self, LastRound};
use crate::{OpenError, RocksStore, keys, options};

/// What a log's rounds appended: contiguous entries.
type Appended = BTreeMap<LogNumber, Range<u64>>;

impl RocksStore {
    /// Fills memory with the rows that no file holds yet.
    ///
    /// # Errors
    ///
    /// [`OpenError::Index`] or [`OpenError::IndexAhead`] if index and entries do not belong together, [`OpenError::Read`].
    pub(crate) fn recover_index(&self) -> Result<(), OpenError> {
        self.check_index()?;
        let (last, watermark) = (self.writer.lock().last().round, stored_watermark(&self.db)?);
        self.index.recent.resume(watermark);
        let (mut rounds, mut appended) = (Vec::new(), Appended::new());
        self.scan(options::META, (keys::META_APPENDED, keys::META_APPENDED), |key, value| {
            let round = key.last_chunk().map(|round| RoundNumber(u64::from_be_bytes(*round)));
            let round = round.filter(|round| *round <= last).ok_or_else(|| corrupt("what a round appended".into()))?;
            rounds.push(round);
            if round > watermark {
                let extents = values::read_appended(key, value)?;
                // Bundles are read once for many small rounds, and the batches stay as small as they were.
                if !join(&mut appended, &extents) {
                    self.add_appended(round_before(round), &std::mem::take(&mut appended))?;
                    join(&mut appended, &extents);
                }
            }
            Ok(true)
        })?;
        if let Some(newest) = rounds.last().filter(|newest| **newest > watermark) {
            self.add_appended(*newest, &appended)?;
        }
        self.writer.lock().resume(rounds);
        Ok(())
    }

    /// Whether the look-up index ends where the store says that it should.
    ///
    /// # Errors
    ///
    /// [`OpenError::Index`]: it can be made anew. [`OpenError::IndexAhead`]: the store has lost rounds that the index
    /// knows. [`OpenError::Read`].
    pub fn check_index(&self) -> Result<(), OpenError> {
        let LastRound { round: last, trimmed, .. } = self.writer.lock().last();
        let (dir, watermark) = (self.db.path().to_owned(), stored_watermark(&self.db)?);
        if watermark > last && watermark != UNFINISHED {
            return Err(OpenError::IndexAhead { dir, watermark, last });
        }
        if watermark < trimmed || watermark > last {
            return Err(OpenError::Index { dir, watermark, trimmed, last });
        }
        Ok(())
    }

    fn add_appended(&self, round: RoundNumber, appended: &Appended) -> Result<(), ReadError> {
        let mut parts = Vec::new();
        for (log, range) in appended {
            let leaf_index = self.settings(*log)?.leaf_index;
            let mut first = range.start;
            while first < range.end {
                let end = range.end.min((first / BUNDLE_ENTRIES + 1) * BUNDLE_ENTRIES);
                let identities = self.identities_of(*log, first..end)?;
                let leaves = if leaf_index { self.leaves_of(*log, first..end)? } else { Vec::new() };
                parts.push((*log, LeafIndex(first), identities, leaves));
                first = end;
            }
        }
        let extents = parts.iter().map(|(log, first, identities, leaves)| Extent {
            log: *log,
            first: *first,
            leaves,
            identities,
        });
        self.index.add(round, extents);
        Ok(())
    }

    /// The identities of entries of one bundle: from its sidecar, or from the pieces that the bundle is not made of
    /// yet. A bundle without a sidecar has no identities.
    pub(super) fn identities_of(
        &self,
        log: LogNumber,
        range: Range<u64>,
    ) -> Result<Vec<Option<IdentityHash>>, ReadError> {
        if let Some(all) = self.sidecar(log, range.start / BUNDLE_ENTRIES)? {
            return Ok(all[place(range.start)..=place(range.end - 1)].to_vec());
        }
        let pieces = self.run_of_pieces(log, range.clone(), usize::MAX)?;
        let count = usize::try_from(range.end - range.start).expect("at most 256");
        if pieces.is_empty() {
            return Ok(vec![None; count]);
        }
        check_count(log, &range, pieces.len())?;
        Ok(pieces.into_iter().map(|entry| entry.identity).collect())
    }

    /// The leaf hashes of entries of one bundle: from the tile above them, or from the entries if there is none yet.
    pub(super) fn leaves_of(&self, log: LogNumber, range: Range<u64>) -> Result<Vec<Hash>, ReadError> {
        let tile = TileId { level: 0, index: range.start / BUNDLE_ENTRIES };
        if let Some(tile) = self.read_tiles(log, &[tile])?.pop().flatten() {
            let (hashes, _) = tile.as_chunks::<{ Hash::LEN }>();
            return Ok(hashes[place(range.start)..=place(range.end - 1)]
                .iter()
                .copied()
                .map(Hash::from_bytes)
                .collect());
        }
        let full = range.end.is_multiple_of(BUNDLE_ENTRIES);
        let entries = self.run(log, range.clone(), full, usize::MAX)?;
        check_count(log, &range, entries.len())?;
        Ok(entries.iter().map(|entry| Hash::leaf(&entry.bytes)).collect())
    }
}

fn round_before(round: RoundNumber) -> RoundNumber {
    RoundNumber(round.0 - 1)
}

/// Lengthens each log's range. `false`, and nothing done, once there are as many entries as one batch may have.
fn join(appended: &mut Appended, extents: &[(LogNumber, Range<u64>)]) -> bool {
    /// Entries that are read back at once.
    const ENTRIES_MAX: u64 = 1 << 14;
    let entries: u64 = appended.values().map(|range| range.end - range.start).sum();
    let fits = entries < ENTRIES_MAX;
    // Rounds of a log follow each other; two that do not are kept apart, and read as they are.
    let follow = extents.iter().all(|(log, range)| appended.get(log).is_none_or(|before| before.end == range.start));
    if !(appended.is_empty() || fits && follow) {
        return false;
    }
    for (log, range) in extents {
        appended.entry(*log).and_modify(|before| before.end = range.end).or_insert_with(|| range.clone());
    }
    true
}

fn check_count(log: LogNumber, range: &Range<u64>, count: usize) -> Result<(), ReadError> {
    if range.end - range.start == count as u64 {
        return Ok(());
    }
    Err(corrupt(format!("of the entries {} to {} of log {} only {count} are there", range.start, range.end - 1, log.0)))
}
