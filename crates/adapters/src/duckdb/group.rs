//! Batches that wait to be written: small ones of several partitions go into one transaction.
//!
//! A transaction has costs of its own, and so have its statements. Many small batches come together
//! when events are few, or the archivers wait for something else.

use ports::warehouse::{ArchiveBatch, WarehouseError};

use super::archive::{Outcome, archive};
use super::database::Database;
use crate::waiting::{Waiter, Waiting};

/// The rows of a group, unless its first batch alone has more. Reads that begin wait while DuckDB
/// commits. More rows would make them wait longer, and save little.
const GROUP_ROWS_MAX: usize = 10_000;

/// Batches that wait to be written.
pub(super) type Batches = Waiting<ArchiveBatch, Outcome>;

/// Writes the batches that wait, or the first ones if they are too many.
pub(super) fn write_next(waiting: &Batches, database: &Database) {
    let group = waiting.next_group(GROUP_ROWS_MAX, |batch| batch.rows.len());
    let (batches, callers): (Vec<_>, Vec<_>) =
        group.into_iter().map(|Waiter { item, outcome }| (item, outcome)).unzip();
    if batches.is_empty() {
        return;
    }
    let mut outcomes = Vec::new();
    let written = database.write(|connection| {
        outcomes = match archive(connection, &batches) {
            Ok(outcomes) => outcomes,
            Err(error) if batches.len() == 1 => vec![Err(error)],
            // One of them may be the cause. It must not hold up the others.
            Err(_) => batches.chunks(1).map(|alone| archive(connection, alone)?.pop().unwrap_or(Ok(()))).collect(),
        };
        first_failure(&outcomes)
    });
    // There are none if the database is waiting to be reopened.
    outcomes.resize_with(callers.len(), || written.as_ref().copied().map_err(copy));
    for (caller, outcome) in callers.into_iter().zip(outcomes) {
        // A caller that has gone reads the archive position when it comes back.
        let _ = caller.send(outcome);
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
    use tokio::sync::oneshot;

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
        waiting: Batches,
        _folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let database = Database::open(&folder.path().join("w.duckdb"), 1 << 20).expect("it opens");
            Self { database, waiting: Batches::default(), _folder: folder }
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
        write_next(&world.waiting, &world.database);
        let [first, gap, empty, next, again] = receivers.map(outcome);
        assert!(first.is_ok() && empty.is_ok() && next.is_ok());
        assert!(matches!(gap, Err(WarehouseError::Moved { found: 0, expected: 3 })), "{gap:?}");
        assert!(matches!(again, Err(WarehouseError::Moved { found: 6, expected: 5 })), "{again:?}");
        assert_eq!((world.positions(0..3), world.users()), (vec![6, 0, 7], 2), "user 0 was written twice");
        write_next(&world.waiting, &world.database);
        assert_eq!(world.positions(0..3), [6, 0, 7], "nothing waits");
    }

    #[test]
    fn a_batch_that_cannot_be_written_does_not_hold_up_the_others() {
        let world = World::new();
        // DuckDB has no such number.
        let too_large = batch(1, 0, u64::MAX, 3);
        let receivers = [batch(0, 0, 5, 2), too_large, batch(2, 0, 7, 2)].map(|batch| world.waiting.push(batch));
        write_next(&world.waiting, &world.database);
        let [first, failed, last] = receivers.map(outcome);
        assert!(first.is_ok() && last.is_ok(), "{first:?} {last:?}");
        assert!(matches!(failed, Err(WarehouseError::Unavailable(_))), "{failed:?}");
        assert_eq!((world.positions(0..3), world.users()), (vec![5, 0, 7], 4), "it left nothing");
        let refused = world.waiting.push(batch(3, 0, 1, 0));
        write_next(&world.waiting, &world.database);
        let refused = outcome(refused);
        assert!(matches!(refused, Err(WarehouseError::Unavailable(_))), "the database is reopened first: {refused:?}");
    }
}
