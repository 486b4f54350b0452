//! The malicious operator: rewrites one entry, and everything that would give it away on the operator's own disk.

use std::path::Path;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex};
use logwood_note::{SigningKey, sign_checkpoint};
use logwood_sequencer::publisher::{Publication, note};
use logwood_sequencer::{NewEntry, Sequencer, Submission};
use logwood_store::{LogNumber, LogQuery, LogStore as _, PublishedHead, RoundNumber};
use logwood_store_rocksdb::RocksStore;

/// Most bytes of entries read at once.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Builds in `forged` what the log in `data` would be, had one old entry been another. Returns the entry's index.
pub(super) fn rewrite(data: &Path, forged: &Path) -> anyhow::Result<LeafIndex> {
    let store = RocksStore::open_read_only(&data.join("db"))?;
    let record = store.logs(LogQuery::Name("default"))?.pop().context("the log is gone")?;
    let size = record.head.head.size.0;
    let victim = LeafIndex(size / 4);
    std::fs::create_dir_all(forged.join("keys"))?;
    std::fs::copy(data.join("keys/default"), forged.join("keys/default"))?;
    let key = SigningKey::load(forged.join("keys/default"))?;

    let target = RocksStore::open(&forged.join("db"))?;
    let mut sequencer = Sequencer::new(RoundNumber(0));
    let log = LogNumber(0);
    sequencer.create(log, record.settings.clone());
    let time_ms = record.head.time_ms;
    let mut next = 0;
    while next < size {
        let entries = store.entries(record.number, LeafIndex(next), LeafIndex(size), READ_BYTES_MAX)?;
        ensure!(!entries.is_empty(), "an entry is missing");
        for entry in entries {
            let bytes = if next == victim.0 { Bytes::from_static(b"nothing happened") } else { entry.bytes };
            let entry = NewEntry { leaf: Hash::leaf(&bytes), bytes, identity: entry.identity };
            sequencer.absorb(Submission { log, entries: vec![entry], ticket: () }, &[None]);
            next += 1;
            if sequencer.is_full() {
                commit(&target, &mut sequencer, time_ms)?;
            }
        }
    }
    commit(&target, &mut sequencer, time_ms)?;

    let head = target.logs(LogQuery::Name("default"))?.pop().context("the forged log is gone")?.head.head;
    let signatures = note::signatures(&sign_checkpoint(&key, &record.settings.origin, &head))?;
    let head = PublishedHead { head, time_ms, signatures };
    sequencer.publish(Publication { log, head, thinned: Vec::new() });
    commit(&target, &mut sequencer, time_ms)?;
    Ok(victim)
}

fn commit(target: &RocksStore, sequencer: &mut Sequencer<()>, time_ms: u64) -> anyhow::Result<()> {
    if let Some(round) = sequencer.seal(time_ms).and_then(|sealed| sealed.round) {
        target.commit(&round)?;
        sequencer.adopt(round.number);
    }
    Ok(())
}
