//! Remembers that lost records were given up, until the log is whole again.
//!
//! Accepting a loss takes two steps: the damaged files are set aside, and then the config store's
//! data is appended to the log again. After the first step nothing in the log shows the loss. So a
//! file records it before that step and stays until the second has ended. A start that finds the
//! file knows that an earlier one stopped in between.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Its presence counts, whatever it contains. So damage of its content hides nothing.
pub(super) const FILE: &str = "restore-pending";
const NEW: &str = "restore-pending.new";
/// The number of bytes of the file that messages repeat.
const SHOWN_BYTES_MAX: usize = 4096;

/// The file beside the log that says that the log must be restored.
#[derive(Clone, Debug)]
pub struct PendingRestore(PathBuf);

impl PendingRestore {
    /// Uses the file in a log's folder.
    pub(super) fn of(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Returns what was given up, on one line, or `None` if nothing is pending.
    ///
    /// # Errors
    /// The file exists but cannot be read.
    pub fn lost(&self) -> io::Result<Option<String>> {
        let Some(bytes) = self.content()? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]).into_owned();
        let lines = text.split(char::is_control).filter(|line| !line.is_empty());
        Ok(Some(lines.collect::<Vec<_>>().join("; ")))
    }

    fn content(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.0.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => bytes.map(Some),
        }
    }

    /// Adds a loss to the file. Returns when it is on the disk.
    ///
    /// # Errors
    /// The file cannot be written. Nothing may be given up then.
    pub fn record(&self, lost: &str) -> io::Result<()> {
        let mut losses = self.content()?.unwrap_or_default();
        if !losses.split(|byte| *byte == b'\n').any(|line| line == lost.as_bytes()) {
            losses.extend_from_slice(format!("{lost}\n").as_bytes());
        }
        let new = self.0.join(NEW);
        let mut file = File::create(&new)?;
        file.write_all(&losses)?;
        file.sync_all()?;
        fs::rename(&new, self.0.join(FILE))?;
        sync(&self.0)
    }

    /// Removes the file after the log was restored.
    ///
    /// # Errors
    /// The file cannot be removed. The next start restores the log again, which does no harm.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_file(self.0.join(FILE))?;
        sync(&self.0)
    }
}

/// Returns when the names in a folder are on the disk.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_add_up_until_they_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let pending = PendingRestore::of(folder.path());
        assert_eq!(pending.lost().unwrap(), None);
        pending.record("the first").unwrap();
        for _ in 0..2 {
            pending.record("the second").unwrap();
        }
        assert_eq!(pending.lost().unwrap().as_deref(), Some("the first; the second"));
        pending.remove().unwrap();
        assert_eq!(pending.lost().unwrap(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn damage_of_its_content_does_not_hide_a_pending_restore() {
        let folder = tempfile::tempdir().unwrap();
        let pending = PendingRestore::of(folder.path());
        for (bytes, shown) in [
            (&b""[..], ""),
            (&[0; 5], ""),
            (b"cut of", "cut of"),
            (b"a\x1b[31m\nb\0\0c", "a; [31m; b; c"),
            (b"\xff\xfea", "\u{fffd}\u{fffd}a"),
        ] {
            fs::write(folder.path().join(FILE), bytes).unwrap();
            assert_eq!(pending.lost().unwrap().as_deref(), Some(shown), "{bytes:?}");
        }
        fs::write(folder.path().join(FILE), [b'x'; 10_000]).unwrap();
        assert_eq!(pending.lost().unwrap().map(|shown| shown.len()), Some(SHOWN_BYTES_MAX));
        fs::remove_file(folder.path().join(FILE)).unwrap();
        fs::create_dir(folder.path().join(FILE)).unwrap();
        assert!(pending.lost().is_err(), "what cannot be read is not taken for nothing");
    }

    /// A crash before the rename leaves no file that counts: nothing was given up yet.
    #[test]
    fn a_half_written_file_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NEW), "half").unwrap();
        let pending = PendingRestore::of(folder.path());
        assert_eq!(pending.lost().unwrap(), None);
        pending.record("a loss").unwrap();
        assert_eq!(pending.lost().unwrap().as_deref(), Some("a loss"));
    }
}
