//! The lines of the anchor, each with a checksum of its own.
//!
//! ```text
//! token <32 hex digits> <check>          the process that writes the file; the first line
//! log <name> <size> <root, hex> <check>  a head; the last line of a log counts
//! ```
//!
//! The check is the first 8 bytes, in hex, of SHA-256 over what stands before it, without the space in between. A line
//! counts only if it is, byte for byte, what this program writes. Anything else may be a head that the log signed and
//! that is no longer known, so it is damage.
//!
//! **The unfinished line.** A crash in the middle of an append leaves the beginning of what was to be written. Nothing
//! of that append was released, since it was not synced, so a last line without its LF may be dropped. What stands
//! before it is kept: lines of appends before, which were synced, and whole lines of the same append, which are true
//! although nobody waited for them, since a head is in the store before it is anchored. But rot, or a copy that broke
//! off, can cut a line that *was* synced, and looks the same. The same order tells the two apart: what the unfinished
//! line names, as far as it can be read, must be in the store already. A store that lacks it is an old one.

use std::collections::BTreeMap;
use std::io;

use logwood_merkle::{Hash, TreeHead, TreeSize};
use logwood_note::hex;
use sha2::{Digest as _, Sha256};

/// Bytes of SHA-256 that a line ends with.
const CHECK_BYTES: usize = 8;

/// Bytes of a process's token.
pub(super) const TOKEN_BYTES: usize = 16;

/// Length of the first line, in bytes, with its LF.
pub(super) const TOKEN_LINE_BYTES: usize = "token ".len() + 2 * TOKEN_BYTES + 1 + 2 * CHECK_BYTES + 1;

/// What an anchor says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AnchoredHeads {
    /// The newest head of each log, by name.
    pub heads: BTreeMap<String, TreeHead>,
    /// The log and the least size that an unfinished last line names: a store that lacks it is an old one.
    pub unfinished: Option<(String, TreeSize)>,
}

impl AnchoredHeads {
    /// Every log that is named, and the least size that a store must have of it.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, TreeSize)> {
        let heads = self.heads.iter().map(|(name, head)| (name.as_str(), head.size));
        heads.chain(self.unfinished.iter().map(|(name, size)| (name.as_str(), *size)))
    }
}

/// The first line of a process's file.
pub(super) fn token(random: [u8; TOKEN_BYTES]) -> String {
    checked(&format!("token {}", hex(&random)))
}

/// The line of a head.
pub(super) fn head(log: &str, head: &TreeHead) -> String {
    checked(&format!("log {log} {} {}", head.size, head.root))
}

fn checked(text: &str) -> String {
    format!("{text} {}\n", hex(&Sha256::digest(text)[..CHECK_BYTES]))
}

/// Reads an anchor. An empty one says nothing.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`]: which line is not what this program writes.
pub(super) fn parse(bytes: &[u8]) -> io::Result<AnchoredHeads> {
    let mut anchored = AnchoredHeads::default();
    for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        let text = str::from_utf8(line).ok();
        match text.map(|text| text.split(' ').collect::<Vec<_>>()).as_deref() {
            // The file begins with a rename, so its first line is whole.
            Some(["token", random, _]) if number == 1 => {
                let random = from_hex(random).and_then(|random| random.try_into().ok());
                if random.map(token).as_deref() != text {
                    return Err(damaged(number));
                }
            }
            Some(["log", name, size, root, _]) if number > 1 && line.ends_with(b"\n") => {
                let root = from_hex(root).and_then(|root| Hash::try_from(&root[..]).ok());
                let known = size.parse().ok().zip(root).map(|(size, root)| TreeHead { size: TreeSize(size), root });
                let known = known.filter(|known| Some(&*head(name, known)) == text).ok_or_else(|| damaged(number))?;
                anchored.heads.insert((*name).to_owned(), known);
            }
            _ if number > 1 && !line.ends_with(b"\n") => anchored.unfinished = named(line),
            _ => return Err(damaged(number)),
        }
    }
    Ok(anchored)
}

/// The log and the size that the beginning of a line names. Digits that are missing only make the size larger.
fn named(line: &[u8]) -> Option<(String, TreeSize)> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (kind, name, size) = (parts.next()?, parts.next()?, parts.next()?);
    let size = str::from_utf8(size).ok()?.parse().ok()?;
    (kind == b"log").then(|| (String::from_utf8_lossy(name).into_owned(), TreeSize(size)))
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let (digits, rest) = hex.as_bytes().as_chunks::<2>();
    let bytes = digits.iter().map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    bytes.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())
}

fn damaged(number: usize) -> io::Error {
    let problem = format!("line {number} is damaged");
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
