//! Where the open store is, so that a reload can close it under readers and open it again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logwood_store::LogStore;
use parking_lot::Mutex;
use thiserror::Error;

/// Opens the store of the data directory.
pub type StoreOpener =
    Arc<dyn Fn() -> Result<Arc<dyn LogStore>, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// How long a reload waits for reads on the old handle.
const DRAIN: Duration = Duration::from_secs(5);

/// How often it looks whether they are over.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// The store, or nothing while it is being opened again.
pub(crate) struct StoreSlot {
    store: Mutex<Option<Arc<dyn LogStore>>>,
    opener: StoreOpener,
}

/// Why the store was not opened again.
#[derive(Debug, Error)]
pub(crate) enum ReloadError {
    /// Reads did not end in time. The old handle is kept for them and for the next attempt: nobody opens a store twice.
    #[error("reads on the old handle go on")]
    InUse,
    /// It cannot be opened.
    #[error(transparent)]
    Open(Box<dyn std::error::Error + Send + Sync>),
}

impl StoreSlot {
    /// Opens the store for the first time.
    pub(crate) fn open(opener: StoreOpener) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let store = opener()?;
        Ok(Self { store: Mutex::new(Some(store)), opener })
    }

    /// The open store. `None` while it reloads.
    pub(crate) fn get(&self) -> Option<Arc<dyn LogStore>> {
        self.store.lock().clone()
    }

    /// Closes the store, once its readers are done, and opens it again. Waits 5 s for them.
    ///
    /// Opening makes durable anew whatever it finds (the contract of [`LogStore`]), so that nothing is signed that
    /// only the page cache holds.
    pub(crate) fn reload(&self) -> Result<Arc<dyn LogStore>, ReloadError> {
        // Not held while waiting: reads that come meanwhile find no store, and are told to retry.
        let old = self.store.lock().take();
        if let Some(old) = old {
            let deadline = Instant::now() + DRAIN;
            while Arc::strong_count(&old) > 1 {
                if Instant::now() >= deadline {
                    *self.store.lock() = Some(old);
                    return Err(ReloadError::InUse);
                }
                std::thread::park_timeout(DRAIN_LOOK);
            }
        }
        let store = (self.opener)().map_err(ReloadError::Open)?;
        *self.store.lock() = Some(Arc::clone(&store));
        Ok(store)
    }

    /// Closes the store for good.
    pub(crate) fn close(&self) {
        self.store.lock().take();
    }
}
