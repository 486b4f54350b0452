//! A directory whose every operation may fail, tear, get lost, or be the last thing that the process does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use logwood_monitor::witness::Disk;

/// What becomes of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It works.
    None,
    /// It fails, and nothing has happened.
    Lost,
    /// It fails, and everything has happened.
    Persisted,
    /// It fails, and a part has happened: of a write, so many bytes in 256; of a sync, nothing.
    Torn(u8),
    /// As [`Fault::Torn`], and the process dies.
    Dies(u8),
    /// It works, and the process dies before it hears of it.
    DiesAfter,
}

#[derive(Clone, Debug, Default)]
struct Content {
    cached: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    contents: Vec<Content>,
    /// Names as the process sees them, and as the disk holds them.
    seen: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    faults: Vec<Fault>,
    is_dead: bool,
}

/// Shared by the lives of a process.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    /// The next operations have these outcomes; those after them work.
    pub fn plan(&self, faults: &[Fault]) {
        self.0.lock().expect("no panics").faults = faults.iter().rev().copied().collect();
    }

    pub fn is_dead(&self) -> bool {
        self.0.lock().expect("no panics").is_dead
    }

    /// The power fails and comes back. `keeps` decides what of all that was never synced is there.
    pub fn power_loss(&self, mut keeps: impl FnMut() -> bool) {
        let mut state = self.0.lock().expect("no panics");
        let names: BTreeSet<String> = state.seen.keys().chain(state.durable.keys()).cloned().collect();
        let mut durable = BTreeMap::new();
        for name in names {
            let side = if keeps() { &state.seen } else { &state.durable };
            if let Some(&content) = side.get(&name) {
                durable.insert(name, content);
            }
        }
        for content in &mut state.contents {
            if keeps() {
                content.synced.clone_from(&content.cached);
            }
            content.cached.clone_from(&content.synced);
        }
        state.seen.clone_from(&durable);
        state.durable = durable;
        state.faults.clear();
        state.is_dead = false;
    }

    /// Runs one operation: `act` does it, `part` a part of it.
    fn run(&self, act: impl FnOnce(&mut State), part: impl FnOnce(&mut State, u8)) -> io::Result<()> {
        let mut state = self.0.lock().expect("no panics");
        let failed = || Err(io::Error::other("the disk fails"));
        if state.is_dead {
            return failed();
        }
        let fault = state.faults.pop().unwrap_or(Fault::None);
        match fault {
            Fault::None | Fault::Persisted | Fault::DiesAfter => act(&mut state),
            Fault::Lost => {}
            Fault::Torn(much) | Fault::Dies(much) => part(&mut state, much),
        }
        state.is_dead = matches!(fault, Fault::Dies(_) | Fault::DiesAfter);
        if fault == Fault::None { Ok(()) } else { failed() }
    }
}

impl State {
    fn content(&mut self, name: &str) -> &mut Content {
        let new = self.contents.len();
        let index = *self.seen.entry(name.to_owned()).or_insert(new);
        if index == new {
            self.contents.push(Content::default());
        }
        &mut self.contents[index]
    }
}

impl Disk for FaultyDisk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let state = self.0.lock().expect("no panics");
        if state.is_dead {
            return Err(io::Error::other("the disk fails"));
        }
        Ok(state.seen.get(name).map(|&content| state.contents[content].cached.clone()))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let whole = |state: &mut State| {
            *state.content(name) = Content { cached: bytes.to_vec(), synced: bytes.to_vec() };
        };
        let part = |state: &mut State, much: u8| {
            let length = bytes.len() * usize::from(much) / 256;
            state.content(name).cached = bytes[..length].to_vec();
        };
        self.run(whole, part)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let act = |state: &mut State| {
            let content = state.seen.remove(from).expect("what is renamed is there");
            state.seen.insert(to.to_owned(), content);
        };
        self.run(act, |_, _| {})
    }

    fn sync_names(&self) -> io::Result<()> {
        self.run(|state| state.durable.clone_from(&state.seen), |_, _| {})
    }
}
