//! Erases data from the database's files after it was removed from the log and the checkpoints.
//!
//! fjall keeps removed data in three places: in the journal, until that is full and everything in
//! it is in tables too; in tables, until a compaction meets the tombstone or the newer value; in
//! files of large values, until no value of the file is used. So a scrub fills the journal, flushes
//! memory to tables, and compacts the tables. Because scrubs repeat, no file of large values spans
//! more than the time between two of them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fjall::AbstractTree;

use super::store::{Change, Opened, Space, StoreError};
use crate::space::probe_bytes;

/// fjall begins a new journal when a flush finds more than 64,000,000 bytes in it. It offers no
/// other way to ask for one.
const JOURNAL_BYTES: usize = 64_000_000;
/// The free disk space that a scrub needs: a journal, the tables that it writes, and room for the log.
const SPACE_BYTES: usize = 3 * JOURNAL_BYTES;
/// The bytes that one write adds to the journal. The log's own writes wait for it.
const FILLER_BYTES: usize = 1 << 20;
const FILLER_KEY: &[u8] = b"journal-filler";
/// The longest wait for a flush. A flush waits for the disk, and reopening a failed database waits
/// for this.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(30);
const FLUSH_POLL: Duration = Duration::from_millis(10);

/// Erases removed data from the files of the database in `folder`.
pub(super) fn scrub(opened: &Opened, folder: &Path) -> Result<(), StoreError> {
    // A disk that this fills would stop the log.
    probe_bytes(folder, SPACE_BYTES)?;
    let old_journals = journals(folder)?;
    fill_journal(opened)?;
    for space in Space::ALL {
        opened.space(space).rotate_memtable()?;
    }
    wait_until_removed(&old_journals)?;
    for space in Space::ALL {
        let entries = opened.space(space);
        if entries.tree.tombstone_count() > 0 {
            entries.major_compact()?;
        }
    }
    // fjall removes the replaced tables with its next change.
    opened.write(vec![filler(None)])?;
    opened.space(Space::Meta).rotate_memtable()?;
    Ok(())
}

/// Returns the journal files.
fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jnl");
    entries.filter(|path| path.as_ref().map_or(true, is_journal)).collect()
}

fn fill_journal(opened: &Opened) -> Result<(), StoreError> {
    for _ in 0..=JOURNAL_BYTES / FILLER_BYTES {
        opened.write(vec![filler(Some(vec![0; FILLER_BYTES]))])?;
    }
    opened.write(vec![filler(None)])
}

fn filler(value: Option<Vec<u8>>) -> Change {
    Change { space: Space::Meta, key: FILLER_KEY.into(), value: value.map(Into::into) }
}

fn wait_until_removed(journals: &[PathBuf]) -> Result<(), StoreError> {
    let started = Instant::now();
    while journals.iter().any(|journal| journal.exists()) {
        if started.elapsed() > FLUSH_WAIT_MAX {
            return Err(StoreError::Unavailable(
                "an old journal is still needed; the next scrub tries again".to_owned(),
            ));
        }
        std::thread::sleep(FLUSH_POLL);
    }
    Ok(())
}
