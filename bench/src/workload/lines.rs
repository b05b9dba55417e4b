//! Events as clients send them: lines of JSON.

use segment_engine::time::Timestamp;

use super::{ACTIVITIES, CATEGORIES, DAY, Zipf, client_id};

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
/// sessions of about five events, each at least once if there are ten events a user; some events are
/// late by up to a day.
pub(crate) struct History {
    random: fastrand::Rng,
    activities: Zipf,
    categories: Zipf,
    users: u64,
    /// How many have come: those with lower numbers.
    come: u64,
    late_percent: u64,
    active: Vec<Option<u64>>,
    /// The instant of the next event, and between two of them, in microseconds.
    next_at: i64,
    step: i64,
    left: usize,
}

impl History {
    const DAYS: i64 = 90;

    /// Starts the history that ends at `now`.
    pub(crate) fn new(users: u64, events: usize, late_percent: u64, now: Timestamp) -> Self {
        Self {
            random: fastrand::Rng::with_seed(13),
            come: 0,
            activities: Zipf::new(ACTIVITIES),
            categories: Zipf::new(CATEGORIES),
            users,
            late_percent,
            active: vec![None; 64],
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
        let user = match self.active[place] {
            Some(user) if random.u64(..5) > 0 => user,
            // More than half of the sessions are of somebody new, until all have come.
            _ if self.come < self.users && (self.come == 0 || random.u64(..100) < 55) => {
                self.come += 1;
                self.come - 1
            }
            _ => random.u64(..self.come),
        };
        self.active[place] = Some(user);
        let late = if random.u64(..100) < self.late_percent { random.i64(0..DAY) } else { 0 };
        let at = Timestamp(self.next_at - late);
        self.next_at += self.step;
        Some(format!(
            r#"{{"id":"{}","id_type":"cookie","region":"California","device_type":"mobile","country":"US","created_at":"{at}","payload":{{"activity_type":"a{}","url":"https://shop.example/products/{}","element_id":"c{}"}}}}"#,
            client_id(user),
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
