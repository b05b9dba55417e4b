//! The warehouse: every accepted event, for ever, in SQL. History for backfills, previews, audits and people.

use async_trait::async_trait;
use segment_engine::event::{Event, Position, UserId};
use segment_engine::machine::Receipt;
use segment_engine::time::Timestamp;

/// A user as SQL sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// The internal id.
    pub id: UserId,
    /// The client's id, for users made by `POST /users`.
    pub client_ref_id: Option<String>,
    /// `users.email`.
    pub email: Option<String>,
    /// `users.name`.
    pub name: Option<String>,
    /// `users.created_at`.
    pub created_at: Timestamp,
}

/// Traits that were set together.
#[derive(Clone, Debug, PartialEq)]
pub struct TraitsRow {
    /// The user they were set for.
    pub user: UserId,
    /// Key and value; `null` removes the key.
    pub traits: serde_json::Map<String, serde_json::Value>,
    /// Since when they are true, by the client's word or the time of the call.
    pub created_at: Timestamp,
    /// Where the record stands in the log.
    pub position: Position,
}

/// One thing to write: rows arrive in log order per partition.
#[derive(Clone, Debug, PartialEq)]
pub enum ArchiveRow {
    /// An accepted event, under the user id it was received with. Its position is its identity.
    Event {
        /// The event.
        event: Box<Event>,
        /// Whether its event id dedupes without a time limit.
        dedupe_forever: bool,
    },
    /// A user, created or changed.
    User(UserRow),
    /// Traits of a user were set. SQL answers take per key the value with the newest `created_at`; of two as old the
    /// survivor's of merged users, then the later record's.
    Traits(TraitsRow),
    /// The user was merged away: its row goes. What it did waits for [`ArchiveRow::Alias`], from the survivor's partition.
    MergeUser(UserId),
    /// The survivor's partition has received `absorbed`: from then on SQL answers count its events and traits as the
    /// survivor's. Of chains of merges every order may come.
    Alias {
        /// The user that is no more.
        absorbed: UserId,
        /// Who it is now.
        survivor: UserId,
    },
    /// The user's events, traits, row and aliases go, and those of the users merged into it.
    DeleteUser(UserId),
}

/// What became of a user that is no more, as archived: what comes for it later is not its own any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// By [`ArchiveRow::MergeUser`].
    Merged,
    /// By [`ArchiveRow::DeleteUser`].
    Deleted,
}

/// The part of the history that stands under one user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryOf {
    /// The id that the events were received with.
    pub user: UserId,
    /// Those before this offset of the user's partition.
    pub below: u64,
}

/// A batch of one partition's rows and the position it moves.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveBatch {
    /// The partition of the event topic.
    pub partition: u32,
    /// The archive position this batch starts at: if the warehouse stands elsewhere, nothing is written.
    pub from_offset: u64,
    /// The archive position afterwards.
    pub to_offset: u64,
    /// What happened in between, in log order.
    pub rows: Vec<ArchiveRow>,
}

/// Why the warehouse could not do it.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// It is down, busy or full; nothing was written, or the outcome is unknown: read the archive position again.
    #[error("the warehouse is unavailable: {0}")]
    Unavailable(String),
    /// The question needs more memory than the warehouse may take.
    #[error("this is too much for the warehouse: {0}")]
    TooLarge(String),
    /// The archive position is not the batch's `from_offset`.
    #[error("the archive stands at offset {found}, not at {expected}")]
    Moved {
        /// Where it stands.
        found: u64,
        /// Where the caller thought it stood.
        expected: u64,
    },
    /// It refused the SQL: a defect of ours.
    #[error("the warehouse refused a query: {0}")]
    Refused(String),
}

/// A table of texts: column names, and rows with `None` for NULL.
pub type Table = (Vec<String>, Vec<Vec<Option<String>>>);

/// The warehouse port.
#[async_trait]
pub trait Warehouse: Send + Sync + 'static {
    /// Whether it can be written, as far as is known: what a health check asks. After a failed write it is tried whether
    /// writing works again, now and then; otherwise nothing is written.
    async fn ping(&self) -> Result<(), WarehouseError>;

    /// The next offset to archive of a partition; 0 at first.
    async fn archive_position(&self, partition: u32) -> Result<u64, WarehouseError>;

    /// Writes a batch and moves the archive position, in one transaction.
    async fn archive(&self, batch: ArchiveBatch) -> Result<(), WarehouseError>;

    /// What was received with these event ids of these users (or of users merged with them), for each pair in the order
    /// asked; `None` where there is nothing.
    async fn received(&self, ids: &[(UserId, String)]) -> Result<Vec<Option<Receipt>>, WarehouseError>;

    /// What became of these users, in the order asked; `None` of those that did not depart.
    async fn departures(&self, users: &[UserId]) -> Result<Vec<Option<Departure>>, WarehouseError>;

    /// The archived events that were received under these ids, in the order asked, those of one id in the order of receipt.
    /// Merges change nothing here: whoever asks knows who was merged with whom.
    async fn history(&self, asked: &[HistoryOf]) -> Result<Vec<Event>, WarehouseError>;

    /// The known users after `after`, ascending, merged ones left out; at most `limit`.
    async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, WarehouseError>;

    /// Runs a generated query whose first column is a user id: the answer of SQL to compare ours with. What it may read
    /// stands in the schema `user_segment_analytics`: the view `user_events` (columns as in a where clause, user ids of
    /// today, `payload` JSON, `log_partition`, `log_offset`), `users` (`id`, `client_ref_id`, `email`, `name`,
    /// `created_at`) and `traits` (`user_id`, `traits` JSON). Instants are `TIMESTAMPTZ`, the session's zone is UTC.
    async fn members(&self, sql: &str) -> Result<Vec<UserId>, WarehouseError>;

    /// Runs one SELECT for people and tests. Anything that could write or reach beyond the warehouse is refused, and so are
    /// answers too large to hold.
    async fn query(&self, sql: &str) -> Result<Table, WarehouseError>;

    /// Wipes what deleted users have left in the warehouse's files, if users were deleted since the last time and that was
    /// at least `interval_micros` before `now`. Returns whether it did. Takes long, lets others write and read meanwhile;
    /// cancelled or killed, the next call begins anew. A warehouse without files of its own has nothing to wipe.
    async fn scrub(&self, _now: Timestamp, _interval_micros: i64) -> Result<bool, WarehouseError> {
        Ok(false)
    }
}
