//! Identities for ingestion, straight from the config store in the same process.

use std::sync::Arc;

use async_trait::async_trait;
use ports::clock::Clock;
use ports::config_store::{ConfigStore, ConfigStoreError, IdentityKey, Unknown, User};
use ports::identities::{Identities, Identity, IdentityError, Profile, ProfileSegment, Resolved};
use ports::records::{UserRecord, instant};
use segment_engine::event::UserId;

/// The config store as ingestion sees it.
pub struct StoreIdentities {
    pub(super) store: Arc<dyn ConfigStore>,
    pub(super) clock: Arc<dyn Clock>,
}

impl StoreIdentities {
    async fn look_up(
        &self,
        identities: &[Identity],
        unknown: Unknown,
    ) -> Result<Vec<Option<UserId>>, IdentityError> {
        let key = |identity: &Identity| IdentityKey {
            id_type: identity.id_type.clone().unwrap_or_default(),
            id: identity.id.clone(),
        };
        let keys: Vec<IdentityKey> = identities.iter().map(key).collect();
        self.store.resolve(&keys, unknown, self.clock.now()).await.map_err(unavailable)
    }
}

fn unavailable(error: ConfigStoreError) -> IdentityError {
    IdentityError::Unavailable(error.to_string())
}

#[async_trait]
impl Identities for StoreIdentities {
    async fn resolve(&self, identities: &[Identity]) -> Result<Vec<Option<UserId>>, IdentityError> {
        self.look_up(identities, Unknown::Reject).await
    }

    async fn create(&self, identities: &[Identity]) -> Result<Vec<Resolved>, IdentityError> {
        let known = self.look_up(identities, Unknown::Reject).await?;
        let users = self.look_up(identities, Unknown::Create).await?;
        let mut resolved = Vec::with_capacity(users.len());
        for (known, user_id) in known.into_iter().zip(users) {
            let user_id = user_id.ok_or_else(|| IdentityError::Unavailable("a user was not made".to_owned()))?;
            let new = match known {
                Some(_) => None,
                None => self.store.user(user_id).await.map_err(unavailable)?.as_ref().map(record),
            };
            resolved.push(Resolved { user_id, new });
        }
        Ok(resolved)
    }

    async fn profile(&self, client_ref_id: &str) -> Result<Option<Profile>, IdentityError> {
        let user = self.store.user_by_client_id(client_ref_id).await.map_err(unavailable)?;
        Ok(user.map(profile))
    }
}

fn record(user: &User) -> UserRecord {
    UserRecord::User {
        user_id: user.id,
        client_ref_id: user.client_ref_id.clone(),
        email: user.email.clone(),
        name: user.name.clone(),
        created_at: user.created_at,
    }
}

fn profile(user: User) -> Profile {
    let segment = |membership: &ports::config_store::Membership| ProfileSegment {
        user_id: membership.user_id,
        segment_id: membership.segment_id,
        created_at: instant::format(membership.created_at),
        updated_at: instant::format(membership.updated_at),
    };
    Profile {
        id: user.id,
        segments: user.segments.iter().map(segment).collect(),
        client_ref_id: user.client_ref_id,
        name: user.name,
        email: user.email,
        created_at: instant::format(user.created_at),
        updated_at: instant::format(user.updated_at),
    }
}
