//! What the machine knows of one user.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::accumulator_key::AccumulatorId;
use super::change::Cause;
use super::index::SegmentIndex;
use super::limited::Limited;
use super::recent::RecentIds;
use crate::accumulator::Accumulator;
use crate::eval::{find, read_steps};
use crate::ids::{ListVersion, SegmentId, UserId};
use crate::plan::{JsonPath, UserColumn};
use crate::time::Timestamp;
use crate::value::Value;

/// One user of a machine: profile, traits, accumulators, memberships and wake-ups.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: UserId,
    /// The client id first seen for the user.
    pub(super) client_ref_id: Option<Box<str>>,
    pub(super) profile: UserProfile,
    pub(super) traits: Traits,
    /// The manual segments the user is in.
    pub(super) manual: ManualList,
    pub(super) recent: RecentIds,
    /// Ascending by id.
    pub(super) accumulators: Vec<(AccumulatorId, Accumulator)>,
    /// Which of those lack events.
    pub(super) limited: Limited,
    /// Indexes of the segments that the user is in, as emitted so far, ascending.
    pub(super) members: Vec<SegmentIndex>,
    /// How many changes were emitted so far.
    pub(super) sequence: u64,
    /// When to evaluate a segment again: at most one entry per segment, never later than the
    /// instant at which it flips.
    pub(super) wakeups: Vec<(Timestamp, SegmentIndex)>,
    /// The instant at which the timers wake the user; any other wake-up is stale.
    pub(super) armed: Timestamp,
    /// Segments to evaluate when the instant is complete.
    pub(super) dirty: Vec<SegmentIndex>,
    pub(super) dirty_cause: Option<Cause>,
    /// Ids of segments that the user was in and that were removed in this instant. Ids, because
    /// another segment may have the index by now.
    pub(super) left_by_removal: Vec<SegmentId>,
    /// Whether the user changed since the last checkpoint.
    pub(super) changed: bool,
    /// The users that were merged into this one.
    pub(super) sources: Vec<Source>,
    /// The user's size when it was last measured, see [`super::tally`].
    pub(super) measured_bytes: usize,
}

/// A user's memberships of manual segments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualList {
    /// Of two lists of a user the one with the greater version holds, in whatever order they
    /// arrive: a list that a merge makes takes another way than one that is set.
    #[serde(default)]
    pub version: ListVersion,
    /// Ids of manual segments.
    pub segments: Vec<SegmentId>,
}

/// A user that was merged into another one, the survivor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The absorbed user.
    pub user: UserId,
    /// The survivor has the absorbed user's records below this offset of their partition.
    pub below: u64,
}

impl User {
    pub(super) fn new(id: UserId) -> Self {
        Self {
            id,
            client_ref_id: None,
            profile: UserProfile::default(),
            traits: Traits::default(),
            manual: ManualList::default(),
            recent: RecentIds::default(),
            accumulators: Vec::new(),
            limited: Limited::default(),
            members: Vec::new(),
            sequence: 0,
            wakeups: Vec::new(),
            armed: Timestamp::MAX,
            dirty: Vec::new(),
            dirty_cause: None,
            left_by_removal: Vec::new(),
            changed: false,
            sources: Vec::new(),
            measured_bytes: 0,
        }
    }

    /// Adds a source, or moves a known one further. Returns the offset it had before, or 0.
    pub(super) fn extend(&mut self, source: Source) -> u64 {
        match self.sources.iter_mut().find(|known| known.user == source.user) {
            Some(known) => {
                let had = known.below;
                known.below = had.max(source.below);
                had
            }
            None => {
                self.sources.push(source);
                0
            }
        }
    }

    pub(super) fn is_member(&self, segment: SegmentIndex) -> bool {
        self.members.binary_search(&segment).is_ok()
    }

    pub(super) fn set_member(&mut self, segment: SegmentIndex, member: bool) {
        match (self.members.binary_search(&segment), member) {
            (Err(at), true) => self.members.insert(at, segment),
            (Ok(at), false) => {
                self.members.remove(at);
            }
            _ => {}
        }
    }

    pub(super) fn accumulator(&self, accumulator: AccumulatorId) -> Option<&Accumulator> {
        let at = self.accumulators.binary_search_by_key(&accumulator, |(id, _)| *id).ok()?;
        Some(&self.accumulators[at].1)
    }

    pub(super) fn accumulator_mut(&mut self, accumulator: AccumulatorId) -> Option<&mut Accumulator> {
        let at = self.accumulators.binary_search_by_key(&accumulator, |(id, _)| *id).ok()?;
        Some(&mut self.accumulators[at].1)
    }

    pub(super) fn accumulator_or(
        &mut self,
        accumulator: AccumulatorId,
        empty: impl FnOnce() -> Accumulator,
    ) -> &mut Accumulator {
        let at = match self.accumulators.binary_search_by_key(&accumulator, |(id, _)| *id) {
            Ok(at) => at,
            Err(at) => {
                self.accumulators.insert(at, (accumulator, empty()));
                at
            }
        };
        &mut self.accumulators[at].1
    }

    /// Evaluates `segment` again at `due`, or earlier if an earlier wake-up is set already. Returns
    /// whether the wake-up is new: then the next checkpoint must have it, since nothing else would
    /// wake the user after a restart.
    pub(super) fn wake_at(&mut self, segment: SegmentIndex, due: Timestamp) -> bool {
        if due == Timestamp::MAX {
            return false;
        }
        match self.wakeups.iter_mut().find(|(_, other)| *other == segment) {
            Some((known, _)) if *known <= due => return false,
            Some((known, _)) => *known = due,
            None => self.wakeups.push((due, segment)),
        }
        true
    }

    pub(super) fn next_wakeup(&self) -> Timestamp {
        self.wakeups.iter().map(|(due, _)| *due).min().unwrap_or(Timestamp::MAX)
    }
}

/// The columns of the user, as the config store has them. All are `None` for a user that is known
/// from events only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserProfile {
    /// `users.email`.
    pub email: Option<String>,
    /// `users.name`.
    pub name: Option<String>,
    /// `users.created_at`.
    pub created_at: Option<Timestamp>,
}

impl UserProfile {
    pub(super) fn column(&self, column: UserColumn) -> Value {
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, |text| Value::Text(text.into()));
        match column {
            UserColumn::Email => text(&self.email),
            UserColumn::Name => text(&self.name),
            UserColumn::CreatedAt => self.created_at.map_or(Value::Null, Value::Timestamp),
        }
    }
}

/// A user's attributes: per key the value with the newest `created_at`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traits(BTreeMap<String, (serde_json::Value, Timestamp)>);

impl Traits {
    /// Sets a key, unless the present value is newer; of two values of one age the later record
    /// wins. `null` is kept and marks that the key was removed then. Returns whether the value was
    /// set.
    pub fn set(&mut self, key: &str, value: serde_json::Value, created_at: Timestamp) -> bool {
        match self.0.get(key) {
            Some((_, since)) if *since > created_at => false,
            _ => {
                self.0.insert(key.to_owned(), (value, created_at));
                true
            }
        }
    }

    /// Adds an absorbed user's traits: key by key the newer value wins; of two values of one age
    /// the present one stays.
    pub fn absorb(&mut self, other: Traits) {
        for (key, (value, created_at)) in other.0 {
            if self.0.get(&key).is_none_or(|(_, since)| *since < created_at) {
                self.0.insert(key, (value, created_at));
            }
        }
    }

    pub(super) fn get(&self, path: &JsonPath) -> Value {
        self.present(path).map_or(Value::Null, |value| read_steps(value, &path.keys[1..], path.as_text))
    }

    /// Returns the JSON at a path.
    pub(super) fn json(&self, path: &JsonPath) -> Option<&serde_json::Value> {
        find(self.present(path)?, &path.keys[1..])
    }

    /// Returns the value of the key that the path begins with; `None` for a removed key.
    fn present(&self, path: &JsonPath) -> Option<&serde_json::Value> {
        self.0.get(path.root_key()).map(|(value, _)| value).filter(|value| !value.is_null())
    }

    /// Returns since when the key that the path begins with has its value or is removed.
    pub(super) fn since(&self, path: &JsonPath) -> Option<Timestamp> {
        self.0.get(path.root_key()).map(|(_, since)| *since)
    }

    /// Returns each key with its value and since when it has it; `null` for removed keys.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &serde_json::Value, Timestamp)> {
        self.0.iter().map(|(key, (value, since))| (key.as_str(), value, *since))
    }
}
