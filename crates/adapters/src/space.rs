//! Checks that a disk can be written again before a failed database is reopened.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The probe's size: more than one group of log writes or one batch of the archive.
const PROBE_BYTES: usize = 16 << 20;

/// Writes and syncs a file in the folder, then removes it.
pub(crate) fn probe(folder: &Path) -> io::Result<()> {
    probe_bytes(folder, PROBE_BYTES)
}

/// Like [`probe`], with a file of this size.
pub(crate) fn probe_bytes(folder: &Path, bytes: usize) -> io::Result<()> {
    let path = folder.join("space-probe");
    let mut file = File::create(&path)?;
    let chunk = [0; 1 << 16];
    let tried = (0..bytes / chunk.len()).try_for_each(|_| file.write_all(&chunk)).and_then(|()| file.sync_data());
    drop(file);
    // Only the write counts. If the file cannot be removed, the next probe overwrites it.
    let _ = std::fs::remove_file(&path);
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_folder_returns_the_reason() {
        let error = probe(Path::new("/sys")).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(1 | 13 | 30)), "no permission, or read-only: {error}");
    }

    #[test]
    fn a_probe_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        probe(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
