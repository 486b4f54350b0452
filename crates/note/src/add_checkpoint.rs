//! What a log sends to a witness: `add-checkpoint` requests.
//!
//! ```text
//! old 20852014                                    size of the checkpoint that the witness cosigned last
//! PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=    consistency proof from there, 0 to 63 hashes
//!
//! example.com/log                                 the checkpoint, a signed note
//! 20852163
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — example.com/log Az3grl...
//! ```
//!
//! Source: C2SP tlog-witness, "add-checkpoint".

use std::fmt::Write as _;

use logwood_merkle::{Hash, TreeSize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::note::{NoteError, SignedNote};
use crate::text::{self, Lines, MalformedLine};

/// Largest request, in bytes: [`PROOF_LINES_MAX`] lines of 45 bytes, and a checkpoint with 16 post-quantum signatures
/// of 5 kB in base64.
pub const ADD_CHECKPOINT_BYTES_MAX: usize = 128 * 1024;

/// Most hashes of the proof (C2SP tlog-witness, "add-checkpoint").
pub const PROOF_LINES_MAX: usize = 63;

/// What names an origin in the paths of a witness: SHA-256 in lower-case hexadecimal (C2SP tlog-witness).
#[must_use]
pub fn origin_path(origin: &str) -> String {
    text::hex(&Sha256::digest(origin))
}

/// A well-formed request. Whether it deserves a cosignature is for the witness to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint that the witness is believed to have cosigned last; 0 for none.
    pub old_size: TreeSize,
    /// Consistency proof from there to the checkpoint, at most [`PROOF_LINES_MAX`] hashes.
    pub proof: Vec<Hash>,
    /// The checkpoint, with its signatures.
    pub checkpoint: SignedNote,
}

impl AddCheckpoint {
    /// Parses the body of a request, at most [`ADD_CHECKPOINT_BYTES_MAX`] bytes. That the note's text is a checkpoint
    /// is not looked at.
    ///
    /// # Errors
    ///
    /// * [`AddCheckpointError::TooLong`] beyond the limit.
    /// * [`AddCheckpointError::Line`] for the first line before the note that is not as the format has it.
    /// * [`AddCheckpointError::Note`] if what follows the empty line is no signed note.
    pub fn parse(body: &[u8]) -> Result<Self, AddCheckpointError> {
        if body.len() > ADD_CHECKPOINT_BYTES_MAX {
            return Err(AddCheckpointError::TooLong { actual: body.len() });
        }
        let body = std::str::from_utf8(body).map_err(|_| NoteError::NotText)?;
        let mut lines = Lines::new(body);
        let old_size = TreeSize(lines.decimal("old ", "`old <size in decimal>`")?);
        let mut proof = Vec::new();
        while !lines.at("\n") {
            let hash = lines.hash("the base64 of a 32-byte hash, or empty")?;
            if proof.len() == PROOF_LINES_MAX {
                return Err(lines.malformed("empty after 63 proof lines").into());
            }
            proof.push(hash);
        }
        lines.literal("")?;
        let checkpoint = SignedNote::parse(lines.rest().as_bytes())?;
        Ok(Self { old_size, proof, checkpoint })
    }

    /// The body of the request: the inverse of [`AddCheckpoint::parse`].
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        let mut body = String::with_capacity(32 + 45 * self.proof.len());
        writeln!(body, "old {}", self.old_size).expect("writing to a String cannot fail");
        for hash in &self.proof {
            text::push_hash_line(hash, &mut body);
        }
        body.push('\n');
        let mut body = body.into_bytes();
        body.extend_from_slice(self.checkpoint.as_bytes());
        body
    }
}

/// Parses the body of a `409 Conflict`: the size of the checkpoint that the witness cosigned last, and a newline.
///
/// # Errors
///
/// [`MalformedLine`] if it is anything else.
pub fn parse_conflict(body: &[u8]) -> Result<TreeSize, MalformedLine> {
    const EXPECTED: &str = "a tree size in decimal, and nothing after its newline";
    let mut lines = Lines::new(std::str::from_utf8(body).unwrap_or_default());
    let size = lines.decimal("", EXPECTED)?;
    if lines.rest().is_empty() { Ok(TreeSize(size)) } else { Err(lines.malformed(EXPECTED)) }
}

/// Why a request was refused as malformed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddCheckpointError {
    /// The body is longer than any that is accepted.
    #[error("{actual} bytes are more than {ADD_CHECKPOINT_BYTES_MAX}; send fewer signatures")]
    TooLong {
        /// Bytes in the body.
        actual: usize,
    },
    /// A line before the note.
    #[error(transparent)]
    Line(#[from] MalformedLine),
    /// The note.
    #[error(transparent)]
    Note(#[from] NoteError),
}

#[cfg(test)]
mod tests;
