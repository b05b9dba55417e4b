use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{Event, Position};
use crate::ids::{ListVersion, PartitionId, SegmentId, SegmentVersion, UserId};
use crate::language::compile;
use crate::machine::{Cause, Definition, Machine, ManualList, Rule, Settings};
use crate::time::Timestamp;

const SECOND: i64 = 1_000_000;
const RECENT: &str = "count(*) FILTER (WHERE created_at >= now() - INTERVAL '10 seconds') > 0";

fn define(machine: &mut Machine, id: i64, version: u64, clause: Option<&str>, at: i64) {
    let rule = clause.map_or(Rule::Manual, |clause| compile(clause).unwrap().into());
    let where_statement = clause.unwrap_or_default().to_owned();
    let definition = Definition {
        id: SegmentId(id),
        tag: format!("s{id}"),
        version: SegmentVersion(version),
        where_statement,
        rule,
    };
    machine.define(definition, 0, Timestamp(at));
    for accumulator in machine.incomplete() {
        machine.complete(accumulator);
    }
    machine.activate(SegmentId(id), SegmentVersion(version), Timestamp(at));
    machine.settle();
}

fn event(user: i64, url: &str, at: i64) -> Event {
    Event {
        user_id: UserId(user),
        event_id: Some(format!("{user}-{at}").into()),
        client_ref_id: format!("client {user}").into(),
        id_type: None,
        region: None,
        device_type: None,
        country: None,
        activity_type: None,
        url: Some(url.into()),
        order_total: None,
        order_id: None,
        element_id: None,
        created_at: Timestamp(at),
        processed_at: Timestamp(at),
        payload: Arc::new(serde_json::json!({})),
        position: Position { partition: PartitionId(0), offset: 0 },
    }
}

/// The counts by segment, after comparing each with the members themselves.
fn counts(machine: &mut Machine) -> BTreeMap<i64, u64> {
    machine.settle();
    let counted: BTreeMap<i64, u64> = machine.segment_counts().map(|count| (count.id.0, count.members)).collect();
    for (segment, members) in &counted {
        assert_eq!(*members, machine.members(SegmentId(*segment)).len() as u64, "of segment {segment}");
    }
    assert_eq!(machine.user_count(), machine.user_ids().count());
    counted
}

/// Returns the machine as it is after a restart.
fn restored(machine: &mut Machine) -> Machine {
    let users: Vec<Vec<u8>> = machine.user_ids().filter_map(|id| machine.save_user(id)).collect();
    let mut restored = Machine::load_state(&machine.save_state(), 0, Settings::default()).unwrap();
    for user in users {
        restored.load_user(&user).unwrap();
    }
    restored
}

fn machine_of_three_users() -> Machine {
    let mut machine = Machine::new(Settings::default());
    define(&mut machine, 1, 1, Some(RECENT), 0);
    define(&mut machine, 2, 1, Some("count(DISTINCT url) >= 2"), 0);
    define(&mut machine, 3, 1, None, 0);
    for (user, url, at) in [(1, "/a", 1), (2, "/a", 2), (2, "/b", 3), (3, "/a", 4)] {
        machine.event(&event(user, url, at * SECOND), false, Timestamp(at * SECOND));
    }
    let list = ManualList { version: ListVersion(1), segments: vec![SegmentId(3)] };
    machine.manual(UserId(1), list, Cause::Manual, Timestamp(5 * SECOND));
    machine
}

#[test]
fn members_are_counted_whatever_makes_them_come_and_go() {
    let mut machine = machine_of_three_users();
    assert_eq!(counts(&mut machine), [(1, 3), (2, 1), (3, 1)].into(), "by events and by hand");
    machine.advance(Timestamp(12 * SECOND), usize::MAX);
    assert_eq!(counts(&mut machine)[&1], 2, "by time");
    // The clause of segment 1, whose accumulators exist already: no history is read.
    define(&mut machine, 2, 2, Some(RECENT), 12 * SECOND);
    assert_eq!(counts(&mut machine), [(1, 2), (2, 2), (3, 1)].into(), "by an edit");

    let mut machine = restored(&mut machine);
    assert_eq!(counts(&mut machine), [(1, 2), (2, 2), (3, 1)].into(), "in another process");
    let departed = machine.remove_user(UserId(2), Cause::Merge, Timestamp(12 * SECOND)).unwrap();
    assert_eq!(counts(&mut machine), [(1, 1), (2, 1), (3, 1)].into(), "without the merged user");
    assert!(machine.absorb(UserId(1), departed, 9, Timestamp(12 * SECOND)).is_empty());
    assert_eq!(counts(&mut machine), [(1, 2), (2, 2), (3, 1)].into(), "with its events under the survivor");
    machine.reconcile(UserId(1), &[SegmentId(2)], 9, Cause::Repair);
    assert_eq!(counts(&mut machine), [(1, 2), (2, 2), (3, 1)].into(), "after a repair");

    machine.remove_segment(SegmentId(1), Timestamp(13 * SECOND));
    assert_eq!(counts(&mut machine), [(2, 2), (3, 1)].into(), "a deleted segment is not counted");
    define(&mut machine, 1, 3, Some(RECENT), 13 * SECOND);
    assert_eq!(counts(&mut machine)[&1], 2, "and nothing of it is left when its tag comes back");
    for user in 1..=3 {
        machine.remove_user(UserId(user), Cause::Delete, Timestamp(14 * SECOND));
    }
    assert_eq!(counts(&mut machine), [(1, 0), (2, 0), (3, 0)].into());
}

#[test]
fn a_segment_is_counted_under_its_newest_version() {
    let mut machine = machine_of_three_users();
    let rule = compile("count(DISTINCT url) >= 7").unwrap().into();
    let definition = Definition {
        id: SegmentId(2),
        tag: "many".to_owned(),
        version: SegmentVersion(2),
        where_statement: String::new(),
        rule,
    };
    machine.define(definition, 9, Timestamp(5 * SECOND));
    machine.settle();
    assert_eq!(machine.is_pending(SegmentId(2)), Some(true));
    let count = machine.segment_counts().find(|count| count.id == SegmentId(2)).unwrap();
    assert_eq!(
        (count.tag.as_str(), count.version, count.members),
        ("many", SegmentVersion(2), 1),
        "the members are the old version's"
    );
}

fn save(machine: &mut Machine) {
    let _is_whole = machine.begin_saving(&[]);
    while !machine.save_some(1).is_empty() {}
}

#[test]
fn memory_is_measured_at_each_checkpoint() {
    let mut machine = machine_of_three_users();
    machine.settle();
    assert_eq!(machine.state_bytes(), 0, "before the first");
    save(&mut machine);
    let small = machine.state_bytes();
    assert!(small > 0);
    for n in 0..100 {
        let at = (6 + n) * SECOND;
        machine.event(&event(3, &format!("/a-rather-long-page/{n}"), at), false, Timestamp(at));
    }
    machine.settle();
    assert_eq!(machine.state_bytes(), small, "between two");
    save(&mut machine);
    let large = machine.state_bytes();
    assert!(large > small + 100 * "/a-rather-long-page/".len(), "{small}, then {large}");
    save(&mut machine);
    assert_eq!(machine.state_bytes(), large, "nothing changed");

    let again = restored(&mut machine);
    assert!(again.state_bytes() > small, "known at once after a restart: {}", again.state_bytes());
    machine.remove_segment(SegmentId(2), Timestamp(200 * SECOND));
    assert!(machine.state_bytes() < large, "accumulators that no segment reads are dropped");
    for user in 1..=3 {
        machine.remove_user(UserId(user), Cause::Delete, Timestamp(200 * SECOND));
    }
    assert_eq!(machine.state_bytes(), 0);
}
