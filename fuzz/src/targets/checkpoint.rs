//! What a checkpoint holds: a machine, a user, a user on the way to another machine.

use std::sync::Arc;

use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::language::compile;
use segment_engine::machine::{Definition, Machine, Rule, Settings, SnapshotError};
use segment_engine::time::Timestamp;

/// One accumulator of every kind.
const CLAUSES: [&str; 9] = [
    "count(*) FILTER (WHERE region = 'a') > 2",
    "count(*) FILTER (WHERE created_at > now() - INTERVAL '7 days') > 2",
    "sum(order_total) > 100",
    "count(DISTINCT url) >= 3",
    "last(region) = 'a'",
    "max(order_total) FILTER (WHERE created_at > now() - INTERVAL '1 day') > 5",
    "avg(order_total) > 5",
    "funnel(INTERVAL '3 days', region = 'a', region = 'b') = 2",
    "traits->>'plan' = 'pro'",
];
const START: i64 = 1_770_000_000_000_000;
const DAY: i64 = 86_400_000_000;

fn machine() -> Machine {
    let at = Timestamp(START);
    let mut machine = Machine::new(Settings::default());
    for (id, clause) in (1..).zip(CLAUSES) {
        let rule: Rule = compile(clause).unwrap().into();
        let where_statement = clause.to_owned();
        machine.define(
            Definition { id: SegmentId(id), tag: format!("s{id}"), version: SegmentVersion(1), where_statement, rule },
            0,
            at,
        );
    }
    for (id, version) in machine.ready() {
        machine.activate(id, version, at);
    }
    machine
}

fn event(user_id: UserId, region: &str, at: i64) -> Event {
    Event {
        user_id,
        event_id: None,
        client_ref_id: "a".into(),
        id_type: None,
        region: Some(region.into()),
        device_type: None,
        country: None,
        activity_type: None,
        url: Some("/".into()),
        order_total: Some(segment_engine::decimal::Decimal::from_int(7)),
        order_id: None,
        element_id: None,
        created_at: Timestamp(at),
        processed_at: Timestamp(at),
        payload: Arc::new(serde_json::json!({})),
        position: Position { partition: PartitionId(0), offset: 0 },
    }
}

/// Goes on with a user that was read: everything that is kept of them is used, and grows.
fn go_on(machine: &mut Machine, user: UserId) {
    for (at, region) in [(START + DAY, "a"), (START + 2 * DAY, "b"), (START + DAY / 2, "a")] {
        machine.event(&event(user, region, at), false, Timestamp(START + 2 * DAY));
    }
    machine.settle();
    for number in 1..=CLAUSES.len() {
        assert!(machine.explain(user, &format!("s{number}")).is_some());
    }
    let _ = machine.advance(Timestamp(START + 90 * DAY), 1_000);
    machine.settle();
    let _ = (machine.take_changes(), machine.take_failures());
    let _is_whole = machine.begin_saving(&[]);
    let _ = machine.save_some(usize::MAX);
}

/// The first byte says which of the three the others are.
pub(crate) fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 3 {
        0 => {
            let Ok(machine) = Machine::load_state(bytes, 5, Settings::default()) else { return };
            let saved = machine.save_state();
            let again = Machine::load_state(&saved, 5, Settings::default()).unwrap();
            assert_eq!(again.save_state(), saved);
        }
        1 => {
            let mut machine = machine();
            if machine.load_user(bytes).is_ok() {
                let user = machine.user_ids().next().unwrap();
                go_on(&mut machine, user);
                let saved = machine.save_user(user).unwrap();
                // A counter at the end of its range, where no machine gets, went beyond it.
                let again = self::machine().load_user(&saved);
                assert!(matches!(again, Ok(_) | Err(SnapshotError::Counter)), "{again:?}");
            }
        }
        _ => {
            let mut machine = machine();
            if let Ok(departed) = machine.load_departed(bytes) {
                let saved = machine.save_departed(&departed);
                let again = machine.load_departed(&saved).unwrap();
                let survivor = UserId(1);
                // Twice, so that both merge with something.
                for departed in [departed, again] {
                    let _ = machine.absorb(survivor, departed, 5, Timestamp(START + DAY));
                }
                go_on(&mut machine, survivor);
            }
        }
    }
}
