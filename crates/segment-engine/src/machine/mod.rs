//! The machine: users, segments and time in; transitions out.
//!
//! One machine holds the users of one partition. Its caller feeds it records in log order, each at its instant of
//! receipt, and lets its time advance as far as the log allows:
//!
//! * before an instant's records are applied, every deadline up to that instant fires, each at its own instant;
//! * the records of one instant are applied together, then the users they touched are evaluated once ([`Machine::settle`]);
//! * a user's changes are collected as [`Change`]s, in order.

mod bounds;
mod catalog;
mod cost;
mod evaluate;
mod explain;
mod format_3;
mod formula;
mod inputs;
mod limited;
mod lower;
mod recent;
mod segments;
mod snapshot;
mod store;
mod tally;
mod timers;
mod triggers;
mod user;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

pub use bounds::check_thresholds;
pub use catalog::{Definition, Rule};
pub use cost::{Cost, cost};
pub use explain::{ConditionReport, Evidence, Explanation, ValueReport};
pub use inputs::Departed;
pub use recent::{EventKey, REMEMBERED_IDS, REMEMBERED_MICROS, Receipt, RecentIds};
pub use snapshot::SnapshotError;
pub use store::StoreId;
pub use tally::SegmentCount;
pub use user::{ManualList, Profile, Source, Traits};

use crate::event::UserId;
use crate::time::Timestamp;
use catalog::Catalog;
use tally::Tally;
use timers::Timers;
use user::User;

/// Why memberships changed. Of several causes in one instant a user's change bears the first of this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The user was merged into another, or another into it.
    Merge,
    /// An event arrived.
    Event,
    /// A trait changed.
    Trait,
    /// The members of a manual segment were set.
    Manual,
    /// The user was created or changed.
    User,
    /// Nothing but time passed.
    Time,
    /// A new segment took effect.
    Backfill,
    /// A changed segment took effect.
    Edit,
    /// A segment or user was deleted.
    Delete,
    /// A difference found at recovery or by an audit.
    Repair,
}

/// All transitions of one user with one instant and cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The user.
    pub user: UserId,
    /// The client id first seen for the user.
    pub client_ref_id: Option<Box<str>>,
    /// From 1, without a gap, per user.
    pub sequence: u64,
    /// The first instant at which it holds.
    pub effective_at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// Ids of the segments entered, ascending.
    pub entered: Vec<i64>,
    /// Ids of the segments left, ascending.
    pub left: Vec<i64>,
    /// All of them afterwards, ascending, if [`Settings::tell_all_segments`].
    pub segments: Option<Vec<i64>>,
}

/// What a machine is told once.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// For how long an event id makes a second delivery a duplicate, in microseconds.
    pub remembered_micros: i64,
    /// Whether each change lists all memberships after it.
    pub tell_all_segments: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { remembered_micros: REMEMBERED_MICROS, tell_all_segments: false }
    }
}

/// What could not be applied: told on the error topic, while everything else goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The user.
    pub user: UserId,
    /// Ids of the segments whose answer for this user is no longer sure.
    pub segments: Vec<i64>,
    /// What happened, and what to do.
    pub reason: String,
}

/// A partition's users and segments, at one instant.
#[derive(Debug)]
pub struct Machine {
    now: Timestamp,
    settings: Settings,
    /// Whether an event was ever applied: until then a new segment has no history to read.
    has_history: bool,
    catalog: Catalog,
    users: Vec<Option<User>>,
    by_id: FxHashMap<UserId, u32>,
    free: Vec<u32>,
    timers: Timers,
    /// Users to evaluate when the instant is complete.
    dirty: Vec<u32>,
    /// Users that changed since the last checkpoint.
    changed: Vec<UserId>,
    changes: Vec<Change>,
    failures: Vec<Failure>,
    tally: Tally,
}

impl Machine {
    /// An empty machine.
    pub fn new(settings: Settings) -> Self {
        Self {
            now: Timestamp::MIN,
            settings,
            has_history: false,
            catalog: Catalog::default(),
            users: Vec::new(),
            by_id: FxHashMap::default(),
            free: Vec::new(),
            timers: Timers::default(),
            dirty: Vec::new(),
            changed: Vec::new(),
            changes: Vec::new(),
            failures: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// The instant the machine stands at.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// No deadline fires before this instant: time may pass until then without a call.
    pub fn next_due(&self) -> Timestamp {
        self.timers.next_due()
    }

    /// The changes since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// What could not be applied since the last call.
    pub fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    /// Completes the present instant, then fires every deadline up to and including `to`, in order.
    ///
    /// Stops early, between instants, after about `wakeups_max` wake-ups; the machine then stands where it stopped, and the caller
    /// calls again. Answers whether it reached `to`.
    pub fn advance(&mut self, to: Timestamp, wakeups_max: usize) -> bool {
        self.settle();
        let mut wakeups = 0;
        while let Some((due, slot)) = self.timers.pop(to) {
            if due > self.now {
                if wakeups >= wakeups_max {
                    self.timers.arm(due, slot);
                    return false;
                }
                self.now = due;
            }
            wakeups += usize::from(self.wake(slot, due));
        }
        self.now = self.now.max(to);
        true
    }

    fn wake(&mut self, slot: u32, due: Timestamp) -> bool {
        let Some(user) = self.users[slot as usize].as_mut() else { return false };
        if user.armed != due {
            return false;
        }
        user.armed = Timestamp::MAX;
        let User { wakeups, dirty, .. } = user;
        wakeups.retain(|(at, segment)| {
            if *at <= due {
                dirty.push(*segment);
            }
            *at > due
        });
        self.evaluate(slot, Cause::Time);
        true
    }

    /// Completes the present instant: evaluates each user that its records touched, once.
    pub fn settle(&mut self) {
        for slot in std::mem::take(&mut self.dirty) {
            let cause = self.users[slot as usize].as_mut().and_then(|user| user.dirty_cause.take());
            if let Some(cause) = cause {
                self.evaluate(slot, cause);
            }
        }
    }

    /// Fires the deadlines up to `at` and goes there; records of the same instant join those before them.
    fn reach(&mut self, at: Timestamp) {
        if at > self.now {
            self.advance(at, usize::MAX);
        }
    }

    /// The segments the user is in, by id, ascending.
    pub fn memberships(&self, id: UserId) -> Vec<i64> {
        let user = self.by_id.get(&id).and_then(|slot| self.users[*slot as usize].as_ref());
        let mut ids: Vec<i64> =
            user.iter().flat_map(|user| &user.members).filter_map(|index| self.catalog.id_of(*index)).collect();
        ids.sort_unstable();
        ids
    }

    /// The number of the user's last notification; 0 if there was none.
    pub fn sequence(&self, id: UserId) -> u64 {
        let user = self.by_id.get(&id).and_then(|slot| self.users[*slot as usize].as_ref());
        user.map_or(0, |user| user.sequence)
    }

    /// The users in a segment, by its id, ascending.
    pub fn members(&self, segment: i64) -> Vec<UserId> {
        let Some(index) = self.catalog.index_of(segment) else { return Vec::new() };
        let members = self.users.iter().flatten().filter(|user| user.is_member(index));
        let mut ids: Vec<UserId> = members.map(|user| user.id).collect();
        ids.sort_unstable();
        ids
    }

    /// The version of a segment that is in force; `None` if none is yet.
    pub fn version_in_force(&self, segment: i64) -> Option<u64> {
        let compiled = self.catalog.in_force(self.catalog.index_of(segment)?)?;
        Some(compiled.definition.version)
    }

    /// All known users, in no order.
    pub fn user_ids(&self) -> impl Iterator<Item = UserId> {
        self.by_id.keys().copied()
    }

    /// Whether the user is known.
    pub fn knows(&self, id: UserId) -> bool {
        self.by_id.contains_key(&id)
    }
}
