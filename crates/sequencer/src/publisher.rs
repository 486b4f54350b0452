//! Publishing: which heads are kept, and when somebody may see them. A state machine without I/O, clock or randomness.
//!
//! The order below is what a watcher trusts. Each step may assume only the steps before it:
//!
//! 1. **take** - a log's newest signed head and the time, at most once an interval, and only if the log grew.
//! 2. **prepare** - the driver adds the log's own cosignature, and reads what may be thinned.
//! 3. **store** - the head enters the history, and the heads that it thins leave, in one round for all logs.
//! 4. **ask** - the witnesses, if the log has any: until there is a quorum or the deadline has passed. What they say is
//!    stored with the head.
//! 5. **anchor** - the heads are written to the anchor, one sync for all logs.
//! 6. **serve** - only now may somebody see the head, and watchers are told.
//!
//! ```text
//!                 tick           Prepared                        Anchored
//!   Idle(grown) ──────> Preparing ──────> Ready ──> Storing ──> Stored ──> Anchoring ──> Serve, Idle
//!        ^                  │               ^         │ │         ^           │
//!        │                  │               └─ Asking <─┘         └───────────┤
//!        └─ refused, retry ─┴──── not stored, retry ──┘              not anchored, retry
//!
//!                  Cosigned          Amended
//!   Idle(served) ─────────> Amending ──────> Ready ──> Storing ──> Serve, Idle
//! ```
//!
//! A log that a crash left between 3 and 5 comes back as stored and not anchored: it goes on from there. So whatever a
//! witness saw is in the history, which is what the log shows its witnesses after a start; whatever was served is in the
//! history and in the anchor; and a log that does not grow writes nothing. Renewals of a head's signatures are stored once,
//! after the witnesses were asked, and need no anchor. Cosignatures that come later are added to the head that they are
//! of, however old it is, once that head was served: the stored head is read, and written with them.
//!
//! The driver calls [`Publisher::handle`] for what happened and [`Publisher::poll`] for what to do next.

mod log;
mod machine;
pub mod note;
mod thinning;

use logwood_merkle::TreeHead;
use logwood_store::{HeadSignature, LogNumber, PublishedHead};

pub use machine::{BATCH_HEADS_MAX, Publisher};
pub use thinning::{HISTORY_PAGE_HEADS, Thinning};

/// How widely a head is known. Each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Signed by the log as soon as its round was durable: a promise, comparable to an SCT. Not kept.
    #[default]
    Signed,
    /// Kept in the history and in the anchor, and served to everybody.
    Published,
    /// Published, with a quorum of the log's witnesses.
    Witnessed,
}

/// The driver's two clocks, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// POSIX milliseconds: the time that a head is taken at. It may jump either way.
    pub posix_ms: u64,
    /// Milliseconds from any moment on: intervals are measured with it. It never goes back.
    pub elapsed_ms: u64,
}

/// When to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherSettings {
    /// A log is published at most once in so many milliseconds; at least 1.
    pub interval_ms: u64,
    /// Heads whose signatures tell their age are renewed so many milliseconds after the last publication; 0: never.
    pub refresh_ms: u64,
}

/// Tells the outcome of a batch to the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchId(pub(crate) u64);

/// Whether a head that is found in the history was served already, or may be: the anchor has it, or a later one.
#[must_use]
pub fn may_be_seen(stored: &PublishedHead, anchored: Option<TreeHead>) -> bool {
    anchored.is_some_and(|anchored| anchored.size >= stored.head.size)
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A log came into memory.
    Loaded {
        /// Which.
        log: LogNumber,
        /// Its signatures tell their age (0x06, witnesses), so they are renewed.
        renews: bool,
        /// It has witnesses, who are asked before a head is anchored.
        asks: bool,
        /// The newest head of its history.
        stored: Option<PublishedHead>,
        /// Its newest head in the anchor.
        anchored: Option<TreeHead>,
    },
    /// A round's head was signed. Sizes do not shrink; heads in between may be left out.
    Released {
        /// Of which log.
        log: LogNumber,
        /// The head.
        head: TreeHead,
        /// The log's Ed25519 signature of its checkpoint.
        signature: HeadSignature,
    },
    /// Somebody waits for the newest head to be published: the tick is not waited for.
    Wanted {
        /// Of which log.
        log: LogNumber,
    },
    /// [`Action::Prepare`] is done.
    Prepared {
        /// Which log.
        log: LogNumber,
        /// Signatures to add to that of the round.
        signatures: Vec<HeadSignature>,
        /// The pages of the history that were asked for, in that order; empty where none was.
        history: [Vec<HeadTime>; 2],
    },
    /// [`Action::Prepare`] failed.
    NotPrepared {
        /// Which log.
        log: LogNumber,
    },
    /// [`Action::Ask`] is done: there is a quorum, or the deadline has passed.
    Asked {
        /// Which log.
        log: LogNumber,
        /// The head that was asked for.
        head: TreeHead,
        /// Verified cosignatures of it.
        signatures: Vec<HeadSignature>,
    },
    /// Cosignatures came after [`Event::Asked`].
    Cosigned {
        /// Of which log.
        log: LogNumber,
        /// Which head.
        head: TreeHead,
        /// Verified cosignatures of it.
        signatures: Vec<HeadSignature>,
    },
    /// [`Action::Amend`] is done.
    Amended {
        /// Which log.
        log: LogNumber,
        /// The stored head with the cosignatures. `None`: it has left the history.
        head: Option<PublishedHead>,
    },
    /// [`Action::Amend`] failed.
    NotAmended {
        /// Which log.
        log: LogNumber,
    },
    /// [`Action::Store`] is durable.
    Stored {
        /// Which one.
        batch: BatchId,
    },
    /// [`Action::Store`] failed. If its outcome is unknown, [`Event::Reset`] follows.
    NotStored {
        /// Which one.
        batch: BatchId,
    },
    /// [`Action::Anchor`] is synced.
    Anchored {
        /// Which one.
        batch: BatchId,
    },
    /// [`Action::Anchor`] failed; what of it is on disk is unknown, and does not matter.
    NotAnchored {
        /// Which one.
        batch: BatchId,
    },
    /// Another process has taken the anchor over: nothing is published any more.
    Foreign,
    /// A log went out of memory. It must have been [idle](Publisher::is_idle); it comes back as [`Event::Loaded`].
    Unloaded {
        /// Which.
        log: LogNumber,
    },
    /// The store was opened anew: every log is forgotten, and comes back as [`Event::Loaded`].
    Reset,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Add the log's own cosignature of the head, and read the history from these sizes on, at most
    /// [`HISTORY_PAGE_HEADS`] heads each.
    Prepare {
        /// Of which log.
        log: LogNumber,
        /// What is published.
        head: TreeHead,
        /// When it was taken, POSIX milliseconds; never less than for the head before.
        time_ms: u64,
        /// Where the pages begin that thinning needs.
        history: [Option<u64>; 2],
    },
    /// Ask the witnesses to cosign this head of the history, for no longer than the deadline.
    Ask {
        /// Of which log.
        log: LogNumber,
        /// The head, with the log's own signatures and cosignatures that it had before.
        head: PublishedHead,
    },
    /// Read this head from the history, and add the cosignatures ([`note::merge`]).
    Amend {
        /// Of which log.
        log: LogNumber,
        /// Which head.
        head: TreeHead,
        /// What is added.
        signatures: Vec<HeadSignature>,
    },
    /// Write these heads to the history, in one round.
    Store {
        /// Comes back in the outcome.
        batch: BatchId,
        /// 1 to [`BATCH_HEADS_MAX`], at most one a log.
        publications: Vec<Publication>,
    },
    /// Write these heads to the anchor, with one sync.
    Anchor {
        /// Comes back in the outcome.
        batch: BatchId,
        /// At most one a log.
        heads: Vec<(LogNumber, TreeHead)>,
    },
    /// Let everybody see this head.
    Serve {
        /// Of which log.
        log: LogNumber,
        /// Larger than the last one served, or served before and with more or renewed signatures now.
        head: PublishedHead,
    },
    /// Tell whoever waits that the log was not published. It is tried again, unless the anchor is another's.
    Failed {
        /// Which log.
        log: LogNumber,
        /// What failed.
        step: Step,
    },
}

/// A head on its way into the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Of which log.
    pub log: LogNumber,
    /// What is stored.
    pub head: PublishedHead,
    /// Sizes of heads that leave the history.
    pub thinned: Vec<u64>,
}

/// A head of the history, as far as thinning looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadTime {
    /// Its size.
    pub size: u64,
    /// When it was taken, POSIX milliseconds.
    pub time_ms: u64,
}

/// What a publication failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The head was not signed, or the history could not be read.
    Prepare,
    /// The store took nothing, or it is not known whether it did.
    Store,
    /// The anchor could not be written.
    Anchor,
    /// The anchor is another process's.
    Foreign,
}
