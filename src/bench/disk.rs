//! What one synced write costs on the disk that the log is on.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

const WRITES: usize = 200;
const WRITE_BYTES: usize = 4096;

/// Median, in microseconds, of appending 4 KiB to a file in `dir` and syncing its data.
pub(super) fn sync_us(dir: &Path) -> anyhow::Result<u64> {
    let path = dir.join("sync");
    let mut file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let began = Instant::now();
        file.write_all(&[0x5a; WRITE_BYTES]).and_then(|()| file.sync_data()).context("cannot sync a file")?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(u64::try_from(times[WRITES / 2].as_micros())?)
}
