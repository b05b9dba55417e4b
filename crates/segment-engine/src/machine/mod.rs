//! The machine: users, segments and time in; transitions out.
//!
//! One machine holds the users of one partition. The caller applies records in log order, each at
//! its instant of receipt, and advances time as far as the log allows:
//!
//! * before a record changes a user, the user's deadlines up to that instant fire, each at its own
//!   instant ([`catch_up`] says when those of others do);
//! * the records of one instant are applied together, then the users that they touched are
//!   evaluated once ([`Machine::settle`]);
//! * the machine collects a user's changes as [`Change`]s, in order.

mod accumulator_key;
mod bounds;
mod capacity;
mod catalog;
mod catch_up;
mod change;
mod cost;
mod encoding;
mod evaluate;
mod explain;
mod fence;
mod format_3;
mod formula;
mod history;
mod history_needs;
mod index;
mod inputs;
mod integrity;
mod limited;
mod lower;
mod postings;
mod recent;
mod remembered;
mod saving;
mod segments;
mod snapshot;
mod tally;
mod timers;
mod traits;
mod triggers;
mod user;
mod wakeups;

use index::{SegmentIndex, UserSlot};
use rustc_hash::FxHashMap;

pub use accumulator_key::AccumulatorId;
pub use bounds::check_thresholds;
pub use catalog::{Definition, Rule};
pub use change::{Cause, Change, Failure};
pub use cost::{Cost, cost};
pub use explain::{ConditionReport, Evidence, Explanation, ValueReport};
pub use history::{Filled, PastEvent};
pub use history_needs::{FILTERS_MAX, HistoryNeeds};
pub use inputs::Departed;
pub use recent::{EventKey, REMEMBERED_IDS, REMEMBERED_MICROS, Receipt, RecentIds};
pub use saving::SavedUser;
pub use snapshot::SnapshotError;
pub use tally::SegmentCount;
pub use traits::Traits;
pub use user::{ManualList, Source, UserProfile};

use crate::ids::{SegmentId, SegmentVersion, UserId};
use crate::time::Timestamp;
use catalog::Catalog;
use catch_up::Sweep;
use saving::{ChangedUsers, Saving};
use tally::Tally;
use timers::Timers;
use user::User;

/// Settings of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long an event id makes a second delivery a duplicate, in microseconds.
    pub remembered_micros: i64,
    /// Whether each change lists all memberships after it.
    pub emit_all_segments: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { remembered_micros: REMEMBERED_MICROS, emit_all_segments: false }
    }
}

/// A partition's users and segments, at one instant.
#[derive(Debug)]
pub struct Machine {
    now: Timestamp,
    /// Up to here everything has been evaluated for everybody. Users may be behind now.
    settled: Timestamp,
    settings: Settings,
    /// Whether an event was ever applied. Until then a new segment has no history to read.
    has_history: bool,
    catalog: Catalog,
    users: Vec<Option<User>>,
    by_id: FxHashMap<UserId, UserSlot>,
    free: Vec<UserSlot>,
    timers: Timers,
    sweep: Option<Sweep>,
    /// Users to evaluate when the instant is complete.
    dirty: Vec<UserSlot>,
    /// The segments of the user at hand that are to be evaluated now. Empty between two users: only
    /// the memory is kept.
    queue: Vec<SegmentIndex>,
    changed: ChangedUsers,
    saving: Option<Saving>,
    changes: Vec<Change>,
    failures: Vec<Failure>,
    tally: Tally,
}

impl Machine {
    /// Returns an empty machine.
    pub fn new(settings: Settings) -> Self {
        Self {
            now: Timestamp::MIN,
            settled: Timestamp::MIN,
            settings,
            has_history: false,
            catalog: Catalog::default(),
            users: Vec::new(),
            by_id: FxHashMap::default(),
            free: Vec::new(),
            timers: Timers::default(),
            sweep: None,
            dirty: Vec::new(),
            queue: Vec::new(),
            changed: ChangedUsers::default(),
            saving: None,
            changes: Vec::new(),
            failures: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Returns the machine's instant.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns an instant before which no deadline fires: until then time may pass without a call.
    pub fn next_due(&self) -> Timestamp {
        self.timers.next_due()
    }

    /// Returns how many changes [`Machine::take_changes`] would return.
    pub fn changes(&self) -> usize {
        self.changes.len()
    }

    /// Returns the changes since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Returns what could not be applied since the last call.
    pub fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    /// Returns the ids of the segments that the user is in, ascending.
    pub fn memberships(&self, id: UserId) -> Vec<SegmentId> {
        let user = self.by_id.get(&id).and_then(|slot| self.users[slot.0 as usize].as_ref());
        let mut ids: Vec<SegmentId> =
            user.iter().flat_map(|user| &user.members).filter_map(|index| self.catalog.id_of(*index)).collect();
        ids.sort_unstable();
        ids
    }

    /// Returns the sequence of the user's last change; 0 if there was none.
    pub fn sequence(&self, id: UserId) -> u64 {
        let user = self.by_id.get(&id).and_then(|slot| self.users[slot.0 as usize].as_ref());
        user.map_or(0, |user| user.sequence)
    }

    /// Returns the users in a segment, ascending. Loops over all users.
    pub fn members(&self, segment: SegmentId) -> Vec<UserId> {
        let Some(index) = self.catalog.index_of(segment) else { return Vec::new() };
        let members = self.users.iter().flatten().filter(|user| user.is_member(index));
        let mut ids: Vec<UserId> = members.map(|user| user.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Returns the version of a segment that is in force; `None` if none is yet.
    pub fn version_in_force(&self, segment: SegmentId) -> Option<SegmentVersion> {
        let compiled = self.catalog.in_force(self.catalog.index_of(segment)?)?;
        Some(compiled.definition.version)
    }

    /// Returns all known users, in no order.
    pub fn user_ids(&self) -> impl Iterator<Item = UserId> {
        self.by_id.keys().copied()
    }

    /// Whether the user is known.
    pub fn knows(&self, id: UserId) -> bool {
        self.by_id.contains_key(&id)
    }
}
