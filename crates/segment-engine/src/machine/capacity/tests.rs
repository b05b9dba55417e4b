use std::sync::Arc;

use crate::accumulator::ENTRIES_MAX;
use crate::event::{Event, Position};
use crate::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use crate::language::compile;
use crate::machine::{Cause, Definition, Failure, Machine, Settings};
use crate::time::Timestamp;

const BOT: UserId = UserId(1);
const HOUR: i64 = 3_600_000_000;
const FULL: i64 = ENTRIES_MAX as i64;
const VALUES: &str = "count(DISTINCT url) FILTER (WHERE created_at >= now() - INTERVAL '1 hour') = count(*)";
const SUM: &str = "sum(order_total) FILTER (WHERE created_at >= now() - INTERVAL '1 hour') > 5";
const EVER: &str = "count(DISTINCT url) <> count(*)";

fn define(machine: &mut Machine, id: i64, clause: &str) {
    let rule = compile(clause).unwrap().into();
    let definition = Definition {
        id: SegmentId(id),
        tag: format!("s{id}"),
        version: SegmentVersion(1),
        where_statement: clause.to_owned(),
        rule,
    };
    machine.define(definition, 0, machine.now());
    for accumulator in machine.incomplete() {
        machine.complete(accumulator);
    }
    machine.activate(SegmentId(id), SegmentVersion(1), machine.now());
    machine.settle();
}

fn machine() -> Machine {
    let mut machine = Machine::new(Settings::default());
    machine.advance(Timestamp(0), usize::MAX);
    [VALUES, SUM, EVER].into_iter().zip(1..).for_each(|(clause, id)| define(&mut machine, id, clause));
    machine
}

/// Events, each with its own address, one a microsecond.
fn send(machine: &mut Machine, user: UserId, numbers: std::ops::Range<i64>) {
    for n in numbers {
        let event = Event {
            user_id: user,
            event_id: None,
            client_ref_id: "bot".into(),
            id_type: None,
            region: None,
            device_type: None,
            country: None,
            activity_type: None,
            url: Some(format!("/{n}").into()),
            order_total: Some(crate::decimal::Decimal::from_int(1)),
            order_id: None,
            element_id: None,
            created_at: Timestamp(n),
            processed_at: Timestamp(n),
            payload: Arc::new(serde_json::Value::Null),
            position: Position { partition: PartitionId(0), offset: n as u64 },
        };
        machine.event(&event, false, Timestamp(n));
    }
    machine.settle();
}

fn reported(machine: &mut Machine) -> Vec<Vec<i64>> {
    machine
        .take_failures()
        .into_iter()
        .map(|Failure { segments, .. }| segments.iter().map(|id| id.0).collect())
        .collect()
}

fn limited(machine: &Machine) -> [bool; 3] {
    [1, 2, 3].map(|id| machine.explain(BOT, &format!("s{id}")).unwrap().conditions.iter().any(|report| report.limited))
}

fn restarted(machine: &Machine) -> Machine {
    let mut again = Machine::load_state(&machine.save_state(), 0, Settings::default()).unwrap();
    for user in machine.user_ids() {
        again.load_user(&machine.save_user(user).unwrap()).unwrap();
    }
    again
}

#[test]
fn a_full_accumulator_is_reported_once_per_user_and_segment() {
    let mut machine = machine();
    send(&mut machine, BOT, 0..FULL);
    assert_eq!((reported(&mut machine), limited(&machine)), (vec![], [false; 3]), "the bound itself is kept exactly");
    send(&mut machine, BOT, FULL..FULL + 1);
    let mut first = reported(&mut machine);
    first.sort_unstable();
    assert_eq!((first, limited(&machine)), (vec![vec![1], vec![2], vec![3]], [true; 3]));
    send(&mut machine, BOT, FULL + 1..FULL + 1_000);
    assert_eq!(reported(&mut machine), Vec::<Vec<i64>>::new());
    send(&mut machine, UserId(2), FULL + 1_000..FULL + 1_001);
    assert!(!machine.explain(UserId(2), "s1").unwrap().conditions[0].limited, "others are exact");

    let mut machine = restarted(&machine);
    assert_eq!(limited(&machine), [true; 3], "a checkpoint holds it");
    send(&mut machine, BOT, FULL + 1_001..FULL + 1_002);
    assert_eq!(reported(&mut machine), Vec::<Vec<i64>>::new(), "and that it was reported");
}

#[test]
fn an_accumulator_is_exact_again_when_the_refused_events_would_have_ended() {
    let mut machine = machine();
    send(&mut machine, BOT, 0..FULL + 10);
    assert_eq!(reported(&mut machine).len(), 3);
    // The last event left out counts up to and including an hour after.
    machine.advance(Timestamp(FULL + 9 + HOUR), usize::MAX);
    assert_eq!(limited(&machine), [true; 3]);
    machine.advance(Timestamp(FULL + 10 + HOUR), usize::MAX);
    assert_eq!(limited(&machine), [false, false, true], "what counts for ever is missing for ever");
    let start = FULL + 10 + HOUR;
    send(&mut machine, BOT, start..start + FULL);
    assert_eq!(reported(&mut machine), Vec::<Vec<i64>>::new());
    send(&mut machine, BOT, start + FULL..start + FULL + 10);
    let mut again = reported(&mut machine);
    again.sort_unstable();
    assert_eq!(again, [[1], [2]], "a new time beyond the bound is reported again");
}

#[test]
fn a_merged_user_lacks_what_either_lacked() {
    let mut machine = machine();
    send(&mut machine, BOT, 0..FULL - 10);
    send(&mut machine, UserId(2), FULL - 10..FULL + 10);
    let departed = machine.remove_user(UserId(2), Cause::Merge, Timestamp(FULL + 10)).unwrap();
    assert!(machine.absorb(BOT, departed, 9, Timestamp(FULL + 10)).is_empty());
    machine.settle();
    assert_eq!((reported(&mut machine).len(), limited(&machine)), (3, [true; 3]), "together they are too many");
    let departed = machine.remove_user(BOT, Cause::Merge, Timestamp(FULL + 10)).unwrap();
    let departed = machine.load_departed(&machine.save_departed(&departed)).unwrap();
    assert!(machine.absorb(BOT, departed, 9, Timestamp(FULL + 10)).is_empty());
    machine.settle();
    assert_eq!((reported(&mut machine).len(), limited(&machine)), (0, [true; 3]), "it goes with the user");
}
