//! Who watches logs.
//!
//! * [`witness`] cosigns the checkpoints of logs that only ever grew, by C2SP tlog-witness.
//!
//! State machines come first and transports second: what decides takes its time, its disk and its requests from
//! outside, so that tests can drive it through everything that a clock, a disk or a peer may do.

pub mod witness;
