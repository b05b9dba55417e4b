//! Counts how many comparisons have a late event, a merge, an edit, … in their history.

use std::collections::{BTreeMap, BTreeSet};

use segment_engine::ids::UserId;

use crate::history::{Case, Effect, What, World};

/// Something in the history of a user or a segment up to an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An event of the user was received after one that was created later.
    Late,
    /// An event of the user was created later than it was received.
    Future,
    /// An event of the user was delivered again.
    Duplicate,
    Traits,
    /// Another user was merged into this one.
    Merge,
    /// The segment was defined again.
    Edit,
    Restart,
}

impl Kind {
    pub(crate) const ALL: [Kind; 7] =
        [Kind::Late, Kind::Future, Kind::Duplicate, Kind::Traits, Kind::Merge, Kind::Edit, Kind::Restart];
}

/// Adds how many (user, segment, instant)s of the case have each kind in their history. Returns how
/// many there are.
pub(crate) fn count(case: &Case, counts: &mut BTreeMap<Kind, usize>) -> usize {
    let mut seen = Seen::default();
    let mut steps = case.steps.iter().peekable();
    let mut asked = 0;
    for instant in &case.instants {
        while let Some(step) = steps.next_if(|step| step.at <= *instant) {
            let edited = matches!(&step.what, What::Segment { tag, clause: Some(_) } if !seen.defined.insert(tag));
            let effect = seen.world.apply(step);
            seen.note(&step.what, effect, edited);
        }
        let users = seen.world.users.len();
        for tag in seen.world.segments.keys() {
            asked += users;
            let of_segment = [(Kind::Edit, seen.edited.contains(tag.as_str())), (Kind::Restart, seen.restarted)];
            for (kind, _) in of_segment.iter().filter(|(_, is_so)| *is_so) {
                *counts.entry(*kind).or_default() += users;
            }
            for kind in seen.world.users.keys().filter_map(|id| seen.of_user.get(id)).flatten() {
                *counts.entry(*kind).or_default() += 1;
            }
        }
    }
    asked
}

#[derive(Default)]
struct Seen<'c> {
    world: World,
    of_user: BTreeMap<UserId, BTreeSet<Kind>>,
    defined: BTreeSet<&'c str>,
    edited: BTreeSet<&'c str>,
    restarted: bool,
}

impl<'c> Seen<'c> {
    fn note(&mut self, what: &'c What, effect: Effect, edited: bool) {
        match (what, effect) {
            (What::Restart, _) => self.restarted = true,
            (What::Segment { tag, .. }, _) if edited => {
                self.edited.insert(tag);
            }
            (_, Effect::Traits(id)) => self.note_of(id, Kind::Traits),
            (_, Effect::Event(event, false)) => self.note_of(event.user_id, Kind::Duplicate),
            (_, Effect::Event(event, true)) => {
                if event.created_at > event.processed_at {
                    self.note_of(event.user_id, Kind::Future);
                }
                let known = self.world.users.get(&event.user_id).into_iter().flat_map(|user| &user.events);
                if known.into_iter().any(|known| known.created_at > event.created_at) {
                    self.note_of(event.user_id, Kind::Late);
                }
            }
            (_, Effect::Merge { absorbed, survivor }) => {
                let kinds = self.of_user.remove(&absorbed).unwrap_or_default();
                self.of_user.entry(survivor).or_default().extend(kinds);
                self.note_of(survivor, Kind::Merge);
            }
            _ => {}
        }
    }

    fn note_of(&mut self, id: UserId, kind: Kind) {
        self.of_user.entry(id).or_default().insert(kind);
    }
}
