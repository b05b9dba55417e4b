//! What a clause cannot ask, because no user's state can hold the answer.

use super::lower::lower;
use super::store::{StoreId, StoreKey, StoreKind};
use crate::language::{CompileError, code};
use crate::leaf::ENTRIES_MAX;
use crate::plan::{CompareOp, Expr, Plan};

/// Refuses a clause that compares a count with more than is kept of one user: below a window, or of distinct values.
///
/// Clauses are held to it when they are saved. Those of earlier builds still compile, and tell of each user for whom the bound
/// matters.
///
/// # Errors
/// With the code `WHERE_THRESHOLD`, and the largest number that can be asked.
pub fn check_thresholds(plan: &Plan) -> Result<(), CompileError> {
    let mut keys: Vec<StoreKey> = Vec::new();
    let formula = lower(plan, &vec![0; plan.segments.len()], &mut |key| {
        keys.push(key);
        StoreId(u32::try_from(keys.len() - 1).expect("a clause has few stores"))
    });
    let mut greatest = None;
    formula.thresholds(&mut |store, k, _| {
        let key = &keys[store.0 as usize];
        if k > ENTRIES_MAX as u64 && is_bounded(key) && greatest.is_none_or(|(other, _)| k > other) {
            greatest = Some((k, matches!(key.kind, StoreKind::Distinct(_))));
        }
    });
    let Some((k, is_distinct)) = greatest else { return Ok(()) };
    let (things, instead) =
        if is_distinct { ("distinct values", "of fewer values") } else { ("events in a window", "without a window") };
    Err(CompileError {
        code: code::THRESHOLD,
        message: format!(
            "this asks whether a count reaches {k}, but at most {ENTRIES_MAX} {things} are kept per user: the answer would \
             never be yes"
        ),
        suggestion: Some(format!("The largest that can be asked is `>= {ENTRIES_MAX}`; or count {instead}")),
        line: 1,
        column: 1,
    })
}

/// Whether everything that a count counts is an entry of its state. What counts for ever is a number, which has no bound.
fn is_bounded(key: &StoreKey) -> bool {
    match key.kind {
        StoreKind::Distinct(_) => true,
        _ => key.timed.as_ref().is_some_and(ends),
    }
}

/// Whether the condition becomes FALSE for good of every event.
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
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::language::compile;

    const MONTH: &str = "FILTER (WHERE created_at >= now() - INTERVAL '30 days')";

    #[test]
    fn what_can_never_be_true_is_refused_with_the_largest_that_can() {
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
    fn what_can_be_true_is_accepted() {
        let accepted = [
            format!("count(*) {MONTH} >= 100000"),
            format!("count(*) {MONTH} < 100000"),
            format!("count(*) {MONTH} > 99999"),
            format!("sum(order_total) {MONTH} > 150000"),
            "count(DISTINCT url) >= 100000".to_owned(),
            // Without an end the count is a number.
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
