//! Users of whom only an identity is known: thousands in one write, with few statements.
//!
//! They have nothing of their own but their ids, which follow each other. So a recursion inserts
//! their rows, and the outbox has one row for all of them.

use ports::config_store::{IdentityKey, IdentityRules, User};
use sea_orm::{ConnectionTrait, DbBackend, SqlErr, Statement, Value};
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;

use super::writer::Write;
use super::{Result, ids, outbox, unavailable, users};

/// How many rows the statements insert that insert identities. There are few different ones, so
/// each is prepared once.
const ROWS: [usize; 4] = [512, 64, 8, 1];

const USERS: &str = "WITH RECURSIVE new(id) AS (SELECT ?1 UNION ALL SELECT id + 1 FROM new WHERE id < ?2) \
    INSERT INTO users (id, created_at, updated_at, manual_version) SELECT id, ?3, ?3, 0 FROM new";

/// Creates a user for each identity, with the outbox row. The caller has checked that nobody has the
/// identities and that they are distinct. Returns the users, in order, and the ids of their entries
/// in the outbox.
pub(super) async fn create(
    tx: &Write,
    rules: &IdentityRules,
    keys: &[&IdentityKey],
    now: Timestamp,
) -> Result<(Vec<User>, std::ops::Range<u64>)> {
    if keys.is_empty() {
        return Ok((Vec::new(), 0..0));
    }
    let last = ids::last(tx).await?;
    let (first, end) = (last.user + 1, last.user + keys.len() as i64);
    let values: [Value; 3] = [first.into(), end.into(), now.0.into()];
    execute(tx, USERS, values.into()).await?;
    insert_identities(tx, rules, keys, first, now).await?;
    let entries = outbox::send_new_users(tx, last.outbox, UserId(first), keys.len(), now).await?;
    Ok(((first..=end).map(|id| users::unnamed(UserId(id), now)).collect(), entries))
}

/// Gives each identity to the user who follows the one before. Fails if one belongs to somebody.
async fn insert_identities(
    tx: &Write,
    rules: &IdentityRules,
    keys: &[&IdentityKey],
    first: i64,
    now: Timestamp,
) -> Result<()> {
    let (mut rest, mut first) = (keys, first);
    for rows in ROWS {
        let sql = identities_sql(rows);
        while rest.len() >= rows {
            let (some, others) = rest.split_at(rows);
            let mut values: Vec<Value> = Vec::with_capacity(3 * rows + 2);
            for key in some {
                let form = rules.form(key);
                let spelling = (form.id != key.id).then(|| key.id.clone());
                values.extend([form.id_type.into(), form.id.into(), spelling.into()]);
            }
            values.extend([first.into(), now.0.into()]);
            execute(tx, &sql, values).await?;
            rest = others;
            first += rows as i64;
        }
    }
    Ok(())
}

/// Takes three values for each row, then the first user and the instant. The parameters have no
/// numbers: SQLite would search the list of numbers for each.
fn identities_sql(rows: usize) -> String {
    let rows: Vec<String> = (0..rows).map(|row| format!("({row}, ?, ?, ?)")).collect();
    format!(
        "WITH new(nth, id_type, id, spelling) AS (VALUES {}) \
         INSERT INTO identities (id_type, id, spelling, user_id, created_at) \
         SELECT id_type, id, spelling, ? + nth, ? FROM new",
        rows.join(", ")
    )
}

async fn execute(tx: &Write, sql: &str, values: Vec<Value>) -> Result<()> {
    let done = tx.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)).await;
    let done = done.inspect_err(|error| {
        // The index lacked an identity that the file has. From now on the file is asked.
        if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) {
            tx.distrust_index();
        }
    });
    done.map(drop).map_err(unavailable)
}
