//! How long the disk takes to sync: no durable write is faster.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use crate::Result;
use crate::results::Spread;

const WRITES: usize = 300;
const WRITE_BYTES: usize = 4096;

/// Measures appends of 4 KiB with `fdatasync`.
pub(crate) fn sync_time(folder: &Path) -> Result<Spread> {
    let path = folder.join("sync-time");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let started = Instant::now();
        file.write_all(&[7; WRITE_BYTES])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(Spread::of(times))
}
