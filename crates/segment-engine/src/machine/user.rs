//! What the machine knows of one user.

use serde::{Deserialize, Serialize};
use thin_vec::ThinVec;

use super::accumulator_key::AccumulatorId;
use super::change::Cause;
use super::index::SegmentIndex;
use super::limited::Limited;
use super::recent::RecentIds;
use super::saving::Mark;
use super::traits::Traits;
use super::wakeups::Wakeups;
use crate::accumulator::Accumulator;
use crate::ids::{ListVersion, SegmentId, UserId};
use crate::plan::UserColumn;
use crate::thin;
use crate::time::Timestamp;
use crate::value::Value;

/// One user of a machine: profile, traits, accumulators, memberships and wake-ups.
///
/// There are millions, most of them silent, so each part is at most a pointer that is not there for
/// users who do not have it. [`thin`] says how lists grow.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: UserId,
    /// The client id first seen for the user.
    pub(super) client_ref_id: Option<Box<str>>,
    profile: Option<Box<UserProfile>>,
    pub(super) traits: Traits,
    pub(super) recent: RecentIds,
    /// Ascending by id.
    pub(super) accumulators: ThinVec<(AccumulatorId, Accumulator)>,
    /// Indexes of the segments that the user is in, as emitted so far, ascending.
    pub(super) members: ThinVec<SegmentIndex>,
    /// How many changes were emitted so far.
    pub(super) sequence: u64,
    /// When to evaluate a segment again.
    pub(super) wakeups: Wakeups,
    /// The instant at which the timers wake the user, never later than the soonest wake-up; any
    /// other wake-up is stale.
    pub(super) armed: Timestamp,
    /// Segments to evaluate when the instant is complete.
    pub(super) dirty: ThinVec<SegmentIndex>,
    rare: Option<Box<Rare>>,
    /// The user's size when it was last measured, see [`super::tally`].
    pub(super) measured_bytes: u32,
    pub(super) dirty_cause: Option<Cause>,
    /// What checkpoints have of the user.
    pub(super) mark: Mark,
}

/// What hardly any user has.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare {
    /// The manual segments the user is in.
    pub(super) manual: ManualList,
    /// Which accumulators lack events.
    pub(super) limited: Limited,
    /// Ids of segments that the user was in and that were removed in this instant. Ids, because
    /// another segment may have the index by now.
    pub(super) left_by_removal: Vec<SegmentId>,
    /// The users that were merged into this one.
    pub(super) sources: Vec<Source>,
}

static NO_PROFILE: UserProfile = UserProfile { email: None, name: None, created_at: None };
static NOTHING_RARE: Rare = Rare {
    manual: ManualList { version: ListVersion(0), segments: Vec::new() },
    limited: Limited::NONE,
    left_by_removal: Vec::new(),
    sources: Vec::new(),
};

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
            profile: None,
            traits: Traits::default(),
            recent: RecentIds::default(),
            accumulators: ThinVec::new(),
            members: ThinVec::new(),
            sequence: 0,
            wakeups: Wakeups::default(),
            armed: Timestamp::MAX,
            dirty: ThinVec::new(),
            rare: None,
            measured_bytes: 0,
            dirty_cause: None,
            mark: Mark::default(),
        }
    }

    pub(super) fn profile(&self) -> &UserProfile {
        self.profile.as_deref().unwrap_or(&NO_PROFILE)
    }

    pub(super) fn set_profile(&mut self, profile: UserProfile) {
        self.profile = (profile != NO_PROFILE).then(|| Box::new(profile));
    }

    pub(super) fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING_RARE)
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Returns the same if there is any of it.
    pub(super) fn some_rare(&mut self) -> Option<&mut Rare> {
        self.rare.as_deref_mut()
    }

    /// Adds a source, or moves a known one further. Returns the offset it had before, or 0.
    pub(super) fn extend(&mut self, source: Source) -> u64 {
        let sources = &mut self.rare_mut().sources;
        match sources.iter_mut().find(|known| known.user == source.user) {
            Some(known) => {
                let had = known.below;
                known.below = had.max(source.below);
                had
            }
            None => {
                sources.push(source);
                0
            }
        }
    }

    pub(super) fn is_member(&self, segment: SegmentIndex) -> bool {
        self.members.binary_search(&segment).is_ok()
    }

    pub(super) fn set_member(&mut self, segment: SegmentIndex, member: bool) {
        match (self.members.binary_search(&segment), member) {
            (Err(at), true) => thin::insert(&mut self.members, at, segment),
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
                thin::insert(&mut self.accumulators, at, (accumulator, empty()));
                at
            }
        };
        &mut self.accumulators[at].1
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

#[cfg(test)]
mod tests {
    use super::*;

    /// With ten million users a byte is ten megabytes.
    #[test]
    fn a_user_takes_no_more_than_this() {
        assert_eq!(size_of::<Option<User>>(), 120);
        assert_eq!(size_of::<(AccumulatorId, Accumulator)>(), 24);
    }
}
