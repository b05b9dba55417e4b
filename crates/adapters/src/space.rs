//! Whether a disk can be written again, tried before a database that failed is opened anew.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What must fit on the disk: more than a group of calls of the log, or a batch of the archive.
const PROBE_BYTES: usize = 16 << 20;

/// Writes and syncs a file in the folder, and removes it.
pub fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join("space-probe");
    let mut file = File::create(&path)?;
    let chunk = [0; 1 << 16];
    let tried = (0..PROBE_BYTES / chunk.len()).try_for_each(|_| file.write_all(&chunk)).and_then(|()| file.sync_data());
    drop(file);
    // What counts is whether it could be written; one that cannot be removed is overwritten by the next.
    let _ = std::fs::remove_file(&path);
    tried
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_that_takes_nothing_says_why() {
        let error = probe(Path::new("/sys")).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(1 | 13 | 30)), "no right to, or read-only: {error}");
    }

    #[test]
    fn a_probe_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        probe(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
