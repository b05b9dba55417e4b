//! Makes a user's email an identity of the user, and adds the original spelling to identities.
//!
//! If an email belongs to one user and is the identity of another, the older user gets it. The
//! younger one keeps it as an identity of the type `former_email`, so that a user never loses their
//! only identity, and a link can merge the two.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{string, string_null};
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseTransaction, TransactionTrait};

/// The number of contested emails whose users are logged one by one.
const LOGGED_MAX: u64 = 100;

/// Emails that belong to one user (or to one of its absorbed users) and are the identity of
/// another.
const CONTESTED: &str = "CREATE TEMPORARY TABLE contested AS
    SELECT held.id AS email, holder.id AS holder, claimant.id AS claimant, users.updated_at AS since,
        claimant.created_at < holder.created_at
            OR (claimant.created_at = holder.created_at AND claimant.id < holder.id) AS claimant_is_older
    FROM users
        JOIN identities AS held ON held.id_type = 'email' AND held.id = users.email
        JOIN users AS holder ON holder.id = held.user_id
        JOIN users AS claimant ON claimant.id = coalesce(users.merged_into, users.id)
    WHERE holder.id <> claimant.id";

/// Run in order, each over whole tables. The email of an absorbed user becomes an identity of its
/// survivor and is removed from its row, so that it can become the survivor's email.
const CARRY_OVER: [&str; 4] = [
    "INSERT INTO identities (id_type, id, user_id, created_at)
        SELECT 'former_email', email, CASE WHEN claimant_is_older THEN holder ELSE claimant END, since
        FROM contested WHERE true ON CONFLICT (id_type, id) DO NOTHING",
    "UPDATE identities SET user_id = (SELECT claimant FROM contested WHERE contested.email = identities.id)
        WHERE id_type = 'email' AND id IN (SELECT email FROM contested WHERE claimant_is_older)",
    "INSERT INTO identities (id_type, id, user_id, created_at)
        SELECT 'email', email, coalesce(merged_into, id), updated_at FROM users WHERE email IS NOT NULL ORDER BY email
        ON CONFLICT (id_type, id) DO NOTHING",
    "UPDATE users SET email = NULL WHERE merged_into IS NOT NULL AND email IS NOT NULL",
];

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0003_emails_are_identities"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // All in one transaction. A crash may still happen before the migration is recorded as
        // done.
        if manager.has_column("identities", "spelling").await? {
            return Ok(());
        }
        let tx = manager.get_connection().begin().await?;
        let schema = SchemaManager::new(&tx);
        let spelling = Table::alter().table("identities").add_column(string_null("spelling")).take();
        schema.alter_table(spelling).await?;
        let caseless = Table::create().table("caseless_types").col(string("id_type").primary_key()).take();
        schema.create_table(caseless).await?;
        tx.execute_unprepared(CONTESTED).await?;
        for statement in CARRY_OVER {
            tx.execute_unprepared(statement).await?;
        }
        log_contested(&tx).await?;
        tx.execute_unprepared("DROP TABLE contested").await?;
        tx.commit().await
    }
}

async fn log_contested(tx: &DatabaseTransaction) -> Result<(), DbErr> {
    let columns = ["holder", "claimant", "claimant_is_older"];
    let mut select = Query::select();
    select.columns(columns).from("contested").order_by("claimant", Order::Asc).limit(LOGGED_MAX);
    for row in tx.query_all(&select).await? {
        let (holder, claimant) = (row.try_get::<i64>("", "holder")?, row.try_get::<i64>("", "claimant")?);
        let claimant_is_older: bool = row.try_get("", "claimant_is_older")?;
        let (older, younger) = if claimant_is_older { (claimant, holder) } else { (holder, claimant) };
        tracing::warn!(
            older,
            younger,
            "two users had the same email: the older keeps it, the younger has it as an identity of the type \
             former_email; if both are one person, POST /api/v1/identities/link merges them"
        );
    }
    let count = Query::select().expr_as(Expr::cust("count(*)"), "contested").from("contested").take();
    let count = tx.query_one(&count).await?.map(|row| row.try_get::<i64>("", "contested")).transpose()?.unwrap_or(0);
    if count > 0 {
        tracing::warn!(count, "emails that two users had; see GET /api/v1/users/{{id}}/identities");
    }
    Ok(())
}
