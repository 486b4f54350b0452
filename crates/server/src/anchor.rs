//! The anchor: the newest published checkpoint of every log, outside the store.
//!
//! A restored backup or an old disk image is an old log with a live key. The anchor is what keeps it from signing: at
//! start, a log whose store is behind its anchor is read-only, and so is one that signed and that the anchor does not
//! know: then the anchor was lost. A log is in the anchor before its first head is signed.
//!
//! The file is appended to and synced before a head is served as published, and compacted by rename: at start, when
//! it has grown, and when an append failed, for then nobody knows what its end looks like. A process that finds
//! another's token behind its own line stops signing: the same directory runs twice. `anchor/lines.rs` has the bytes.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use logwood_merkle::{TreeHead, TreeSize};
use parking_lot::Mutex;

mod file;
mod lines;

use file::{AnchorFile, Disk};
pub use lines::AnchoredHeads;

/// A file that is so many times longer than it need be is compacted.
const COMPACT_FACTOR: u64 = 4;

/// Shorter files are left alone, in bytes.
const COMPACT_BYTES_MIN: u64 = 1024 * 1024;

/// The open anchor.
pub(crate) struct Anchor<D = AnchorFile> {
    disk: D,
    /// The first line of the file, for as long as it is this process's.
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
    /// An append failed, or nobody knows into whose file it went: the file's end is not known.
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
    ///
    /// * `size` - that of a log in the store, by name.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`]: it is damaged, or the store is older than its unfinished last line. Then it
    /// stays as it was.
    pub(crate) fn open(path: &Path, size: impl Fn(&str) -> io::Result<Option<TreeSize>>) -> io::Result<Self> {
        let mut random = [0; lines::TOKEN_BYTES];
        getrandom::fill(&mut random).map_err(|_| io::Error::other("the system gives no random bytes"))?;
        Self::on(AnchorFile::new(path), random, size)
    }
}

impl<D: Disk> Anchor<D> {
    fn on(
        disk: D,
        random: [u8; lines::TOKEN_BYTES],
        size: impl Fn(&str) -> io::Result<Option<TreeSize>>,
    ) -> io::Result<Self> {
        let AnchoredHeads { heads, unfinished } = lines::parse(&disk.read()?.unwrap_or_default())?;
        if let Some((log, least)) = unfinished
            && size(&log)?.is_none_or(|size| size < least)
        {
            let problem = format!("its unfinished last line names size {least} of log `{log}`, which the store lacks");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let token = lines::token(random);
        let text = whole(&token, &heads);
        disk.replace(&text)?;
        let bytes = text.len() as u64;
        let state = Mutex::new(State { heads, bytes, compact_bytes: bytes, is_torn: false });
        Ok(Self { disk, token, state, is_foreign: AtomicBool::new(false) })
    }

    /// Whether it knows no log at all: it is new, or what it said is lost.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().heads.is_empty()
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
        let (mut newer, mut added, mut replaced_bytes) = (BTreeMap::new(), String::new(), 0);
        for (log, head) in heads {
            let known = newer.get(log).or_else(|| state.heads.get(log));
            if known.is_none_or(|known| known.size < head.size) {
                if let Some(known) = known {
                    replaced_bytes += lines::head(log, known).len() as u64;
                }
                added += &lines::head(log, head);
                newer.insert(log.clone(), *head);
            }
        }
        if added.is_empty() {
            return Ok(Anchored::Yes);
        }
        let bytes = state.bytes + added.len() as u64;
        let compact_bytes = state.compact_bytes + added.len() as u64 - replaced_bytes;
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
            state.bytes = compact.len() as u64;
        } else {
            state.is_torn = true;
            self.disk.append(&added)?;
            state.bytes = bytes;
        }
        // While this look fails, nobody knows whose file took the lines.
        let is_foreign = self.find_foreign()?;
        state.is_torn = false;
        state.heads.extend(newer);
        state.compact_bytes = compact_bytes;
        Ok(if is_foreign { Anchored::Foreign } else { Anchored::Yes })
    }

    /// Looks whether another process has taken the anchor over, without writing: for signatures that add nothing to it.
    pub(crate) fn look(&self) -> io::Result<Anchored> {
        let _still = self.state.lock();
        Ok(if self.find_foreign()? { Anchored::Foreign } else { Anchored::Yes })
    }

    /// Looks whose token the file holds.
    fn find_foreign(&self) -> io::Result<bool> {
        if self.disk.first_line()? != self.token {
            tracing::error!("another process writes this anchor: nothing more is signed or published");
            self.is_foreign.store(true, Ordering::Release);
        }
        Ok(self.is_foreign())
    }
}

/// The compacted file.
fn whole(token: &str, heads: &BTreeMap<String, TreeHead>) -> String {
    heads.iter().fold(token.to_owned(), |text, (log, head)| text + &lines::head(log, head))
}

/// What the anchor at `path` says. Nothing is written: for fsck, and for a repair, which must take back nothing that
/// was published.
///
/// # Errors
///
/// The file is not there or cannot be read; [`io::ErrorKind::InvalidData`] if it is damaged.
pub fn read_anchor(path: &Path) -> io::Result<AnchoredHeads> {
    match AnchorFile::new(path).read()? {
        Some(bytes) => lines::parse(&bytes),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

#[cfg(test)]
mod tests;
