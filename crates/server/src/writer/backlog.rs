//! What has arrived and is in no round yet.

use std::collections::VecDeque;

use foldhash::HashMap;
use logwood_sequencer::Submission;
use logwood_store::LogNumber;

use super::Ticket;

/// Submissions that wait for a round, a queue a log, served in turn.
#[derive(Default)]
pub(super) struct Backlog {
    queues: HashMap<LogNumber, VecDeque<Submission<Ticket>>>,
    turns: VecDeque<LogNumber>,
}

impl Backlog {
    /// Behind what waits of its log.
    pub(super) fn push(&mut self, submission: Submission<Ticket>) {
        let queue = self.queues.entry(submission.log).or_default();
        if queue.is_empty() {
            self.turns.push_back(submission.log);
        }
        queue.push_back(submission);
    }

    /// Whether something of a log waits.
    pub(super) fn holds(&self, log: LogNumber) -> bool {
        self.queues.contains_key(&log)
    }

    /// The next submissions, log by log in turn, until they are at least so many entries or bytes.
    pub(super) fn take(&mut self, entries_max: usize, bytes_max: usize) -> Vec<Submission<Ticket>> {
        let (mut taken, mut entries, mut bytes) = (Vec::new(), 0, 0);
        while entries < entries_max && bytes < bytes_max {
            let Some(submission) = self.pop() else { break };
            entries += submission.entries.len();
            bytes += submission.entries.iter().map(|entry| entry.bytes.len()).sum::<usize>();
            taken.push(submission);
        }
        taken
    }

    fn pop(&mut self) -> Option<Submission<Ticket>> {
        let log = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&log)?;
        let submission = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&log);
        } else {
            self.turns.push_back(log);
        }
        submission
    }

    /// Everything goes; its tickets are left.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Ticket> {
        self.turns.clear();
        std::mem::take(&mut self.queues).into_values().flatten().map(|submission| submission.ticket)
    }
}
