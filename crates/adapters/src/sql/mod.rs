//! The config store in SQL, through SeaORM: a SQLite file of its own.
//!
//! There is a single writer: each write depends on what it reads, so writes are serial. Readers see
//! the last committed state (WAL) and never wait for the writer. The SQL is common to SQLite and
//! Postgres.

mod activities;
mod caseless;
mod checksums;
mod emails;
mod entities;
mod identities;
mod ids;
mod memberships;
mod merges;
mod migrations;
mod outbox;
mod segment_rules;
mod segments;
mod traits;
mod users;
mod wiping;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ports::config_store::{ConfigStore, ConfigStoreError, IdentityRules, LastIds, OutboxEntry};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr};
use sea_orm_migration::MigratorTrait;

use checksums::Protection;
use writer::{Write, Writer, discard_failed};

pub use checksums::VFS;

/// The number of reading connections.
const READERS_MAX: u32 = 4;
/// How long a call waits for a connection before the store counts as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement waits for another process's lock (a backup, a shell).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The values bound in one statement. SQLite takes 32,766.
const BOUND_MAX: usize = 10_000;
/// The rows written by one statement of plain SQL.
const BULK_ROWS_MAX: usize = 5_000;

type Result<T> = std::result::Result<T, ConfigStoreError>;

/// The config store on SQL. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SqlConfigStore {
    readers: DatabaseConnection,
    writer: Writer,
    rules: Arc<IdentityRules>,
    file: Arc<PathBuf>,
}

impl SqlConfigStore {
    /// Opens the SQLite file at `path`, creates it if it is missing, and migrates its tables.
    /// Rewrites identities that were stored under other rules. Adds checksums to the pages of a
    /// file of an earlier build.
    pub async fn open_sqlite(path: &Path, rules: IdentityRules) -> Result<Self> {
        let protection = checksums::protect(path).await?;
        let writer = Writer::new(connect_sqlite(path, 1, protection).await.map_err(unavailable)?);
        migrations::Migrator::up(writer.pool(), None).await.map_err(unavailable)?;
        caseless::settle(writer.pool(), &rules.caseless).await?;
        wiping::wipe_old_pages(writer.pool()).await;
        let readers = connect_sqlite(path, READERS_MAX, protection).await.map_err(unavailable)?;
        Ok(Self { readers, writer, rules: Arc::new(rules), file: Arc::new(path.to_owned()) })
    }

    /// Closes the file after all calls have ended. Moves the write-ahead log into it.
    pub async fn close(self) -> Result<()> {
        self.readers.close().await.map_err(unavailable)?;
        self.writer.close().await
    }

    async fn begin(&self) -> Result<Write> {
        self.writer.begin().await
    }
}

async fn connect_sqlite(
    path: &Path,
    connections: u32,
    protection: Protection,
) -> std::result::Result<DatabaseConnection, DbErr> {
    let file = path.to_owned();
    let mut options = ConnectOptions::new("sqlite::memory:");
    options.max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT).sqlx_logging(false);
    options.map_sqlx_sqlite_opts(move |_| {
        let options = match protection {
            Protection::Checksums => SqliteConnectOptions::new().vfs(VFS),
            Protection::None => SqliteConnectOptions::new(),
        };
        options
            .filename(&file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("secure_delete", "ON")
    });
    options.map_sqlx_sqlite_pool_opts(discard_failed);
    Database::connect(options).await
}

#[async_trait]
impl ConfigStore for SqlConfigStore {
    async fn ping(&self) -> Result<()> {
        if let Some(page) = checksums::damaged_page(&self.file) {
            let what = format!("page {page} of its file does not match its checksum");
            return Err(ConfigStoreError::Corrupt(checksums::with_advice(what)));
        }
        self.readers.execute_unprepared("SELECT 1").await.map_err(unavailable)?;
        self.writer.check().await
    }

    async fn wipe(&self) -> Result<()> {
        wiping::empty_wal(self.writer.pool()).await
    }

    async fn last_ids(&self) -> Result<LastIds> {
        ids::last(&self.readers).await
    }

    async fn go_on_after(&self, last: LastIds, entries: Vec<OutboxEntry>) -> Result<()> {
        let tx = self.begin().await?;
        ids::raise(&tx, last).await?;
        outbox::send(&tx, entries).await?;
        tx.commit().await
    }
}

/// Converts an error of the database. Except for damage it may be temporary: uniqueness and
/// existence are checked before a row is written.
fn unavailable(error: DbErr) -> ConfigStoreError {
    if checksums::is_damage(&error) {
        return ConfigStoreError::Corrupt(checksums::with_advice(error));
    }
    ConfigStoreError::Unavailable(error.to_string())
}

fn corrupt(what: &str, error: impl std::fmt::Display) -> ConfigStoreError {
    ConfigStoreError::Corrupt(format!("{what}: {error}"))
}

/// Converts a limit to SQL's type.
fn rows(limit: usize) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX).min(i64::MAX as u64)
}
