//! Whether a log may sign, as far as its witnesses know.
//!
//! ```text
//!   Asking ──a quorum knows no more than we do──> Open
//!     └───────────────────┬────────────────────────┘
//!                         └──one knows more of the log──> Refused, for good
//! ```

use parking_lot::Mutex;

/// What the witnesses say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They are asked, since the start of the process; nothing is signed.
    Asking,
    /// The log may sign.
    Open,
    /// It must not: why, and what to do, for people.
    Refused(String),
}

/// The verdict on one log, for as long as the process runs.
pub(crate) struct Guard {
    verdict: Mutex<Verdict>,
}

impl Guard {
    /// * `asks` - whether the witnesses are asked before the first signature.
    pub(crate) fn new(asks: bool) -> Self {
        let verdict = if asks { Verdict::Asking } else { Verdict::Open };
        Self { verdict: Mutex::new(verdict) }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict.lock().clone()
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.verdict.lock() == Verdict::Open
    }

    pub(crate) fn is_asking(&self) -> bool {
        *self.verdict.lock() == Verdict::Asking
    }

    /// The witnesses know no more than we do. False if they were not asked, or one said otherwise.
    pub(crate) fn open(&self) -> bool {
        let mut verdict = self.verdict.lock();
        let was_asking = *verdict == Verdict::Asking;
        if was_asking {
            *verdict = Verdict::Open;
        }
        was_asking
    }

    /// A witness knows more. False if that was known.
    pub(crate) fn refuse(&self, why: String) -> bool {
        let mut verdict = self.verdict.lock();
        let is_news = !matches!(*verdict, Verdict::Refused(_));
        if is_news {
            *verdict = Verdict::Refused(why);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_for_good() {
        let guard = Guard::new(true);
        assert!(guard.is_asking() && guard.open() && guard.is_open());
        assert!(!guard.open(), "it was open");
        assert!(guard.refuse("larger".into()) && !guard.refuse("larger again".into()));
        assert!(!guard.open() && guard.verdict() == Verdict::Refused("larger".into()));
    }
}
