//! The config store in memory: maps under one lock. Every write first checks and then changes, so
//! that a refused write changes nothing.

mod activities;
mod identities;
mod memberships;
mod segments;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use segment_engine::ids::{ListVersion, PartitionId, SegmentId, UserId};
use segment_engine::time::Timestamp;

use ports::config_store::{
    Activity, ConfigStore, ConfigStoreError, IdentityKey, IdentityRules, LastIds, Membership, Outbox, OutboxEntry,
    OutboxRow, Resource, Segment, Traits, User,
};

/// A config store in memory. Clones share the data.
#[derive(Clone, Debug, Default)]
pub struct MemoryConfigStore(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rules: IdentityRules,
    /// With absorbed users. `segments`, `first_identity` and `merged_from` are filled in when a
    /// user is read.
    users: BTreeMap<UserId, User>,
    merged_into: BTreeMap<UserId, UserId>,
    /// By the identity in its compared form.
    identities: BTreeMap<IdentityKey, Owned>,
    traits: BTreeMap<UserId, Traits>,
    activities: BTreeMap<i64, Activity>,
    segments: BTreeMap<SegmentId, Segment>,
    /// (activity, segment)
    links: BTreeSet<(i64, SegmentId)>,
    memberships: BTreeMap<(UserId, SegmentId), Membership>,
    manual: BTreeSet<(UserId, SegmentId)>,
    manual_versions: BTreeMap<UserId, ListVersion>,
    positions: BTreeMap<PartitionId, u64>,
    outbox: BTreeMap<u64, OutboxEntry>,
    last_user: i64,
    last_activity: i64,
    last_segment: i64,
    last_outbox: u64,
}

/// An identity and its owner.
#[derive(Debug)]
struct Owned {
    /// In its first spelling.
    id: String,
    owner: UserId,
    created_at: Timestamp,
}

impl MemoryConfigStore {
    /// An empty store with these rules.
    pub fn new(rules: IdentityRules) -> Self {
        Self(Arc::new(Mutex::new(State { rules, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no code panics while it holds the lock")
    }
}

impl State {
    fn send(&mut self, entry: OutboxEntry) {
        self.last_outbox += 1;
        self.outbox.insert(self.last_outbox, entry);
    }

    /// Returns the user itself, or the user that absorbed it.
    fn survivor(&self, id: UserId) -> Result<UserId, ConfigStoreError> {
        let id = self.merged_into.get(&id).copied().unwrap_or(id);
        if self.users.contains_key(&id) { Ok(id) } else { Err(ConfigStoreError::not_found(Resource::User, id)) }
    }

    fn require_segment(&self, id: SegmentId) -> Result<&Segment, ConfigStoreError> {
        self.segments.get(&id).ok_or_else(|| ConfigStoreError::not_found(Resource::Segment, id))
    }

    fn require_activity(&self, id: i64) -> Result<&Activity, ConfigStoreError> {
        self.activities.get(&id).ok_or_else(|| ConfigStoreError::not_found(Resource::Activity, id))
    }
}

#[async_trait]
impl ConfigStore for MemoryConfigStore {
    async fn ping(&self) -> Result<(), ConfigStoreError> {
        Ok(())
    }

    async fn wipe(&self) -> Result<(), ConfigStoreError> {
        Ok(())
    }

    async fn last_ids(&self) -> Result<LastIds, ConfigStoreError> {
        let state = self.state();
        Ok(LastIds { user: state.last_user, segment: state.last_segment, outbox: state.last_outbox })
    }

    async fn go_on_after(&self, last: LastIds, entries: Vec<OutboxEntry>) -> Result<(), ConfigStoreError> {
        let mut state = self.state();
        state.last_user = state.last_user.max(last.user);
        state.last_segment = state.last_segment.max(last.segment);
        state.last_outbox = state.last_outbox.max(last.outbox);
        entries.into_iter().for_each(|entry| state.send(entry));
        Ok(())
    }
}

#[async_trait]
impl Outbox for MemoryConfigStore {
    async fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxRow>, ConfigStoreError> {
        let state = self.state();
        let rows = state.outbox.range(after + 1..).take(limit);
        Ok(rows.map(|(id, entry)| OutboxRow { id: *id, entry: entry.clone() }).collect())
    }

    async fn outbox_end(&self) -> Result<u64, ConfigStoreError> {
        Ok(self.state().last_outbox)
    }

    async fn outbox_sent(&self, up_to: u64) -> Result<(), ConfigStoreError> {
        self.state().outbox.retain(|id, _| *id > up_to);
        Ok(())
    }
}
