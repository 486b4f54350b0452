//! How fast one log may make the witness write.

/// New checkpoints of one log that are cosigned in a second, on average: as many syncs.
pub const NEW_CHECKPOINTS_PER_SECOND_MAX: u64 = 10;

/// New checkpoints that may come at once.
const BURST: u64 = 20;

/// What one new checkpoint costs, in milliseconds.
const COST_MS: u64 = 1_000 / NEW_CHECKPOINTS_PER_SECOND_MAX;

/// A token bucket that is kept as a time: when it will be full again.
#[derive(Debug, Default)]
pub(super) struct Rate {
    full_ms: u64,
}

impl Rate {
    /// Whether one more is within the limit at this time, which may jump either way.
    pub(super) fn admit(&mut self, now_ms: u64) -> bool {
        // A clock that was set back must not close the log for as long.
        let is_possible = self.full_ms <= now_ms.saturating_add(BURST * COST_MS);
        let full_ms = if is_possible { self.full_ms.max(now_ms) } else { now_ms };
        let after_ms = full_ms.saturating_add(COST_MS);
        let admitted = after_ms - now_ms <= BURST * COST_MS;
        self.full_ms = if admitted { after_ms } else { full_ms };
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_admitted_and_then_the_rate() {
        let mut rate = Rate::default();
        let admitted = (0..100).filter(|_| rate.admit(5_000)).count();
        assert_eq!(admitted as u64, BURST);
        let admitted = (0..1_000).filter(|ms| rate.admit(5_000 + ms)).count();
        assert!((9..=10).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_clock_set_back_does_not_close_the_log() {
        let mut rate = Rate::default();
        assert!(rate.admit(u64::MAX));
        let admitted = (0..3_000).filter(|ms| rate.admit(1_000 + ms)).count();
        assert!(admitted >= 20, "{admitted}");
    }
}
