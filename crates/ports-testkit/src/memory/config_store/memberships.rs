//! Memberships in memory.

use std::collections::BTreeSet;

use async_trait::async_trait;
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use segment_engine::machine::ManualList;
use segment_engine::time::Timestamp;

use super::{MemoryConfigStore, State};
use ports::config_store::{
    Applied, ConfigStoreError, ManualSet, Member, Membership, MembershipBatch, MembershipStore, OutboxEntry, Page,
    SegmentKind,
};

impl State {
    fn manual_of(&self, user: UserId) -> BTreeSet<SegmentId> {
        self.manual
            .range((user, SegmentId(i64::MIN))..=(user, SegmentId(i64::MAX)))
            .map(|(_, segment)| *segment)
            .collect()
    }

    /// Sets the user's manual segments, and returns the list for the engine.
    fn write_manual(&mut self, user_id: UserId, manual: &BTreeSet<SegmentId>, now: Timestamp) -> ManualList {
        let before = self.manual_of(user_id);
        for old in before.difference(manual) {
            self.manual.remove(&(user_id, *old));
            self.memberships.remove(&(user_id, *old));
        }
        for new in manual.difference(&before) {
            self.manual.insert((user_id, *new));
            let membership = Membership { user_id, segment_id: *new, created_at: now, updated_at: now };
            self.memberships.entry((user_id, *new)).or_insert(membership);
        }
        let version = self.manual_versions.entry(user_id).or_default();
        version.0 += 1;
        ManualList { version: *version, segments: manual.iter().copied().collect() }
    }

    /// Adds the absorbed user's manual segments to the survivor's. Returns the survivor's list if
    /// that changed it.
    pub(super) fn merge_manual(&mut self, survivor: UserId, absorbed: UserId, now: Timestamp) -> Option<ManualList> {
        let (ours, theirs) = (self.manual_of(survivor), self.manual_of(absorbed));
        self.manual.retain(|(user, _)| *user != absorbed);
        let changes = !theirs.is_subset(&ours);
        changes.then(|| self.write_manual(survivor, &ours.union(&theirs).copied().collect(), now))
    }
}

#[async_trait]
impl MembershipStore for MemoryConfigStore {
    async fn members(&self, segment: SegmentId, page: Page) -> Result<Vec<Member>, ConfigStoreError> {
        let state = self.state();
        state.require_segment(segment)?;
        let rows = state.memberships.values();
        let of = rows.filter(|m| m.segment_id == segment && m.user_id.0 > page.after);
        let alive = of.filter(|m| !state.merged_into.contains_key(&m.user_id));
        let members = alive.filter_map(|m| Some(Member { user: state.view(m.user_id)?, membership: *m }));
        Ok(members.take(page.limit).collect())
    }

    async fn count_members(&self, segment: SegmentId) -> Result<u64, ConfigStoreError> {
        Ok(self.members(segment, Page::ALL).await?.len() as u64)
    }

    async fn manual_list(&self, user: UserId) -> Result<ManualList, ConfigStoreError> {
        let state = self.state();
        let version = state.manual_versions.get(&user).copied().unwrap_or_default();
        Ok(ManualList { version, segments: state.manual_of(user).into_iter().collect() })
    }

    async fn set_manual_memberships(
        &self,
        user: UserId,
        segments: &[SegmentId],
        now: Timestamp,
    ) -> Result<ManualSet, ConfigStoreError> {
        let mut state = self.state();
        let user = state.survivor(user)?;
        let is_manual =
            |id: &SegmentId| state.segments.get(id).is_some_and(|segment| segment.kind == SegmentKind::Manual);
        let ids: BTreeSet<SegmentId> = segments.iter().copied().collect();
        let (manual, ignored): (BTreeSet<SegmentId>, BTreeSet<SegmentId>) = ids.into_iter().partition(is_manual);
        if manual != state.manual_of(user) {
            let list = state.write_manual(user, &manual, now);
            state.send(OutboxEntry::manual(user, list));
        }
        Ok(ManualSet { ignored: ignored.into_iter().collect() })
    }

    async fn membership_positions(&self) -> Result<Vec<(PartitionId, u64)>, ConfigStoreError> {
        Ok(self.state().positions.iter().map(|(partition, position)| (*partition, *position)).collect())
    }

    async fn apply_memberships(&self, batch: MembershipBatch) -> Result<Applied, ConfigStoreError> {
        let mut state = self.state();
        let position = state.positions.get(&batch.partition).copied().unwrap_or(0);
        if let Some(already) = batch.already(position)? {
            return Ok(already);
        }
        for ((user_id, segment_id), since) in MembershipBatch::net([&batch]) {
            match since {
                None => {
                    state.memberships.remove(&(user_id, segment_id));
                }
                Some(at) => {
                    let membership = Membership { user_id, segment_id, created_at: at, updated_at: at };
                    state.memberships.insert((user_id, segment_id), membership);
                }
            }
        }
        state.positions.insert(batch.partition, batch.to);
        Ok(Applied::Now)
    }
}
