//! Seals: a log's signed promise that it will never grow again.
//!
//! ```text
//! logwood-seal/v1
//! example.com/log             origin
//! 42                          tree size, final
//! <base64 root hash>
//! 1774353600                  POSIX seconds
//! ```
//!
//! No origin begins with `logwood-`, so a seal cannot pass for a checkpoint or the reverse. A
//! seal and any larger signed head together are evidence against the log.

use std::fmt::Write as _;

use logwood_merkle::{TreeHead, TreeSize};
use thiserror::Error;

use crate::checkpoint::ORIGIN_BYTES_MAX;
use crate::key::{VerifierKey, is_key_name};
use crate::note::{NoteError, SignedNote, push_signature};
use crate::private_key::SigningKey;
use crate::text::{self, Lines, MalformedLine};

const HEADER: &str = "logwood-seal/v1";
const ORIGIN: &str = "an origin without space, `+` and control characters";

/// The last head of a log. By itself it is a claim that nobody signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Identity of the log, a valid [`crate::Origin`].
    pub origin: String,
    /// Size and root hash of the final tree.
    pub head: TreeHead,
    /// When the log was sealed by its own clock, in POSIX seconds.
    pub seconds: u64,
}

impl Seal {
    /// Parses a note's text.
    ///
    /// # Errors
    ///
    /// [`MalformedLine`] for the first line that is not as the format has it.
    pub fn parse_text(text: &str) -> Result<Self, MalformedLine> {
        let mut lines = Lines::new(text);
        lines.literal(HEADER)?;
        let origin = lines.next(ORIGIN)?;
        if !is_key_name(origin) || origin.len() > ORIGIN_BYTES_MAX {
            return Err(lines.malformed(ORIGIN));
        }
        let size = TreeSize(lines.decimal("", "the tree size in decimal")?);
        let root = lines.hash("the base64 of a 32-byte root hash")?;
        let seconds = lines.decimal("", "the time in POSIX seconds")?;
        if !lines.rest().is_empty() {
            return Err(lines.malformed("the last line of the seal"));
        }
        Ok(Self { origin: origin.to_owned(), head: TreeHead { size, root }, seconds })
    }

    /// The note text: the inverse of [`Seal::parse_text`], if the origin is valid.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = format!("{HEADER}\n{}\n{}\n", self.origin, self.head.size.0);
        text::push_hash_line(&self.head.root, &mut out);
        writeln!(out, "{}", self.seconds).expect("writing to a String cannot fail");
        out
    }

    /// Whether `note` begins as a seal does: something else may be where a seal is looked for.
    #[must_use]
    pub fn is_claimed_by(note: &[u8]) -> bool {
        note.strip_prefix(HEADER.as_bytes()).is_some_and(|rest| rest.starts_with(b"\n"))
    }

    /// The note, signed by the log's `key`.
    ///
    /// Whether the log may be sealed is the caller's to know: this signs whatever it is given.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let text = self.to_text();
        let mut note = format!("{text}\n");
        push_signature(key, &text, &mut note);
        note.into_bytes()
    }

    /// The seal in `note`, if `key` signed it and it is the log's that the caller means.
    ///
    /// * `origin` - the log's origin where it differs from the name of its key.
    ///
    /// # Errors
    ///
    /// * [`SealError::Note`] if the note is malformed, or not signed by `key`.
    /// * [`SealError::Text`] if the signed text is not a seal.
    /// * [`SealError::Origin`] if it is another log's.
    pub fn open(note: &[u8], key: &VerifierKey, origin: Option<&str>) -> Result<Self, SealError> {
        let note = SignedNote::parse(note)?;
        note.verify(std::slice::from_ref(key))?;
        let seal = Self::parse_text(note.text())?;
        let expected = origin.unwrap_or(key.name());
        if seal.origin != expected {
            return Err(SealError::Origin { expected: expected.to_owned(), actual: seal.origin });
        }
        Ok(seal)
    }
}

/// Why a seal was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// The note is malformed or not signed as it has to be; the variant inside tells which.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note's text is not a seal.
    #[error("malformed seal")]
    Text(#[from] MalformedLine),
    /// The seal belongs to another log.
    #[error("the seal is of log {actual}, not {expected}; check which log is meant")]
    Origin {
        /// Origin that the caller asked for, or the name of the key.
        expected: String,
        /// Origin in the seal.
        actual: String,
    },
}

#[cfg(test)]
mod tests;
