//! The warehouse file's tables, and the migration of older files.

use duckdb::Connection;
use ports::warehouse::WarehouseError;
use segment_engine::sql::MACROS;

use super::unavailable;

/// Each migration raises the schema version by one. Files in use have run a prefix of them: only
/// ever append.
const MIGRATIONS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
];

/// Runs the migrations that the file has not seen. Then defines the functions that generated
/// queries call, at every start, because they belong to this program's queries and not to the data.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), WarehouseError> {
    connection
        .execute_batch(
            "CREATE SCHEMA IF NOT EXISTS user_segment_analytics;
             CREATE TABLE IF NOT EXISTS user_segment_analytics.schema_versions (version UBIGINT NOT NULL);",
        )
        .map_err(unavailable)?;
    let sql = "SELECT count(*) FROM user_segment_analytics.schema_versions";
    let done: usize = connection.query_row(sql, [], |row| row.get(0)).map_err(unavailable)?;
    if done > MIGRATIONS.len() {
        return Err(WarehouseError::Unavailable(format!(
            "the file has schema version {done}, but this version knows only up to {}: use the version that wrote it",
            MIGRATIONS.len()
        )));
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction().map_err(unavailable)?;
        transaction.execute_batch(migration).map_err(unavailable)?;
        let sql = "INSERT INTO user_segment_analytics.schema_versions VALUES (?)";
        transaction.execute(sql, [index + 1]).map_err(unavailable)?;
        transaction.commit().map_err(unavailable)?;
    }
    connection.execute_batch(MACROS).map_err(unavailable)
}
