//! A dead letter that is replayed becomes the event that it would have been if it had been accepted at first.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::sync::Arc;

use ingestion_api::dead_letter::{self, DeadLetterError, Edit, Replay};
use ingestion_api::outcome::Outcome;
use ingestion_api::{Ingestion, Limits, Options, UnknownUsers};
use ports::clock::ManualClock;
use ports::log::{Log, Topic};
use ports_testkit::memory::{MemoryIdentities, MemoryLog};
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;
use serde_json::{Value, json};

/// Fields whose names mean something to a client, in our records, in both, or in neither.
const FIELDS: [&str; 38] = [
    r#""client_ref_id":"a""#,
    r#""client_ref_id":null"#,
    r#""client_r\u0065f_id":"a""#,
    r#""user_id":1"#,
    r#""user_id":null"#,
    r#""type":"merge""#,
    r#""dedupe_forever":true"#,
    r#""once":true"#,
    r#""received_at":"2020-01-01T00:00:00Z""#,
    r#""processed_at":[1.10,{}]"#,
    r#""id":"late""#,
    r#""\u0069d":"a""#,
    r#""id":null"#,
    r#""id_type":"cookie""#,
    r#""id_type":7"#,
    r#""region":"ü\u00fc""#,
    r#""country":null"#,
    r#""created_at":"2023-10-31T02:00:00.5+02:00""#,
    r#""created_at":"yesterday""#,
    r#""event_id":"e""#,
    r#""event_id":"""#,
    r#""payload":{"type":"own","url":"u"}"#,
    r#""payload":{ }"#,
    r#""payload":null"#,
    r#""payload":"text""#,
    r#""payload":{"order_total":"ten"}"#,
    r#""raw":"e30=""#,
    r#""data":{}"#,
    r#""error_type":1"#,
    r#""campaign":1.10"#,
    r#""":12345678901234567890123"#,
    r#""url":"beside""#,
    r#""activity_type":null"#,
    r#""order_total":"ten""#,
    r#""order_total":10.50"#,
    r#""n\u0000te":"\u0000""#,
    r#""region":"\ud83d""#,
    r#""event_id":"\u0000""#,
];

struct World {
    log: Arc<MemoryLog>,
    identities: Arc<MemoryIdentities>,
    ingestion: Ingestion,
}

impl World {
    /// With user 1, who has the id `a`.
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
        let log = Arc::new(MemoryLog::new(1, clock.clone()));
        let identities = Arc::new(MemoryIdentities::new(clock.clone()));
        identities.add_user("a");
        let ingestion = Ingestion::new(log.clone(), identities.clone(), clock, Limits::default(), UnknownUsers::Reject);
        Self { log, identities, ingestion }
    }

    /// The record of user 2's event, or the code it is refused with.
    async fn send(&self, event: &str) -> Result<String, String> {
        let processed = self.ingestion.process(&[event.as_bytes().into()], Options::default()).await.unwrap();
        self.record_or_code(processed.outcomes.into_iter().next().unwrap()).await
    }

    async fn replay(&self, offset: u64, edit: &Edit) -> Result<String, String> {
        match self.ingestion.replay(offset, edit, Options::default()).await {
            Ok(Replay::Sent(outcome)) => self.record_or_code(outcome).await,
            Ok(Replay::AcceptedBefore) => Err("BEFORE".to_owned()),
            Err(DeadLetterError::NotPatchable(_)) => Err("NOT_PATCHABLE".to_owned()),
            Err(error) => panic!("{error}"),
        }
    }

    async fn record_or_code(&self, outcome: Outcome) -> Result<String, String> {
        match outcome {
            Outcome::Accepted => Ok(self.events().await.pop().unwrap()),
            Outcome::Rejected(rejection) => Err(rejection.code.to_string()),
        }
    }

    async fn events(&self) -> Vec<String> {
        let batch = self.log.read(Topic::Events, PartitionId(0), 0, usize::MAX).await.unwrap();
        batch.records.into_iter().map(|record| String::from_utf8(record.value).unwrap()).collect()
    }

    /// Rejects the event of a user who is then created: the record of the error topic.
    async fn too_early(event: &str) -> (Self, Value) {
        let world = Self::new();
        world.send(event).await.unwrap_err();
        world.identities.add_user("late");
        let entry = dead_letter::show(&*world.log, 0).await.unwrap();
        (world, serde_json::from_str(entry.error.data.get()).unwrap())
    }
}

/// What acceptance says of the event if its user is there, the id of a replay taken for one of its own.
async fn direct(event: &str) -> Result<String, String> {
    let world = World::new();
    world.identities.add_user("late");
    world.send(event).await
}

async fn check(event: &str) {
    let expected = direct(event).await;
    if expected.as_ref().is_ok_and(|record| record.starts_with(r#"{"user_id":1,"#)) {
        return; // Not rejected: it is user 1's.
    }
    for edit in [Edit::None, Edit::MergePatch(json!({}))] {
        let (world, data) = World::too_early(event).await;
        assert!(data["user_id"].is_null(), "{event}: {data}");
        let found = world.replay(0, &edit).await;
        if found != Err("NOT_PATCHABLE".to_owned()) {
            let found = found.map(|record| record.replace(r#","event_id":"error_topic:0""#, ""));
            assert_eq!(found, expected, "{event} {edit:?}");
        }
    }
}

#[tokio::test]
async fn a_replay_gives_the_event_that_acceptance_would_have_given() {
    for first in FIELDS {
        for second in FIELDS {
            check(&format!("{{{first},{second}}}")).await;
            check(&format!(r#"{{{first},"id":"late",{second}}}"#)).await;
            check(&format!(r#"{{"id":"late","payload":{{"url":"v"}},{first},{second}}}"#)).await;
        }
    }
    let deep = "[".repeat(63) + &"]".repeat(63);
    check(&format!(r#"{{"id":"late","type":{deep},"payload":{{"a":1}}}}"#)).await;
    let event = |length: usize| format!(r#"{{"id":"late","type":1,"x":"{}"}}"#, "x".repeat(length));
    check(&event(Limits::default().event_bytes_max - event(0).len())).await;
}

#[tokio::test]
async fn the_record_of_an_event_has_its_shape_on_the_event_topic() {
    let (_, data) = World::too_early(
        r#"{"id":"late","user_id":1,"client_ref_id":"a","x":1,"payload":{"type":"own"},"type":"merge"}"#,
    )
    .await;
    let payload = json!({"user_id": 1, "client_ref_id": "a", "type": "own"});
    assert_eq!(data, json!({"user_id": null, "client_ref_id": "late", "x": 1, "payload": payload}));
}

#[tokio::test]
async fn edits_may_use_the_names_of_the_client_or_of_the_record() {
    let user = |record: String| serde_json::from_str::<Value>(&record).unwrap()["user_id"].clone();
    for (edit, expected) in [
        (Edit::MergePatch(json!({"id": "a"})), 1),
        (Edit::MergePatch(json!({"client_ref_id": "a"})), 1),
        (Edit::MergePatch(json!({"id": "late", "client_ref_id": "a"})), 2),
        (Edit::Replace(json!({"id": "a"})), 1),
        (Edit::Replace(json!({"client_ref_id": "a", "user_id": null})), 1),
        (Edit::Replace(json!({"client_ref_id": "a", "id": "late"})), 2),
    ] {
        let (world, _) = World::too_early(r#"{"id":"late","client_ref_id":"b"}"#).await;
        assert_eq!(user(world.replay(0, &edit).await.unwrap()), expected, "{edit:?}");
    }
}

#[tokio::test]
async fn an_event_that_dedupes_forever_does_so_when_it_is_replayed() {
    let sent = |event: &str| event.contains(r#""dedupe_forever":true"#);
    let forever = Options { dedupe_forever: true, ..Options::default() };
    for (event, options, edit, expected) in [
        (r#"{"id":"late","event_id":"e"}"#, forever, Edit::None, true),
        (
            r#"{"id":"late","event_id":"e","dedupe_forever":7}"#,
            forever,
            Edit::MergePatch(json!({"country": "US"})),
            true,
        ),
        (r#"{"id":"late""#, forever, Edit::Replace(json!({"id": "a", "event_id": "e"})), true),
        (r#"{"id":"late""#, forever, Edit::Replace(json!({"client_ref_id": "a", "dedupe_forever": true})), true),
        (r#"{"id":"late","event_id":"e","dedupe_forever":true}"#, Options::default(), Edit::None, false),
        (
            r#"{"id":"late","event_id":"e"}"#,
            Options::default(),
            Edit::MergePatch(json!({"dedupe_forever": true})),
            false,
        ),
    ] {
        let world = World::new();
        let processed = world.ingestion.process(&[event.as_bytes().into()], options).await.unwrap();
        assert!(matches!(processed.outcomes[0], Outcome::Rejected(_)));
        world.identities.add_user("late");
        let record = world.replay(0, &edit).await.unwrap();
        let payload = serde_json::from_str::<Value>(&record).unwrap()["payload"].to_string();
        assert_eq!(sent(&record.replace(&payload, "")), expected, "{event} {edit:?}: {record}");
    }
}
