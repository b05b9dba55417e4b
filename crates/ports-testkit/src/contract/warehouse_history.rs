//! The part of the warehouse's suite that reads history in pieces.

use std::sync::Arc;

use ports::warehouse::{HistoryBatch, HistoryOf, HistoryScan, Warehouse, history_bytes};
use segment_engine::decimal::Decimal;
use segment_engine::event::Event;
use segment_engine::ids::PartitionId;
use segment_engine::machine::{FILTERS_MAX, HistoryNeeds, PastEvent};
use segment_engine::plan::{CompareOp, Expr};
use segment_engine::schema::EventColumn;
use segment_engine::value::{Type, Value};
use serde_json::json;

use super::warehouse::{archive, event, part, row};

pub(super) async fn cases(open: &impl AsyncFn() -> Arc<dyn Warehouse>) {
    pieces_respect_the_bound_and_leave_nothing_out(&*open().await).await;
    an_event_larger_than_the_bound_is_returned_alone(&*open().await).await;
    a_part_begins_at_its_first_offset(&*open().await).await;
    a_scan_has_each_event_of_a_partition_once_and_in_order(&*open().await).await;
    a_scan_returns_what_is_needed(&*open().await).await;
    a_long_scan_leaves_nothing_out(&*open().await).await;
    scans_do_not_wait_for_one_that_was_dropped(&*open().await).await;
}

fn bytes_of(event: &Event) -> usize {
    history_bytes(event, event.payload.to_string().len())
}

/// Returns user and offset.
fn place_of(event: &Event) -> (i64, u64) {
    (event.user_id.0, event.position.offset)
}

/// Reads everything, and returns the pieces.
async fn pieces(warehouse: &dyn Warehouse, parts: &[HistoryOf], bytes_max: usize) -> Vec<Vec<Event>> {
    let (mut left, mut pieces) = (parts.to_vec(), Vec::new());
    while !left.is_empty() {
        let read = warehouse.history(&left, bytes_max).await.unwrap();
        assert!(read.left.is_empty() || !read.events.is_empty(), "each piece has an event while any is left");
        left = read.left;
        pieces.push(read.events);
    }
    pieces
}

/// The last users have large events, and one user has only small ones after a large one.
async fn pieces_respect_the_bound_and_leave_nothing_out(warehouse: &dyn Warehouse) {
    let sized = |user: i64, offset: u64| {
        let len = if user > 6 || (user, offset) == (3, 3) { 3_000 } else { 10 + 7 * offset as usize % 40 };
        let payload = Arc::new(json!({"padding": "x".repeat(len)}));
        Event { url: Some("y".repeat(len / 2).into()), payload, ..event(user, 0, offset) }
    };
    let written: Vec<Event> = (0..90).map(|offset| sized(1 + offset as i64 % 9, offset + 1)).collect();
    archive(warehouse, 0, written.iter().cloned().map(row).collect()).await;
    let parts: Vec<HistoryOf> = [4, 9, 77, 3, 1, 2, 8, 7, 6, 5].map(|user| part(user, 0, 86)).into();
    let mut expected: Vec<(i64, u64)> = Vec::new();
    for part in &parts {
        let theirs = written.iter().filter(|event| event.user_id == part.user && event.position.offset < 86);
        expected.extend(theirs.map(place_of));
    }
    assert_eq!(expected.len(), 85);
    for bytes_max in [1, 100, 1_000, 10_000, 50_000] {
        let pieces = pieces(warehouse, &parts, bytes_max).await;
        let found: Vec<(i64, u64)> = pieces.iter().flatten().map(place_of).collect();
        assert_eq!(found, expected, "in order, each event once: {bytes_max}");
        for piece in &pieces {
            let bytes: usize = piece.iter().map(bytes_of).sum();
            assert!(bytes <= bytes_max || piece.len() == 1, "{bytes} bytes in {} events: {bytes_max}", piece.len());
        }
    }
    assert_eq!(pieces(warehouse, &parts, 1).await.iter().filter(|piece| piece.len() > 1).count(), 0);
    assert_eq!(pieces(warehouse, &parts, 1 << 20).await.len(), 1, "one piece if there is room");
}

async fn an_event_larger_than_the_bound_is_returned_alone(warehouse: &dyn Warehouse) {
    let large = Event { payload: Arc::new(json!({"padding": "x".repeat(20_000)})), ..event(1, 0, 2) };
    let written = [event(1, 0, 1), large, event(1, 0, 3), event(2, 0, 4)];
    archive(warehouse, 0, written.iter().cloned().map(row).collect()).await;
    let pieces = pieces(warehouse, &[part(1, 0, 9), part(2, 0, 9)], 1_000).await;
    let with_large: Vec<_> = pieces.iter().filter(|piece| piece.iter().any(|event| bytes_of(event) > 1_000)).collect();
    assert_eq!(with_large, [&[written[1].clone()]]);
    assert_eq!(pieces.concat(), written);
}

async fn a_part_begins_at_its_first_offset(warehouse: &dyn Warehouse) {
    archive(warehouse, 0, (1..=6).map(|offset| row(event(1 + offset as i64 % 2, 0, offset))).collect()).await;
    /// Parts, and the users and offsets of their events.
    type Case<'a> = (&'a [HistoryOf], &'a [(i64, u64)]);
    let cases: [Case<'_>; 4] = [
        (&[part(1, 3, 6), part(2, 0, 5)], &[(1, 4), (2, 1), (2, 3)]),
        (&[part(1, 2, 3), part(2, 6, 9)], &[(1, 2)]),
        (&[part(1, 4, 4), part(2, 5, 3)], &[]),
        (&[part(2, 5, u64::MAX)], &[(2, 5)]),
    ];
    for (parts, expected) in cases {
        let read = warehouse.history(parts, 1 << 20).await.unwrap();
        assert_eq!(read.events.iter().map(place_of).collect::<Vec<_>>(), expected, "{parts:?}");
        assert_eq!(read.left, []);
    }
}

/// Everything of partition 1 before this offset, in batches of at most so many bytes.
fn whole(below: u64, bytes_max: usize) -> HistoryScan {
    let needs = HistoryNeeds { columns: EventColumn::ALL.to_vec(), payload: true, filters: vec![None] };
    HistoryScan { partition: PartitionId(1), from: 0, below, needs, bytes_max }
}

async fn batches(warehouse: &dyn Warehouse, scan: HistoryScan) -> Vec<Vec<PastEvent>> {
    let (mut read, below) = (scan.from, scan.below);
    let (mut cursor, mut batches) = (warehouse.scan_history(scan), Vec::new());
    while let Some(HistoryBatch { events, until }) = cursor.next().await.unwrap() {
        assert!(events.iter().all(|event| (read..until).contains(&event.offset)), "from {read} to {until}: {events:?}");
        read = until;
        if !events.is_empty() {
            batches.push(events);
        }
    }
    assert!(read >= below, "it says that it has read {read} of {below}");
    batches
}

/// The archiver of one partition writes events of others, if their users were merged into its own.
async fn a_scan_has_each_event_of_a_partition_once_and_in_order(warehouse: &dyn Warehouse) {
    let sized = |partition: u32, offset: u64| {
        let payload = Arc::new(json!({"padding": "x".repeat(offset as usize * 37 % 200)}));
        Event { payload, ..event(1 + offset as i64 % 7, partition, offset) }
    };
    let of = |offsets: &[u64]| offsets.iter().map(|offset| row(sized(1, *offset))).collect::<Vec<_>>();
    archive(warehouse, 0, of(&[60, 20])).await;
    archive(warehouse, 1, of(&(0..20).collect::<Vec<_>>())).await;
    archive(warehouse, 0, (0..9).map(|offset| row(sized(0, offset))).collect()).await;
    archive(warehouse, 1, of(&(21..60).collect::<Vec<_>>())).await;
    archive(warehouse, 1, of(&(61..90).collect::<Vec<_>>())).await;
    let written: Vec<Event> = (0..90).map(|offset| sized(1, offset)).collect();
    for bytes_max in [1, 300, 1_000, 1 << 20] {
        let batches = batches(warehouse, whole(90, bytes_max)).await;
        assert_eq!(whole_events(batches.concat()), written, "{bytes_max}");
        for batch in &batches {
            let bytes: usize = batch.iter().filter_map(|event| event.rest.as_deref()).map(bytes_of).sum();
            assert!(bytes <= bytes_max || batch.len() == 1, "{bytes} bytes in {} events: {bytes_max}", batch.len());
        }
    }
    for (from, below) in [(0, 30), (25, 61), (89, 90), (90, 90), (40, 30)] {
        let found = batches(warehouse, HistoryScan { from, ..whole(below, 500) }).await.concat();
        let offsets: Vec<u64> = found.iter().map(|event| event.offset).collect();
        assert_eq!(offsets, (from..below).collect::<Vec<_>>());
    }
    let none = HistoryScan { partition: PartitionId(2), ..whole(90, 500) };
    assert_eq!(batches(warehouse, none).await.len(), 0);
}

async fn a_scan_returns_what_is_needed(warehouse: &dyn Warehouse) {
    let texts = |offset: u64| [None, Some("it's"), Some("ü")][offset as usize % 3].map(Into::into);
    let full = |offset: u64| Event {
        url: texts(offset),
        region: texts(offset / 3),
        order_total: (!offset.is_multiple_of(4)).then(|| Decimal::from_int(offset as i64 * 7 % 11)),
        event_id: Some("id".into()),
        payload: Arc::new(json!({"a": [offset]})),
        ..event(1 + offset as i64 % 2, 1, offset)
    };
    let written: Vec<Event> = (0..60).map(full).collect();
    archive(warehouse, 1, written.iter().cloned().map(row).collect()).await;
    let column = |column| Box::new(Expr::Event(column));
    let text = |text: &str| Expr::Literal(Value::Text(text.into()), Type::Text);
    let url_is = |url| Expr::Compare(CompareOp::Eq, column(EventColumn::Url), Box::new(text(url)));
    let total = |op, than| {
        let than = Expr::Literal(Value::Decimal(Decimal::from_int(than)), Type::Decimal);
        Expr::Compare(op, column(EventColumn::OrderTotal), Box::new(than))
    };
    let late = Expr::Literal(Value::Timestamp(written[30].created_at), Type::Timestamp);
    let filters = [
        url_is("it's"),
        url_is("nowhere"),
        Expr::Not(Box::new(url_is("ü"))),
        Expr::InList(column(EventColumn::Region), vec![text("ü"), text("a")].into()),
        Expr::IsNull(column(EventColumn::Region)),
        Expr::And(vec![total(CompareOp::Gt, 3), total(CompareOp::LtEq, 8)]),
        Expr::Or(vec![total(CompareOp::Eq, 0), Expr::Not(Box::new(Expr::IsNull(column(EventColumn::Url))))]),
        Expr::Compare(CompareOp::Gt, column(EventColumn::CreatedAt), Box::new(late)),
        Expr::Literal(Value::Bool(false), Type::Bool),
    ];
    let needs = |columns: &[EventColumn], payload, filters: &[Option<Expr>]| HistoryNeeds {
        columns: columns.to_vec(),
        payload,
        filters: filters.to_vec(),
    };
    let filters = filters.map(Some);
    let mut all = vec![
        needs(&[], false, &[None]),
        needs(&[EventColumn::Url, EventColumn::OrderTotal], false, &[None]),
        needs(&[EventColumn::EventId, EventColumn::ClientRefId], true, &[None, None]),
        needs(&[], false, &filters),
        needs(&[EventColumn::IdType], false, &filters[..2]),
        needs(&[], false, &[filters[0].clone(), None, filters[5].clone()]),
    ];
    let many = filters.iter().cycle().take(FILTERS_MAX).cloned().collect::<Vec<_>>();
    all.push(needs(&[], false, &many));
    all.extend(filters.map(|filter| needs(&[EventColumn::Region], false, &[filter])));
    for needs in all {
        let found = batches(warehouse, HistoryScan { needs: needs.clone(), ..whole(60, 1 << 20) }).await.concat();
        let expected: Vec<PastEvent> = written.iter().filter_map(|event| needs.reduce(event)).collect();
        assert_eq!(found, expected, "{needs:?}");
    }
}

/// Returns the events of a scan that needed everything.
fn whole_events(events: Vec<PastEvent>) -> Vec<Event> {
    events.into_iter().map(|event| *event.rest.expect("columns are needed")).collect()
}

/// Few events, then many, then large ones, then few.
async fn a_long_scan_leaves_nothing_out(warehouse: &dyn Warehouse) {
    let offsets = (0..20_000).step_by(400).chain(20_000..24_000).chain((24_000..200_000).step_by(997));
    let sized = |offset: u64| {
        let len = if (21_000..21_100).contains(&offset) { 2_000 } else { offset as usize % 10 };
        Event { url: Some("x".repeat(len).into()), ..event(1 + offset as i64 % 7, 1, offset) }
    };
    let written: Vec<Event> = offsets.map(sized).collect();
    archive(warehouse, 1, written.iter().cloned().map(row).collect()).await;
    for bytes_max in [20_000, 1 << 20] {
        let found = batches(warehouse, whole(200_000, bytes_max)).await.concat();
        assert_eq!(whole_events(found), written, "{bytes_max}");
    }
}

async fn scans_do_not_wait_for_one_that_was_dropped(warehouse: &dyn Warehouse) {
    archive(warehouse, 1, (0..60).map(|offset| row(event(1, 1, offset))).collect()).await;
    let mut cursor = warehouse.scan_history(whole(60, 1));
    assert_eq!(cursor.next().await.unwrap().map(|batch| batch.events.len()), Some(1));
    drop(cursor);
    for _ in 0..20 {
        drop(warehouse.scan_history(whole(60, 1)));
    }
    assert_eq!(batches(warehouse, whole(60, 1)).await.len(), 60);
}
