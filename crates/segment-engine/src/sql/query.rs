//! The queries: a plan, and those that it refers to, as one statement.

use std::collections::BTreeMap;

use crate::ids::UserId;
use crate::plan::{Aggregate, AggregateFunction, Expr, Plan};
use crate::sql::aggregate::aggregate_sql;
use crate::sql::expr::ExprWriter;
use crate::sql::funnel::funnel_sql;
use crate::sql::time;
use crate::time::Timestamp;

/// The segment with a tag.
#[derive(Clone, Copy, Debug)]
pub enum SegmentSource<'a> {
    /// A computed segment.
    Plan(&'a Plan),
    /// A segment whose members are set by hand.
    Members(&'a [UserId]),
}

/// Why a query cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A clause names a segment that does not exist.
    #[error("there is no segment '{0}': create it, or correct the tag")]
    UnknownSegment(String),
    /// The segments refer to each other in a circle.
    #[error("segment '{0}' refers to itself through other segments: remove one of the references")]
    Cycle(String),
}

/// Returns a query with one row per member at `now`: the user id, ascending.
///
/// # Errors
/// If `resolve` does not know a tag, or if segments refer to each other in a circle.
pub fn members_query<'a>(
    plan: &Plan,
    resolve: &dyn Fn(&str) -> Option<SegmentSource<'a>>,
    now: Timestamp,
) -> Result<String, QueryError> {
    let query = Query::new(plan, resolve, now, None)?;
    Ok(format!("{}\nSELECT user_id FROM {} ORDER BY user_id", query.ctes(), query.root))
}

/// Returns a query with one row if this user is a member at `now`, and none otherwise. It reads
/// only this user's events.
///
/// # Errors
/// Like [`members_query`].
pub fn member_query<'a>(
    plan: &Plan,
    resolve: &dyn Fn(&str) -> Option<SegmentSource<'a>>,
    now: Timestamp,
    user: UserId,
) -> Result<String, QueryError> {
    let query = Query::new(plan, resolve, now, Some(user))?;
    Ok(format!("{}\nSELECT user_id FROM {}", query.ctes(), query.root))
}

/// Returns a query with the first members at `now`, `sample_max` at most: how many members there are,
/// and the user id, ascending. No row if there are none.
///
/// # Errors
/// Like [`members_query`].
pub fn sample_query<'a>(
    plan: &Plan,
    resolve: &dyn Fn(&str) -> Option<SegmentSource<'a>>,
    now: Timestamp,
    sample_max: usize,
) -> Result<String, QueryError> {
    let query = Query::new(plan, resolve, now, None)?;
    Ok(format!(
        "{},\nchosen AS MATERIALIZED (SELECT user_id FROM {})\n\
        SELECT (SELECT count(*) FROM chosen) AS size, user_id FROM chosen ORDER BY user_id LIMIT {sample_max}",
        query.ctes(),
        query.root
    ))
}

/// Returns a query with one row: the number of members at `now`.
///
/// # Errors
/// Like [`members_query`].
pub fn size_query<'a>(
    plan: &Plan,
    resolve: &dyn Fn(&str) -> Option<SegmentSource<'a>>,
    now: Timestamp,
) -> Result<String, QueryError> {
    let query = Query::new(plan, resolve, now, None)?;
    Ok(format!("{}\nSELECT count(*) FROM {}", query.ctes(), query.root))
}

/// Returns a condition on the rows `e` of the table or view of events: that of
/// [`HistoryNeeds::filters`](crate::machine::HistoryNeeds::filters).
pub fn event_condition(filter: &Expr) -> String {
    ExprWriter::new(&[], Timestamp::MIN).sql(filter)
}

/// The common table expressions of a plan, after those of the segments that it refers to.
struct Query<'q, 'a> {
    resolve: &'q dyn Fn(&str) -> Option<SegmentSource<'a>>,
    now: Timestamp,
    user: Option<UserId>,
    ctes: Vec<String>,
    /// The table of each tag; `None` while it is being written.
    tables: BTreeMap<String, Option<String>>,
    root: String,
}

impl<'q, 'a> Query<'q, 'a> {
    fn new(
        plan: &Plan,
        resolve: &'q dyn Fn(&str) -> Option<SegmentSource<'a>>,
        now: Timestamp,
        user: Option<UserId>,
    ) -> Result<Query<'q, 'a>, QueryError> {
        let mut query = Query { resolve, now, user, ctes: Vec::new(), tables: BTreeMap::new(), root: String::new() };
        query.root = query.add_plan(plan)?;
        Ok(query)
    }

    fn ctes(&self) -> String {
        format!("WITH {}", self.ctes.join(",\n"))
    }

    /// Adds the table of a tag once, however often it is named.
    fn add_tag(&mut self, tag: &str) -> Result<String, QueryError> {
        match self.tables.get(tag) {
            Some(Some(table)) => return Ok(table.clone()),
            Some(None) => return Err(QueryError::Cycle(tag.to_owned())),
            None => {}
        }
        self.tables.insert(tag.to_owned(), None);
        let table = match (self.resolve)(tag) {
            None => return Err(QueryError::UnknownSegment(tag.to_owned())),
            Some(SegmentSource::Plan(plan)) => self.add_plan(plan)?,
            Some(SegmentSource::Members(members)) => self.add_members(members),
        };
        self.tables.insert(tag.to_owned(), Some(table.clone()));
        Ok(table)
    }

    fn add_members(&mut self, members: &[UserId]) -> String {
        let ids = members.iter().map(UserId::to_string).collect::<Vec<_>>().join(", ");
        let table = format!("members_{}", self.ctes.len());
        self.ctes.push(format!("{table} AS (SELECT DISTINCT unnest([{ids}]::BIGINT[]) AS user_id)"));
        table
    }

    /// Adds the tables of a plan: the aggregates of users with events, each funnel's steps, and the
    /// members.
    fn add_plan(&mut self, plan: &Plan) -> Result<String, QueryError> {
        let segments = plan.segments.iter().map(|tag| self.add_tag(tag)).collect::<Result<Vec<_>, _>>()?;
        let number = self.ctes.len();
        let writer = ExprWriter::new(&plan.aggregates, self.now);
        let mut joins = self.add_aggregates(plan, number, &writer);
        joins.push_str("\n  LEFT JOIN user_segment_analytics.traits t ON t.user_id = u.id");
        for (i, table) in segments.iter().enumerate() {
            joins.push_str(&format!("\n  LEFT JOIN {table} s{i} ON s{i}.user_id = u.id"));
        }
        let only = self.user.map(|user| format!("u.id = {user} AND ")).unwrap_or_default();
        self.ctes.push(format!(
            "segment_{number} AS (SELECT u.id AS user_id\n  FROM user_segment_analytics.users u{joins}\n  WHERE {only}{})",
            writer.sql(&plan.formula)
        ));
        Ok(format!("segment_{number}"))
    }

    /// Adds the tables of the aggregates. Returns the joins that read their values.
    fn add_aggregates(&mut self, plan: &Plan, number: usize, writer: &ExprWriter<'_>) -> String {
        let of_user = self.user.map(|user| format!(" AND e.user_id = {user}")).unwrap_or_default();
        let now = time::timestamp(self.now);
        let events = format!("FROM user_segment_analytics.user_events e\n  WHERE e.processed_at <= {now}{of_user}");
        let (mut columns, mut joins) = (String::new(), String::new());
        for (i, aggregate) in plan.aggregates.iter().enumerate() {
            match funnel_sql(aggregate, writer, &events) {
                Some(funnel) => {
                    self.ctes.push(format!("funnel_{number}_{i} AS ({funnel})"));
                    joins.push_str(&format!("\n  LEFT JOIN funnel_{number}_{i} f{i} ON f{i}.user_id = u.id"));
                }
                None => columns.push_str(&format!(",\n    {} AS a{i}", aggregate_sql(aggregate, writer))),
            }
        }
        if !columns.is_empty() {
            let counting = counting_sql(plan, writer);
            let select = format!("SELECT e.user_id{columns}\n  {events}{counting} GROUP BY e.user_id");
            self.ctes.push(format!("aggregates_{number} AS ({select})"));
            joins.push_str(&format!("\n  LEFT JOIN aggregates_{number} a ON a.user_id = u.id"));
        }
        joins
    }
}

/// Returns a condition for the events that may count for one of the aggregates in a plan's table, if not
/// all may. A user without such events has the same values as one without any.
fn counting_sql(plan: &Plan, writer: &ExprWriter<'_>) -> String {
    let is_in_table = |aggregate: &&Aggregate| !matches!(aggregate.function, AggregateFunction::Funnel { .. });
    let filters = plan.aggregates.iter().filter(is_in_table).map(|aggregate| aggregate.filter.as_ref());
    match filters.collect::<Option<Vec<&Expr>>>() {
        Some(filters) => {
            let filters: Vec<String> = filters.into_iter().map(|filter| writer.sql(filter)).collect();
            format!(" AND (({}))", filters.join(") OR ("))
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::compile;

    #[test]
    fn a_tag_is_written_once_and_before_the_segment_that_names_it() {
        let vip = compile("count(*) > 3").unwrap();
        let both = compile("segment('vip') AND segment('vip') AND count(*) FILTER (WHERE segment('vip')) > 1").unwrap();
        let sql = members_query(&both, &|_| Some(SegmentSource::Plan(&vip)), Timestamp(5)).unwrap();
        assert_eq!(sql.matches("segment_0 AS (").count(), 1, "{sql}");
        assert!(sql.find("segment_0 AS (").unwrap() < sql.find("LEFT JOIN segment_0").unwrap(), "{sql}");
        assert!(sql.contains("e.processed_at <= make_timestamptz(5::BIGINT)"), "{sql}");
    }

    #[test]
    fn unknown_and_circular_segments_are_errors() {
        let plan = compile("segment('a')").unwrap();
        let unknown = members_query(&plan, &|_| None, Timestamp(0));
        assert_eq!(unknown, Err(QueryError::UnknownSegment("a".to_owned())));
        let circular = members_query(&plan, &|_| Some(SegmentSource::Plan(&plan)), Timestamp(0));
        assert_eq!(circular, Err(QueryError::Cycle("a".to_owned())));
    }

    #[test]
    fn a_funnel_is_a_table_of_its_own_over_the_same_events() {
        let plan = compile("funnel(INTERVAL '1 day', url = '/a', url = '/b') FILTER (WHERE region = 'x') < 2").unwrap();
        let sql = member_query(&plan, &|_| None, Timestamp(5), UserId(7)).unwrap();
        assert!(sql.contains("LEFT JOIN funnel_0_0 f0 ON f0.user_id = u.id"), "{sql}");
        assert!(!sql.contains("aggregates_"), "{sql}");
        let events = "WHERE e.processed_at <= make_timestamptz(5::BIGINT) AND e.user_id = 7 AND (e.region = 'x')";
        assert!(sql.contains(events), "{sql}");
        assert!(sql.contains("coalesce(f0.steps, 0)"), "{sql}");
    }

    #[test]
    fn one_user_alone_reads_only_that_users_events() {
        let plan = compile("count(*) > 3").unwrap();
        let sql = member_query(&plan, &|_| None, Timestamp(0), UserId(7)).unwrap();
        assert!(sql.contains("e.user_id = 7") && sql.contains("u.id = 7"), "{sql}");
    }
}
