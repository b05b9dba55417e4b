//! Users in SQL.

use std::collections::HashSet;

use async_trait::async_trait;
use ports::ErrorCode;
use ports::config_store::{
    ConfigStoreError, IdentityKey, NewUser, OutboxEntry, Page, Resource, UpdatedUser, User, UserChange, UserStore,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
};
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;

use super::entities::{identity, manual_membership, membership, user, user_trait};
use super::identities::with_first_identities;
use super::index::Key;
use super::memberships::with_memberships;
use super::{BOUND_MAX, Result, SqlConfigStore, emails, outbox, rows, unavailable};

/// Converts a row to a user without memberships and identities.
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

/// Fills in the memberships and first identities that callers expect.
pub(super) async fn whole(db: &impl ConnectionTrait, found: Vec<User>) -> Result<Vec<User>> {
    with_first_identities(db, with_memberships(db, found).await?).await
}

/// Returns the row of a user id: the user's own, or its survivor's.
pub(super) async fn find(db: &impl ConnectionTrait, id: UserId) -> Result<Option<user::Model>> {
    let row = user::Entity::find_by_id(id.0).one(db).await.map_err(unavailable)?;
    match row.as_ref().and_then(|row| row.merged_into) {
        None => Ok(row),
        Some(survivor) => user::Entity::find_by_id(survivor).one(db).await.map_err(unavailable),
    }
}

/// Like [`find`], or `NotFound`.
pub(super) async fn require(db: &impl ConnectionTrait, id: UserId) -> Result<user::Model> {
    find(db, id).await?.ok_or_else(|| ConfigStoreError::not_found(Resource::User, id))
}

/// Returns the owner of a client id.
pub(super) async fn by_client_ref(db: &impl ConnectionTrait, client_id: &str) -> Result<Option<UserId>> {
    let query = user::Entity::find().filter(user::Column::ClientRefId.eq(client_id));
    let row = query.one(db).await.map_err(unavailable)?;
    Ok(row.map(|row| UserId(row.merged_into.unwrap_or(row.id))))
}

async fn view(db: &impl ConnectionTrait, requested: UserId) -> Result<Option<User>> {
    let Some(row) = find(db, requested).await? else { return Ok(None) };
    let mut user = whole(db, vec![bare(row)]).await?.remove(0);
    user.merged_from = (requested != user.id).then_some(requested);
    Ok(Some(user))
}

/// Refuses a client id that belongs to another user.
async fn check_client_ref(db: &impl ConnectionTrait, own: i64, client_id: Option<&str>) -> Result<()> {
    let Some(client_id) = client_id else { return Ok(()) };
    let query = user::Entity::find().filter(user::Column::ClientRefId.eq(client_id)).filter(user::Column::Id.ne(own));
    match query.one(db).await.map_err(unavailable)? {
        None => Ok(()),
        Some(other) => Err(ConfigStoreError::taken(ErrorCode::ClientRefIdTaken, "clientRefId", client_id, other.id)),
    }
}

/// Inserts a user whose unique fields were checked to be free. The caller sends the outbox entry.
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
    Ok(inserted(id, new, now))
}

/// Returns a user that was just inserted.
fn inserted(id: i64, NewUser { client_ref_id, name, email }: NewUser, now: Timestamp) -> User {
    bare(user::Model {
        id,
        client_ref_id,
        name,
        email,
        created_at: now.0,
        updated_at: now.0,
        merged_into: None,
        manual_version: 0,
    })
}

/// Returns a user that was just created and of whom only an identity is known.
pub(super) fn unnamed(id: UserId, now: Timestamp) -> User {
    inserted(id.0, NewUser::default(), now)
}

/// Returns those of the values that a unique text column contains.
pub(super) async fn present<'a>(
    db: &impl ConnectionTrait,
    column: user::Column,
    values: impl Iterator<Item = &'a str>,
) -> Result<HashSet<String>> {
    let values: Vec<&str> = values.collect();
    let mut found = HashSet::new();
    for chunk in values.chunks(BOUND_MAX) {
        let query = user::Entity::find().select_only().column(column).filter(column.is_in(chunk.iter().copied()));
        let matches: Vec<String> = query.into_tuple().all(db).await.map_err(unavailable)?;
        found.extend(matches);
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
        let mut tx = self.begin().await?;
        check_client_ref(&tx, 0, new.client_ref_id.as_deref()).await?;
        if let Some(email) = &new.email {
            emails::check(&tx, &self.rules, 0, email).await?;
        }
        let user = insert(&tx, new, now).await?;
        emails::claim_all(&tx, &self.rules, std::slice::from_ref(&user), now).await?;
        outbox::send(&tx, vec![OutboxEntry::user(&user)]).await?;
        tx.note_keys_after(&[user.id]).await?;
        let user = whole(&tx, vec![user]).await?.remove(0);
        tx.commit().await?;
        Ok(user)
    }

    async fn ensure_users(&self, new: Vec<NewUser>, now: Timestamp) -> Result<usize> {
        NewUser::require_client_ids(&new)?;
        let mut tx = self.begin().await?;
        let client_ids = new.iter().filter_map(|user| user.client_ref_id.as_deref());
        let mut known = present(&tx, user::Column::ClientRefId, client_ids).await?;
        let mut taken = emails::Taken::of(&tx, &self.rules, &new).await?;
        let mut created = Vec::new();
        for mut user in new {
            if !known.insert(user.client_ref_id.clone().unwrap_or_default()) {
                continue;
            }
            user.email = user.email.filter(|email| taken.claim(email));
            let user = insert(&tx, user, now).await?;
            taken.note_created(&user);
            created.push(user);
        }
        emails::claim_all(&tx, &self.rules, &created, now).await?;
        for user in &created {
            if let Some(client_id) = &user.client_ref_id {
                tx.owns(Key::ClientRef(client_id), user.id);
            }
            if let Some(email) = &user.email {
                tx.owns(Key::pair(&self.rules.form(&IdentityKey::email(email))), user.id);
            }
        }
        outbox::send(&tx, created.iter().map(OutboxEntry::user).collect()).await?;
        tx.commit().await?;
        Ok(created.len())
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        view(&self.readers, id).await
    }

    async fn user_by_client_id(&self, client_id: &str) -> Result<Option<User>> {
        if let Some(id) = by_client_ref(&self.readers, client_id).await? {
            return Ok(view(&self.readers, id).await?.map(|user| User { merged_from: None, ..user }));
        }
        let forms = [client_id.to_owned(), client_id.to_lowercase()];
        let query = identity::Entity::find().filter(identity::Column::Id.is_in(forms));
        let found = query.all(&self.readers).await.map_err(unavailable)?.into_iter();
        let named = found.filter(|row| self.rules.caseless.form(&row.id_type, client_id) == row.id);
        let owners: Vec<i64> = named.map(|row| row.user_id).collect();
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

    async fn update_user(&self, id: UserId, change: UserChange, now: Timestamp) -> Result<UpdatedUser> {
        let mut tx = self.begin().await?;
        let row = require(&tx, id).await?;
        tx.note_keys_before(&[UserId(row.id)]).await?;
        let old = row.email.clone();
        let user = bare(row).changed(change, now);
        check_client_ref(&tx, user.id.0, user.client_ref_id.as_deref()).await?;
        if let Some(email) = user.email.as_deref().filter(|_| user.email != old) {
            emails::check(&tx, &self.rules, user.id.0, email).await?;
        }
        let model = user::ActiveModel {
            id: Set(user.id.0),
            client_ref_id: Set(user.client_ref_id.clone()),
            name: Set(user.name.clone()),
            email: Set(user.email.clone()),
            updated_at: Set(now.0),
            ..Default::default()
        };
        model.update(&tx).await.map_err(unavailable)?;
        let freed = emails::change(&tx, &self.rules, &user, old.as_deref(), now).await?;
        outbox::send(&tx, vec![OutboxEntry::user(&user)]).await?;
        tx.note_keys_after(&[user.id]).await?;
        let merged_from = (id != user.id).then_some(id);
        let user = whole(&tx, vec![user]).await?.remove(0);
        tx.commit().await?;
        Ok(UpdatedUser { user: User { merged_from: merged_from.or(user.merged_from), ..user }, freed })
    }

    async fn delete_user(&self, id: UserId) -> Result<Vec<UserId>> {
        let mut tx = self.begin().await?;
        let survivor = require(&tx, id).await?.id;
        tx.note_keys_before(&[UserId(survivor)]).await?;
        let absorbed = user::Entity::find().filter(user::Column::MergedInto.eq(survivor));
        let mut deleted: Vec<i64> =
            absorbed.all(&tx).await.map_err(unavailable)?.into_iter().map(|row| row.id).collect();
        deleted.push(survivor);
        delete_rows(&tx, &deleted).await?;
        let deleted: Vec<UserId> = deleted.into_iter().map(UserId).collect();
        outbox::send(&tx, deleted.iter().map(|id| OutboxEntry::delete(*id)).collect()).await?;
        tx.commit().await?;
        Ok(deleted)
    }

    async fn count_users(&self) -> Result<u64> {
        let alive = user::Entity::find().filter(user::Column::MergedInto.is_null());
        alive.count(&self.readers).await.map_err(unavailable)
    }
}
