//! SegBench's workload: segments and events from a fixed seed.

use std::sync::Arc;

use segment_engine::event::{Event, Position, UserId};
use segment_engine::time::Timestamp;

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, the same everywhere.
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, not including, `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// From 0 up to, not including, 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Ranks from 0, with probability proportional to 1 / (rank + 1).
pub struct Zipf(Vec<f64>);

impl Zipf {
    /// Over `n` ranks.
    pub fn new(n: usize) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = Vec::with_capacity(n);
        for rank in 0..n {
            sum += 1.0 / (rank + 1) as f64;
            cumulative.push(sum);
        }
        cumulative.iter_mut().for_each(|value| *value /= sum);
        Self(cumulative)
    }

    /// One rank.
    pub fn pick(&self, random: &mut Random) -> usize {
        let at = random.fraction();
        self.0.partition_point(|value| *value < at)
    }
}

/// How many activities there are; the first are the most frequent.
pub const ACTIVITIES: usize = 50;
const CATEGORIES: usize = 200;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// The clauses of `count` segments: thresholds over rolling windows of one activity, half of them of one category too.
pub fn clauses(count: usize) -> Vec<String> {
    let mut random = Random(7);
    let (activities, categories) = (Zipf::new(ACTIVITIES), Zipf::new(CATEGORIES));
    (0..count)
        .map(|_| {
            let activity = activities.pick(&mut random);
            let category = match random.below(2) {
                0 => String::new(),
                _ => format!(" AND element_id = 'c{}'", categories.pick(&mut random)),
            };
            let (k, days) = (1 + random.below(10), 1 + random.below(30));
            let quiet = match random.below(4) {
                0 => {
                    " AND count(*) FILTER (WHERE activity_type = 'a1' AND created_at >= now() - INTERVAL '7 days') = 0"
                }
                _ => "",
            };
            format!(
                "count(*) FILTER (WHERE activity_type = 'a{activity}'{category} \
                 AND created_at >= now() - INTERVAL '{days} days') >= {k}{quiet}"
            )
        })
        .collect()
}

/// `count` events of `users` users over 60 days, in order of receipt: sessions of about five events.
pub fn events(count: usize, users: u64) -> Vec<Event> {
    let mut random = Random(11);
    let (activities, categories) = (Zipf::new(ACTIVITIES), Zipf::new(CATEGORIES));
    let payload = Arc::new(serde_json::json!({}));
    let step = 60 * DAY / count as i64;
    let mut active: Vec<u64> = (0..64).map(|_| random.below(users)).collect();
    (0..count)
        .map(|n| {
            let place = random.below(active.len() as u64) as usize;
            if random.below(5) == 0 {
                active[place] = random.below(users);
            }
            let at = Timestamp(1_700_000_000 * SECOND + n as i64 * step);
            // One event in a hundred is late by up to a day.
            let late = if random.below(100) == 0 { random.below(DAY as u64) as i64 } else { 0 };
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
                position: Position { partition: 0, offset: n as u64 },
            }
        })
        .collect()
}
