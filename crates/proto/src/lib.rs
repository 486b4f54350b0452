//! The gRPC contract `logwood.v1`, generated from `proto/`, its conversions to domain types, and what both ends of a
//! connection share.

mod causes;
mod coalesce;
mod convert;
mod details;
mod pem_file;

pub use causes::with_causes;
pub use coalesce::Coalesced;
pub use convert::{FieldError, hash, hashes, hashes_to_bytes, range_proof, range_proof_to_message};
pub use details::{DOMAIN, Reason};
pub use pem_file::{PEM_FILE_BYTES_MAX, read_pem_file};

/// Generated messages, clients and servers.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::pedantic,
        clippy::missing_errors_doc,
        reason = "generated; the documentation is in the proto files"
    )]
    tonic::include_proto!("logwood.v1");

    /// The compiled descriptors, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/logwood.v1.bin"));
}

/// Largest answer in bytes, framing included: stock gRPC clients refuse more than 4 MiB.
pub const ANSWER_BYTES_MAX: usize = 3 * 1024 * 1024 + 512 * 1024;

/// Most entries in one batch.
pub const BATCH_ENTRIES_MAX: usize = 1_000;

/// Longest identity in bytes.
pub const IDENTITY_BYTES_MAX: usize = 128;

/// Most indices in one multiproof.
pub const MULTIPROOF_INDICES_MAX: usize = 1_000;

/// Most elements of one page.
pub const PAGE_ENTRIES_MAX: usize = 1_000;
