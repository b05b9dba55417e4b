//! The outbox in SQL.

use async_trait::async_trait;
use ports::config_store::{Outbox, OutboxEntry, OutboxRow};
use ports::log::Topic;
use sea_orm::{
    ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::entities::outbox;
use super::{BOUND_MAX, Result, SqlConfigStore, corrupt, rows, unavailable};

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
        query.all(&self.readers).await.map_err(unavailable)?.into_iter().map(row).collect()
    }

    async fn outbox_end(&self) -> Result<u64> {
        let last =
            outbox::Entity::find().order_by_desc(outbox::Column::Id).one(&self.readers).await.map_err(unavailable)?;
        last.map_or(Ok(0), |model| row(model).map(|row| row.id))
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
