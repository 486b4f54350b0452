//! Range files: one proof for a run of entries, as `logwood export` writes it.
//!
//! ```text
//! logwood-range-proof/v1
//! range 2 5                   half-open: entries 2, 3 and 4
//! left 1
//! <base64 hash>               in order of index
//! right 2
//! <base64 hash>
//! <base64 hash>
//!                             an empty line
//! <checkpoint, verbatim>
//! ```
//!
//! The entries are in a file of their own, see [`crate::entries`]. The format is Logwood's; the
//! hashes are those of [`logwood_merkle::range`].

use std::fmt::Write as _;
use std::ops::Range;

use logwood_merkle::{Hash, LeafIndex, ProofError, RangeProof, range};
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::note::NOTE_BYTES_MAX;
use crate::text::{self, Lines, MalformedLine};
use crate::trust::Trust;

/// Most hashes on either side of a range: the height of a tree of 2^64 leaves.
pub const SIDE_HASHES_MAX: usize = 64;

/// Largest range file, in bytes: a note, two sides of [`SIDE_HASHES_MAX`] hashes (5,760 bytes)
/// and the words around them.
pub const RANGE_FILE_BYTES_MAX: usize = NOTE_BYTES_MAX + 10_000;

const HEADER: &str = "logwood-range-proof/v1";
const RANGE: &str = "`range <first> <end>` with first < end";
const LEFT: &str = "`left <count>` with a count of at most 64";
const RIGHT: &str = "`right <count>` with a count of at most 64";
const HASH: &str = "the base64 of a 32-byte hash";
const EMPTY: &str = "the empty line after the hashes";

/// A range proof and the checkpoint it leads to. Whether it proves anything is for
/// [`RangeFile::verify`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeFile {
    /// Indices of the entries, half-open, not empty.
    pub range: Range<u64>,
    /// Roots of the subtrees left of the range, in order of index; at most [`SIDE_HASHES_MAX`].
    pub left: Vec<Hash>,
    /// Roots of the subtrees right of the range, in order of index; at most [`SIDE_HASHES_MAX`].
    pub right: Vec<Hash>,
    /// The checkpoint note, verbatim.
    pub checkpoint: Vec<u8>,
}

impl RangeFile {
    /// Parses `file`, at most [`RANGE_FILE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// * [`RangeFileError::TooLong`] beyond the limit.
    /// * [`RangeFileError::NotText`] if it is not UTF-8.
    /// * [`RangeFileError::Malformed`] for the first line that is not as the format has it.
    /// * [`RangeFileError::Checkpoint`] if what follows the empty line is not a checkpoint.
    pub fn parse(file: &[u8]) -> Result<Self, RangeFileError> {
        if file.len() > RANGE_FILE_BYTES_MAX {
            return Err(RangeFileError::TooLong { actual: file.len() });
        }
        let file = std::str::from_utf8(file).map_err(|_| RangeFileError::NotText)?;
        let mut lines = Lines::new(file);
        lines.literal(HEADER)?;
        let range = parse_range(lines.next(RANGE)?).ok_or(lines.malformed(RANGE))?;
        let left = parse_side(&mut lines, "left ", LEFT)?;
        let right = parse_side(&mut lines, "right ", RIGHT)?;
        if !lines.next(EMPTY)?.is_empty() {
            return Err(lines.malformed(EMPTY).into());
        }
        let checkpoint = lines.rest().as_bytes().to_vec();
        Checkpoint::parse_unverified(&checkpoint)?;
        Ok(Self { range, left, right, checkpoint })
    }

    /// The inverse of [`RangeFile::parse`], as long as the fields keep to their documented bounds.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{HEADER}\nrange {} {}\n", self.range.start, self.range.end);
        for (side, hashes) in [("left", &self.left), ("right", &self.right)] {
            writeln!(out, "{side} {}", hashes.len()).expect("writing to a String cannot fail");
            for hash in hashes {
                text::push_hash_line(hash, &mut out);
            }
        }
        out.push('\n');
        let mut out = out.into_bytes();
        out.extend_from_slice(&self.checkpoint);
        out
    }

    /// Checks that `leaves` are the leaves at [`RangeFile::range`] of the log that
    /// `trust` is about, and returns the checkpoint that says so.
    ///
    /// * `leaves` - the RFC 6962 leaf hash of each entry, in order; as many as the range has.
    /// * `trust` - the log's key, or a policy.
    /// * `origin` - the log's origin where it differs from the name of its key.
    ///
    /// # Errors
    ///
    /// * [`RangeFileError::Checkpoint`] if the checkpoint is malformed, is not vouched for
    ///   by `trust`, or is another log's; the error inside tells which.
    /// * [`RangeFileError::EntryCount`] if entries are missing or there are too many.
    /// * [`RangeFileError::Proof`] if the hashes do not lead from the leaves to the checkpoint.
    pub fn verify(
        &self,
        leaves: &[Hash],
        trust: &(impl Trust + ?Sized),
        origin: Option<&str>,
    ) -> Result<Checkpoint, RangeFileError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, trust, origin)?;
        let expected = self.range.end.saturating_sub(self.range.start);
        if leaves.len() as u64 != expected {
            return Err(RangeFileError::EntryCount { expected, actual: leaves.len() as u64 });
        }
        let proof = RangeProof { left: self.left.clone(), right: self.right.clone() };
        range::verify(LeafIndex(self.range.start), leaves, &checkpoint.head, &proof)?;
        Ok(checkpoint)
    }
}

fn parse_range(line: &str) -> Option<Range<u64>> {
    let (first, end) = line.strip_prefix("range ")?.split_once(' ')?;
    let range = text::decimal(first)?..text::decimal(end)?;
    (!range.is_empty()).then_some(range)
}

fn parse_side(lines: &mut Lines<'_>, prefix: &str, expected: &'static str) -> Result<Vec<Hash>, MalformedLine> {
    let count = lines.decimal(prefix, expected)?;
    if count > SIDE_HASHES_MAX as u64 {
        return Err(lines.malformed(expected));
    }
    (0..count).map(|_| lines.hash(HASH)).collect()
}

/// Why a range file was refused: malformed, or one of the checks failed. Never trust it then.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RangeFileError {
    /// The file is longer than any that is accepted.
    #[error("malformed range file: {actual} bytes are more than {RANGE_FILE_BYTES_MAX}")]
    TooLong {
        /// Bytes in the file.
        actual: usize,
    },
    /// The file is not text.
    #[error("malformed range file: not UTF-8 text")]
    NotText,
    /// A line is not as the format has it.
    #[error("malformed range file")]
    Malformed(#[from] MalformedLine),
    /// The checkpoint is malformed, not signed by the log's key, or another log's.
    #[error("the range file's checkpoint is refused")]
    Checkpoint(#[from] CheckpointError),
    /// Entries and range do not belong together.
    #[error("the range has {expected} entries, but {actual} were given")]
    EntryCount {
        /// Entries in the range.
        expected: u64,
        /// Entries given.
        actual: u64,
    },
    /// The checkpoint is good, and the range proof does not lead to it from the entries.
    #[error("the range proof fails: these entries are not shown to be the log's")]
    Proof(#[from] ProofError),
}

#[cfg(test)]
mod tests;
