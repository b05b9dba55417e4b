//! Erases deleted users from the file.
//!
//! DuckDB marks deleted rows and leaves them in place: in blocks shared with other rows, and in
//! dictionaries of whole row groups. It drops a row group when none of its rows is left, and keeps
//! the freed blocks unchanged until it reuses them. So a wipe moves every row of every table from
//! the front to the end, in pieces, and leaves empty row groups behind. Each piece is its own
//! transaction and ends with a checkpoint, which frees the blocks of the previous piece for the
//! next. At the end the free blocks are filled with noise and freed again.
//!
//! After a kill at any point, every row is either where it was or where it belongs, and the next
//! wipe starts over.

use duckdb::{Connection, OptionalExt, params};
use ports::warehouse::WarehouseError;
use segment_engine::time::Timestamp;

use super::database::Writer;
use super::unavailable;

/// Every table but `scrubs`, which is written when nothing else is. Tables of numbers share blocks
/// with strings, so they are moved too.
pub(super) const TABLES: [Table; 8] = [
    Table { name: "events", without: "EXCLUDE (id)" },
    Table { name: "once_events", without: "" },
    Table { name: "users", without: "" },
    Table { name: "trait_values", without: "" },
    Table { name: "aliases", without: "" },
    Table { name: "departures", without: "" },
    Table { name: "archive_positions", without: "" },
    Table { name: "schema_versions", without: "" },
];

/// The rows that one transaction moves: two row groups. The archiver waits for it, about a second.
const PIECE_ROWS: i64 = 2 * 122_880;
/// The bytes of a noise row: eight that cannot be compressed.
const NOISE_ROW_BYTES: i64 = 8;

/// A table to move.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    name: &'static str,
    /// Excludes generated columns, which cannot be inserted.
    without: &'static str,
}

/// Returns the number of deleted users if a wipe is due: some were deleted since the last one, and
/// that was at least `interval_micros` before `now`.
pub(super) fn due(
    connection: &Connection,
    now: Timestamp,
    interval_micros: i64,
) -> Result<Option<i64>, WarehouseError> {
    let sql = "SELECT count(*) FROM user_segment_analytics.departures WHERE deleted";
    let deleted: i64 = connection.query_row(sql, [], |row| row.get(0)).map_err(unavailable)?;
    let sql = "SELECT at_micros, deleted_users FROM user_segment_analytics.scrubs";
    let last = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional().map_err(unavailable)?;
    let is_due = last.map_or(deleted > 0, |(at, covered): (i64, i64)| {
        deleted > covered && now.0.saturating_sub(at) >= interval_micros
    });
    Ok(is_due.then_some(deleted))
}

/// Returns the number of rows of a table.
pub(super) fn count(connection: &Connection, table: Table) -> Result<i64, WarehouseError> {
    let sql = format!("SELECT count(*) FROM user_segment_analytics.{}", table.name);
    connection.query_row(&sql, [], |row| row.get(0)).map_err(unavailable)
}

/// Moves the first rows of a table to its end. Returns how many; 0 if the table is empty.
pub(super) fn move_piece(writer: &mut Writer, table: Table) -> Result<i64, WarehouseError> {
    // Rows that are added after a checkpoint begin a new row group. Without it they may join a
    // group with deleted rows.
    writer.checkpoint()?;
    let moved = try_move(writer, table).map_err(unavailable)?;
    writer.checkpoint()?;
    Ok(moved)
}

fn try_move(connection: &mut Connection, Table { name, without }: Table) -> duckdb::Result<i64> {
    let transaction = connection.transaction()?;
    // Rows come in the order of their ids, so the first has the lowest.
    let sql = format!("SELECT rowid FROM user_segment_analytics.{name} LIMIT 1");
    let Some(first) = transaction.query_row(&sql, [], |row| row.get::<_, i64>(0)).optional()? else { return Ok(0) };
    let piece = params![first, first.saturating_add(PIECE_ROWS)];
    let sql = format!(
        "INSERT INTO user_segment_analytics.{name}
         SELECT * {without} FROM user_segment_analytics.{name} WHERE rowid >= ? AND rowid < ?"
    );
    let copied = transaction.execute(&sql, piece)?;
    let sql = format!("DELETE FROM user_segment_analytics.{name} WHERE rowid >= ? AND rowid < ?");
    transaction.execute(&sql, piece)?;
    transaction.commit()?;
    Ok(i64::try_from(copied).unwrap_or(i64::MAX))
}

/// Fills the free blocks with noise and records that `deleted` users have left the file. No query
/// may be running, because blocks that a reader may need are not free.
pub(super) fn finish(writer: &mut Writer, now: Timestamp, deleted: i64) -> Result<(), WarehouseError> {
    // A checkpoint with a reader present keeps empty row groups, and so would one with nothing to
    // write.
    let sql = "CREATE OR REPLACE TABLE user_segment_analytics.scrub_noise (noise UBIGINT NOT NULL)";
    writer.execute_batch(sql).map_err(unavailable)?;
    writer.checkpoint()?;
    fill(writer).map_err(unavailable)?;
    writer.checkpoint()?;
    record(writer, now, deleted).map_err(unavailable)?;
    writer.checkpoint()
}

fn fill(connection: &Connection) -> duckdb::Result<()> {
    let sql = "SELECT free_blocks * block_size FROM pragma_database_size()";
    let free_bytes: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    let rows = free_bytes / NOISE_ROW_BYTES;
    // Slightly more than fits, because segments do not fill their blocks to the last byte.
    let rows = rows + rows / 16 + 1;
    let sql = "INSERT INTO user_segment_analytics.scrub_noise SELECT hash(i) FROM range(?) noise(i)";
    connection.execute(sql, [rows]).map(drop)
}

fn record(connection: &mut Connection, now: Timestamp, deleted: i64) -> duckdb::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch("DROP TABLE user_segment_analytics.scrub_noise")?;
    transaction.execute_batch("DELETE FROM user_segment_analytics.scrubs")?;
    transaction.execute("INSERT INTO user_segment_analytics.scrubs VALUES (?, ?)", params![now.0, deleted])?;
    transaction.commit()
}
