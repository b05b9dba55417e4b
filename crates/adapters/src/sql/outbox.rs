//! The outbox in SQL.
//!
//! Users who were created together, and of whom only an identity is known, share a row. Its id is
//! that of their last entry; the ids before it belong to the others.

use std::ops::Range;

use async_trait::async_trait;
use ports::config_store::{Outbox, OutboxEntry, OutboxRow};
use ports::log::Topic;
use sea_orm::{
    ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::entities::outbox;
use super::{BOUND_MAX, Result, SqlConfigStore, corrupt, rows, unavailable, users};

/// The values bound per row.
const COLUMNS: usize = 3;

/// Writes entries in order, in the transaction of the change that they describe.
pub(super) async fn send(tx: &impl ConnectionTrait, entries: Vec<OutboxEntry>) -> Result<()> {
    for chunk in entries.chunks(BOUND_MAX / COLUMNS) {
        let models = chunk.iter().map(|entry| outbox::ActiveModel {
            id: NotSet,
            topic: Set(topic_name(entry.topic).to_owned()),
            key: Set(entry.key),
            value: Set(entry.value.clone()),
        });
        outbox::Entity::insert_many(models).exec(tx).await.map_err(unavailable)?;
    }
    Ok(())
}

/// The topic of a row that stands for many entries.
const NEW_USERS: &str = "new_users";

/// What a row of [`NEW_USERS`] holds; its key is the first user.
#[derive(Serialize, Deserialize)]
struct NewUsers {
    /// Their ids follow each other.
    count: u32,
    created_at: i64,
}

/// Writes the entries of users of whom only an identity is known. Returns the ids of the entries.
pub(super) async fn send_new_users(
    tx: &impl ConnectionTrait,
    end: u64,
    first: UserId,
    count: usize,
    now: Timestamp,
) -> Result<Range<u64>> {
    let last = end + count as u64;
    let count = u32::try_from(count).map_err(|error| corrupt("the number of new users", error))?;
    let value = serde_json::to_string(&NewUsers { count, created_at: now.0 });
    let row = outbox::ActiveModel {
        id: Set(sql_id(last)),
        topic: Set(NEW_USERS.to_owned()),
        key: Set(first.0),
        value: Set(value.map_err(|error| corrupt("a row of the outbox", error))?),
    };
    outbox::Entity::insert(row).exec_without_returning(tx).await.map_err(unavailable)?;
    Ok(end + 1..last + 1)
}

/// Returns the entries of a row after this one, at most so many.
fn entries(model: outbox::Model, after: u64, limit: usize) -> Result<Vec<OutboxRow>> {
    if model.topic != NEW_USERS {
        return Ok(vec![row(model)?]);
    }
    let NewUsers { count, created_at } =
        serde_json::from_str(&model.value).map_err(|error| corrupt("an outbox row of new users", error))?;
    let last = u64::try_from(model.id).map_err(|error| corrupt("the id of an outbox row", error))?;
    let first = (last + 1).saturating_sub(u64::from(count));
    let entry = |id: u64| {
        let user = users::unnamed(UserId(model.key + (id - first) as i64), Timestamp(created_at));
        OutboxRow { id, entry: OutboxEntry::user(&user) }
    };
    Ok((first.max(after + 1)..=last).take(limit).map(entry).collect())
}

fn topic_name(topic: Topic) -> &'static str {
    if topic == Topic::Config { "config" } else { "events" }
}

fn row(model: outbox::Model) -> Result<OutboxRow> {
    let topic = match model.topic.as_str() {
        "events" => Topic::Events,
        "config" => Topic::Config,
        other => return Err(corrupt("the topic of an outbox row", other)),
    };
    let id = u64::try_from(model.id).map_err(|error| corrupt("the id of an outbox row", error))?;
    Ok(OutboxRow { id, entry: OutboxEntry { topic, key: model.key, value: model.value } })
}

fn sql_id(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

#[async_trait]
impl Outbox for SqlConfigStore {
    async fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxRow>> {
        let query = outbox::Entity::find().filter(outbox::Column::Id.gt(sql_id(after)));
        let query = query.order_by_asc(outbox::Column::Id).limit(rows(limit));
        let mut found = Vec::new();
        for model in query.all(&self.readers).await.map_err(unavailable)? {
            if found.len() >= limit {
                break;
            }
            found.extend(entries(model, after, limit - found.len())?);
        }
        Ok(found)
    }

    async fn outbox_end(&self) -> Result<u64> {
        let last =
            outbox::Entity::find().order_by_desc(outbox::Column::Id).one(&self.readers).await.map_err(unavailable)?;
        let id =
            |model: outbox::Model| u64::try_from(model.id).map_err(|error| corrupt("the id of an outbox row", error));
        last.map_or(Ok(0), id)
    }

    /// Deletes the sent rows except the last, whose id is the end of the outbox.
    async fn outbox_sent(&self, up_to: u64) -> Result<()> {
        let tail = sql_id(up_to.min(self.outbox_end().await?));
        let sent = outbox::Entity::delete_many().filter(outbox::Column::Id.lt(tail));
        let tx = self.begin().await?;
        sent.exec(&tx).await.map_err(unavailable)?;
        tx.commit().await
    }
}
