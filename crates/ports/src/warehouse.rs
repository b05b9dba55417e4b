//! The warehouse: every accepted event, for ever, in SQL. The history for backfills, previews,
//! audits and people.

use async_trait::async_trait;
use segment_engine::eval::jsonb_ordered;
use segment_engine::event::{ColumnValue, Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::machine::{HistoryNeeds, PastEvent, Receipt};
use segment_engine::schema::EventColumn;
use segment_engine::time::Timestamp;
use tokio::sync::mpsc;

/// A user as SQL sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// The internal id.
    pub id: UserId,
    /// The client's id, if the user was created by `POST /users`.
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
    /// The user that has them.
    pub user: UserId,
    /// By key; `null` removes the trait.
    pub traits: serde_json::Map<String, serde_json::Value>,
    /// The instant from which they hold: as the client says, or the time of the call.
    pub created_at: Timestamp,
    /// The position of the record in the log.
    pub position: Position,
}

/// An event with its payload as the warehouse stores it: as [`jsonb_ordered`] prints it.
pub type ArchivedEvent = Event<Box<str>>;

/// Returns the event as the warehouse stores it.
pub fn archived(event: Event) -> ArchivedEvent {
    event.map_payload(|payload| jsonb_ordered(&payload).into())
}

/// One change to write. Rows come in log order per partition.
#[derive(Clone, Debug, PartialEq)]
pub enum ArchiveRow {
    /// An accepted event, under the user id that it was received with. Its position identifies it.
    Event {
        /// With the user id that it was received with.
        event: Box<ArchivedEvent>,
        /// Whether its event id dedupes without a time limit.
        dedupe_forever: bool,
    },
    /// A user was created or changed.
    User(UserRow),
    /// Traits of a user were set. For each key SQL sees the value with the newest `created_at`; of
    /// two equally new, the survivor's before an absorbed user's, then the later record's.
    Traits(TraitsRow),
    /// The user was merged away, so the user's row goes. Events and traits wait for
    /// [`ArchiveRow::Alias`] from the survivor's partition.
    MergeUser(UserId),
    /// The survivor's partition has received `absorbed`. From then on SQL sees the absorbed user's
    /// events and traits as the survivor's. The aliases of a chain of merges can come in any order.
    Alias {
        /// The user that was merged away.
        absorbed: UserId,
        /// The user that remains.
        survivor: UserId,
    },
    /// Deletes the user's events, traits, row and aliases, and those of the users merged into them.
    DeleteUser(UserId),
}

/// How a user ended, as archived. Later records under their id no longer belong to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// By [`ArchiveRow::MergeUser`].
    Merged,
    /// By [`ArchiveRow::DeleteUser`].
    Deleted,
}

/// A part of the history of one user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryOf {
    /// The user id that the events were received with. They are all in the id's partition.
    pub user: UserId,
    /// Only events from this offset of the user's partition on.
    pub from: u64,
    /// Only events before this offset of the user's partition.
    pub below: u64,
}

/// The first events of a requested history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// In the order of the request; those of one id in the order of their offsets.
    pub events: Vec<Event>,
    /// What is left to read. There may be no more events in it.
    pub left: Vec<HistoryOf>,
}

/// A part of the history of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryScan {
    /// The partition in which the events were received.
    pub partition: PartitionId,
    /// Only events from this offset on.
    pub from: u64,
    /// Only events before this offset.
    pub below: u64,
    /// What is needed of them.
    pub needs: HistoryNeeds,
    /// How many bytes a batch takes at most by [`history_bytes`], if it has more than one event.
    pub bytes_max: usize,
}

/// The events of a [`HistoryScan`] in batches. To drop it ends the scan.
#[derive(Debug)]
pub struct HistoryCursor {
    batches: mpsc::Receiver<HistoryStep>,
    /// What the next call returns, if it was awaited already.
    awaited: Option<HistoryStep>,
}

/// A part of a scan.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryBatch {
    /// In the order of their offsets. There may be none.
    pub events: Vec<PastEvent>,
    /// What comes before this offset has been read.
    pub until: u64,
}

/// A batch; `None` at the end; or why the scan cannot go on.
pub type HistoryStep = Result<Option<HistoryBatch>, WarehouseError>;

impl HistoryCursor {
    /// Returns a cursor that has the batches that are sent. One waits in between. The end is sent,
    /// too: a sender that is dropped before it is an error.
    pub fn new() -> (mpsc::Sender<HistoryStep>, Self) {
        let (sender, batches) = mpsc::channel(1);
        (sender, Self { batches, awaited: None })
    }

    /// Returns the next batch, whose events come after all earlier ones; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> HistoryStep {
        self.wait().await;
        self.awaited.take().expect("it was just awaited")
    }

    /// Waits until [`next`](Self::next) does not wait. Cancel-safe.
    pub async fn wait(&mut self) {
        if self.awaited.is_none() {
            let cut_off = || Err(WarehouseError::Unavailable("a scan was cut off".to_owned()));
            self.awaited = Some(self.batches.recv().await.unwrap_or_else(cut_off));
        }
    }

    /// Whether [`next`](Self::next) would wait.
    pub fn waits(&self) -> bool {
        self.awaited.is_none() && self.batches.is_empty() && !self.batches.is_closed()
    }
}

/// Returns how many bytes an event counts in a [`History`]: those of its strings, and of its
/// payload as JSON.
pub fn history_bytes(event: &Event, payload_bytes: usize) -> usize {
    let bytes_of = |column| match event.value(column) {
        ColumnValue::Text(text) => text.map_or(0, str::len),
        ColumnValue::UserId(_) | ColumnValue::Decimal(_) | ColumnValue::Timestamp(_) => 0,
    };
    payload_bytes + EventColumn::ALL.into_iter().map(bytes_of).sum::<usize>()
}

/// Rows of one partition, and the archive position after them.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveBatch {
    /// The partition of the event topic.
    pub partition: PartitionId,
    /// The archive position before the batch. If the warehouse's is another, nothing is written.
    pub from_offset: u64,
    /// The archive position after the batch.
    pub to_offset: u64,
    /// In log order, each with the offset of its record. No record has two.
    pub rows: Vec<(u64, ArchiveRow)>,
}

impl ArchiveBatch {
    /// Cuts the rows from this one on off, as a batch of their own.
    pub fn split_off(&mut self, row: usize) -> Self {
        let rows = self.rows.split_off(row);
        let cut = rows.first().map_or(self.to_offset, |(offset, _)| *offset);
        let to_offset = std::mem::replace(&mut self.to_offset, cut);
        Self { partition: self.partition, from_offset: cut, to_offset, rows }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// The warehouse is down, busy or full. Either nothing was written or the outcome is unknown:
    /// read the archive position again.
    #[error("the warehouse is unavailable: {0}")]
    Unavailable(String),
    /// The query needs more memory than the warehouse is allowed.
    #[error("this is too much for the warehouse: {0}")]
    TooLarge(String),
    /// The archive position is not the batch's `from_offset`.
    #[error("the archive position is {found}, not {expected}")]
    Moved {
        /// The warehouse's archive position.
        found: u64,
        /// The batch's `from_offset`.
        expected: u64,
    },
    /// The warehouse refused the SQL: a bug in USS.
    #[error("the warehouse refused a query: {0}")]
    Refused(String),
}

/// A table of strings: column names, and rows with `None` for NULL.
pub type Table = (Vec<String>, Vec<Vec<Option<String>>>);

/// The warehouse port.
#[async_trait]
pub trait Warehouse: Send + Sync + 'static {
    /// For health checks: checks that the warehouse can be written, as far as is known. It writes
    /// only after a failed write, now and then, to see whether writing works again.
    async fn ping(&self) -> Result<(), WarehouseError>;

    /// Returns the next offset of a partition to archive; 0 at first.
    async fn archive_position(&self, partition: PartitionId) -> Result<u64, WarehouseError>;

    /// Writes a batch and moves the archive position, in one transaction.
    async fn archive(&self, batch: ArchiveBatch) -> Result<(), WarehouseError>;

    /// Returns the receipts of these event ids of these users, or of users merged with them: one
    /// for each pair, in the order of the call; `None` if the event was not received.
    async fn received(&self, ids: &[(UserId, String)]) -> Result<Vec<Option<Receipt>>, WarehouseError>;

    /// Returns how these users ended, in the order of the call; `None` for those that did not.
    async fn departures(&self, users: &[UserId]) -> Result<Vec<Option<Departure>>, WarehouseError>;

    /// Returns the archived events that were received under these ids: the first ones, as many as
    /// take at most `bytes_max` by [`history_bytes`], but at least one. The caller goes on with
    /// what is left. It ignores merges: the caller knows which users were merged. Memory follows
    /// `bytes_max`, however long the history is.
    async fn history(&self, parts: &[HistoryOf], bytes_max: usize) -> Result<History, WarehouseError>;

    /// Reads the archived events that were received in one partition, of all users and in the order
    /// of their offsets. It ignores merges like [`history`](Self::history), and returns of each
    /// event at least what is needed. Everything before `below` must have been archived. Call it in
    /// a tokio runtime.
    fn scan_history(&self, scan: HistoryScan) -> HistoryCursor;

    /// Returns at most `limit` known users after `after`, ascending, without merged ones.
    async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, WarehouseError>;

    /// Runs a generated query whose first column is a user id. The query reads the schema
    /// `user_segment_analytics`: the view `user_events` (columns as in a where clause, current user
    /// ids, `payload` JSON, `log_partition`, `log_offset`), `users` (`id`, `client_ref_id`,
    /// `email`, `name`, `created_at`) and `traits` (`user_id`, `traits` JSON). Instants are
    /// `TIMESTAMPTZ`; the session's zone is UTC.
    async fn members(&self, sql: &str) -> Result<Vec<UserId>, WarehouseError>;

    /// Runs one SELECT for people and tests. Refuses anything that could write or reach beyond the
    /// warehouse, and results too large to hold.
    async fn query(&self, sql: &str) -> Result<Table, WarehouseError>;

    /// Wipes the traces of deleted users from the warehouse's files, if users were deleted since
    /// the last wipe and that was at least `interval_micros` before `now`. Returns whether it did.
    /// It takes long, but blocks neither reads nor writes. If a call is cancelled or killed, the
    /// next one starts again. A warehouse without files has nothing to wipe.
    async fn wipe(&self, _now: Timestamp, _interval_micros: i64) -> Result<bool, WarehouseError> {
        Ok(false)
    }
}
