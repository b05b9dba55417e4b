//! The memberships that the engine computes. Batches of partitions that wait are written together:
//! with more rows in a transaction, each page of the table and its index is written less often.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ports::config_store::{Applied, ConfigStoreError, MembershipBatch, NetMembership};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbBackend, EntityTrait, QueryOrder, Statement};
use segment_engine::ids::PartitionId;
use tokio::time::Instant;

use super::entities::membership_position;
use super::{Result, SqlConfigStore, corrupt, unavailable};
use crate::waiting::{Waiter, Waiting};

/// The transitions of a group, unless its first batch alone has more. To write them takes some hundred
/// milliseconds.
const GROUP_TRANSITIONS_MAX: usize = 1 << 16;
/// The same while there are other writes, which have callers who wait.
const GROUP_TRANSITIONS_BESIDE_OTHERS: usize = 1 << 14;

/// Deletes the pairs of a JSON array of `[user, segment]`. In SQLite's SQL, like [`ENTER`]: it is
/// prepared once, however many rows there are. Another database binds arrays.
const LEAVE: &str = "DELETE FROM memberships WHERE (user_id, segment_id) IN \
    (SELECT value ->> 0, value ->> 1 FROM json_each(?1))";
/// Writes the rows of a JSON array of `[user, segment, since]`.
const ENTER: &str = "INSERT INTO memberships (user_id, segment_id, created_at, updated_at) \
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 2 FROM json_each(?1) WHERE true \
    ON CONFLICT (user_id, segment_id) \
    DO UPDATE SET created_at = excluded.created_at, updated_at = excluded.updated_at";

/// After a group, so many times what it took pass before the next one, unless half a group waits. Small
/// groups write each page many times; and other writes, and the disk, need time, too.
const PAUSE_OF_WRITES: u32 = 2;
const PAUSE_MIN: Duration = Duration::from_millis(30);
/// What is stored can be read: it is hardly older than this.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The batches that wait.
#[derive(Debug, Default)]
pub(super) struct Batches {
    waiting: Waiting<MembershipBatch, Result<Applied>>,
    /// Held while a group is written; with when the pause after the last one ends.
    turn: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

impl SqlConfigStore {
    /// See `MembershipStore::apply_memberships`.
    pub(super) async fn apply_batch(&self, batch: MembershipBatch) -> Result<Applied> {
        let mut outcome = self.batches.waiting.push(batch);
        loop {
            let mut turn = tokio::select! {
                biased;
                // The call that had the turn wrote it.
                outcome = &mut outcome => return outcome.unwrap_or_else(|_| Err(interrupted())),
                turn = self.batches.turn.clone().lock_owned() => turn,
            };
            self.pause(*turn).await;
            let store = self.clone();
            // A task of its own: if this caller goes away, the others still want their outcomes.
            let writing = tokio::spawn(async move {
                let took = store.write_group().await;
                *turn = took.map(|took| Instant::now() + (took * PAUSE_OF_WRITES).clamp(PAUSE_MIN, PAUSE_MAX));
            });
            writing.await.map_err(|_| interrupted())?;
        }
    }

    /// Waits until the pause after the last group is over, or half a group waits.
    async fn pause(&self, until: Option<Instant>) {
        let Some(until) = until else { return };
        let waiting = &self.batches.waiting;
        let half_a_group = async {
            while waiting.rows(transitions) < self.group_max() / 2 {
                waiting.pushed().await;
            }
        };
        let _is_over = tokio::time::timeout_at(until, half_a_group).await;
    }

    fn group_max(&self) -> usize {
        if self.writer.is_shared() { GROUP_TRANSITIONS_BESIDE_OTHERS } else { GROUP_TRANSITIONS_MAX }
    }

    /// Returns how long it took to write, if it succeeded.
    async fn write_group(&self) -> Option<Duration> {
        let group = self.batches.waiting.next_group(self.group_max(), transitions);
        if group.is_empty() {
            return None;
        }
        let (batches, callers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|Waiter { item, outcome }| (item, outcome)).unzip();
        let written = self.write_batches(&batches).await;
        let (outcomes, took) = match written {
            Ok((outcomes, took)) => (outcomes, Some(took)),
            Err(error) => (vec![Err(error); callers.len()], None),
        };
        for (caller, outcome) in callers.into_iter().zip(outcomes) {
            // A caller that has gone reads the position when it comes back.
            let _ = caller.send(outcome);
        }
        took
    }

    /// Writes those of the batches that continue their partitions. Returns what became of each, and how
    /// long the transaction took.
    async fn write_batches(&self, batches: &[MembershipBatch]) -> Result<(Vec<Result<Applied>>, Duration)> {
        let tx = self.writer.begin_for_nobody().await?;
        let began = Instant::now();
        let mut positions: BTreeMap<PartitionId, u64> = positions(&tx).await?.into_iter().collect();
        let (mut outcomes, mut news) = (Vec::with_capacity(batches.len()), Vec::new());
        for batch in batches {
            let position = positions.entry(batch.partition).or_default();
            outcomes.push(batch.already(*position).map(|already| {
                already.unwrap_or_else(|| {
                    *position = batch.to;
                    news.push(batch);
                    Applied::Now
                })
            }));
        }
        if news.is_empty() {
            return Ok((outcomes, began.elapsed()));
        }
        let moved: BTreeMap<PartitionId, u64> = news.iter().map(|batch| (batch.partition, batch.to)).collect();
        write_net(&tx, &MembershipBatch::net(news)).await?;
        move_positions(&tx, moved).await?;
        tx.commit().await?;
        Ok((outcomes, began.elapsed()))
    }
}

fn transitions(batch: &MembershipBatch) -> usize {
    batch.changes.iter().map(|change| change.entered.len() + change.left.len()).sum()
}

fn interrupted() -> ConfigStoreError {
    ConfigStoreError::Unavailable("a write was interrupted".to_owned())
}

/// Returns the position of each partition that has one, ascending.
pub(super) async fn positions(db: &impl ConnectionTrait) -> Result<Vec<(PartitionId, u64)>> {
    let query = membership_position::Entity::find().order_by_asc(membership_position::Column::Partition);
    let found = query.all(db).await.map_err(unavailable)?;
    let number = |row: membership_position::Model| {
        let partition = u32::try_from(row.partition).map_err(|error| corrupt("a partition", error))?;
        let position = u64::try_from(row.position).map_err(|error| corrupt("a membership position", error))?;
        Ok((PartitionId(partition), position))
    };
    found.into_iter().map(number).collect()
}

async fn move_positions(tx: &impl ConnectionTrait, positions: BTreeMap<PartitionId, u64>) -> Result<()> {
    let mut models = Vec::with_capacity(positions.len());
    for (partition, to) in positions {
        let position = i64::try_from(to).map_err(|error| corrupt("a membership position", error))?;
        let partition = i64::from(partition.0);
        models.push(membership_position::ActiveModel { partition: Set(partition), position: Set(position) });
    }
    let overwrite = OnConflict::column(membership_position::Column::Partition)
        .update_column(membership_position::Column::Position)
        .to_owned();
    let upsert = membership_position::Entity::insert_many(models).on_conflict(overwrite);
    upsert.exec_without_returning(tx).await.map_err(unavailable)?;
    Ok(())
}

async fn write_net(tx: &impl ConnectionTrait, net: &[NetMembership]) -> Result<()> {
    let (mut left, mut entered) = (String::new(), String::new());
    for ((user, segment), since) in net {
        let written = match since {
            None => write!(left, ",[{user},{segment}]"),
            Some(since) => write!(entered, ",[{user},{segment},{}]", since.0),
        };
        written.expect("a string takes everything");
    }
    for (sql, rows) in [(LEAVE, left), (ENTER, entered)] {
        if let Some(rows) = rows.strip_prefix(',') {
            let rows = format!("[{rows}]");
            let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, [rows.into()]);
            tx.execute_raw(statement).await.map_err(unavailable)?;
        }
    }
    Ok(())
}
