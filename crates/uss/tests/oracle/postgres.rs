//! PostgreSQL as a source. It gets the where clause itself: none of our code parses, binds or plans
//! it. Only `now()`, `segment()`, the names of the columns, the choices in `postgres.sql` and the
//! funnel are ours.

use std::collections::BTreeMap;
use std::fmt::Write;

use ::postgres::{Client, SimpleQueryMessage};
use segment_engine::event::Event;
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;

use crate::answers::{Answer, Answers, Verdict};
use crate::clauses::Dialect;
use crate::history::{Case, World};
use crate::naive::{Clause, Form};
use crate::postgres_server::PostgresServer;

pub(crate) struct Postgres {
    client: Client,
    /// Kept as long as the client, because its drop stops the server.
    _server: PostgresServer,
}

impl Postgres {
    /// # Panics
    /// If PostgreSQL is not installed or does not start: `scripts/postgres.sh` installs it.
    pub(crate) fn start() -> Postgres {
        let server = PostgresServer::start();
        let mut client = server.connect();
        client.batch_execute(include_str!("postgres.sql")).unwrap();
        Postgres { client, _server: server }
    }

    fn load(&mut self, worlds: &[World]) -> Result<(), String> {
        let mut script = "TRUNCATE events, owners_at, users_at, members;".to_owned();
        let (mut events, mut owners, mut users) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (number, world) in worlds.iter().enumerate() {
            for (id, user) in &world.users {
                let (email, name) = (text(user.email.as_deref()), text(user.name.as_deref()));
                let traits = text(Some(&user.traits_json().to_string()));
                users.push(format!("({number}, {id}, {email}, {name}, '{}', {traits})", user.created_at));
                for event in &user.events {
                    owners.push(format!("({number}, {}, {id})", event.position.offset));
                    events.entry(event.position.offset).or_insert_with(|| event_row(event));
                }
            }
        }
        let events: Vec<String> = events.into_values().collect();
        for (table, rows) in [("events", events), ("owners_at", owners), ("users_at", users)] {
            if !rows.is_empty() {
                let _ = write!(script, "INSERT INTO {table} VALUES {};", rows.join(", "));
            }
        }
        self.client.batch_execute(&script).map_err(described)
    }

    /// Runs one statement after the other, to find out which of them fail, and why.
    fn one_by_one(&mut self, queries: &[Query], answer: &mut Answer) -> Result<(), String> {
        for query in queries {
            if let Err(error) = self.client.batch_execute(&query.sql) {
                // Segments that refer to this one cannot be trusted either.
                let why = format!("PostgreSQL raises: {}\n  {}", described(error), query.clause);
                answer.insert(query.key.clone(), Verdict::Skipped(why));
                for other in queries.iter().filter(|other| other.key.0 == query.key.0) {
                    if other.clause.contains("segment(") {
                        answer.insert(
                            other.key.clone(),
                            Verdict::Skipped("a segment it refers to is skipped".to_owned()),
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

/// One segment at one instant.
struct Query {
    key: (usize, String),
    clause: String,
    sql: String,
}

impl Answers for Postgres {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn reads(&self, dialect: Dialect) -> bool {
        dialect == Dialect::Portable
    }

    fn answer(&mut self, case: &Case, worlds: &[World]) -> Result<Answer, String> {
        self.load(worlds)?;
        let mut queries = Vec::new();
        for (number, (world, now)) in worlds.iter().zip(&case.instants).enumerate() {
            for (tag, clause) in &world.segments {
                let sql = members_statement(number, tag, clause, *now)?;
                queries.push(Query { key: (number, tag.clone()), clause: clause.clone(), sql });
            }
        }
        let mut answer: Answer =
            queries.iter().map(|query| (query.key.clone(), Verdict::Members(Default::default()))).collect();
        let script: String = queries.iter().map(|query| query.sql.as_str()).collect();
        if self.client.batch_execute(&script).is_err() {
            self.one_by_one(&queries, &mut answer)?;
        }
        let rows = self.client.simple_query("SELECT instant, tag, user_id FROM members").map_err(described)?;
        for row in rows {
            let SimpleQueryMessage::Row(row) = row else { continue };
            let cell = |column: usize| row.get(column).unwrap_or_default();
            let key = (cell(0).parse().map_err(|_| "no number")?, cell(1).to_owned());
            if let Some(Verdict::Members(members)) = answer.get_mut(&key) {
                members.insert(UserId(cell(2).parse().map_err(|_| "no number")?));
            }
        }
        Ok(answer)
    }
}

/// Returns the statement that stores the members of one segment at one instant, by rule 1, in the
/// three forms of semantics §2.
fn members_statement(number: usize, tag: &str, clause: &str, now: Timestamp) -> Result<String, String> {
    let events = format!(
        "(SELECT e.*, o.user_id FROM events e JOIN owners_at o USING (log_offset)
            WHERE o.instant = {number} AND o.user_id = users.id ORDER BY e.created_at, e.processed_at, e.log_offset) events"
    );
    // Our funnel aggregate gets only its arguments, so `created_at` must be one.
    let clause = &clause.replace("funnel(", "funnel(created_at, ");
    let condition = match Clause::parse(clause)?.form {
        _ if clause.is_empty() => "TRUE".to_owned(),
        Form::UserOnly => format!("({clause})"),
        Form::Aggregate => format!("(SELECT ({clause}) FROM {events})"),
        Form::Row => format!("EXISTS (SELECT FROM {events} WHERE ({clause}))"),
    };
    // The subquery sets the variable for each row. OFFSET 0 keeps it apart from the condition.
    Ok(format!(
        "SET uss.now = '{now}'; SET uss.instant = '{number}';
        INSERT INTO members SELECT {number}, '{tag}', users.id
        FROM (SELECT *, set_config('uss.user', id::text, false) AS asked FROM users_at WHERE instant = {number} OFFSET 0) users
        WHERE asked IS NOT NULL AND {condition};\n"
    ))
}

fn described(error: ::postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

fn text(text: Option<&str>) -> String {
    text.map_or("NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''")))
}

/// A column with two names is in the row twice.
fn event_row(event: &Event) -> String {
    let twice = |column: &Option<Box<str>>| {
        let column = text(column.as_deref());
        format!("{column}, {column}")
    };
    let total = event.order_total.map_or("NULL".to_owned(), |total| total.to_string());
    let plain =
        [&event.id_type, &event.region, &event.device_type, &event.country].map(|column| text(column.as_deref()));
    format!(
        "({}, {}, {}, {}, {}, {}, {total}, {total}, {}, {}, '{}', '{}', {})",
        event.position.offset,
        twice(&event.event_id),
        text(Some(&event.client_ref_id)),
        plain.join(", "),
        twice(&event.activity_type),
        twice(&event.url),
        twice(&event.order_id),
        twice(&event.element_id),
        event.created_at,
        event.processed_at,
        text(Some(&event.payload.to_string()))
    )
}
