//! The rows of the last rounds, in memory until a file holds them.
//!
//! Rows gather in batches. A batch is looked up in, written to a file and forgotten as a whole, so that no row is ever
//! taken out of a map.

use std::collections::VecDeque;
use std::hash::{Hash as StdHash, Hasher};
use std::sync::Arc;
use std::time::Duration;

// Its keys are hashes, and its seed is the process's: nobody can choose entries so that they collide.
use foldhash::HashMap;
use logwood_merkle::{Hash, LeafIndex};
use logwood_store::{IdentityHash, IndexRow, LogNumber, Lookup, RoundNumber};
use parking_lot::{Condvar, Mutex};

/// Bounds of what is kept in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Entries that make a batch: at 200,000 entries a second, three files a second of about 5 MB.
    pub(crate) batch_entries: usize,
    /// Rounds that make a batch, however few entries they have: what a start reads back one by one.
    pub(crate) batch_rounds: usize,
    /// Entries of all batches together; rounds wait beyond. Each takes about 160 bytes: 80 MiB.
    pub(crate) entries_max: usize,
    /// How long a round waits for room before it is refused.
    pub(crate) room_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch_entries: 1 << 16, batch_rounds: 1 << 14, entries_max: 1 << 19, room_wait: Duration::from_secs(10) }
    }
}

/// What a round appended to one log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent<'a> {
    pub(crate) log: LogNumber,
    pub(crate) first: LeafIndex,
    /// Empty in a log without a leaf index.
    pub(crate) leaves: &'a [Hash],
    pub(crate) identities: &'a [Option<IdentityHash>],
}

pub(crate) struct Recent {
    limits: Limits,
    state: Mutex<State>,
    changed: Condvar,
    /// Held while a batch moves from memory into the family.
    moving: Mutex<()>,
}

#[derive(Default)]
struct State {
    open: Batch,
    /// Batches that wait for their file, oldest first.
    closed: VecDeque<Arc<Batch>>,
    /// In all batches.
    entries: usize,
    watermark: RoundNumber,
    stop: Option<Stop>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Once everything is in a file.
    Drained,
    /// At once.
    Now,
}

impl Recent {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), changed: Condvar::new(), moving: Mutex::default() }
    }

    /// Begins after `watermark`: what the family holds already.
    pub(crate) fn resume(&self, watermark: RoundNumber) {
        self.state.lock().watermark = watermark;
    }

    pub(crate) fn add<'a>(&self, round: RoundNumber, extents: impl Iterator<Item = Extent<'a>>) {
        let mut state = self.state.lock();
        let before = state.open.entries;
        for extent in extents {
            state.open.add(&extent);
        }
        state.entries += state.open.entries - before;
        state.open.last = round;
        state.open.rounds += 1;
        if state.open.entries >= self.limits.batch_entries || state.open.rounds >= self.limits.batch_rounds {
            state.close();
            self.changed.notify_all();
        }
    }

    pub(crate) fn wait_for_room(&self, entries: usize) -> bool {
        let mut state = self.state.lock();
        let is_full = |state: &mut State| state.entries > 0 && state.entries + entries > self.limits.entries_max;
        if is_full(&mut state) {
            // Rounds may fill memory with batches that are not full yet.
            state.close();
            self.changed.notify_all();
        }
        !self.changed.wait_while_for(&mut state, is_full, self.limits.room_wait).timed_out()
    }

    pub(crate) fn watermark(&self) -> RoundNumber {
        self.state.lock().watermark
    }

    pub(crate) fn find(&self, log: LogNumber, lookups: &[Lookup]) -> Vec<Option<LeafIndex>> {
        let state = self.state.lock();
        let batches = || state.closed.iter().map(|batch| &**batch).chain([&state.open]);
        lookups.iter().map(|lookup| batches().find_map(|batch| batch.find(log, lookup))).collect()
    }

    /// Runs `read` while no batch moves, and answers with all batches that are in memory then.
    pub(crate) fn holding<T>(&self, read: impl FnOnce() -> T) -> (T, Vec<Arc<Batch>>) {
        let _still = self.moving.lock();
        let mut state = self.state.lock();
        state.close();
        self.changed.notify_all();
        let batches = state.closed.iter().cloned().collect();
        (read(), batches)
    }

    /// The oldest batch that needs a file; waits for one. `None` once the index shall stop.
    pub(crate) fn next(&self) -> Option<Arc<Batch>> {
        let mut state = self.state.lock();
        loop {
            match state.stop {
                Some(Stop::Now) => return None,
                Some(Stop::Drained) => state.close(),
                None => {}
            }
            if let Some(batch) = state.closed.front() {
                return Some(Arc::clone(batch));
            }
            if state.stop.is_some() {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Moves the oldest batch with `ingest`, and forgets it if that worked.
    pub(crate) fn move_oldest<E>(&self, ingest: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let _moving = self.moving.lock();
        ingest()?;
        let mut state = self.state.lock();
        let moved = state.closed.pop_front().expect("only the thread that moves batches takes one out");
        state.entries -= moved.entries;
        state.watermark = moved.last;
        self.changed.notify_all();
        Ok(())
    }

    /// Waits a while before something is tried again. `false` if the index shall stop meanwhile.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| state.stop.is_none(), pause);
        state.stop.is_none()
    }

    #[cfg(test)]
    pub(crate) fn wait_for_watermark(&self, round: RoundNumber) {
        self.changed.wait_while(&mut self.state.lock(), |state| state.watermark < round);
    }

    pub(crate) fn stop(&self, drain: bool) {
        self.state.lock().stop = Some(if drain { Stop::Drained } else { Stop::Now });
        self.changed.notify_all();
    }
}

impl State {
    fn close(&mut self) {
        if self.open.rounds > 0 {
            self.closed.push_back(Arc::new(std::mem::take(&mut self.open)));
        }
    }
}

/// Rows of consecutive rounds.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) last: RoundNumber,
    rounds: usize,
    entries: usize,
    /// The lowest index of each identity, and of each leaf hash.
    identities: HashMap<(LogNumber, IdentityHash), LeafIndex>,
    leaves: HashMap<LeafKey, LeafIndex>,
    /// The higher ones. Of an identity there are none, unless the sequencer has a bug, which fsck shall see.
    repeated: Vec<(LogNumber, Lookup, LeafIndex)>,
}

/// A leaf hash is random already: eight bytes of it, under the map's own secret, spread as well as all of it.
#[derive(PartialEq, Eq)]
struct LeafKey(LogNumber, Hash);

impl StdHash for LeafKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (first, _) = self.1.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        state.write_u64(u64::from_ne_bytes(*first));
    }
}

impl Batch {
    fn add(&mut self, extent: &Extent<'_>) {
        let log = extent.log;
        self.entries += extent.identities.len();
        for (index, identity) in (extent.first.0..).map(LeafIndex).zip(extent.identities) {
            let Some(identity) = identity else { continue };
            if *self.identities.entry((log, *identity)).or_insert(index) != index {
                self.repeated.push((log, Lookup::Identity(*identity), index));
            }
        }
        for (index, leaf) in (extent.first.0..).map(LeafIndex).zip(extent.leaves) {
            if *self.leaves.entry(LeafKey(log, *leaf)).or_insert(index) != index {
                self.repeated.push((log, Lookup::Leaf(*leaf), index));
            }
        }
    }

    fn find(&self, log: LogNumber, lookup: &Lookup) -> Option<LeafIndex> {
        match lookup {
            Lookup::Identity(identity) => self.identities.get(&(log, *identity)).copied(),
            Lookup::Leaf(leaf) => self.leaves.get(&LeafKey(log, *leaf)).copied(),
        }
    }

    /// Every row, in no particular order.
    pub(crate) fn rows(&self, leaf_secret: &[u8; 32]) -> impl Iterator<Item = (LogNumber, IndexRow)> {
        let identities = self.identities.iter();
        let identities = identities.map(|((log, identity), index)| (*log, Lookup::Identity(*identity), *index));
        let leaves = self.leaves.iter().map(|(LeafKey(log, leaf), index)| (*log, Lookup::Leaf(*leaf), *index));
        identities.chain(leaves).chain(self.repeated.iter().copied()).map(|(log, key, index)| match key {
            Lookup::Identity(identity) => (log, IndexRow::of_identity(&identity, index)),
            Lookup::Leaf(leaf) => (log, IndexRow::of_leaf(leaf_secret, &leaf, index)),
        })
    }
}
