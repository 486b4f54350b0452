//! The reserve of free disk space: below it appends are refused, before a full disk makes an outcome unknown.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tonic::Status;

use crate::status;

/// How often the free space is read.
const POLL: Duration = Duration::from_secs(1);

/// Says how many bytes are free where the data is.
pub type FreeSpace = Arc<dyn Fn() -> io::Result<u64> + Send + Sync>;

/// Says how many bytes opening the store may write.
pub type OpeningBytes = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The space that the file system of `dir` has for this user, by `statvfs`.
#[must_use]
pub fn free_space(dir: PathBuf) -> FreeSpace {
    Arc::new(move || {
        let system = rustix::fs::statvfs(&dir)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    })
}

/// The reserve, and whether it is touched.
pub(crate) struct DiskReserve {
    bytes: u64,
    free: FreeSpace,
    opening: OpeningBytes,
    is_low: AtomicBool,
}

impl DiskReserve {
    /// A reserve of so many bytes; 0 for none.
    pub(crate) fn new(bytes: u64, free: FreeSpace, opening: OpeningBytes) -> Self {
        let reserve = Self { bytes, free, opening, is_low: AtomicBool::new(false) };
        reserve.look();
        reserve
    }

    /// Refuses an append while the reserve is touched.
    pub(crate) fn check(&self) -> Result<(), Status> {
        if self.is_low.load(Ordering::Relaxed) {
            let message = format!("less than {} MiB of disk are free: nothing is appended", self.bytes >> 20);
            return Err(status::exhausted("disk", message));
        }
        Ok(())
    }

    /// Whether a store that found the disk full should be opened again.
    pub(crate) fn has_room(&self) -> bool {
        (self.free)().is_ok_and(|free| free >= self.bytes.max((self.opening)()))
    }

    /// Reads the free space now.
    fn look(&self) {
        if self.bytes == 0 {
            return;
        }
        let free = match (self.free)() {
            Ok(free) => free,
            Err(error) => return tracing::warn!(%error, "the free disk space cannot be read"),
        };
        let is_low = free < self.bytes;
        if self.is_low.swap(is_low, Ordering::Relaxed) == is_low {
            return;
        }
        let (free_mib, reserve_mib) = (free >> 20, self.bytes >> 20);
        if is_low {
            tracing::error!(free_mib, reserve_mib, "the disk reserve is touched: appends are refused");
        } else {
            tracing::info!(free_mib, reserve_mib, "the disk reserve is free: appends are taken again");
        }
    }

    /// Reads the free space from time to time, for as long as the server runs.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(POLL);
        loop {
            ticks.tick().await;
            tokio::task::block_in_place(|| self.look());
        }
    }
}

/// Whether a failure was that of a full disk. Engines report it as the system's text, not always as an `io::Error`.
pub(crate) fn is_disk_full(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if kind == Some(std::io::ErrorKind::StorageFull) || error.to_string().contains("No space left on device") {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use tonic::Code;

    use super::*;

    fn reserve(bytes: u64, free: &Arc<AtomicU64>) -> DiskReserve {
        let free = Arc::clone(free);
        DiskReserve::new(bytes, Arc::new(move || Ok(free.load(Ordering::Relaxed))), Arc::new(|| 64 << 20))
    }

    #[test]
    fn appends_are_refused_while_less_is_free_than_the_reserve() {
        let free = Arc::new(AtomicU64::new(1 << 30));
        let reserve = reserve(1 << 30, &free);
        assert!(reserve.check().is_ok());
        free.store((1 << 30) - 1, Ordering::Relaxed);
        assert!(reserve.check().is_ok(), "the space is read off the way of an entry");
        reserve.look();
        let status = reserve.check().expect_err("the reserve is touched");
        assert_eq!(status.code(), Code::ResourceExhausted);
        free.store(1 << 30, Ordering::Relaxed);
        reserve.look();
        assert!(reserve.check().is_ok());
    }

    #[test]
    fn without_a_reserve_nothing_is_refused_and_a_reload_still_waits_for_some_room() {
        let free = Arc::new(AtomicU64::new(0));
        let reserve = reserve(0, &free);
        assert!(reserve.check().is_ok());
        assert!(!reserve.has_room());
        free.store(64 << 20, Ordering::Relaxed);
        assert!(reserve.has_room());
    }

    #[test]
    fn the_free_space_of_a_directory_can_be_read() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(free_space(dir.path().to_owned())().is_ok());
        assert!(free_space(dir.path().join("missing"))().is_err());
    }
}
