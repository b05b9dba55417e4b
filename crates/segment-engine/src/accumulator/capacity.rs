//! How much an accumulator may hold.

use crate::time::Timestamp;

/// How many entries an accumulator of one user may hold. Beyond that it refuses events, which is
/// reported.
pub const ENTRIES_MAX: usize = 100_000;

/// An accumulator has [`ENTRIES_MAX`] entries, so contributions were not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CapacityExceeded {
    /// When the last of the missing contributions would have ended. Until then the value may be
    /// wrong.
    pub until: Timestamp,
}

/// Adds one contribution after another; the error covers all that were not added.
pub(crate) fn add_all<T>(
    contributions: impl IntoIterator<Item = T>,
    mut add: impl FnMut(T) -> Result<(), CapacityExceeded>,
) -> Result<(), CapacityExceeded> {
    let refused = contributions.into_iter().filter_map(|contribution| add(contribution).err()).max();
    refused.map_or(Ok(()), Err)
}
