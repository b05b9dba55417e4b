//! The warehouse runs the SQL that the engine generates: its relations, its macros, and its
//! restriction to reads.

use adapters::duckdb::DuckDbWarehouse;
use ports::warehouse::{ArchiveBatch, ArchiveRow, UserRow, Warehouse, archived};
use segment_engine::decimal::Decimal;
use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::language::compile;
use segment_engine::sql::{SegmentSource, member_query, members_query, size_query};
use segment_engine::time::Timestamp;

const DAY: i64 = 86_400_000_000;

fn user(id: i64) -> ArchiveRow {
    ArchiveRow::User(UserRow { id: UserId(id), client_ref_id: None, email: None, name: None, created_at: Timestamp(0) })
}

fn purchase(offset: u64, user: i64, day: i64, total: &str) -> ArchiveRow {
    let event = Event {
        user_id: UserId(user),
        event_id: None,
        client_ref_id: "c".into(),
        id_type: None,
        region: Some("it's".into()),
        device_type: None,
        country: None,
        activity_type: Some("product_purchased".into()),
        url: None,
        order_total: Decimal::parse(total),
        order_id: None,
        element_id: None,
        created_at: Timestamp(day * DAY),
        processed_at: Timestamp(day * DAY),
        payload: serde_json::json!({"seats": "9999999999", "due": "1970-01-20 24:00", "lines": [1]}).into(),
        position: Position { partition: PartitionId(0), offset },
    };
    ArchiveRow::Event { event: Box::new(archived(event)), dedupe_forever: false }
}

#[tokio::test]
async fn the_warehouse_runs_generated_queries() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = DuckDbWarehouse::open(&folder.path().join("warehouse.duckdb")).unwrap();
    let mut rows: Vec<ArchiveRow> = (1..=4).map(user).collect();
    rows.extend([
        purchase(0, 1, 10, "10"),
        purchase(1, 1, 11, "0.000000001"),
        purchase(2, 2, 12, "-7"),
        purchase(3, 4, 13, "3"),
    ]);
    rows.extend([ArchiveRow::MergeUser(UserId(4)), ArchiveRow::Alias { absorbed: UserId(4), survivor: UserId(2) }]);
    let rows = (0..).zip(rows).collect();
    warehouse.archive(ArchiveBatch { partition: PartitionId(0), from_offset: 0, to_offset: 5, rows }).await.unwrap();

    let now = Timestamp(13 * DAY);
    let buyers = compile("region = 'it''s'").unwrap();
    let by_hand = [UserId(3), UserId(9), UserId(3)];
    let resolve = |tag: &str| match tag {
        "buyers" => Some(SegmentSource::Plan(&buyers)),
        "by_hand" => Some(SegmentSource::Members(&by_hand)),
        _ => None,
    };
    let cases: [(&str, &[i64]); 12] = [
        ("", &[1, 2, 3]),
        ("count(*) = 0", &[3]),
        ("count(*) = 2", &[1, 2]),
        ("sum(order_total) = -4", &[2]),
        ("avg(order_total) = 5.000000001", &[1]),
        ("sum(order_total) / 3 = 3.333333334", &[1]),
        ("sum(order_total) / 0 IS NULL AND count(*) > 0", &[1, 2]),
        ("last(order_total) = 3", &[2]),
        ("created_at < now() - INTERVAL '2 days'", &[1]),
        ("segment('buyers') AND NOT segment('by_hand') OR segment('by_hand') AND NOT segment('buyers')", &[1, 2, 3]),
        ("(payload->>'seats')::int IS NULL AND (payload->>'due')::date = DATE '1970-01-20'", &[1, 2]),
        ("(payload->'lines'->>'0') IS NULL AND upper('straße') = 'STRAßE'", &[1, 2]),
    ];
    for (clause, expected) in cases {
        let plan = compile(clause).unwrap();
        let query = members_query(&plan, &resolve, now).unwrap();
        let members = warehouse.members(&query).await.unwrap();
        assert_eq!(members, expected.iter().copied().map(UserId).collect::<Vec<_>>(), "{clause}\n{query}");
        let (_, size) = warehouse.query(&size_query(&plan, &resolve, now).unwrap()).await.unwrap();
        assert_eq!(size, [[Some(expected.len().to_string())]], "{clause}");
        let alone = warehouse.members(&member_query(&plan, &resolve, now, UserId(1)).unwrap()).await.unwrap();
        assert_eq!(!alone.is_empty(), expected.contains(&1), "{clause}");
    }
    let before = members_query(&compile("count(*) > 0").unwrap(), &resolve, Timestamp(10 * DAY)).unwrap();
    assert_eq!(warehouse.members(&before).await.unwrap(), [UserId(1)], "later events do not count");
}
