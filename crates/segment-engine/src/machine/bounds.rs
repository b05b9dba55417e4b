//! Refusing clauses that can never be TRUE, because accumulators do not keep enough.

use super::accumulator_key::{AccumulatorId, AccumulatorKey, AccumulatorKind};
use super::index::SegmentIndex;
use super::lower::lower;
use crate::accumulator::ENTRIES_MAX;
use crate::decimal::Decimal;
use crate::language::{CompileError, code};
use crate::plan::{CompareOp, Expr, Plan};
use crate::value::{Type, Value};

/// Refuses a clause that compares a count with more than an accumulator keeps per user, in a window
/// or of distinct values. A count is a whole number, so a decimal stands for the next one.
///
/// This is checked when a clause is saved. Clauses that earlier builds saved still compile, and
/// each user beyond the bound is reported.
///
/// # Errors
/// `WHERE_THRESHOLD`, with the largest number that can be asked for.
pub fn check_thresholds(plan: &Plan) -> Result<(), CompileError> {
    let mut keys: Vec<AccumulatorKey> = Vec::new();
    let plan = &Plan { formula: whole(&plan.formula), ..plan.clone() };
    let formula = lower(plan, &vec![SegmentIndex(0); plan.segments.len()], &mut |key| {
        keys.push(key);
        AccumulatorId(u32::try_from(keys.len() - 1).expect("a named bound limits the conditions of a clause"))
    });
    let mut greatest = None;
    formula.thresholds(&mut |accumulator, k, _| {
        let key = &keys[accumulator.0 as usize];
        if k > ENTRIES_MAX as u64 && is_bounded(key) && greatest.is_none_or(|(other, _)| k > other) {
            greatest = Some((k, matches!(key.kind, AccumulatorKind::Distinct(_))));
        }
    });
    let Some((k, is_distinct)) = greatest else { return Ok(()) };
    let (things, instead) =
        if is_distinct { ("distinct values", "of fewer values") } else { ("events in a window", "without a window") };
    Err(CompileError {
        code: code::THRESHOLD,
        message: format!(
            "this asks whether a count reaches {k}, but at most {ENTRIES_MAX} {things} are kept per user, so it would never \
             be true"
        ),
        suggestion: Some(format!("Compare with at most `>= {ENTRIES_MAX}`, or count {instead}")),
        line: 1,
        column: 1,
    })
}

/// Returns the condition with whole numbers where counts are compared with decimals. It is only for
/// checking bounds: `= 1.5`, which no count equals, becomes `= 2`.
fn whole(condition: &Expr) -> Expr {
    match condition {
        Expr::And(items) => Expr::And(items.iter().map(whole).collect()),
        Expr::Or(items) => Expr::Or(items.iter().map(whole).collect()),
        Expr::Not(inner) => Expr::Not(Box::new(whole(inner))),
        Expr::Compare(op, left, right) => match (&**left, &**right) {
            (Expr::Cast(count, Type::Decimal), Expr::Literal(Value::Decimal(number), _)) => {
                // `> 1.5` and `<= 1.5` ask about 1, the others about 2.
                let asks_below = matches!(op, CompareOp::Gt | CompareOp::LtEq);
                let scaled = number.scaled();
                let floor = scaled.div_euclid(Decimal::ONE.scaled());
                let is_whole = scaled.rem_euclid(Decimal::ONE.scaled()) == 0;
                let number = if asks_below || is_whole { floor } else { floor + 1 };
                let number = i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX });
                Expr::Compare(*op, count.clone(), Box::new(Expr::Literal(Value::Int(number), Type::Int)))
            }
            _ => condition.clone(),
        },
        _ => condition.clone(),
    }
}

/// Whether the accumulator has an entry for each event that counts. Events that count for ever are
/// only a number, which has no bound.
fn is_bounded(key: &AccumulatorKey) -> bool {
    match key.kind {
        AccumulatorKind::Distinct(_) => true,
        _ => key.timed.as_ref().is_some_and(ends),
    }
}

/// Whether the condition becomes FALSE of every event at some time, and stays so.
fn ends(condition: &Expr) -> bool {
    match condition {
        Expr::And(items) => items.iter().any(ends),
        Expr::Or(items) => items.iter().all(ends),
        Expr::TimeCompare(compare) => {
            matches!(compare.op, CompareOp::Gt | CompareOp::GtEq | CompareOp::Eq) && compare.bound.field().is_none()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::language::compile;

    const MONTH: &str = "FILTER (WHERE created_at >= now() - INTERVAL '30 days')";

    #[test]
    fn a_threshold_beyond_the_bound_is_refused_with_the_largest_that_is_accepted() {
        let today = "FILTER (WHERE created_at::date = now()::date)";
        let either = "FILTER (WHERE created_at > now() - INTERVAL '1 day' OR processed_at > now() - INTERVAL '1 day')";
        let refused = [
            (format!("count(*) {MONTH} >= 150000"), 150_000),
            (format!("count(*) {MONTH} >= 1000000000000000000"), 1_000_000_000_000_000_000_u64),
            (format!("count(*) {MONTH} >= 100001"), 100_001),
            (format!("count(*) {MONTH} > 100000"), 100_001),
            (format!("count(*) {MONTH} = 100000"), 100_001),
            (format!("count(*) {MONTH} < 150000"), 150_000),
            (format!("150000 <= count(*) {MONTH}"), 150_000),
            (format!("NOT count(order_total) {MONTH} >= 150000 OR count(*) > 5"), 150_000),
            (format!("count(*) {today} >= 150000"), 150_000),
            (format!("count(*) {either} >= 150000"), 150_000),
            ("count(*) FILTER (WHERE segment('a') AND created_at > now() - INTERVAL '1 day') > 200000".into(), 200_001),
            (format!("count(*) {MONTH} >= 150000.5"), 150_001),
            (format!("count(*) {MONTH} > 150000.5"), 150_001),
            (format!("count(*) {MONTH} > 100000.0"), 100_001),
            (format!("count(*) {MONTH} >= 100000.000000001"), 100_001),
            (format!("count(*) {MONTH} < 150000.5"), 150_001),
            (format!("count(*) {MONTH} <= 100000.5"), 100_001),
            (format!("150000.5 <= count(*) {MONTH} OR count(*) > 5"), 150_001),
            (format!("count(*) {MONTH} >= 1e20"), i64::MAX.unsigned_abs()),
            ("count(DISTINCT url) >= 100000.1".to_owned(), 100_001),
            ("count(DISTINCT url) >= 100001".to_owned(), 100_001),
            (format!("count(DISTINCT url) {MONTH} >= 100001"), 100_001),
        ];
        for (clause, k) in refused {
            let error = check_thresholds(&compile(&clause).unwrap()).expect_err(&clause);
            assert_eq!(error.code, "WHERE_THRESHOLD", "{clause}");
            assert!(error.message.contains(&format!("reaches {k},")), "{clause}: {error}");
            assert!(error.suggestion.unwrap().contains("`>= 100000`"), "{clause}");
        }
    }

    #[test]
    fn a_threshold_that_can_be_reached_is_accepted() {
        let accepted = [
            format!("count(*) {MONTH} >= 100000"),
            format!("count(*) {MONTH} < 100000"),
            format!("count(*) {MONTH} > 99999"),
            format!("count(*) {MONTH} >= 99999.5"),
            format!("count(*) {MONTH} > 99999.9"),
            format!("count(*) {MONTH} >= 100000.0"),
            format!("count(*) {MONTH} <= 99999.5"),
            format!("count(*) {MONTH} >= -1e20"),
            "count(*) >= 150000.5".to_owned(),
            format!("sum(order_total) {MONTH} > 150000.5"),
            format!("sum(order_total) {MONTH} > 150000"),
            "count(DISTINCT url) >= 100000".to_owned(),
            // Counts for ever are a number.
            "count(*) >= 1000000000000000000".to_owned(),
            "count(*) FILTER (WHERE region = 'x') >= 150000".to_owned(),
            "count(*) FILTER (WHERE created_at < now() - INTERVAL '7 days') >= 150000".to_owned(),
            "count(*) FILTER (WHERE region = 'x' OR created_at > now() - INTERVAL '7 days') >= 150000".to_owned(),
        ];
        for clause in accepted {
            assert_eq!(check_thresholds(&compile(&clause).unwrap()), Ok(()), "{clause}");
        }
    }
}
