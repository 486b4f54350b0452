//! A driver of the sequencer over a memory disk that keeps account of every promise, and checks them all.

mod audit;

use std::collections::BTreeMap;

use bytes::Bytes;
use logwood_merkle::{Hash, LeafIndex, TreeHead};
use logwood_sequencer::{Answer, Found, LogTail, NewEntry, Placement, Publication, SealedRound, Sequencer, Submission};
use logwood_store::{
    CommitError, Entry, IdentityHash, LogNumber, LogQuery, LogRecord, LogSettings, LogState, LogStore, Lookup,
    MemoryDisk, MemoryStore, Profile, PublishedHead, bundle,
};

pub(crate) use audit::{audit, root};

/// What somebody was told, and may hold against the log for ever.
#[derive(Clone, Debug)]
pub(crate) enum Promise {
    Exists,
    Entry(LeafIndex, Bytes, Option<IdentityHash>),
    /// The identity at this index has other bytes than these.
    Taken(LeafIndex, Bytes, Option<IdentityHash>),
    Released(TreeHead),
    State(LogState),
    Published(PublishedHead),
}

/// What waits for a round.
#[derive(Debug)]
pub(crate) enum Ticket {
    Entries(Vec<NewEntry>),
    Promise(Promise),
}

pub(crate) struct Driver {
    pub(crate) disk: MemoryDisk,
    store: Option<MemoryStore>,
    pub(crate) sequencer: Sequencer<Ticket>,
    /// Logs that are stored or planned, by name.
    pub(crate) logs: BTreeMap<&'static str, LogNumber>,
    pub(crate) promises: Vec<(LogNumber, Promise)>,
}

pub(crate) fn identity(log: &str, number: u64) -> IdentityHash {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..8 + log.len()].copy_from_slice(log.as_bytes());
    IdentityHash(bytes)
}

/// Entry `number` of a log; a producer that is at fault sends another `version` under the same identity.
pub(crate) fn entry(log: &str, number: u64, version: u8) -> NewEntry {
    let bytes = Bytes::from(format!("{log}, event {number}, version {version}"));
    NewEntry { leaf: Hash::leaf(&bytes), bytes, identity: Some(identity(log, number)) }
}

/// The same without an identity: every copy is a new entry.
pub(crate) fn anonymous(log: &str, number: u64) -> NewEntry {
    NewEntry { identity: None, ..entry(log, number, 1) }
}

pub(crate) fn settings(name: &str) -> LogSettings {
    LogSettings {
        name: name.into(),
        origin: format!("example.org/{name}"),
        vkeys: vec![],
        created_ms: 1,
        profile: Profile::Opaque,
        leaf_index: true,
        shard: 0,
        first_index: 0,
    }
}

impl Driver {
    pub(crate) fn open(disk: &MemoryDisk) -> Self {
        let mut driver = Self {
            disk: disk.clone(),
            store: None,
            sequencer: Sequencer::new(logwood_store::RoundNumber(0)),
            logs: BTreeMap::new(),
            promises: Vec::new(),
        };
        driver.restart();
        driver
    }

    /// A driver of a copy of the disk that is held to the same promises.
    pub(crate) fn fork(&self) -> Self {
        let mut fork = Self::open(&self.disk.copy());
        fork.promises.clone_from(&self.promises);
        fork
    }

    pub(crate) fn store(&self) -> &MemoryStore {
        self.store.as_ref().expect("open, but for a moment in `restart`")
    }

    /// Drops everything in memory, and begins anew from the disk.
    pub(crate) fn restart(&mut self) {
        self.store = None;
        self.store = Some(MemoryStore::open(&self.disk).expect("no test lets an open fail"));
        self.rebuild();
    }

    /// Drops the sequencer, and keeps the open store.
    pub(crate) fn rebuild(&mut self) {
        self.sequencer = Sequencer::new(self.store().state().expect("no test lets a read fail").round);
        let names = ["a", "b", "c"].into_iter();
        self.logs = names.filter_map(|name| Some((name, self.record(name)?.number))).collect();
    }

    pub(crate) fn record(&self, log: &str) -> Option<LogRecord> {
        self.store().logs(LogQuery::Name(log)).expect("no test lets a read fail").pop()
    }

    pub(crate) fn create(&mut self, log: &'static str) {
        if self.logs.contains_key(log) {
            return;
        }
        let number = LogNumber(u32::try_from(self.logs.len()).expect("few logs"));
        self.logs.insert(log, number);
        self.sequencer.create(number, settings(log));
        self.sequencer.answer_after(number, Ticket::Promise(Promise::Exists));
    }

    /// Looks identities up as the server does, and absorbs.
    pub(crate) fn submit(&mut self, log: &str, entries: Vec<NewEntry>) {
        let number = self.logs[log];
        if !self.sequencer.is_loaded(number) {
            let record = self.record(log).expect("a log that is planned only is loaded");
            let tail = LogTail::load(self.store(), &record).expect("a sound log loads");
            self.sequencer.load(number, tail);
        }
        let found: Vec<_> = entries.iter().map(|entry| self.look_up(number, entry.identity)).collect();
        let ticket = Ticket::Entries(entries.clone());
        self.sequencer.absorb(Submission { log: number, entries, ticket }, &found);
    }

    fn look_up(&self, log: LogNumber, identity: Option<IdentityHash>) -> Option<Found> {
        let identity = identity.filter(|identity| !self.sequencer.knows(log, *identity))?;
        let index = self.store().find(log, &[Lookup::Identity(identity)]).expect("no test lets a read fail")[0]?;
        let stored = self.store().entries(log, index, LeafIndex(index.0 + 1), 1).expect("no test lets a read fail");
        Some(Found { index, leaf: Hash::leaf(&stored[0].bytes) })
    }

    pub(crate) fn set_state(&mut self, log: &str, state: &LogState) {
        self.sequencer.set_state(self.logs[log], state.clone());
        self.sequencer.answer_after(self.logs[log], Ticket::Promise(Promise::State(state.clone())));
    }

    /// Publishes the stored head, as a publisher does.
    pub(crate) fn publish(&mut self, log: &str) {
        let head = self.record(log).expect("a log with a head").head.head;
        let published = PublishedHead { head, time_ms: 7, signatures: vec![] };
        let publication = Publication { log: self.logs[log], head: published.clone(), thinned: vec![] };
        self.sequencer.publish(publication);
        self.sequencer.answer_after(self.logs[log], Ticket::Promise(Promise::Published(published)));
    }

    /// Packs a bundle that pieces have filled.
    pub(crate) fn repack(&mut self, log: &str, index: u64) {
        let (first, end) = (LeafIndex(256 * index), LeafIndex(256 * index + 256));
        let entries: Vec<Entry> =
            self.store().entries(self.logs[log], first, end, usize::MAX).expect("no test lets a read fail");
        if entries.len() == 256 {
            self.sequencer.repack(self.logs[log], bundle::pack(index, &entries));
        }
    }

    pub(crate) fn seal(&mut self) -> Option<SealedRound<Ticket>> {
        self.sequencer.seal(1_000)
    }

    /// Commits, adopts, releases and acknowledges; answers what the submitters were told.
    pub(crate) fn commit(&mut self, sealed: SealedRound<Ticket>) -> Result<Vec<Placement>, CommitError> {
        if let Some(round) = &sealed.round {
            self.store().commit(round)?;
            self.sequencer.adopt(round.number);
        }
        for (log, view) in sealed.views {
            self.promises.push((log, Promise::Released(view.head())));
        }
        Ok(sealed.answers.into_iter().flat_map(|answer| self.acknowledge(answer)).collect())
    }

    fn acknowledge(&mut self, answer: Answer<Ticket>) -> Vec<Placement> {
        let Answer { ticket, log, placements } = answer;
        let entries = match ticket {
            Ticket::Entries(entries) => entries,
            Ticket::Promise(promise) => {
                assert!(placements.is_empty(), "nothing was placed");
                if matches!(promise, Promise::State(_)) {
                    self.promises.retain(|(of, old)| *of != log || !matches!(old, Promise::State(_)));
                }
                self.promises.push((log, promise));
                return Vec::new();
            }
        };
        assert_eq!(placements.len(), entries.len(), "each entry has its answer");
        for (entry, placement) in entries.into_iter().zip(&placements) {
            let promise = match *placement {
                Placement::New(index) | Placement::Duplicate(index) => {
                    Promise::Entry(index, entry.bytes, entry.identity)
                }
                Placement::Taken(index) => Promise::Taken(index, entry.bytes, entry.identity),
            };
            self.promises.push((log, promise));
        }
        placements
    }

    /// Seals and commits without a fault.
    pub(crate) fn round(&mut self) -> Vec<Placement> {
        let Some(sealed) = self.seal() else { return Vec::new() };
        self.commit(sealed).expect("no fault was asked for")
    }

    /// Checks the whole disk, and every promise.
    pub(crate) fn audit(&self) {
        audit(self.store(), &self.promises);
    }
}
