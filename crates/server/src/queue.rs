//! The room that entries take from their arrival until they are answered: bounded, over all logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much of the room is taken.
pub(crate) struct Queue {
    entries_max: usize,
    bytes_max: usize,
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

/// The room of one submission, until it is dropped.
pub(crate) struct Room {
    queue: Arc<Queue>,
    entries: usize,
    bytes: usize,
}

impl Queue {
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self { entries_max, bytes_max, entries: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// Room for so many entries of so many bytes. `None` if there is not as much.
    pub(crate) fn enter(self: &Arc<Self>, entries: usize, bytes: usize) -> Option<Room> {
        let taken_entries = self.entries.fetch_add(entries, Ordering::Relaxed);
        let taken_bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // From here on the room is given back even if it was more than there is.
        let room = Room { queue: Arc::clone(self), entries, bytes };
        let fits = taken_entries + entries <= self.entries_max && taken_bytes + bytes <= self.bytes_max;
        fits.then_some(room)
    }

    /// Entries and bytes in it.
    pub(crate) fn taken(&self) -> (usize, usize) {
        (self.entries.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.queue.entries.fetch_sub(self.entries, Ordering::Relaxed);
        self.queue.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_beyond_either_limit_is_refused_and_takes_nothing() {
        let queue = Arc::new(Queue::new(3, 100));
        let first = queue.enter(2, 90).unwrap();
        assert!(queue.enter(2, 1).is_none());
        assert!(queue.enter(1, 11).is_none());
        assert_eq!(queue.taken(), (2, 90));
        let second = queue.enter(1, 10).unwrap();
        drop((first, second));
        assert_eq!(queue.taken(), (0, 0));
        assert!(queue.enter(3, 100).is_some());
    }
}
