//! [`DuckDbWarehouse`]: the warehouse port on a DuckDB file.
//!
//! [`schema`] says what is stored, [`archive`] writes it, [`history`] reads it for the engine, [`question`] for people.
//! DuckDB's calls block, so each runs on a thread for blocking work. One connection writes; reads have their own and see
//! the last committed state, so neither waits for the other.

mod archive;
mod history;
mod interrupt;
mod question;
mod schema;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use duckdb::{Config, Connection};
use ports::warehouse::{ArchiveBatch, Departure, HistoryOf, Table, Warehouse, WarehouseError};
use segment_engine::event::{Event, UserId};
use segment_engine::machine::Receipt;
use tokio::sync::Semaphore;

pub use question::QUERY_ROWS_MAX;

/// Queries that run at the same time; more wait.
pub const READERS_MAX: usize = 4;
/// What DuckDB may take for its own memory; larger joins go to disk, beside the file.
const MEMORY_MAX: &str = "2GB";

/// DuckDB's threads. Whoever waits for another of them polls meanwhile, and a batch goes to the archive many times a second: where
/// cores are few, that time is the log's and the workers'. So half of the cores are left to them.
fn threads() -> i64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    i64::try_from(cores / 2).unwrap_or(i64::MAX).max(1)
}

/// A warehouse in one file of this machine. Clones share it.
#[derive(Clone)]
pub struct DuckDbWarehouse {
    /// Writes one at a time: aliases are resolved against those before.
    writer: Arc<tokio::sync::Mutex<Connection>>,
    readers: Arc<Readers>,
}

struct Readers {
    idle: Mutex<Vec<Connection>>,
    /// Only ever cloned.
    template: Mutex<Connection>,
    free: Arc<Semaphore>,
}

impl DuckDbWarehouse {
    /// Opens the file, or creates it, and brings its schema up to date. Only one process can have it open.
    pub fn open(file: &Path) -> Result<Self, WarehouseError> {
        let config = Config::default()
            .enable_autoload_extension(false)
            .and_then(|config| config.with("autoinstall_known_extensions", "false"))
            .and_then(|config| config.max_memory(MEMORY_MAX))
            .and_then(|config| config.threads(threads()))
            .map_err(unavailable)?;
        let mut writer = Connection::open_with_flags(file, config).map_err(unavailable)?;
        // Queries of people must not reach other files; spilling beside the database stays allowed.
        writer.execute_batch("SET enable_external_access = false").map_err(unavailable)?;
        start_session(&writer)?;
        schema::migrate(&mut writer)?;
        let template = Mutex::new(writer.try_clone().map_err(unavailable)?);
        let readers = Readers { idle: Mutex::default(), template, free: Arc::new(Semaphore::new(READERS_MAX)) };
        Ok(Self { writer: Arc::new(tokio::sync::Mutex::new(writer)), readers: Arc::new(readers) })
    }

    /// Runs `act` with a connection for reading.
    async fn reading<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Connection) -> Result<T, WarehouseError> + Send + 'static,
    ) -> Result<T, WarehouseError> {
        let readers = self.readers.clone();
        let place = readers.free.clone().acquire_owned().await.expect("the semaphore is never closed");
        blocking(move || {
            // Held until the query ends, also when nobody waits for it any more.
            let _place = place;
            let connection = readers.take()?;
            let answer = act(&connection);
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            answer
        })
        .await
    }
}

impl Readers {
    fn take(&self) -> Result<Connection, WarehouseError> {
        if let Some(connection) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(connection);
        }
        let connection = self.template.lock().unwrap_or_else(PoisonError::into_inner).try_clone();
        let connection = connection.map_err(unavailable)?;
        start_session(&connection)?;
        Ok(connection)
    }
}

/// The settings that DuckDB keeps by connection. Calendar arithmetic of the generated queries counts on UTC.
fn start_session(connection: &Connection) -> Result<(), WarehouseError> {
    connection.execute_batch("SET TimeZone = 'UTC'").map_err(unavailable)
}

/// Every failure of a statement of ours is DuckDB's trouble (disk, memory), not the statement's.
fn unavailable(error: duckdb::Error) -> WarehouseError {
    WarehouseError::Unavailable(error.to_string())
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, WarehouseError> + Send + 'static,
) -> Result<T, WarehouseError> {
    let done = tokio::task::spawn_blocking(act).await;
    done.unwrap_or_else(|error| Err(WarehouseError::Unavailable(error.to_string())))
}

#[async_trait]
impl Warehouse for DuckDbWarehouse {
    async fn archive_position(&self, partition: u32) -> Result<u64, WarehouseError> {
        self.reading(move |connection| archive::position(connection, partition)).await
    }

    async fn archive(&self, batch: ArchiveBatch) -> Result<(), WarehouseError> {
        let mut writer = self.writer.clone().lock_owned().await;
        blocking(move || archive::archive(&mut writer, batch)).await
    }

    async fn received(&self, ids: &[(UserId, String)]) -> Result<Vec<Option<Receipt>>, WarehouseError> {
        let ids = ids.to_vec();
        self.reading(move |connection| history::received(connection, &ids)).await
    }

    async fn departures(&self, users: &[UserId]) -> Result<Vec<Option<Departure>>, WarehouseError> {
        let users = users.to_vec();
        self.reading(move |connection| history::departures(connection, &users)).await
    }

    async fn history(&self, asked: &[HistoryOf]) -> Result<Vec<Event>, WarehouseError> {
        let asked = asked.to_vec();
        self.reading(move |connection| history::history(connection, &asked)).await
    }

    async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, WarehouseError> {
        self.reading(move |connection| history::users(connection, after, limit)).await
    }

    async fn members(&self, sql: &str) -> Result<Vec<UserId>, WarehouseError> {
        let sql = sql.to_owned();
        let query = interrupt::Query::default();
        let _waits = query.end_when_dropped();
        self.reading(move |connection| query.run(connection, || question::members(connection, &sql))).await
    }

    async fn query(&self, sql: &str) -> Result<Table, WarehouseError> {
        let sql = sql.to_owned();
        let query = interrupt::Query::default();
        let _waits = query.end_when_dropped();
        self.reading(move |connection| query.run(connection, || question::query(connection, &sql))).await
    }
}
