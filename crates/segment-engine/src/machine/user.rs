//! What the machine knows of one user.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Cause;
use super::limited::Limited;
use super::recent::RecentIds;
use super::store::StoreId;
use crate::eval::{find, read_steps};
use crate::event::UserId;
use crate::leaf::State;
use crate::plan::{JsonPath, UserColumn};
use crate::time::Timestamp;
use crate::value::Value;

/// One user of a machine.
#[derive(Clone, Debug)]
pub struct User {
    pub(super) id: UserId,
    /// The client id first seen for the user.
    pub(super) client_ref_id: Option<Box<str>>,
    pub(super) profile: Profile,
    pub(super) traits: Traits,
    /// The manual segments the user is in.
    pub(super) manual: ManualList,
    pub(super) recent: RecentIds,
    /// By store.
    pub(super) states: Vec<(StoreId, State)>,
    /// Which of those lack events.
    pub(super) limited: Limited,
    /// Indexes of the segments the user is told to be in, ascending.
    pub(super) members: Vec<u32>,
    /// The number of notifications told so far.
    pub(super) sequence: u64,
    /// When to look at a segment again: at most one entry a segment, never later than its next flip.
    pub(super) wakeups: Vec<(Timestamp, u32)>,
    /// The instant the calendar will wake the user at; any other wake-up is stale.
    pub(super) armed: Timestamp,
    /// Segments to look at when the instant is complete.
    pub(super) dirty: Vec<u32>,
    pub(super) dirty_cause: Option<Cause>,
    /// Segments that it was in and that were removed in this instant: ids, since their indexes may mean others by now.
    pub(super) left_by_removal: Vec<i64>,
    /// Whether it changed since the last checkpoint.
    pub(super) changed: bool,
    /// Who was merged into it.
    pub(super) sources: Vec<Source>,
    /// How large it was when it was last measured, see [`super::tally`].
    pub(super) measured_bytes: usize,
}

/// A user's memberships of manual segments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualList {
    /// Of two lists of a user the one with the greater version holds, whichever comes first: a list that a merge makes takes
    /// another way than one that is set.
    #[serde(default)]
    pub version: u64,
    /// Ids of manual segments.
    pub segments: Vec<i64>,
}

/// A user merged into another, as the other sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The absorbed user.
    pub user: UserId,
    /// The survivor has its records below this offset of the absorbed user's partition.
    pub below: u64,
}

impl User {
    pub(super) fn new(id: UserId) -> Self {
        Self {
            id,
            client_ref_id: None,
            profile: Profile::default(),
            traits: Traits::default(),
            manual: ManualList::default(),
            recent: RecentIds::default(),
            states: Vec::new(),
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

    /// Takes a source, or more of one it has; answers how far it had it.
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

    pub(super) fn is_member(&self, segment: u32) -> bool {
        self.members.binary_search(&segment).is_ok()
    }

    pub(super) fn set_member(&mut self, segment: u32, member: bool) {
        match (self.members.binary_search(&segment), member) {
            (Err(at), true) => self.members.insert(at, segment),
            (Ok(at), false) => {
                self.members.remove(at);
            }
            _ => {}
        }
    }

    pub(super) fn state(&self, store: StoreId) -> Option<&State> {
        let at = self.states.binary_search_by_key(&store, |(id, _)| *id).ok()?;
        Some(&self.states[at].1)
    }

    pub(super) fn state_mut(&mut self, store: StoreId) -> Option<&mut State> {
        let at = self.states.binary_search_by_key(&store, |(id, _)| *id).ok()?;
        Some(&mut self.states[at].1)
    }

    pub(super) fn state_or(&mut self, store: StoreId, empty: impl FnOnce() -> State) -> &mut State {
        let at = match self.states.binary_search_by_key(&store, |(id, _)| *id) {
            Ok(at) => at,
            Err(at) => {
                self.states.insert(at, (store, empty()));
                at
            }
        };
        &mut self.states[at].1
    }

    /// Looks at `segment` again at `due`, or earlier if that is already agreed. Answers whether that is news, which a
    /// checkpoint must have: nothing else would wake the user after a restart.
    pub(super) fn wake_at(&mut self, segment: u32, due: Timestamp) -> bool {
        if due == Timestamp::MAX {
            return false;
        }
        match self.wakeups.iter_mut().find(|(_, other)| *other == segment) {
            Some((agreed, _)) if *agreed <= due => return false,
            Some((agreed, _)) => *agreed = due,
            None => self.wakeups.push((due, segment)),
        }
        true
    }

    pub(super) fn next_wakeup(&self) -> Timestamp {
        self.wakeups.iter().map(|(due, _)| *due).min().unwrap_or(Timestamp::MAX)
    }
}

/// The columns of the user, as the config store has them. A user known from events only has none yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// `users.email`.
    pub email: Option<String>,
    /// `users.name`.
    pub name: Option<String>,
    /// `users.created_at`.
    pub created_at: Option<Timestamp>,
}

impl Profile {
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
    /// Sets a key, unless the present value is newer; of two as old the later record wins. `null` stays as the mark that
    /// the key was removed then. Answers whether it took effect.
    pub fn set(&mut self, key: &str, value: serde_json::Value, created_at: Timestamp) -> bool {
        match self.0.get(key) {
            Some((_, since)) if *since > created_at => false,
            _ => {
                self.0.insert(key.to_owned(), (value, created_at));
                true
            }
        }
    }

    /// Adds an absorbed user's: key by key the newer wins; of two as old the present one stays.
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

    /// The JSON at a path.
    pub(super) fn json(&self, path: &JsonPath) -> Option<&serde_json::Value> {
        find(self.present(path)?, &path.keys[1..])
    }

    /// The value of the key that the path begins with. The mark of a removed key is none: not even JSON's null.
    fn present(&self, path: &JsonPath) -> Option<&serde_json::Value> {
        self.0.get(path.root_key()).map(|(value, _)| value).filter(|value| !value.is_null())
    }

    /// Since when the key that the path begins with has its value, or none if it was removed.
    pub(super) fn since(&self, path: &JsonPath) -> Option<Timestamp> {
        self.0.get(path.root_key()).map(|(_, since)| *since)
    }

    /// Key, value, since when; removed keys included as `null`.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &serde_json::Value, Timestamp)> {
        self.0.iter().map(|(key, (value, since))| (key.as_str(), value, *since))
    }
}
