//! What the witness remembers of a log, as bytes.
//!
//! ```text
//! logwood-witness/v1
//! sha256 <64 hex digits>          of all that follows this line
//! seconds <POSIX seconds>         timestamp of the cosignatures
//! log-lines <decimal>             how many of the signature lines are the log's; the others are ours
//!
//! <the cosigned checkpoint, verbatim as it is served>
//! ```
//!
//! One file a log, at most [`RECORD_BYTES_MAX`] bytes. The checksum is against bytes that rot: a write that a crash cut
//! short never gets the file's name.

use bytes::Bytes;
use logwood_merkle::TreeHead;
use logwood_note::{Checkpoint, SignedNote, hex};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Largest record, in bytes: a request's text and log signatures, our signatures, and four lines.
pub const RECORD_BYTES_MAX: usize = 192 * 1024;

const MAGIC: &str = "logwood-witness/v1\nsha256 ";

/// A cosigned checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    head: TreeHead,
    seconds: u64,
    log_lines: usize,
    note: Bytes,
    /// Where in `note` the text ends.
    text_bytes: usize,
    /// Where in `note` our signature lines begin.
    cosignatures_at: usize,
}

/// Why a record is of no use.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// It is longer than any that a witness writes.
    #[error("it has more than {RECORD_BYTES_MAX} bytes")]
    TooLong,
    /// The bytes are not those that were written.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum matches, and another program wrote it.
    #[error("it is not a record of this version")]
    Syntax,
}

impl Record {
    /// * `text`, `log_lines`, `cosignatures` - the parts of the note; lines with their newlines.
    pub(super) fn new(head: TreeHead, seconds: u64, text: &str, log_lines: &str, cosignatures: &str) -> Self {
        let note = format!("{text}\n{log_lines}{cosignatures}");
        Self {
            head,
            seconds,
            log_lines: log_lines.lines().count(),
            text_bytes: text.len(),
            cosignatures_at: note.len() - cosignatures.len(),
            note: note.into(),
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLong);
        }
        let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or(RecordError::Syntax)?;
        let (sum, rest) = rest.split_at_checked(65).ok_or(RecordError::Checksum)?;
        if sum != checksum_line(rest).as_bytes() {
            return Err(RecordError::Checksum);
        }
        Self::parse_body(rest).ok_or(RecordError::Syntax)
    }

    fn parse_body(body: &[u8]) -> Option<Self> {
        let (lines, note) = std::str::from_utf8(body).ok()?.split_once("\n\n")?;
        let (seconds, log_lines) = lines.split_once('\n')?;
        let seconds = seconds.strip_prefix("seconds ")?.parse().ok()?;
        let log_lines: usize = log_lines.strip_prefix("log-lines ")?.parse().ok()?;
        let signed = SignedNote::parse(note.as_bytes()).ok()?;
        let head = Checkpoint::parse_text(signed.text()).ok()?.head;
        let text_bytes = signed.text().len();
        let lines = note[text_bytes + 1..].split_inclusive('\n');
        let cosignatures_at = text_bytes + 1 + lines.take(log_lines).map(str::len).sum::<usize>();
        let is_cosigned = cosignatures_at < note.len();
        let note = Bytes::copy_from_slice(note.as_bytes());
        is_cosigned.then_some(Self { head, seconds, log_lines, note, text_bytes, cosignatures_at })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut body = format!("seconds {}\nlog-lines {}\n\n", self.seconds, self.log_lines).into_bytes();
        body.extend_from_slice(&self.note);
        let mut bytes = format!("{MAGIC}{}", checksum_line(&body)).into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    }

    pub(super) fn head(&self) -> TreeHead {
        self.head
    }

    /// Timestamp of the cosignatures, POSIX seconds.
    pub(super) fn seconds(&self) -> u64 {
        self.seconds
    }

    /// The checkpoint with all its signatures.
    pub(super) fn note(&self) -> &Bytes {
        &self.note
    }

    /// What was signed.
    pub(super) fn text(&self) -> &[u8] {
        &self.note[..self.text_bytes]
    }

    /// Our signature lines, each with its newline.
    pub(super) fn cosignatures(&self) -> Bytes {
        self.note.slice(self.cosignatures_at..)
    }
}

/// 64 hexadecimal digits and a newline.
fn checksum_line(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)) + "\n"
}
