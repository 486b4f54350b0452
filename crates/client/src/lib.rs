//! The verifying client: nothing that a server answers is passed on before it has been checked.
//!
//! ```text
//! answer ──> signature of the head ──> consistency with the remembered head ──> proof of the entries ──> caller
//!                                              └── then remembered, in memory and in the state directory
//! ```
//!
//! A [`Client`] trusts one key. It is named by the caller, or pinned on first contact as ssh does it.
//! [`ClientError::Verification`] says that a check failed; every other error says only that there is no answer.

mod append;
mod channel;
mod client;
mod error;
mod read;
mod state;
#[cfg(test)]
mod testing;
mod verify;

pub use append::{Appended, EntryRefused, NewEntry};
pub use channel::connect;
pub use client::{Client, ClientOptions};
pub use error::ClientError;
pub use read::Multiproof;
pub use verify::VerifiedHead;
