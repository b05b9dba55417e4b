//! The suite of the warehouse port, without SQL, which [`warehouse_sql`](super::warehouse_sql)
//! covers.

use std::sync::Arc;

use async_trait::async_trait;
use segment_engine::decimal::Decimal;
use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::machine::Receipt;
use segment_engine::time::Timestamp;
use serde_json::json;

use super::warehouse_history;
use ports::warehouse::{
    ArchiveBatch, ArchiveRow, Departure, HistoryOf, TraitsRow, UserRow, Warehouse, WarehouseError, archived,
};

/// Beyond every offset.
const ALL: u64 = u64::MAX >> 1;

/// A place for one warehouse. Opening it again, after the previous handle was dropped, finds what
/// was stored.
#[async_trait]
pub trait WarehousePlace: Send + Sync {
    /// Opens the warehouse, or creates it.
    async fn open(&self) -> Arc<dyn Warehouse>;
}

/// Runs the whole suite; `place` returns an empty place at each call.
pub async fn suite<P: WarehousePlace>(place: impl Fn() -> P) {
    let open = async || place().open().await;
    positions_move_by_compare_and_set(&*open().await).await;
    concurrent_batches_are_written_once(open().await).await;
    events_come_back_as_they_were(&*open().await).await;
    many_events_of_every_shape_come_back(&*open().await).await;
    batches_of_many_partitions_do_not_mix(open().await).await;
    history_is_returned_per_id_in_order(&*open().await).await;
    warehouse_history::cases(&open).await;
    receipts_are_found(&*open().await).await;
    users_are_listed(&*open().await).await;
    departures_are_stored(&*open().await).await;
    a_chain_of_merges_is_resolved_in_any_order(&*open().await).await;
    deleted_users_leave_nothing(&*open().await).await;
    a_wipe_changes_no_result(&place()).await;
    reopening_keeps_everything(&place()).await;
}

/// Returns an event with no optional fields. Adapters' own tests start from it too.
pub fn event(user: i64, partition: u32, offset: u64) -> Event {
    Event {
        user_id: UserId(user),
        event_id: None,
        client_ref_id: format!("client of {user}").into(),
        id_type: None,
        region: None,
        device_type: None,
        country: None,
        activity_type: None,
        url: None,
        order_total: None,
        order_id: None,
        element_id: None,
        created_at: Timestamp(1_700_000_000_000_000),
        processed_at: Timestamp(1_700_000_000_000_000 + offset as i64),
        payload: Arc::new(json!({})),
        position: Position { partition: PartitionId(partition), offset },
    }
}

pub(super) fn user(id: i64, email: &str) -> ArchiveRow {
    let created_at = Timestamp(1_600_000_000_000_000);
    let (client_ref_id, email) = (Some(format!("client of {id}")), Some(email.to_owned()));
    ArchiveRow::User(UserRow { id: UserId(id), client_ref_id, email, name: None, created_at })
}

pub(super) fn alias(absorbed: i64, survivor: i64) -> ArchiveRow {
    ArchiveRow::Alias { absorbed: UserId(absorbed), survivor: UserId(survivor) }
}

pub(super) fn row(event: Event) -> ArchiveRow {
    ArchiveRow::Event { event: Box::new(archived(event)), dedupe_forever: false }
}

/// Writes rows to a partition at its archive position.
pub(super) async fn archive(warehouse: &dyn Warehouse, partition: u32, rows: Vec<ArchiveRow>) {
    let partition = PartitionId(partition);
    let from_offset = warehouse.archive_position(partition).await.unwrap();
    let to_offset = from_offset + rows.len() as u64 + 1;
    let rows = (from_offset..).zip(rows).collect();
    warehouse.archive(ArchiveBatch { partition, from_offset, to_offset, rows }).await.unwrap();
}

pub(super) fn part(user: i64, from: u64, below: u64) -> HistoryOf {
    HistoryOf { user: UserId(user), from, below }
}

/// Returns the events of (user, below), which are few.
async fn history(warehouse: &dyn Warehouse, parts: &[(i64, u64)]) -> Vec<Event> {
    let parts: Vec<HistoryOf> = parts.iter().map(|(user, below)| part(*user, 0, *below)).collect();
    let read = warehouse.history(&parts, 1 << 20).await.unwrap();
    assert_eq!(read.left, [], "the bound is far away");
    read.events
}

/// Returns user and offset of the events archived under these ids.
async fn offsets(warehouse: &dyn Warehouse, users: &[i64]) -> Vec<(i64, u64)> {
    let parts: Vec<(i64, u64)> = users.iter().map(|user| (*user, ALL)).collect();
    let events = history(warehouse, &parts).await;
    events.iter().map(|event| (event.user_id.0, event.position.offset)).collect()
}

async fn users(warehouse: &dyn Warehouse) -> Vec<i64> {
    warehouse.users(None, 1_000).await.unwrap().iter().map(|user| user.0).collect()
}

async fn positions_move_by_compare_and_set(warehouse: &dyn Warehouse) {
    assert_eq!(warehouse.archive_position(PartitionId(1)).await.unwrap(), 0);
    let batch = |from_offset, to_offset, offset| ArchiveBatch {
        partition: PartitionId(1),
        from_offset,
        to_offset,
        rows: vec![(offset, user(offset as i64, "e")), (offset + 1, row(event(7, 1, offset)))],
    };
    warehouse.archive(batch(0, 10, 3)).await.unwrap();
    for (from, what) in [(0, "again"), (9, "from before"), (11, "from beyond")] {
        let refused = warehouse.archive(batch(from, 20, 12)).await;
        let moved = matches!(refused, Err(WarehouseError::Moved { found: 10, expected }) if expected == from);
        assert!(moved, "{what}: {refused:?}");
    }
    assert_eq!(warehouse.archive_position(PartitionId(1)).await.unwrap(), 10, "a refused batch moves nothing");
    assert_eq!(offsets(warehouse, &[7]).await, [(7, 3)], "and writes nothing");
    assert_eq!(users(warehouse).await, [3]);
    warehouse.archive(batch(10, 11, 10)).await.unwrap();
    warehouse
        .archive(ArchiveBatch { partition: PartitionId(1), from_offset: 11, to_offset: 99, rows: vec![] })
        .await
        .unwrap();
    assert_eq!(warehouse.archive_position(PartitionId(1)).await.unwrap(), 99, "without rows too");
    assert_eq!(warehouse.archive_position(PartitionId(0)).await.unwrap(), 0, "partitions are independent");
}

async fn concurrent_batches_are_written_once(warehouse: Arc<dyn Warehouse>) {
    let tasks = (0..12).map(|n: u32| {
        let warehouse = warehouse.clone();
        let partition = n % 3;
        let rows = vec![(0, row(event(5, partition, 0))), (1, user(5, "e"))];
        let batch = ArchiveBatch { partition: PartitionId(partition), from_offset: 0, to_offset: 1, rows };
        tokio::spawn(async move { warehouse.archive(batch).await })
    });
    let mut written = 0;
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(()) => written += 1,
            Err(WarehouseError::Moved { found: 1, expected: 0 }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(written, 3, "one for each partition");
    assert_eq!(history(&*warehouse, &[(5, ALL)]).await.len(), 3);
}

async fn events_come_back_as_they_were(warehouse: &dyn Warehouse) {
    let text = |text: &str| Some(text.into());
    let full = Event {
        event_id: text("e-1"),
        client_ref_id: "".into(),
        id_type: text("cookie"),
        region: text("Île-de-France \u{1f5fc}"),
        device_type: text(""),
        country: text("a'b\"c\\d\n"),
        activity_type: text("product_purchased"),
        url: text("http://x?y=%20"),
        order_total: Decimal::parse("-12345678901234567890123456789.123456789"),
        order_id: text("NULL"),
        element_id: text("7"),
        created_at: Timestamp(-1),
        processed_at: Timestamp(1_700_000_000_123_456),
        payload: Arc::new(json!({"deep": {"list": [1, 2.5, null, "\u{0} \u{20ac}"]}, "big": u64::MAX, "": {}})),
        position: Position { partition: PartitionId(2), offset: u64::from(u32::MAX) + 5 },
        ..event(i64::MAX, 0, 0)
    };
    let far = Event { created_at: Timestamp(4_102_444_800_000_001), ..event(i64::MIN, 0, 1) };
    let zero = Event { order_total: Decimal::parse("0"), ..event(-4, 0, 2) };
    let written = [full, far, zero, event(4, 0, 3)];
    archive(warehouse, 0, written.iter().cloned().map(row).collect()).await;
    let parts: Vec<(i64, u64)> = written.iter().map(|event| (event.user_id.0, ALL)).collect();
    assert_eq!(history(warehouse, &parts).await, written);
}

/// Returns the n-th of many events. Each column is NULL in some of them, in no common rhythm.
fn shape(n: u64) -> Event {
    let text = |every: u64, text: &str| (!n.is_multiple_of(every)).then(|| format!("{text} {n}").into());
    let totals = ["0", "-0.000000001", "99999999999999999999999999999.999999999", "-7", "1234.5"];
    let instants = [-1, 0, -62_167_219_200_000_000, 253_402_300_799_999_999, 1_700_000_000_000_000];
    let large = if n % 1_000 == 999 { "x".repeat(300_000) } else { String::new() };
    Event {
        event_id: text(2, "e"),
        client_ref_id: if n.is_multiple_of(7) { "".into() } else { format!("client {n}").into() },
        id_type: text(3, "cookie"),
        region: text(5, "Île \u{1f5fc}"),
        device_type: text(7, "a'b\"c\\d\n\t"),
        country: n.is_multiple_of(11).then(|| "".into()),
        activity_type: text(13, "bought"),
        url: (n % 1_000 == 998).then(|| "u".repeat(100_000).into()),
        order_total: (n % 3 != 1).then(|| Decimal::parse(totals[n as usize % totals.len()])).flatten(),
        order_id: text(2_048, "o"),
        element_id: (n == 2_047).then(|| "the last of a chunk".into()),
        created_at: Timestamp(instants[n as usize % instants.len()]),
        payload: Arc::new(json!({
            "": n, "zz": [n, null, {"b": "\u{1}", "a": 0.5}], "large": large, "a\"b": {}, "é": [], "large ": true,
        })),
        ..event(1, 0, n)
    }
}

async fn many_events_of_every_shape_come_back(warehouse: &dyn Warehouse) {
    const EVENTS: u64 = 5_000;
    archive(warehouse, 0, (0..EVENTS).map(|n| row(shape(n))).collect()).await;
    archive(warehouse, 0, Vec::new()).await;
    let mut left = vec![part(1, 0, ALL)];
    let mut next = 0;
    while !left.is_empty() {
        let read = warehouse.history(&left, 4 << 20).await.unwrap();
        for event in read.events {
            assert_eq!(event, shape(next));
            next += 1;
        }
        left = read.left;
    }
    assert_eq!(next, EVENTS);
}

async fn batches_of_many_partitions_do_not_mix(warehouse: Arc<dyn Warehouse>) {
    const PARTITIONS: u32 = 8;
    let batch = |partition: u32, from_offset: u64| {
        let id = i64::from(partition);
        let at = |next| row(event(id, partition, from_offset + next));
        // The deletion comes between two events of the same user, and between other partitions' rows.
        let mut rows = vec![user(id, "e"), at(0), ArchiveRow::DeleteUser(UserId(id)), user(id + 100, "e"), at(1)];
        rows.extend((partition % 2 == 1).then(|| alias(id + 200, id + 100)));
        let rows = (from_offset..).zip(rows).collect();
        ArchiveBatch { partition: PartitionId(partition), from_offset, to_offset: from_offset + 2, rows }
    };
    // Every partition sends what continues and, in partitions with an even number, what does not.
    for from_offset in [0, 2, 4] {
        let tasks = (0..PARTITIONS).flat_map(|partition| {
            let stale = (partition % 2 == 0).then(|| batch(partition, from_offset + 1));
            stale.into_iter().chain([batch(partition, from_offset)]).map(|batch| {
                let warehouse = warehouse.clone();
                tokio::spawn(async move { (batch.from_offset, warehouse.archive(batch).await) })
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            let (from, outcome) = task.await.unwrap();
            let is_moved = matches!(outcome, Err(WarehouseError::Moved { expected, .. }) if expected == from);
            assert_eq!((outcome.is_ok(), is_moved), (from == from_offset, from != from_offset), "{from}: {outcome:?}");
        }
    }
    for partition in 0..PARTITIONS {
        assert_eq!(warehouse.archive_position(PartitionId(partition)).await.unwrap(), 6);
        let id = i64::from(partition);
        assert_eq!(offsets(&*warehouse, &[id]).await, [(id, 5)], "the last event came after the last deletion");
    }
    assert_eq!(users(&*warehouse).await, (100..108).collect::<Vec<i64>>());
}

async fn history_is_returned_per_id_in_order(warehouse: &dyn Warehouse) {
    archive(warehouse, 0, [(1, 0), (2, 1), (1, 2), (3, 3), (1, 4)].map(|(user, at)| row(event(user, 0, at))).into())
        .await;
    archive(warehouse, 1, vec![alias(2, 1), row(event(5, 1, 1))]).await;
    /// The (user, below) of the call, and the (user, offset) of the expected events.
    type Case = (&'static [(i64, u64)], &'static [(i64, u64)]);
    let cases: &[Case] = &[
        (&[], &[]),
        (&[(2, 9), (1, 9)], &[(2, 1), (1, 0), (1, 2), (1, 4)]),
        (&[(1, 4), (5, 2)], &[(1, 0), (1, 2), (5, 1)]),
        (&[(1, 0), (5, 1), (99, 9)], &[]),
    ];
    for (parts, expected) in cases {
        let events = history(warehouse, parts).await;
        let found: Vec<_> = events.iter().map(|event| (event.user_id.0, event.position.offset)).collect();
        assert_eq!(found, *expected, "{parts:?}");
    }
}

async fn receipts_are_found(warehouse: &dyn Warehouse) {
    let delivery = |user, id: &str, offset| row(Event { event_id: Some(id.into()), ..event(user, 0, offset) });
    let forever = |user, id: &str, offset| {
        let event = Event { event_id: Some(id.into()), ..event(user, 0, offset) };
        ArchiveRow::Event { event: Box::new(archived(event)), dedupe_forever: true }
    };
    let rows =
        vec![forever(1, "a", 0), delivery(1, "a", 5), delivery(1, "b", 6), delivery(2, "a", 7), row(event(1, 0, 8))];
    archive(warehouse, 0, rows).await;
    let ids = [(2, "a"), (1, "c"), (1, "a"), (3, "a"), (1, "a"), (1, "b"), (1, "")];
    let ids = ids.map(|(user, id)| (UserId(user), id.to_owned()));
    let at = |offset: u64, dedupe_forever| Some(Receipt { at: event(0, 0, offset).processed_at, dedupe_forever });
    let found = warehouse.received(&ids).await.unwrap();
    let of_first = at(5, true);
    let expected = [at(7, false), None, of_first, None, of_first, at(6, false), None];
    assert_eq!(found, expected, "the newest of each and whether one dedupes forever, in the order of the call");
    assert_eq!(warehouse.received(&[]).await.unwrap(), []);

    archive(warehouse, 0, vec![alias(1, 2)]).await;
    let ids = [(1, "a"), (2, "b"), (2, "a")].map(|(user, id)| (UserId(user), id.to_owned()));
    let found = warehouse.received(&ids).await.unwrap();
    assert_eq!(found, [at(7, true), at(6, false), at(7, true)], "merged users are one, under either id");
}

/// Returns a row of traits set at `at`, which is also their offset.
pub(super) fn traits(user: i64, at: i64, traits: serde_json::Value) -> ArchiveRow {
    let serde_json::Value::Object(traits) = traits else { panic!("traits are an object") };
    let position = Position { partition: PartitionId(0), offset: at.unsigned_abs() };
    ArchiveRow::Traits(TraitsRow { user: UserId(user), traits, created_at: Timestamp(at), position })
}

async fn users_are_listed(warehouse: &dyn Warehouse) {
    archive(warehouse, 0, vec![user(30, "x"), user(-5, "y"), user(30, "x2"), user(200, "z"), row(event(9, 0, 0))])
        .await;
    archive(warehouse, 1, vec![user(200, "z2"), traits(31, 0, json!({"plan": "pro"}))]).await;
    assert_eq!(users(warehouse).await, [-5, 30, 200], "each once, however often they changed");
    let page = warehouse.users(None, 2).await.unwrap();
    assert_eq!(page, [UserId(-5), UserId(30)]);
    assert_eq!(warehouse.users(Some(page[1]), 2).await.unwrap(), [UserId(200)]);
    assert_eq!(warehouse.users(Some(UserId(200)), 2).await.unwrap(), []);
}

async fn departures_are_stored(warehouse: &dyn Warehouse) {
    archive(warehouse, 0, vec![user(1, "a"), user(2, "b"), user(3, "c"), row(event(1, 0, 0))]).await;
    archive(warehouse, 0, vec![ArchiveRow::MergeUser(UserId(1)), ArchiveRow::DeleteUser(UserId(2))]).await;
    assert_eq!(users(warehouse).await, [3], "neither is known any longer");
    let found = warehouse.departures(&[4, 2, 3, 1].map(UserId)).await.unwrap();
    assert_eq!(found, [None, Some(Departure::Deleted), None, Some(Departure::Merged)]);
    assert_eq!(warehouse.departures(&[]).await.unwrap(), []);
    archive(warehouse, 0, vec![ArchiveRow::DeleteUser(UserId(1))]).await;
    assert_eq!(warehouse.departures(&[UserId(1)]).await.unwrap(), [Some(Departure::Deleted)], "merged, then deleted");
}

async fn a_chain_of_merges_is_resolved_in_any_order(warehouse: &dyn Warehouse) {
    let delivery = |user: i64| row(Event { event_id: Some("e".into()), ..event(user, 0, user as u64) });
    archive(warehouse, 0, (1..=6).map(delivery).collect()).await;
    archive(warehouse, 0, vec![alias(1, 2), alias(2, 3)]).await;
    archive(warehouse, 1, vec![alias(5, 6)]).await;
    archive(warehouse, 2, vec![alias(4, 5), alias(4, 5)]).await;
    let newest = async |user| warehouse.received(&[(UserId(user), "e".to_owned())]).await.unwrap()[0];
    let at = |offset: u64| Some(Receipt { at: event(0, 0, offset).processed_at, dedupe_forever: false });
    for (user, expected) in [(1, 3), (2, 3), (3, 3), (4, 6), (5, 6), (6, 6)] {
        assert_eq!(newest(user).await, at(expected), "user {user}");
    }
    archive(warehouse, 0, vec![alias(3, 6), alias(6, 4)]).await;
    assert_eq!(newest(1).await, at(6), "a merge into itself changes nothing");
}

async fn deleted_users_leave_nothing(warehouse: &dyn Warehouse) {
    let rows = vec![
        user(1, "a"),
        row(event(1, 0, 0)),
        traits(1, 0, json!({"plan": "pro"})),
        user(2, "b"),
        row(event(2, 0, 1)),
        user(3, "c"),
        row(event(3, 0, 2)),
        alias(2, 1),
    ];
    archive(warehouse, 0, rows).await;
    let rows = vec![row(event(1, 0, 3)), user(1, "again"), ArchiveRow::DeleteUser(UserId(1)), row(event(1, 0, 4))];
    archive(warehouse, 0, rows).await;
    assert_eq!(offsets(warehouse, &[1, 2, 3]).await, [(1, 4), (3, 2)], "events after the deletion stay");
    assert_eq!(users(warehouse).await, [3]);
    archive(warehouse, 0, vec![ArchiveRow::DeleteUser(UserId(77)), user(2, "new")]).await;
    assert_eq!(users(warehouse).await, [2, 3], "the aliases are deleted too");
}

/// Keeps the place, since a wipe may write new files.
async fn a_wipe_changes_no_result(place: &impl WarehousePlace) {
    let warehouse = &*place.open().await;
    assert!(!warehouse.wipe(Timestamp(0), 0).await.unwrap(), "nobody was deleted");
    for partition in 0..3 {
        let rows = (1..4).flat_map(|id| [user(id, "e"), row(event(id, partition, 7)), row(event(id, partition, 9))]);
        archive(warehouse, partition, rows.collect()).await;
    }
    archive(warehouse, 1, vec![ArchiveRow::MergeUser(UserId(3)), alias(3, 2), ArchiveRow::DeleteUser(UserId(1))]).await;
    let results = async || {
        let positions = [
            warehouse.archive_position(PartitionId(0)).await.unwrap(),
            warehouse.archive_position(PartitionId(1)).await.unwrap(),
        ];
        let departed = warehouse.departures(&[1, 2, 3].map(UserId)).await.unwrap();
        (positions, departed, users(warehouse).await, history(warehouse, &[(1, ALL), (2, ALL), (3, ALL)]).await)
    };
    let before = results().await;
    for minute in 1..3 {
        warehouse.wipe(Timestamp(minute * 60_000_000), 0).await.unwrap();
        assert_eq!(results().await, before);
    }
    archive(warehouse, 1, vec![row(event(2, 1, 11))]).await;
    assert_eq!(results().await.3.len(), before.3.len() + 1, "it can be written as before");
}

async fn reopening_keeps_everything(place: &impl WarehousePlace) {
    let warehouse = place.open().await;
    archive(&*warehouse, 1, vec![user(1, "a"), user(2, "b"), row(event(1, 1, 0))]).await;
    archive(&*warehouse, 1, vec![ArchiveRow::MergeUser(UserId(1)), alias(1, 2)]).await;
    let position = warehouse.archive_position(PartitionId(1)).await.unwrap();
    drop(warehouse);
    let warehouse = place.open().await;
    assert_eq!(warehouse.archive_position(PartitionId(1)).await.unwrap(), position);
    assert_eq!(history(&*warehouse, &[(1, ALL)]).await, [event(1, 1, 0)]);
    assert_eq!(users(&*warehouse).await, [2]);
}
