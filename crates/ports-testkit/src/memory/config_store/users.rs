//! Users and traits in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use segment_engine::ids::{SegmentId, UserId};
use segment_engine::time::Timestamp;

use super::{MemoryConfigStore, State};
use ports::ErrorCode;
use ports::config_store::{
    ConfigStoreError, NewUser, OutboxEntry, Page, TraitStore, Traits, UpdatedUser, User, UserChange, UserStore,
    set_newer,
};
use ports::records::json_text::JsonText;

impl State {
    /// Returns the user as callers see it, with memberships.
    pub(super) fn view(&self, wanted: UserId) -> Option<User> {
        let id = self.survivor(wanted).ok()?;
        let mut user = self.users[&id].clone();
        user.segments =
            self.memberships.range((id, SegmentId(i64::MIN))..=(id, SegmentId(i64::MAX))).map(|(_, m)| *m).collect();
        user.merged_from = (wanted != id).then_some(wanted);
        user.first_identity = user.client_ref_id.is_none().then(|| self.first_identity(id)).flatten();
        Some(user)
    }

    /// Refuses a client id that belongs to another user.
    fn check_client_ref(&self, user: &User) -> Result<(), ConfigStoreError> {
        let Some(value) = user.client_ref_id.as_deref() else { return Ok(()) };
        let others = self.users.values().filter(|other| other.id != user.id);
        match others.into_iter().find(|other| other.client_ref_id.as_deref() == Some(value)) {
            None => Ok(()),
            Some(other) => Err(ConfigStoreError::taken(ErrorCode::ClientRefIdTaken, "clientRefId", value, other.id.0)),
        }
    }

    pub(super) fn insert_user(&mut self, new: NewUser, now: Timestamp) -> Result<UserId, ConfigStoreError> {
        let user = User {
            id: UserId(self.last_user + 1),
            client_ref_id: new.client_ref_id,
            first_identity: None,
            name: new.name,
            email: new.email,
            created_at: now,
            updated_at: now,
            segments: Vec::new(),
            merged_from: None,
        };
        self.check_client_ref(&user)?;
        if let Some(email) = &user.email {
            self.check_email(user.id, email)?;
            self.claim_email(user.id, email, now);
        }
        self.last_user += 1;
        self.send(OutboxEntry::user(&user));
        let id = user.id;
        self.users.insert(id, user);
        Ok(id)
    }

    pub(super) fn by_client_ref(&self, client_id: &str) -> Option<UserId> {
        let user = self.users.values().find(|user| user.client_ref_id.as_deref() == Some(client_id))?;
        self.survivor(user.id).ok()
    }
}

#[async_trait]
impl UserStore for MemoryConfigStore {
    async fn create_user(&self, new: NewUser, now: Timestamp) -> Result<User, ConfigStoreError> {
        let mut state = self.state();
        let id = state.insert_user(new, now)?;
        Ok(state.view(id).expect("it was just inserted"))
    }

    async fn ensure_users(&self, new: Vec<NewUser>, now: Timestamp) -> Result<usize, ConfigStoreError> {
        NewUser::require_client_ids(&new)?;
        let mut state = self.state();
        let before = state.last_user;
        for mut user in new {
            let client_id = user.client_ref_id.as_deref().unwrap_or_default();
            if state.by_client_ref(client_id).is_some() {
                continue;
            }
            let own = UserId(state.last_user + 1);
            user.email = user.email.filter(|email| state.check_email(own, email).is_ok());
            state.insert_user(user, now)?;
        }
        Ok(usize::try_from(state.last_user - before).unwrap_or_default())
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, ConfigStoreError> {
        Ok(self.state().view(id))
    }

    async fn user_by_client_id(&self, client_id: &str) -> Result<Option<User>, ConfigStoreError> {
        let state = self.state();
        let by_identity = || {
            let forms = state.identities.iter();
            let owners = forms
                .filter(|(form, _)| state.rules.caseless.form(&form.id_type, client_id) == form.id)
                .map(|(_, owned)| owned.owner);
            owners.min_by_key(|owner| (state.users[owner].created_at, *owner))
        };
        Ok(state.by_client_ref(client_id).or_else(by_identity).and_then(|id| state.view(id)))
    }

    async fn users(&self, page: Page) -> Result<Vec<User>, ConfigStoreError> {
        let state = self.state();
        let ids = state.users.range(UserId(page.after.saturating_add(1))..).map(|(id, _)| *id);
        let alive = ids.filter(|id| !state.merged_into.contains_key(id));
        Ok(alive.take(page.limit).filter_map(|id| state.view(id)).collect())
    }

    async fn update_user(
        &self,
        id: UserId,
        change: UserChange,
        now: Timestamp,
    ) -> Result<UpdatedUser, ConfigStoreError> {
        let mut state = self.state();
        let id = state.survivor(id)?;
        let old = state.users[&id].email.clone();
        let user = state.users[&id].clone().changed(change, now);
        state.check_client_ref(&user)?;
        if let Some(email) = user.email.as_deref().filter(|_| user.email != old) {
            state.check_email(id, email)?;
        }
        let freed = state.change_email(&user, old.as_deref(), now);
        state.send(OutboxEntry::user(&user));
        state.users.insert(id, user);
        Ok(UpdatedUser { user: state.view(id).expect("it was just written"), freed })
    }

    async fn delete_user(&self, id: UserId) -> Result<Vec<UserId>, ConfigStoreError> {
        let mut state = self.state();
        let survivor = state.survivor(id)?;
        let absorbed = state.merged_into.iter().filter(|(_, into)| **into == survivor).map(|(id, _)| *id);
        let deleted: Vec<UserId> = absorbed.chain([survivor]).collect();
        for id in &deleted {
            state.users.remove(id);
            state.merged_into.remove(id);
            state.traits.remove(id);
            state.send(OutboxEntry::delete(*id));
        }
        state.identities.retain(|_, owned| !deleted.contains(&owned.owner));
        state.memberships.retain(|(user, _), _| !deleted.contains(user));
        state.manual.retain(|(user, _)| !deleted.contains(user));
        Ok(deleted)
    }

    async fn count_users(&self) -> Result<u64, ConfigStoreError> {
        let state = self.state();
        Ok((state.users.len() - state.merged_into.len()) as u64)
    }
}

#[async_trait]
impl TraitStore for MemoryConfigStore {
    async fn traits(&self, user: UserId) -> Result<Traits, ConfigStoreError> {
        let state = self.state();
        let user = state.survivor(user)?;
        Ok(state.traits.get(&user).cloned().unwrap_or_default())
    }

    async fn set_traits(
        &self,
        user: UserId,
        traits: BTreeMap<String, JsonText>,
        created_at: Timestamp,
    ) -> Result<Traits, ConfigStoreError> {
        let mut state = self.state();
        let user = state.survivor(user)?;
        let own = state.traits.entry(user).or_default();
        set_newer(own, &traits, created_at)?;
        let all = own.clone();
        if !traits.is_empty() {
            state.send(OutboxEntry::traits(user, traits, created_at));
        }
        Ok(all)
    }
}
