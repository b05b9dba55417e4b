//! What a checkpoint holds: a machine, a user, a user on the way to another machine.

use segment_engine::ids::{SegmentId, SegmentVersion};
use segment_engine::language::compile;
use segment_engine::machine::{Definition, Machine, Rule, Settings};
use segment_engine::time::Timestamp;

/// One leaf of every kind of state.
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

fn machine() -> Machine {
    let at = Timestamp(1_770_000_000_000_000);
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
                let _ = machine.advance(Timestamp(1_780_000_000_000_000), 1_000);
                let _ = machine.take_changes();
            }
        }
        _ => {
            let machine = machine();
            if let Ok(departed) = machine.load_departed(bytes) {
                let saved = machine.save_departed(&departed);
                assert!(machine.load_departed(&saved).is_ok());
            }
        }
    }
}
