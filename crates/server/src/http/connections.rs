//! The table of open connections: how many, and which one goes when there are too many.
//!
//! ```text
//!   accepted ──> waits for a request ──> answers one or more ──> waits ──> ...
//!                 │ 10 s at first, then 30 s │ 120 s a request
//!                 └── closed                 └── closed
//! ```
//!
//! When the table is full, whoever has waited longest without a request makes room; if nobody waits, whoever takes
//! longest to take an answer. A client that sends its request at once is therefore served however many others hold
//! connections open and say nothing, or say or read it slowly.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a new connection may take to its first complete request header, TLS handshake included.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// How long a connection may be idle between requests.
const IDLE: Duration = Duration::from_secs(30);

/// How long one request may take, body and answer included: the largest bundle at about 140 kB a second.
const REQUEST: Duration = Duration::from_mins(2);

/// How long a request may take before its connection can be put out for another one.
const PATIENCE: Duration = Duration::from_secs(2);

/// All open connections of a listener.
pub(super) struct Connections {
    connections_max: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    turn: u64,
    open: HashMap<u64, Connection>,
    /// Connections without a request, by when they began to wait.
    waiting: BTreeMap<u64, u64>,
}

struct Connection {
    since: Instant,
    /// The place in `waiting`.
    turn: Option<u64>,
    /// The requests in progress, in the order in which they began.
    requests: BTreeMap<u64, Progress>,
    has_asked: bool,
    evicted: CancellationToken,
}

struct Progress {
    began: Instant,
    /// It has a part of what bundles may take.
    holds_bundle: bool,
}

impl Table {
    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// The connection whose request began first, of those that count, if that was long enough ago.
    fn slowest(&self, now: Instant, counts: fn(&Progress) -> bool) -> Option<u64> {
        let first = |open: &Connection| open.requests.values().find(|request| counts(request)).map(|found| found.began);
        let begun = self.open.iter().filter_map(|(id, open)| Some((first(open)?, *id)));
        begun.min().filter(|(began, _)| now.duration_since(*began) >= PATIENCE).map(|(_, id)| id)
    }

    /// Closes a connection, if there is one to close.
    fn put_out(&mut self, id: Option<u64>) -> bool {
        let connection = id.and_then(|id| self.remove(id));
        connection.inspect(|connection| connection.evicted.cancel()).is_some()
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.open.remove(&id)?;
        if let Some(turn) = connection.turn {
            self.waiting.remove(&turn);
        }
        Some(connection)
    }
}

/// What became of a new connection.
pub(super) enum Admission {
    /// It is in the table until this is dropped.
    Admitted(Admitted),
    /// It is, and another one was put out.
    Replacing(Admitted),
    /// The table is full of connections whose requests are new.
    Full,
}

impl Connections {
    pub(super) fn new(connections_max: usize) -> Arc<Self> {
        Arc::new(Self { connections_max, table: Mutex::default() })
    }

    pub(super) fn open(&self) -> usize {
        self.table.lock().open.len()
    }

    /// Closes the connection that has been longest over a bundle, so that what it holds can be given to others. `false`
    /// if none has been long enough.
    pub(super) fn put_out_slowest(&self, now: Instant) -> bool {
        let mut table = self.table.lock();
        let slowest = table.slowest(now, |request| request.holds_bundle);
        table.put_out(slowest)
    }

    /// Makes room for a new connection, if need be.
    pub(super) fn admit(self: &Arc<Self>, now: Instant) -> Admission {
        let mut table = self.table.lock();
        let is_full = table.open.len() >= self.connections_max;
        if is_full {
            let waiting = table.waiting.first_key_value().map(|(_, id)| *id);
            let dispensable = waiting.or_else(|| table.slowest(now, |_| true));
            if !table.put_out(dispensable) {
                return Admission::Full;
            }
        }
        let turn = table.next_turn();
        let evicted = CancellationToken::new();
        let connection = Connection {
            since: now,
            turn: Some(turn),
            requests: BTreeMap::new(),
            has_asked: false,
            evicted: evicted.clone(),
        };
        table.open.insert(turn, connection);
        table.waiting.insert(turn, turn);
        let admitted = Admitted { connections: Arc::clone(self), id: turn, evicted };
        if is_full { Admission::Replacing(admitted) } else { Admission::Admitted(admitted) }
    }
}

/// A connection's place in the table.
pub(super) struct Admitted {
    connections: Arc<Connections>,
    id: u64,
    evicted: CancellationToken,
}

impl Admitted {
    /// Resolves when the connection has to make room.
    pub(super) fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }

    /// A request has arrived, and is in progress until the guard is dropped.
    pub(super) fn begin(&self) -> InProgress {
        let mut table = self.connections.table.lock();
        let request = table.next_turn();
        if let Some(connection) = table.open.get_mut(&self.id) {
            connection.has_asked = true;
            connection.requests.insert(request, Progress { began: Instant::now(), holds_bundle: false });
            if let Some(turn) = connection.turn.take() {
                table.waiting.remove(&turn);
            }
        }
        InProgress { connections: Arc::clone(&self.connections), id: self.id, request }
    }

    /// When the connection is to be closed, as things stand.
    pub(super) fn deadline(&self) -> Instant {
        let table = self.connections.table.lock();
        let Some(connection) = table.open.get(&self.id) else { return Instant::now() };
        match connection.requests.first_key_value() {
            Some((_, oldest)) => oldest.began + REQUEST,
            None if connection.has_asked => connection.since + IDLE,
            None => connection.since + FIRST_REQUEST,
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.table.lock().remove(self.id);
    }
}

/// A request that is being answered.
pub(super) struct InProgress {
    connections: Arc<Connections>,
    id: u64,
    request: u64,
}

impl InProgress {
    /// From now on the request has a part of what bundles may take.
    pub(super) fn holds_bundle(&self) {
        let mut table = self.connections.table.lock();
        let requests = table.open.get_mut(&self.id).map(|connection| &mut connection.requests);
        if let Some(request) = requests.and_then(|requests| requests.get_mut(&self.request)) {
            request.holds_bundle = true;
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut table = self.connections.table.lock();
        let turn = table.next_turn();
        let Some(connection) = table.open.get_mut(&self.id) else { return };
        connection.requests.remove(&self.request);
        if connection.requests.is_empty() {
            connection.since = Instant::now();
            connection.turn = Some(turn);
            table.waiting.insert(turn, self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(connections: &Arc<Connections>) -> Admitted {
        match connections.admit(Instant::now()) {
            Admission::Admitted(admitted) | Admission::Replacing(admitted) => admitted,
            Admission::Full => panic!("there is room, or somebody waits"),
        }
    }

    #[test]
    fn whoever_waited_longest_makes_room_and_nobody_who_is_being_answered() {
        let connections = Connections::new(3);
        let (busy, first, second) = (admit(&connections), admit(&connections), admit(&connections));
        let request = busy.begin();
        let third = admit(&connections);
        assert!(first.evicted().is_cancelled());
        assert!(!busy.evicted().is_cancelled() && !second.evicted().is_cancelled() && !third.evicted().is_cancelled());
        assert_eq!(connections.open(), 3);
        let (also, more) = (second.begin(), third.begin());
        assert!(matches!(connections.admit(Instant::now()), Admission::Full), "all three are being answered");
        drop((also, more, request));
        let _fourth = admit(&connections);
        assert!(second.evicted().is_cancelled(), "it was the first to be idle again");
        drop((first, second));
        assert_eq!(connections.open(), 3, "who was put out is not counted twice");
    }

    #[test]
    fn if_nobody_waits_the_slowest_answer_makes_room_in_time() {
        let connections = Connections::new(2);
        let (first, second) = (admit(&connections), admit(&connections));
        let _requests = (second.begin(), first.begin());
        assert!(matches!(connections.admit(Instant::now()), Admission::Full));
        let later = Instant::now() + PATIENCE;
        assert!(matches!(connections.admit(later), Admission::Replacing(_)));
        assert!(second.evicted().is_cancelled() && !first.evicted().is_cancelled());
    }

    #[test]
    fn room_for_a_bundle_is_made_by_whoever_holds_one() {
        let connections = Connections::new(2);
        let (slow, slower) = (admit(&connections), admit(&connections));
        let _tile = slower.begin();
        let bundle = slow.begin();
        let later = Instant::now() + PATIENCE;
        assert!(!connections.put_out_slowest(later), "nobody holds one");
        bundle.holds_bundle();
        assert!(!connections.put_out_slowest(Instant::now()), "it is not slow yet");
        assert!(
            connections.put_out_slowest(later) && slow.evicted().is_cancelled() && !slower.evicted().is_cancelled()
        );
    }

    #[test]
    fn deadlines_are_those_of_the_first_request_of_each_request_and_of_idleness() {
        let connections = Connections::new(1);
        let within = |deadline: Instant, before: Instant, limit: Duration| {
            (before + limit..=Instant::now() + limit).contains(&deadline)
        };
        let accepted = Instant::now();
        let connection = admit(&connections);
        assert!(within(connection.deadline(), accepted, FIRST_REQUEST));
        let began = Instant::now();
        let request = connection.begin();
        let first = connection.deadline();
        assert!(within(first, began, REQUEST));
        let began = Instant::now();
        let second = connection.begin();
        assert_eq!(connection.deadline(), first, "the oldest request counts");
        drop(request);
        assert!(within(connection.deadline(), began, REQUEST));
        let ended = Instant::now();
        drop(second);
        assert!(within(connection.deadline(), ended, IDLE));
    }
}
