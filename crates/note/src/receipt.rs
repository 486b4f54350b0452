//! Receipts: everything that proves, offline, that an entry is in a log.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>              optional; nothing vouches for it
//! index 7
//! <base64 hash>               zero or more, the leaf's sibling first
//!                             an empty line
//! <checkpoint, verbatim>
//! ```
//!
//! The entry itself is not part of its receipt. Source: C2SP tlog-proof, "Format" and "Verifying".

use std::fmt::Write as _;

use logwood_merkle::{Hash, LeafIndex, ProofError, verify};
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::note::NOTE_BYTES_MAX;
use crate::text::{self, Lines, MalformedLine};
use crate::trust::Trust;

/// Most hashes of an inclusion proof: the height of a tree of 2^64 leaves (RFC 6962 §2.1.1).
pub const PROOF_HASHES_MAX: usize = 64;

/// Most bytes of `extra`, before base64.
pub const EXTRA_BYTES_MAX: usize = 65_536;

/// Largest receipt, in bytes: a note, base64 of [`EXTRA_BYTES_MAX`] (87,384 bytes) and of
/// [`PROOF_HASHES_MAX`] hashes (2,880 bytes), and the words around them.
pub const RECEIPT_BYTES_MAX: usize = NOTE_BYTES_MAX + 100_000;

const HEADER: &str = "c2sp.org/tlog-proof@v1";
const EXTRA: &str = "`extra <base64>` of at most 65536 bytes";
const HASH: &str = "the base64 of one of at most 64 hashes, or the empty line after them";

/// A receipt. Whether it proves anything is for [`Receipt::verify`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Unauthenticated bytes that travel along; at most [`EXTRA_BYTES_MAX`].
    pub extra: Option<Vec<u8>>,
    /// Where the entry is in the log.
    pub index: LeafIndex,
    /// RFC 6962 inclusion proof, leaf side first; at most [`PROOF_HASHES_MAX`] hashes.
    pub proof: Vec<Hash>,
    /// The checkpoint note, verbatim; its text is the head that `proof` leads to.
    pub checkpoint: Vec<u8>,
}

impl Receipt {
    /// Parses `receipt`, at most [`RECEIPT_BYTES_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// * [`ReceiptError::TooLong`] beyond the limit.
    /// * [`ReceiptError::NotText`] if it is not UTF-8.
    /// * [`ReceiptError::Malformed`] for the first line that is not as the format has it.
    /// * [`ReceiptError::Checkpoint`] if what follows the empty line is not a checkpoint.
    pub fn parse(receipt: &[u8]) -> Result<Self, ReceiptError> {
        if receipt.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::TooLong { actual: receipt.len() });
        }
        let receipt = std::str::from_utf8(receipt).map_err(|_| ReceiptError::NotText)?;
        let mut lines = Lines::new(receipt);
        lines.literal(HEADER)?;
        let extra = if lines.at("extra ") { Some(parse_extra(&mut lines)?) } else { None };
        let index = LeafIndex(lines.decimal("index ", "`index <decimal>`")?);
        let proof = parse_proof(&mut lines)?;
        let checkpoint = lines.rest().as_bytes().to_vec();
        Checkpoint::parse_unverified(&checkpoint)?;
        Ok(Self { extra, index, proof, checkpoint })
    }

    /// The inverse of [`Receipt::parse`], as long as the fields keep to their documented bounds.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let capacity = 64 + 45 * self.proof.len() + self.checkpoint.len();
        let mut out = String::with_capacity(capacity);
        out.push_str(HEADER);
        out.push('\n');
        if let Some(extra) = &self.extra {
            out.push_str("extra ");
            text::push_base64(extra, &mut out);
            out.push('\n');
        }
        writeln!(out, "index {}", self.index.0).expect("writing to a String cannot fail");
        for hash in &self.proof {
            text::push_hash_line(hash, &mut out);
        }
        out.push('\n');
        let mut out = out.into_bytes();
        out.extend_from_slice(&self.checkpoint);
        out
    }

    /// Checks that `entry` is at [`Receipt::index`] of the log that `trust` is about, and returns
    /// the checkpoint that says so.
    ///
    /// * `entry` - the bytes that were appended, unhashed.
    /// * `trust` - the log's key, or a policy.
    /// * `origin` - the log's origin where it differs from the name of its key.
    ///
    /// `extra` and signatures of other keys have no say, as long as the receipt is well-formed.
    ///
    /// # Errors
    ///
    /// * [`ReceiptError::Checkpoint`] if the checkpoint is malformed, is not vouched for
    ///   by `trust`, or is another log's; the error inside tells which.
    /// * [`ReceiptError::Inclusion`] if the proof does not lead from entry to checkpoint.
    pub fn verify(
        &self,
        entry: &[u8],
        trust: &(impl Trust + ?Sized),
        origin: Option<&str>,
    ) -> Result<Checkpoint, ReceiptError> {
        self.verify_leaf(Hash::leaf(entry), trust, origin)
    }

    /// As [`Receipt::verify`], for who has the leaf hash only.
    ///
    /// # Errors
    ///
    /// As [`Receipt::verify`].
    pub fn verify_leaf(
        &self,
        leaf: Hash,
        trust: &(impl Trust + ?Sized),
        origin: Option<&str>,
    ) -> Result<Checkpoint, ReceiptError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, trust, origin)?;
        verify::inclusion(leaf, self.index, &checkpoint.head, &self.proof)?;
        Ok(checkpoint)
    }
}

fn parse_extra(lines: &mut Lines<'_>) -> Result<Vec<u8>, MalformedLine> {
    let extra = lines.next(EXTRA)?.strip_prefix("extra ").and_then(text::from_base64);
    extra.filter(|extra| extra.len() <= EXTRA_BYTES_MAX).ok_or(lines.malformed(EXTRA))
}

/// The hashes up to the empty line, and the empty line.
fn parse_proof(lines: &mut Lines<'_>) -> Result<Vec<Hash>, MalformedLine> {
    let mut proof = Vec::new();
    loop {
        let line = lines.next(HASH)?;
        if line.is_empty() {
            return Ok(proof);
        }
        let hash = text::hash(line).filter(|_| proof.len() < PROOF_HASHES_MAX);
        proof.push(hash.ok_or(lines.malformed(HASH))?);
    }
}

/// Why a receipt was refused: malformed, or one of the checks failed. Never trust it then.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The receipt is longer than any that is accepted.
    #[error("malformed receipt: {actual} bytes are more than {RECEIPT_BYTES_MAX}")]
    TooLong {
        /// Bytes in the receipt.
        actual: usize,
    },
    /// The receipt is not text.
    #[error("malformed receipt: not UTF-8 text")]
    NotText,
    /// A line is not as the format has it.
    #[error("malformed receipt")]
    Malformed(#[from] MalformedLine),
    /// The checkpoint is malformed, not signed by the log's key, or another log's.
    #[error("the receipt's checkpoint is refused")]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint is good, and the inclusion proof does not lead to it from the entry.
    #[error("the inclusion proof fails: this entry is not shown to be at this index of the log")]
    Inclusion(#[from] ProofError),
}

#[cfg(test)]
mod tests;
