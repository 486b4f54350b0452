//! The way to the planner: one queue in order of arrival, and a bell that is not rung for every entry.
//!
//! While a round is being synced the planner can do little with one entry more, and waking a thread costs more than
//! planning the entry does. So a submission waits for company, or for the end of the round; all else rings at once.

use std::mem;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// So many entries that wait are worth planning while a round is being synced.
pub(crate) const COMPANY_ENTRIES: usize = 512;

/// What waits for the planner.
pub(crate) struct Inbox<C> {
    queue: Mutex<Queue<C>>,
    bell: Condvar,
}

struct Queue<C> {
    commands: Vec<C>,
    /// Entries of the submissions among them.
    entries: usize,
    /// Whether there is more among them than submissions.
    is_urgent: bool,
    /// What the planner sleeps for, if it does.
    sleeper: Option<WakeFor>,
    is_closed: bool,
}

/// What is worth waking up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeFor {
    /// So many submissions: the disk is idle.
    Submissions(usize),
    /// So many that planning them now saves time: a round is being synced.
    ManyEntries,
}

/// The planner has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl<C> Inbox<C> {
    pub(crate) fn new() -> Self {
        let queue = Queue { commands: Vec::new(), entries: 0, is_urgent: false, sleeper: None, is_closed: false };
        Self { queue: Mutex::new(queue), bell: Condvar::new() }
    }

    /// Adds a submission of so many entries, at least one.
    pub(crate) fn submit(&self, command: C, entries: usize) -> Result<(), Closed> {
        self.push(command, |queue| queue.entries += entries)
    }

    /// Adds what the planner must see at once.
    pub(crate) fn send(&self, command: C) -> Result<(), Closed> {
        self.push(command, |queue| queue.is_urgent = true)
    }

    fn push(&self, command: C, count: impl FnOnce(&mut Queue<C>)) -> Result<(), Closed> {
        let mut queue = self.queue.lock();
        if queue.is_closed {
            return Err(Closed);
        }
        queue.commands.push(command);
        count(&mut queue);
        if queue.sleeper.is_some_and(|wake_for| queue.is_worth(wake_for)) {
            queue.sleeper = None;
            drop(queue);
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Moves everything that waits into `taken`, in order of arrival. If that is not worth waking up for, sleeps
    /// before, at most so long.
    pub(crate) fn take(&self, taken: &mut Vec<C>, wake_for: WakeFor, at_most: Duration) {
        let mut queue = self.queue.lock();
        if !queue.is_worth(wake_for) {
            queue.sleeper = Some(wake_for);
            let _ = self.bell.wait_for(&mut queue, at_most);
            queue.sleeper = None;
        }
        if taken.is_empty() {
            mem::swap(&mut queue.commands, taken);
        } else {
            taken.append(&mut queue.commands);
        }
        (queue.entries, queue.is_urgent) = (0, false);
    }

    /// Drops what waits, and refuses all that comes.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.is_closed = true;
        // Dropped outside the lock: a ticket's waiters may send again.
        let dropped = mem::take(&mut queue.commands);
        drop(queue);
        drop(dropped);
    }
}

impl<C> Queue<C> {
    fn is_worth(&self, wake_for: WakeFor) -> bool {
        let is_company = match wake_for {
            WakeFor::Submissions(submissions) => self.commands.len() >= submissions,
            WakeFor::ManyEntries => false,
        };
        self.is_urgent || is_company || self.entries >= COMPANY_ENTRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Never reached: a test that would have to wait hangs instead, and says so.
    const LONG: Duration = Duration::from_hours(1);

    #[test]
    fn commands_arrive_in_the_order_in_which_they_were_sent() {
        let (inbox, mut taken) = (Inbox::new(), Vec::new());
        inbox.submit(1, 1).unwrap();
        inbox.send(2).unwrap();
        inbox.submit(3, 1).unwrap();
        inbox.take(&mut taken, WakeFor::ManyEntries, LONG);
        assert_eq!(taken, [1, 2, 3]);
    }

    #[test]
    fn one_entry_wakes_whom_the_disk_waits_for_and_not_who_waits_for_the_disk() {
        let (inbox, mut taken) = (Inbox::new(), Vec::new());
        inbox.submit(1, 1).unwrap();
        inbox.take(&mut taken, WakeFor::Submissions(1), LONG);
        assert_eq!(taken, [1]);

        inbox.submit(2, COMPANY_ENTRIES - 1).unwrap();
        assert!(!inbox.queue.lock().is_worth(WakeFor::ManyEntries));
        inbox.submit(3, 1).unwrap();
        inbox.take(&mut taken, WakeFor::ManyEntries, LONG);
        assert_eq!(taken, [1, 2, 3]);
        assert!(!inbox.queue.lock().is_worth(WakeFor::Submissions(1)));
    }

    #[test]
    fn fewer_submissions_than_are_waited_for_are_taken_when_the_time_is_over() {
        let (inbox, mut taken) = (Inbox::new(), Vec::new());
        inbox.submit(1, 1).unwrap();
        assert!(!inbox.queue.lock().is_worth(WakeFor::Submissions(2)));
        inbox.take(&mut taken, WakeFor::Submissions(2), Duration::ZERO);
        assert_eq!(mem::take(&mut taken), [1]);
        inbox.submit(2, 1).unwrap();
        inbox.submit(3, 1).unwrap();
        inbox.take(&mut taken, WakeFor::Submissions(2), LONG);
        assert_eq!(taken, [2, 3]);
    }

    #[test]
    fn what_is_urgent_wakes_a_sleeper_from_another_thread() {
        let (inbox, mut taken) = (Inbox::new(), Vec::new());
        std::thread::scope(|scope| {
            scope.spawn(|| inbox.send(1).unwrap());
            inbox.take(&mut taken, WakeFor::ManyEntries, LONG);
        });
        assert_eq!(taken, [1]);
    }

    #[test]
    fn a_closed_inbox_drops_what_waits_and_refuses_the_rest() {
        let (inbox, mut taken) = (Inbox::new(), Vec::new());
        inbox.submit(1, 1).unwrap();
        inbox.close();
        assert_eq!(inbox.submit(2, 1), Err(Closed));
        assert_eq!(inbox.send(3), Err(Closed));
        inbox.take(&mut taken, WakeFor::Submissions(1), Duration::ZERO);
        assert!(taken.is_empty());
    }
}
