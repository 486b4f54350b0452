//! Where the open store is, so that a reload can close it under readers and open it again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logwood_store::LogStore;
use parking_lot::{Condvar, Mutex};

/// Opens the store of the data directory.
pub type StoreOpener =
    Arc<dyn Fn() -> Result<Arc<dyn LogStore>, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// How long a reload waits for reads on the old handle, in milliseconds.
const DRAIN_MS: u64 = 5_000;

/// The store, or nothing while it is being opened again.
pub(crate) struct StoreSlot {
    store: Mutex<Option<Arc<dyn LogStore>>>,
    drained: Condvar,
    opener: StoreOpener,
}

impl StoreSlot {
    /// Opens the store for the first time.
    pub(crate) fn open(opener: StoreOpener) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let store = opener()?;
        Ok(Self { store: Mutex::new(Some(store)), drained: Condvar::new(), opener })
    }

    /// The open store. `None` while it reloads.
    pub(crate) fn get(&self) -> Option<Arc<dyn LogStore>> {
        self.store.lock().clone()
    }

    /// Closes the store, once its readers are done or 5 s are over, and opens it again.
    ///
    /// Opening makes durable anew whatever it finds (the contract of [`LogStore`]), so that nothing is signed that
    /// only the page cache holds.
    pub(crate) fn reload(&self) -> Result<Arc<dyn LogStore>, Box<dyn std::error::Error + Send + Sync>> {
        let mut slot = self.store.lock();
        let deadline = Instant::now() + Duration::from_millis(DRAIN_MS);
        if let Some(old) = slot.take() {
            while Arc::strong_count(&old) > 1 && Instant::now() < deadline {
                self.drained.wait_for(&mut slot, Duration::from_millis(5));
            }
            drop(old);
        }
        let store = (self.opener)()?;
        *slot = Some(Arc::clone(&store));
        Ok(store)
    }

    /// Closes the store for good.
    pub(crate) fn close(&self) {
        self.store.lock().take();
    }
}
