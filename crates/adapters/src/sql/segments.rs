//! Segments in SQL.

use std::collections::HashMap;

use async_trait::async_trait;
use ports::config_store::{
    Activity, ConfigStoreError, NewSegment, OutboxEntry, Page, Resource, Segment, SegmentChange, SegmentKind,
    SegmentStore, change_segment,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use segment_engine::ids::{SegmentId, SegmentVersion};
use segment_engine::time::Timestamp;

use super::entities::{activity, activity_segment, manual_membership, membership, segment, segment_use};
use super::segment_rules::{check_tag, check_unused, check_uses};
use super::{BOUND_MAX, Result, SqlConfigStore, activities, corrupt, outbox, rows, unavailable};

fn domain(row: segment::Model, uses: Vec<String>) -> Result<Segment> {
    let kind = match row.kind.as_str() {
        "computed" => SegmentKind::Computed,
        "manual" => SegmentKind::Manual,
        other => return Err(corrupt("the kind of a segment", other)),
    };
    Ok(Segment {
        id: SegmentId(row.id),
        title: row.title,
        description: row.description,
        tag: row.tag,
        where_statement: row.where_statement,
        is_generic: row.is_generic,
        kind,
        version: SegmentVersion(
            u64::try_from(row.version).map_err(|error| corrupt("the version of a segment", error))?,
        ),
        uses,
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
    })
}

fn model(segment: &Segment) -> segment::ActiveModel {
    segment::ActiveModel {
        id: Set(segment.id.0),
        title: Set(segment.title.clone()),
        description: Set(segment.description.clone()),
        tag: Set(segment.tag.clone()),
        where_statement: Set(segment.where_statement.clone()),
        is_generic: Set(segment.is_generic),
        kind: Set(if segment.kind == SegmentKind::Manual { "manual" } else { "computed" }.to_owned()),
        version: Set(i64::try_from(segment.version.0).unwrap_or(i64::MAX)),
        created_at: Set(segment.created_at.0),
        updated_at: Set(segment.updated_at.0),
    }
}

async fn with_uses(db: &impl ConnectionTrait, found: Vec<segment::Model>) -> Result<Vec<Segment>> {
    let mut uses: HashMap<i64, Vec<String>> = HashMap::new();
    let ids: Vec<i64> = found.iter().map(|row| row.id).collect();
    for chunk in ids.chunks(BOUND_MAX) {
        let query = segment_use::Entity::find().filter(segment_use::Column::SegmentId.is_in(chunk.iter().copied()));
        for row in query.order_by_asc(segment_use::Column::Tag).all(db).await.map_err(unavailable)? {
            uses.entry(row.segment_id).or_default().push(row.tag);
        }
    }
    found.into_iter().map(|row| domain(row.clone(), uses.remove(&row.id).unwrap_or_default())).collect()
}

async fn one(db: &impl ConnectionTrait, condition: impl sea_orm::sea_query::IntoCondition) -> Result<Option<Segment>> {
    let row = segment::Entity::find().filter(condition).one(db).await.map_err(unavailable)?;
    Ok(with_uses(db, row.into_iter().collect()).await?.pop())
}

pub(super) async fn require(db: &impl ConnectionTrait, id: SegmentId) -> Result<Segment> {
    one(db, segment::Column::Id.eq(id.0)).await?.ok_or_else(|| ConfigStoreError::not_found(Resource::Segment, id))
}

async fn replace_uses(tx: &impl ConnectionTrait, segment: &Segment) -> Result<()> {
    let old = segment_use::Entity::delete_many().filter(segment_use::Column::SegmentId.eq(segment.id.0));
    old.exec(tx).await.map_err(unavailable)?;
    let models = segment
        .uses
        .iter()
        .map(|tag| segment_use::ActiveModel { segment_id: Set(segment.id.0), tag: Set(tag.clone()) });
    if segment.uses.is_empty() {
        return Ok(());
    }
    segment_use::Entity::insert_many(models).exec_without_returning(tx).await.map_err(unavailable)?;
    Ok(())
}

async fn delete_rows(tx: &impl ConnectionTrait, id: SegmentId) -> Result<()> {
    let links = activity_segment::Entity::delete_many().filter(activity_segment::Column::SegmentId.eq(id.0));
    links.exec(tx).await.map_err(unavailable)?;
    let uses = segment_use::Entity::delete_many().filter(segment_use::Column::SegmentId.eq(id.0));
    uses.exec(tx).await.map_err(unavailable)?;
    let members = membership::Entity::delete_many().filter(membership::Column::SegmentId.eq(id.0));
    members.exec(tx).await.map_err(unavailable)?;
    let manual = manual_membership::Entity::delete_many().filter(manual_membership::Column::SegmentId.eq(id.0));
    manual.exec(tx).await.map_err(unavailable)?;
    segment::Entity::delete_by_id(id.0).exec(tx).await.map_err(unavailable)?;
    Ok(())
}

#[async_trait]
impl SegmentStore for SqlConfigStore {
    async fn create_segment(&self, new: NewSegment, now: Timestamp) -> Result<Segment> {
        let tx = self.begin().await?;
        let mut segment = Segment::new(SegmentId(0), new, now);
        check_tag(&tx, &segment).await?;
        check_uses(&tx, &segment).await?;
        let row = segment::ActiveModel { id: NotSet, ..model(&segment) };
        segment.id = SegmentId(segment::Entity::insert(row).exec(&tx).await.map_err(unavailable)?.last_insert_id);
        replace_uses(&tx, &segment).await?;
        outbox::send(&tx, vec![OutboxEntry::segment(&segment)]).await?;
        tx.commit().await?;
        Ok(segment)
    }

    async fn segment(&self, id: SegmentId) -> Result<Option<Segment>> {
        one(&self.readers, segment::Column::Id.eq(id.0)).await
    }

    async fn segment_by_tag(&self, tag: &str) -> Result<Option<Segment>> {
        one(&self.readers, segment::Column::Tag.eq(tag)).await
    }

    async fn count_segments(&self) -> Result<u64> {
        segment::Entity::find().count(&self.readers).await.map_err(unavailable)
    }

    async fn segments(&self, page: Page) -> Result<Vec<Segment>> {
        let query = segment::Entity::find().filter(segment::Column::Id.gt(page.after));
        let query = query.order_by_asc(segment::Column::Id).limit(rows(page.limit));
        with_uses(&self.readers, query.all(&self.readers).await.map_err(unavailable)?).await
    }

    async fn generics_and_by(&self, activity_code: &str) -> Result<Vec<Segment>> {
        let linked = match activities::by_code(&self.readers, activity_code).await? {
            None => Vec::new(),
            Some(activity) => {
                let of = activity_segment::Column::ActivityId.eq(activity.id);
                activity_segment::Entity::find().filter(of).all(&self.readers).await.map_err(unavailable)?
            }
        };
        let linked = segment::Column::Id.is_in(linked.into_iter().map(|link| link.segment_id));
        let either = Condition::any().add(segment::Column::IsGeneric.eq(true)).add(linked);
        let query = segment::Entity::find().filter(either).order_by_asc(segment::Column::Id);
        with_uses(&self.readers, query.all(&self.readers).await.map_err(unavailable)?).await
    }

    async fn update_segment(&self, id: SegmentId, change: SegmentChange, now: Timestamp) -> Result<Segment> {
        let tx = self.begin().await?;
        let old = require(&tx, id).await?;
        let (segment, meaning_changed) = change_segment(&old, change, now);
        if segment.tag != old.tag {
            check_tag(&tx, &segment).await?;
            check_unused(&tx, &old).await?;
        }
        check_uses(&tx, &segment).await?;
        model(&segment).reset_all().update(&tx).await.map_err(unavailable)?;
        if segment.uses != old.uses {
            replace_uses(&tx, &segment).await?;
        }
        if meaning_changed {
            outbox::send(&tx, vec![OutboxEntry::segment(&segment)]).await?;
        }
        tx.commit().await?;
        Ok(segment)
    }

    async fn delete_segment(&self, id: SegmentId) -> Result<()> {
        let tx = self.begin().await?;
        let segment = require(&tx, id).await?;
        check_unused(&tx, &segment).await?;
        delete_rows(&tx, id).await?;
        outbox::send(&tx, vec![OutboxEntry::segment_deleted(id)]).await?;
        tx.commit().await
    }

    async fn activities_of(&self, segment: SegmentId) -> Result<Vec<Activity>> {
        require(&self.readers, segment).await?;
        let links = activity_segment::Entity::find().filter(activity_segment::Column::SegmentId.eq(segment.0));
        let ids = links.all(&self.readers).await.map_err(unavailable)?.into_iter().map(|link| link.activity_id);
        let query = activity::Entity::find().filter(activity::Column::Id.is_in(ids)).order_by_asc(activity::Column::Id);
        Ok(query.all(&self.readers).await.map_err(unavailable)?.into_iter().map(activities::domain).collect())
    }
}
