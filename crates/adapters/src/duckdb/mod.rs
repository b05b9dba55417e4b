//! [`DuckDbWarehouse`]: the warehouse port on a DuckDB file.
//!
//! [`schema`] says what is stored, [`archive`] writes it, [`history`] reads it for the engine, [`question`] for people;
//! [`database`] opens it, and opens it again after a failure.
//! DuckDB's calls block, so each runs on a thread for blocking work. One connection writes; reads have their own and see
//! the last committed state, so neither waits for the other.

mod archive;
mod database;
mod history;
mod interrupt;
mod question;
mod schema;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use ports::warehouse::{ArchiveBatch, Departure, HistoryOf, Table, Warehouse, WarehouseError};
use segment_engine::event::{Event, UserId};
use segment_engine::machine::Receipt;
use tokio::sync::Semaphore;

use database::Database;
pub use question::QUERY_ROWS_MAX;

/// Queries that run at the same time; more wait.
pub const READERS_MAX: usize = 4;

/// A warehouse in one file of this machine. Clones share it.
#[derive(Clone)]
pub struct DuckDbWarehouse {
    database: Arc<Database>,
    /// Writes one at a time: aliases are resolved against those before.
    turn: Arc<tokio::sync::Mutex<()>>,
    free_readers: Arc<Semaphore>,
}

impl DuckDbWarehouse {
    /// Opens the file, or creates it, and brings its schema up to date. Only one process can have it open.
    pub fn open(file: &Path) -> Result<Self, WarehouseError> {
        let (database, free_readers) = (Arc::new(Database::open(file)?), Arc::new(Semaphore::new(READERS_MAX)));
        Ok(Self { database, turn: Arc::default(), free_readers })
    }

    /// Runs `act` with a connection for reading.
    async fn reading<T: Send + 'static>(
        &self,
        act: impl FnOnce(&duckdb::Connection) -> Result<T, WarehouseError> + Send + 'static,
    ) -> Result<T, WarehouseError> {
        let place = self.free_readers.clone().acquire_owned().await.expect("the semaphore is never closed");
        let database = self.database.clone();
        blocking(move || {
            // Held until the query ends, also when nobody waits for it any more.
            let _place = place;
            database.read(act)
        })
        .await
    }
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
    async fn ping(&self) -> Result<(), WarehouseError> {
        let database = self.database.clone();
        blocking(move || database.heal()).await
    }

    async fn archive_position(&self, partition: u32) -> Result<u64, WarehouseError> {
        self.reading(move |connection| archive::position(connection, partition)).await
    }

    async fn archive(&self, batch: ArchiveBatch) -> Result<(), WarehouseError> {
        let (turn, database) = (self.turn.clone().lock_owned().await, self.database.clone());
        blocking(move || {
            let _turn = turn;
            database.write(|connection| archive::archive(connection, batch))
        })
        .await
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
