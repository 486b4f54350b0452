//! `logwood repair --rebuild-index`: the index of every log anew, from what is stored beside the entries.

use std::path::{Path, PathBuf};

use logwood_merkle::LeafIndex;
use logwood_store::{BUNDLE_ENTRIES, IndexRow, LogNumber, ReadError, RoundNumber};

use super::Limits;
use super::file::{IndexFile, Row};
use crate::{OpenError, Opened, RocksStore, evidence, options};

/// Entries of one file: larger than a batch, since nobody waits for it.
const FILE_ENTRIES: usize = 1 << 18;

/// The watermark of an index that is being made: above every round, so that a store with it does not open.
pub(super) const UNFINISHED: RoundNumber = RoundNumber(u64::MAX);

/// What a rebuild did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Entries whose rows were made.
    pub entries: u64,
    /// Where the store is kept as it was, if its index knew rounds that the store has lost.
    pub evidence: Option<PathBuf>,
}

impl RocksStore {
    /// Makes the look-up index of all logs of the store in `dir` anew. Nothing of the old one is read.
    ///
    /// A crash in the middle leaves a store that does not open before this has run again.
    ///
    /// * `accept_loss` - also if the old index is the evidence that rounds are gone: a copy of the store is kept then.
    /// * `progress` - told how many entries are done, and of how many, now and then.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: the store is in use, is not there, or an entry is damaged; [`OpenError::IndexAhead`] without
    /// `accept_loss`.
    pub fn rebuild_index(
        dir: &Path,
        accept_loss: bool,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Rebuilt, OpenError> {
        let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
        let ahead = match Self::open_read_only(dir) {
            Err(error @ OpenError::IndexAhead { .. }) if !accept_loss => return Err(error),
            // Whatever else is wrong with the database, opening it below says as well.
            outcome => matches!(outcome, Err(OpenError::IndexAhead { .. })),
        };
        let evidence = if ahead { Some(evidence::keep(dir)?) } else { None };
        drop(Self::lock_existing(dir)?);
        let Opened { mut db, index_options, lock } = Self::open_database(dir)?;
        let file = IndexFile::new(dir, index_options.clone()).map_err(failed)?;
        db.drop_cf(options::INDEX)?;
        db.create_cf(options::INDEX, &index_options)?;
        let store = Self::load(db, lock, (true, Limits::default()))?;
        let last = store.writer.lock().last();
        file.write(Vec::new(), Some(UNFINISHED)).and_then(|()| file.ingest(&store.db)).map_err(failed)?;

        let mut rebuild = Rebuild { store: &store, rows: Vec::new(), done: 0, total: 0 };
        let logs = || (0..last.next_log.0).map(LogNumber);
        for log in logs() {
            rebuild.total += store.head(log)?.map_or(0, |head| head.head.size.0);
        }
        for log in logs() {
            let size = store.head(log)?.map_or(0, |head| head.head.size.0);
            for first in (0..size).step_by(256) {
                rebuild.add(log, first..size.min(first + BUNDLE_ENTRIES))?;
                if rebuild.rows.len() >= 2 * FILE_ENTRIES {
                    progress(rebuild.done, rebuild.total);
                    let rows = std::mem::take(&mut rebuild.rows);
                    file.write(rows, None).and_then(|()| file.ingest(&store.db)).map_err(failed)?;
                }
            }
        }
        let rows = std::mem::take(&mut rebuild.rows);
        file.write(rows, Some(last.round)).and_then(|()| file.ingest(&store.db)).map_err(failed)?;
        progress(rebuild.total, rebuild.total);
        Ok(Rebuilt { entries: rebuild.total, evidence })
    }
}

struct Rebuild<'a> {
    store: &'a RocksStore,
    rows: Vec<Row>,
    done: u64,
    total: u64,
}

impl Rebuild<'_> {
    /// Adds the rows of entries of one bundle.
    fn add(&mut self, log: LogNumber, range: std::ops::Range<u64>) -> Result<(), ReadError> {
        let first = range.start;
        self.done += range.end - first;
        let identities = self.store.identities_of(log, range.clone())?;
        for (index, identity) in (first..).map(LeafIndex).zip(identities) {
            self.rows.extend(identity.map(|identity| Row::new(log, IndexRow::of_identity(&identity, index))));
        }
        if self.store.settings(log)?.leaf_index {
            for (index, leaf) in (first..).map(LeafIndex).zip(self.store.leaves_of(log, range)?) {
                self.rows.push(Row::new(log, IndexRow::of_leaf(&self.store.leaf_secret, &leaf, index)));
            }
        }
        Ok(())
    }
}
