//! Rows as columns. DuckDB's appender takes those whole; it would take the values of rows one by one.

use std::sync::Arc;

use duckdb::arrow::array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, LargeStringArray, RecordBatch, TimestampMicrosecondArray,
};
use duckdb::arrow::datatypes::{DataType, Field, Schema};
use duckdb::{Appender, Transaction};
use ports::warehouse::ArchivedEvent;
use segment_engine::decimal::{Decimal, PRECISION, SCALE};
use segment_engine::event::{ColumnValue, Position};
use segment_engine::schema::{ColumnType, EventColumn};

use super::archive::SCHEMA;

/// The rows that are turned into columns at a time: DuckDB's vectors have as many.
const CHUNK_ROWS: usize = 2_048;
const ZONE: &str = "UTC";

/// Appends events to the table `events`.
pub(super) fn append_events(transaction: &Transaction<'_>, events: &[&ArchivedEvent]) -> duckdb::Result<()> {
    let of_log = ["payload", "log_partition", "log_offset"];
    let names: Vec<&str> = EventColumn::ALL.into_iter().map(EventColumn::table_name).chain(of_log).collect();
    let mut appender = transaction.appender_with_columns_to_db("events", SCHEMA, &names)?;
    for events in events.chunks(CHUNK_ROWS) {
        let columns = EventColumn::ALL.into_iter().map(|column| event_column(events, column));
        let of_log = [
            strings(events.iter().map(|event| Some(&*event.payload))),
            partitions(events.iter().map(|event| event.position)),
            offsets(events.iter().map(|event| event.position)),
        ];
        append(&mut appender, columns.chain(of_log))?;
    }
    appender.flush()
}

/// Appends positions to the table `once_events`.
pub(super) fn append_positions(transaction: &Transaction<'_>, positions: &[Position]) -> duckdb::Result<()> {
    let mut appender = transaction.appender_to_db("once_events", SCHEMA)?;
    for positions in positions.chunks(CHUNK_ROWS) {
        append(&mut appender, [partitions(positions.iter().copied()), offsets(positions.iter().copied())])?;
    }
    appender.flush()
}

fn append(appender: &mut Appender<'_>, columns: impl IntoIterator<Item = ArrayRef>) -> duckdb::Result<()> {
    let columns: Vec<ArrayRef> = columns.into_iter().collect();
    // The appender goes by the order of the columns, not by these names.
    let field = |(number, column): (usize, &ArrayRef)| Field::new(number.to_string(), column.data_type().clone(), true);
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    appender.append_record_batch(RecordBatch::try_new(Arc::new(schema), columns).expect("the columns are equally long"))
}

fn event_column(events: &[&ArchivedEvent], column: EventColumn) -> ArrayRef {
    let values = events.iter().map(|event| event.value(column));
    match column.column_type() {
        ColumnType::UserId => Arc::new(Int64Array::from_iter(values.map(|value| match value {
            ColumnValue::UserId(user) => Some(user.0),
            _ => None,
        }))),
        ColumnType::Text => strings(values.map(|value| match value {
            ColumnValue::Text(text) => text,
            _ => None,
        })),
        ColumnType::Decimal => {
            let numbers = Decimal128Array::from_iter(values.map(|value| match value {
                ColumnValue::Decimal(number) => number.map(Decimal::scaled),
                _ => None,
            }));
            Arc::new(numbers.with_data_type(DataType::Decimal128(PRECISION, SCALE.cast_signed())))
        }
        ColumnType::Timestamp => {
            let instants = TimestampMicrosecondArray::from_iter(values.map(|value| match value {
                ColumnValue::Timestamp(at) => Some(at.0),
                _ => None,
            }));
            Arc::new(instants.with_timezone(ZONE))
        }
    }
}

/// Large strings: a few of the largest payloads have more bytes together than `i32` counts.
fn strings<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(LargeStringArray::from_iter(values))
}

fn partitions(positions: impl Iterator<Item = Position>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(positions.map(|position| position.partition.0.cast_signed())))
}

fn offsets(positions: impl Iterator<Item = Position>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(positions.map(|position| position.offset.cast_signed())))
}
