//! A budget of bytes that all calls of the process share.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many bytes, for whoever takes them first.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

/// Bytes that were taken from a budget. They go back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share(OwnedSemaphorePermit);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// Takes `bytes`, if they are there.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Share> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(bytes).ok().map(Share)
    }

    /// Takes `bytes`, in turn, as soon as they are there. Never returns if the budget as a whole is smaller.
    pub(crate) async fn take(&self, bytes: usize) -> Share {
        let bytes = u32::try_from(bytes).expect("limits are below 4 GiB");
        let taken = Arc::clone(&self.0).acquire_many_owned(bytes).await;
        Share(taken.expect("the semaphore is never closed"))
    }

    /// What nobody has taken.
    pub(crate) fn available(&self) -> usize {
        self.0.available_permits()
    }
}

impl Share {
    pub(crate) fn bytes(&self) -> usize {
        self.0.num_permits()
    }

    /// Gives back all but `bytes`.
    pub(crate) fn keep(&mut self, bytes: usize) {
        drop(self.split(self.bytes().saturating_sub(bytes)));
    }

    /// Takes `bytes` out of this share, or as many as it has.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes());
        Self(self.0.split(bytes).expect("no more than it has"))
    }

    /// Adds a share of the same budget.
    pub(crate) fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

/// Adds `share` to what is there.
pub(crate) fn merge(all: &mut Option<Share>, share: Share) {
    match all {
        Some(all) => all.merge(share),
        none => *none = Some(share),
    }
}

/// A share that one task adds to and another takes from. It travels in the extensions of a request or an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<Mutex<Option<Share>>>);

impl Held {
    pub(crate) fn add(&self, share: Share) {
        merge(&mut self.0.lock(), share);
    }

    /// All of it.
    pub(crate) fn take(&self) -> Option<Share> {
        self.0.lock().take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_back_when_their_share_is_dropped() {
        let budget = Budget::new(100);
        let mut share = budget.try_take(80).expect("80 of 100");
        assert!(budget.try_take(21).is_none());
        share.keep(30);
        assert_eq!((share.bytes(), budget.available()), (30, 70));
        let part = share.split(10);
        assert_eq!(budget.available(), 70);
        drop(part);
        assert_eq!((share.bytes(), budget.available()), (20, 80));
        drop(share);
        assert_eq!(budget.available(), 100);
    }
}
