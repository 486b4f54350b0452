//! The verifying client: nothing that a server answers is passed on before it has been checked.
//!
//! ```text
//! answer ──> signature of the head ──> consistency with the remembered head ──> proof of the entries ──> caller
//!                                              └── then remembered, in memory and in the state directory
//! ```
//!
//! A [`Client`] follows a log with one key. It is named by the caller or the caller's policy, or pinned on first contact
//! as ssh does it. With a policy, heads that are given out as witnessed have its quorum.
//! [`ClientError::Verification`] says that a check failed; every other error says only that there is no answer.
//! What is not verified, because no proof could, comes from methods that are named `..._unverified`.

mod append;
mod channel;
mod client;
mod entries;
mod error;
mod heads;
mod memory;
mod places;
mod policy;
mod read;
mod retry;
mod settle;
mod state;
mod stream;
#[cfg(test)]
mod testing;
mod tls;
mod verify;

pub use append::{Appended, EntryRefused, Identity, NewEntry};
pub use channel::connect;
pub use client::{Client, ClientOptions};
pub use entries::{Chunk, Entries, Until};
pub use error::ClientError;
pub use heads::{HeadWatch, Heads, HeadsFrom};
pub use read::{LoggedEntry, Multiproof, Which};
pub use retry::{Sleep, SystemTiming, Timing};
pub use settle::SETTLE_WITHIN;
pub use stream::{AppendReceiver, AppendSender, Window};
pub use tls::TlsOptions;
pub use verify::VerifiedHead;
