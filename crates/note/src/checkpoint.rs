//! Checkpoints: a signed note whose text is a tree head.
//!
//! ```text
//! example.com/log                                 origin
//! 42                                              tree size
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=    root hash
//! anything                                        extension lines, ignored
//! ```
//!
//! Source: C2SP tlog-checkpoint, "Note text".

use std::fmt::Write as _;

use logwood_merkle::{TreeHead, TreeSize};
use thiserror::Error;

use crate::note::{self, NoteError, SignedNote};
use crate::policy::QuorumError;
use crate::private_key::SigningKey;
use crate::text::{self, Lines, MalformedLine};
use crate::trust::Trust;

/// Longest origin, in bytes (C2SP tlog-cosignature gives it a one-byte length).
pub const ORIGIN_BYTES_MAX: usize = 255;

/// Most extension lines. They are discouraged and mean nothing to us.
pub const EXTENSIONS_MAX: usize = 16;

/// A tree head with the log that it belongs to. By itself it is a claim that nobody signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Identity of the log: one line, 1 to [`ORIGIN_BYTES_MAX`] bytes.
    pub origin: String,
    /// Size and root hash of the tree.
    pub head: TreeHead,
    /// Extension lines, not empty, without their newlines; at most [`EXTENSIONS_MAX`].
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// Parses a note's text.
    ///
    /// # Errors
    ///
    /// [`MalformedLine`] for the first line that is not as the format has it.
    pub fn parse_text(text: &str) -> Result<Self, MalformedLine> {
        let mut lines = Lines::new(text);
        let origin = lines.next(ORIGIN)?;
        if !is_line(origin) || origin.len() > ORIGIN_BYTES_MAX {
            return Err(lines.malformed(ORIGIN));
        }
        let size = TreeSize(lines.decimal("", "the tree size in decimal")?);
        let root = lines.hash("the base64 of a 32-byte root hash")?;

        let mut extensions = Vec::new();
        while !lines.rest().is_empty() {
            let line = lines.next(EXTENSION)?;
            if !is_line(line) || extensions.len() == EXTENSIONS_MAX {
                return Err(lines.malformed(EXTENSION));
            }
            extensions.push(line.to_owned());
        }
        Ok(Self { origin: origin.to_owned(), head: TreeHead { size, root }, extensions })
    }

    /// The note text: the inverse of [`Checkpoint::parse_text`], as long as the fields keep to
    /// their documented bounds.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = head_text(&self.origin, &self.head);
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// The checkpoint in `note`, if those whom the caller trusts vouch for it: [`Trust::open`] says how.
    ///
    /// * `note` - the note, verbatim; at most [`note::NOTE_BYTES_MAX`] bytes.
    /// * `trust` - a log's key, or a policy.
    /// * `origin` - the log's origin where it differs from the name of its key.
    ///
    /// # Errors
    ///
    /// As [`Trust::open`].
    pub fn open(note: &[u8], trust: &(impl Trust + ?Sized), origin: Option<&str>) -> Result<Self, CheckpointError> {
        trust.open(note, origin).map(|trusted| trusted.checkpoint)
    }

    /// The checkpoint that `note` claims, with no look at its signatures.
    ///
    /// # Errors
    ///
    /// * [`CheckpointError::Note`] if the note is malformed.
    /// * [`CheckpointError::Text`] if its text is not a checkpoint.
    pub fn parse_unverified(note: &[u8]) -> Result<Self, CheckpointError> {
        Ok(Self::parse_text(SignedNote::parse(note)?.text())?)
    }
}

/// The checkpoint note of `head`, signed by `key`, without extension lines.
///
/// * `origin` - one line of 1 to [`ORIGIN_BYTES_MAX`] bytes, in our logs the name of `key`.
///
/// Whether the head may be signed is the caller's to know: this signs whatever it is given.
#[must_use]
pub fn sign_checkpoint(key: &SigningKey, origin: &str, head: &TreeHead) -> Vec<u8> {
    let text = head_text(origin, head);
    // The signature line is a name, 92 characters of base64 and 6 bytes around them.
    let mut note = String::with_capacity(text.len() + key.name().len() + 100);
    note.push_str(&text);
    note.push('\n');
    note::push_signature(key, &text, &mut note);
    note.into_bytes()
}

const ORIGIN: &str = "an origin of 1 to 255 bytes";
const EXTENSION: &str = "one of at most 16 extension lines, which are not empty";

fn head_text(origin: &str, head: &TreeHead) -> String {
    // At most 20 digits of size, 44 characters of root, and three newlines.
    let mut text = String::with_capacity(origin.len() + 67);
    writeln!(text, "{origin}\n{}", head.size.0).expect("writing to a String cannot fail");
    text::push_hash_line(&head.root, &mut text);
    text
}

/// Whether `text` is a line that a note's text may hold, and not the empty one.
fn is_line(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte >= b' ')
}

/// Why a checkpoint was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The note is malformed or not signed as it has to be; the variant inside tells which.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note's text is not a checkpoint.
    #[error("malformed checkpoint")]
    Text(#[from] MalformedLine),
    /// Nothing vouches for some lines of the checkpoint.
    #[error("the checkpoint has extension lines, and no signature that was verified covers them")]
    Extensions,
    /// The key can only be a witness's.
    #[error("a key of type 0x04 is a witness's; name the log's own key")]
    NotALogKey,
    /// Witnesses signed, and no log.
    #[error("no log that is trusted signed the checkpoint, only witnesses did")]
    NotByLog,
    /// Too few witnesses cosigned.
    #[error("too few witnesses vouch for the checkpoint")]
    Quorum(#[from] QuorumError),
    /// The checkpoint belongs to another log.
    #[error("the checkpoint is of log {actual}, not {expected}; check which log is meant")]
    Origin {
        /// Origin that the caller asked for, or the name of the key.
        expected: String,
        /// Origin in the checkpoint.
        actual: String,
    },
}

#[cfg(test)]
mod tests;
