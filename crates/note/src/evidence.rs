//! Evidence: one file that proves, to anybody who has the key, that a log or a witness broke its word.
//!
//! ```text
//! logwood-evidence/v1
//! kind a
//! part first 193          name of the part and its length, then its bytes verbatim; no newline is added
//! <193 bytes>part second 193
//! <193 bytes>
//!
//! kind  parts                                  what they are
//! a     first, second                          two checkpoints of one size and different roots
//! b     old, new, root, proof                  two checkpoints, and a consistency proof to the new one from
//!                                              another root than the old one's
//! c     first, first-leaf, second, second-leaf two receipts of different leaves at one index
//! d     earlier, later                         two cosigned checkpoints, the later one smaller
//! e     seal, head                             a seal, and a checkpoint of a larger size
//! ```
//!
//! Hashes are lines of base64. Each kind is a contradiction between things that one party signed, or between one of
//! them and what a hash commits it to, so that no honest party can be framed: that would take a forged signature or
//! a collision of SHA-256. A failed proof is no evidence, since whoever hands it on may have spoiled it.

mod judge;

use logwood_merkle::Hash;
use thiserror::Error;

pub use judge::{NotProved, Proved};

use crate::receipt::RECEIPT_BYTES_MAX;
use crate::text;

/// Largest evidence file, in bytes: two receipts, and the words around them.
pub const EVIDENCE_BYTES_MAX: usize = 2 * RECEIPT_BYTES_MAX + 10_000;

/// Most hashes of a consistency proof (RFC 6962 §2.1.2 in a tree of 2^64 leaves).
const PROOF_HASHES_MAX: usize = 65;

const HEADER: &[u8] = b"logwood-evidence/v1";

/// What is put forward against a log or a witness. [`Evidence::judge`] says whether it proves anything.
///
/// Notes and receipts are kept verbatim, well-formed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Kind a: a log signed two trees of one size.
    SplitView {
        /// A checkpoint.
        first: Vec<u8>,
        /// Another of the same size.
        second: Vec<u8>,
    },
    /// Kind b: a log signed a tree that does not begin with one that it signed before.
    Rewrite {
        /// The smaller checkpoint.
        old: Vec<u8>,
        /// The larger checkpoint.
        new: Vec<u8>,
        /// The root at the old size in the tree that `new` commits to.
        root: Hash,
        /// RFC 6962 consistency proof from that root at the old size to `new`; at most 65 hashes.
        proof: Vec<Hash>,
    },
    /// Kind c: a log signed two trees with different entries at one index.
    Swap {
        /// A receipt.
        first: Vec<u8>,
        /// The leaf hash that it is for.
        first_leaf: Hash,
        /// Another receipt of the same index.
        second: Vec<u8>,
        /// The leaf hash that that is for.
        second_leaf: Hash,
    },
    /// Kind d: a cosigner took back what it had seen.
    Rollback {
        /// A checkpoint that it cosigned.
        earlier: Vec<u8>,
        /// A smaller one that it cosigned at a later time.
        later: Vec<u8>,
    },
    /// Kind e: a log grew after its seal.
    BrokenSeal {
        /// The seal.
        seal: Vec<u8>,
        /// A checkpoint of a larger size.
        head: Vec<u8>,
    },
}

impl Evidence {
    /// Parses an evidence file, at most [`EVIDENCE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`] if it is not as the format has it. What the parts hold is not looked at, but for hashes.
    pub fn parse(file: &[u8]) -> Result<Self, EvidenceError> {
        if file.len() > EVIDENCE_BYTES_MAX {
            return Err(EvidenceError::TooLong { actual: file.len() });
        }
        let mut reader = Reader { rest: file };
        if reader.line() != Some(HEADER) {
            return Err(EvidenceError::Header);
        }
        let kind = reader.line().and_then(|line| line.strip_prefix(b"kind ")).ok_or(EvidenceError::Kind)?;
        let evidence = match kind {
            b"a" => Self::SplitView { first: reader.part("first")?, second: reader.part("second")? },
            b"b" => Self::Rewrite {
                old: reader.part("old")?,
                new: reader.part("new")?,
                root: reader.hash("root")?,
                proof: reader.hashes("proof")?,
            },
            b"c" => Self::Swap {
                first: reader.part("first")?,
                first_leaf: reader.hash("first-leaf")?,
                second: reader.part("second")?,
                second_leaf: reader.hash("second-leaf")?,
            },
            b"d" => Self::Rollback { earlier: reader.part("earlier")?, later: reader.part("later")? },
            b"e" => Self::BrokenSeal { seal: reader.part("seal")?, head: reader.part("head")? },
            _ => return Err(EvidenceError::Kind),
        };
        if reader.rest.is_empty() { Ok(evidence) } else { Err(EvidenceError::Trailing) }
    }

    /// The file: the inverse of [`Evidence::parse`], as long as the fields keep to their documented bounds.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = HEADER.to_vec();
        out.extend_from_slice(format!("\nkind {}\n", self.kind()).as_bytes());
        let mut part = |name: &str, bytes: &[u8]| {
            out.extend_from_slice(format!("part {name} {}\n", bytes.len()).as_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::SplitView { first, second } => {
                part("first", first);
                part("second", second);
            }
            Self::Rewrite { old, new, root, proof } => {
                part("old", old);
                part("new", new);
                part("root", &hash_lines(&[*root]));
                part("proof", &hash_lines(proof));
            }
            Self::Swap { first, first_leaf, second, second_leaf } => {
                part("first", first);
                part("first-leaf", &hash_lines(&[*first_leaf]));
                part("second", second);
                part("second-leaf", &hash_lines(&[*second_leaf]));
            }
            Self::Rollback { earlier, later } => {
                part("earlier", earlier);
                part("later", later);
            }
            Self::BrokenSeal { seal, head } => {
                part("seal", seal);
                part("head", head);
            }
        }
        out
    }

    /// The letter of the kind: `a` to `e`.
    #[must_use]
    pub fn kind(&self) -> char {
        match self {
            Self::SplitView { .. } => 'a',
            Self::Rewrite { .. } => 'b',
            Self::Swap { .. } => 'c',
            Self::Rollback { .. } => 'd',
            Self::BrokenSeal { .. } => 'e',
        }
    }
}

/// Reads a file from the front.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next line without its newline, which must be there.
    fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|&byte| byte == b'\n')?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Some(line)
    }

    /// The bytes of the next part, which must be called `name`.
    fn part(&mut self, name: &'static str) -> Result<Vec<u8>, EvidenceError> {
        let malformed = EvidenceError::Part { name };
        let line = self.line().and_then(|line| std::str::from_utf8(line).ok()).ok_or(malformed.clone())?;
        let length = line.strip_prefix("part ").and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let length = length.and_then(text::decimal).and_then(|length| usize::try_from(length).ok());
        let (bytes, rest) = length.and_then(|length| self.rest.split_at_checked(length)).ok_or(malformed)?;
        self.rest = rest;
        Ok(bytes.to_vec())
    }

    fn hashes(&mut self, name: &'static str) -> Result<Vec<Hash>, EvidenceError> {
        let malformed = || EvidenceError::Part { name };
        let bytes = self.part(name)?;
        let lines = std::str::from_utf8(&bytes).map_err(|_| malformed())?;
        let mut hashes = Vec::new();
        for line in lines.split_inclusive('\n') {
            let hash = line.strip_suffix('\n').and_then(text::hash).filter(|_| hashes.len() < PROOF_HASHES_MAX);
            hashes.push(hash.ok_or_else(malformed)?);
        }
        Ok(hashes)
    }

    fn hash(&mut self, name: &'static str) -> Result<Hash, EvidenceError> {
        let hashes = self.hashes(name)?;
        if let [hash] = hashes[..] { Ok(hash) } else { Err(EvidenceError::Part { name }) }
    }
}

fn hash_lines(hashes: &[Hash]) -> Vec<u8> {
    let mut lines = String::with_capacity(45 * hashes.len());
    for hash in hashes {
        text::push_hash_line(hash, &mut lines);
    }
    lines.into_bytes()
}

/// Why a file is no evidence file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The file is longer than any that is accepted.
    #[error("malformed evidence: {actual} bytes are more than {EVIDENCE_BYTES_MAX}")]
    TooLong {
        /// Bytes in the file.
        actual: usize,
    },
    /// The first line is another.
    #[error("malformed evidence: the first line is not `logwood-evidence/v1`")]
    Header,
    /// The second line is another.
    #[error("malformed evidence: the second line is not `kind` and a letter from a to e")]
    Kind,
    /// The part is not where it should be, is shorter than it says, or does not hold hashes where it should.
    #[error("malformed evidence: the part `{name}` is missing, cut off, or not what it should be")]
    Part {
        /// Name of the part.
        name: &'static str,
    },
    /// Something follows the last part.
    #[error("malformed evidence: something follows the last part")]
    Trailing,
}

#[cfg(test)]
mod tests;
