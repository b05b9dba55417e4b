//! The records that users, administrators and the config store send to the log.

use std::collections::BTreeSet;

use ports::log::{Topic, partition_of};
use ports::records::ConfigRecord;
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::time::Timestamp;
use serde_json::{Value, json};

use crate::{PARTITIONS, USERS, World};

const CLAUSES: [&str; 14] = [
    "count(*) >= 5",
    "count(*) FILTER (WHERE activity_type = 'a') >= 2",
    "count(*) FILTER (WHERE activity_type = 'b') >= 3",
    "count(*) FILTER (WHERE activity_type = 'a' AND created_at >= now() - INTERVAL '40 seconds') >= 2",
    "count(*) FILTER (WHERE created_at < now() - INTERVAL '25 seconds') BETWEEN 2 AND 6",
    "count(DISTINCT order_total) >= 4",
    "sum(order_total) FILTER (WHERE activity_type <> 'c') >= 20",
    "count(*) FILTER (WHERE user_id <= 4) >= 3",
    "last(activity_type) = 'b'",
    "funnel(INTERVAL '20 seconds', activity_type = 'a', activity_type = 'b', order_total > 2) >= 3",
    "funnel(INTERVAL '9 seconds', activity_type = 'a', TRUE) FILTER (WHERE created_at >= now() - INTERVAL '30 seconds') = 2",
    "traits->>'plan' = 'pro' AND count(*) >= 2",
    "segment('by hand') AND count(*) >= 3",
    "NOT segment('by hand too') AND count(*) FILTER (WHERE created_at >= now() - INTERVAL '30 seconds') >= 1",
];
const TAGS: i64 = 5;

/// Manual segments, by id.
pub(crate) const MANUAL: [(SegmentId, &str); 2] = [(SegmentId(101), "by hand"), (SegmentId(102), "by hand too")];

#[derive(Clone)]
pub(crate) struct Saved {
    pub tag: String,
    pub version: SegmentVersion,
    pub clause: &'static str,
}

impl World {
    /// Sends an event of any user id, as if it was resolved before the latest merges, or an earlier
    /// event again.
    pub(crate) async fn event(&mut self) {
        let again = !self.sent.is_empty() && self.random.u64(..6) == 0;
        let (user, event_id) = if again {
            let index = self.random.u64(..self.sent.len() as u64) as usize;
            self.sent[index].clone()
        } else {
            let user = 1 + self.random.u64(..USERS as u64) as i64;
            (user, format!("e-{}", self.sent.len()))
        };
        let activity = ["a", "b", "c"][self.random.u32(..3) as usize];
        let event = json!({
            "user_id": user, "client_ref_id": format!("client-{user}"), "id_type": "cookie", "event_id": event_id,
            "payload": {"activity_type": activity, "order_total": self.random.u64(..8)}, "received_at": "",
            "dedupe_forever": self.random.u64(..5) == 0,
        });
        if !again {
            self.sent.push((user, event_id));
        }
        self.append(Topic::Events, partition_of(UserId(user), PARTITIONS), &event).await;
    }

    pub(crate) async fn merge(&mut self) {
        let alive: Vec<i64> = self.survivors.iter().filter(|(user, now)| user == now).map(|(user, _)| *user).collect();
        if alive.len() < 3 {
            return;
        }
        let absorbed = alive[self.random.u64(..alive.len() as u64) as usize];
        let survivor = alive[self.random.u64(..alive.len() as u64) as usize];
        if absorbed == survivor {
            return;
        }
        self.survivors.values_mut().filter(|now| **now == absorbed).for_each(|now| *now = survivor);
        let manual = self.merge_lists(survivor, absorbed);
        let record = json!({"type": "merge", "user_id": absorbed, "survivor": survivor, "manual": manual});
        self.append(Topic::Events, partition_of(UserId(absorbed), PARTITIONS), &record).await;
    }

    /// Adds the absorbed user's manual segments to the survivor's, and returns the survivor's list
    /// if that changed it.
    fn merge_lists(&mut self, survivor: i64, absorbed: i64) -> Option<Value> {
        let (_, theirs) = self.lists.remove(&absorbed)?;
        let (version, ours) = self.lists.entry(survivor).or_default();
        if theirs.is_subset(ours) {
            return None;
        }
        *version += 1;
        ours.extend(theirs);
        Some(json!({"version": version, "segments": ours}))
    }

    /// Defines the manual segments.
    pub(crate) async fn define_manual(&mut self) {
        for (id, tag) in MANUAL {
            let tag = tag.to_owned();
            let record = ConfigRecord::Segment {
                id,
                tag,
                version: SegmentVersion(1),
                where_statement: String::new(),
                manual: true,
            };
            self.append(Topic::Config, PartitionId::ONLY, &serde_json::to_value(record).unwrap()).await;
        }
    }

    /// Sets a user's manual segments. The config store would resolve a merged user to the survivor
    /// first.
    pub(crate) async fn set_list(&mut self) {
        let Some(user) = self.any_survivor() else { return };
        let (version, list) = self.lists.entry(user).or_default();
        let chosen = self.random.u64(..1 << MANUAL.len());
        *version += 1;
        *list = (0..).zip(MANUAL).filter(|(bit, _)| chosen >> bit & 1 == 1).map(|(_, (id, _))| id).collect();
        let record = json!({"type": "manual", "user_id": user, "version": version, "segments": list});
        self.append(Topic::Events, partition_of(UserId(user), PARTITIONS), &record).await;
    }

    /// Sets traits of any user id, each with its own instant, not in order.
    pub(crate) async fn set_traits(&mut self) {
        let user = 1 + self.random.u64(..USERS as u64) as i64;
        let plan = ["pro", "free"][self.random.u32(..2) as usize];
        let at = Timestamp((self.random.u64(..1 << 20) << 10) as i64 + self.plans.len() as i64);
        self.plans.push((user, plan, at));
        let record = json!({"type": "traits", "user_id": user, "traits": {"plan": plan}, "created_at": at});
        self.append(Topic::Events, partition_of(UserId(user), PARTITIONS), &record).await;
    }

    fn any_survivor(&mut self) -> Option<i64> {
        let alive: BTreeSet<i64> = self.survivors.values().copied().collect();
        alive.iter().nth(self.random.u64(..alive.len().max(1) as u64) as usize).copied()
    }

    /// Deletes a user and those that were merged into it.
    pub(crate) async fn delete(&mut self) {
        let alive: BTreeSet<i64> = self.survivors.values().copied().collect();
        if alive.len() < 5 || self.random.u64(..3) > 0 {
            return;
        }
        let user = *alive.iter().nth(self.random.u64(..alive.len() as u64) as usize).unwrap();
        let one: Vec<i64> =
            self.survivors.iter().filter(|(_, now)| **now == user).map(|(absorbed, _)| *absorbed).collect();
        for user in one {
            self.survivors.remove(&user);
            self.lists.remove(&user);
            let record = json!({"type": "delete", "user_id": user});
            self.append(Topic::Events, partition_of(UserId(user), PARTITIONS), &record).await;
        }
    }

    pub(crate) async fn change_segment(&mut self) {
        let id = SegmentId(1 + self.random.u64(..TAGS as u64) as i64);
        let record = if self.segments.contains_key(&id) && self.random.u64(..4) == 0 {
            self.segments.remove(&id);
            ConfigRecord::SegmentDeleted { id }
        } else {
            self.version += 1;
            let clause = CLAUSES[self.random.u32(..CLAUSES.len() as u32) as usize];
            let saved = Saved { tag: self.tag_for(id), version: SegmentVersion(self.version), clause };
            self.segments.insert(id, saved.clone());
            let Saved { tag, version, .. } = saved;
            ConfigRecord::Segment { id, tag, version, where_statement: clause.to_owned(), manual: false }
        };
        self.append(Topic::Config, PartitionId::ONLY, &serde_json::to_value(record).unwrap()).await;
    }

    /// Returns the segment's own tag or, now and then, a free one, which another segment may just
    /// have given up.
    fn tag_for(&mut self, id: SegmentId) -> String {
        let own = self.segments.get(&id).map(|saved| saved.tag.clone());
        if let (Some(tag), 1..) = (own, self.random.u64(..3)) {
            return tag;
        }
        let others: Vec<String> =
            self.segments.iter().filter(|(other, _)| **other != id).map(|(_, saved)| saved.tag.clone()).collect();
        let free: Vec<String> = (0..=TAGS).map(|tag| format!("t{tag}")).filter(|tag| !others.contains(tag)).collect();
        free[self.random.u64(..free.len() as u64) as usize].clone()
    }
}
