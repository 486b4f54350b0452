//! Real events: lines of files, or what this machine did.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use logwood_store::ENTRY_BYTES_MAX;

/// Where Debian's package manager writes what it does.
const PACKAGE_LOG: &str = "/var/log/dpkg.log";

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// The line, without its newline.
    pub(super) bytes: Bytes,
    /// Where it came from: source and line number.
    pub(super) identity: Bytes,
}

/// The lines of `files`; by default the package log and the history of the repository in the current directory.
pub(super) fn load(files: &[PathBuf]) -> anyhow::Result<Vec<Event>> {
    let mut events = Vec::new();
    if files.is_empty() {
        if let Ok(log) = std::fs::read(PACKAGE_LOG) {
            push_lines(PACKAGE_LOG, &log, &mut events);
        }
        let format = "--format={\"commit\":\"%H\",\"author\":\"%an\",\"time\":\"%aI\",\"subject\":\"%f\"}";
        if let Ok(history) = Command::new("git").args(["log", format]).output() {
            push_lines("git", &history.stdout, &mut events);
        }
    }
    for file in files {
        let lines = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        push_lines(&name(file), &lines, &mut events);
    }
    ensure!(!events.is_empty(), "there are no events: name a file of them, one a line");
    Ok(events)
}

/// A short name that fits an identity.
fn name(file: &Path) -> String {
    let name = file.to_string_lossy();
    let tail: String = name.chars().rev().take(24).collect();
    tail.chars().rev().collect()
}

fn push_lines(source: &str, lines: &[u8], events: &mut Vec<Event>) {
    for (number, line) in (1..).zip(lines.split(|&byte| byte == b'\n')) {
        if (1..=ENTRY_BYTES_MAX).contains(&line.len()) {
            let identity = format!("{source}:{number}").into();
            events.push(Event { bytes: Bytes::copy_from_slice(line), identity });
        }
    }
}
