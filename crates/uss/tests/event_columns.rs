//! Tests that every column of the schema of events is everywhere: what a client sends is what the
//! engine reads from the log, and later from the warehouse, and the reference names it.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::path::Path;

use adapters::duckdb::DuckDbWarehouse;
use ingestion_api::Limits;
use ingestion_api::admission::admit;
use ports::records::decode::decode_event;
use ports::warehouse::{ArchiveBatch, ArchiveRow, HistoryOf, Warehouse, archived};
use segment_engine::decimal::Decimal;
use segment_engine::event::{ColumnValue, Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::language::compile;
use segment_engine::schema::{ColumnType, EventColumn, Place};
use segment_engine::time::Timestamp;
use serde_json::{Map, Value, json};

const USER: UserId = UserId(7);
const ALL: HistoryOf = HistoryOf { user: USER, from: 0, below: u64::MAX };
const PARTITION: PartitionId = PartitionId(3);
const POSITION: Position = Position { partition: PARTITION, offset: 11 };
const RECEIVED: Timestamp = Timestamp(1_700_000_000_000_001);

/// Returns a string that no other column has.
fn text(column: EventColumn) -> String {
    format!("{} of \"Zoë\"", column.name())
}

/// Returns an event with a value for every column that clients send. Those of the payload stand in
/// it or beside it.
fn sent(in_payload: bool) -> Value {
    let (mut top, mut payload) = (Map::new(), Map::new());
    for column in EventColumn::ALL {
        let Some(name) = column.sent_name() else { continue };
        let value = match column.column_type() {
            ColumnType::Text => json!(text(column)),
            ColumnType::Decimal => json!("-1234.567890001"),
            ColumnType::Timestamp => json!("2023-10-31T02:00:00.5+02:00"),
            ColumnType::UserId => panic!("clients do not know {name}"),
        };
        let place = if in_payload && column.place() == Place::Payload { &mut payload } else { &mut top };
        place.insert(name.to_owned(), value);
    }
    top.insert("payload".to_owned(), payload.into());
    top.into()
}

/// Returns the event that the engine reads from the log.
fn logged(event: &Value) -> Event {
    let bytes = event.to_string();
    let draft = admit(bytes.as_bytes().into(), &Limits::default()).unwrap();
    assert_eq!(draft.misplaced, []);
    let record = draft.record.encode(USER, "2023-11-14T22:13:20Z", false);
    decode_event(&record, POSITION, RECEIVED).unwrap().event
}

#[tokio::test]
async fn every_column_comes_from_the_log_and_the_warehouse_as_it_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = DuckDbWarehouse::open(&folder.path().join("warehouse.duckdb")).unwrap();
    for (in_payload, from_offset) in [(true, 0), (false, 1)] {
        let event = logged(&sent(in_payload));
        for column in EventColumn::ALL {
            let text = text(column);
            let expected = match column {
                EventColumn::ProcessedAt => ColumnValue::Timestamp(RECEIVED),
                // 2023-10-31T00:00:00.5Z
                EventColumn::CreatedAt => ColumnValue::Timestamp(Timestamp(1_698_710_400_500_000)),
                _ => match column.column_type() {
                    ColumnType::UserId => ColumnValue::UserId(USER),
                    ColumnType::Text => ColumnValue::Text(Some(&text)),
                    ColumnType::Decimal => ColumnValue::Decimal(Decimal::parse("-1234.567890001")),
                    ColumnType::Timestamp => panic!("say when {column:?} is"),
                },
            };
            assert_eq!(event.value(column), expected, "{column:?}");
            if column.place() == Place::Payload {
                assert!(event.payload.get(column.name()).is_some(), "{column:?} is in the payload too");
            }
        }
        let row = ArchiveRow::Event { event: Box::new(archived(event.clone())), dedupe_forever: false };
        let rows = vec![(from_offset, row)];
        let batch = ArchiveBatch { partition: PARTITION, from_offset, to_offset: from_offset + 1, rows };
        warehouse.archive(batch).await.unwrap();
        let history = warehouse.history(&[ALL], usize::MAX).await.unwrap();
        assert_eq!(history.events.last(), Some(&event));
    }
}

#[tokio::test]
async fn a_column_without_a_value_is_null_in_the_log_and_the_warehouse() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = DuckDbWarehouse::open(&folder.path().join("warehouse.duckdb")).unwrap();
    let event = logged(&json!({"id": "a"}));
    for column in EventColumn::ALL {
        let is_null = matches!(event.value(column), ColumnValue::Text(None) | ColumnValue::Decimal(None));
        assert_eq!(is_null, column.is_nullable(), "{column:?}");
    }
    let row = ArchiveRow::Event { event: Box::new(archived(event.clone())), dedupe_forever: false };
    warehouse
        .archive(ArchiveBatch { partition: PARTITION, from_offset: 0, to_offset: 1, rows: vec![(0, row)] })
        .await
        .unwrap();
    assert_eq!(warehouse.history(&[ALL], usize::MAX).await.unwrap().events, [event]);
}

/// Returns type and nullability of the columns of a table or view of the warehouse.
async fn columns_of(warehouse: &DuckDbWarehouse, table: &str) -> BTreeMap<String, (String, String)> {
    let sql = format!(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns
         WHERE table_schema = 'user_segment_analytics' AND table_name = '{table}'"
    );
    let (_, rows) = warehouse.query(&sql).await.unwrap();
    let cells = |row: Vec<Option<String>>| <[String; 3]>::try_from(row.into_iter().flatten().collect::<Vec<_>>());
    rows.into_iter()
        .map(|row| cells(row).unwrap())
        .map(|[name, of_type, nullable]| (name, (of_type, nullable)))
        .collect()
}

#[tokio::test]
async fn the_warehouse_has_every_column_with_its_type() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = DuckDbWarehouse::open(&folder.path().join("warehouse.duckdb")).unwrap();
    let (events, user_events) = (columns_of(&warehouse, "events").await, columns_of(&warehouse, "user_events").await);
    for column in EventColumn::ALL {
        let of_type = match column.column_type() {
            ColumnType::UserId => "BIGINT",
            ColumnType::Text => "VARCHAR",
            ColumnType::Decimal => "DECIMAL(38,9)",
            ColumnType::Timestamp => "TIMESTAMP WITH TIME ZONE",
        };
        let nullable = if column.is_nullable() { "YES" } else { "NO" };
        let expected = (of_type.to_owned(), nullable.to_owned());
        assert_eq!(events.get(column.table_name()), Some(&expected), "{column:?}");
        for name in [column.name(), column.table_name()] {
            let found = user_events.get(name).map(|(of_type, _)| of_type.as_str());
            assert_eq!(found, Some(of_type), "clauses read {name}");
        }
    }
}

#[test]
fn a_clause_may_use_both_names_of_every_column() {
    for column in EventColumn::ALL {
        let plan = |name: &str| compile(&format!("last({name}) IS NOT NULL")).unwrap();
        assert_eq!(plan(column.name()), plan(column.table_name()), "{column:?}");
    }
}

#[test]
fn the_reference_names_every_column() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = |path: &str| std::fs::read_to_string(docs.join(path)).unwrap();
    let [language, topics, http_api, import] =
        ["reference/language.md", "reference/topics.md", "reference/http-api.md", "guides/import.md"].map(page);
    let mut missing = Vec::new();
    let mut look_for = |page: &str, text: &str, name: &str| {
        if !text.contains(name) {
            missing.push(format!("{page} lacks {name}"));
        }
    };
    for column in EventColumn::ALL {
        let name = column.name();
        look_for("language.md", &language, &format!("`{name}`"));
        if matches!(column.place(), Place::Event | Place::Record) {
            look_for("topics.md", &topics, &format!("\"{name}\":"));
        }
        if let Some(sent) = column.sent_name() {
            look_for("http-api.md", &http_api, &format!("`{}`", column.field()));
            look_for("import.md", &import, &format!("`{sent}`"));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
