//! Checks at the end of a test: the topics, the config store and SQL must agree.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a failed step is a failed test")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};

use crate::support::{Server, eventually, micros};

/// When an event was received and created, by the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub received: i64,
    pub created: i64,
}

/// Returns the first delivery of each event, by user, and the users of all deliveries, by event id.
pub(crate) fn events(records: &[Value]) -> (HashMap<i64, Vec<Seen>>, HashMap<String, Vec<i64>>) {
    let mut by_user: HashMap<i64, Vec<Seen>> = HashMap::new();
    let mut deliveries: HashMap<String, Vec<i64>> = HashMap::new();
    let mut counted = HashSet::new();
    for record in records {
        let event = &record["value"];
        let Some(event_id) = event["event_id"].as_str() else { continue };
        let user = event["user_id"].as_i64().unwrap();
        deliveries.entry(event_id.to_owned()).or_default().push(user);
        if counted.insert((user, event_id.to_owned())) {
            let received = micros(&record["appendedAt"]);
            let created = if event["created_at"].is_null() { received } else { micros(&event["created_at"]) };
            by_user.entry(user).or_default().push(Seen { received, created });
        }
    }
    (by_user, deliveries)
}

/// Returns when `count(*) FILTER (WHERE created_at >= now() - window) >= least` becomes true and
/// false. It counts at every instant at which the count can change.
pub(crate) fn flips(events: &[Seen], window: i64, least: usize) -> Vec<(bool, i64)> {
    let instants: BTreeSet<i64> = events.iter().flat_map(|seen| [seen.received, seen.created + window + 1]).collect();
    let (mut member, mut flips) = (false, Vec::new());
    for now in instants {
        let counts = |seen: &&Seen| seen.received <= now && seen.created >= now - window;
        let holds = events.iter().filter(counts).count() >= least;
        if holds != member {
            flips.push((holds, now));
        }
        member = holds;
    }
    flips
}

/// A user's notifications, folded.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// By segment: whether the user entered or left, and when.
    pub transitions: BTreeMap<i64, Vec<(bool, i64)>>,
    pub members: BTreeSet<i64>,
    last: (u64, i64),
}

/// Folds the notifications. Checks that sequences have no gaps, time never goes back, enter and
/// leave alternate, and there are no repairs.
pub(crate) fn histories(notifications: &[Value]) -> HashMap<i64, History> {
    let mut histories: HashMap<i64, History> = HashMap::new();
    for record in notifications {
        let notification = &record["value"];
        let history = histories.entry(notification["user_id"].as_i64().unwrap()).or_default();
        let (sequence, at) = (notification["sequence"].as_u64().unwrap(), micros(&notification["effective_at"]));
        assert_eq!(sequence, history.last.0 + 1, "no gap and no repetition: {notification}");
        assert!(at >= history.last.1, "time never goes back: {notification}");
        assert_ne!(
            notification["cause"], "repair",
            "recovery found other memberships than were emitted: {notification}"
        );
        history.last = (sequence, at);
        for (name, enters) in [("out_segments", false), ("in_segments", true)] {
            for segment in notification[name].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()) {
                let changed = if enters { history.members.insert(segment) } else { history.members.remove(&segment) };
                assert!(changed, "enter and leave alternate: {notification}");
                history.transitions.entry(segment).or_default().push((enters, at));
            }
        }
    }
    histories
}

/// Checks that the config store has the folded notifications, and that SQL finds the same members.
pub(crate) async fn memberships(server: &Server, histories_of: &HashMap<i64, History>) {
    let stored = server.get("/users?fresh=true").await.body;
    for user in stored["data"].as_array().unwrap() {
        let id = user["id"].as_i64().unwrap();
        let stored = user["segments"].as_array().unwrap().iter();
        let stored: BTreeSet<i64> = stored.map(|membership| membership["segmentId"].as_i64().unwrap()).collect();
        let folded = histories_of.get(&id).map(|history| history.members.clone()).unwrap_or_default();
        assert_eq!(stored, folded, "segments of user {id}: left the config store, right the notifications");
    }
    let segments = server.get("/segments").await.body;
    for segment in segments["data"].as_array().unwrap() {
        let (id, clause) = (segment["id"].as_i64().unwrap(), &segment["whereStatement"]);
        server.in_force(id).await;
        server.segments_of(1).await;
        eventually(&format!("SQL finds the members of {segment}"), async || {
            let emitted = histories(&server.records("user_segment_notification_topic").await);
            let emitted: BTreeSet<i64> =
                emitted.iter().filter(|(_, history)| history.members.contains(&id)).map(|(user, _)| *user).collect();
            let response =
                server.post("/segments/preview?fresh=true", &json!({"whereStatement": clause, "sample": 100})).await;
            let sample =
                response.body["data"]["sample"].as_array().unwrap_or_else(|| panic!("{}", response.body)).iter();
            let found: BTreeSet<i64> = sample.map(|user| user["id"].as_i64().unwrap()).collect();
            (found == emitted).then_some(())
        })
        .await;
    }
}
