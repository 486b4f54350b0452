//! gRPC services over a sequencer and a store.
//!
//! [`serve`] runs everything; the way of an entry is `append` (accept) -> `writer` (plan, commit, release,
//! acknowledge) -> `append` again (proofs, on the caller's task).

mod admin;
mod anchor;
mod append;
mod clock;
mod core;
mod inbox;
mod nodes;
mod publisher;
mod queue;
mod read;
mod registry;
mod serve;
mod service;
mod slot;
mod status;
mod thaw;
mod writer;

pub use logwood_sequencer::Level;
pub use serve::{PublishOptions, ServeError, ServeOptions, Started, serve};
pub use slot::StoreOpener;
