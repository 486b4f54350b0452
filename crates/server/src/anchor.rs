//! The anchor: the newest published checkpoint of every log, outside the store.
//!
//! A restored backup or an old disk image is an old log with a live key. The anchor is what keeps it from signing: at
//! start, a log whose store is behind its anchor is read-only.
//!
//! ```text
//! token <32 hex digits>          the process that writes the file
//! log <name> <size> <root, hex>  a published head; the last line of a log counts
//! ```
//!
//! The file is appended to and synced before a head is served as published, and compacted by rename: at start, when
//! it has grown, and when an append failed, for then nobody knows what its end looks like. A process that finds
//! another's token behind its own line stops signing: the same directory runs twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use logwood_merkle::{Hash, TreeHead, TreeSize};
use parking_lot::Mutex;

mod file;

use file::{AnchorFile, Disk};

/// A file that is so many times longer than it need be is compacted.
const COMPACT_FACTOR: u64 = 4;

/// Shorter files are left alone, in bytes.
const COMPACT_BYTES_MIN: u64 = 1024 * 1024;

/// The open anchor.
pub(crate) struct Anchor<D = AnchorFile> {
    disk: D,
    token: String,
    state: Mutex<State>,
    /// Another process writes here: nothing is signed any more.
    is_foreign: AtomicBool,
}

struct State {
    heads: BTreeMap<String, TreeHead>,
    /// Length of the file.
    bytes: u64,
    /// Length that it would have if it were compacted.
    compact_bytes: u64,
    /// An append failed: the file's end is not known.
    is_torn: bool,
}

/// What an append found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchored {
    /// The heads are on disk.
    Yes,
    /// Another process has taken the anchor over: this one must sign nothing more.
    Foreign,
}

impl Anchor {
    /// Reads the anchor, and writes it anew with this process's token.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| io::Error::other("the system gives no random bytes"))?;
        Self::on(AnchorFile::new(path), random)
    }
}

impl<D: Disk> Anchor<D> {
    fn on(disk: D, random: [u8; 16]) -> io::Result<Self> {
        let heads = disk.read()?.map(|text| parse(&text)).transpose()?.unwrap_or_default();
        let token = random.iter().fold(String::new(), |mut token, byte| {
            write!(token, "{byte:02x}").expect("writing to a String cannot fail");
            token
        });
        let text = whole(&token, &heads);
        disk.replace(&text)?;
        let bytes = text.len() as u64;
        let state = Mutex::new(State { heads, bytes, compact_bytes: bytes, is_torn: false });
        Ok(Self { disk, token, state, is_foreign: AtomicBool::new(false) })
    }

    /// The newest head of `log` that was ever anchored.
    pub(crate) fn head(&self, log: &str) -> Option<TreeHead> {
        self.state.lock().heads.get(log).copied()
    }

    /// Whether another process has taken the anchor over: this one must sign nothing more.
    pub(crate) fn is_foreign(&self) -> bool {
        self.is_foreign.load(Ordering::Acquire)
    }

    /// Adds heads, with one sync. Those that are not larger than what the anchor holds of their log are there already.
    pub(crate) fn append(&self, heads: &[(String, TreeHead)]) -> io::Result<Anchored> {
        let mut state = self.state.lock();
        if self.is_foreign() {
            return Ok(Anchored::Foreign);
        }
        let (mut newer, mut lines, mut replaced) = (BTreeMap::new(), String::new(), String::new());
        for (log, head) in heads {
            let known = newer.get(log).or_else(|| state.heads.get(log));
            if known.is_none_or(|known| known.size < head.size) {
                if let Some(known) = known {
                    push_line(&mut replaced, log, known);
                }
                push_line(&mut lines, log, head);
                newer.insert(log.clone(), *head);
            }
        }
        if lines.is_empty() {
            return Ok(Anchored::Yes);
        }
        let bytes = state.bytes + lines.len() as u64;
        let compact_bytes = state.compact_bytes + lines.len() as u64 - replaced.len() as u64;
        if state.is_torn || bytes > COMPACT_BYTES_MIN + COMPACT_FACTOR * compact_bytes {
            // Whoever takes the file over between this look and the rename loses it again, and finds that out after
            // its own next line.
            if self.find_foreign()? {
                return Ok(Anchored::Foreign);
            }
            let mut newest = state.heads.clone();
            newest.extend(newer.clone());
            let compact = whole(&self.token, &newest);
            state.is_torn = true;
            self.disk.replace(&compact)?;
            (state.bytes, state.is_torn) = (compact.len() as u64, false);
        } else {
            state.is_torn = true;
            self.disk.append(&lines)?;
            (state.bytes, state.is_torn) = (bytes, false);
        }
        state.heads.extend(newer);
        state.compact_bytes = compact_bytes;
        Ok(if self.find_foreign()? { Anchored::Foreign } else { Anchored::Yes })
    }

    /// Looks whether another process has taken the anchor over, without writing: for signatures that add nothing to it.
    pub(crate) fn look(&self) -> io::Result<Anchored> {
        let _still = self.state.lock();
        Ok(if self.find_foreign()? { Anchored::Foreign } else { Anchored::Yes })
    }

    /// Looks whose token the file holds.
    fn find_foreign(&self) -> io::Result<bool> {
        if self.disk.first_line()? != format!("token {}\n", self.token) {
            tracing::error!("another process writes this anchor: nothing more is signed or published");
            self.is_foreign.store(true, Ordering::Release);
        }
        Ok(self.is_foreign())
    }
}

/// The compacted file.
fn whole(token: &str, heads: &BTreeMap<String, TreeHead>) -> String {
    let mut text = format!("token {token}\n");
    for (log, head) in heads {
        push_line(&mut text, log, head);
    }
    text
}

fn push_line(text: &mut String, log: &str, head: &TreeHead) {
    writeln!(text, "log {log} {} {}", head.size, head.root).expect("writing to a String cannot fail");
}

/// Reads every whole line; a last one that a crash cut short was never acted upon.
fn parse(text: &str) -> io::Result<BTreeMap<String, TreeHead>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut heads = BTreeMap::new();
    for line in whole.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["token", _] => {}
            ["log", name, size, root] => {
                let head =
                    size.parse().ok().zip(from_hex(root)).map(|(size, root)| TreeHead { size: TreeSize(size), root });
                heads.insert(name.to_owned(), head.ok_or_else(|| damaged(line))?);
            }
            _ => return Err(damaged(line)),
        }
    }
    Ok(heads)
}

/// The newest anchored head of each log that the anchor at `path` names. Nothing is written: for a repair, which must
/// take back nothing that was published.
///
/// # Errors
///
/// The file is not there, cannot be read, or is damaged before its last line.
pub fn read_anchor(path: &Path) -> io::Result<Vec<(String, TreeHead)>> {
    Ok(parse(&std::fs::read_to_string(path)?)?.into_iter().collect())
}

fn damaged(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the anchor is damaged at the line `{line}`"))
}

fn from_hex(hex: &str) -> Option<Hash> {
    let digits = hex.as_bytes().as_chunks::<2>().0;
    let bytes = digits.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let bytes = bytes.collect::<Option<Vec<u8>>>().filter(|_| hex.len() == 2 * Hash::LEN)?;
    Hash::try_from(&bytes[..]).ok()
}

#[cfg(test)]
mod tests;
