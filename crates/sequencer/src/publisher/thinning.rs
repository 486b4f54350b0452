//! Thinning the history: every published head for 48 hours, then one a minute, after 30 days one an hour.
//!
//! ```text
//!        30 days ago              48 hours ago              now
//!   ──┬────┬────┬──┬┬┬┬┬┬┬┬┬┬┬┬┬┬┬┬┬┬┬┬┬┬┬┬─┬┬┬┬┬┬┬┬┬┬┬┬┬┬┬┬>
//!     │ one an hour │  one a minute       │  every head
//!                   └ hours cursor        └ minutes cursor: both walk up as heads get older
//! ```
//!
//! Of the heads of one minute (hour) the first stays. So the first head of all stays, what stays for its hour stays for
//! its minute, and walking the history a second time takes nothing more away. The newest head is never looked at.

use super::HeadTime;

/// Most heads of one page that thinning looks at: more than one publication adds, so that the walk catches up.
pub const HISTORY_PAGE_HEADS: usize = 16;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Heads older than `age_ms` are thinned to one in `every_ms`.
struct Rule {
    age_ms: u64,
    every_ms: u64,
}

const RULES: [Rule; 2] =
    [Rule { age_ms: 48 * HOUR_MS, every_ms: MINUTE_MS }, Rule { age_ms: 30 * 24 * HOUR_MS, every_ms: HOUR_MS }];

/// How far the history of one log is thinned. A new one walks it from the beginning.
#[derive(Clone, Debug, Default)]
pub struct Thinning {
    cursors: [Cursor; 2],
}

#[derive(Clone, Debug, Default)]
struct Cursor {
    /// Heads below this size are thinned.
    from_size: u64,
    /// The minute or hour whose first head was met last.
    slot: Option<u64>,
    /// When the next head gets old enough, POSIX milliseconds.
    due_ms: u64,
}

impl Thinning {
    /// From which sizes on the history must be read, if at all.
    #[must_use]
    pub fn wanted(&self, now_ms: u64) -> [Option<u64>; 2] {
        self.cursors.each_ref().map(|cursor| (cursor.due_ms <= now_ms).then_some(cursor.from_size))
    }

    /// The sizes of heads in `pages` that may go.
    ///
    /// * `pages` - what [`wanted`](Self::wanted) asked for, oldest first.
    /// * `newest` - size of the newest head, which stays, as do larger ones.
    pub fn thin(&mut self, pages: &[Vec<HeadTime>; 2], newest: u64, now_ms: u64) -> Vec<u64> {
        let mut thinned = Vec::new();
        for ((cursor, rule), page) in self.cursors.iter_mut().zip(&RULES).zip(pages) {
            for head in page.iter().filter(|head| head.size < newest) {
                let old_ms = head.time_ms.saturating_add(rule.age_ms);
                if now_ms < old_ms {
                    cursor.due_ms = old_ms;
                    break;
                }
                let slot = head.time_ms / rule.every_ms;
                if cursor.slot.replace(slot) == Some(slot) {
                    thinned.push(head.size);
                }
                cursor.from_size = head.size + 1;
            }
        }
        thinned.sort_unstable();
        thinned.dedup();
        thinned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * HOUR_MS;

    /// Publishes a head a second into `history`, thinning as the publisher does.
    struct History {
        heads: Vec<HeadTime>,
        thinning: Thinning,
        reads: usize,
    }

    impl History {
        fn publish(&mut self, time_ms: u64) {
            let size = self.heads.last().map_or(1, |last| last.size + 1);
            let pages = self.thinning.wanted(time_ms).map(|from| {
                self.reads += usize::from(from.is_some());
                let from = from.unwrap_or(u64::MAX);
                self.heads.iter().filter(|head| head.size >= from).take(HISTORY_PAGE_HEADS).copied().collect()
            });
            let thinned = self.thinning.thin(&pages, size, time_ms);
            self.heads.retain(|head| !thinned.contains(&head.size));
            self.heads.push(HeadTime { size, time_ms });
        }

        fn times(&self) -> Vec<u64> {
            self.heads.iter().map(|head| head.time_ms).collect()
        }
    }

    fn history() -> History {
        History { heads: Vec::new(), thinning: Thinning::default(), reads: 0 }
    }

    /// What the rule says of heads at `times`, transcribed from its sentence.
    fn kept(times: &[u64], now_ms: u64) -> Vec<u64> {
        let is_first_in =
            |at: usize, every: u64| !times[..at].iter().any(|earlier| earlier / every == times[at] / every);
        let stays = |at: &usize| {
            let age = now_ms - times[*at];
            *at + 1 == times.len()
                || age < 48 * HOUR_MS
                || if age < 30 * DAY_MS { is_first_in(*at, MINUTE_MS) } else { is_first_in(*at, HOUR_MS) }
        };
        (0..times.len()).filter(stays).map(|at| times[at]).collect()
    }

    #[test]
    fn a_history_of_weeks_is_what_the_rule_says() {
        let mut history = history();
        let start = 1_700_000_000_000;
        // A busy minute now and then: 40 heads a second apart every 170 minutes, for 33 days.
        let times: Vec<u64> = (0..33 * 24 * 6 / 17)
            .flat_map(|burst| (0..40).map(move |i| start + (burst * 170 * 60 + i) * 1_000))
            .collect();
        for &time in &times {
            history.publish(time);
        }
        let end = *times.last().expect("many");
        assert_eq!(history.times(), kept(&times, end));
    }

    #[test]
    fn young_heads_are_not_read_again_and_again() {
        let mut history = history();
        for second in 0..10_000 {
            history.publish(1_000 * second);
        }
        assert!(history.reads <= 4, "each cursor waits for its first head to get old: {} reads", history.reads);
    }

    #[test]
    fn a_second_walk_takes_nothing_more_away() {
        let mut history = history();
        for burst in 0..200 {
            (0..20).for_each(|i| history.publish((burst * 60 * 60 + i) * 1_000));
        }
        let before = history.times();
        history.thinning = Thinning::default();
        let last = *before.last().expect("many");
        (1..=2_000).for_each(|i| history.publish(last + i));
        assert_eq!(history.times()[..before.len() - 1], before[..before.len() - 1], "all but what was newest");
    }
}
