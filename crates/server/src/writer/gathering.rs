//! When a round closes behind those who are on their way.
//!
//! Callers who wait for one answer after the other come back within moments of it, one by one. Would the next round close
//! behind the first of them, many small rounds would do the work of a few, each with its sync, its signature, and a head
//! that every caller verifies. So it waits a moment for as many as there were. A caller who is alone waits for nobody.

use std::time::{Duration, Instant};

/// How long they are waited for: less than most disks take for a sync under load.
const GATHERING: Duration = Duration::from_millis(1);

/// Who may be on the way.
pub(super) struct Gathering {
    /// Submissions of the round that was sealed last.
    sealed: usize,
    /// They, and those that waited when that round ended.
    company: usize,
    until: Instant,
}

impl Gathering {
    pub(super) fn new() -> Self {
        Self { sealed: 0, company: 0, until: Instant::now() }
    }

    /// A round of so many submissions is on its way to the disk.
    pub(super) fn sealed(&mut self, submissions: usize) {
        self.sealed = submissions;
    }

    /// It has ended, and so many submissions wait already.
    pub(super) fn ended(&mut self, waiting: usize) {
        self.company = self.sealed + waiting;
        self.until = Instant::now() + GATHERING;
    }

    /// How many are missing while `waiting` are here, and how long they are waited for. `None`: for nobody.
    pub(super) fn missing(&self, waiting: usize) -> Option<(usize, Duration)> {
        let missing = self.company.checked_sub(waiting).filter(|&missing| missing > 0)?;
        let left = self.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        Some((missing, left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_waited_for_as_were_answered_and_waited_and_only_for_a_moment() {
        let mut gathering = Gathering::new();
        assert_eq!(gathering.missing(0), None, "nobody was answered");
        gathering.sealed(1);
        gathering.ended(0);
        assert_eq!(gathering.missing(1), None, "the only caller is back");
        gathering.sealed(50);
        gathering.ended(20);
        gathering.until = Instant::now() + Duration::from_hours(1);
        assert_eq!(gathering.missing(30).map(|(missing, _)| missing), Some(40));
        assert_eq!(gathering.missing(70), None);
        gathering.until = Instant::now();
        assert_eq!(gathering.missing(30), None, "the time is over");
    }
}
