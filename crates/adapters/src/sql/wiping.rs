//! What was deleted is no longer in the files.
//!
//! With `secure_delete` SQLite overwrites deleted content with zeros. That leaves the write-ahead log, which has the pages
//! as they were until it begins anew, and what builds without `secure_delete` had freed.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr};

use super::{Result, unavailable};

/// `PRAGMA user_version` of files that have nothing from before `secure_delete`.
const WIPED: i32 = 1;

/// Moves the write-ahead log into the file and cuts it to nothing. Waits for reads that are under way; where one takes
/// longer than the busy timeout, the next call does it.
pub(super) async fn empty_wal(writer: &DatabaseConnection) -> Result<()> {
    writer.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await.map_err(unavailable)?;
    Ok(())
}

/// Writes a file of an earlier build anew, once. That needs as much room as the file has; without, it is tried again at
/// the next start.
pub(super) async fn wipe_old_pages(writer: &DatabaseConnection) {
    if let Err(error) = try_to_wipe(writer).await {
        tracing::warn!(%error, "rows that were deleted long ago may still be found in the config store's file; the next start tries again");
    }
}

async fn try_to_wipe(writer: &DatabaseConnection) -> std::result::Result<(), DbErr> {
    let version = sea_orm::Statement::from_string(writer.get_database_backend(), "PRAGMA user_version");
    let version = writer.query_one_raw(version).await?.map(|row| row.try_get::<i32>("", "user_version")).transpose()?;
    if version.is_some_and(|version| version >= WIPED) {
        return Ok(());
    }
    writer.execute_unprepared("VACUUM").await?;
    writer.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await?;
    writer.execute_unprepared(&format!("PRAGMA user_version = {WIPED}")).await?;
    Ok(())
}
