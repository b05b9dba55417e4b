//! The part of the warehouse's suite that reads history in pieces.

use std::sync::Arc;

use ports::warehouse::{HistoryOf, Warehouse, history_bytes};
use segment_engine::event::Event;
use serde_json::json;

use super::warehouse::{archive, event, part, row};

pub(super) async fn cases(open: &impl AsyncFn() -> Arc<dyn Warehouse>) {
    pieces_respect_the_bound_and_leave_nothing_out(&*open().await).await;
    an_event_larger_than_the_bound_is_returned_alone(&*open().await).await;
    a_part_begins_at_its_first_offset(&*open().await).await;
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
