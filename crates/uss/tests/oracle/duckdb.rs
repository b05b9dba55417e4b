//! DuckDB as a source. It runs the SQL that the engine generates from its plans.

use std::collections::{BTreeMap, BTreeSet};

use duckdb::Connection;
use segment_engine::eval::jsonb_ordered;
use segment_engine::event::Event;
use segment_engine::ids::UserId;
use segment_engine::language::compile;
use segment_engine::plan::Plan;
use segment_engine::sql::{self, SegmentSource, member_query, members_query, size_query};
use segment_engine::time::Timestamp;

use crate::answers::{Answer, Answers, Verdict};
use crate::history::{Case, World};

/// The relations of the warehouse as views. A variable sets the instant of the case that they show.
const VIEWS: &str = "
    CREATE VIEW user_segment_analytics.user_events AS SELECT e.*, o.user_id, 0 AS log_partition
        FROM events e JOIN owners_at o USING (log_offset) WHERE o.instant = getvariable('instant');
    CREATE VIEW user_segment_analytics.users AS SELECT id, client_ref_id, email, name, created_at
        FROM users_at WHERE instant = getvariable('instant');
    CREATE VIEW user_segment_analytics.traits AS SELECT id AS user_id, traits
        FROM users_at WHERE instant = getvariable('instant') AND traits <> '{}';
";

/// The tables below the views. They are made anew for each case, since DuckDB would go on scanning
/// deleted rows.
const TABLES: &str = "
    CREATE OR REPLACE TABLE events (log_offset BIGINT, event_id VARCHAR, client_ref_id VARCHAR, id_type VARCHAR,
        region VARCHAR, device_type VARCHAR, country VARCHAR, payload_activity_type VARCHAR, payload_url VARCHAR,
        payload_order_total DECIMAL(38,9), payload_order_id VARCHAR, payload_element_id VARCHAR,
        created_at TIMESTAMPTZ, processed_at TIMESTAMPTZ, payload JSON);
    CREATE OR REPLACE TABLE owners_at (instant INTEGER, log_offset BIGINT, user_id BIGINT);
    CREATE OR REPLACE TABLE users_at (instant INTEGER, id BIGINT, client_ref_id VARCHAR, email VARCHAR, name VARCHAR,
        created_at TIMESTAMPTZ, traits JSON);
";

/// One segment and instant in this many is also queried for the segment's size and for one user
/// alone.
const CROSS_CHECKS: usize = 16;

pub(crate) struct DuckDb {
    connection: Connection,
    /// Compiled clauses, or the reasons of their refusal.
    plans: BTreeMap<String, Result<Plan, String>>,
    asked: usize,
}

impl DuckDb {
    pub(crate) fn open() -> DuckDb {
        let connection = Connection::open_in_memory().unwrap();
        // One thread, since queries are small. The queries must not depend on the zone.
        connection.execute_batch("SET threads = 1; SET TimeZone = 'Pacific/Apia';").unwrap();
        connection.execute_batch(sql::MACROS).unwrap();
        connection.execute_batch(TABLES).unwrap();
        connection.execute_batch(VIEWS).unwrap();
        DuckDb { connection, plans: BTreeMap::new(), asked: 0 }
    }

    fn load(&self, worlds: &[World]) -> Result<(), duckdb::Error> {
        self.connection.execute_batch(TABLES)?;
        let Some(last) = worlds.last() else { return Ok(()) };
        let final_owners: BTreeMap<u64, UserId> = owners(last).collect();
        let (mut owner_rows, mut user_rows) = (Vec::new(), Vec::new());
        for (number, world) in worlds.iter().enumerate() {
            // The table has events that are not yet received, too. The query must leave them out.
            let mut owned = final_owners.clone();
            owned.extend(owners(world));
            owner_rows.extend(owned.iter().map(|(offset, user)| format!("({number}, {offset}, {user})")));
            user_rows.extend(world.users.iter().map(|(id, user)| {
                let texts = [Some(user.key.as_str()), user.email.as_deref(), user.name.as_deref()].map(text);
                let traits = text(Some(&jsonb_ordered(&user.traits_json())));
                format!("({number}, {id}, {}, '{}', {traits})", texts.join(", "), user.created_at)
            }));
        }
        let events: BTreeMap<u64, &Event> =
            last.users.values().flat_map(|user| &user.events).map(|event| (event.position.offset, &**event)).collect();
        let event_rows: Vec<String> = events.into_values().map(event_row).collect();
        for (table, rows) in [("events", event_rows), ("owners_at", owner_rows), ("users_at", user_rows)] {
            if !rows.is_empty() {
                self.connection.execute_batch(&format!("INSERT INTO {table} VALUES {}", rows.join(", ")))?;
            }
        }
        Ok(())
    }

    fn ids(&self, sql: &str) -> Result<Vec<i64>, String> {
        let failed = |error: duckdb::Error| format!("{error}\n{sql}");
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        let rows = statement.query_map([], |row| row.get::<_, i64>(0)).map_err(failed)?;
        rows.collect::<Result<_, _>>().map_err(failed)
    }

    fn members(&mut self, world: &World, tag: &str, now: Timestamp) -> Result<Verdict, String> {
        let plans = &self.plans;
        if let Some(Err(why)) =
            world.segments.values().filter_map(|clause| plans.get(clause)).find(|plan| plan.is_err())
        {
            return Ok(Verdict::Skipped(why.clone()));
        }
        let plan_of = |tag: &str| plans[&world.segments[tag]].as_ref().ok();
        let resolve = |tag: &str| plan_of(tag).map(SegmentSource::Plan);
        let plan = plan_of(tag).ok_or("it was refused")?;
        let query = members_query(plan, &resolve, now).map_err(|error| error.to_string())?;
        let members: BTreeSet<UserId> = self.ids(&query)?.into_iter().map(UserId).collect();
        if self.asked.is_multiple_of(CROSS_CHECKS) {
            let size = self.ids(&size_query(plan, &resolve, now).map_err(|error| error.to_string())?)?;
            if size != [members.len() as i64] {
                return Err(format!("the size of {members:?} is {size:?}"));
            }
            for user in world.users.keys().take(1) {
                let query = member_query(plan, &resolve, now, *user).map_err(|error| error.to_string())?;
                if self.ids(&query)?.contains(&user.0) != members.contains(user) {
                    return Err(format!("asked about {user} alone it is not as in {members:?}\n{query}"));
                }
            }
        }
        self.asked += 1;
        Ok(Verdict::Members(members))
    }
}

impl Answers for DuckDb {
    fn name(&self) -> &'static str {
        "DuckDB"
    }

    fn answer(&mut self, case: &Case, worlds: &[World]) -> Result<Answer, String> {
        self.plans.clear();
        self.load(worlds).map_err(|error| error.to_string())?;
        for clause in worlds.iter().flat_map(|world| world.segments.values()) {
            let compiled = || compile(clause).map_err(|error| format!("refused: {error:?}\n  {clause}"));
            self.plans.entry(clause.clone()).or_insert_with(compiled);
        }
        let mut answer = Answer::new();
        for (number, (world, now)) in worlds.iter().zip(&case.instants).enumerate() {
            let show = format!("SET VARIABLE instant = {number}");
            self.connection.execute_batch(&show).map_err(|error| error.to_string())?;
            for tag in world.segments.keys() {
                answer.insert((number, tag.clone()), self.members(world, tag, *now)?);
            }
        }
        Ok(answer)
    }
}

fn owners(world: &World) -> impl Iterator<Item = (u64, UserId)> {
    world.users.iter().flat_map(|(id, user)| user.events.iter().map(|event| (event.position.offset, *id)))
}

fn text(text: Option<&str>) -> String {
    text.map_or("NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''")))
}

fn event_row(event: &Event) -> String {
    let texts = [
        event.event_id.as_deref(),
        Some(&*event.client_ref_id),
        event.id_type.as_deref(),
        event.region.as_deref(),
        event.device_type.as_deref(),
        event.country.as_deref(),
        event.activity_type.as_deref(),
        event.url.as_deref(),
    ];
    let total = event.order_total.map_or("NULL".to_owned(), |total| format!("'{total}'"));
    format!(
        "({}, {}, {total}, {}, {}, '{}', '{}', {})",
        event.position.offset,
        texts.map(text).join(", "),
        text(event.order_id.as_deref()),
        text(event.element_id.as_deref()),
        event.created_at,
        event.processed_at,
        text(Some(&jsonb_ordered(&event.payload)))
    )
}
