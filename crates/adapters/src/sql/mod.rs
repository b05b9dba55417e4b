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
mod first_contact;
mod identities;
mod ids;
mod index;
mod membership_batches;
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

use std::hash::RandomState;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ports::config_store::{ConfigStore, ConfigStoreError, IdentityRules, LastIds, OutboxEntry};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr};
use sea_orm_migration::MigratorTrait;

use checksums::Protection;
use index::{IdentityIndex, Loading};
use membership_batches::Batches;
use writer::{Write, Writer, discard_failed};

pub use checksums::VFS;

/// The number of reading connections.
const READERS_MAX: u32 = 4;
/// How long a call waits for a connection before the store counts as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement waits for another process's lock (a backup, a shell).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The pages that the writer keeps in memory, in KiB: those that thousands of new rows touch. With
/// fewer it writes a page several times in one write.
const WRITER_CACHE_KIB: u32 = 64 * 1024;
/// The pages of the write-ahead log (64 MiB) after which they are moved into the file.
const WAL_PAGES: u32 = 16_384;
/// The default bound of the index of identities: 40 million at least.
pub const IDENTITY_INDEX_BYTES_MAX: usize = 1 << 30;
/// The values bound in one statement. SQLite takes 32,766.
const BOUND_MAX: usize = 10_000;

type Result<T> = std::result::Result<T, ConfigStoreError>;

/// The config store on SQL. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SqlConfigStore {
    readers: DatabaseConnection,
    writer: Writer,
    rules: Arc<IdentityRules>,
    index: Arc<IdentityIndex>,
    loading: Arc<Loading>,
    batches: Arc<Batches>,
    file: Arc<PathBuf>,
}

impl SqlConfigStore {
    /// Opens the SQLite file at `path`, creates it if it is missing, and migrates its tables.
    /// Rewrites identities that were stored under other rules. Adds checksums to the pages of a
    /// file of an earlier build.
    pub async fn open_sqlite(path: &Path, rules: IdentityRules) -> Result<Self> {
        Self::open_sqlite_with(path, rules, IDENTITY_INDEX_BYTES_MAX).await
    }

    /// As [`Self::open_sqlite`], with at most so many bytes for the index of identities, which is
    /// loaded while the store is in use.
    pub async fn open_sqlite_with(path: &Path, rules: IdentityRules, index_bytes_max: usize) -> Result<Self> {
        let protection = checksums::protect(path).await?;
        let hashers = [RandomState::new(), RandomState::new()];
        let index = Arc::new(IdentityIndex::new(index_bytes_max, hashers));
        let pool = connect_sqlite(path, Role::Writer, protection).await.map_err(unavailable)?;
        let writer = Writer::new(pool, index.clone());
        migrations::Migrator::up(writer.pool(), None).await.map_err(unavailable)?;
        caseless::settle(writer.pool(), &rules.caseless).await?;
        wiping::wipe_old_pages(writer.pool()).await;
        let readers = connect_sqlite(path, Role::Readers, protection).await.map_err(unavailable)?;
        let loading = Arc::new(index::load(index.clone(), writer.clone()));
        Ok(Self {
            readers,
            writer,
            rules: Arc::new(rules),
            index,
            loading,
            batches: Arc::default(),
            file: Arc::new(path.to_owned()),
        })
    }

    /// Waits until the index of identities has been loaded.
    pub async fn wait_until_indexed(&self) {
        self.index.wait_until_loaded().await;
    }

    /// Closes the file after all calls have ended. Moves the write-ahead log into it.
    pub async fn close(self) -> Result<()> {
        self.loading.stop();
        self.readers.close().await.map_err(unavailable)?;
        self.writer.close().await
    }

    async fn begin(&self) -> Result<Write> {
        self.writer.begin().await
    }
}

/// What a pool of connections is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Writer,
    Readers,
}

async fn connect_sqlite(
    path: &Path,
    role: Role,
    protection: Protection,
) -> std::result::Result<DatabaseConnection, DbErr> {
    let file = path.to_owned();
    let connections = if role == Role::Writer { 1 } else { READERS_MAX };
    let mut options = ConnectOptions::new("sqlite::memory:");
    options.max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT).sqlx_logging(false);
    options.map_sqlx_sqlite_opts(move |_| {
        let options = match protection {
            Protection::Checksums => SqliteConnectOptions::new().vfs(VFS),
            Protection::None => SqliteConnectOptions::new(),
        };
        let options = match role {
            Role::Writer => options
                .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
                .pragma("wal_autocheckpoint", WAL_PAGES.to_string()),
            Role::Readers => options,
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
        let _no_write = self.writer.alone().await?;
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
