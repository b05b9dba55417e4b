//! The last ids that SQLite assigned in tables that never reuse ids (AUTOINCREMENT).

use ports::config_store::{LastIds, OutboxEntry};
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, Statement};
use segment_engine::ids::SegmentId;

use super::entities::outbox;
use super::writer::Write;
use super::{Result, corrupt, unavailable};

/// Returns the last ids of the three tables whose ids appear in the log.
pub(super) async fn last(db: &impl ConnectionTrait) -> Result<LastIds> {
    let sql = "SELECT name, seq FROM sqlite_sequence WHERE name IN ('users', 'segments', 'outbox')";
    let rows = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.map_err(unavailable)?;
    let mut last = LastIds::default();
    for row in rows {
        let (name, id): (String, i64) = row.try_get_many("", &["name".into(), "seq".into()]).map_err(unavailable)?;
        match name.as_str() {
            "users" => last.user = id,
            "segments" => last.segment = id,
            _ => last.outbox = u64::try_from(id).map_err(|error| corrupt("the last id of the outbox", error))?,
        }
    }
    Ok(last)
}

/// Makes new ids start after these, unless they already do.
pub(super) async fn raise(tx: &Write, to: LastIds) -> Result<()> {
    let own = last(tx).await?;
    for (table, id, own) in [("users", to.user, own.user), ("segments", to.segment, own.segment)] {
        if id <= own {
            continue;
        }
        // A table that never had a row has no sequence yet.
        for sql in
            ["DELETE FROM sqlite_sequence WHERE name = ?", "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)"]
        {
            let values = [table.into(), id.into()].into_iter().take(sql.matches('?').count());
            let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
            tx.execute_raw(statement).await.map_err(unavailable)?;
        }
    }
    if to.outbox > own.outbox {
        // The outbox ends at its last row. The log is already beyond this one, so its content is
        // never sent.
        let OutboxEntry { key, value, .. } = OutboxEntry::segment_deleted(SegmentId(0));
        let id = i64::try_from(to.outbox).map_err(|error| corrupt("the last id of the outbox", error))?;
        let row = outbox::Model { id, topic: "config".to_owned(), key, value };
        outbox::Entity::insert(outbox::ActiveModel::from(row)).exec(tx).await.map_err(unavailable)?;
    }
    Ok(())
}
