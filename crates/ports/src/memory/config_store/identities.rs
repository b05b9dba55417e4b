//! Identities and merges in memory.

use async_trait::async_trait;
use segment_engine::event::UserId;
use segment_engine::time::Timestamp;

use super::{MemoryConfigStore, State};
use crate::config_store::{
    Attached, ConfigStoreError, Identity, IdentityKey, IdentityRules, IdentityStore, Link, LinkDecision, LinkSide,
    Linked, NewUser, OutboxEntry, Resolution, Unknown, decide_link, exclusive_conflict, merge_traits,
};

impl State {
    /// The pair first, then the client id.
    fn owner(&self, key: &IdentityKey) -> Option<UserId> {
        self.identities.get(key).map(|(owner, _)| *owner).or_else(|| self.by_client_ref(&key.id))
    }

    fn own_keys(&self, user: UserId) -> Vec<IdentityKey> {
        self.identities.iter().filter(|(_, (owner, _))| *owner == user).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn first_identity(&self, user: UserId) -> Option<String> {
        let own = self.identities.iter().filter(|(_, (owner, _))| *owner == user);
        own.min_by_key(|(key, (_, at))| (*at, *key)).map(|(key, _)| key.id.clone())
    }

    fn side(&self, key: &IdentityKey) -> Option<LinkSide> {
        let user_id = self.owner(key)?;
        let mut identities = self.own_keys(user_id);
        if !identities.contains(key) {
            identities.push(key.clone());
        }
        Some(LinkSide { user_id, created_at: self.users[&user_id].created_at, identities })
    }

    fn keep(&mut self, key: &IdentityKey, owner: UserId, now: Timestamp) {
        self.identities.entry(key.clone()).or_insert((owner, now));
    }

    fn merge(&mut self, survivor: UserId, absorbed: UserId, now: Timestamp) {
        for into in self.merged_into.values_mut().filter(|into| **into == absorbed) {
            *into = survivor;
        }
        self.merged_into.insert(absorbed, survivor);
        for (owner, _) in self.identities.values_mut().filter(|(owner, _)| *owner == absorbed) {
            *owner = survivor;
        }
        let theirs = self.traits.remove(&absorbed).unwrap_or_default();
        let ours = self.traits.remove(&survivor).unwrap_or_default();
        self.traits.insert(survivor, merge_traits(ours, theirs));
        let manual = self.merge_manual(survivor, absorbed, now);
        self.send(OutboxEntry::merge(absorbed, survivor, manual));
    }
}

#[async_trait]
impl IdentityStore for MemoryConfigStore {
    async fn identities(&self, user: UserId) -> Result<Vec<Identity>, ConfigStoreError> {
        let state = self.state();
        let user = state.survivor(user)?;
        let own = state.identities.iter().filter(|(_, (owner, _))| *owner == user);
        Ok(own.map(|(key, (owner, at))| Identity { key: key.clone(), user_id: *owner, created_at: *at }).collect())
    }

    async fn attach_identity(
        &self,
        user: UserId,
        key: IdentityKey,
        rules: &IdentityRules,
        now: Timestamp,
    ) -> Result<Attached, ConfigStoreError> {
        let mut state = self.state();
        let user = state.survivor(user)?;
        if let Some((owner, created_at)) = state.identities.get(&key).copied().filter(|(owner, _)| *owner == user) {
            return Ok(Attached::Known(Identity { key, user_id: owner, created_at }));
        }
        match state.owner(&key) {
            Some(owner) if owner != user => return Err(Identity::taken(&key, owner)),
            _ => exclusive_conflict(user, &state.own_keys(user), &key, rules)?,
        }
        state.keep(&key, user, now);
        Ok(Attached::New(Identity { key, user_id: user, created_at: now }))
    }

    async fn link(&self, link: Link, rules: &IdentityRules, now: Timestamp) -> Result<Linked, ConfigStoreError> {
        let mut state = self.state();
        let (from, to) = (state.side(&link.from), state.side(&link.to));
        let decision = decide_link(&link, from.as_ref(), to.as_ref(), rules)?;
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

    async fn resolve(
        &self,
        keys: &[IdentityKey],
        unknown: Unknown,
        now: Timestamp,
    ) -> Result<Resolution, ConfigStoreError> {
        let mut state = self.state();
        let mut resolution = Resolution::default();
        for key in keys {
            let owner = match (state.owner(key), unknown) {
                (Some(owner), _) => Some(owner),
                (None, Unknown::Create) => {
                    let id = state.insert_user(NewUser::default(), now)?;
                    resolution.created.push(state.users[&id].clone());
                    Some(id)
                }
                (None, Unknown::Reject) => None,
            };
            if let Some(owner) = owner {
                state.keep(key, owner, now);
            }
            resolution.owners.push(owner);
        }
        Ok(resolution)
    }
}
