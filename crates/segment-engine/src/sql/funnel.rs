//! A funnel as SQL: a table of users and how many steps they took.
//!
//! At an event that matches step n, the best start is the latest start that step n - 1 has at any
//! earlier instant. That is one window function per step after the first, for all users at once.

use std::fmt::Write;

use crate::plan::{Aggregate, AggregateFunction, Expr};
use crate::sql::expr::ExprWriter;

/// Returns `SELECT user_id, steps` over the events `e` of `events` (a FROM and WHERE); `None` for
/// other aggregates. Users without a step have no row.
pub(super) fn funnel_sql(aggregate: &Aggregate, writer: &ExprWriter<'_>, events: &str) -> Option<String> {
    let (AggregateFunction::Funnel { within }, Some(Expr::Steps(steps))) = (aggregate.function, &aggregate.argument)
    else {
        return None;
    };
    let conditions: Vec<String> = steps.iter().map(|step| writer.sql(step)).collect();
    let mut table = matches_sql(aggregate, &conditions, writer, events);
    for step in 2..=conditions.len() {
        table = format!(
            "SELECT * EXCLUDE (start), CASE WHEN matches_{step} AND t - start <= {within} THEN start END AS start_{step}\n  \
             FROM (SELECT *, max(start_{before}) OVER (PARTITION BY user_id ORDER BY t \
             RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS start\n  FROM ({table}))",
            before = step - 1
        );
    }
    let mut reached = String::new();
    for step in (1..=conditions.len()).rev() {
        let _ = write!(reached, "WHEN count(start_{step}) > 0 THEN {step} ");
    }
    Some(format!("SELECT user_id, CASE {reached}ELSE 0 END AS steps\n  FROM ({table}) GROUP BY user_id"))
}

/// Returns the events that match a step: `t` in microseconds, the steps that each matches, and its
/// start if it matches the first.
fn matches_sql(aggregate: &Aggregate, conditions: &[String], writer: &ExprWriter<'_>, events: &str) -> String {
    let mut columns = String::new();
    for (step, condition) in (2..).zip(&conditions[1..]) {
        let _ = write!(columns, ", coalesce({condition}, FALSE) AS matches_{step}");
    }
    let filter = aggregate.filter.as_ref().map(|filter| format!(" AND {}", writer.sql(filter))).unwrap_or_default();
    format!(
        "SELECT e.user_id, epoch_us(e.created_at) AS t{columns},\n    \
         CASE WHEN {first} THEN epoch_us(e.created_at) END AS start_1\n  {events}{filter} AND ({any})",
        first = conditions[0],
        any = conditions.join(" OR ")
    )
}
