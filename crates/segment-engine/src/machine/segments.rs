//! Defining, changing and removing segments.

use super::catch_up::Sweep;
use super::index::UserSlot;
use super::{AccumulatorId, Cause, Definition, Machine};
use crate::ids::{SegmentId, SegmentVersion};
use crate::time::Timestamp;

impl Machine {
    /// Takes a segment's new version. `offset` is the log's position: what was received before it
    /// is history. Until [`Machine::activate`] the old version stays in force.
    pub fn define(&mut self, definition: Definition, offset: u64, at: Timestamp) {
        self.reach(at);
        if self.is_pending(definition.id) == Some(true) {
            // The checkpoint may have accumulators that only the version before reads.
            self.save_all_before_change();
        }
        let (_, unused) = self.catalog.define(definition, self.has_history.then_some(offset));
        self.drop_accumulators(&unused);
    }

    /// Returns the segments whose new version waits only for [`Machine::activate`]: id and version.
    pub fn ready(&self) -> Vec<(SegmentId, SegmentVersion)> {
        self.catalog.ready().map(|compiled| (compiled.definition.id, compiled.definition.version)).collect()
    }

    /// Whether the new version can take effect where it is defined: there is no history, or
    /// versions in force keep all accumulators that it reads. That follows from the log alone; how
    /// far a backfill has come does not.
    pub fn needs_no_history(&self, segment: SegmentId) -> bool {
        !self.has_history || self.catalog.index_of(segment).is_some_and(|index| self.catalog.is_covered(index))
    }

    /// Declares that there are events that the machine was never given: new versions wait for their
    /// history.
    pub fn assume_history(&mut self) {
        self.has_history = true;
    }

    /// Whether a newer version of the segment is pending; `None` for an unknown segment.
    pub fn is_pending(&self, segment: SegmentId) -> Option<bool> {
        let index = self.catalog.index_of(segment)?;
        Some(self.catalog.slots[index.0 as usize].pending.is_some())
    }

    /// Returns the version of the segment that is pending, if any.
    pub fn pending_version(&self, segment: SegmentId) -> Option<SegmentVersion> {
        let slot = &self.catalog.slots[self.catalog.index_of(segment)?.0 as usize];
        slot.pending.as_ref().map(|pending| pending.definition.version)
    }

    /// Puts a segment's new version in force. The difference is emitted after the instant is
    /// complete, together with the changes by the instant's other records. Users who are behind come
    /// to the instant first, all at once; with [`Machine::gather`] the caller lets others run
    /// meanwhile.
    pub fn activate(&mut self, segment: SegmentId, version: SegmentVersion, at: Timestamp) {
        self.gather(at, usize::MAX);
        let Some(index) = self.catalog.index_of(segment) else { return };
        let slot = &self.catalog.slots[index.0 as usize];
        if slot.pending.as_ref().is_none_or(|pending| pending.definition.version != version) {
            return;
        }
        let cause = if slot.in_force.is_some() { Cause::Edit } else { Cause::Backfill };
        if cause == Cause::Edit {
            self.save_all_before_change();
        }
        let unused = self.catalog.activate(index);
        self.drop_accumulators(&unused);
        let (now, slots) = (self.now, self.users.len());
        let sweep = self.sweep.get_or_insert_with(|| Sweep::new(now, slots));
        sweep.segments.push((index, cause));
    }

    /// Removes a segment: its members leave. The changes are emitted when the instant is complete,
    /// together with those by the instant's other records. Users who are behind come first, as for
    /// [`Machine::activate`].
    pub fn remove_segment(&mut self, segment: SegmentId, at: Timestamp) {
        self.gather(at, usize::MAX);
        self.save_all_before_change();
        let Some(index) = self.catalog.index_of(segment) else { return };
        if let Some(sweep) = &mut self.sweep {
            sweep.segments.retain(|(other, _)| *other != index);
        }
        for slot in (0..self.users.len()).map(UserSlot::new) {
            let Some(user) = self.users[slot.0 as usize].as_mut().filter(|user| user.is_member(index)) else {
                continue;
            };
            user.set_member(index, false);
            user.rare_mut().left_by_removal.push(segment);
            self.tally.leave(&[index]);
            self.mark_dirty(slot, Cause::Delete);
        }
        let unused = self.catalog.remove(index);
        self.drop_accumulators(&unused);
    }

    fn drop_accumulators(&mut self, unused: &[AccumulatorId]) {
        if unused.is_empty() {
            return;
        }
        for user in self.users.iter_mut().flatten() {
            user.accumulators.retain(|(id, _)| !unused.contains(id));
            if let Some(rare) = user.some_rare() {
                rare.limited.forget(unused);
            }
            self.tally.measure(user);
        }
    }
}
