//! The identities port on the config store: for ingestion in the same process.

use std::sync::Arc;

use async_trait::async_trait;
use ports::clock::Clock;
use ports::config_store::{ConfigStore, ConfigStoreError, IdentityKey, Unknown, User};
use ports::identities::{Identities, Identity, IdentityError, Profile, ProfileSegment, Resolved};
use ports::records::instant;
use segment_engine::event::UserId;
use tokio::sync::Notify;

use crate::identities::resolved;

/// Resolves identities by the config store itself.
pub struct StoreIdentities {
    store: Arc<dyn ConfigStore>,
    clock: Arc<dyn Clock>,
    written: Arc<Notify>,
}

impl StoreIdentities {
    /// `written` wakes the relay after users were made.
    pub fn new(store: Arc<dyn ConfigStore>, clock: Arc<dyn Clock>, written: Arc<Notify>) -> Self {
        Self { store, clock, written }
    }
}

fn keys(identities: &[Identity]) -> Vec<IdentityKey> {
    let key = |identity: &Identity| IdentityKey {
        id_type: identity.id_type.clone().unwrap_or_default(),
        id: identity.id.clone(),
    };
    identities.iter().map(key).collect()
}

fn unavailable(error: ConfigStoreError) -> IdentityError {
    IdentityError::Unavailable(error.to_string())
}

#[async_trait]
impl Identities for StoreIdentities {
    async fn resolve(&self, identities: &[Identity]) -> Result<Vec<Option<UserId>>, IdentityError> {
        let resolution = self.store.resolve(&keys(identities), Unknown::Reject, self.clock.now()).await;
        Ok(resolution.map_err(unavailable)?.owners)
    }

    async fn create(&self, identities: &[Identity]) -> Result<Vec<Resolved>, IdentityError> {
        let resolution = self.store.resolve(&keys(identities), Unknown::Create, self.clock.now()).await;
        let resolution = resolution.map_err(unavailable)?;
        if !resolution.created.is_empty() {
            self.written.notify_one();
        }
        Ok(resolution.owners.into_iter().flatten().map(|owner| resolved(owner, &resolution.created)).collect())
    }

    async fn profile(&self, client_ref_id: &str) -> Result<Option<Profile>, IdentityError> {
        Ok(self.store.user_by_client_id(client_ref_id).await.map_err(unavailable)?.map(profile))
    }
}

fn profile(user: User) -> Profile {
    let segments = user.segments.iter().map(|membership| ProfileSegment {
        user_id: membership.user_id,
        segment_id: membership.segment_id,
        created_at: instant::format(membership.created_at),
        updated_at: instant::format(membership.updated_at),
    });
    Profile {
        id: user.id,
        segments: segments.collect(),
        client_ref_id: user.client_id().map(str::to_owned),
        name: user.name,
        email: user.email,
        created_at: instant::format(user.created_at),
        updated_at: instant::format(user.updated_at),
    }
}
