//! The single writer, and what happens to its connection when a write fails.
//!
//! When the disk is full or fails, SQLite rolls a transaction back by itself. The connection pool
//! does not notice: it still counts the connection as inside the transaction. Later writes on it
//! would be inside too, and never be committed. So a connection that comes back from a write with
//! an open transaction is closed, and the next write gets a new one.
//!
//! A write takes SQLite's write lock when it begins. If it began as a reader, it could not wait for
//! another process's lock: SQLite would refuse it at once, because what it has read may have
//! changed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ports::config_store::ConfigStoreError;
use sea_orm::sqlx::sqlite::SqlitePoolOptions;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};

use super::{Result, unavailable};

/// Begins writes, one at a time.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pool: DatabaseConnection,
    last: Arc<LastWrite>,
    /// Held during a trial write.
    trial: Arc<tokio::sync::Mutex<()>>,
}

/// Why the last write failed; `None` if it succeeded.
#[derive(Debug, Default)]
struct LastWrite(Mutex<Option<String>>);

/// A running write. Leaves no trace if it is dropped without a commit, for example because the
/// caller has gone.
pub(super) struct Write {
    tx: DatabaseTransaction,
    last: Arc<LastWrite>,
}

impl Writer {
    /// Writes through `pool`, which must have one connection and [`discard_failed`].
    pub(super) fn new(pool: DatabaseConnection) -> Self {
        Self { pool, last: Arc::default(), trial: Arc::default() }
    }

    /// Returns the connection, for statements outside of a [`Write`].
    pub(super) fn pool(&self) -> &DatabaseConnection {
        &self.pool
    }

    pub(super) async fn close(self) -> Result<()> {
        self.pool.close().await.map_err(unavailable)
    }

    /// Begins a write, after the previous one has ended.
    pub(super) async fn begin(&self) -> Result<Write> {
        let sqlite_transaction_mode = Some(SqliteTransactionMode::Immediate);
        let options = TransactionOptions { sqlite_transaction_mode, ..TransactionOptions::default() };
        let begun = self.pool.begin_with_options(options).await;
        let tx = begun.inspect_err(|error| self.last.failed(error)).map_err(unavailable)?;
        Ok(Write { tx, last: self.last.clone() })
    }

    /// Whether the last write succeeded. If it failed, tries one now, unless another call is
    /// trying.
    pub(super) async fn check(&self) -> Result<()> {
        let Some(reason) = self.last.get().clone() else { return Ok(()) };
        let Ok(_trying) = self.trial.try_lock() else { return Err(ConfigStoreError::Unavailable(reason)) };
        let write = self.begin().await?;
        // Written to the file although it changes nothing. The number is never read.
        write.execute_unprepared("PRAGMA application_id = 0").await.map_err(unavailable)?;
        write.commit().await
    }
}

impl Write {
    /// Commits, and returns when the write is on the disk.
    pub(super) async fn commit(self) -> Result<()> {
        self.tx.commit().await.inspect_err(|error| self.last.failed(error)).map_err(unavailable)?;
        *self.last.get() = None;
        Ok(())
    }

    fn noted<T>(&self, outcome: std::result::Result<T, DbErr>) -> std::result::Result<T, DbErr> {
        outcome.inspect_err(|error| self.last.failed(error))
    }
}

impl LastWrite {
    fn get(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &DbErr) {
        *self.get() = Some(error.to_string());
    }
}

/// Makes the pool close a connection whose transaction could not be ended.
pub(super) fn discard_failed(pool: SqlitePoolOptions) -> SqlitePoolOptions {
    use sea_orm::sqlx::Connection as _;
    // By now the connection has carried out the rollback of a dropped write.
    pool.before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
}

#[async_trait]
impl ConnectionTrait for Write {
    fn get_database_backend(&self) -> DbBackend {
        self.tx.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> std::result::Result<ExecResult, DbErr> {
        self.noted(self.tx.execute_raw(statement).await)
    }

    async fn execute_unprepared(&self, sql: &str) -> std::result::Result<ExecResult, DbErr> {
        self.noted(self.tx.execute_unprepared(sql).await)
    }

    async fn query_one_raw(&self, statement: Statement) -> std::result::Result<Option<QueryResult>, DbErr> {
        self.noted(self.tx.query_one_raw(statement).await)
    }

    async fn query_all_raw(&self, statement: Statement) -> std::result::Result<Vec<QueryResult>, DbErr> {
        self.noted(self.tx.query_all_raw(statement).await)
    }

    fn support_returning(&self) -> bool {
        self.tx.support_returning()
    }
}
