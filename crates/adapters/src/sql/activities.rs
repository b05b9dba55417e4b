//! Activities in SQL.

use async_trait::async_trait;
use ports::ErrorCode;
use ports::config_store::{Activity, ActivityChange, ActivityStore, ConfigStoreError, NewActivity, Page, Resource};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait, ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use segment_engine::ids::SegmentId;
use segment_engine::time::Timestamp;

use super::entities::{activity, activity_segment};
use super::{Result, SqlConfigStore, rows, segments, unavailable};

pub(super) fn domain(row: activity::Model) -> Activity {
    Activity {
        id: row.id,
        title: row.title,
        description: row.description,
        code: row.code,
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
    }
}

pub(super) async fn by_code(db: &impl ConnectionTrait, code: &str) -> Result<Option<Activity>> {
    let query = activity::Entity::find().filter(activity::Column::Code.eq(code));
    Ok(query.one(db).await.map_err(unavailable)?.map(domain))
}

async fn require(db: &impl ConnectionTrait, id: i64) -> Result<Activity> {
    let row = activity::Entity::find_by_id(id).one(db).await.map_err(unavailable)?;
    row.map(domain).ok_or_else(|| ConfigStoreError::not_found(Resource::Activity, id))
}

async fn check_code(db: &impl ConnectionTrait, own: i64, code: &str) -> Result<()> {
    match by_code(db, code).await? {
        Some(other) if other.id != own => Err(ConfigStoreError::taken(ErrorCode::CodeTaken, "code", code, other.id)),
        _ => Ok(()),
    }
}

#[async_trait]
impl ActivityStore for SqlConfigStore {
    async fn create_activity(&self, new: NewActivity, now: Timestamp) -> Result<Activity> {
        let tx = self.begin().await?;
        check_code(&tx, 0, &new.code).await?;
        let model = activity::ActiveModel {
            id: NotSet,
            title: Set(new.title),
            description: Set(new.description),
            code: Set(new.code),
            created_at: Set(now.0),
            updated_at: Set(now.0),
        };
        let row = model.insert(&tx).await.map_err(unavailable)?;
        tx.commit().await?;
        Ok(domain(row))
    }

    async fn activity(&self, id: i64) -> Result<Option<Activity>> {
        Ok(activity::Entity::find_by_id(id).one(&self.readers).await.map_err(unavailable)?.map(domain))
    }

    async fn activity_by_code(&self, code: &str) -> Result<Option<Activity>> {
        by_code(&self.readers, code).await
    }

    async fn activities(&self, page: Page) -> Result<Vec<Activity>> {
        let query = activity::Entity::find().filter(activity::Column::Id.gt(page.after));
        let query = query.order_by_asc(activity::Column::Id).limit(rows(page.limit));
        Ok(query.all(&self.readers).await.map_err(unavailable)?.into_iter().map(domain).collect())
    }

    async fn update_activity(&self, id: i64, change: ActivityChange, now: Timestamp) -> Result<Activity> {
        let tx = self.begin().await?;
        let activity = require(&tx, id).await?.changed(change, now);
        check_code(&tx, id, &activity.code).await?;
        let model = activity::ActiveModel {
            id: Set(id),
            title: Set(activity.title.clone()),
            description: Set(activity.description.clone()),
            code: Set(activity.code.clone()),
            updated_at: Set(now.0),
            ..Default::default()
        };
        model.update(&tx).await.map_err(unavailable)?;
        tx.commit().await?;
        Ok(activity)
    }

    async fn delete_activity(&self, id: i64) -> Result<()> {
        let tx = self.begin().await?;
        require(&tx, id).await?;
        let links = activity_segment::Entity::delete_many().filter(activity_segment::Column::ActivityId.eq(id));
        links.exec(&tx).await.map_err(unavailable)?;
        activity::Entity::delete_by_id(id).exec(&tx).await.map_err(unavailable)?;
        tx.commit().await
    }

    async fn link_activity(&self, activity: i64, segment: SegmentId) -> Result<()> {
        let tx = self.begin().await?;
        require(&tx, activity).await?;
        segments::require(&tx, segment).await?;
        let link = activity_segment::ActiveModel { activity_id: Set(activity), segment_id: Set(segment.0) };
        let key = [activity_segment::Column::ActivityId, activity_segment::Column::SegmentId];
        let ignore = OnConflict::columns(key).do_nothing().to_owned();
        let insert = activity_segment::Entity::insert(link).on_conflict(ignore);
        insert.exec_without_returning(&tx).await.map_err(unavailable)?;
        tx.commit().await
    }

    async fn unlink_activity(&self, activity: i64, segment: SegmentId) -> Result<()> {
        let tx = self.begin().await?;
        require(&tx, activity).await?;
        segments::require(&tx, segment).await?;
        activity_segment::Entity::delete_by_id((activity, segment.0)).exec(&tx).await.map_err(unavailable)?;
        tx.commit().await
    }
}
