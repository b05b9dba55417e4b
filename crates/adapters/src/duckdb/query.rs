//! Reads for people: SQL from outside, restricted to reading.

use duckdb::Connection;
use ports::warehouse::{Table, WarehouseError};
use segment_engine::ids::UserId;

use super::unavailable;

/// The most rows of a result, because it is held in memory.
pub const QUERY_ROWS_MAX: usize = 100_000;

/// See `Warehouse::members`.
pub(super) fn members(connection: &Connection, sql: &str) -> Result<Vec<UserId>, WarehouseError> {
    reading(connection, sql, |sql| {
        let mut statement = connection.prepare(sql)?;
        statement.query_map([], |row| row.get(0).map(UserId))?.collect()
    })
}

/// See `Warehouse::query`.
pub(super) fn query(connection: &Connection, sql: &str) -> Result<Table, WarehouseError> {
    let (columns, rows) = reading(connection, sql, |sql| {
        // The line break ends a comment at the end of the query.
        let as_strings = format!("SELECT COLUMNS(*)::VARCHAR FROM ({sql}\n) LIMIT {}", QUERY_ROWS_MAX + 1);
        let mut statement = connection.prepare(&as_strings)?;
        let mut found = statement.query([])?;
        let columns = found.as_ref().map(|statement| statement.column_names()).unwrap_or_default();
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            rows.push((0..columns.len()).map(|column| row.get(column)).collect::<duckdb::Result<_>>()?);
        }
        Ok((columns, rows))
    })?;
    if rows.len() > QUERY_ROWS_MAX {
        let message = format!("the result has more than {QUERY_ROWS_MAX} rows: add a LIMIT");
        return Err(WarehouseError::Refused(message));
    }
    Ok((columns, rows))
}

/// Calls `act` with the statement in a read-only transaction, after checking that it is one SELECT.
fn reading<T>(
    connection: &Connection,
    sql: &str,
    act: impl FnOnce(&str) -> duckdb::Result<T>,
) -> Result<T, WarehouseError> {
    let sql = sql.trim().trim_end_matches(';');
    check(connection, sql)?;
    connection.execute_batch("BEGIN TRANSACTION READ ONLY").map_err(unavailable)?;
    let result = act(sql).map_err(refused);
    connection.execute_batch("ROLLBACK").map_err(unavailable)?;
    result
}

/// Checks with DuckDB's own parser that `sql` is one SELECT. DuckDB runs all but the last of
/// several statements when it prepares them, so a second statement must be found before.
fn check(connection: &Connection, sql: &str) -> Result<(), WarehouseError> {
    let parse = "SELECT CASE WHEN json_extract_string(parsed, '$.error') = 'true'
                        THEN json_extract_string(parsed, '$.error_message') END,
                        json_array_length(parsed, '$.statements')
                 FROM (SELECT json_serialize_sql(?::VARCHAR) AS parsed)";
    let found = connection.query_row(parse, [sql], |row| Ok((row.get(0)?, row.get(1)?)));
    let (problem, statements): (Option<String>, Option<u64>) = found.map_err(unavailable)?;
    match (problem, statements) {
        (Some(problem), _) => Err(WarehouseError::Refused(problem)),
        (None, Some(1)) => Ok(()),
        (None, _) => Err(WarehouseError::Refused("exactly one SELECT statement can be run".to_owned())),
    }
}

/// Classifies DuckDB's errors about a query. Most are the query's fault.
fn refused(error: duckdb::Error) -> WarehouseError {
    const NOT_ABOUT_THE_QUERY: [&str; 4] = ["IO Error", "FATAL Error", "INTERNAL Error", "INTERRUPT Error"];
    let message = error.to_string();
    if message.starts_with("Out of Memory Error") {
        return WarehouseError::TooLarge(message);
    }
    match NOT_ABOUT_THE_QUERY.iter().any(|kind| message.starts_with(kind)) {
        true => WarehouseError::Unavailable(message),
        false => WarehouseError::Refused(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_classified_by_what_the_caller_can_do() {
        let classified =
            |message: &str| refused(duckdb::Error::DuckDBFailure(duckdb::ffi::Error::new(1), Some(message.to_owned())));
        assert!(matches!(classified("Out of Memory Error: failed to allocate"), WarehouseError::TooLarge(_)));
        assert!(matches!(classified("IO Error: No space left on device"), WarehouseError::Unavailable(_)));
        assert!(matches!(classified("INTERRUPT Error: Interrupted!"), WarehouseError::Unavailable(_)));
        assert!(matches!(classified("Binder Error: no such column"), WarehouseError::Refused(_)));
    }
}
