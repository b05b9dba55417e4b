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
//!
//! Writes wait for each other in the order in which they came. The next one begins when the last is
//! committed and the index of identities knows of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ports::config_store::ConfigStoreError;
use sea_orm::sqlx::sqlite::SqlitePoolOptions;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};

use segment_engine::ids::UserId;
use tokio::sync::OwnedMutexGuard;

use super::index::{Changes, IdentityIndex, Key, keys_of};
use super::{Result, unavailable};

/// How long a write waits for those before it. Each takes some milliseconds, those with thousands
/// of rows up to some hundred.
const TURN_MAX: Duration = Duration::from_secs(30);

/// For how long other writes are expected after the last.
const SHARED_FOR: Duration = Duration::from_millis(500);

/// Begins writes, one at a time.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pool: DatabaseConnection,
    /// Held by the running write.
    turn: Arc<tokio::sync::Mutex<()>>,
    index: Arc<IdentityIndex>,
    last: Arc<LastWrite>,
    /// When a write that has a caller began last.
    called_at: Arc<Mutex<Option<Instant>>>,
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
    index: Arc<IdentityIndex>,
    changes: Changes,
    turn: OwnedMutexGuard<()>,
}

impl Writer {
    /// Writes through `pool`, which must have one connection and [`discard_failed`].
    pub(super) fn new(pool: DatabaseConnection, index: Arc<IdentityIndex>) -> Self {
        let (turn, last, called_at, trial) = Default::default();
        Self { pool, turn, index, last, called_at, trial }
    }

    /// Waits until no write runs. None begins while the result is held.
    pub(super) async fn alone(&self) -> Result<OwnedMutexGuard<()>> {
        let turn = tokio::time::timeout(TURN_MAX, self.turn.clone().lock_owned()).await;
        turn.map_err(|_| {
            ConfigStoreError::Unavailable(format!("the writes before this one took more than {TURN_MAX:?}"))
        })
    }

    /// Returns the connection, for statements outside of a [`Write`]. Call it [alone](Self::alone).
    pub(super) fn pool(&self) -> &DatabaseConnection {
        &self.pool
    }

    pub(super) async fn close(self) -> Result<()> {
        self.pool.close().await.map_err(unavailable)
    }

    /// Begins a write, after the previous one has ended.
    pub(super) async fn begin(&self) -> Result<Write> {
        *self.called_at() = Some(Instant::now());
        self.begin_for_nobody().await
    }

    /// Whether there are writes that somebody waits for.
    pub(super) fn is_shared(&self) -> bool {
        self.called_at().is_some_and(|called_at| called_at.elapsed() < SHARED_FOR)
    }

    fn called_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.called_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a write that nobody waits for.
    pub(super) async fn begin_for_nobody(&self) -> Result<Write> {
        let sqlite_transaction_mode = Some(SqliteTransactionMode::Immediate);
        let options = TransactionOptions { sqlite_transaction_mode, ..TransactionOptions::default() };
        let turn = self.alone().await?;
        let begun = self.pool.begin_with_options(options).await;
        let tx = begun.inspect_err(|error| self.last.failed(error)).map_err(unavailable)?;
        Ok(Write { tx, last: self.last.clone(), index: self.index.clone(), changes: Changes::default(), turn })
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
    /// Commits, and returns when the write is on the disk and in the index.
    pub(super) async fn commit(self) -> Result<()> {
        let Self { tx, last, index, changes, turn } = self;
        // A task of its own: a caller that goes away during the commit must not keep the index from
        // learning of it.
        let committing = tokio::spawn(async move {
            let committed = tx.commit().await.inspect_err(|error| last.failed(error)).map_err(unavailable);
            if committed.is_err() {
                // It may have been written all the same.
                index.forget(&changes);
            }
            committed?;
            index.apply(&changes);
            *last.get() = None;
            drop(turn);
            Ok(())
        });
        let stopping = |_| Err(ConfigStoreError::Unavailable("the service stops".to_owned()));
        committing.await.unwrap_or_else(stopping)
    }

    /// Notes that a key belongs to this user after the write.
    pub(super) fn owns(&mut self, key: Key<'_>, user: UserId) {
        self.changes.owners.push((self.index.hash(key), user));
    }

    /// Notes the keys of users before their change: they may lose some by it.
    pub(super) async fn note_keys_before(&mut self, users: &[UserId]) -> Result<()> {
        let keys = keys_of(&self.index, self, users).await?;
        self.changes.before.extend(keys.into_iter().map(|(key, _)| key));
        Ok(())
    }

    /// Notes the keys of users after their change.
    pub(super) async fn note_keys_after(&mut self, users: &[UserId]) -> Result<()> {
        let keys = keys_of(&self.index, self, users).await?;
        self.changes.owners.extend(keys);
        Ok(())
    }

    /// Says that the index lacks something that the file has.
    pub(super) fn distrust_index(&self) {
        self.index.distrust();
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
