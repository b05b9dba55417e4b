//! Says that the disk is getting full while there is time to act.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Space is low if less than this share of the disk is free, and less than [`LOW_BYTES`]: on a large disk
/// a tenth may last for weeks.
const LOW_SHARE: u64 = 10;
const LOW_BYTES: u64 = 20 << 30;

/// A disk, in bytes.
#[derive(Clone, Copy, Debug)]
struct Disk {
    size: u64,
    /// What this account may still write.
    free: u64,
}

impl Disk {
    fn of(folder: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(folder)?;
        Ok(Self { size: disk.f_blocks * disk.f_frsize, free: disk.f_bavail * disk.f_frsize })
    }

    fn is_low(self) -> bool {
        self.free < LOW_BYTES && self.free < self.size / LOW_SHARE
    }
}

/// Counts what is free on the folder's disk, and logs when that becomes low and when no longer.
pub(crate) async fn watch(folder: PathBuf) {
    let mut was_low = false;
    loop {
        match Disk::of(&folder) {
            Ok(disk) => {
                metrics::gauge!("uss_disk_free_bytes").set(disk.free as f64);
                say(disk, was_low);
                was_low = disk.is_low();
            }
            Err(error) => tracing::warn!(%error, "the free space of {} is not known", folder.display()),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn say(disk: Disk, was_low: bool) {
    let free_mib = disk.free >> 20;
    match (was_low, disk.is_low()) {
        (false, true) => tracing::warn!(
            code = "DISK_SPACE_LOW",
            free_mib,
            "the data folder's disk is nearly full; when it is full, events are refused: make space, or shorten USS_LOG_RETENTION"
        ),
        (true, false) => tracing::info!(free_mib, "the data folder's disk has space again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_low_below_a_tenth_of_a_small_disk_and_20_gib_of_a_large_one() {
        const GIB: u64 = 1 << 30;
        let is_low = |size, free| Disk { size, free }.is_low();
        assert!(is_low(100 * GIB, 10 * GIB - 1));
        assert!(!is_low(100 * GIB, 10 * GIB));
        assert!(is_low(10_000 * GIB, 20 * GIB - 1));
        assert!(!is_low(10_000 * GIB, 20 * GIB));
        assert!(is_low(GIB, 0));
    }

    #[test]
    fn a_disk_has_a_size_and_a_missing_folder_none() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::of(folder.path()).unwrap();
        assert!(disk.size > 0 && disk.free <= disk.size, "{disk:?}");
        Disk::of(&folder.path().join("missing")).unwrap_err();
    }
}
