//! Identities and merges in memory.

use async_trait::async_trait;
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;

use super::{MemoryConfigStore, Owned, State};
use ports::config_store::{
    Attached, ConfigStoreError, Identity, IdentityKey, IdentityStore, Link, LinkDecision, LinkSide, Linked, NewUser,
    OutboxEntry, Resolution, Unknown, User, decide_link, exclusive_conflict, merge_traits,
};

impl Owned {
    fn domain(&self, form: &IdentityKey) -> Identity {
        let key = IdentityKey { id_type: form.id_type.clone(), id: self.id.clone() };
        Identity { key, user_id: self.owner, created_at: self.created_at }
    }
}

impl State {
    /// Returns the owner by the pair, else by the client id.
    fn owner(&self, key: &IdentityKey) -> Option<UserId> {
        self.by_pair(key).or_else(|| self.by_client_ref(&key.id))
    }

    fn by_pair(&self, key: &IdentityKey) -> Option<UserId> {
        self.identities.get(&self.rules.form(key)).map(|owned| owned.owner)
    }

    fn own(&self, user: UserId) -> impl Iterator<Item = Identity> {
        self.identities.iter().filter(move |(_, owned)| owned.owner == user).map(|(form, owned)| owned.domain(form))
    }

    fn own_keys(&self, user: UserId) -> Vec<IdentityKey> {
        self.own(user).map(|identity| identity.key).collect()
    }

    pub(super) fn first_identity(&self, user: UserId) -> Option<String> {
        let own = self.identities.iter().filter(|(_, owned)| owned.owner == user);
        own.min_by_key(|(form, owned)| (owned.created_at, *form)).map(|(_, owned)| owned.id.clone())
    }

    /// Refuses an email that belongs to another user.
    pub(super) fn check_email(&self, user: UserId, email: &str) -> Result<(), ConfigStoreError> {
        let same = self.users.values().find(|other| other.email.as_deref() == Some(email)).map(|other| other.id);
        let owners = [same, self.owner(&IdentityKey::email(email))];
        match owners.into_iter().flatten().find(|owner| *owner != user) {
            Some(owner) => Err(User::email_taken(email, owner)),
            None => Ok(()),
        }
    }

    /// Gives the user the identity of an email, in the email's spelling. The caller has checked
    /// that it belongs to nobody else.
    pub(super) fn claim_email(&mut self, user: UserId, email: &str, now: Timestamp) {
        let key = IdentityKey::email(email);
        self.keep(&key, user, now);
        if let Some(owned) = self.identities.get_mut(&self.rules.form(&key)).filter(|owned| owned.owner == user) {
            owned.id = key.id;
        }
    }

    /// Like [`State::claim_email`], after a change. Returns the identities that the user lost.
    pub(super) fn change_email(&mut self, user: &User, old: Option<&str>, now: Timestamp) -> Vec<IdentityKey> {
        let new = user.email.as_deref();
        let freed = self.rules.freed_by_email(&self.own_keys(user.id), old, new);
        self.identities.retain(|form, _| !freed.contains(form));
        if let Some(new) = new {
            self.claim_email(user.id, new, now);
        }
        freed
    }

    fn side(&self, key: &IdentityKey) -> Option<LinkSide> {
        let user_id = self.owner(key)?;
        let mut identities = self.own_keys(user_id);
        if !identities.iter().any(|own| self.rules.same(own, key)) {
            identities.push(key.clone());
        }
        Some(LinkSide { user_id, created_at: self.users[&user_id].created_at, identities })
    }

    fn keep(&mut self, key: &IdentityKey, owner: UserId, now: Timestamp) {
        let owned = || Owned { id: key.id.clone(), owner, created_at: now };
        self.identities.entry(self.rules.form(key)).or_insert_with(owned);
    }

    fn merge(&mut self, survivor: UserId, absorbed: UserId, now: Timestamp) {
        for into in self.merged_into.values_mut().filter(|into| **into == absorbed) {
            *into = survivor;
        }
        self.merged_into.insert(absorbed, survivor);
        for owned in self.identities.values_mut().filter(|owned| owned.owner == absorbed) {
            owned.owner = survivor;
        }
        let theirs = self.traits.remove(&absorbed).unwrap_or_default();
        let ours = self.traits.remove(&survivor).unwrap_or_default();
        self.traits.insert(survivor, merge_traits(ours, theirs));
        let manual = self.merge_manual(survivor, absorbed, now);
        self.send(OutboxEntry::merge(absorbed, survivor, manual));
        let email = self.users.get_mut(&absorbed).and_then(|user| user.email.take());
        let user = self.users.get_mut(&survivor).filter(|user| user.email.is_none());
        if let (Some(user), Some(_)) = (user, &email) {
            user.email = email;
            user.updated_at = now;
            let entry = OutboxEntry::user(user);
            self.send(entry);
        }
    }
}

#[async_trait]
impl IdentityStore for MemoryConfigStore {
    async fn identities(&self, user: UserId) -> Result<Vec<Identity>, ConfigStoreError> {
        let state = self.state();
        let user = state.survivor(user)?;
        Ok(state.own(user).collect())
    }

    async fn attach_identity(
        &self,
        user: UserId,
        key: IdentityKey,
        now: Timestamp,
    ) -> Result<Attached, ConfigStoreError> {
        let mut state = self.state();
        let user = state.survivor(user)?;
        if let Some(known) = state.own(user).find(|own| state.rules.same(&own.key, &key)) {
            return Ok(Attached::Known(known));
        }
        match state.owner(&key) {
            Some(owner) if owner != user => return Err(Identity::taken(&key, owner)),
            _ => exclusive_conflict(user, &state.own_keys(user), &key, &state.rules)?,
        }
        state.keep(&key, user, now);
        Ok(Attached::New(Identity { key, user_id: user, created_at: now }))
    }

    async fn link(&self, link: Link, now: Timestamp) -> Result<Linked, ConfigStoreError> {
        let mut state = self.state();
        let (from, to) = (state.side(&link.from), state.side(&link.to));
        let decision = decide_link(&link, from.as_ref(), to.as_ref(), &state.rules)?;
        for (key, side) in [(&link.from, from), (&link.to, to)] {
            if let Some(side) = side {
                state.keep(key, side.user_id, now);
            }
        }
        Ok(match decision {
            LinkDecision::Nothing(user_id) => Linked { user_id, absorbed: None },
            LinkDecision::Attach(user_id, key) => {
                state.keep(&key, user_id, now);
                Linked { user_id, absorbed: None }
            }
            LinkDecision::Merge { survivor, absorbed } => {
                state.merge(survivor, absorbed, now);
                Linked { user_id: survivor, absorbed: Some(absorbed) }
            }
        })
    }

    fn known(&self, id_type: &str, id: &str) -> Option<UserId> {
        self.state().by_pair(&IdentityKey { id_type: id_type.to_owned(), id: id.to_owned() })
    }

    async fn resolve(
        &self,
        keys: &[IdentityKey],
        unknown: Unknown,
        now: Timestamp,
    ) -> Result<Resolution, ConfigStoreError> {
        let mut state = self.state();
        let first = state.last_outbox + 1;
        let mut resolution = Resolution::default();
        // First all that are known, since a user may be known by one spelling only.
        for key in keys {
            if let Some(owner) = state.owner(key) {
                state.keep(key, owner, now);
            }
        }
        for key in keys {
            let mut owner = state.by_pair(key);
            if owner.is_none() && unknown == Unknown::Create {
                let id = state.insert_user(NewUser::default(), now)?;
                resolution.created.push(state.users[&id].clone());
                state.keep(key, id, now);
                owner = Some(id);
            }
            resolution.owners.push(owner);
        }
        if !resolution.created.is_empty() {
            resolution.entries = first..state.last_outbox + 1;
        }
        Ok(resolution)
    }
}
