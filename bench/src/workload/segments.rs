//! Segments: where clauses over rolling windows of days.

use super::{ACTIVITIES, CATEGORIES, Zipf};

/// A kind of segments.
#[derive(Clone, Copy)]
pub(crate) enum Clauses {
    /// Thresholds over frequent activities, half of them also of one category. Each event changes
    /// several memberships.
    Broad,
    /// Each of one activity and one category. This percentage of them has frequent pairs, the
    /// others any.
    Selective { frequent_percent: u64 },
}

impl Clauses {
    /// About 0.8 changes per event with 1,000 segments.
    pub(crate) const GOAL: Self = Self::Selective { frequent_percent: 15 };
    /// About 0.1 changes per event with 1,000 segments.
    pub(crate) const FEW_CHANGES: Self = Self::Selective { frequent_percent: 0 };
    /// About 1.3 changes per event with 1,000 segments.
    pub(crate) const MANY_CHANGES: Self = Self::Selective { frequent_percent: 20 };
}

/// Returns the clauses of `count` segments, all over rolling windows.
pub(crate) fn clauses(count: usize, kind: Clauses) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(7);
    let frequent = (Zipf::new(ACTIVITIES), Zipf::new(CATEGORIES));
    (0..count)
        .map(|_| match kind {
            Clauses::Broad => broad(&mut random, &frequent),
            Clauses::Selective { frequent_percent } => {
                let is_frequent = random.u64(..100) < frequent_percent;
                selective(&mut random, is_frequent.then_some(&frequent))
            }
        })
        .collect()
}

fn broad(random: &mut fastrand::Rng, (activities, categories): &(Zipf, Zipf)) -> String {
    let activity = activities.pick(random);
    let category = match random.u64(..2) {
        0 => String::new(),
        _ => format!(" AND element_id = 'c{}'", categories.pick(random)),
    };
    let (k, days) = (1 + random.u64(..10), 1 + random.u64(..30));
    let quiet = match random.u64(..4) {
        0 => " AND count(*) FILTER (WHERE activity_type = 'a1' AND created_at >= now() - INTERVAL '7 days') = 0",
        _ => "",
    };
    format!(
        "count(*) FILTER (WHERE activity_type = 'a{activity}'{category} \
         AND created_at >= now() - INTERVAL '{days} days') >= {k}{quiet}"
    )
}

fn selective(random: &mut fastrand::Rng, frequent: Option<&(Zipf, Zipf)>) -> String {
    let (activity, category) = match frequent {
        Some((activities, categories)) => (activities.pick(random), categories.pick(random)),
        None => (random.u64(..ACTIVITIES as u64) as usize, random.u64(..CATEGORIES as u64) as usize),
    };
    Rolling { activity, category, days: 1 + random.u64(..30), at_least: 1 }.clause()
}

/// At least so many events of one activity and one category in the last days.
#[derive(Clone, Copy)]
pub(crate) struct Rolling {
    activity: usize,
    category: usize,
    pub days: u64,
    pub at_least: u64,
}

impl Rolling {
    /// Returns the activity's name.
    pub(crate) fn activity(self) -> String {
        format!("a{}", self.activity)
    }

    /// Returns the category's name.
    pub(crate) fn category(self) -> String {
        format!("c{}", self.category)
    }

    /// Returns the where clause.
    pub(crate) fn clause(self) -> String {
        let Self { activity, category, days, at_least } = self;
        format!(
            "count(*) FILTER (WHERE activity_type = 'a{activity}' AND element_id = 'c{category}' \
             AND created_at >= now() - INTERVAL '{days} days') >= {at_least}"
        )
    }
}

/// Returns `count` segments for the comparison with other systems: frequent activities and
/// categories, and thresholds of 1 to 3.
pub(crate) fn rolling(count: usize) -> Vec<Rolling> {
    let mut random = fastrand::Rng::with_seed(17);
    let (activities, categories) = (Zipf::new(ACTIVITIES), Zipf::new(CATEGORIES));
    (0..count)
        .map(|_| Rolling {
            activity: activities.pick(&mut random),
            category: categories.pick(&mut random),
            days: 1 + random.u64(..30),
            at_least: 1 + random.u64(..3),
        })
        .collect()
}

/// Returns the clauses of the first `busy` segments with many changes, and more up to `count` that
/// are as selective but of elements that no event has: so the changes per event stay the same.
pub(crate) fn clauses_with_rare(busy: usize, count: usize) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(8);
    let mut all = clauses(busy, Clauses::MANY_CHANGES);
    let rare = (all.len()..count).map(|number| {
        let (activity, days) = (random.u64(..ACTIVITIES as u64), 1 + random.u64(..30));
        format!(
            "count(*) FILTER (WHERE activity_type = 'a{activity}' AND element_id = 'rare{number}' \
             AND created_at >= now() - INTERVAL '{days} days') >= 1"
        )
    });
    all.extend(rare);
    all
}

/// Returns the clauses of segments that every event enters, and that time ends before the user's
/// next event, if that is more than a second later.
pub(crate) fn entered_by_every_event(count: usize) -> Vec<String> {
    (1..=count)
        .map(|k| format!("count(*) FILTER (WHERE created_at >= now() - INTERVAL '{} milliseconds') >= 1", 500 + k))
        .collect()
}
