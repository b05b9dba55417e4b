//! Erases deleted rows from the files.
//!
//! With `secure_delete` SQLite overwrites deleted content with zeros. Two places remain: the
//! write-ahead log, which holds old pages until it restarts, and space that builds without
//! `secure_delete` freed.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr};

use super::{Result, unavailable};

/// `PRAGMA user_version` of files without remains from before `secure_delete`.
const WIPED: i32 = 1;

/// Moves the write-ahead log into the file and truncates it to nothing. Waits for running reads. If
/// one takes longer than the busy timeout, the next call does it.
pub(super) async fn empty_wal(writer: &DatabaseConnection) -> Result<()> {
    writer.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await.map_err(unavailable)?;
    Ok(())
}

/// Rewrites a file of an earlier build, once. That needs as much free disk space as the file's
/// size. Without it, the next start tries again.
pub(super) async fn wipe_old_pages(writer: &DatabaseConnection) {
    if let Err(error) = try_to_wipe(writer).await {
        tracing::warn!(
            %error,
            "could not rewrite the config store's file, which may still contain rows deleted by an earlier build; \
             the next start tries again"
        );
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
