//! Memberships: the engine's answer, written in batches, and the lists kept by hand.

use async_trait::async_trait;
use segment_engine::event::UserId;
use segment_engine::machine::ManualList;
use segment_engine::time::Timestamp;

use super::{ConfigStoreError, Page, User};

use crate::ErrorCode;

/// A user is in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The user.
    pub user_id: UserId,
    /// The segment.
    pub segment_id: i64,
    /// The `effective_at` of the enter.
    pub created_at: Timestamp,
    /// When the row was last written, by the same measure.
    pub updated_at: Timestamp,
}

/// A member of a segment, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user: User,
    /// Its membership of the segment asked for.
    pub membership: Membership,
}

/// One notification's worth of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipChange {
    /// The user.
    pub user_id: UserId,
    /// Ids of the segments entered.
    pub entered: Vec<i64>,
    /// Ids of the segments left.
    pub left: Vec<i64>,
    /// When it became true.
    pub effective_at: Timestamp,
}

/// The changes that a stretch of one partition of the notification topic tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipBatch {
    /// The partition.
    pub partition: u32,
    /// The offset that the stretch starts at: where the store must stand.
    pub from: u64,
    /// The offset after it.
    pub to: u64,
    /// In the order of the topic.
    pub changes: Vec<MembershipChange>,
}

/// What [`MembershipStore::apply_memberships`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The batch was written.
    Now,
    /// An earlier call had done it: the store stands at this offset.
    Before(u64),
}

/// What [`MembershipStore::set_manual_memberships`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManualSet {
    /// The ids that are no manual segment's, and were ignored.
    pub ignored: Vec<i64>,
}

/// The memberships of the config store.
#[async_trait]
pub trait MembershipStore: Send + Sync + 'static {
    /// The members of a segment by user id, absorbed users left out.
    async fn members(&self, segment: i64, page: Page) -> Result<Vec<Member>, ConfigStoreError>;

    /// How many members a segment has.
    async fn count_members(&self, segment: i64) -> Result<u64, ConfigStoreError>;

    /// Sets the manual segments of a user to exactly these; ids of other segments are ignored and named.
    async fn set_manual_memberships(
        &self,
        user: UserId,
        segments: &[i64],
        now: Timestamp,
    ) -> Result<ManualSet, ConfigStoreError>;

    /// The manual segments of a user, and which list this is; version 0 if none was ever set.
    async fn manual_list(&self, user: UserId) -> Result<ManualList, ConfigStoreError>;

    /// The offset of the notification topic that the memberships stand at, for each partition that has any, ascending.
    async fn membership_positions(&self) -> Result<Vec<(u32, u64)>, ConfigStoreError>;

    /// Writes a batch and moves the partition's position, in one transaction. Repeating a batch changes nothing.
    /// Conflict: `MEMBERSHIP_POSITION` if the store stands before `from` or inside of the batch: read the position
    /// and go on from there.
    async fn apply_memberships(&self, batch: MembershipBatch) -> Result<Applied, ConfigStoreError>;
}

impl MembershipBatch {
    /// What to do with the batch where the partition stands at `position`: `None` to write it.
    pub fn already(&self, position: u64) -> Result<Option<Applied>, ConfigStoreError> {
        if position == self.from {
            return Ok(None);
        }
        if position >= self.to {
            return Ok(Some(Applied::Before(position)));
        }
        Err(ConfigStoreError::conflict(
            ErrorCode::MembershipPosition,
            format!(
                "the memberships of partition {} stand at {position}, the batch starts at {}; send what follows {position}",
                self.partition, self.from
            ),
        ))
    }

    /// What is true of each (user, segment) after the batch: since when it is a member, or `None` if it is not.
    pub fn net(&self) -> std::collections::BTreeMap<(UserId, i64), Option<Timestamp>> {
        let mut net = std::collections::BTreeMap::new();
        for change in &self.changes {
            for segment in &change.left {
                net.insert((change.user_id, *segment), None);
            }
            for segment in &change.entered {
                net.insert((change.user_id, *segment), Some(change.effective_at));
            }
        }
        net
    }
}
