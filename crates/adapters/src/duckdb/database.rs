//! The open database, and how it recovers from a failed write.
//!
//! A failed write can leave DuckDB in a state that it cannot leave by itself: if the disk is full
//! or fails at the wrong moment, it refuses everything "until it is restarted". [`Database`]
//! reopens it in the running process as soon as the disk can be written again. Everything committed
//! is still there: rows and archive position together, or neither.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use duckdb::{Config, Connection};
use ports::warehouse::WarehouseError;

use super::checkpoint::{self, Journal};
use super::{ROW_GROUP_ROWS, schema, unavailable};
use crate::quiet::cores;
use crate::space::probe;

/// The memory that DuckDB may use. Larger joins spill to disk, beside the file. It fills this in time with
/// blocks that it wrote and read, which the system's page cache has too.
const MEMORY_MAX: &str = "1GB";
/// The pause after a failed write before the database is reopened. Doubles with each failed
/// attempt.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A database file that is reopened when needed.
pub(super) struct Database {
    file: PathBuf,
    /// A write that leaves more bytes in the write-ahead log ends with a checkpoint, and so does one that
    /// fills a row group.
    wal_bytes_max: u64,
    /// How many queries are running.
    reading: AtomicUsize,
    /// `None` if it could not be reopened. Only a reopen takes the lock for writing.
    opened: RwLock<Option<Opened>>,
    /// The last failure; `None` if the database works.
    broken: Mutex<Option<Broken>>,
    /// Held during a reopen.
    healing: Mutex<()>,
}

/// A query that is running.
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn of(all: &'a AtomicUsize) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(all)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Broken {
    reason: String,
    pause: Duration,
    retry_at: Instant,
}

/// The connection that writes.
pub(super) struct Writer {
    connection: Connection,
    file: File,
    /// Unlocked last, when the database is closed.
    journal: Journal,
    /// How many events were added since the last checkpoint, without whole row groups.
    events_added: usize,
}

impl Writer {
    /// See [`checkpoint::make`].
    pub(super) fn checkpoint(&mut self) -> Result<(), WarehouseError> {
        checkpoint::make(&self.connection, &self.file, &self.journal)?;
        self.events_added = 0;
        Ok(())
    }

    /// Notes that a transaction added events. A whole row group of them is in the file already.
    pub(super) fn added(&mut self, events: usize) {
        if events != ROW_GROUP_ROWS {
            self.events_added += events;
        }
    }

    /// Whether the events that were added fill row groups exactly.
    fn is_full(&self) -> bool {
        self.events_added > 0 && self.events_added.is_multiple_of(ROW_GROUP_ROWS)
    }
}

impl Deref for Writer {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Writer {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

struct Opened {
    /// Reading connections that are not in use.
    idle: Mutex<Vec<Connection>>,
    /// Never used itself, only cloned.
    template: Mutex<Connection>,
    /// The last field, so that its file is closed last: a process loses DuckDB's lock of a file with the
    /// first handle that it closes.
    writer: Mutex<Writer>,
}

/// Returns the number of DuckDB's threads: half of the cores. A thread that waits for another one
/// polls, and batches go to the archive many times a second. On a machine with few cores the log
/// and the workers need that time.
fn threads() -> i64 {
    i64::try_from(cores() / 2).unwrap_or(i64::MAX).max(1)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Opened {
    fn open(file: &Path) -> Result<Self, WarehouseError> {
        let config = Config::default()
            .enable_autoload_extension(false)
            .and_then(|config| config.with("autoinstall_known_extensions", "false"))
            .and_then(|config| config.max_memory(MEMORY_MAX))
            .and_then(|config| config.threads(threads()))
            .and_then(checkpoint::only_ours)
            .map_err(unavailable)?;
        let journal = Journal::open(file)?;
        let mut writer = Connection::open_with_flags(file, config).map_err(unavailable)?;
        // Before anything that may fail, and close it again.
        checkpoint::none_at_close(&writer).map_err(unavailable)?;
        remove_spilled(file).map_err(|error| WarehouseError::Unavailable(error.to_string()))?;
        // Users' queries must not reach other files. Spilling beside the database stays allowed.
        writer.execute_batch("SET enable_external_access = false").map_err(unavailable)?;
        start_session(&writer)?;
        schema::migrate(&mut writer)?;
        let template = Mutex::new(writer.try_clone().map_err(unavailable)?);
        let file = File::open(file).map_err(|error| WarehouseError::Unavailable(error.to_string()))?;
        let writer = Mutex::new(Writer { connection: writer, file, journal, events_added: 0 });
        Ok(Self { idle: Mutex::default(), template, writer })
    }

    fn reader(&self) -> Result<Connection, WarehouseError> {
        if let Some(connection) = locked(&self.idle).pop() {
            return Ok(connection);
        }
        let connection = locked(&self.template).try_clone().map_err(unavailable)?;
        start_session(&connection)?;
        Ok(connection)
    }
}

/// Removes what queries spilled beside the file before the process was killed. DuckDB creates the
/// folder again.
fn remove_spilled(file: &Path) -> io::Result<()> {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".tmp");
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Applies the settings that DuckDB keeps per connection. The calendar arithmetic of generated
/// queries relies on UTC. DuckDB counts the rows that it prepares of a streamed result without
/// their strings, so it must not prepare more than it can help.
fn start_session(connection: &Connection) -> Result<(), WarehouseError> {
    connection.execute_batch("SET TimeZone = 'UTC'; SET streaming_buffer_size = '1KB'").map_err(unavailable)
}

impl Database {
    /// Opens the file, or creates it. Fails if it is open, here or in another process.
    pub(super) fn open(file: &Path, wal_bytes_max: u64) -> Result<Self, WarehouseError> {
        let opened = RwLock::new(Some(Opened::open(file)?));
        Ok(Self {
            file: file.to_owned(),
            wal_bytes_max,
            reading: AtomicUsize::new(0),
            opened,
            broken: Mutex::default(),
            healing: Mutex::default(),
        })
    }

    /// Calls `act` with the writing connection. After a failed write it fails with `Unavailable`
    /// until the database is reopened.
    pub(super) fn write<T>(
        &self,
        act: impl FnOnce(&mut Writer) -> Result<T, WarehouseError>,
    ) -> Result<T, WarehouseError> {
        self.heal()?;
        let written = self.with(|opened| {
            let mut writer = locked(&opened.writer);
            // A query held it up.
            self.checkpoint_if_due(&mut writer);
            let written = act(&mut writer)?;
            self.checkpoint_if_due(&mut writer);
            Ok(written)
        });
        written.inspect_err(|error| self.note(error))
    }

    /// Makes a checkpoint if one is due. What was written is stored all the same if it fails.
    fn checkpoint_if_due(&self, writer: &mut Writer) {
        // A query that began before the last write would have it refused: there will be another write.
        let nobody_reads = self.reading.load(Ordering::Relaxed) == 0;
        if nobody_reads && (writer.is_full() || checkpoint::wal_bytes(&self.file) > self.wal_bytes_max) {
            let _noted = writer.checkpoint().inspect_err(|error| self.note(error));
        }
    }

    /// Returns how many events were added since the last checkpoint, without whole row groups; 0 while the
    /// database cannot be opened.
    pub(super) fn events_added(&self) -> usize {
        self.with(|opened| Ok(locked(&opened.writer).events_added)).unwrap_or_default()
    }

    /// Calls `act` with a reading connection. Reads go on while writes fail, as far as DuckDB can
    /// still read.
    pub(super) fn read<T>(
        &self,
        act: impl FnOnce(&Connection) -> Result<T, WarehouseError>,
    ) -> Result<T, WarehouseError> {
        let result = self.with(|opened| {
            let connection = opened.reader()?;
            let _running = Running::of(&self.reading);
            let result = act(&connection);
            locked(&opened.idle).push(connection);
            result
        });
        result.inspect_err(|error| {
            if is_fatal(error) {
                self.note(error);
            }
        })
    }

    /// Reopens the database if a write failed, unless the pause is not over or another thread is
    /// reopening it.
    pub(super) fn heal(&self) -> Result<(), WarehouseError> {
        let Some(reason) = self.reason_to_reopen(Instant::now())? else { return Ok(()) };
        let Ok(_healing) = self.healing.try_lock() else { return Err(WarehouseError::Unavailable(reason)) };
        if locked(&self.broken).is_none() {
            return Ok(());
        }
        self.reopen().inspect_err(|error| self.put_off(error, Instant::now()))?;
        *locked(&self.broken) = None;
        tracing::info!("the warehouse can be written again");
        Ok(())
    }

    /// Returns why the database must be reopened now, or `None` if it works. Fails during the
    /// pause.
    fn reason_to_reopen(&self, now: Instant) -> Result<Option<String>, WarehouseError> {
        match &*locked(&self.broken) {
            None => Ok(None),
            Some(broken) if now < broken.retry_at => Err(WarehouseError::Unavailable(broken.reason.clone())),
            Some(broken) => Ok(Some(broken.reason.clone())),
        }
    }

    fn reopen(&self) -> Result<(), WarehouseError> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        // While the disk fails, the old database stays open: perhaps it can be read.
        probe(folder).map_err(|error| WarehouseError::Unavailable(error.to_string()))?;
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        // Closed first, because one process must not have the file open twice.
        *opened = None;
        *opened = Some(Opened::open(&self.file)?);
        Ok(())
    }

    fn with<T>(&self, act: impl FnOnce(&Opened) -> Result<T, WarehouseError>) -> Result<T, WarehouseError> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        match opened.as_ref() {
            Some(opened) => act(opened),
            None => {
                let reason = locked(&self.broken).as_ref().map_or_else(String::new, |broken| broken.reason.clone());
                Err(WarehouseError::Unavailable(reason))
            }
        }
    }

    /// Records a failure, so that the database is reopened. A refused checkpoint is none.
    fn note(&self, error: &WarehouseError) {
        let WarehouseError::Unavailable(reason) = error else { return };
        if checkpoint::is_refused(error) {
            return;
        }
        let retry_at = Instant::now() + PAUSE_MIN;
        locked(&self.broken).get_or_insert_with(|| Broken { reason: reason.to_owned(), pause: PAUSE_MIN, retry_at });
    }

    fn put_off(&self, error: &WarehouseError, now: Instant) {
        if let Some(broken) = &mut *locked(&self.broken) {
            broken.pause = (broken.pause * 2).min(PAUSE_MAX);
            broken.retry_at = now + broken.pause;
            if let WarehouseError::Unavailable(reason) = error {
                broken.reason.clone_from(reason);
            }
        }
    }
}

impl Drop for Database {
    /// Ends with a checkpoint, so that the next start has no write-ahead log to read.
    fn drop(&mut self) {
        let is_broken = locked(&self.broken).is_some();
        let opened = self.opened.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = opened.as_ref().filter(|_| !is_broken) else { return };
        if let Err(error) = locked(&opened.writer).checkpoint() {
            tracing::warn!(%error, "the warehouse keeps its write-ahead log until the next start");
        }
    }
}

/// Whether DuckDB refuses everything after this error.
fn is_fatal(error: &WarehouseError) -> bool {
    let WarehouseError::Unavailable(message) = error else { return false };
    ["FATAL Error", "INTERNAL Error", "has been invalidated"].iter().any(|sign| message.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAL_BYTES_MAX: u64 = 100_000;

    fn write(database: &Database) {
        let sql = "CREATE OR REPLACE TABLE numbers AS SELECT hash(i) AS number FROM range(50_000) numbers(i)";
        database.write(|connection| connection.execute_batch(sql).map_err(unavailable)).expect("it is stored");
    }

    /// Linux lists the locks of files with their inodes.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_file_stays_locked_after_checkpoints() {
        use std::os::unix::fs::MetadataExt;

        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = Database::open(&folder.path().join("w.duckdb"), WAL_BYTES_MAX).expect("it opens");
        let inode = std::fs::metadata(&database.file).expect("it is there").ino();
        let is_locked = || {
            let locks = std::fs::read_to_string("/proc/locks").expect("Linux lists them");
            locks.lines().any(|lock| lock.contains("POSIX") && lock.contains(&format!(":{inode} ")))
        };
        assert!(is_locked());
        write(&database);
        assert!(is_locked());
        drop(database);
        assert!(!is_locked());
    }

    #[test]
    fn an_open_database_is_not_opened_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("w.duckdb");
        let database = Database::open(&file, WAL_BYTES_MAX).expect("it opens");
        assert!(Database::open(&file, WAL_BYTES_MAX).is_err());
        write(&database);
        drop(database);
        Database::open(&file, WAL_BYTES_MAX).expect("it opens");
    }

    #[test]
    fn a_checkpoint_waits_for_queries_that_began_before_the_write() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = Database::open(&folder.path().join("w.duckdb"), WAL_BYTES_MAX).expect("it opens");
        write(&database);
        assert!(checkpoint::wal_bytes(&database.file) < WAL_BYTES_MAX, "the write ended with a checkpoint");
        let query = |connection: &Connection| {
            connection.execute_batch("BEGIN; SELECT count(*) FROM numbers").map_err(unavailable)?;
            write(&database);
            assert!(checkpoint::wal_bytes(&database.file) > WAL_BYTES_MAX);
            // Asked for, as by a wipe, it is refused, and nothing is broken.
            let refused = database.write(|writer| writer.checkpoint()).unwrap_err();
            assert!(checkpoint::is_refused(&refused), "{refused}");
            database.heal()?;
            connection.execute_batch("COMMIT").map_err(unavailable)
        };
        database.read(query).expect("it can be read");
        write(&database);
        assert!(checkpoint::wal_bytes(&database.file) < WAL_BYTES_MAX);
    }
}
