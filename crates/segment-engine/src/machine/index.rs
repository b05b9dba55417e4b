//! Indexes into a machine's tables. They mean something in that machine only: whatever leaves it
//! names users and segments by id.

/// The index of a segment's [`Slot`](super::catalog::Slot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SegmentIndex(pub(super) u32);

impl SegmentIndex {
    pub(super) fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("fewer than 2³² segments"))
    }
}

/// The index of a user in the machine's table of users. Another user may have it after this one was
/// removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct UserSlot(pub(super) u32);

impl UserSlot {
    pub(super) fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("fewer than 2³² users"))
    }
}
