//! Checkpoints outlive builds: this build reads every format that was ever released, from bytes
//! that an older build wrote.
//!
//! `format-N.txt` has, in hexadecimal, what a build of format N saved of the machine that [`world`]
//! makes: its state, its users, and a user on the way to another machine. Such a file is never
//! written again. A new format gets one with `WRITE_CHECKPOINT=format-N.txt cargo test -p
//! segment-engine --test checkpoints`. `scan-4.txt` is of a machine that reads history.
#![expect(clippy::unwrap_used)]
#![expect(clippy::disallowed_methods, reason = "the checkpoints are files")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use segment_engine::event::{Event, Position};
use segment_engine::ids::{ListVersion, PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::language::compile;
use segment_engine::machine::{
    self, Cause, Change, Definition, Filled, Machine, ManualList, PastEvent, Rule, SnapshotError, UserProfile,
};
use segment_engine::time::Timestamp;
use serde_json::json;

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// 2026-01-01.
const START: i64 = 20_454 * DAY;
const USERS: i64 = 5;
const MANUAL: i64 = 9_000;
const PENDING: i64 = 9_001;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints")
}

fn definition(id: i64, tag: &str, clause: Option<&str>) -> Definition {
    let rule = clause.map_or(Rule::Manual, |clause| compile(clause).unwrap().into());
    Definition {
        id: SegmentId(id),
        tag: tag.to_owned(),
        version: SegmentVersion(1),
        where_statement: clause.unwrap_or_default().to_owned(),
        rule,
    }
}

/// Returns the n-th event. Users, activities, strings, numbers and times vary; some events are
/// late, some are ahead.
fn event(n: i64, at: i64) -> Event {
    let text = |text: &str| Some(text.into());
    let activity = ["page_viewed", "product_purchased", "cart_viewed", "x"][n as usize % 4];
    let ahead = [0, -3 * DAY, -45 * DAY, 2 * DAY, -MINUTE][n as usize % 5];
    let payload = json!({"activity_type": activity, "price": n * 3, "n": n, "s": n.to_string(), "tags": ["a", n],
        "t": "2026-02-03T04:05:06Z", "a": "x", "cart": {"size": n % 4}, "plan": "pro", "active": n % 2 == 0});
    Event {
        user_id: UserId(1 + n % USERS),
        event_id: (n % 3 == 0).then(|| format!("e-{n}").into()),
        client_ref_id: format!("u{}", 1 + n % USERS).into(),
        id_type: text("cookie"),
        region: text(if n % 2 == 0 { "California" } else { "x" }),
        device_type: text(if n % 3 == 0 { "mobile" } else { "desktop" }),
        country: (n % 7 != 0).then(|| if n % 2 == 0 { "US".into() } else { "DE".into() }),
        activity_type: text(activity),
        url: Some(format!("/sale/{}", n % 6).into()),
        order_total: (n % 4 == 1).then(|| segment_engine::decimal::Decimal::from_int(n * 10)),
        order_id: None,
        element_id: None,
        created_at: Timestamp(at + ahead),
        processed_at: Timestamp(at),
        payload: Arc::new(payload),
        position: Position { partition: PartitionId(0), offset: n as u64 },
    }
}

fn profile(n: i64) -> UserProfile {
    UserProfile { email: Some(format!("u{n}@example.com")), name: None, created_at: Some(Timestamp(START)) }
}

/// A machine with every kind of clause, and a user on the way to another machine.
struct World {
    machine: Machine,
    departed: Vec<u8>,
}

fn world() -> World {
    let mut machine = Machine::new(machine::Settings::default());
    let at = Timestamp(START);
    let clauses = std::fs::read_to_string(folder().join("clauses.txt")).unwrap();
    for (id, clause) in (1..).zip(clauses.lines()) {
        machine.define(definition(id, &format!("s{id}"), Some(clause)), 0, at);
    }
    machine.define(definition(MANUAL, "by_hand", None), 0, at);
    for (id, version) in machine.ready() {
        machine.activate(id, version, at);
    }
    let users = (1..=USERS).map(|user| (user, START + user * MINUTE));
    for (user, at) in users {
        machine.profile(UserId(user), None, profile(user), Timestamp(at));
        let traits = json!({"plan": if user % 2 == 0 { "pro" } else { "free" }, "seats": user, "old": null});
        machine.traits(UserId(user), traits.as_object().unwrap(), Timestamp(at), Timestamp(at));
    }
    let list = ManualList { version: ListVersion(3), segments: vec![SegmentId(MANUAL)] };
    machine.manual(UserId(2), list, Cause::Manual, Timestamp(START + 10 * MINUTE));
    for n in 0..60 {
        let at = START + n * 7 * 60 * MINUTE;
        machine.event(&event(n, at), n % 6 == 0, Timestamp(at));
    }
    let at = Timestamp(START + 20 * DAY);
    let absorbed = machine.remove_user(UserId(4), Cause::Merge, at).unwrap();
    let departed = machine.save_departed(&absorbed);
    let lacking = machine.absorb(UserId(3), absorbed, 60, at);
    for accumulator in lacking {
        for n in (0..60).filter(|n| 1 + n % USERS == 4) {
            let event = Event { user_id: UserId(3), ..event(n, START + n * 7 * 60 * MINUTE) };
            machine.add_history(&[accumulator], UserId(4), &event);
        }
    }
    machine.define(definition(PENDING, "pending", Some("count(*) FILTER (WHERE url = '/pending') = 0")), 60, at);
    machine.settle();
    machine.take_changes();
    World { machine, departed }
}

/// Returns the changes afterwards. Everything in a checkpoint decides some of them.
fn later(machine: &mut Machine, departed: &[u8]) -> Vec<Change> {
    let departed = machine.load_departed(departed).unwrap();
    let at = Timestamp(START + 21 * DAY);
    let lacking = machine.absorb(UserId(5), departed, 60, at);
    for accumulator in lacking {
        for n in (0..60).filter(|n| 1 + n % USERS == 4) {
            let event = Event { user_id: UserId(5), ..event(n, START + n * 7 * 60 * MINUTE) };
            machine.add_history(&[accumulator], UserId(4), &event);
        }
    }
    for n in 60..80 {
        let at = START + (22 + n - 60) * DAY;
        machine.event(&event(n, at), false, Timestamp(at));
        // Sent before: by now the id is expired or not, or it is deduped forever.
        let again = Event { processed_at: Timestamp(at), ..event(n % 6 * 3, at) };
        machine.event(&again, n % 2 == 0, Timestamp(at));
    }
    machine.manual(
        UserId(2),
        ManualList { version: ListVersion(2), segments: Vec::new() },
        Cause::Manual,
        machine.now(),
    );
    while !machine.advance(Timestamp(START + 900 * DAY), 1_000) {}
    assert_eq!(machine.take_failures(), []);
    let mut changes = machine.take_changes();
    // At one instant users have no order.
    changes.sort_by_key(|change| (change.effective_at, change.user, change.sequence));
    changes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Returns a checkpoint as lines, each a kind and a block.
fn save(World { machine, departed }: &World) -> String {
    let mut text = format!("state {}\ndeparted {}\n", hex(&machine.save_state()), hex(departed));
    for user in 1..=USERS {
        if let Some(block) = machine.save_user(UserId(user)) {
            writeln!(text, "user {}", hex(&block)).unwrap();
        }
    }
    text
}

fn load(text: &str) -> World {
    let blocks = |kind| {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.filter(move |(found, _)| *found == kind).map(|(_, block)| bytes(block))
    };
    let mut machine = Machine::load_state(&blocks("state").next().unwrap(), 60, machine::Settings::default()).unwrap();
    for block in blocks("user") {
        machine.load_user(&block).unwrap();
    }
    World { machine, departed: blocks("departed").next().unwrap() }
}

/// Compares a machine that was loaded with the original one, now and in their later changes.
fn assert_same(mut read: World, name: &str) {
    let mut written = world();
    assert_eq!(read.machine.pending_version(SegmentId(PENDING)), Some(SegmentVersion(1)), "{name}");
    for user in (1..=USERS).map(UserId) {
        let memberships = written.machine.memberships(user);
        assert!(!memberships.is_empty() || user == UserId(4));
        assert_eq!(read.machine.memberships(user), memberships, "{name}, user {user}");
    }
    let expected = later(&mut written.machine, &written.departed);
    let found = later(&mut read.machine, &read.departed);
    assert!(expected.len() > 100, "{} changes", expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(found.len(), expected.len(), "{name}");
}

#[test]
fn every_format_is_read_and_the_machine_goes_on_like_the_original() {
    if let Some(name) = std::env::var_os("WRITE_CHECKPOINT") {
        let path = folder().join(name);
        assert!(!path.exists(), "a stored checkpoint is never written again");
        std::fs::write(path, save(&world())).unwrap();
    }
    for name in ["format-3.txt", "format-4.txt"] {
        let stored = std::fs::read_to_string(folder().join(name)).unwrap();
        assert_same(load(&stored), name);
        // This build writes it in its own format, with the same meaning.
        let again = save(&load(&stored));
        assert_same(load(&again), &format!("{name}, written again"));
    }
}

#[test]
fn this_build_writes_the_newest_format_unchanged() {
    let stored = std::fs::read_to_string(folder().join("format-4.txt")).unwrap();
    let state = |text: &str| text.lines().next().unwrap().to_owned();
    assert_eq!(state(&save(&world())), state(&stored), "the bytes of the state are the stored ones");
}

/// Returns a checkpoint in the middle of a scan: a past event was added, and one came live.
fn with_a_scan() -> String {
    let mut machine = Machine::new(machine::Settings::default());
    machine.profile(UserId(1), None, profile(1), Timestamp(START));
    machine.assume_history();
    machine.define(
        definition(1, "twice", Some("count(*) FILTER (WHERE url LIKE '/sale%') >= 2")),
        60,
        Timestamp(START),
    );
    let accumulators = machine.incomplete();
    let filled: Vec<Filled> = accumulators.iter().map(|id| Filled { accumulator: *id, below: u64::MAX }).collect();
    let past = |n| {
        let event = event(n, START);
        let Event { user_id, created_at, processed_at, .. } = event;
        PastEvent { user_id, created_at, processed_at, offset: n as u64, takers: 1, rest: Some(Box::new(event)) }
    };
    machine.add_scanned(&filled, PartitionId(0), &[past(5)]);
    machine.event(&event(60, START), false, Timestamp(START));
    machine.settle();
    assert!(machine.begin_saving(&accumulators));
    let state = machine.save_state();
    let users = machine.save_some(usize::MAX).into_iter().filter_map(|(_, block)| block);
    users.fold(format!("state {}\n", hex(&state)), |text, block| text + &format!("user {}\n", hex(&block)))
}

#[test]
fn what_a_scan_has_filled_is_written_unchanged_and_read() {
    let stored = std::fs::read_to_string(folder().join("scan-4.txt")).unwrap();
    assert_eq!(with_a_scan(), stored);
    let mut lines = stored.lines().map(|line| bytes(line.split_once(' ').unwrap().1));
    let mut machine = Machine::load_state(&lines.next().unwrap(), 61, machine::Settings::default()).unwrap();
    lines.for_each(|block| machine.load_user(&block).unwrap());
    let accumulators = machine.incomplete();
    let name = machine.accumulator_name(accumulators[0]).unwrap();
    assert_eq!(machine.restored_accumulator(name), Some(accumulators[0]));
    assert_eq!(machine.fence(&accumulators), Some(60), "where it was, and not where the checkpoint is");
    machine.complete(accumulators[0]);
    machine.activate(SegmentId(1), SegmentVersion(1), Timestamp(START));
    machine.settle();
    assert_eq!(machine.members(SegmentId(1)), [UserId(1)], "both events count");
}

#[test]
fn a_newer_format_is_not_reported_as_damage() {
    let World { mut machine, .. } = world();
    let newer = |mut block: Vec<u8>| {
        block[0] = 200;
        block
    };
    let block = newer(machine.save_user(UserId(1)).unwrap());
    assert!(matches!(machine.load_user(&block), Err(SnapshotError::Newer(200))));
    let state = newer(machine.save_state());
    assert!(matches!(Machine::load_state(&state, 0, machine::Settings::default()), Err(SnapshotError::Newer(200))));
    assert!(matches!(Machine::load_state(&[2, 0], 0, machine::Settings::default()), Err(SnapshotError::Format(_))));
}
