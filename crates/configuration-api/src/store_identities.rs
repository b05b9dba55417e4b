//! The identities port on the config store, for ingestion in the same process.

use std::sync::Arc;

use async_trait::async_trait;
use ports::clock::Clock;
use ports::config_store::{ConfigStore, ConfigStoreError, IdentityKey, Unknown, User};
use ports::identities::{Created, Identities, Identity, IdentityError, Profile, ProfileSegment};
use ports::records::instant;
use segment_engine::ids::UserId;

use crate::outbox::Holds;
use crate::routes::identities::resolved;

/// Resolves identities in the config store.
pub struct StoreIdentities {
    store: Arc<dyn ConfigStore>,
    clock: Arc<dyn Clock>,
    holds: Arc<Holds>,
}

impl StoreIdentities {
    /// `holds` keeps the relay from appending new users before their first event is in the log.
    pub fn new(store: Arc<dyn ConfigStore>, clock: Arc<dyn Clock>, holds: Arc<Holds>) -> Self {
        Self { store, clock, holds }
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
    async fn ping(&self) -> Result<(), IdentityError> {
        self.store.ping().await.map_err(unavailable)
    }

    fn known(&self, id_type: Option<&str>, id: &str) -> Option<UserId> {
        self.store.known(id_type.unwrap_or_default(), id)
    }

    async fn resolve(&self, identities: &[Identity]) -> Result<Vec<Option<UserId>>, IdentityError> {
        let resolution = self.store.resolve(&keys(identities), Unknown::Reject, self.clock.now()).await;
        Ok(resolution.map_err(unavailable)?.owners)
    }

    async fn create(&self, identities: &[Identity]) -> Result<Created, IdentityError> {
        let end = self.store.outbox_end().await.map_err(unavailable)?;
        // The hold begins before the users are created, so a relay that sees their rows sees the
        // hold, unless it has ended.
        let hold = self.holds.hold(end);
        let resolution = self.store.resolve(&keys(identities), Unknown::Create, self.clock.now()).await;
        let resolution = resolution.map_err(unavailable)?;
        let hold = Box::new(hold.of_rows(resolution.entries.clone()));
        Ok(Created { users: resolved(resolution).into_iter().flatten().collect(), hold })
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
