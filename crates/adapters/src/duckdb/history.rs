//! Reads for the engine: receipts of deliveries, departures, and known users. [`events`](super::events)
//! reads users' events.

use std::collections::HashMap;

use duckdb::{Connection, params};
use ports::warehouse::{Departure, WarehouseError};
use segment_engine::ids::UserId;
use segment_engine::machine::Receipt;
use segment_engine::time::Timestamp;
use serde::Serialize;

use super::unavailable;

/// One item of a request, with its place in it. Lists go to DuckDB as one JSON parameter each,
/// because its client cannot bind lists.
#[derive(Serialize)]
struct Delivery<'a> {
    place: usize,
    user: i64,
    event_id: &'a str,
}

pub(super) fn json<T: Serialize>(rows: impl Iterator<Item = T>) -> String {
    serde_json::to_string(&rows.collect::<Vec<_>>()).expect("numbers and strings always serialise")
}

/// See `Warehouse::received`.
pub(super) fn received(
    connection: &Connection,
    ids: &[(UserId, String)],
) -> Result<Vec<Option<Receipt>>, WarehouseError> {
    let sql = r#"
        WITH listed AS (
            SELECT unnest(from_json(?, '[{"place": "BIGINT", "user": "BIGINT", "event_id": "VARCHAR"}]')) AS item
        ), asked AS (
            SELECT l.item.place AS place, l.item.event_id AS event_id, coalesce(a.survivor, l.item.user) AS user_id
            FROM listed l LEFT JOIN user_segment_analytics.aliases a ON a.absorbed = l.item.user
        )
        SELECT asked.place, epoch_us(max(e.processed_at)), bool_or(o.log_offset IS NOT NULL)
        FROM asked
        JOIN user_segment_analytics.events e ON e.event_id = asked.event_id
        LEFT JOIN user_segment_analytics.aliases a ON a.absorbed = e.user_id
        LEFT JOIN user_segment_analytics.once_events o USING (log_partition, log_offset)
        WHERE coalesce(a.survivor, e.user_id) = asked.user_id
        GROUP BY asked.place"#;
    let asked = ids.iter().enumerate().map(|(place, (user, event_id))| Delivery { place, user: user.0, event_id });
    let mut received = vec![None; ids.len()];
    let mut statement = connection.prepare(sql).map_err(unavailable)?;
    let found = statement.query_map([json(asked)], |row| Ok((row.get::<_, usize>(0)?, row.get(1)?, row.get(2)?)));
    for row in found.map_err(unavailable)? {
        let (place, micros, dedupe_forever) = row.map_err(unavailable)?;
        received[place] = Some(Receipt { at: Timestamp(micros), dedupe_forever });
    }
    Ok(received)
}

/// See `Warehouse::departures`.
pub(super) fn departures(connection: &Connection, users: &[UserId]) -> Result<Vec<Option<Departure>>, WarehouseError> {
    let sql = "SELECT user_id, bool_or(deleted) FROM user_segment_analytics.departures
               WHERE user_id IN (SELECT unnest(CAST(string_split(?, ',') AS BIGINT[]))) GROUP BY user_id";
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let ids = users.iter().map(UserId::to_string).collect::<Vec<_>>().join(",");
    let mut statement = connection.prepare(sql).map_err(unavailable)?;
    let found = statement.query_map([ids], |row| {
        let departure = if row.get(1)? { Departure::Deleted } else { Departure::Merged };
        Ok((UserId(row.get(0)?), departure))
    });
    let found: HashMap<UserId, Departure> = found.and_then(Iterator::collect).map_err(unavailable)?;
    Ok(users.iter().map(|user| found.get(user).copied()).collect())
}

/// See `Warehouse::users`.
pub(super) fn users(
    connection: &Connection,
    after: Option<UserId>,
    limit: usize,
) -> Result<Vec<UserId>, WarehouseError> {
    let sql = "SELECT id FROM user_segment_analytics.users WHERE id > ? OR ? ORDER BY id LIMIT ?";
    let from = after.map_or(i64::MIN, |after| after.0);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare(sql).map_err(unavailable)?;
    let rows = statement.query_map(params![from, after.is_none(), limit], |row| row.get(0).map(UserId));
    rows.and_then(Iterator::collect).map_err(unavailable)
}
