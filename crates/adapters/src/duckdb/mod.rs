//! [`DuckDbWarehouse`]: the warehouse port on a DuckDB file.
//!
//! [`schema`] says what is stored, [`archive`] writes it, [`history`] reads it for the engine, [`question`] for people,
//! [`scrub`] wipes what deleted users left in the file; [`database`] opens it, and opens it again after a failure.
//! DuckDB's calls block, so each runs on a thread for blocking work. One connection writes; reads have their own and see
//! the last committed state, so neither waits for the other.

mod archive;
mod database;
mod history;
mod interrupt;
mod question;
mod schema;
mod scrub;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ports::warehouse::{ArchiveBatch, Departure, HistoryOf, Table, Warehouse, WarehouseError};
use segment_engine::event::{Event, UserId};
use segment_engine::machine::Receipt;
use segment_engine::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use database::Database;
pub use question::QUERY_ROWS_MAX;

/// Queries that run at the same time; more wait.
pub const READERS_MAX: usize = 4;
/// How long new queries wait for the last step of a scrub to get its turn, at most; it takes place between queries.
const READERS_PAUSE_MAX: Duration = Duration::from_secs(2);
/// When a longer query was in the way, how long until the next attempt.
const READERS_PAUSE_INTERVAL: Duration = Duration::from_secs(30);

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

    /// Runs `act` with the connection that writes.
    async fn writing<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut duckdb::Connection) -> Result<T, WarehouseError> + Send + 'static,
    ) -> Result<T, WarehouseError> {
        let (turn, database) = (self.turn.clone().lock_owned().await, self.database.clone());
        blocking(move || {
            let _turn = turn;
            database.write(act)
        })
        .await
    }

    /// Waits until nobody reads; who wants to read meanwhile waits for what is returned to be dropped.
    async fn without_readers(&self) -> OwnedSemaphorePermit {
        let all = u32::try_from(READERS_MAX).expect("a few");
        loop {
            let free = self.free_readers.clone().acquire_many_owned(all);
            if let Ok(free) = tokio::time::timeout(READERS_PAUSE_MAX, free).await {
                return free.expect("the semaphore is never closed");
            }
            tokio::time::sleep(READERS_PAUSE_INTERVAL).await;
        }
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
        self.writing(|connection| archive::archive(connection, batch)).await
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

    async fn scrub(&self, now: Timestamp, interval_micros: i64) -> Result<bool, WarehouseError> {
        let due = self.reading(move |connection| scrub::due(connection, now, interval_micros)).await?;
        let Some(deleted) = due else { return Ok(false) };
        for table in scrub::TABLES {
            // Rows that are archived meanwhile come behind those that are moved.
            let mut left = self.reading(move |connection| scrub::count(connection, table)).await?;
            while left > 0 {
                let moved = self.writing(move |connection| scrub::move_piece(connection, table)).await?;
                left = if moved == 0 { 0 } else { left - moved };
            }
        }
        let readers = self.without_readers().await;
        self.writing(move |connection| {
            let _readers = readers;
            scrub::finish(connection, now, deleted)
        })
        .await?;
        Ok(true)
    }
}
