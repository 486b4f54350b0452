//! Turns submissions into growing logs: the pure half. No I/O, no clock, no randomness.
//!
//! The order below is the product. Each step may assume only the steps before it:
//!
//! 1. **accept** - the caller's task checks limits and hashes the leaf.
//! 2. **plan** - [`Sequencer::absorb`] gives out indices, drops repeats of an identity, grows the tree.
//! 3. **commit** - the driver writes [`SealedRound::round`] in one atomic, synced write.
//! 4. **adopt** - [`Sequencer::adopt`]: the plan's in-flight identities are on disk now.
//! 5. **release** - the driver signs each log's new head and hands its [`LogView`] to readers.
//! 6. **acknowledge** - each submission learns its [`Placement`]s.
//!
//! ```text
//!   submissions ─> absorb ─> open round ─ seal ─> commit ─ ok ─> adopt ─> release ─> acknowledge
//!                     ^                             │
//!                     └── plans the next round ─────┤ unknown outcome: halt, drop the Sequencer, reload
//!                         while this one syncs      └ (a crash here: nobody was told anything)
//! ```
//!
//! So an acknowledged entry is always under a released head, and a released head is always durable. A failed commit
//! leaves the outcome unknown; the sequencer is then dropped, with everything that it planned, and built anew from
//! what storage holds.

mod plan;
pub mod publisher;
mod tail;
mod view;
pub mod witnessing;

pub use plan::{
    Answer, Found, NewEntry, Placement, ROUND_BYTES_MAX, ROUND_ENTRIES_MAX, RoundLimits, SealedRound, Sequencer,
    Submission,
};
pub use publisher::{Level, Publication};
pub use tail::{LoadError, LogTail};
pub use view::{LogView, NodePlace};
