//! The warehouse's suite, continued: SQL.

use segment_engine::decimal::Decimal;
use segment_engine::event::Event;
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;
use serde_json::json;

use super::warehouse::{WarehousePlace, alias, archive, event, row, traits, user};
use ports::warehouse::{ArchiveRow, Warehouse, WarehouseError};

/// Runs the suite; `place` returns an empty place at each call.
pub async fn suite<P: WarehousePlace>(place: impl Fn() -> P) {
    let warehouse = place().open().await;
    fill(&*warehouse).await;
    generated_queries_see_current_user_ids(&*warehouse).await;
    results_are_strings(&*warehouse).await;
    only_reads_are_allowed(&*warehouse).await;
}

async fn fill(warehouse: &dyn Warehouse) {
    let purchase = Event {
        event_id: Some("e1".into()),
        activity_type: Some("product_purchased".into()),
        order_total: Decimal::parse("12.5"),
        created_at: Timestamp(1_709_251_199_999_999),
        payload: serde_json::json!({"coupon": "X", "cart": {"size": 3}}).into(),
        ..event(1, 0, 0)
    };
    let rows = vec![
        user(1, "a"),
        user(2, "b"),
        user(3, "c"),
        row(purchase),
        row(event(2, 0, 1)),
        traits(1, 1, json!({"plan": "free", "seats": 3})),
    ];
    archive(warehouse, 0, rows).await;
    // The newer wins in whatever order they come; an absorbed user's traits join the survivor's;
    // `null` removes a trait.
    let newest = traits(2, 9, json!({"plan": "pro"}));
    let older = traits(2, 5, json!({"plan": "free", "beta": true}));
    let absorbed = traits(1, 7, json!({"plan": "gone", "beta": null}));
    let merged = ArchiveRow::MergeUser(UserId(1));
    archive(warehouse, 0, vec![newest, older, absorbed, merged, alias(1, 2), user(2, "b2")]).await;
}

async fn generated_queries_see_current_user_ids(warehouse: &dyn Warehouse) {
    let cases = [
        ("SELECT id FROM user_segment_analytics.users ORDER BY id", vec![2, 3]),
        ("SELECT user_id FROM user_segment_analytics.user_events ORDER BY user_id", vec![2, 2]),
        ("SELECT user_id FROM user_segment_analytics.user_events WHERE payload->>'coupon' = 'X'", vec![2]),
        ("SELECT user_id, 1 FROM user_segment_analytics.traits WHERE traits->>'plan' = 'pro'", vec![2]),
        ("SELECT user_id, 1 FROM user_segment_analytics.traits WHERE (traits->>'seats')::INT = 3", vec![2]),
        ("SELECT user_id, 1 FROM user_segment_analytics.traits WHERE traits->>'beta' IS NULL", vec![2]),
        ("SELECT id FROM user_segment_analytics.users WHERE email = 'b2'", vec![2]),
        ("SELECT user_id FROM user_segment_analytics.user_events WHERE activity_type IS NULL", vec![2]),
        (
            "SELECT user_id FROM user_segment_analytics.user_events \
             WHERE created_at AT TIME ZONE 'Europe/Berlin' = TIMESTAMP '2024-03-01 00:59:59.999999'",
            vec![2],
        ),
    ];
    for (sql, expected) in cases {
        let members = warehouse.members(sql).await.unwrap();
        assert_eq!(members.iter().map(|user| user.0).collect::<Vec<_>>(), expected, "{sql}");
    }
}

async fn results_are_strings(warehouse: &dyn Warehouse) {
    let sql = "SELECT id, payload_order_total AS total, created_at, date_trunc('day', created_at) AS day,
                      payload->'cart'->>'size' AS size, region
               FROM user_segment_analytics.user_events ORDER BY log_offset; -- two rows";
    let (columns, rows) = warehouse.query(sql.trim_end_matches(" -- two rows")).await.unwrap();
    assert_eq!(columns, ["id", "total", "created_at", "day", "size", "region"]);
    let text = |text: &str| Some(text.to_owned());
    let first = [
        text("e1"),
        text("12.500000000"),
        text("2024-02-29 23:59:59.999999+00"),
        text("2024-02-29 00:00:00+00"),
        text("3"),
        None,
    ];
    assert_eq!(rows[0], first);
    assert_eq!(rows[1][..2], [None, None]);
    assert_eq!(rows.len(), 2);
    let (columns, rows) = warehouse.query("SELECT 1 AS one WHERE false -- nothing").await.unwrap();
    assert_eq!((columns, rows), (vec!["one".to_owned()], vec![]));
}

async fn only_reads_are_allowed(warehouse: &dyn Warehouse) {
    let statements = [
        "DELETE FROM user_segment_analytics.events",
        "SELECT 1; DELETE FROM user_segment_analytics.events",
        "DELETE FROM user_segment_analytics.events; SELECT 1",
        "SELECT 1) ; DELETE FROM user_segment_analytics.events; SELECT * FROM (SELECT 1",
        "COMMIT; DELETE FROM user_segment_analytics.events; SELECT 1",
        "CREATE TABLE t (a INTEGER)",
        "DROP VIEW user_segment_analytics.user_events",
        "SET TimeZone = 'America/New_York'",
        "ATTACH '/tmp/other.db'",
        "COPY user_segment_analytics.events TO '/tmp/stolen.csv'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT nowhere FROM user_segment_analytics.events",
        "SELECT * FROM range(1000000)",
        "not SQL at all",
        "",
    ];
    for sql in statements {
        let refused = warehouse.query(sql).await;
        assert!(matches!(refused, Err(WarehouseError::Refused(_))), "{sql}: {refused:?}");
    }
    let refused = warehouse.members("DELETE FROM user_segment_analytics.events RETURNING user_id").await;
    assert!(matches!(refused, Err(WarehouseError::Refused(_))), "{refused:?}");
    let (_, rows) = warehouse.query("SELECT count(*) FROM user_segment_analytics.events").await.unwrap();
    assert_eq!(rows, [[Some("2".to_owned())]], "nothing was deleted");
}
