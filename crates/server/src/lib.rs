//! gRPC services and an HTTP read API over a sequencer and a store.
//!
//! [`serve`] runs everything; the way of an entry is `append` (accept) -> `writer` (plan, commit, release,
//! acknowledge) -> `append` again (proofs, on the caller's task).

mod admin;
mod anchor;
mod append;
mod bodies;
mod bounds;
mod budget;
mod calls;
mod clock;
mod connections;
mod core;
mod disk;
mod health;
mod http;
mod inbox;
mod limits;
mod metrics;
mod nodes;
mod publisher;
mod queue;
mod read;
mod registry;
mod serve;
mod service;
mod signing;
mod slot;
mod status;
mod thaw;
mod tls;
mod transport;
mod vital;
mod wake;
mod witnesses;
mod writer;

pub use anchor::{AnchoredHeads, read_anchor};
pub use disk::{FreeSpace, OpeningBytes, free_space};
pub use limits::{LimitError, LimitSettings, Limits};
pub use logwood_sequencer::Level;
pub use logwood_sequencer::witnessing::WitnessSettings;
pub use serve::{PublishOptions, ServeError, ServeOptions, Started, serve};
pub use slot::StoreOpener;
pub use tls::{TlsError, TlsFiles};
pub use witnesses::{LogWitnesses, StartGuard, WitnessOptions, WitnessesError};
