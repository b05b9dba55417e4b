//! Makes a membership two rows in two trees instead of three: the table itself is ordered by user
//! and segment.
//!
//! The table is copied, since SQLite cannot change the key of a table.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, TransactionTrait};

const STATEMENTS: [&str; 5] = [
    "CREATE TABLE new_memberships (user_id integer NOT NULL, segment_id integer NOT NULL, created_at integer NOT NULL,
        updated_at integer NOT NULL, PRIMARY KEY (user_id, segment_id)) WITHOUT ROWID",
    "INSERT INTO new_memberships (user_id, segment_id, created_at, updated_at)
        SELECT user_id, segment_id, created_at, updated_at FROM memberships ORDER BY user_id, segment_id",
    "DROP TABLE memberships",
    "ALTER TABLE new_memberships RENAME TO memberships",
    "CREATE INDEX memberships_by_segment ON memberships (segment_id, user_id)",
];

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0005_memberships_by_user"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All in one transaction. If a crash comes before the migration is recorded as done, the next
    /// start copies the new table once more.
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tx = manager.get_connection().begin().await?;
        for statement in STATEMENTS {
            tx.execute_unprepared(statement).await?;
        }
        tx.commit().await
    }
}
