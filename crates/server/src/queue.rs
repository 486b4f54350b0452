//! The room that entries take from their arrival until they are answered: bounded, over all logs.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How much of the room is taken.
pub(crate) struct Queue {
    entries_max: usize,
    bytes_max: usize,
    taken: Mutex<(usize, usize)>,
    /// Some room has been given back.
    freed: Notify,
}

/// The room of one submission, until it is dropped.
pub(crate) struct Room {
    queue: Arc<Queue>,
    entries: usize,
    bytes: usize,
}

impl Queue {
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self { entries_max, bytes_max, taken: Mutex::default(), freed: Notify::new() }
    }

    /// Room for so many entries of so many bytes. `None` if there is not as much.
    pub(crate) fn enter(self: &Arc<Self>, entries: usize, bytes: usize) -> Option<Room> {
        let mut taken = self.taken.lock();
        let (all_entries, all_bytes) = (taken.0 + entries, taken.1 + bytes);
        let fits = all_entries <= self.entries_max && all_bytes <= self.bytes_max;
        if fits {
            *taken = (all_entries, all_bytes);
        }
        fits.then(|| Room { queue: Arc::clone(self), entries, bytes })
    }

    /// As [`enter`](Self::enter), as soon as there is as much. `None` if there never can be.
    pub(crate) async fn enter_at_last(self: &Arc<Self>, entries: usize, bytes: usize) -> Option<Room> {
        if entries > self.entries_max || bytes > self.bytes_max {
            return None;
        }
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on no room is given back unnoticed.
            freed.as_mut().enable();
            if let Some(room) = self.enter(entries, bytes) {
                return Some(room);
            }
            freed.await;
        }
    }

    /// Entries and bytes in it.
    pub(crate) fn taken(&self) -> (usize, usize) {
        *self.taken.lock()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        {
            let mut taken = self.queue.taken.lock();
            *taken = (taken.0 - self.entries, taken.1 - self.bytes);
        }
        self.queue.freed.notify_waiters();
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

    #[tokio::test]
    async fn who_waits_for_room_gets_it_once_it_is_given_back_and_never_if_there_cannot_be_as_much() {
        let queue = Arc::new(Queue::new(3, 100));
        let taken = queue.enter(2, 90).unwrap();
        let waiter = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.enter_at_last(2, 1).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(taken);
        assert!(waiter.await.unwrap().is_some());
        assert_eq!(queue.taken(), (0, 0));
        assert!(queue.enter_at_last(4, 1).await.is_none());
    }
}
