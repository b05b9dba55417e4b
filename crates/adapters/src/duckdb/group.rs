//! Batches that wait to be written: those of several partitions go into one transaction.
//!
//! A transaction has costs of its own, and so have its statements. Many small batches come together
//! when events are few, or the archivers wait for something else.
//!
//! When the archive is behind, a transaction has the events of exactly one of DuckDB's row groups.
//! DuckDB then compresses them at once and writes them into the file itself. Those of fewer go into
//! the write-ahead log first, and into the file at the next checkpoint. Per event that takes longer and
//! writes six times as much.
//!
//! So a checkpoint comes when the events since the last one fill a row group exactly. One event more
//! would leave a row group of one, and the next checkpoint would merge it with whole ones: it would
//! compress and write those again.

use ports::warehouse::{ArchiveBatch, ArchiveRow, WarehouseError};

use super::ROW_GROUP_ROWS;
use super::archive::{Outcome, archive};
use super::database::Database;
use crate::waiting::{Waiter, Waiting};

/// The rows of a group of fewer events, unless its first batch alone has more. Reads that begin wait
/// while DuckDB commits. More rows would make them wait longer, and save little.
const GROUP_ROWS_MAX: usize = 10_000;

/// Batches that wait to be written.
pub(super) type Batches = Waiting<ArchiveBatch, Outcome>;

/// Writes a row group of the events that wait, or if they are fewer, the first batches, but not beyond the
/// end of a row group.
pub(super) fn write_next(waiting: &Batches, database: &Database) {
    let rows = |batch: &ArchiveBatch| batch.rows.len();
    let events_of = |batch: &ArchiveBatch| events(batch).count();
    let missing = ROW_GROUP_ROWS - database.events_added() % ROW_GROUP_ROWS;
    let may_end = missing == ROW_GROUP_ROWS || waiting.in_next_group(GROUP_ROWS_MAX, rows, events_of) >= missing;
    let exactly = if may_end { waiting.exact_group(missing, events_of, cut) } else { None };
    let (group, is_cut) = exactly.unwrap_or_else(|| (waiting.next_group(GROUP_ROWS_MAX, rows), false));
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
        let written = batches.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
        connection.added(written.map(|(batch, _)| events(batch).count()).sum());
        first_failure(&outcomes)
    });
    // There are none if the database is waiting to be reopened.
    outcomes.resize_with(callers.len(), || written.as_ref().copied().map_err(copy));
    if let (true, Some(Err(error))) = (is_cut, outcomes.last()) {
        waiting.fail_rest(Err(copy(error)));
    }
    for (caller, outcome) in callers.into_iter().zip(outcomes) {
        // A caller that has gone reads the archive position when it comes back.
        let _ = caller.send(outcome);
    }
}

/// Returns the places of a batch's events among its rows.
fn events(batch: &ArchiveBatch) -> impl Iterator<Item = usize> {
    let rows = batch.rows.iter().enumerate();
    rows.filter(|(_, (_, row))| matches!(row, ArchiveRow::Event { .. })).map(|(place, _)| place)
}

/// Leaves so many events in a batch that has more, and returns the rest.
fn cut(batch: &mut ArchiveBatch, left: usize) -> ArchiveBatch {
    let next = events(batch).nth(left).expect("the batch has more events");
    batch.split_off(next)
}

/// Returns the first failure of the database. That a position is another is none.
fn first_failure(written: &[Outcome]) -> Outcome {
    let mut failures = written.iter().filter_map(|outcome| outcome.as_ref().err());
    let failure = failures.find(|error| !matches!(error, WarehouseError::Moved { .. }));
    failure.map_or(Ok(()), |error| Err(copy(error)))
}

fn copy(error: &WarehouseError) -> WarehouseError {
    match error {
        WarehouseError::Moved { found, expected } => WarehouseError::Moved { found: *found, expected: *expected },
        failure => WarehouseError::Unavailable(failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use ports::warehouse::{UserRow, archived};
    use ports_testkit::contract;
    use segment_engine::ids::{PartitionId, UserId};
    use segment_engine::time::Timestamp;
    use tokio::sync::oneshot;

    use super::*;
    use crate::duckdb::archive::position;
    use crate::duckdb::checkpoint;

    fn batch(partition: u32, from_offset: u64, to_offset: u64, rows: usize) -> ArchiveBatch {
        let user =
            |id| UserRow { id: UserId(id), client_ref_id: None, email: None, name: None, created_at: Timestamp(0) };
        let rows = (0..rows as i64).map(|id| ArchiveRow::User(user(id + i64::from(partition) * 1_000_000)));
        let rows = (from_offset..).zip(rows).collect();
        ArchiveBatch { partition: PartitionId(partition), from_offset, to_offset, rows }
    }

    /// Returns a batch of which every second record has a row.
    fn many_events(partition: u32, from_offset: u64, count: u64) -> ArchiveBatch {
        let row = |offset| {
            let event = contract::warehouse::event(i64::from(partition), partition, offset);
            (offset, ArchiveRow::Event { event: Box::new(archived(event)), dedupe_forever: false })
        };
        let to_offset = from_offset + 2 * count;
        let rows = (from_offset..to_offset).step_by(2).map(row).collect();
        ArchiveBatch { partition: PartitionId(partition), from_offset, to_offset, rows }
    }

    struct World {
        database: Database,
        waiting: Batches,
        folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            Self::with(1 << 20)
        }

        fn with(wal_bytes_max: u64) -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let database = Database::open(&folder.path().join("w.duckdb"), wal_bytes_max).expect("it opens");
            Self { database, waiting: Batches::default(), folder }
        }

        fn positions(&self, partitions: std::ops::Range<u32>) -> Vec<u64> {
            let of = |connection: &duckdb::Connection| {
                partitions.map(|partition| position(connection, PartitionId(partition))).collect()
            };
            self.database.read(of).expect("it can be read")
        }

        fn count(&self, table: &str) -> i64 {
            let sql = format!("SELECT count(*) FROM user_segment_analytics.{table}");
            let count = |connection: &duckdb::Connection| {
                connection.query_row(&sql, [], |row| row.get(0)).map_err(crate::duckdb::unavailable)
            };
            self.database.read(count).expect("it can be read")
        }

        fn wal(&self) -> u64 {
            checkpoint::wal_bytes(&self.folder.path().join("w.duckdb"))
        }

        /// Writes after what waits already, if that is no more than a group.
        fn write(&self, partition: u32, events: u64) -> oneshot::Receiver<Outcome> {
            let written = self.waiting.push(many_events(partition, 0, events));
            write_next(&self.waiting, &self.database);
            written
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
        assert_eq!((world.positions(0..3), world.count("users")), (vec![6, 0, 7], 2), "user 0 was written twice");
        write_next(&world.waiting, &world.database);
        assert_eq!(world.positions(0..3), [6, 0, 7], "nothing waits");
    }

    #[test]
    fn a_row_group_of_events_goes_into_the_file_and_the_rest_of_a_batch_waits() {
        let world = World::new();
        let mut receivers: Vec<_> =
            (0..5).map(|partition| world.waiting.push(many_events(partition, 0, 25_000))).collect();
        let before = world.wal();
        write_next(&world.waiting, &world.database);
        let of_last = 2 * (ROW_GROUP_ROWS as u64 - 4 * 25_000);
        assert_eq!(world.positions(0..5), [50_000, 50_000, 50_000, 50_000, of_last]);
        assert_eq!(world.count("events"), ROW_GROUP_ROWS as i64);
        let added = world.wal().checked_sub(before).expect("no checkpoint was due");
        assert!(added < 50_000, "the events are not in the write-ahead log: {added} bytes");
        let mut last = receivers.pop().expect("there are five");
        receivers.into_iter().for_each(|receiver| outcome(receiver).expect("it was written"));
        assert!(last.try_recv().is_err(), "the rest of it waits");
        write_next(&world.waiting, &world.database);
        outcome(last).expect("it was written");
        assert_eq!((world.positions(4..5), world.count("events")), (vec![50_000], 125_000));
    }

    #[test]
    fn a_checkpoint_comes_when_events_fill_a_row_group_exactly() {
        let world = World::with(64 << 20);
        let write = |partition| (world.write(partition, 11_000), world.wal());
        // More than a group has otherwise, and no divisor of a row group's.
        let wals: Vec<u64> = (0..11).map(|partition| write(partition).1).collect();
        assert!(wals.is_sorted_by(|a, b| a < b), "no checkpoint before it is full: {wals:?}");
        let (mut cut, wal_bytes) = write(11);
        assert_eq!((world.count("events"), wal_bytes), (ROW_GROUP_ROWS as i64, 0), "they are in the file");
        assert!(cut.try_recv().is_err(), "the rest of it waits");
        write_next(&world.waiting, &world.database);
        outcome(cut).expect("it was written");
        assert_eq!((world.count("events"), world.wal() > 0), (12 * 11_000, true));
    }

    #[test]
    fn a_checkpoint_that_a_query_held_up_comes_before_the_next_events() {
        let world = World::with(64 << 20);
        let write = |partition, count| outcome(world.write(partition, count)).expect("it was written");
        write(0, 100_000);
        let fill = |connection: &duckdb::Connection| {
            let sql = "BEGIN; SELECT count(*) FROM user_segment_analytics.events";
            connection.execute_batch(sql).map_err(crate::duckdb::unavailable)?;
            write(1, ROW_GROUP_ROWS as u64 - 100_000);
            connection.execute_batch("COMMIT").map_err(crate::duckdb::unavailable)
        };
        world.database.read(fill).expect("it can be read");
        let full = world.wal();
        write(2, 100);
        assert!(world.wal() < full / 10, "{} of {full} bytes are left", world.wal());
        assert_eq!(world.database.events_added(), 100);
    }

    #[test]
    fn the_rest_of_a_batch_fails_with_its_beginning() {
        let world = World::new();
        let receivers = [many_events(0, 0, 100_000), many_events(1, 8, 30_000)].map(|batch| world.waiting.push(batch));
        let behind_it = world.waiting.push(batch(2, 0, 9, 1));
        write_next(&world.waiting, &world.database);
        let [first, begun] = receivers.map(outcome);
        assert!(first.is_ok(), "{first:?}");
        assert!(matches!(begun, Err(WarehouseError::Moved { found: 0, expected: 8 })), "{begun:?}");
        write_next(&world.waiting, &world.database);
        assert!(outcome(behind_it).is_ok());
        assert_eq!((world.positions(0..3), world.count("events")), (vec![200_000, 0, 9], 100_000));
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
        assert_eq!((world.positions(0..3), world.count("users")), (vec![5, 0, 7], 4), "it left nothing");
        let refused = world.waiting.push(batch(3, 0, 1, 0));
        write_next(&world.waiting, &world.database);
        let refused = outcome(refused);
        assert!(matches!(refused, Err(WarehouseError::Unavailable(_))), "the database is reopened first: {refused:?}");
    }
}
