//! Memberships in SQL.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use ports::config_store::{
    Applied, ManualSet, Member, Membership, MembershipBatch, MembershipStore, OutboxEntry, Page, User,
};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use segment_engine::ids::{ListVersion, PartitionId, SegmentId, UserId};
use segment_engine::machine::ManualList;
use segment_engine::time::Timestamp;

use super::entities::{manual_membership, membership, segment, user};
use super::{
    BOUND_MAX, Result, SqlConfigStore, corrupt, membership_batches, outbox, rows, segments, unavailable, users,
};

fn domain(row: membership::Model) -> Membership {
    Membership {
        user_id: UserId(row.user_id),
        segment_id: SegmentId(row.segment_id),
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
    }
}

/// Fills in the memberships of users.
pub(super) async fn with_memberships(db: &impl ConnectionTrait, mut found: Vec<User>) -> Result<Vec<User>> {
    let mut by_user: BTreeMap<UserId, Vec<Membership>> = BTreeMap::new();
    for chunk in found.chunks(BOUND_MAX) {
        let of = membership::Column::UserId.is_in(chunk.iter().map(|user| user.id.0));
        let query = membership::Entity::find().filter(of).order_by_asc(membership::Column::SegmentId);
        for row in query.all(db).await.map_err(unavailable)? {
            by_user.entry(UserId(row.user_id)).or_default().push(domain(row));
        }
    }
    for user in &mut found {
        user.segments = by_user.remove(&user.id).unwrap_or_default();
    }
    Ok(found)
}

async fn manual_of(db: &impl ConnectionTrait, user: UserId) -> Result<BTreeSet<SegmentId>> {
    let query = manual_membership::Entity::find().filter(manual_membership::Column::UserId.eq(user.0));
    Ok(query.all(db).await.map_err(unavailable)?.into_iter().map(|row| SegmentId(row.segment_id)).collect())
}

/// Writes `manual` as the user's list, before the engine confirms it. Returns the list to send to
/// the engine.
async fn write_manual(
    tx: &impl ConnectionTrait,
    user: UserId,
    before: &BTreeSet<SegmentId>,
    manual: &BTreeSet<SegmentId>,
    now: Timestamp,
) -> Result<ManualList> {
    let removed: Vec<i64> = before.difference(manual).map(|segment| segment.0).collect();
    let lists = manual_membership::Entity::delete_many().filter(manual_membership::Column::UserId.eq(user.0));
    let lists = lists.filter(manual_membership::Column::SegmentId.is_in(removed.iter().copied()));
    lists.exec(tx).await.map_err(unavailable)?;
    let members = membership::Entity::delete_many().filter(membership::Column::UserId.eq(user.0));
    let members = members.filter(membership::Column::SegmentId.is_in(removed));
    members.exec(tx).await.map_err(unavailable)?;
    for segment in manual.difference(before) {
        let listed = manual_membership::ActiveModel { user_id: Set(user.0), segment_id: Set(segment.0) };
        manual_membership::Entity::insert(listed).exec_without_returning(tx).await.map_err(unavailable)?;
        let member = membership::ActiveModel {
            user_id: Set(user.0),
            segment_id: Set(segment.0),
            created_at: Set(now.0),
            updated_at: Set(now.0),
        };
        let key = [membership::Column::UserId, membership::Column::SegmentId];
        let insert = membership::Entity::insert(member).on_conflict(OnConflict::columns(key).do_nothing().to_owned());
        insert.exec_without_returning(tx).await.map_err(unavailable)?;
    }
    let version = user::Column::ManualVersion;
    let next = user::Entity::update_many().filter(user::Column::Id.eq(user.0));
    let next = next.col_expr(version, Expr::col(version).add(1));
    next.exec(tx).await.map_err(unavailable)?;
    let version = users::require(tx, user).await?.manual_version;
    let version = u64::try_from(version).map_err(|error| corrupt("the version of a manual list", error))?;
    Ok(ManualList { version: ListVersion(version), segments: manual.iter().copied().collect() })
}

/// Adds the absorbed user's manual lists to the survivor's. Returns the survivor's list if it
/// changed.
pub(super) async fn merge_manual(
    tx: &impl ConnectionTrait,
    survivor: UserId,
    absorbed: UserId,
    now: Timestamp,
) -> Result<Option<ManualList>> {
    let (ours, theirs) = (manual_of(tx, survivor).await?, manual_of(tx, absorbed).await?);
    if theirs.is_empty() {
        return Ok(None);
    }
    let removed = manual_membership::Entity::delete_many().filter(manual_membership::Column::UserId.eq(absorbed.0));
    removed.exec(tx).await.map_err(unavailable)?;
    if theirs.is_subset(&ours) {
        return Ok(None);
    }
    let union: BTreeSet<SegmentId> = ours.union(&theirs).copied().collect();
    write_manual(tx, survivor, &ours, &union, now).await.map(Some)
}

#[async_trait]
impl MembershipStore for SqlConfigStore {
    async fn members(&self, segment: SegmentId, page: Page) -> Result<Vec<Member>> {
        segments::require(&self.readers, segment).await?;
        let of = membership::Column::SegmentId.eq(segment.0).and(membership::Column::UserId.gt(page.after));
        let query = membership::Entity::find().find_also_related(user::Entity).filter(of);
        let query = query.filter(user::Column::Id.is_not_null()).filter(user::Column::MergedInto.is_null());
        let query = query.order_by_asc(membership::Column::UserId).limit(rows(page.limit));
        let found = query.all(&self.readers).await.map_err(unavailable)?;
        let (memberships, found): (Vec<_>, Vec<_>) =
            found.into_iter().filter_map(|(membership, user)| Some((domain(membership), users::bare(user?)))).unzip();
        let found = users::whole(&self.readers, found).await?;
        Ok(found.into_iter().zip(memberships).map(|(user, membership)| Member { user, membership }).collect())
    }

    async fn count_members(&self, segment: SegmentId) -> Result<u64> {
        segments::require(&self.readers, segment).await?;
        let query = membership::Entity::find().inner_join(user::Entity);
        let query =
            query.filter(membership::Column::SegmentId.eq(segment.0)).filter(user::Column::MergedInto.is_null());
        query.count(&self.readers).await.map_err(unavailable)
    }

    async fn set_manual_memberships(&self, user: UserId, requested: &[SegmentId], now: Timestamp) -> Result<ManualSet> {
        let tx = self.begin().await?;
        let user = UserId(users::require(&tx, user).await?.id);
        let requested: BTreeSet<SegmentId> = requested.iter().copied().collect();
        let mut manual = BTreeSet::new();
        for chunk in requested.iter().copied().collect::<Vec<SegmentId>>().chunks(BOUND_MAX) {
            let query = segment::Entity::find().filter(segment::Column::Kind.eq("manual"));
            let found = query.filter(segment::Column::Id.is_in(chunk.iter().map(|segment| segment.0))).all(&tx).await;
            manual.extend(found.map_err(unavailable)?.into_iter().map(|row| SegmentId(row.id)));
        }
        let before = manual_of(&tx, user).await?;
        let ignored = requested.difference(&manual).copied().collect();
        if manual != before {
            let list = write_manual(&tx, user, &before, &manual, now).await?;
            outbox::send(&tx, vec![OutboxEntry::manual(user, list)]).await?;
        }
        tx.commit().await?;
        Ok(ManualSet { ignored })
    }

    async fn manual_list(&self, user: UserId) -> Result<ManualList> {
        let version = users::require(&self.readers, user).await?.manual_version;
        let version = u64::try_from(version).map_err(|error| corrupt("the version of a manual list", error))?;
        Ok(ManualList {
            version: ListVersion(version),
            segments: manual_of(&self.readers, user).await?.into_iter().collect(),
        })
    }

    async fn membership_positions(&self) -> Result<Vec<(PartitionId, u64)>> {
        membership_batches::positions(&self.readers).await
    }

    async fn apply_memberships(&self, batch: MembershipBatch) -> Result<Applied> {
        self.apply_batch(batch).await
    }
}
