//! Cosignatures: what a witness says about a checkpoint, and a log about its own, with a time.
//!
//! ```text
//! signature = timestamp, 8 bytes big-endian || signature over one of these messages:
//!
//! 0x04, Ed25519                        0x06, ML-DSA-44
//! cosignature/v1                       "subtree/v1\n\0"          12 bytes
//! time <timestamp>                     length, cosigner's name   1 byte, at most 255
//! <note text, verbatim>                timestamp                 8 bytes
//!                                      length, origin            1 byte, at most 255
//!                                      start (0), end (size)     8 bytes each
//!                                      root hash                 32 bytes
//! ```
//!
//! So 0x04 covers extension lines and not who signed, and 0x06 who signed and no extension lines.
//!
//! Source: C2SP tlog-cosignature, "Format", "Ed25519 signed message", "ML-DSA-44 signed message".

use logwood_merkle::Hash;
use thiserror::Error;

use crate::checkpoint::Checkpoint;
use crate::key::SignatureType;
use crate::text::MalformedLine;

/// Largest timestamp, in POSIX seconds (C2SP tlog-cosignature, "Format").
pub const TIMESTAMP_MAX: u64 = i64::MAX as u64;

/// Bytes of the timestamp in front of the signature.
pub(crate) const TIMESTAMP_BYTES: usize = 8;

/// Separates these messages from all others that a key may sign.
const SUBTREE_LABEL: &[u8; 12] = b"subtree/v1\n\0";

/// The timestamp of a cosignature, and the signature after it. `None` if there is not that much, or the timestamp
/// is over [`TIMESTAMP_MAX`].
pub(crate) fn split(cosignature: &[u8]) -> Option<(u64, &[u8])> {
    let (seconds, signature) = cosignature.split_first_chunk::<TIMESTAMP_BYTES>()?;
    let seconds = u64::from_be_bytes(*seconds);
    (seconds <= TIMESTAMP_MAX).then_some((seconds, signature))
}

/// What a key of type `kind` called `name` signs for the checkpoint with this `text`.
///
/// * `seconds` - the timestamp; type 0x01, which is no cosignature, has none and signs the text alone.
///
/// # Errors
///
/// [`MalformedLine`] if the text is no checkpoint.
pub(crate) fn message(kind: SignatureType, name: &str, text: &str, seconds: u64) -> Result<Vec<u8>, MalformedLine> {
    let checkpoint = Checkpoint::parse_text(text)?;
    Ok(match kind {
        SignatureType::Ed25519 => text.as_bytes().to_vec(),
        SignatureType::Ed25519Cosignature => format!("cosignature/v1\ntime {seconds}\n{text}").into_bytes(),
        SignatureType::MlDsa44Cosignature => subtree_message(name, seconds, &checkpoint),
    })
}

/// The `cosigned_message` structure: a checkpoint is the subtree of all leaves, from 0 to its size.
fn subtree_message(name: &str, seconds: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    let Checkpoint { origin, head, .. } = checkpoint;
    let mut message = Vec::with_capacity(SUBTREE_LABEL.len() + 1 + name.len() + 1 + origin.len() + 3 * 8 + Hash::LEN);
    message.extend_from_slice(SUBTREE_LABEL);
    push_opaque(name, &mut message);
    message.extend_from_slice(&seconds.to_be_bytes());
    push_opaque(origin, &mut message);
    message.extend_from_slice(&0_u64.to_be_bytes());
    message.extend_from_slice(&head.size.0.to_be_bytes());
    message.extend_from_slice(head.root.as_bytes());
    message
}

/// `opaque text<1..2^8-1>` (RFC 8446 §3.4): the length in one byte, then the bytes.
fn push_opaque(text: &str, message: &mut Vec<u8>) {
    let length = u8::try_from(text.len()).expect("key names and origins have at most 255 bytes");
    message.push(length);
    message.extend_from_slice(text.as_bytes());
}

/// Why nothing was cosigned.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CosignError {
    /// Only checkpoints are cosigned.
    #[error("only a checkpoint can be cosigned")]
    Text(#[from] MalformedLine),
    /// The clock says something that no cosignature can hold.
    #[error("the time {seconds} is beyond what a cosignature can hold; set the clock")]
    Timestamp {
        /// POSIX seconds that were to be signed.
        seconds: u64,
    },
}

#[cfg(test)]
mod tests;
