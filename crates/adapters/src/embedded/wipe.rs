//! Erases data from the database's files after it was removed from the log and the checkpoints.
//!
//! fjall keeps removed data in three places: in the journal, until that is full and everything in
//! it is in tables too; in tables, until a compaction meets the tombstone or the newer value; in
//! files of large values, until no value of the file is used. So a wipe fills the journal, flushes
//! memory to tables, and compacts the tables. Because wipes repeat, no file of large values spans
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
/// The free disk space that a wipe needs: a journal, the tables that it writes, and room for the log.
const SPACE_BYTES: usize = 3 * JOURNAL_BYTES;
/// The bytes that one write adds to the journal. The log's own writes wait for it.
const FILLER_BYTES: usize = 1 << 20;
const FILLER_KEY: &[u8] = b"journal-filler";
/// The longest wait for a flush. A flush waits for the disk, and reopening a failed database waits
/// for this.
pub(super) const FLUSH_WAIT_MAX: Duration = Duration::from_secs(30);
const FLUSH_POLL: Duration = Duration::from_millis(10);

/// Erases removed data from the files of the database in `folder`. Fails if a flush takes longer
/// than `flush_wait_max`. However often it fails, it leaves at most one journal more.
pub(super) fn wipe(opened: &Opened, folder: &Path, flush_wait_max: Duration) -> Result<(), StoreError> {
    // A disk that this fills would stop the log.
    probe_bytes(folder, SPACE_BYTES)?;
    let mut old = journals(folder)?;
    let current = old.pop();
    if !old.is_empty() {
        // An earlier wipe may have left them. Another journal would not remove them.
        flush(opened)?;
        wait(flush_wait_max, || Ok(!old.iter().any(|journal| journal.exists())))?;
    }
    fill_journal(opened)?;
    flush(opened)?;
    wait(flush_wait_max, || Ok(journals(folder)?.pop() != current))?;
    // What was written before the new journal began, but after the flush, is still in memory.
    flush(opened)?;
    wait(flush_wait_max, || Ok(!current.as_ref().is_some_and(|journal| journal.exists())))?;
    for space in Space::ALL {
        let entries = opened.space(space);
        if entries.tree.tombstone_count() > 0 {
            entries.major_compact()?;
        }
        // A compaction finds out which files of large values are no longer used. The next one
        // removes them.
        if entries.tree.stale_blob_bytes() > 0 {
            entries.major_compact()?;
        }
    }
    // fjall removes the replaced tables with its next change.
    opened.write(vec![filler(None)])?;
    opened.space(Space::Meta).rotate_memtable()?;
    Ok(())
}

/// Returns the journal files, oldest first.
fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_journal = path.extension().is_some_and(|extension| extension == "jnl");
        let id = path.file_stem().and_then(|id| id.to_str()?.parse::<u64>().ok());
        found.extend(id.filter(|_| is_journal).map(|id| (id, path)));
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Begins to write what is in memory to tables. fjall begins a new journal meanwhile, if the current
/// one is full.
fn flush(opened: &Opened) -> Result<(), StoreError> {
    for space in Space::ALL {
        opened.space(space).rotate_memtable()?;
    }
    Ok(())
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

/// Waits until `is_done`.
fn wait(longest: Duration, is_done: impl Fn() -> io::Result<bool>) -> Result<(), StoreError> {
    let started = Instant::now();
    while !is_done()? {
        if started.elapsed() >= longest {
            return Err(StoreError::Unavailable(
                "an old journal is still needed; the next wipe tries again".to_owned(),
            ));
        }
        std::thread::sleep(FLUSH_POLL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ports::log::Topic;

    use super::super::damage::Losses;
    use super::super::store::Store;
    use super::*;

    #[test]
    fn a_wipe_that_fails_again_and_again_leaves_one_journal_more() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let store = Store::open(folder, Losses::Refuse, &mut Vec::new()).unwrap();
        let events = Space::Topic(Topic::Events);
        store.write(vec![Change { space: events, key: b"key".into(), value: Some(b"value".into()) }]).unwrap();
        store
            .with(|opened| {
                let flushing = opened.space(events).tree.get_flush_lock();
                assert!(wipe(opened, folder, Duration::ZERO).is_err());
                wait(FLUSH_WAIT_MAX, || Ok(journals(folder)?.len() == 2))?;
                for _ in 0..3 {
                    assert!(wipe(opened, folder, Duration::ZERO).is_err());
                    assert_eq!(journals(folder)?.len(), 2);
                }
                drop(flushing);
                wipe(opened, folder, FLUSH_WAIT_MAX)?;
                assert_eq!(journals(folder)?.len(), 1);
                Ok::<_, StoreError>(())
            })
            .unwrap();
    }
}
