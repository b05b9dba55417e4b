//! The workload: segments and events from fixed seeds.

use std::sync::Arc;

use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;

/// Ranks from 0, with probability proportional to 1 / (rank + 1).
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    /// Has ranks from 0 to `n - 1`.
    pub(crate) fn new(n: usize) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = Vec::with_capacity(n);
        for rank in 0..n {
            sum += 1.0 / (rank + 1) as f64;
            cumulative.push(sum);
        }
        cumulative.iter_mut().for_each(|value| *value /= sum);
        Self(cumulative)
    }

    /// Picks a rank.
    pub(crate) fn pick(&self, random: &mut fastrand::Rng) -> usize {
        let at = random.f64();
        self.0.partition_point(|value| *value < at)
    }
}

/// The number of activities; lower numbers are more frequent.
pub(crate) const ACTIVITIES: usize = 50;
const CATEGORIES: usize = 200;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

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
    /// About 0.1 changes per event with 1,000 segments.
    pub(crate) const FEW_CHANGES: Self = Self::Selective { frequent_percent: 0 };
    /// About 0.8 changes per event with 1,000 segments.
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
    let days = 1 + random.u64(..30);
    format!(
        "count(*) FILTER (WHERE activity_type = 'a{activity}' AND element_id = 'c{category}' \
         AND created_at >= now() - INTERVAL '{days} days') >= 1"
    )
}

/// Returns the clauses of 1,000 segments with many changes, and more up to `count` that are as
/// selective but of elements that no event has: so the changes per event stay the same.
pub(crate) fn clauses_with_rare(count: usize) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(8);
    let mut all = clauses(1_000, Clauses::MANY_CHANGES);
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

/// Returns the client's id of a user.
pub(crate) fn client_id(user: u64) -> String {
    format!("{user:08x}-4bf7-b9db-fe4484c604a5")
}

/// Generates events as a site sends them, one per line of about 230 bytes, for the `users` users
/// from `first` on. They happen now.
pub(crate) struct Lines {
    random: fastrand::Rng,
    activities: Zipf,
    categories: Zipf,
    first: u64,
    users: u64,
    with_ids: bool,
}

impl Lines {
    /// Starts from a seed.
    pub(crate) fn new(seed: u64, first: u64, users: u64, with_ids: bool) -> Self {
        let (activities, categories) = (Zipf::new(ACTIVITIES), Zipf::new(CATEGORIES));
        Self { random: fastrand::Rng::with_seed(seed), activities, categories, first, users, with_ids }
    }

    /// Returns one event of each user as NDJSON.
    pub(crate) fn one_of_each(&mut self) -> String {
        (self.first..self.first + self.users).map(|user| self.of(user) + "\n").collect()
    }

    /// Returns the next event, without a line break.
    pub(crate) fn next(&mut self) -> String {
        let user = self.first + self.random.u64(..self.users);
        self.of(user)
    }

    fn of(&mut self, user: u64) -> String {
        let event_id = match self.with_ids {
            true => format!(r#""event_id":"{:016x}","#, self.random.u64(..)),
            false => String::new(),
        };
        format!(
            r#"{{"id":"{}","id_type":"cookie",{event_id}"region":"California","device_type":"mobile","country":"US","payload":{{"activity_type":"a{}","url":"https://shop.example/products/{}","order_total":"","order_id":"","element_id":"c{}"}}}}"#,
            client_id(user),
            self.activities.pick(&mut self.random),
            self.random.u64(..100_000),
            self.categories.pick(&mut self.random),
        )
    }

    /// Returns the next `count` events as NDJSON.
    pub(crate) fn body(&mut self, count: usize) -> String {
        (0..count).map(|_| self.next() + "\n").collect()
    }
}

/// The events of 90 days until now, as lines, in the order in which they happened. Users come in
/// sessions of about five events; some events are late by up to a day.
pub(crate) struct History {
    random: fastrand::Rng,
    activities: Zipf,
    categories: Zipf,
    users: u64,
    late_percent: u64,
    active: Vec<u64>,
    /// The instant of the next event, and between two of them, in microseconds.
    next_at: i64,
    step: i64,
    left: usize,
}

impl History {
    const DAYS: i64 = 90;

    /// Starts the history that ends at `now`.
    pub(crate) fn new(users: u64, events: usize, late_percent: u64, now: Timestamp) -> Self {
        let mut random = fastrand::Rng::with_seed(13);
        let active = (0..64).map(|_| random.u64(..users)).collect();
        Self {
            random,
            activities: Zipf::new(ACTIVITIES),
            categories: Zipf::new(CATEGORIES),
            users,
            late_percent,
            active,
            next_at: now.0 - Self::DAYS * DAY,
            step: Self::DAYS * DAY / events as i64,
            left: events,
        }
    }
}

impl Iterator for History {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.left = self.left.checked_sub(1)?;
        let random = &mut self.random;
        let place = random.usize(..self.active.len());
        if random.u64(..5) == 0 {
            self.active[place] = random.u64(..self.users);
        }
        let late = if random.u64(..100) < self.late_percent { random.i64(0..DAY) } else { 0 };
        let at = Timestamp(self.next_at - late);
        self.next_at += self.step;
        Some(format!(
            r#"{{"id":"{}","id_type":"cookie","region":"California","device_type":"mobile","country":"US","created_at":"{at}","payload":{{"activity_type":"a{}","url":"https://shop.example/products/{}","element_id":"c{}"}}}}"#,
            client_id(self.active[place]),
            self.activities.pick(random),
            random.u64(..100_000),
            self.categories.pick(random),
        ))
    }
}

/// Returns an event of one activity that happens now, or at `created_at`.
pub(crate) fn plain_event(user: u64, activity: &str, created_at: Option<Timestamp>) -> String {
    let created_at = created_at.map_or_else(String::new, |at| format!(r#""created_at":"{at}","#));
    let id = client_id(user);
    format!(r#"{{"id":"{id}","id_type":"cookie",{created_at}"payload":{{"activity_type":"{activity}"}}}}"#)
}

/// Returns `count` events of `users` users over 60 days, in order of receipt, in sessions of about
/// five events.
pub(crate) fn events(count: usize, users: u64) -> Vec<Event> {
    let mut random = fastrand::Rng::with_seed(11);
    let (activities, categories) = (Zipf::new(ACTIVITIES), Zipf::new(CATEGORIES));
    let payload = Arc::new(serde_json::json!({}));
    let step = 60 * DAY / count as i64;
    let mut active: Vec<u64> = (0..64).map(|_| random.u64(..users)).collect();
    (0..count)
        .map(|n| {
            let place = random.u64(..active.len() as u64) as usize;
            if random.u64(..5) == 0 {
                active[place] = random.u64(..users);
            }
            let at = Timestamp(1_700_000_000 * SECOND + n as i64 * step);
            // One event in a hundred is late by up to a day.
            let late = if random.u64(..100) == 0 { random.u64(..DAY as u64) as i64 } else { 0 };
            Event {
                user_id: UserId(active[place] as i64 + 1),
                event_id: None,
                client_ref_id: "c".into(),
                id_type: None,
                region: Some("California".into()),
                device_type: Some("mobile".into()),
                country: Some("US".into()),
                activity_type: Some(format!("a{}", activities.pick(&mut random)).into()),
                url: None,
                order_total: None,
                order_id: None,
                element_id: Some(format!("c{}", categories.pick(&mut random)).into()),
                created_at: Timestamp(at.0 - late),
                processed_at: at,
                payload: payload.clone(),
                position: Position { partition: PartitionId(0), offset: n as u64 },
            }
        })
        .collect()
}
