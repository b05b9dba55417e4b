use std::sync::Arc;

use ethnum::I256;

use crate::accumulator::funnel::Entry;
use crate::accumulator::{Accumulator, Contribution, ENTRIES_MAX, NewestK, Order, Pending, Rank};
use crate::decimal::Decimal;
use crate::event::{Event, Position};
use crate::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use crate::language::compile;
use crate::machine::user::User;
use crate::machine::{Definition, Machine, Rule, Settings, SnapshotError};
use crate::time::Timestamp;
use crate::value::Value;

const DAY: i64 = 86_400_000_000;
const USER: UserId = UserId(1);
const CLAUSES: [&str; 8] = [
    "count(*) > 0",
    "count(*) FILTER (WHERE created_at > now() - INTERVAL '7 days') >= 3",
    "count(*) FILTER (WHERE processed_at > now() - INTERVAL '7 days') >= 3",
    "sum(order_total) FILTER (WHERE created_at > now() - INTERVAL '7 days') > 100",
    "max(order_total) > 5",
    "count(DISTINCT url) >= 3",
    "funnel(INTERVAL '3 days', url = 'a', url = 'b') = 2",
    "funnel(INTERVAL '3 days', url = 'a', url = 'b') FILTER (WHERE created_at < now() - INTERVAL '1 day') = 2",
];

fn machine() -> Machine {
    let mut machine = Machine::new(Settings::default());
    for (id, clause) in (1..).zip(CLAUSES) {
        let rule: Rule = compile(clause).unwrap().into();
        let (tag, where_statement) = (format!("s{id}"), clause.to_owned());
        let definition = Definition { id: SegmentId(id), tag, version: SegmentVersion(1), where_statement, rule };
        machine.define(definition, 0, Timestamp(0));
        machine.activate(SegmentId(id), SegmentVersion(1), Timestamp(0));
    }
    machine
}

fn event(machine: &mut Machine, at: i64) {
    let event = Event {
        user_id: USER,
        event_id: None,
        client_ref_id: "u".into(),
        id_type: None,
        region: None,
        device_type: None,
        country: None,
        activity_type: None,
        url: Some("a".into()),
        order_total: Some(Decimal::from_int(7)),
        order_id: None,
        element_id: None,
        created_at: Timestamp(at),
        processed_at: Timestamp(at),
        payload: Arc::new(serde_json::json!({})),
        position: Position { partition: PartitionId(0), offset: 0 },
    };
    assert!(machine.event(&event, false, Timestamp(at)));
    machine.settle();
}

/// Returns the block of a user of whom everything is kept, after `change` changed them.
fn block(change: impl FnOnce(&mut User)) -> Vec<u8> {
    let mut machine = machine();
    event(&mut machine, DAY);
    change(machine.users[0].as_mut().unwrap());
    machine.save_user(USER).unwrap()
}

/// Changes each accumulator of one kind. Clauses of this test keep all kinds.
macro_rules! each {
    ($kind:ident, $inner:ident => $change:expr) => {
        block(|user| {
            let mut changed = 0;
            for (_, accumulator) in &mut user.accumulators {
                if let Accumulator::$kind($inner) = accumulator {
                    $change;
                    changed += 1;
                }
            }
            assert!(changed > 0);
        })
    };
}

fn each_of_another_kind() -> Vec<u8> {
    block(|user| {
        user.accumulators.iter_mut().for_each(|(_, accumulator)| *accumulator = Accumulator::Sum(Box::default()))
    })
}

#[test]
fn a_block_with_counters_that_no_machine_can_reach_is_refused() {
    let just_too_many = i64::MAX.unsigned_abs() + 1;
    let amounts = |amount: i128| std::iter::once((Timestamp(9 * DAY), amount)).collect();
    let no_step = Entry { created_at: Timestamp(DAY), until: Timestamp::MAX, steps: 1 << 15 };
    let no_steps = || {
        let from = Timestamp(9 * DAY);
        let (value, order) = (Value::Int(1 << 16), Order::created(from));
        Pending(std::iter::once((from, Contribution { from, until: Timestamp::MAX, value, order })).collect())
    };
    let refused = [
        ("the sequence", block(|user| user.sequence = u64::MAX)),
        ("the sequence, just so", block(|user| user.sequence = just_too_many)),
        ("a count", each!(Count, count => count.for_ever = just_too_many)),
        ("a count beyond its cap", each!(Count, count => count.for_ever = count.cap.saturating_add(1))),
        ("a cap", each!(Count, count => count.cap = 7)),
        ("a capacity", each!(NewestK, newest_k => *newest_k = NewestK::of(newest_k.newest().to_vec(), 0))),
        (
            "more than the capacity",
            each!(NewestK, newest_k => *newest_k = NewestK::of(vec![0; 9], newest_k.capacity())),
        ),
        ("the count of a sum", each!(Sum, sum => sum.count = just_too_many)),
        ("fewer amounts than will end", each!(Sum, sum => sum.count = 0)),
        ("a total", each!(Sum, sum => sum.total = I256::MAX)),
        ("a negative total", each!(Sum, sum => sum.total = I256::MIN)),
        ("a total of one amount", each!(Sum, sum => sum.total = I256::from(Decimal::MAX.scaled()) + 1)),
        ("an amount", each!(Sum, sum => sum.ending = amounts(i128::MAX))),
        ("a rank", each!(Extreme, extreme => extreme.rank = Rank::Latest)),
        ("the cap of values", each!(Distinct, distinct => distinct.cap = u64::MAX)),
        ("the steps", each!(Funnel, funnel => funnel.steps = 200)),
        ("the interval", each!(Funnel, funnel => funnel.within = -1)),
        ("a step", each!(Funnel, funnel => funnel.entries = vec![no_step].into())),
        ("a waiting step", each!(Funnel, funnel => funnel.pending = no_steps())),
        ("the entries", each!(Count, count => count.ends = vec![Timestamp(9 * DAY); ENTRIES_MAX + 1].into())),
        ("the kind", each_of_another_kind()),
    ];
    for (what, block) in refused {
        let loaded = machine().load_user(&block);
        assert!(matches!(loaded, Err(SnapshotError::Format(_) | SnapshotError::Counter)), "{what}");
    }
}

#[test]
fn a_block_with_the_greatest_counters_is_read_and_they_can_grow() {
    let greatest = i64::MAX.unsigned_abs();
    let blocks = [
        block(|_| ()),
        block(|user| user.sequence = greatest),
        each!(Sum, sum => (sum.count, sum.total) = (greatest, I256::from(greatest) * I256::from(Decimal::MAX.scaled()))),
        each!(Count, count => count.for_ever = count.cap.min(greatest)),
    ];
    for block in blocks {
        let mut machine = machine();
        machine.load_user(&block).unwrap();
        for day in 2..6 {
            event(&mut machine, day * DAY);
        }
        assert!(machine.advance(Timestamp(90 * DAY), usize::MAX));
        assert!(!machine.take_changes().is_empty());
    }
}

#[test]
fn a_machine_outside_the_range_of_time_is_refused() {
    for now in [i64::MAX, i64::MIN + 1] {
        let mut machine = machine();
        machine.settle();
        machine.now = Timestamp(now);
        let loaded = Machine::load_state(&machine.save_state(), 0, Settings::default());
        assert!(matches!(loaded, Err(SnapshotError::Format(_))), "{now}");
    }
    let machine = Machine::new(Settings::default());
    assert!(Machine::load_state(&machine.save_state(), 0, Settings::default()).is_ok());
}
