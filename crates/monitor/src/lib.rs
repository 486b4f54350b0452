//! Who watches logs.
//!
//! * [`follow`] is the monitor's judgement: which heads are of one history, which entries are in it, and what proves a
//!   fault. A [`claim`] is what a server says of the entries that it sends. A [`source`] is where it gets them from: [`tiles`] over HTTP, or a server over [`grpc`].
//!   [`status`] is what a running monitor tells of itself.
//! * [`witness`] cosigns the checkpoints of logs that only ever grew, by C2SP tlog-witness.
//!
//! State machines come first and transports second: what decides takes its time, its disk and its requests from
//! outside, so that tests can drive it through everything that a clock, a disk or a peer may do.

#![allow(
    clippy::missing_panics_doc,
    reason = "an `expect` states a local invariant; a panic that a caller can cause is documented"
)]

pub mod claim;
mod connections;
pub mod failure;
pub mod follow;
pub mod grpc;
pub mod source;
pub mod status;
pub mod tiles;
pub mod witness;
