//! Users in SQL.

use std::collections::HashSet;

use async_trait::async_trait;
use ports::config_store::{ConfigStoreError, NewUser, OutboxEntry, Page, User, UserChange, UserStore};
use sea_orm::{
    ActiveModelTrait, ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
};
use segment_engine::event::UserId;
use segment_engine::time::Timestamp;

use super::entities::{identity, manual_membership, membership, user, user_trait};
use super::identities::with_first_identities;
use super::memberships::with_memberships;
use super::{BOUND_MAX, Result, SqlConfigStore, outbox, rows, unavailable};

/// A row as a user without its memberships and identities.
pub(super) fn bare(row: user::Model) -> User {
    User {
        id: UserId(row.id),
        client_ref_id: row.client_ref_id,
        first_identity: None,
        name: row.name,
        email: row.email,
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
        segments: Vec::new(),
        merged_from: None,
    }
}

/// Users as callers see them.
pub(super) async fn whole(db: &impl ConnectionTrait, found: Vec<User>) -> Result<Vec<User>> {
    with_first_identities(db, with_memberships(db, found).await?).await
}

/// The row that a user id means: its own, or that of whoever absorbed it.
pub(super) async fn find(db: &impl ConnectionTrait, id: UserId) -> Result<Option<user::Model>> {
    let row = user::Entity::find_by_id(id.0).one(db).await.map_err(unavailable)?;
    match row.as_ref().and_then(|row| row.merged_into) {
        None => Ok(row),
        Some(survivor) => user::Entity::find_by_id(survivor).one(db).await.map_err(unavailable),
    }
}

/// As [`find`], or `NotFound`.
pub(super) async fn require(db: &impl ConnectionTrait, id: UserId) -> Result<user::Model> {
    find(db, id).await?.ok_or_else(|| ConfigStoreError::not_found("user", id))
}

/// Who has this client id.
pub(super) async fn by_client_ref(db: &impl ConnectionTrait, client_id: &str) -> Result<Option<UserId>> {
    let query = user::Entity::find().filter(user::Column::ClientRefId.eq(client_id));
    let row = query.one(db).await.map_err(unavailable)?;
    Ok(row.map(|row| UserId(row.merged_into.unwrap_or(row.id))))
}

async fn view(db: &impl ConnectionTrait, asked: UserId) -> Result<Option<User>> {
    let Some(row) = find(db, asked).await? else { return Ok(None) };
    let mut user = whole(db, vec![bare(row)]).await?.remove(0);
    user.merged_from = (asked != user.id).then_some(asked);
    Ok(Some(user))
}

async fn check_unique(
    db: &impl ConnectionTrait,
    own: i64,
    client_ref_id: Option<&str>,
    email: Option<&str>,
) -> Result<()> {
    let unique = [
        (user::Column::ClientRefId, client_ref_id, "CLIENT_REF_ID_TAKEN", "clientRefId"),
        (user::Column::Email, email, "EMAIL_TAKEN", "email"),
    ];
    for (column, value, code, what) in unique {
        let Some(value) = value else { continue };
        let query = user::Entity::find().filter(column.eq(value)).filter(user::Column::Id.ne(own));
        if let Some(other) = query.one(db).await.map_err(unavailable)? {
            return Err(ConfigStoreError::taken(code, what, value, other.id));
        }
    }
    Ok(())
}

/// Inserts a user whose unique fields are known to be free. The caller sends the outbox entry.
pub(super) async fn insert(tx: &impl ConnectionTrait, new: NewUser, now: Timestamp) -> Result<User> {
    let model = user::ActiveModel {
        id: NotSet,
        client_ref_id: Set(new.client_ref_id.clone()),
        name: Set(new.name.clone()),
        email: Set(new.email.clone()),
        created_at: Set(now.0),
        updated_at: Set(now.0),
        merged_into: Set(None),
        manual_version: Set(0),
    };
    let id = user::Entity::insert(model).exec(tx).await.map_err(unavailable)?.last_insert_id;
    let NewUser { client_ref_id, name, email } = new;
    let row = user::Model {
        id,
        client_ref_id,
        name,
        email,
        created_at: now.0,
        updated_at: now.0,
        merged_into: None,
        manual_version: 0,
    };
    Ok(bare(row))
}

/// Which of these values stand in a unique text column.
async fn present<'a>(
    db: &impl ConnectionTrait,
    column: user::Column,
    values: impl Iterator<Item = &'a str>,
) -> Result<HashSet<String>> {
    let values: Vec<&str> = values.collect();
    let mut found = HashSet::new();
    for chunk in values.chunks(BOUND_MAX) {
        let query = user::Entity::find().select_only().column(column).filter(column.is_in(chunk.iter().copied()));
        let texts: Vec<String> = query.into_tuple().all(db).await.map_err(unavailable)?;
        found.extend(texts);
    }
    Ok(found)
}

async fn delete_rows(tx: &impl ConnectionTrait, ids: &[i64]) -> Result<()> {
    use manual_membership::Column as Manual;
    let ids = || ids.iter().copied();
    let identities = identity::Entity::delete_many().filter(identity::Column::UserId.is_in(ids()));
    identities.exec(tx).await.map_err(unavailable)?;
    let traits = user_trait::Entity::delete_many().filter(user_trait::Column::UserId.is_in(ids()));
    traits.exec(tx).await.map_err(unavailable)?;
    let memberships = membership::Entity::delete_many().filter(membership::Column::UserId.is_in(ids()));
    memberships.exec(tx).await.map_err(unavailable)?;
    let manual = manual_membership::Entity::delete_many().filter(Manual::UserId.is_in(ids()));
    manual.exec(tx).await.map_err(unavailable)?;
    let users = user::Entity::delete_many().filter(user::Column::Id.is_in(ids()));
    users.exec(tx).await.map_err(unavailable)?;
    Ok(())
}

#[async_trait]
impl UserStore for SqlConfigStore {
    async fn create_user(&self, new: NewUser, now: Timestamp) -> Result<User> {
        let tx = self.begin().await?;
        check_unique(&tx, 0, new.client_ref_id.as_deref(), new.email.as_deref()).await?;
        let user = insert(&tx, new, now).await?;
        outbox::send(&tx, vec![OutboxEntry::user(&user)]).await?;
        tx.commit().await?;
        Ok(user)
    }

    async fn ensure_users(&self, new: Vec<NewUser>, now: Timestamp) -> Result<usize> {
        NewUser::require_client_ids(&new)?;
        let tx = self.begin().await?;
        let client_ids = new.iter().filter_map(|user| user.client_ref_id.as_deref());
        let mut known = present(&tx, user::Column::ClientRefId, client_ids).await?;
        let mut emails = present(&tx, user::Column::Email, new.iter().filter_map(|user| user.email.as_deref())).await?;
        let mut entries = Vec::new();
        for mut user in new {
            if !known.insert(user.client_ref_id.clone().unwrap_or_default()) {
                continue;
            }
            user.email = user.email.filter(|email| emails.insert(email.clone()));
            entries.push(OutboxEntry::user(&insert(&tx, user, now).await?));
        }
        let created = entries.len();
        outbox::send(&tx, entries).await?;
        tx.commit().await?;
        Ok(created)
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        view(&self.readers, id).await
    }

    async fn user_by_client_id(&self, client_id: &str) -> Result<Option<User>> {
        if let Some(id) = by_client_ref(&self.readers, client_id).await? {
            return Ok(view(&self.readers, id).await?.map(|user| User { merged_from: None, ..user }));
        }
        let query = identity::Entity::find().filter(identity::Column::Id.eq(client_id));
        let owners = query.all(&self.readers).await.map_err(unavailable)?.into_iter().map(|row| row.user_id);
        let oldest = user::Entity::find().filter(user::Column::Id.is_in(owners)).order_by_asc(user::Column::CreatedAt);
        match oldest.order_by_asc(user::Column::Id).one(&self.readers).await.map_err(unavailable)? {
            None => Ok(None),
            Some(row) => view(&self.readers, UserId(row.id)).await,
        }
    }

    async fn users(&self, page: Page) -> Result<Vec<User>> {
        let alive = user::Entity::find().filter(user::Column::MergedInto.is_null());
        let query =
            alive.filter(user::Column::Id.gt(page.after)).order_by_asc(user::Column::Id).limit(rows(page.limit));
        let found = query.all(&self.readers).await.map_err(unavailable)?;
        whole(&self.readers, found.into_iter().map(bare).collect()).await
    }

    async fn update_user(&self, id: UserId, change: UserChange, now: Timestamp) -> Result<User> {
        let tx = self.begin().await?;
        let row = require(&tx, id).await?;
        let user = bare(row).changed(change, now);
        check_unique(&tx, user.id.0, user.client_ref_id.as_deref(), user.email.as_deref()).await?;
        let model = user::ActiveModel {
            id: Set(user.id.0),
            client_ref_id: Set(user.client_ref_id.clone()),
            name: Set(user.name.clone()),
            email: Set(user.email.clone()),
            updated_at: Set(now.0),
            ..Default::default()
        };
        model.update(&tx).await.map_err(unavailable)?;
        outbox::send(&tx, vec![OutboxEntry::user(&user)]).await?;
        let merged_from = (id != user.id).then_some(id);
        let user = whole(&tx, vec![user]).await?.remove(0);
        tx.commit().await?;
        Ok(User { merged_from: merged_from.or(user.merged_from), ..user })
    }

    async fn delete_user(&self, id: UserId) -> Result<Vec<UserId>> {
        let tx = self.begin().await?;
        let survivor = require(&tx, id).await?.id;
        let absorbed = user::Entity::find().filter(user::Column::MergedInto.eq(survivor));
        let mut gone: Vec<i64> = absorbed.all(&tx).await.map_err(unavailable)?.into_iter().map(|row| row.id).collect();
        gone.push(survivor);
        delete_rows(&tx, &gone).await?;
        let gone: Vec<UserId> = gone.into_iter().map(UserId).collect();
        outbox::send(&tx, gone.iter().map(|id| OutboxEntry::delete(*id)).collect()).await?;
        tx.commit().await?;
        Ok(gone)
    }

    async fn count_users(&self) -> Result<u64> {
        let alive = user::Entity::find().filter(user::Column::MergedInto.is_null());
        alive.count(&self.readers).await.map_err(unavailable)
    }
}
