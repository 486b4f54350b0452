//! Conversions between messages and domain types. Parsing happens here, at the edge.

use bytes::Bytes;
use logwood_merkle::{Hash, RangeProof};
use thiserror::Error;

use crate::v1;

/// A field of a message does not hold what it must.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// The field's name in the proto file.
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// Reads one 32-byte hash.
///
/// # Errors
///
/// [`FieldError`] if `bytes` has another length.
pub fn hash(field: &'static str, bytes: &[u8]) -> Result<Hash, FieldError> {
    Hash::try_from(bytes)
        .map_err(|_| FieldError { field, problem: format!("a hash has 32 bytes, not {}", bytes.len()) })
}

/// Reads a proof.
///
/// # Errors
///
/// [`FieldError`] if an element is not 32 bytes long.
pub fn hashes(field: &'static str, elements: &[Bytes]) -> Result<Vec<Hash>, FieldError> {
    elements.iter().map(|element| hash(field, element)).collect()
}

/// Writes a proof. All elements share one allocation.
#[must_use]
pub fn hashes_to_bytes(hashes: &[Hash]) -> Vec<Bytes> {
    let mut joined = Vec::with_capacity(hashes.len() * Hash::LEN);
    for hash in hashes {
        joined.extend_from_slice(hash.as_bytes());
    }
    let joined = Bytes::from(joined);
    (0..hashes.len()).map(|i| joined.slice(i * Hash::LEN..(i + 1) * Hash::LEN)).collect()
}

/// Reads a range proof.
///
/// # Errors
///
/// [`FieldError`] if an element is not 32 bytes long.
pub fn range_proof(message: &v1::RangeProof) -> Result<RangeProof, FieldError> {
    Ok(RangeProof { left: hashes("left", &message.left)?, right: hashes("right", &message.right)? })
}

/// Writes a range proof.
#[must_use]
pub fn range_proof_to_message(proof: &RangeProof) -> v1::RangeProof {
    v1::RangeProof { left: hashes_to_bytes(&proof.left), right: hashes_to_bytes(&proof.right) }
}
