//! Memberships: those that the engine computes, written in batches, and manual segments.

use async_trait::async_trait;
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use segment_engine::machine::ManualList;
use segment_engine::time::Timestamp;

use super::{ConfigStoreError, Page, User};

use crate::ErrorCode;

/// Says that a user is in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The member.
    pub user_id: UserId,
    /// The segment that the user is in.
    pub segment_id: SegmentId,
    /// The `effective_at` of the transition by which the user entered.
    pub created_at: Timestamp,
    /// The `effective_at` of the transition that last wrote the row.
    pub updated_at: Timestamp,
}

/// A member of a segment, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// With all memberships.
    pub user: User,
    /// The membership of the segment in question.
    pub membership: Membership,
}

/// The changes in one notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipChange {
    /// The user that entered or left segments.
    pub user_id: UserId,
    /// Ids of the segments entered.
    pub entered: Vec<SegmentId>,
    /// Ids of the segments left.
    pub left: Vec<SegmentId>,
    /// The instant from which the change holds.
    pub effective_at: Timestamp,
}

/// The changes in a range of one partition of the notification topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipBatch {
    /// The partition of the notification topic.
    pub partition: PartitionId,
    /// The first offset of the range: the store's position must be this one.
    pub from: u64,
    /// The offset after the range.
    pub to: u64,
    /// In the order of the topic.
    pub changes: Vec<MembershipChange>,
}

/// A user, a segment, and since when the user is a member; `None` if they are not.
pub type NetMembership = ((UserId, SegmentId), Option<Timestamp>);

/// What [`MembershipStore::apply_memberships`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Wrote the batch.
    Now,
    /// Nothing: an earlier call wrote the batch, and the store's position is this one.
    Before(u64),
}

/// What [`MembershipStore::set_manual_memberships`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManualSet {
    /// The ids that do not belong to manual segments.
    pub ignored: Vec<SegmentId>,
}

/// The memberships of the config store.
#[async_trait]
pub trait MembershipStore: Send + Sync + 'static {
    /// Returns a page of the members of a segment, ordered by user id, without absorbed users.
    async fn members(&self, segment: SegmentId, page: Page) -> Result<Vec<Member>, ConfigStoreError>;

    /// Counts the members of a segment.
    async fn count_members(&self, segment: SegmentId) -> Result<u64, ConfigStoreError>;

    /// Sets the manual segments of a user to exactly these. Ids of other segments are ignored, and
    /// returned.
    async fn set_manual_memberships(
        &self,
        user: UserId,
        segments: &[SegmentId],
        now: Timestamp,
    ) -> Result<ManualSet, ConfigStoreError>;

    /// Returns the manual segments of a user, and the list's version: 0 if none was ever set.
    async fn manual_list(&self, user: UserId) -> Result<ManualList, ConfigStoreError>;

    /// Returns the offset up to which each partition of the notification topic was applied, for
    /// partitions that have one, ascending.
    async fn membership_positions(&self) -> Result<Vec<(PartitionId, u64)>, ConfigStoreError>;

    /// Writes a batch and moves the partition's position, in one transaction. Idempotent. Conflict:
    /// `MEMBERSHIP_POSITION` if the position is before the batch or inside of it; read the position
    /// and go on from there.
    async fn apply_memberships(&self, batch: MembershipBatch) -> Result<Applied, ConfigStoreError>;
}

impl MembershipBatch {
    /// Decides what to do with the batch if the partition's position is `position`. `None`: write
    /// it.
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
                "the memberships of partition {} are at {position}, the batch starts at {}; send what follows {position}",
                self.partition, self.from
            ),
        ))
    }

    /// Returns what these batches, one after the other, amount to: ascending, each pair once.
    pub fn net<'a>(batches: impl IntoIterator<Item = &'a MembershipBatch>) -> Vec<NetMembership> {
        let mut net = Vec::new();
        for change in batches.into_iter().flat_map(|batch| &batch.changes) {
            net.extend(change.left.iter().map(|segment| ((change.user_id, *segment), None)));
            net.extend(change.entered.iter().map(|segment| ((change.user_id, *segment), Some(change.effective_at))));
        }
        // Stable: of the changes of one pair the last one counts.
        net.sort_by_key(|(pair, _)| *pair);
        net.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                *kept = *next;
            }
            is_same
        });
        net
    }
}
