//! Makes a new user cheap: one row in three trees instead of eight.
//!
//! * Identities become one tree ordered by id, then type, which finds pairs and ids. There were
//!   three: rows, pairs, ids.
//! * The indexes of users leave out those who have no client id, no email, or were not absorbed.
//!
//! Both tables are copied, since SQLite cannot change the key of a table.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseTransaction, TransactionTrait};

/// Dropping a table forgets its last id, and ids are never used again.
const STATEMENTS: [&str; 15] = [
    "CREATE TABLE new_identities (id text NOT NULL, id_type text NOT NULL, user_id integer NOT NULL,
        created_at integer NOT NULL, spelling text, PRIMARY KEY (id, id_type)) WITHOUT ROWID",
    "INSERT INTO new_identities (id, id_type, user_id, created_at, spelling)
        SELECT id, id_type, user_id, created_at, spelling FROM identities ORDER BY id, id_type",
    "DROP TABLE identities",
    "ALTER TABLE new_identities RENAME TO identities",
    "CREATE INDEX identities_by_user ON identities (user_id)",
    "CREATE TEMPORARY TABLE last_user AS SELECT seq FROM sqlite_sequence WHERE name = 'users'",
    "CREATE TABLE new_users (id integer NOT NULL PRIMARY KEY AUTOINCREMENT, client_ref_id text, name text, email text,
        created_at integer NOT NULL, updated_at integer NOT NULL, merged_into integer,
        manual_version integer NOT NULL DEFAULT 0)",
    "INSERT INTO new_users (id, client_ref_id, name, email, created_at, updated_at, merged_into, manual_version)
        SELECT id, client_ref_id, name, email, created_at, updated_at, merged_into, manual_version FROM users",
    "DROP TABLE users",
    "ALTER TABLE new_users RENAME TO users",
    "CREATE UNIQUE INDEX users_by_client_ref ON users (client_ref_id) WHERE client_ref_id IS NOT NULL",
    "CREATE UNIQUE INDEX users_by_email ON users (email) WHERE email IS NOT NULL",
    "CREATE INDEX users_by_survivor ON users (merged_into) WHERE merged_into IS NOT NULL",
    "DELETE FROM sqlite_sequence WHERE name = 'users'",
    "INSERT INTO sqlite_sequence (name, seq) SELECT 'users', seq FROM last_user",
];

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0004_fewer_indexes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // All in one transaction. A crash may still happen before the migration is recorded as
        // done.
        if manager.has_index("users", "users_by_client_ref").await? {
            return Ok(());
        }
        let tx = manager.get_connection().begin().await?;
        run(&tx).await?;
        tx.commit().await
    }
}

async fn run(tx: &DatabaseTransaction) -> Result<(), DbErr> {
    for statement in STATEMENTS {
        tx.execute_unprepared(statement).await?;
    }
    tx.execute_unprepared("DROP TABLE last_user").await?;
    Ok(())
}
