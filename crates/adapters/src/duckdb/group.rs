//! Batches that wait to be written: those of several partitions go into one transaction.
//!
//! DuckDB writes many rows at once with far less work each than few. With a transaction for each
//! batch, it would write the newest rows over and over.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use ports::warehouse::{ArchiveBatch, WarehouseError};
use tokio::sync::oneshot;

use super::archive::{Outcome, archive};
use super::database::Database;

/// The rows of a group, unless its first batch alone has more: two row groups of DuckDB.
const GROUP_ROWS_MAX: usize = 2 * 122_880;

/// The batches that wait, in the order in which they came.
#[derive(Default)]
pub(super) struct Waiting(Mutex<VecDeque<Waiter>>);

struct Waiter {
    batch: ArchiveBatch,
    outcome: oneshot::Sender<Outcome>,
}

impl Waiting {
    /// Adds a batch. The receiver gets what became of it.
    pub(super) fn push(&self, batch: ArchiveBatch) -> oneshot::Receiver<Outcome> {
        let (outcome, receiver) = oneshot::channel();
        self.waiters().push_back(Waiter { batch, outcome });
        receiver
    }

    /// Writes the batches that wait, or the first ones if they are too many.
    pub(super) fn write_next(&self, database: &Database) {
        let (batches, outcomes): (Vec<_>, Vec<_>) =
            self.next_group().into_iter().map(|waiter| (waiter.batch, waiter.outcome)).unzip();
        if batches.is_empty() {
            return;
        }
        let mut written = Vec::new();
        let failure = database.write(|connection| {
            written = match archive(connection, &batches) {
                Ok(written) => written,
                Err(error) if batches.len() == 1 => vec![Err(error)],
                // One of them may be the cause. It must not hold up the others.
                Err(_) => batches.chunks(1).map(|alone| archive(connection, alone)?.pop().unwrap_or(Ok(()))).collect(),
            };
            first_failure(&written)
        });
        // The database refused to begin if nothing was tried.
        let refused = || failure.as_ref().map_err(copy).copied();
        written.resize_with(outcomes.len(), refused);
        for (outcome, written) in outcomes.into_iter().zip(written) {
            // A caller that has gone reads the archive position when it comes back.
            let _ = outcome.send(written);
        }
    }

    fn next_group(&self) -> Vec<Waiter> {
        let mut waiters = self.waiters();
        waiters.retain(|waiter| !waiter.outcome.is_closed());
        let mut rows = 0;
        let fits = waiters.iter().take_while(|waiter| {
            let is_first = rows == 0;
            rows += waiter.batch.rows.len();
            is_first || rows <= GROUP_ROWS_MAX
        });
        let fits = fits.count();
        waiters.drain(..fits).collect()
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, VecDeque<Waiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the first failure of the database. That a position is another is none.
fn first_failure(written: &[Outcome]) -> Outcome {
    let mut failures = written.iter().filter_map(|outcome| outcome.as_ref().err());
    let failure = failures.find(|error| !matches!(error, WarehouseError::Moved { .. }));
    failure.map_or(Ok(()), |error| Err(copy(error)))
}

fn copy(error: &WarehouseError) -> WarehouseError {
    WarehouseError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use ports::warehouse::{ArchiveRow, UserRow};
    use segment_engine::ids::{PartitionId, UserId};
    use segment_engine::time::Timestamp;

    use super::*;
    use crate::duckdb::archive::position;

    fn batch(partition: u32, from_offset: u64, to_offset: u64, rows: usize) -> ArchiveBatch {
        let user =
            |id| UserRow { id: UserId(id), client_ref_id: None, email: None, name: None, created_at: Timestamp(0) };
        let rows = (0..rows as i64).map(|id| ArchiveRow::User(user(id + i64::from(partition) * 1_000_000))).collect();
        ArchiveBatch { partition: PartitionId(partition), from_offset, to_offset, rows }
    }

    struct World {
        database: Database,
        waiting: Waiting,
        _folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let database = Database::open(&folder.path().join("w.duckdb"), 1 << 20).expect("it opens");
            Self { database, waiting: Waiting::default(), _folder: folder }
        }

        fn positions(&self, partitions: std::ops::Range<u32>) -> Vec<u64> {
            let of = |connection: &duckdb::Connection| {
                partitions.map(|partition| position(connection, PartitionId(partition))).collect()
            };
            self.database.read(of).expect("it can be read")
        }

        fn users(&self) -> i64 {
            let sql = "SELECT count(*) FROM user_segment_analytics.users";
            let count = |connection: &duckdb::Connection| {
                connection.query_row(sql, [], |row| row.get(0)).map_err(crate::duckdb::unavailable)
            };
            self.database.read(count).expect("it can be read")
        }
    }

    fn outcome(mut receiver: oneshot::Receiver<Outcome>) -> Outcome {
        receiver.try_recv().expect("it was written")
    }

    #[test]
    fn batches_that_wait_are_written_together_and_each_gets_its_outcome() {
        let world = World::new();
        let waiting = [batch(0, 0, 5, 2), batch(1, 3, 9, 2), batch(2, 0, 7, 0), batch(0, 5, 6, 1), batch(0, 5, 8, 1)];
        let receivers = waiting.map(|batch| world.waiting.push(batch));
        world.waiting.write_next(&world.database);
        let [first, gap, empty, next, again] = receivers.map(outcome);
        assert!(first.is_ok() && empty.is_ok() && next.is_ok());
        assert!(matches!(gap, Err(WarehouseError::Moved { found: 0, expected: 3 })), "{gap:?}");
        assert!(matches!(again, Err(WarehouseError::Moved { found: 6, expected: 5 })), "{again:?}");
        assert_eq!((world.positions(0..3), world.users()), (vec![6, 0, 7], 2), "user 0 was written twice");
        world.waiting.write_next(&world.database);
        assert_eq!(world.positions(0..3), [6, 0, 7], "nothing waits");
    }

    #[test]
    fn a_batch_that_cannot_be_written_does_not_hold_up_the_others() {
        let world = World::new();
        // DuckDB has no such number.
        let too_large = batch(1, 0, u64::MAX, 3);
        let receivers = [batch(0, 0, 5, 2), too_large, batch(2, 0, 7, 2)].map(|batch| world.waiting.push(batch));
        world.waiting.write_next(&world.database);
        let [first, failed, last] = receivers.map(outcome);
        assert!(first.is_ok() && last.is_ok(), "{first:?} {last:?}");
        assert!(matches!(failed, Err(WarehouseError::Unavailable(_))), "{failed:?}");
        assert_eq!((world.positions(0..3), world.users()), (vec![5, 0, 7], 4), "it left nothing");
        let refused = world.waiting.push(batch(3, 0, 1, 0));
        world.waiting.write_next(&world.database);
        let refused = outcome(refused);
        assert!(matches!(refused, Err(WarehouseError::Unavailable(_))), "the database is reopened first: {refused:?}");
    }

    #[test]
    fn a_group_has_a_bounded_number_of_rows_but_any_single_batch() {
        let world = World::new();
        let sizes = [GROUP_ROWS_MAX + 1, GROUP_ROWS_MAX - 1, 1, 1];
        let push = |(partition, rows): (u32, usize)| world.waiting.push(batch(partition, 0, 1, rows));
        let _receivers: Vec<_> = (0..).zip(sizes).map(push).collect();
        let groups: Vec<usize> = (0..4).map(|_| world.waiting.next_group().len()).collect();
        assert_eq!(groups, [1, 2, 1, 0]);
    }

    #[test]
    fn the_batch_of_a_caller_that_has_gone_is_not_written() {
        let world = World::new();
        drop(world.waiting.push(batch(0, 0, 5, 2)));
        let kept = world.waiting.push(batch(1, 0, 5, 2));
        world.waiting.write_next(&world.database);
        assert!(outcome(kept).is_ok());
        assert_eq!(world.positions(0..2), [0, 5]);
    }
}
