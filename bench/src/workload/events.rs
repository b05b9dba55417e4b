//! Events as the engine has them.

use std::sync::Arc;

use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;

use super::{ACTIVITIES, CATEGORIES, DAY, MILLISECOND, SECOND, Zipf};

/// What is unusual about events, each as a percentage of them.
#[derive(Clone, Copy)]
pub(crate) struct Mix {
    /// Late by up to a day.
    pub late: u64,
    /// Of one and the same user.
    pub hot: u64,
}

impl Mix {
    /// One event in a hundred is late.
    pub(crate) const USUAL: Self = Self { late: 1, hot: 0 };
    /// Every event is received when it happens.
    pub(crate) const IN_ORDER: Self = Self { late: 0, hot: 0 };
}

/// Generates events of 60 days in order of receipt, in sessions of about five events. The instants of
/// receipt are different whole milliseconds.
pub(crate) struct Events {
    random: fastrand::Rng,
    activities: Zipf,
    categories: Zipf,
    payload: Arc<serde_json::Value>,
    users: u64,
    active: Vec<u64>,
    mix: Mix,
    step: i64,
    count: u64,
    done: u64,
}

impl Events {
    /// Generates `count` events of `users` users.
    pub(crate) fn new(count: usize, users: u64, mix: Mix) -> Self {
        let mut random = fastrand::Rng::with_seed(11);
        let active = (0..64).map(|_| random.u64(..users)).collect();
        let step = 60 * DAY / count as i64;
        Self {
            random,
            activities: Zipf::new(ACTIVITIES),
            categories: Zipf::new(CATEGORIES),
            payload: Arc::new(serde_json::json!({})),
            users,
            active,
            mix,
            step: (step - step % MILLISECOND).max(MILLISECOND),
            count: count as u64,
            done: 0,
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let number = self.done;
        if number == self.count {
            return None;
        }
        self.done += 1;
        let random = &mut self.random;
        let place = random.usize(..self.active.len());
        if random.u64(..5) == 0 {
            self.active[place] = random.u64(..self.users);
        }
        let user = if random.u64(..100) < self.mix.hot { 0 } else { self.active[place] };
        let at = Timestamp(1_700_000_000 * SECOND + number as i64 * self.step);
        let late = if random.u64(..100) < self.mix.late { random.i64(0..DAY) } else { 0 };
        Some(Event {
            user_id: UserId(user as i64 + 1),
            event_id: None,
            client_ref_id: "c".into(),
            id_type: None,
            region: Some("California".into()),
            device_type: Some("mobile".into()),
            country: Some("US".into()),
            activity_type: Some(format!("a{}", self.activities.pick(random)).into()),
            url: None,
            order_total: None,
            order_id: None,
            element_id: Some(format!("c{}", self.categories.pick(random)).into()),
            created_at: Timestamp(at.0 - late),
            processed_at: at,
            payload: self.payload.clone(),
            position: Position { partition: PartitionId(0), offset: number },
        })
    }
}
