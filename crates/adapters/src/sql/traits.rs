//! Traits in SQL: a row each, with the value as JSON.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ports::config_store::{OutboxEntry, TraitStore, TraitValue, Traits, set_newer};
use ports::records::json_text::JsonText;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;

use super::entities::user_trait;
use super::{BOUND_MAX, Result, SqlConfigStore, corrupt, outbox, unavailable, users};

/// The values bound per row.
const COLUMNS: usize = 4;

pub(super) async fn load(db: &impl ConnectionTrait, user: i64) -> Result<Traits> {
    let query = user_trait::Entity::find().filter(user_trait::Column::UserId.eq(user));
    let rows = query.all(db).await.map_err(unavailable)?;
    rows.into_iter()
        .map(|row| {
            let value = serde_json::from_str(&row.value).map_err(|error| corrupt("a trait", error))?;
            Ok((row.key, TraitValue { value, created_at: Timestamp(row.created_at) }))
        })
        .collect()
}

pub(super) async fn store(tx: &impl ConnectionTrait, user: i64, traits: &Traits) -> Result<()> {
    let models: Vec<user_trait::ActiveModel> = traits
        .iter()
        .map(|(key, value)| user_trait::ActiveModel {
            user_id: Set(user),
            key: Set(key.clone()),
            value: Set(value.value.as_str().to_owned()),
            created_at: Set(value.created_at.0),
        })
        .collect();
    for chunk in models.chunks(BOUND_MAX / COLUMNS) {
        let overwrite = OnConflict::columns([user_trait::Column::UserId, user_trait::Column::Key])
            .update_columns([user_trait::Column::Value, user_trait::Column::CreatedAt])
            .to_owned();
        let insert = user_trait::Entity::insert_many(chunk.iter().cloned()).on_conflict(overwrite);
        insert.exec_without_returning(tx).await.map_err(unavailable)?;
    }
    Ok(())
}

#[async_trait]
impl TraitStore for SqlConfigStore {
    async fn traits(&self, user: UserId) -> Result<Traits> {
        let user = users::require(&self.readers, user).await?;
        load(&self.readers, user.id).await
    }

    async fn set_traits(
        &self,
        user: UserId,
        traits: BTreeMap<String, JsonText>,
        created_at: Timestamp,
    ) -> Result<Traits> {
        let tx = self.begin().await?;
        let user = users::require(&tx, user).await?.id;
        let mut own = load(&tx, user).await?;
        let set = set_newer(&mut own, &traits, created_at)?;
        store(&tx, user, &set).await?;
        if !traits.is_empty() {
            outbox::send(&tx, vec![OutboxEntry::traits(UserId(user), traits, created_at)]).await?;
        }
        tx.commit().await?;
        Ok(own)
    }
}
