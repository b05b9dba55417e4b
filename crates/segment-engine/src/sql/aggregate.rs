//! One aggregate as SQL.

use crate::plan::{Aggregate, AggregateFunction, Expr};
use crate::sql::expr::ExprWriter;
use crate::sql::text::call;
use crate::value::Type;

/// The order of `first` and `last`.
const LOG_ORDER: &str = "e.created_at, e.processed_at, e.log_partition, e.log_offset";

/// Returns `function(argument) FILTER (WHERE filter)` over the events `e` of one user.
pub(super) fn aggregate_sql(aggregate: &Aggregate, writer: &ExprWriter<'_>) -> String {
    let filter = match &aggregate.filter {
        Some(filter) => format!(" FILTER (WHERE {})", writer.sql(filter)),
        None => String::new(),
    };
    let Some(argument) = &aggregate.argument else {
        return format!("count(*){filter}");
    };
    let x = writer.sql(argument);
    match aggregate.function {
        AggregateFunction::Count => format!("count({x}){filter}"),
        AggregateFunction::CountDistinct => format!("count(DISTINCT {x}){filter}"),
        AggregateFunction::Sum => {
            let [units, nanos] = sums(argument, &x, &filter);
            call("sum", &[&units, &nanos])
        }
        AggregateFunction::Avg => {
            let [units, nanos] = sums(argument, &x, &filter);
            call("avg", &[&units, &nanos, &format!("count({x}){filter}")])
        }
        AggregateFunction::Min => format!("min({x}){filter}"),
        AggregateFunction::Max => format!("max({x}){filter}"),
        AggregateFunction::BoolOr => format!("bool_or({x}){filter}"),
        AggregateFunction::BoolAnd => format!("bool_and({x}){filter}"),
        AggregateFunction::First => format!("first({x} ORDER BY {LOG_ORDER}){filter}"),
        AggregateFunction::Last => format!("last({x} ORDER BY {LOG_ORDER}){filter}"),
        AggregateFunction::Funnel { .. } => unreachable!("a funnel is a table of its own"),
    }
}

/// Returns the sums of the argument's whole units and of its nanos, which do not overflow for any
/// number of events.
fn sums(argument: &Expr, x: &str, filter: &str) -> [String; 2] {
    match argument.value_type() {
        Type::Int => [format!("sum({x}){filter}"), format!("sum(CAST({x} * 0 AS HUGEINT)){filter}")],
        _ => [format!("sum({}){filter}", call("units", &[x])), format!("sum({}){filter}", call("nanos", &[x]))],
    }
}

/// Returns the value of the aggregate with this index. The tables have no rows for users without
/// events: their NULL becomes 0 if the aggregate is never NULL.
pub(super) fn value_sql(index: usize, aggregate: &Aggregate) -> String {
    match aggregate.function {
        AggregateFunction::Count | AggregateFunction::CountDistinct => format!("coalesce(a.a{index}, 0)"),
        AggregateFunction::Funnel { .. } => format!("coalesce(f{index}.steps, 0)"),
        _ => format!("a.a{index}"),
    }
}
