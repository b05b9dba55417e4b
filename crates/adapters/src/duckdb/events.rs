//! Reads users' events for the engine, in pieces of a bounded size: all users' of one partition
//! ([`Pages`]), or some users' ([`history`]).
//!
//! A scan is a query for each page: the rows of some offsets, sorted here, since a wipe moves rows in
//! the table. Between two pages it holds no connection and no snapshot, however slowly they are taken.
//!
//! For [`history`], DuckDB knows the size of an event only after it has read it. So a query first
//! finds the first rows in order, by their narrow columns, and then streams these rows whole, in the
//! order in which they are stored. If they turn out too large, the query stops, and is asked for
//! fewer rows.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use duckdb::Connection;
use duckdb::arrow::array::{Array, AsArray, RecordBatch};
use duckdb::arrow::datatypes::{Decimal128Type, Int32Type, Int64Type};
use ports::warehouse::{History, HistoryBatch, HistoryOf, HistoryScan, WarehouseError, history_bytes};
use segment_engine::decimal::Decimal;
use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::machine::{HistoryNeeds, PastEvent};
use segment_engine::schema::{ColumnType, EventColumn};
use segment_engine::sql::event_condition;
use segment_engine::time::Timestamp;
use serde::Serialize;

use super::history::json;
use super::unavailable;

/// How many offsets the first page of a scan covers, and a later one at most.
const OFFSETS_MIN: u64 = 1 << 14;
const OFFSETS_MAX: u64 = 1 << 20;
/// How many events a page has at most: if there are more, it is read again with half the offsets.
/// It covers four times the offsets of the page before while that had no more than a quarter of them:
/// to begin a query takes as long as to read thousands of events.
const PAGE_EVENTS_MAX: usize = 1 << 17;
const PAGE_GROWTH: u64 = 4;
/// Few events take less, so the first attempt asks for one row per so many bytes of the bound.
const EVENT_BYTES_MIN: usize = 256;

/// A part of the request, with its place in it.
#[derive(Serialize)]
struct Part {
    place: usize,
    user: i64,
    from: i64,
    below: i64,
}

/// What a query returned.
enum Rows {
    /// All its rows. Each has its place in the request.
    All(Vec<(usize, Event)>),
    /// They take more than the bound. So many rows reached it.
    TooLarge(usize),
}

/// See `Warehouse::history`.
pub(super) fn history(
    connection: &Connection,
    parts: &[HistoryOf],
    bytes_max: usize,
) -> Result<History, WarehouseError> {
    let mut rows_max = (bytes_max / EVENT_BYTES_MIN).max(1);
    loop {
        match first_rows(connection, parts, rows_max, bytes_max)? {
            Rows::All(rows) => return Ok(in_order(rows, parts, rows_max)),
            // The rows that come first may be larger than these.
            Rows::TooLarge(rows) => rows_max = (rows - rows / 4 - 1).max(1),
        }
    }
}

/// Where a scan is.
pub(super) struct Pages {
    pub(super) scan: HistoryScan,
    /// How many offsets the next page covers.
    offsets: u64,
}

impl Pages {
    pub(super) fn new(scan: HistoryScan) -> Self {
        Self { scan, offsets: OFFSETS_MIN }
    }

    pub(super) fn is_over(&self) -> bool {
        self.scan.from >= self.scan.below
    }

    /// Reads the next page, which may have no events.
    pub(super) fn next(&mut self, connection: &Connection) -> Result<HistoryBatch, WarehouseError> {
        loop {
            let end = self.scan.below.min(self.scan.from.saturating_add(self.offsets));
            let Some(mut page) = self.read(connection, self.scan.from..end)? else {
                self.offsets = ((end - self.scan.from) / 2).max(1);
                continue;
            };
            // The table is nearly in this order.
            page.events.sort_unstable_by_key(|event| event.offset);
            self.scan.from = end;
            let part = PAGE_GROWTH as usize;
            if page.events.len() <= PAGE_EVENTS_MAX / part && page.bytes <= self.scan.bytes_max / part {
                // Rows with payloads are large.
                let offsets_max = if self.scan.needs.payload { OFFSETS_MIN } else { OFFSETS_MAX };
                self.offsets = (self.offsets * PAGE_GROWTH).min(offsets_max);
            }
            return Ok(HistoryBatch { events: page.events, until: end });
        }
    }

    /// Reads the events of these offsets, in any order; `None` if they are more than a page takes.
    fn read(&self, connection: &Connection, offsets: Range<u64>) -> Result<Option<Page>, WarehouseError> {
        let HistoryScan { partition, ref needs, bytes_max, .. } = self.scan;
        let offsets_in_page = offsets.end - offsets.start;
        let mut statement = connection.prepare(&page_sql(partition, offsets, needs)).map_err(unavailable)?;
        let mut batches = statement.stream_arrow([]).map_err(unavailable)?;
        // A list that grows is copied.
        let rows_max = usize::try_from(offsets_in_page).unwrap_or(usize::MAX).min(PAGE_EVENTS_MAX);
        let (mut page, mut is_too_large) = (Page { events: Vec::with_capacity(rows_max), bytes: 0 }, false);
        // To its end in any case: a query that is not finished keeps its snapshot.
        while let Some(batch) = next(&mut batches)? {
            let heads = past_events(&batch);
            for (row, mut event) in heads.enumerate().filter(|(_, event)| event.takers != 0) {
                if is_too_large {
                    break;
                }
                if needs.more() {
                    let (rest, bytes) = Row { batch: &batch, row, first: HEAD }.event()?;
                    page.bytes += bytes;
                    event.rest = Some(Box::new(rest));
                }
                page.events.push(event);
                is_too_large = offsets_in_page > 1 && (page.events.len() > PAGE_EVENTS_MAX || page.bytes > bytes_max);
            }
            if is_too_large {
                page = Page::default();
            }
        }
        Ok((!is_too_large).then_some(page))
    }
}

/// How many columns of a page come before those of the event, which it has only if more is needed.
const HEAD: usize = 5;

/// Returns the events of a page's batch, without the rest.
fn past_events(batch: &RecordBatch) -> impl Iterator<Item = PastEvent> {
    let column = |column: usize| batch.column(column).as_primitive::<Int64Type>().values();
    let (users, created, processed, offsets, takers) = (column(0), column(1), column(2), column(3), column(4));
    (0..batch.num_rows()).map(move |row| PastEvent {
        user_id: UserId(users[row]),
        created_at: Timestamp(created[row]),
        processed_at: Timestamp(processed[row]),
        offset: offsets[row].cast_unsigned(),
        takers: u32::try_from(takers[row]).expect("the query adds 32 bits at most"),
        rest: None,
    })
}

/// Events of a scan, and how many bytes they count.
#[derive(Default)]
struct Page {
    events: Vec<PastEvent>,
    bytes: usize,
}

/// Returns the query of a page. The numbers are in its text: DuckDB skips blocks of rows by
/// constants, not by parameters.
fn page_sql(partition: PartitionId, offsets: Range<u64>, needs: &HistoryNeeds) -> String {
    let conditions: Vec<Option<String>> =
        needs.filters.iter().map(|filter| filter.as_ref().map(event_condition)).collect();
    let always = [EventColumn::UserId, EventColumn::CreatedAt, EventColumn::ProcessedAt];
    let head = always.map(selected).join(", ");
    let mut sql = format!("SELECT {head}, e.log_offset, CAST({} AS BIGINT)", takers_sql(&conditions));
    if needs.more() {
        let column = |column: EventColumn| match column.column_type() {
            _ if always.contains(&column) || needs.columns.contains(&column) => selected(column),
            ColumnType::Decimal => "CAST(NULL AS DECIMAL(38, 9))".to_owned(),
            _ => "CAST(NULL AS VARCHAR)".to_owned(),
        };
        let payload = if needs.payload { "CAST(e.payload AS VARCHAR)" } else { "CAST(NULL AS VARCHAR)" };
        sql += &format!(", {}, e.log_partition, e.log_offset, {payload}", EventColumn::ALL.map(column).join(", "));
    }
    sql + &format!(
        " FROM user_segment_analytics.events e
        WHERE e.log_partition = {} AND e.log_offset >= {} AND e.log_offset < {}{}",
        partition.0,
        offset(offsets.start),
        offset(offsets.end),
        filter_sql(needs, &conditions)
    )
}

/// Returns a condition for the rows that a filter takes. Some that none takes may meet it, too, if they
/// are few or small.
fn filter_sql(needs: &HistoryNeeds, conditions: &[Option<String>]) -> String {
    let cover = if conditions.len() > 1 { needs.cover() } else { None };
    let cover = cover.map_or_else(String::new, |cover| format!(" AND ({})", event_condition(&cover)));
    match conditions.iter().cloned().collect::<Option<Vec<_>>>() {
        // To tell apart who takes a row costs as much as to tell whether any does.
        Some(all) if cover.is_empty() || needs.more() => format!("{cover} AND (({}))", all.join(") OR (")),
        _ => cover,
    }
}

/// Returns an expression that has bit n if the n-th condition is TRUE of a row.
fn takers_sql(conditions: &[Option<String>]) -> String {
    let bit = |(number, condition): (usize, &Option<String>)| match condition {
        Some(condition) if conditions.len() > 1 => format!("CASE WHEN {condition} THEN {} ELSE 0 END", 1_u32 << number),
        _ => (1_u32 << number).to_string(),
    };
    conditions.iter().enumerate().map(bit).collect::<Vec<_>>().join(" + ")
}

fn in_order(mut rows: Vec<(usize, Event)>, parts: &[HistoryOf], rows_max: usize) -> History {
    rows.sort_by_key(|(place, event)| (*place, event.position.offset));
    let left = match rows.last() {
        Some((place, event)) if rows.len() == rows_max => {
            let cut = HistoryOf { from: event.position.offset + 1, ..parts[*place] };
            [cut].into_iter().chain(parts[place + 1..].iter().copied()).collect()
        }
        _ => Vec::new(),
    };
    History { events: rows.into_iter().map(|(_, event)| event).collect(), left }
}

/// Reads the first `rows_max` rows, in any order. A single row may be larger than the bound.
fn first_rows(
    connection: &Connection,
    parts: &[HistoryOf],
    rows_max: usize,
    bytes_max: usize,
) -> Result<Rows, WarehouseError> {
    let mut statement = connection.prepare(&sql(rows_max)).map_err(unavailable)?;
    let mut batches = statement.stream_arrow([json(requested(parts))]).map_err(unavailable)?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = next(&mut batches)? {
        for row in 0..batch.num_rows() {
            let (event, event_bytes) = Row { batch: &batch, row, first: 0 }.event()?;
            bytes += event_bytes;
            if bytes > bytes_max && rows_max > 1 {
                return Ok(Rows::TooLarge(rows.len() + 1));
            }
            rows.push((batch.column(PLACE).as_primitive::<Int64Type>().value(row) as usize, event));
        }
    }
    Ok(Rows::All(rows))
}

fn requested(parts: &[HistoryOf]) -> impl Iterator<Item = Part> {
    parts.iter().enumerate().map(move |(place, of)| Part {
        place,
        user: of.user.0,
        from: offset(of.from),
        below: offset(of.below),
    })
}

fn offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

fn sql(rows_max: usize) -> String {
    let columns = EventColumn::ALL.map(selected).join(", ");
    format!(
        r#"
        WITH listed AS (
            SELECT unnest(from_json(
                ?, '[{{"place": "BIGINT", "user": "BIGINT", "from": "BIGINT", "below": "BIGINT"}}]'
            )) AS item
        ), first_rows AS (
            SELECT l.item.place AS place, e.rowid AS row
            FROM listed l
            JOIN user_segment_analytics.events e
              ON e.user_id = l.item.user AND e.log_offset >= l.item.from AND e.log_offset < l.item.below
            ORDER BY place, e.log_offset
            LIMIT {rows_max}
        )
        SELECT {columns}, e.log_partition, e.log_offset, CAST(e.payload AS VARCHAR), f.place
        FROM first_rows f JOIN user_segment_analytics.events e ON e.rowid = f.row"#
    )
}

/// Returns what to select for a column.
fn selected(column: EventColumn) -> String {
    let name = column.table_name();
    match column.column_type() {
        ColumnType::Timestamp => format!("epoch_us(e.{name})"),
        ColumnType::UserId | ColumnType::Text | ColumnType::Decimal => format!("e.{name}"),
    }
}

/// Returns the next batch of a streamed result. DuckDB's client panics if it cannot be read.
fn next(batches: &mut dyn Iterator<Item = RecordBatch>) -> Result<Option<RecordBatch>, WarehouseError> {
    let fetched = catch_unwind(AssertUnwindSafe(|| batches.next()));
    fetched.map_err(|panic| WarehouseError::Unavailable(message_of(&*panic)))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "the events cannot be read".to_owned())
}

/// The columns of a row after those of the schema.
const LOG_PARTITION: usize = EventColumn::ALL.len();
const LOG_OFFSET: usize = LOG_PARTITION + 1;
const PAYLOAD: usize = LOG_OFFSET + 1;
const PLACE: usize = PAYLOAD + 1;

/// An event in a batch.
struct Row<'a> {
    batch: &'a RecordBatch,
    row: usize,
    /// The column with which the event begins.
    first: usize,
}

impl Row<'_> {
    /// Returns the event, and how many bytes it counts.
    fn event(&self) -> Result<(Event, usize), WarehouseError> {
        let partition = self.column(LOG_PARTITION).as_primitive::<Int32Type>().value(self.row);
        let position = Position {
            partition: PartitionId(partition.cast_unsigned()),
            offset: self.int(LOG_OFFSET).cast_unsigned(),
        };
        let payload = self.str(PAYLOAD);
        let event = Event {
            user_id: UserId(self.int(EventColumn::UserId.index())),
            client_ref_id: self.str(EventColumn::ClientRefId.index()).unwrap_or_default().into(),
            id_type: self.text(EventColumn::IdType),
            region: self.text(EventColumn::Region),
            device_type: self.text(EventColumn::DeviceType),
            country: self.text(EventColumn::Country),
            activity_type: self.text(EventColumn::ActivityType),
            url: self.text(EventColumn::Url),
            order_total: self.decimal(EventColumn::OrderTotal),
            order_id: self.text(EventColumn::OrderId),
            element_id: self.text(EventColumn::ElementId),
            created_at: Timestamp(self.int(EventColumn::CreatedAt.index())),
            processed_at: Timestamp(self.int(EventColumn::ProcessedAt.index())),
            event_id: self.text(EventColumn::EventId),
            payload: match payload {
                Some(payload) => Arc::new(serde_json::from_str(payload).map_err(|error| not_json(position, &error))?),
                None => Arc::default(),
            },
            position,
        };
        let bytes = history_bytes(&event, payload.map_or(0, str::len));
        Ok((event, bytes))
    }

    fn column(&self, column: usize) -> &dyn Array {
        self.batch.column(self.first + column)
    }

    fn int(&self, column: usize) -> i64 {
        self.column(column).as_primitive::<Int64Type>().value(self.row)
    }

    fn str(&self, column: usize) -> Option<&str> {
        let column = self.column(column).as_string::<i32>();
        column.is_valid(self.row).then(|| column.value(self.row))
    }

    fn text(&self, column: EventColumn) -> Option<Box<str>> {
        self.str(column.index()).map(Into::into)
    }

    fn decimal(&self, column: EventColumn) -> Option<Decimal> {
        let column = self.column(column.index()).as_primitive::<Decimal128Type>();
        column.is_valid(self.row).then(|| column.value(self.row)).and_then(Decimal::from_scaled)
    }
}

fn not_json(Position { partition, offset }: Position, error: &serde_json::Error) -> WarehouseError {
    WarehouseError::Unavailable(format!(
        "the payload of the event at offset {offset} of partition {partition} is not JSON: {error}"
    ))
}
