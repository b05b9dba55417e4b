//! Checkpoints of the file that can be interrupted.
//!
//! A checkpoint moves the write-ahead log into the file. DuckDB writes rows into free blocks, adds to
//! the blocks of metadata, syncs, and then writes the other one of two headers. Until then the old
//! header is in force, and what it needs is still there. But DuckDB writes blocks of metadata in
//! place, and each has one checksum: if a kill or a full disk interrupts that write, the block is
//! partly new, and DuckDB refuses the file.
//!
//! So [`make`] copies these blocks first, into a **rollback journal** beside the file, and syncs it.
//! A journal at the start means that a checkpoint was interrupted. If the file has the headers of
//! the journal, its checkpoint did not end, and [`roll_back`] puts the blocks back. Then DuckDB
//! reads the write-ahead log again. If a header is newer, all blocks were synced before it; it is
//! synced itself before DuckDB removes the write-ahead log.
//!
//! The layout of the file is that of DuckDB's `storage_info.hpp`. DuckDB makes no checkpoint of its
//! own: see [`only_ours`] and [`none_at_close`].

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
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
pub(super) fn make(connection: &Connection, database: &File) -> Result<(), WarehouseError> {
    let file = connection.path().expect("the connection was opened with a file");
    let (wal_bytes, began) = (wal_bytes(file), Instant::now());
    if wal_bytes == 0 {
        return Ok(());
    }
    let journal = Journal::of(file);
    // Locked until it is removed, so that no other process takes it for a dead one's.
    let _locked = journal.write(connection, database)?;
    let made = connection.execute_batch("CHECKPOINT").map_err(unavailable);
    if made.as_ref().err().is_none_or(is_refused) {
        journal.remove().map_err(failed)?;
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

/// Undoes a checkpoint that was interrupted. The file must not be open.
pub(super) fn roll_back(file: &Path) -> Result<(), WarehouseError> {
    let journal = Journal::of(file);
    journal.roll_back(file).map_err(failed)
}

fn failed(error: io::Error) -> WarehouseError {
    WarehouseError::Unavailable(format!("the file or the journal of its checkpoint: {error}"))
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The rollback journal: both headers, then blocks of metadata, then a CRC-32 of it all.
struct Journal(PathBuf);

impl Journal {
    fn of(file: &Path) -> Self {
        Self(beside(file, ".journal"))
    }

    /// Returns the locked file.
    fn write(&self, connection: &Connection, database: &File) -> Result<File, WarehouseError> {
        let blocks = blocks_of_metadata(connection).map_err(unavailable)?;
        self.try_write(database, &blocks).map_err(failed)
    }

    fn try_write(&self, database: &File, blocks: &[u64]) -> io::Result<File> {
        let mut journal = File::create(&self.0)?;
        journal.lock()?;
        let mut checksum = crc32fast::Hasher::new();
        let mut add = |bytes: &[u8]| {
            checksum.update(bytes);
            journal.write_all(bytes)
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
        let checksum = checksum.finalize();
        journal.write_all(&checksum.to_le_bytes())?;
        journal.sync_all()?;
        if let Some(folder) = self.0.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(journal)
    }

    fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(&self.0)
    }

    fn roll_back(&self, file: &Path) -> io::Result<()> {
        let mut journal = match File::open(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        journal.try_lock()?;
        let mut bytes = Vec::new();
        journal.read_to_end(&mut bytes)?;
        let database = match File::options().read(true).write(true).open(file) {
            // Moved away by its owner.
            Err(error) if error.kind() == ErrorKind::NotFound => return self.remove(),
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
        self.remove()
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

    /// Returns a database file of two blocks, and the journal of a checkpoint that will write both.
    fn interrupted() -> (tempfile::TempDir, PathBuf, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("w.duckdb");
        let bytes: Vec<u8> = (0..BLOCKS_AT as usize + 2 * BLOCK_BYTES).map(|at| (at / 64) as u8).collect();
        std::fs::write(&file, bytes).unwrap();
        let journal = Journal::of(&file);
        drop(journal.try_write(&File::open(&file).unwrap(), &[0, 1]).unwrap());
        (folder, file, journal)
    }

    fn overwrite(file: &Path, at: u64) {
        File::options().write(true).open(file).unwrap().write_all_at(&[0xEE; 5_000], at).unwrap();
    }

    #[test]
    fn blocks_are_put_back_unless_a_header_is_newer() {
        for is_newer in [false, true] {
            let (_folder, file, journal) = interrupted();
            let before = std::fs::read(&file).unwrap();
            overwrite(&file, BLOCKS_AT + 100);
            overwrite(&file, BLOCKS_AT + BLOCK_BYTES as u64 + 70_000);
            if is_newer {
                overwrite(&file, HEADERS_AT + 1_000);
            }
            let after = std::fs::read(&file).unwrap();
            roll_back(&file).unwrap();
            assert!(std::fs::read(&file).unwrap() == if is_newer { after } else { before }, "{is_newer}");
            assert!(!journal.0.exists());
        }
    }

    #[test]
    fn a_journal_that_is_not_whole_changes_nothing() {
        let (_folder, file, journal) = interrupted();
        let whole = std::fs::read(&journal.0).unwrap();
        overwrite(&file, BLOCKS_AT);
        let present = std::fs::read(&file).unwrap();
        for length in [0, 3, 4, HEADERS_BYTES, HEADERS_BYTES + 4 + ENTRY_BYTES, whole.len() - 1] {
            std::fs::write(&journal.0, &whole[..length]).unwrap();
            roll_back(&file).unwrap();
            assert!(std::fs::read(&file).unwrap() == present && !journal.0.exists(), "{length} bytes");
        }
    }

    #[test]
    fn the_journal_of_a_process_that_lives_is_left_alone() {
        let (_folder, file, journal) = interrupted();
        let held = journal.try_write(&File::open(&file).unwrap(), &[0]).unwrap();
        overwrite(&file, BLOCKS_AT);
        let present = std::fs::read(&file).unwrap();
        roll_back(&file).unwrap_err();
        assert!(journal.0.exists() && std::fs::read(&file).unwrap() == present);
        drop(held);
        roll_back(&file).unwrap();
    }

    #[test]
    fn a_journal_without_a_database_is_removed() {
        let (_folder, file, journal) = interrupted();
        std::fs::remove_file(&file).unwrap();
        roll_back(&file).unwrap();
        assert!(!journal.0.exists() && !file.exists());
    }
}
