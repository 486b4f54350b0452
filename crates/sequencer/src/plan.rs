//! Planning: which entries the next round takes, at which indices, and what it writes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
// Its keys are assigned here, or hashed under a secret: nobody can choose them so that they collide.
use foldhash::HashMap;
use logwood_merkle::{Hash, LeafIndex, TileId, TileNodes};
use logwood_store::{
    BUNDLE_ENTRIES, Entry, Extension, IdentityHash, LogNumber, LogRound, LogSettings, LogState, PackedBundle, Piece,
    PublishedHead, Round, RoundNumber, bundle,
};

use crate::publisher::Publication;
use crate::{LogTail, LogView};

/// Most entries of one round, by default. Bounds its latency, and its memory together with [`ROUND_BYTES_MAX`].
pub const ROUND_ENTRIES_MAX: usize = 8_192;

/// Most entry bytes of one round. A single submission may exceed it, alone.
pub const ROUND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How large a round may grow before it is full. The last submission may exceed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundLimits {
    /// Entries.
    pub entries_max: usize,
    /// Bytes of entries.
    pub bytes_max: usize,
}

impl Default for RoundLimits {
    fn default() -> Self {
        Self { entries_max: ROUND_ENTRIES_MAX, bytes_max: ROUND_BYTES_MAX }
    }
}

/// An entry that wants an index.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// 1 to 65,535 bytes.
    pub bytes: Bytes,
    /// RFC 6962 leaf hash of `bytes`.
    pub leaf: Hash,
    /// What makes a retry the same entry.
    pub identity: Option<IdentityHash>,
}

/// Entries of one call, logged in one round, in order, and where to report.
#[derive(Debug)]
pub struct Submission<T> {
    /// Which log. It must be loaded.
    pub log: LogNumber,
    /// At least one.
    pub entries: Vec<NewEntry>,
    /// Comes back in an [`Answer`].
    pub ticket: T,
}

/// What storage knows of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where the entry is.
    pub index: LeafIndex,
    /// Its leaf hash: tells the same bytes from others.
    pub leaf: Hash,
}

/// Where an entry of a submission is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Logged by this round.
    New(LeafIndex),
    /// The identity was there, with the same bytes.
    Duplicate(LeafIndex),
    /// The identity is taken by other bytes.
    Taken(LeafIndex),
}

impl Placement {
    /// Where it is, or where what has its identity is.
    #[must_use]
    pub fn index(self) -> LeafIndex {
        match self {
            Self::New(index) | Self::Duplicate(index) | Self::Taken(index) => index,
        }
    }
}

/// The answer to a submission, to be given once its round is released.
#[derive(Debug)]
pub struct Answer<T> {
    /// Of the submission.
    pub ticket: T,
    /// Which log.
    pub log: LogNumber,
    /// As many as the submission had entries, in their order.
    pub placements: Vec<Placement>,
}

/// A planned round.
#[derive(Debug)]
pub struct SealedRound<T> {
    /// What to commit. `None` if all that waits are answers about rounds before.
    pub round: Option<Round>,
    /// The new view of each log that grew or was made.
    pub views: Vec<(LogNumber, LogView)>,
    /// Tiles that the round completes, for the caches of readers.
    pub tiles: Vec<(LogNumber, TileId, Arc<TileNodes>)>,
    /// Whom to answer.
    pub answers: Vec<Answer<T>>,
}

/// Owner of the tails of all loaded logs. Plans ahead of the disk; dropped whole if a commit fails.
#[derive(Debug)]
pub struct Sequencer<T> {
    limits: RoundLimits,
    last: RoundNumber,
    /// Up to here rounds are durable.
    adopted: RoundNumber,
    tails: HashMap<LogNumber, Tail>,
    open: BTreeMap<LogNumber, OpenLog>,
    open_entries: usize,
    open_bytes: usize,
    answers: Vec<Answer<T>>,
    /// Identities of the open round and of rounds in flight.
    identities: HashMap<(LogNumber, IdentityHash), Found>,
    in_flight: VecDeque<(RoundNumber, Vec<(LogNumber, IdentityHash)>)>,
    open_identities: Vec<(LogNumber, IdentityHash)>,
}

/// The tail of a log, and the last round that was planned on it.
#[derive(Debug)]
struct Tail {
    tail: LogTail,
    planned: RoundNumber,
}

/// What the open round does to one log.
#[derive(Debug, Default)]
struct OpenLog {
    create: Option<LogSettings>,
    state: Option<LogState>,
    published: Vec<PublishedHead>,
    thinned: Vec<u64>,
    repacked: Vec<PackedBundle>,
    first: u64,
    entries: Vec<Entry>,
    leaves: Vec<Hash>,
    tiles: Vec<(TileId, Arc<TileNodes>)>,
}

impl<T> Sequencer<T> {
    /// Goes on after round `last`.
    #[must_use]
    pub fn new(last: RoundNumber) -> Self {
        Self {
            last,
            limits: RoundLimits::default(),
            adopted: last,
            tails: HashMap::default(),
            open: BTreeMap::new(),
            open_entries: 0,
            open_bytes: 0,
            answers: Vec::new(),
            identities: HashMap::default(),
            in_flight: VecDeque::new(),
            open_identities: Vec::new(),
        }
    }

    /// As [`new`](Self::new), with rounds of another size.
    #[must_use]
    pub fn with_limits(last: RoundNumber, limits: RoundLimits) -> Self {
        Self { limits, ..Self::new(last) }
    }

    /// Submissions and other changes that the next round answers, and the entries in it.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.answers.len(), self.open_entries)
    }

    /// Whether the log's tail is in memory.
    #[must_use]
    pub fn is_loaded(&self, log: LogNumber) -> bool {
        self.tails.contains_key(&log)
    }

    /// Takes over the tail of a log that was rebuilt from storage.
    pub fn load(&mut self, log: LogNumber, tail: LogTail) {
        self.tails.insert(log, Tail { tail, planned: self.adopted });
    }

    /// Whether storage holds all that was planned of a log, so that its tail could be read from there again.
    #[must_use]
    pub fn is_durable(&self, log: LogNumber) -> bool {
        let planned = self.tails.get(&log).map(|tail| tail.planned);
        !self.open.contains_key(&log) && planned.is_none_or(|planned| planned <= self.adopted)
    }

    /// Forgets the tail of a log. [`load`](Self::load) brings it back.
    ///
    /// # Panics
    ///
    /// If not [everything](Self::is_durable) of it is durable: a tail that was read from storage would be too short,
    /// and indices would be given twice.
    pub fn unload(&mut self, log: LogNumber) {
        assert!(self.is_durable(log), "a tail stays in memory while storage is behind it");
        self.tails.remove(&log);
    }

    /// How many more entries and bytes of them the open round should take. The last submission may exceed it.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        let RoundLimits { entries_max, bytes_max } = self.limits;
        (entries_max.saturating_sub(self.open_entries), bytes_max.saturating_sub(self.open_bytes))
    }

    /// Whether the open round should take no more entries.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let (entries, bytes) = self.room();
        entries == 0 || bytes == 0
    }

    /// Whether there is nothing to seal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.answers.is_empty()
    }

    /// Whether the open round will be written: an answer alone writes nothing.
    #[must_use]
    pub fn has_writes(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether an identity is planned already, so that storage need not be asked.
    #[must_use]
    pub fn knows(&self, log: LogNumber, identity: IdentityHash) -> bool {
        self.identities.contains_key(&(log, identity))
    }

    /// Plans a submission into the open round.
    ///
    /// * `found` - as many as the submission has entries: what storage knows of each identity. It must have been
    ///   asked after the last [`adopt`](Self::adopt), so that no round falls between memory and disk.
    ///
    /// # Panics
    ///
    /// If the log is not loaded, or `found` has another length: bugs of the driver.
    pub fn absorb(&mut self, submission: Submission<T>, found: &[Option<Found>]) {
        let Submission { log, entries, ticket } = submission;
        assert_eq!(entries.len(), found.len(), "storage was asked for every entry");
        let placements = entries.into_iter().zip(found).map(|(entry, found)| self.place(log, entry, *found)).collect();
        self.answers.push(Answer { ticket, log, placements });
    }

    fn place(&mut self, log: LogNumber, entry: NewEntry, found: Option<Found>) -> Placement {
        let known = entry.identity.and_then(|identity| self.identities.get(&(log, identity)).copied()).or(found);
        if let Some(Found { index, leaf }) = known {
            return if leaf == entry.leaf { Placement::Duplicate(index) } else { Placement::Taken(index) };
        }
        let Tail { tail, .. } = self.tails.get_mut(&log).expect("the driver loads a log before it submits to it");
        let open = self.open.entry(log).or_default();
        if open.entries.is_empty() {
            open.first = tail.size.0;
        }
        let index = tail.push(entry.leaf, &mut open.tiles);
        self.open_entries += 1;
        self.open_bytes += entry.bytes.len();
        if let Some(identity) = entry.identity {
            self.identities.insert((log, identity), Found { index, leaf: entry.leaf });
            self.open_identities.push((log, identity));
        }
        open.leaves.push(entry.leaf);
        open.entries.push(Entry { bytes: entry.bytes, identity: entry.identity });
        Placement::New(index)
    }

    /// Plans a new log into the open round; it can be submitted to at once.
    pub fn create(&mut self, log: LogNumber, settings: LogSettings) {
        self.load(log, LogTail::empty());
        self.open.entry(log).or_default().create = Some(settings);
    }

    /// Plans a change of state into the open round.
    pub fn set_state(&mut self, log: LogNumber, state: LogState) {
        self.open.entry(log).or_default().state = Some(state);
    }

    /// Plans a head for the history, and the heads that it thins, into the open round.
    pub fn publish(&mut self, publication: Publication) {
        let Publication { log, head, thinned } = publication;
        let open = self.open.entry(log).or_default();
        open.published.push(head);
        open.thinned.extend(thinned);
    }

    /// Plans the replacement of pieces by the bundle that they filled.
    pub fn repack(&mut self, log: LogNumber, bundle: PackedBundle) {
        let repacked = &mut self.open.entry(log).or_default().repacked;
        // A log that went out of memory and came back names its unpacked bundles again; a piece is deleted once.
        if repacked.iter().all(|other| other.index != bundle.index) {
            repacked.push(bundle);
        }
    }

    /// Adds an answer that waits for everything planned so far, and for nothing else.
    pub fn answer_after(&mut self, log: LogNumber, ticket: T) {
        self.answers.push(Answer { ticket, log, placements: Vec::new() });
    }

    /// Closes the open round. `None` if there is nothing in it.
    ///
    /// * `now_ms` - the driver's clock, POSIX milliseconds.
    pub fn seal(&mut self, now_ms: u64) -> Option<SealedRound<T>> {
        if self.is_empty() {
            return None;
        }
        let mut sealed = SealedRound {
            round: None,
            views: Vec::new(),
            tiles: Vec::new(),
            answers: std::mem::take(&mut self.answers),
        };
        let open = std::mem::take(&mut self.open);
        if open.is_empty() {
            return Some(sealed);
        }
        self.last = self.last.next();
        let mut round = Round { number: self.last, logs: Vec::with_capacity(open.len()) };
        for (log, open) in open {
            let view = self.tails.get_mut(&log).map(|tail| {
                tail.planned = self.last;
                tail.tail.view()
            });
            sealed.tiles.extend(open.tiles.iter().map(|(id, tile)| (log, *id, Arc::clone(tile))));
            if let Some(view) = view.as_ref().filter(|_| open.create.is_some() || !open.entries.is_empty()) {
                sealed.views.push((log, view.clone()));
            }
            round.logs.push(open.into_round(log, view.as_ref(), now_ms));
        }
        self.in_flight.push_back((self.last, std::mem::take(&mut self.open_identities)));
        (self.open_entries, self.open_bytes) = (0, 0);
        sealed.round = Some(round);
        Some(sealed)
    }

    /// Round `number` is durable: storage answers for its identities from now on.
    pub fn adopt(&mut self, number: RoundNumber) {
        self.adopted = number;
        while let Some((_, identities)) = self.in_flight.pop_front_if(|(round, _)| *round <= number) {
            for key in identities {
                self.identities.remove(&key);
            }
        }
    }
}

impl OpenLog {
    fn into_round(self, log: LogNumber, view: Option<&LogView>, now_ms: u64) -> LogRound {
        let extend = view.filter(|_| !self.entries.is_empty()).map(|view| {
            let identities = self.entries.iter().map(|entry| entry.identity).collect();
            let (bundles, pieces) = split(self.first, self.entries);
            Extension {
                first: LeafIndex(self.first),
                leaves: self.leaves,
                identities,
                bundles,
                pieces,
                tiles: self.tiles.iter().map(|(id, tile)| (*id, Bytes::from(tile.to_bytes()))).collect(),
                head: view.head(),
                time_ms: now_ms,
            }
        });
        let (create, state) = (self.create, self.state);
        LogRound {
            log,
            create,
            extend,
            repacked: self.repacked,
            published: self.published,
            thinned: self.thinned,
            state,
        }
    }
}

/// Cuts a round's entries at the boundaries of bundles: those that are whole are packed, the rest are pieces.
fn split(first: u64, entries: Vec<Entry>) -> (Vec<PackedBundle>, Vec<Piece>) {
    let (mut bundles, mut pieces) = (Vec::new(), Vec::new());
    let mut entries = entries.into_iter().peekable();
    let mut next = first;
    while entries.peek().is_some() {
        let room = usize::try_from(BUNDLE_ENTRIES - next % BUNDLE_ENTRIES).expect("at most 256");
        let taken: Vec<_> = entries.by_ref().take(room).collect();
        let from = next;
        next += taken.len() as u64;
        if taken.len() as u64 == BUNDLE_ENTRIES {
            bundles.push(bundle::pack(from / BUNDLE_ENTRIES, &taken));
        } else {
            pieces.push(Piece { first: LeafIndex(from), entries: taken });
        }
    }
    (bundles, pieces)
}

#[cfg(test)]
mod tests;
