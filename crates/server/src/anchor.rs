//! The anchor: the newest published checkpoint of every log, outside the store.
//!
//! A restored backup or an old disk image is an old log with a live key. The anchor is what keeps it from signing: at
//! start, a log whose store is behind its anchor is read-only.
//!
//! ```text
//! token <32 hex digits>          one process's beginning
//! log <name> <size> <root, hex>  a published head; the last line of a log counts
//! ```
//!
//! The file is appended to and synced before a head is served as published, and compacted by rename at start. A
//! process that finds another's token behind its own stops signing: the same directory runs twice.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use logwood_merkle::{Hash, TreeHead, TreeSize};
use parking_lot::Mutex;

/// Longest anchor that is read, in bytes: 10,000 logs take less than 2 MiB when compacted.
const ANCHOR_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The open anchor.
pub(crate) struct Anchor {
    path: PathBuf,
    token: String,
    state: Mutex<State>,
    /// Another process writes here: nothing is signed any more.
    is_foreign: AtomicBool,
}

struct State {
    file: File,
    heads: HashMap<String, TreeHead>,
}

impl Anchor {
    /// Reads the anchor, and writes it anew with this process's token.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let heads = match File::open(path) {
            Ok(file) => {
                let mut text = String::new();
                file.take(ANCHOR_BYTES_MAX).read_to_string(&mut text)?;
                parse(&text)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => return Err(error),
        };
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| io::Error::other("the system gives no random bytes"))?;
        let token = random.iter().fold(String::new(), |mut token, byte| {
            write!(token, "{byte:02x}").expect("writing to a String cannot fail");
            token
        });
        let mut text = format!("token {token}\n");
        for (log, head) in &heads {
            push_line(&mut text, log, head);
        }
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        let file = OpenOptions::new().read(true).append(true).open(path)?;
        let state = Mutex::new(State { file, heads });
        Ok(Self { path: path.to_owned(), token, state, is_foreign: AtomicBool::new(false) })
    }

    /// The newest head of `log` that was ever published.
    pub(crate) fn head(&self, log: &str) -> Option<TreeHead> {
        self.state.lock().heads.get(log).copied()
    }

    /// Whether another process has taken the anchor over: this one must sign nothing more.
    pub(crate) fn is_foreign(&self) -> bool {
        self.is_foreign.load(Ordering::Acquire)
    }

    /// Adds a published head and syncs it. `false` if another process has taken the anchor over.
    pub(crate) fn append(&self, log: &str, head: TreeHead) -> io::Result<bool> {
        let mut state = self.state.lock();
        if self.is_foreign() {
            return Ok(false);
        }
        let mut line = String::new();
        push_line(&mut line, log, &head);
        state.file.write_all(line.as_bytes())?;
        state.file.sync_data()?;
        state.heads.insert(log.to_owned(), head);
        let mut first = [0; 38];
        File::open(&self.path)?.read_exact(&mut first)?;
        if first[6..] != *self.token.as_bytes() {
            self.is_foreign.store(true, Ordering::Release);
        }
        Ok(!self.is_foreign())
    }
}

fn push_line(text: &mut String, log: &str, head: &TreeHead) {
    writeln!(text, "log {log} {} {}", head.size, head.root).expect("writing to a String cannot fail");
}

/// Reads every whole line; a last one that a crash cut short was never acted upon.
fn parse(text: &str) -> io::Result<HashMap<String, TreeHead>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut heads = HashMap::new();
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
mod tests {
    use super::*;

    fn head(size: u64) -> TreeHead {
        TreeHead { size: TreeSize(size), root: Hash::leaf(&size.to_be_bytes()) }
    }

    #[test]
    fn the_newest_head_survives_a_restart_and_a_torn_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ANCHOR");
        let anchor = Anchor::open(&path).expect("a new anchor");
        for size in 1..=3 {
            assert!(anchor.append("a", head(size)).expect("appended"));
        }
        assert!(anchor.append("b", head(9)).expect("appended"));
        let mut text = std::fs::read_to_string(&path).expect("readable");
        text.push_str("log a 4 00");
        std::fs::write(&path, text).expect("writable");

        let anchor = Anchor::open(&path).expect("a torn last line is forgiven");
        assert_eq!((anchor.head("a"), anchor.head("b"), anchor.head("c")), (Some(head(3)), Some(head(9)), None));
    }

    #[test]
    fn a_process_that_finds_another_token_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ANCHOR");
        let first = Anchor::open(&path).expect("opens");
        let second = Anchor::open(&path).expect("opens");
        assert!(!first.append("a", head(1)).expect("written"));
        assert!(!first.append("a", head(2)).expect("and never again"));
        assert!(second.append("a", head(1)).expect("written"));
    }

    #[test]
    fn damage_before_the_last_line_is_refused() {
        for text in ["log a x 00\nlog b 1 00\n", "nonsense\n", "log a 1 zz\n\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
