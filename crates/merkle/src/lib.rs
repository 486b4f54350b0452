//! RFC 6962 Merkle trees: hashing, proof planning and verification, tiles.
//!
//! No I/O, no async, no clock. Three layers, each usable without the next:
//!
//! * **Values**: [`struct@Hash`], [`LeafIndex`], [`TreeSize`], [`TreeHead`], [`NodeId`].
//! * **What an auditor trusts**: [`verify`], [`range`] and [`multi`] judge a proof
//!   against a [`TreeHead`]; [`ProofError`] names the check that failed.
//! * **What a log needs**: [`CompactRange`] grows a tree, [`plan`] says which
//!   stored nodes a proof needs, [`TileId`] and [`TileNodes`] say where they lie.
//!
//! Only *perfect* nodes are ever stored, since they never change once complete.
//! A proof hash that covers a ragged right edge is folded from several of them.
//!
//! Sources: RFC 6962 §2.1 and RFC 9162 §2.1 for the tree, C2SP `tlog-tiles` for tiles.

#![allow(
    clippy::missing_panics_doc,
    reason = "an `expect` states a local invariant; a panic that a caller can cause is documented"
)]

mod compact;
mod error;
mod hash;
pub mod multi;
mod node;
mod path;
pub mod plan;
pub mod range;
mod tile;
pub mod verify;

pub use compact::{CompactRange, CompactRangeError};
pub use error::ProofError;
pub use hash::{Hash, HashLengthError, LeafIndex, TreeHead, TreeSize};
pub use node::NodeId;
pub use plan::{PlanError, ProofPlan, RangePlan};
pub use range::{RangeProof, VerifiedRange};
pub use tile::{TILE_HEIGHT, TILE_WIDTH, TileError, TileId, TileNodes, TilePath, TilePathError};
