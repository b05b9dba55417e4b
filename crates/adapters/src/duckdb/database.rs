//! The open database, and its way back after a failed write.
//!
//! A write that fails leaves DuckDB in a state that it cannot always leave by itself: when the disk was full or failed at the
//! wrong moment, it refuses everything "until it is restarted". [`Database`] does that in the running process, as soon as the disk
//! can be written again. What was committed is there then: rows and archive position together, or neither.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use duckdb::{Config, Connection};
use ports::warehouse::WarehouseError;

use super::{schema, unavailable};
use crate::space::probe;

/// What DuckDB may take for its own memory; larger joins go to disk, beside the file.
const MEMORY_MAX: &str = "2GB";
/// After a failed write, how long nobody tries to open the database again. Doubles with each attempt that fails.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A database file, opened anew when that is needed.
pub struct Database {
    file: PathBuf,
    /// `None` when it could not be opened again. Only opening it again takes the lock for writing.
    opened: RwLock<Option<Opened>>,
    /// What went wrong; `None` if nothing did.
    broken: Mutex<Option<Broken>>,
    /// Held by the one who opens it again.
    healing: Mutex<()>,
}

struct Broken {
    reason: String,
    pause: Duration,
    retry_at: Instant,
}

struct Opened {
    writer: Mutex<Connection>,
    /// Connections for reading that nobody uses now.
    idle: Mutex<Vec<Connection>>,
    /// Only ever cloned.
    template: Mutex<Connection>,
}

/// DuckDB's threads. Whoever waits for another of them polls meanwhile, and a batch goes to the archive many times a second: where
/// cores are few, that time is the log's and the workers'. So half of the cores are left to them.
fn threads() -> i64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    i64::try_from(cores / 2).unwrap_or(i64::MAX).max(1)
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
            .map_err(unavailable)?;
        let mut writer = Connection::open_with_flags(file, config).map_err(unavailable)?;
        remove_spilled(file).map_err(|error| WarehouseError::Unavailable(error.to_string()))?;
        // Queries of people must not reach other files; spilling beside the database stays allowed.
        writer.execute_batch("SET enable_external_access = false").map_err(unavailable)?;
        start_session(&writer)?;
        schema::migrate(&mut writer)?;
        let template = Mutex::new(writer.try_clone().map_err(unavailable)?);
        Ok(Self { writer: Mutex::new(writer), idle: Mutex::default(), template })
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

/// Removes what queries had spilled beside the file when the process was killed. DuckDB makes the folder anew.
fn remove_spilled(file: &Path) -> io::Result<()> {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".tmp");
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The settings that DuckDB keeps by connection. Calendar arithmetic of the generated queries counts on UTC.
fn start_session(connection: &Connection) -> Result<(), WarehouseError> {
    connection.execute_batch("SET TimeZone = 'UTC'").map_err(unavailable)
}

impl Database {
    /// Opens the file, or creates it. Only one process can have it open.
    pub fn open(file: &Path) -> Result<Self, WarehouseError> {
        let opened = RwLock::new(Some(Opened::open(file)?));
        Ok(Self { file: file.to_owned(), opened, broken: Mutex::default(), healing: Mutex::default() })
    }

    /// Calls `act` with the connection that writes. Unavailable from a failed write until it is known that writing works again.
    pub fn write<T>(
        &self,
        act: impl FnOnce(&mut Connection) -> Result<T, WarehouseError>,
    ) -> Result<T, WarehouseError> {
        self.heal()?;
        let written = self.with(|opened| act(&mut locked(&opened.writer)));
        written.inspect_err(|error| {
            if let WarehouseError::Unavailable(reason) = error {
                self.note(reason);
            }
        })
    }

    /// Calls `act` with a connection for reading. What can still be read while nothing can be written, is.
    pub fn read<T>(&self, act: impl FnOnce(&Connection) -> Result<T, WarehouseError>) -> Result<T, WarehouseError> {
        // Whether the database is whole shows when it is read.
        let _still_broken = self.heal();
        let answer = self.with(|opened| {
            let connection = opened.reader()?;
            let answer = act(&connection);
            locked(&opened.idle).push(connection);
            answer
        });
        answer.inspect_err(|error| {
            if let WarehouseError::Unavailable(reason) = error
                && is_fatal(reason)
            {
                self.note(reason);
            }
        })
    }

    /// Opens the database anew if a write failed: not before its time, and if nobody else is doing it.
    pub fn heal(&self) -> Result<(), WarehouseError> {
        let Some(reason) = self.reason_to_wait(Instant::now())? else { return Ok(()) };
        let Ok(_healing) = self.healing.try_lock() else { return Err(WarehouseError::Unavailable(reason)) };
        if locked(&self.broken).is_none() {
            return Ok(());
        }
        self.reopen().inspect_err(|error| self.put_off(error, Instant::now()))?;
        *locked(&self.broken) = None;
        tracing::info!("the warehouse can be written again");
        Ok(())
    }

    /// Why the database is to be opened anew now; `None` if it need not be. An error before its time.
    fn reason_to_wait(&self, now: Instant) -> Result<Option<String>, WarehouseError> {
        match &*locked(&self.broken) {
            None => Ok(None),
            Some(broken) if now < broken.retry_at => Err(WarehouseError::Unavailable(broken.reason.clone())),
            Some(broken) => Ok(Some(broken.reason.clone())),
        }
    }

    fn reopen(&self) -> Result<(), WarehouseError> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        // As long as this fails, what is open stays: perhaps it can be read.
        probe(folder).map_err(|error| WarehouseError::Unavailable(error.to_string()))?;
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        // First, since one process must not have the file open twice.
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

    /// Something failed, so that the database must be opened anew.
    fn note(&self, reason: &str) {
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

/// Whether DuckDB answers nothing any more after this error.
fn is_fatal(message: &str) -> bool {
    ["FATAL Error", "INTERNAL Error", "has been invalidated"].iter().any(|sign| message.contains(sign))
}
