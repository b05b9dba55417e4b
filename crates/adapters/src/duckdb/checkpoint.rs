//! Checkpoints of the file that can be interrupted.
//!
//! A checkpoint moves the write-ahead log into the file. DuckDB writes rows into free blocks, adds to
//! the blocks of metadata, syncs, and then writes the other one of two headers. Until then the old
//! header is in force, and what it needs is still there. But DuckDB writes blocks of metadata in
//! place, and each has one checksum: if a kill or a full disk interrupts that write, the block is
//! partly new, and DuckDB refuses the file.
//!
//! So [`make`] copies these blocks first, into a **rollback journal** beside the file, and syncs it.
//! A journal that is not empty at the start means that a checkpoint was interrupted. If the file has
//! the headers of the journal, its checkpoint did not end, and [`Journal::roll_back`] puts the blocks
//! back. Then DuckDB reads the write-ahead log again. If a header is newer, all blocks were synced
//! before it; it is synced itself before DuckDB removes the write-ahead log.
//!
//! The journal is locked as long as the file is open. DuckDB's own lock keeps other processes out,
//! but not a second opening in this one.
//!
//! The layout of the file is that of DuckDB's `storage_info.hpp`. DuckDB makes no checkpoint of its
//! own: see [`only_ours`] and [`none_at_close`].

use std::fmt::Display;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use duckdb::{Config, Connection};
use ports::warehouse::WarehouseError;

use super::unavailable;

/// The first header of the file never changes. The two after it take turns; each is one page.
const HEADERS_AT: u64 = 4_096;
const HEADERS_BYTES: usize = 2 * 4_096;
const BLOCKS_AT: u64 = 3 * 4_096;
/// DuckDB's default, which we leave alone.
const BLOCK_BYTES: usize = 256 << 10;
/// A block in the journal: its place in the file, and its bytes.
const ENTRY_BYTES: usize = 8 + BLOCK_BYTES;
const CHECKSUM_BYTES: usize = 4;
/// The size of write-ahead log at which DuckDB would make a checkpoint: never reached.
const NEVER: &str = "1000TB";

/// Keeps DuckDB from checkpoints after commits.
pub(super) fn only_ours(config: Config) -> duckdb::Result<Config> {
    config.with("checkpoint_threshold", NEVER)
}

/// Keeps DuckDB from a checkpoint when the file is closed.
pub(super) fn none_at_close(connection: &Connection) -> duckdb::Result<()> {
    connection.execute_batch("PRAGMA disable_checkpoint_on_shutdown")
}

/// Returns the bytes of the write-ahead log.
pub(super) fn wal_bytes(file: &Path) -> u64 {
    std::fs::metadata(beside(file, ".wal")).map_or(0, |wal| wal.len())
}

/// Moves the write-ahead log into the file. After a failure the file must be opened anew, unless the
/// checkpoint [was refused](is_refused).
///
/// `database` is the file, open. It stays open as long as DuckDB has it: see `Opened`.
pub(super) fn make(connection: &Connection, database: &File, journal: &Journal) -> Result<(), WarehouseError> {
    let file = connection.path().expect("the connection was opened with a file");
    let (wal_bytes, began) = (wal_bytes(file), Instant::now());
    if wal_bytes == 0 {
        return Ok(());
    }
    let blocks = blocks_of_metadata(connection).map_err(unavailable)?;
    journal.write(database, &blocks).map_err(|error| failed(file, &error))?;
    let made = connection.execute_batch("CHECKPOINT").map_err(unavailable);
    if made.as_ref().err().is_none_or(is_refused) {
        journal.empty();
    }
    made?;
    tracing::debug!(wal_bytes, took = ?began.elapsed(), "a checkpoint of the warehouse");
    Ok(())
}

/// Whether DuckDB refused to make a checkpoint, and did nothing: a query reads what was there before the
/// last commit.
pub(super) fn is_refused(error: &WarehouseError) -> bool {
    matches!(error, WarehouseError::Unavailable(reason) if reason.contains("Cannot CHECKPOINT"))
}

fn failed(file: impl AsRef<Path>, error: &impl Display) -> WarehouseError {
    WarehouseError::Unavailable(format!("the journal of {}: {error}", file.as_ref().display()))
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The rollback journal: both headers, then blocks of metadata, then a CRC-32 of it all. It is empty
/// unless a checkpoint is being made, or was interrupted.
pub(super) struct Journal(File);

impl Journal {
    /// Opens the journal of a database file, and undoes a checkpoint that was interrupted. Fails if
    /// the database is open, here or in another process.
    pub(super) fn open(file: &Path) -> Result<Self, WarehouseError> {
        let journal = Self::lock(file).map_err(|error| failed(file, &error))?;
        journal.roll_back(file).map_err(|error| failed(file, &error))?;
        Ok(journal)
    }

    fn lock(file: &Path) -> io::Result<Self> {
        let path = beside(file, ".journal");
        let journal = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        journal.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("it is locked: the warehouse is open already"),
            TryLockError::Error(error) => error,
        })?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self(journal))
    }

    fn write(&self, database: &File, blocks: &[u64]) -> io::Result<()> {
        if self.0.metadata()?.nlink() == 0 {
            return Err(io::Error::other("it was removed"));
        }
        let (mut checksum, mut end) = (crc32fast::Hasher::new(), 0);
        let mut add = |bytes: &[u8]| {
            checksum.update(bytes);
            self.0.write_all_at(bytes, end)?;
            end += bytes.len() as u64;
            io::Result::Ok(())
        };
        let mut headers = [0; HEADERS_BYTES];
        database.read_exact_at(&mut headers, HEADERS_AT)?;
        add(&headers)?;
        let mut block = vec![0; BLOCK_BYTES];
        for at in blocks.iter().map(|number| BLOCKS_AT + number * BLOCK_BYTES as u64) {
            database.read_exact_at(&mut block, at)?;
            add(&at.to_le_bytes())?;
            add(&block)?;
        }
        self.0.write_all_at(&checksum.finalize().to_le_bytes(), end)?;
        self.0.set_len(end + CHECKSUM_BYTES as u64)?;
        self.0.sync_all()
    }

    /// Empties it, when a checkpoint was made or refused. If that fails, the next start finds a newer
    /// header, or blocks that are as they were.
    fn empty(&self) {
        if let Err(error) = self.0.set_len(0) {
            tracing::warn!(%error, "the journal of the warehouse keeps its room until the next checkpoint");
        }
    }

    /// Undoes a checkpoint that was interrupted. The file must not be open.
    fn roll_back(&self, file: &Path) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(self.0.metadata()?.len()).map_err(io::Error::other)?];
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.read_exact_at(&mut bytes, 0)?;
        let database = match File::options().read(true).write(true).open(file) {
            // Moved away by its owner.
            Err(error) if error.kind() == ErrorKind::NotFound => return self.0.set_len(0),
            opened => opened?,
        };
        let mut headers = [0; HEADERS_BYTES];
        database.read_exact_at(&mut headers, HEADERS_AT)?;
        // One that is not whole was interrupted itself, before its checkpoint began.
        if let Some(entries) = blocks_if_whole(&bytes, &headers) {
            for entry in entries.chunks_exact(ENTRY_BYTES) {
                let (at, block) = entry.split_at(8);
                let at = u64::from_le_bytes(at.try_into().expect("eight bytes"));
                database.write_all_at(block, at)?;
            }
            tracing::info!(
                blocks = entries.len() / ENTRY_BYTES,
                "a checkpoint of the warehouse was interrupted and undone"
            );
        } else {
            // Perhaps a sync of the newer one failed, or it was never synced. Written again, it is.
            database.write_all_at(&headers, HEADERS_AT)?;
        }
        database.sync_all()?;
        self.0.set_len(0)
    }
}

/// Returns the numbers of the blocks of metadata that have room: DuckDB writes no others in place.
fn blocks_of_metadata(connection: &Connection) -> duckdb::Result<Vec<u64>> {
    let mut statement = connection.prepare("SELECT block_id FROM pragma_metadata_info() WHERE free_blocks > 0")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// Returns a journal's blocks if it is whole, and its checkpoint did not end: the file has `headers`.
fn blocks_if_whole<'a>(journal: &'a [u8], headers: &[u8]) -> Option<&'a [u8]> {
    let (body, checksum) = journal.split_at_checked(journal.len().checked_sub(CHECKSUM_BYTES)?)?;
    let is_whole = crc32fast::hash(body).to_le_bytes() == checksum;
    body.strip_prefix(headers).filter(|blocks| is_whole && blocks.len().is_multiple_of(ENTRY_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a database file of two blocks, beside the journal of a checkpoint that will write both.
    fn interrupted() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("w.duckdb");
        let bytes: Vec<u8> = (0..BLOCKS_AT as usize + 2 * BLOCK_BYTES).map(|at| (at / 64) as u8).collect();
        std::fs::write(&file, bytes).unwrap();
        Journal::open(&file).unwrap().write(&File::open(&file).unwrap(), &[0, 1]).unwrap();
        (folder, file)
    }

    fn overwrite(file: &Path, at: u64) {
        File::options().write(true).open(file).unwrap().write_all_at(&[0xEE; 5_000], at).unwrap();
    }

    fn journal(file: &Path) -> Vec<u8> {
        std::fs::read(beside(file, ".journal")).unwrap()
    }

    #[test]
    fn blocks_are_put_back_unless_a_header_is_newer() {
        for is_newer in [false, true] {
            let (_folder, file) = interrupted();
            let before = std::fs::read(&file).unwrap();
            overwrite(&file, BLOCKS_AT + 100);
            overwrite(&file, BLOCKS_AT + BLOCK_BYTES as u64 + 70_000);
            if is_newer {
                overwrite(&file, HEADERS_AT + 1_000);
            }
            let after = std::fs::read(&file).unwrap();
            drop(Journal::open(&file).unwrap());
            assert!(std::fs::read(&file).unwrap() == if is_newer { after } else { before }, "{is_newer}");
            assert!(journal(&file).is_empty());
        }
    }

    #[test]
    fn a_journal_that_is_not_whole_changes_nothing() {
        let (_folder, file) = interrupted();
        let whole = journal(&file);
        overwrite(&file, BLOCKS_AT);
        let present = std::fs::read(&file).unwrap();
        for length in [0, 3, 4, HEADERS_BYTES, HEADERS_BYTES + 4 + ENTRY_BYTES, whole.len() - 1] {
            std::fs::write(beside(&file, ".journal"), &whole[..length]).unwrap();
            drop(Journal::open(&file).unwrap());
            assert!(std::fs::read(&file).unwrap() == present && journal(&file).is_empty(), "{length} bytes");
        }
    }

    #[test]
    fn a_journal_has_nothing_of_a_longer_one_before_it() {
        let (_folder, file) = interrupted();
        let (before, held) = (std::fs::read(&file).unwrap(), Journal::lock(&file).unwrap());
        held.write(&File::open(&file).unwrap(), &[1]).unwrap();
        drop(held);
        overwrite(&file, BLOCKS_AT + BLOCK_BYTES as u64);
        drop(Journal::open(&file).unwrap());
        assert!(std::fs::read(&file).unwrap() == before);
    }

    #[test]
    fn a_journal_that_was_removed_is_not_written() {
        let (_folder, file) = interrupted();
        let held = Journal::lock(&file).unwrap();
        std::fs::remove_file(beside(&file, ".journal")).unwrap();
        held.write(&File::open(&file).unwrap(), &[1]).unwrap_err();
    }

    #[test]
    fn the_journal_of_an_open_database_is_left_alone() {
        let (_folder, file) = interrupted();
        let held = Journal::lock(&file).unwrap();
        overwrite(&file, BLOCKS_AT);
        let present = (std::fs::read(&file).unwrap(), journal(&file));
        assert!(Journal::open(&file).is_err());
        assert!((std::fs::read(&file).unwrap(), journal(&file)) == present);
        drop(held);
        Journal::open(&file).unwrap();
    }

    #[test]
    fn a_journal_without_a_database_is_emptied() {
        let (_folder, file) = interrupted();
        std::fs::remove_file(&file).unwrap();
        drop(Journal::open(&file).unwrap());
        assert!(journal(&file).is_empty() && !file.exists());
    }
}
