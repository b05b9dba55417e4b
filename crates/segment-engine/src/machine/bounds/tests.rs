use super::*;
use crate::language::compile;

const MONTH: &str = "FILTER (WHERE created_at >= now() - INTERVAL '30 days')";

#[test]
fn a_threshold_beyond_the_bound_is_refused_with_the_largest_that_is_accepted() {
    let today = "FILTER (WHERE created_at::date = now()::date)";
    let either = "FILTER (WHERE created_at > now() - INTERVAL '1 day' OR processed_at > now() - INTERVAL '1 day')";
    let refused = [
        "count(*) {MONTH} >= 150000",
        "count(*) {MONTH} >= 1000000000000000000",
        "count(*) {MONTH} >= 100001",
        "count(*) {MONTH} > 100000",
        "count(*) {MONTH} = 100000",
        "count(*) {MONTH} < 150000",
        "150000 <= count(*) {MONTH}",
        "NOT count(order_total) {MONTH} >= 150000 OR count(*) > 5",
        "count(*) {today} >= 150000",
        "count(*) {either} >= 150000",
        "count(*) FILTER (WHERE segment('a') AND created_at > now() - INTERVAL '1 day') > 200000",
        "count(*) {MONTH} >= 150000.5",
        "count(*) {MONTH} > 150000.5",
        "count(*) {MONTH} > 100000.0",
        "count(*) {MONTH} >= 100000.000000001",
        "count(*) {MONTH} < 150000.5",
        "count(*) {MONTH} <= 100000.5",
        "150000.5 <= count(*) {MONTH} OR count(*) > 5",
        "count(*) {MONTH} >= 1e20",
        "count(DISTINCT url) >= 100000.1",
        "count(DISTINCT url) >= 100001",
        "count(DISTINCT url) {MONTH} >= 100001",
        "count(*) {MONTH} * 2 >= 250000",
        "2 * count(*) {MONTH} > 200000",
        "count(*) {MONTH} + 1 > 100001",
        "count(*) {MONTH} / 2 > 60000",
        "count(*) {MONTH} - 5 >= 99996",
        "-count(*) {MONTH} < -150000",
        "-count(DISTINCT url) < -150000",
        "0 - count(DISTINCT url) <= -100001",
        "count(*) {MONTH} * -2 < -200000",
        "count(*) {MONTH} / -3 < -40000",
        "coalesce(count(*) {MONTH}, 0) >= 150000",
        "nullif(count(*) {MONTH}, 0) >= 150000",
        "abs(count(*) {MONTH} - 100000) > 100000",
        "round(count(*) {MONTH} / 3, 1) > 33333.3",
        "CASE WHEN count(*) {MONTH} >= 150000 THEN true ELSE false END",
        "CASE WHEN count(*) > 5 THEN count(*) {MONTH} ELSE 7 END > 100000",
        "count(*) {MONTH} > count(*) FILTER (WHERE created_at >= now() - INTERVAL '60 days') + 100000",
        "count(*) {MONTH} > count(*) FILTER (WHERE region = 'x') + 100000",
        "count(*) {MONTH} + count(DISTINCT url) > 200000",
        "count(*) {MONTH} * count(DISTINCT url) > 10000000000",
        "count(*) {MONTH} BETWEEN 150000 AND 200000",
        "count(*) {MONTH} IN (5, 150000)",
        "count(*) {MONTH} NOT IN (5, 150000)",
        "count(*) {MONTH} IS DISTINCT FROM 150000",
        "count(*) {MONTH} <> 150000",
        "(count(*) {MONTH} >= 150000) IS NOT TRUE",
        "funnel(INTERVAL '1 day', url = 'a', url = 'b') >= 3",
        "funnel(INTERVAL '1 day', url = 'a', url = 'b') = 3",
        "funnel(INTERVAL '1 day', url = 'a', url = 'b') * 2 > 4",
        "funnel(INTERVAL '1 day', url = 'a') + 1 > 2",
    ];
    for clause in refused {
        let clause = clause.replace("{MONTH}", MONTH).replace("{today}", today).replace("{either}", either);
        let error = check_thresholds(&compile(&clause).unwrap()).expect_err(&clause);
        assert_eq!(error.code, "WHERE_THRESHOLD", "{clause}");
        let most = if clause.contains("'b') ") {
            2
        } else if clause.contains("funnel") {
            1
        } else {
            100_000
        };
        assert!(error.suggestion.unwrap().contains(&format!("`>= {most}`")), "{clause}");
    }
    let error = check_thresholds(&compile(&format!("count(*) > 5 AND count(*) {MONTH} * 2 >= 250000")).unwrap());
    let message = "`count(*) FILTER (WHERE created_at >= now() - INTERVAL '30 days') * 2 >= 250000` asks for more than \
         there can be: at most 100000 events in a window are kept per user";
    assert_eq!(error.unwrap_err().message, message);
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
        // Ordinary logic, without any bound.
        format!("count(*) {MONTH} < 0"),
        format!("count(*) {MONTH} * -2 > 5"),
        format!("count(*) {MONTH} >= -5"),
        format!("count(*) {MONTH} = 1.5"),
        format!("0 * count(*) {MONTH} > 5"),
        // Within reach.
        format!("count(*) {MONTH} * 2 >= 200000"),
        format!("count(*) {MONTH} + 1 > 100000"),
        format!("count(*) {MONTH} / 2 >= 50000"),
        "-count(DISTINCT url) <= -100000".to_owned(),
        format!("coalesce(count(*) {MONTH}, 0) >= 100000"),
        format!("CASE WHEN count(*) > 5 THEN count(*) {MONTH} ELSE 150000 END > 100000"),
        format!("count(*) {MONTH} > count(*) + 100000 - count(*)"),
        format!("count(*) {MONTH} > count(*) FILTER (WHERE region = 'x') + 99999"),
        format!("count(*) {MONTH} > count(*) FILTER (WHERE created_at >= now() - INTERVAL '60 days') + 99999"),
        format!("count(*) {MONTH} / count(DISTINCT url) > 50000"),
        format!("count(*) {MONTH} / (count(*) - 7) > 150000"),
        format!("count(*) {MONTH} + sum(order_total) > 150000"),
        "funnel(INTERVAL '1 day', url = 'a', url = 'b') = 2".to_owned(),
        "funnel(INTERVAL '1 day', url = 'a', url = 'b') < 2".to_owned(),
        "funnel(INTERVAL '1 day', url = 'a', url = 'b') <= 2".to_owned(),
        "funnel(INTERVAL '1 day', url = 'a', url = 'b') = 0.5".to_owned(),
        "funnel(INTERVAL '1 day', url = 'a', url = 'b') IN (1, 2)".to_owned(),
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
