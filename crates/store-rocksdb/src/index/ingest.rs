//! The thread behind the commit: from batches in memory to files in the family.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rocksdb::DB;

use super::file::{IndexFile, Row};
use super::recent::{Batch, Recent};
use crate::{family, options};

/// Unsorted files of the family before the next one waits for compaction: each costs every look-up a filter.
const FILES_MAX: u64 = 24;

/// How long to wait for compaction, or after a failure.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Ingester {
    pub(super) db: Arc<DB>,
    pub(super) recent: Arc<Recent>,
    pub(super) file: IndexFile,
    pub(super) leaf_secret: [u8; 32],
}

impl Ingester {
    /// Works until the index stops. A file that cannot be written is tried again: meanwhile memory fills, and at its
    /// bound rounds are refused, as with any full disk.
    pub(super) fn run(self) {
        let mut failed = false;
        while let Some(batch) = self.recent.next() {
            while self.has_too_many_files() && self.recent.pause(PAUSE) {}
            match self.ingest(&batch) {
                Ok(()) => failed = false,
                Err(error) => {
                    if !failed {
                        tracing::warn!(%error, "the look-up index cannot be written; trying again");
                    }
                    failed = true;
                    if !self.recent.pause(PAUSE) {
                        // What is left is read back at the next start.
                        return;
                    }
                }
            }
        }
    }

    fn ingest(&self, batch: &Batch) -> io::Result<()> {
        let rows = batch.rows(&self.leaf_secret).map(|(log, row)| Row::new(log, row)).collect();
        self.file.write(rows, Some(batch.last))?;
        self.recent.move_oldest(|| self.file.ingest(&self.db))
    }

    fn has_too_many_files(&self) -> bool {
        let family = family(&self.db, options::INDEX);
        let files = self.db.property_int_value_cf(family, "rocksdb.num-files-at-level0");
        files.is_ok_and(|files| files.is_some_and(|files| files >= FILES_MAX))
    }
}
