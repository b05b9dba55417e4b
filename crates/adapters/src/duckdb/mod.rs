//! [`DuckDbWarehouse`]: the warehouse port on a DuckDB file.
//!
//! [`schema`] defines the tables. [`archive`] writes them, the batches of a [`group`] together, and
//! those of events as [`columns`]. [`history`] and [`events`] read them for
//! the engine, and [`query`] for people. [`wipe`] wipes deleted users from the file. [`database`]
//! opens the file and reopens it after a failure. [`checkpoint`] moves the write-ahead log into the
//! file. DuckDB's calls block, so each runs on a thread for blocking work. One connection writes.
//! Reads have their own connections and see the last committed state, so neither waits for the other.

mod archive;
mod checkpoint;
mod columns;
mod database;
mod events;
mod group;
mod history;
mod interrupt;
mod query;
mod schema;
mod wipe;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ports::warehouse::{
    ArchiveBatch, Departure, History, HistoryCursor, HistoryOf, HistoryScan, Table, Warehouse, WarehouseError,
};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::machine::Receipt;
use segment_engine::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use database::{Database, Writer};
pub use query::QUERY_ROWS_MAX;

use crate::quiet::{Quiet, cores};

/// The number of queries that run at the same time; more wait.
pub const READERS_MAX: usize = 4;
/// The rows of a row group: DuckDB's default, which we leave alone.
const ROW_GROUP_ROWS: usize = 122_880;
/// The bytes of the write-ahead log after which a write moves them into the file, even if the events in
/// it do not fill a row group.
const WAL_BYTES_MAX: u64 = 64 << 20;
/// The longest time for which a wipe's last step holds up new queries while it waits for running
/// ones to end.
const READERS_PAUSE_MAX: Duration = Duration::from_secs(2);
/// The time until the next attempt, if a longer query was running.
const READERS_PAUSE_INTERVAL: Duration = Duration::from_secs(30);

/// A warehouse in one local file. Clones share it.
#[derive(Clone)]
pub struct DuckDbWarehouse {
    database: Arc<Database>,
    /// One write at a time, because aliases are resolved against those written before.
    turn: Arc<tokio::sync::Mutex<()>>,
    waiting: Arc<group::Batches>,
    free_readers: Arc<Semaphore>,
    /// The scans that may read a page: one for each thread of `scanner`.
    free_scans: Arc<Semaphore>,
    scanner: Arc<Quiet>,
}

impl DuckDbWarehouse {
    /// Opens the file, or creates it, and migrates its schema. Fails if it is open already.
    pub fn open(file: &Path) -> Result<Self, WarehouseError> {
        Self::open_with(file, WAL_BYTES_MAX)
    }

    /// As [`Self::open`], with a write-ahead log of about so many bytes at most.
    pub fn open_with(file: &Path, wal_bytes_max: u64) -> Result<Self, WarehouseError> {
        // Scans leave a reader to those who wait.
        let scans = cores().min(READERS_MAX - 1);
        let scanner = Quiet::new("history", scans);
        Ok(Self {
            database: Arc::new(Database::open(file, wal_bytes_max)?),
            turn: Arc::default(),
            waiting: Arc::default(),
            free_readers: Arc::new(Semaphore::new(READERS_MAX)),
            free_scans: Arc::new(Semaphore::new(scans)),
            scanner: Arc::new(scanner.map_err(|error| WarehouseError::Unavailable(error.to_string()))?),
        })
    }

    /// Runs `act` with a reading connection.
    async fn reading<T: Send + 'static>(
        &self,
        act: impl FnOnce(&duckdb::Connection) -> Result<T, WarehouseError> + Send + 'static,
    ) -> Result<T, WarehouseError> {
        let (place, database) = (self.reader().await, self.database.clone());
        blocking(move || {
            // Held until the query ends, even if its caller has gone.
            let _place = place;
            // Read even if the database is still broken: the read shows whether it can be read.
            let _still_broken = database.heal();
            database.read(act)
        })
        .await
    }

    /// Like [`Self::reading`], but leaves the processor to others, and the healing too: threads of a
    /// database that is opened there would inherit the priority.
    async fn reading_quietly<T: Send + 'static>(
        &self,
        act: impl FnOnce(&duckdb::Connection) -> Result<T, WarehouseError> + Send + 'static,
    ) -> Result<T, WarehouseError> {
        let (place, database) = (self.reader().await, self.database.clone());
        let read = self.scanner.run(move || {
            let _place = place;
            database.read(act)
        });
        read.await.unwrap_or_else(|| Err(WarehouseError::Unavailable("a read was interrupted".to_owned())))
    }

    /// Waits until another query may run.
    async fn reader(&self) -> OwnedSemaphorePermit {
        self.free_readers.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Runs `act` with the writing connection.
    async fn writing<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Writer) -> Result<T, WarehouseError> + Send + 'static,
    ) -> Result<T, WarehouseError> {
        let (turn, database) = (self.turn.clone().lock_owned().await, self.database.clone());
        blocking(move || {
            let _turn = turn;
            database.write(act)
        })
        .await
    }

    /// Moves a piece of a table, in a wipe. If a checkpoint of it is refused, queries wait while it is
    /// tried again.
    async fn move_piece(&self, table: wipe::Table) -> Result<i64, WarehouseError> {
        match self.writing(move |writer| wipe::move_piece(writer, table)).await {
            Err(error) if checkpoint::is_refused(&error) => {
                let readers = self.without_readers().await;
                let moved = self.writing(move |writer| {
                    let _readers = readers;
                    wipe::move_piece(writer, table)
                });
                moved.await
            }
            moved => moved,
        }
    }

    /// Waits until no query is running. New queries wait until the returned permit is dropped.
    async fn without_readers(&self) -> OwnedSemaphorePermit {
        let all = u32::try_from(READERS_MAX).expect("READERS_MAX is small");
        loop {
            let free = self.free_readers.clone().acquire_many_owned(all);
            if let Ok(free) = tokio::time::timeout(READERS_PAUSE_MAX, free).await {
                return free.expect("the semaphore is never closed");
            }
            tokio::time::sleep(READERS_PAUSE_INTERVAL).await;
        }
    }
}

/// Converts an error of one of our statements: DuckDB's fault (disk, memory), never the
/// statement's.
fn unavailable(error: duckdb::Error) -> WarehouseError {
    WarehouseError::Unavailable(error.to_string())
}

fn interrupted() -> WarehouseError {
    WarehouseError::Unavailable("a write was interrupted".to_owned())
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

    async fn archive_position(&self, partition: PartitionId) -> Result<u64, WarehouseError> {
        self.reading(move |connection| archive::position(connection, partition)).await
    }

    async fn archive(&self, batch: ArchiveBatch) -> Result<(), WarehouseError> {
        let mut outcome = self.waiting.push(batch);
        loop {
            let turn = tokio::select! {
                biased;
                // The call that had the turn wrote it.
                outcome = &mut outcome => return outcome.unwrap_or_else(|_| Err(interrupted())),
                turn = self.turn.clone().lock_owned() => turn,
            };
            let (database, waiting) = (self.database.clone(), self.waiting.clone());
            blocking(move || {
                let _turn = turn;
                group::write_next(&waiting, &database);
                Ok(())
            })
            .await?;
        }
    }

    async fn received(&self, ids: &[(UserId, String)]) -> Result<Vec<Option<Receipt>>, WarehouseError> {
        let ids = ids.to_vec();
        self.reading(move |connection| history::received(connection, &ids)).await
    }

    async fn departures(&self, users: &[UserId]) -> Result<Vec<Option<Departure>>, WarehouseError> {
        let users = users.to_vec();
        self.reading(move |connection| history::departures(connection, &users)).await
    }

    async fn history(&self, parts: &[HistoryOf], bytes_max: usize) -> Result<History, WarehouseError> {
        let parts = parts.to_vec();
        self.reading(move |connection| events::history(connection, &parts, bytes_max)).await
    }

    fn scan_history(&self, scan: HistoryScan) -> HistoryCursor {
        let (sender, cursor) = HistoryCursor::new();
        let (warehouse, mut pages) = (self.clone(), events::Pages::new(scan));
        tokio::spawn(async move {
            while !pages.is_over() {
                // The next page is read when the one before was taken. Fails for a dropped cursor.
                let Ok(place) = sender.reserve().await else { return };
                let _turn = warehouse.free_scans.acquire().await.expect("the semaphore is never closed");
                if sender.is_closed() {
                    return;
                }
                let page = warehouse.reading_quietly(move |connection| Ok((pages.next(connection)?, pages))).await;
                match page {
                    Ok((batch, read)) => {
                        pages = read;
                        place.send(Ok(Some(batch)));
                    }
                    Err(error) => return place.send(Err(error)),
                }
            }
            // A cursor that was dropped needs no end.
            let _ = sender.send(Ok(None)).await;
        });
        cursor
    }

    async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, WarehouseError> {
        self.reading(move |connection| history::users(connection, after, limit)).await
    }

    async fn members(&self, sql: &str) -> Result<Vec<UserId>, WarehouseError> {
        let sql = sql.to_owned();
        let query = interrupt::Query::default();
        let _guard = query.end_on_drop();
        self.reading(move |connection| query.run(connection, || query::members(connection, &sql))).await
    }

    async fn query(&self, sql: &str) -> Result<Table, WarehouseError> {
        let sql = sql.to_owned();
        let query = interrupt::Query::default();
        let _guard = query.end_on_drop();
        self.reading(move |connection| query.run(connection, || query::query(connection, &sql))).await
    }

    async fn wipe(&self, now: Timestamp, interval_micros: i64) -> Result<bool, WarehouseError> {
        let due = self.reading(move |connection| wipe::due(connection, now, interval_micros)).await?;
        let Some(deleted) = due else { return Ok(false) };
        for table in wipe::TABLES {
            // Rows that are archived during a wipe come after the rows that it moves.
            let mut left = self.reading(move |connection| wipe::count(connection, table)).await?;
            while left > 0 {
                let moved = self.move_piece(table).await?;
                left = if moved == 0 { 0 } else { left - moved };
            }
        }
        let readers = self.without_readers().await;
        self.writing(move |writer| {
            let _readers = readers;
            wipe::finish(writer, now, deleted)
        })
        .await?;
        Ok(true)
    }
}
