//! Fills the index from the tables, page by page, while the store is in use.
//!
//! Each page is read while no write can run. So an entry is true when it is put, and the writes
//! after that keep it true.

use std::sync::Arc;
use std::time::Duration;

use ports::config_store::ConfigStoreError;
use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, Value};
use segment_engine::ids::UserId;
use tokio::task::AbortHandle;

use super::{IdentityIndex, Key, KeyHash};
use crate::sql::writer::Writer;
use crate::sql::{Result, corrupt, unavailable};

/// The rows of a page: some 20 ms of the writer's time.
const PAGE_ROWS: i64 = 10_000;
/// How long the index waits before it tries again to read a page.
const PAUSE: Duration = Duration::from_secs(5);

/// A page begins with the last row of the page before it. It is one JSON text: to write and parse that
/// costs less than rows through the database client. In SQLite's SQL; another database has functions of
/// its own.
const IDENTITIES: &str = "SELECT json_group_array(json_array(id, id_type, user_id)) FROM (\
    SELECT id, id_type, user_id FROM identities \
    WHERE (id, id_type) >= (?1, ?2) ORDER BY id, id_type LIMIT ?3)";
const CLIENT_REFS: &str = "SELECT json_group_array(json_array(client_ref_id, ?2, user_id)) FROM (\
    SELECT client_ref_id, coalesce(merged_into, id) AS user_id FROM users \
    WHERE client_ref_id >= ?1 ORDER BY client_ref_id LIMIT ?3)";
/// Everything that resolves to one of the users.
const OF_USERS: &str = "SELECT id, id_type, user_id, 1 FROM identities WHERE user_id = ?1 UNION ALL \
    SELECT client_ref_id, '', coalesce(merged_into, id), 0 FROM users \
    WHERE (id = ?1 OR merged_into = ?1) AND client_ref_id IS NOT NULL";

/// The running load. Dropping it ends it.
#[derive(Debug)]
pub(in crate::sql) struct Loading(AbortHandle);

impl Drop for Loading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts to load.
pub(in crate::sql) fn load(index: Arc<IdentityIndex>, writer: Writer) -> Loading {
    let task = tokio::spawn(async move {
        let is_pair = |id: &str, id_type: &str| index.hash(Key::Pair { id_type, form: id });
        let is_client_ref = |id: &str, _: &str| index.hash(Key::ClientRef(id));
        let loaded = async {
            load_all(&index, &writer, IDENTITIES, is_pair).await?;
            load_all(&index, &writer, CLIENT_REFS, is_client_ref).await
        };
        match loaded.await {
            Ok(()) => index.set_loaded(),
            Err(error) => {
                tracing::error!(%error, "the index of identities is not complete; the config store is asked about the rest");
            }
        }
    });
    Loading(task.abort_handle())
}

impl Loading {
    /// Ends the load: the store closes.
    pub(in crate::sql) fn stop(&self) {
        self.0.abort();
    }
}

/// Loads a table. Tries again while the store is busy; fails if it is damaged.
async fn load_all(
    index: &IdentityIndex,
    writer: &Writer,
    sql: &str,
    key: impl Fn(&str, &str) -> KeyHash,
) -> Result<()> {
    let mut from = (String::new(), String::new());
    loop {
        match load_page(index, writer, sql, &from, &key).await {
            Ok(Some(last)) => from = last,
            Ok(None) => return Ok(()),
            Err(error @ ConfigStoreError::Unavailable(_)) => {
                tracing::warn!(%error, "the index of identities waits for the config store");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Returns the last key of the page, if there may be more.
async fn load_page(
    index: &IdentityIndex,
    writer: &Writer,
    sql: &str,
    (id, id_type): &(String, String),
    key: &impl Fn(&str, &str) -> KeyHash,
) -> Result<Option<(String, String)>> {
    let _no_write = writer.alone().await?;
    let values: [Value; 3] = [id.as_str().into(), id_type.as_str().into(), PAGE_ROWS.into()];
    let page = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
    let page = writer.pool().query_one_raw(page).await.map_err(unavailable)?;
    let page = page.expect("an aggregate has a row");
    let page: String = page.try_get_by_index(0).map_err(unavailable)?;
    let rows: Vec<(String, String, i64)> =
        serde_json::from_str(&page).map_err(|error| corrupt("a page of identities", error))?;
    for (id, id_type, owner) in &rows {
        index.put(key(id, id_type), UserId(*owner));
    }
    let is_last = (rows.len() as i64) < PAGE_ROWS;
    Ok(rows.into_iter().map(|(id, id_type, _)| (id, id_type)).max().filter(|_| !is_last))
}

fn columns(row: &QueryResult) -> Result<(String, String, i64)> {
    let column = |at: usize| row.try_get_by_index::<String>(at).map_err(unavailable);
    Ok((column(0)?, column(1)?, row.try_get_by_index(2).map_err(unavailable)?))
}

/// Returns the keys that resolve to these users, and to which.
pub(in crate::sql) async fn keys_of(
    index: &IdentityIndex,
    db: &impl ConnectionTrait,
    users: &[UserId],
) -> Result<Vec<(KeyHash, UserId)>> {
    let mut keys = Vec::new();
    for user in users {
        let of = Statement::from_sql_and_values(DbBackend::Sqlite, OF_USERS, [user.0.into()]);
        for row in db.query_all_raw(of).await.map_err(unavailable)? {
            let (id, id_type, owner) = columns(&row)?;
            let is_pair: bool = row.try_get_by_index(3).map_err(unavailable)?;
            let key = if is_pair { Key::Pair { id_type: &id_type, form: &id } } else { Key::ClientRef(&id) };
            keys.push((index.hash(key), UserId(owner)));
        }
    }
    Ok(keys)
}
