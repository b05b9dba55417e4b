//! Counts that a machine keeps up to date, so that reading them costs no loop over users.

use std::mem::size_of;

use super::Machine;
use super::index::{SegmentIndex, UserSlot};
use super::user::{Rare, Source, User, UserProfile};
use crate::ids::{SegmentId, SegmentVersion, UserId};
use crate::thin;

/// The memory that a user takes without its allocations: the slot, the entry in the index, the
/// wake-up.
const USER_BYTES: usize = size_of::<Option<User>>() + size_of::<(UserId, UserSlot)>() + size_of::<(i64, UserSlot)>();

/// A segment, and how many users are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentCount {
    /// The config store's id of the segment.
    pub id: SegmentId,
    /// The tag of the newest version.
    pub tag: String,
    /// The newest version, in force or pending.
    pub version: SegmentVersion,
    /// How many users are in it, as emitted so far.
    pub members: u64,
}

/// The counts themselves.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By the segment's index.
    members: Vec<u64>,
    state_bytes: usize,
}

impl Tally {
    pub(super) fn enter(&mut self, segments: &[SegmentIndex]) {
        for &segment in segments {
            let index = segment.0 as usize;
            if self.members.len() <= index {
                self.members.resize(index + 1, 0);
            }
            self.members[index] += 1;
        }
    }

    pub(super) fn leave(&mut self, segments: &[SegmentIndex]) {
        for &segment in segments {
            self.members[segment.0 as usize] -= 1;
        }
    }

    /// Measures a user again.
    pub(super) fn measure(&mut self, user: &mut User) {
        self.forget(user);
        user.measured_bytes = u32::try_from(user.bytes()).unwrap_or(u32::MAX);
        self.state_bytes += user.measured_bytes as usize;
    }

    /// Takes a user that is removed out of the count of bytes.
    pub(super) fn forget(&mut self, user: &User) {
        self.state_bytes -= user.measured_bytes as usize;
    }
}

impl Machine {
    /// Returns how many users are known.
    pub fn user_count(&self) -> usize {
        self.by_id.len()
    }

    /// Returns about how many bytes of memory the users take. Each is measured at a checkpoint, so
    /// users that came since the last one are not in it.
    pub fn state_bytes(&self) -> usize {
        self.tally.state_bytes
    }

    /// Returns how many users are in each segment.
    pub fn segment_counts(&self) -> impl Iterator<Item = SegmentCount> {
        self.catalog.slots.iter().enumerate().filter_map(|(index, slot)| {
            let definition = &slot.pending.as_ref().or(slot.in_force.as_ref())?.definition;
            let members = self.tally.members.get(index).copied().unwrap_or(0);
            Some(SegmentCount { id: definition.id, tag: definition.tag.clone(), version: definition.version, members })
        })
    }
}

impl User {
    /// Returns about how many bytes the user takes: the allocations of its collections and the
    /// strings in them, without the allocator's overhead.
    fn bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|(_, accumulator)| accumulator.heap_bytes()).sum();
        USER_BYTES
            + self.client_ref_id.as_deref().map_or(0, str::len)
            + self.profile().heap_bytes()
            + self.traits.heap_bytes()
            + self.recent.heap_bytes()
            + thin::heap_bytes(&self.accumulators)
            + accumulators
            + self.rare().heap_bytes()
            + thin::heap_bytes(&self.members)
            + self.wakeups.heap_bytes()
    }
}

impl UserProfile {
    fn heap_bytes(&self) -> usize {
        let texts: usize = [&self.email, &self.name].into_iter().flatten().map(String::capacity).sum();
        if *self == UserProfile::default() { 0 } else { size_of::<UserProfile>() + texts }
    }
}

impl Rare {
    fn heap_bytes(&self) -> usize {
        let lists =
            self.manual.segments.capacity() * size_of::<SegmentId>() + self.sources.capacity() * size_of::<Source>();
        if lists == 0 { 0 } else { size_of::<Rare>() + lists }
    }
}

#[cfg(test)]
mod tests;
