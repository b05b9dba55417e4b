use std::sync::Arc;

use super::{ConditionReport, Evidence};
use crate::decimal::Decimal;
use crate::event::{Event, Position};
use crate::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use crate::language::compile;
use crate::machine::{Definition, Machine, Rule, Settings};
use crate::time::Timestamp;
use crate::value::Value;

const ANN: UserId = UserId(1);
const DAY: i64 = 86_400_000_000;

fn event(machine: &mut Machine, url: &str, order_total: &str, created_at: i64, at: i64) {
    let event = Event {
        user_id: ANN,
        event_id: None,
        client_ref_id: "ann".into(),
        id_type: None,
        region: None,
        device_type: None,
        country: None,
        activity_type: None,
        url: Some(url.into()),
        order_total: Decimal::parse(order_total),
        order_id: None,
        element_id: None,
        created_at: Timestamp(created_at),
        processed_at: Timestamp(at),
        payload: Arc::new(serde_json::json!({})),
        position: Position { partition: PartitionId(0), offset: at as u64 },
    };
    machine.event(&event, false, Timestamp(at));
    machine.settle();
}

/// Explains a clause for a user with orders of 10, 20 and 30 on days 1, 2 and 3, from `/a`, `/b`
/// and `/a`, and the plan `pro` since day 2. It is noon of day 3.
fn explained(clause: &str) -> Vec<ConditionReport> {
    let mut machine = Machine::new(Settings::default());
    let rule = Rule::from(compile(clause).unwrap());
    let definition = Definition {
        id: SegmentId(1),
        tag: "s".to_owned(),
        version: SegmentVersion(1),
        where_statement: clause.to_owned(),
        rule,
    };
    machine.define(definition, 0, Timestamp(0));
    for accumulator in machine.incomplete() {
        machine.complete(accumulator);
    }
    machine.activate(SegmentId(1), SegmentVersion(1), Timestamp(0));
    machine.settle();
    event(&mut machine, "/a", "10", DAY, DAY);
    event(&mut machine, "/b", "20", 2 * DAY, 2 * DAY);
    let traits = serde_json::json!({"plan": "pro", "gone": null});
    machine.traits(ANN, traits.as_object().unwrap(), Timestamp(2 * DAY), Timestamp(2 * DAY + 1));
    machine.settle();
    event(&mut machine, "/a", "30", 3 * DAY, 3 * DAY);
    machine.advance(Timestamp(3 * DAY + DAY / 2), usize::MAX);
    machine.explain(ANN, "s").unwrap().conditions
}

fn value(condition: &ConditionReport) -> (Value, Option<u64>) {
    assert_eq!(condition.values.len(), 1, "{condition:?}");
    (condition.values[0].value.clone(), condition.values[0].counted)
}

/// Returns for each piece of evidence the day of the event, the value and the day of the end.
fn evidence(condition: &ConditionReport) -> Vec<(Option<i64>, Option<String>, Option<i64>)> {
    let days = |at: Timestamp| {
        assert_eq!(at.0 % DAY, 0, "{condition:?}");
        at.0 / DAY
    };
    let line = |evidence: &Evidence| {
        let until = (evidence.until < Timestamp::MAX).then(|| days(evidence.until));
        let value = evidence.value.as_ref().map(|value| match value.cast(crate::value::Type::Text) {
            Value::Text(text) => text.to_string(),
            _ => "NULL".to_owned(),
        });
        (evidence.created_at.map(days), value, until)
    };
    condition.evidence.iter().map(line).collect()
}

fn only(clause: &str) -> ConditionReport {
    let mut conditions = explained(clause);
    assert_eq!(conditions.len(), 1, "{conditions:?}");
    conditions.remove(0)
}

fn int(number: i64) -> Value {
    Value::Int(number)
}

fn decimal(number: &str) -> Value {
    Value::Decimal(Decimal::parse(number).unwrap())
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_threshold_shows_the_events_in_its_window_once() {
    let window = "created_at > now() - INTERVAL '2 days'";
    for operator in [">=", "=", "<>"] {
        let condition = only(&format!("count(*) FILTER (WHERE {window}) {operator} 2"));
        assert_eq!(value(&condition), (int(2), Some(2)), "{operator}");
        assert_eq!(evidence(&condition), [(Some(3), None, Some(5)), (Some(2), None, Some(4))], "{operator}");
    }
    let none = only("count(*) FILTER (WHERE created_at > now() - INTERVAL '1 hour') = 0");
    assert_eq!((none.truth, value(&none), evidence(&none)), (Some(true), (int(0), Some(0)), Vec::new()));
}

#[test]
fn a_count_for_ever_is_a_number_without_events() {
    let condition = only("count(*) FILTER (WHERE url = '/a') >= 2");
    assert_eq!((value(&condition), evidence(&condition)), ((int(2), Some(2)), Vec::new()));
}

#[test]
fn a_count_that_is_compared_with_another_shows_the_events_of_both() {
    let recent = "count(*) FILTER (WHERE created_at > now() - INTERVAL '2 days')";
    let today = "count(*) FILTER (WHERE created_at >= date_trunc('day', now()))";
    let condition = only(&format!("{recent} > {today}"));
    let values: Vec<(Value, Option<u64>)> =
        condition.values.iter().map(|value| (value.value.clone(), value.counted)).collect();
    assert_eq!(values, [(int(2), Some(2)), (int(1), Some(1))]);
    assert_eq!(condition.evidence.iter().map(|evidence| evidence.of).collect::<Vec<_>>(), [0, 0, 1]);
    // Of an event in a calendar day only the end is kept, from which its instant does not follow.
    assert_eq!(evidence(&condition), [(Some(3), None, Some(5)), (Some(2), None, Some(4)), (None, None, Some(4))]);
}

#[test]
fn a_sum_shows_the_amounts_that_will_end() {
    let condition = only("sum(order_total) FILTER (WHERE created_at > now() - INTERVAL '2 days') >= 50");
    assert_eq!(value(&condition), (decimal("50"), Some(2)));
    let expected = [(Some(3), text("30"), Some(5)), (Some(2), text("20"), Some(4))];
    assert_eq!(evidence(&condition), expected);
    let for_ever = only("avg(order_total) = 20");
    assert_eq!((value(&for_ever), evidence(&for_ever)), ((decimal("20"), Some(3)), Vec::new()));
    let between = "created_at > now() - INTERVAL '3 days' AND created_at <= now() - INTERVAL '1 day'";
    let between = only(&format!("avg(order_total) FILTER (WHERE {between}) = 15"));
    assert_eq!(evidence(&between), [(Some(2), text("20"), Some(5)), (Some(1), text("10"), Some(4))]);
}

#[test]
fn an_end_that_is_not_the_windows_does_not_say_when_the_event_was_created() {
    let number = "CASE WHEN created_at > now() - INTERVAL '1 day' THEN 1 ELSE 0 END";
    let condition = only(&format!("sum({number}) FILTER (WHERE created_at > now() - INTERVAL '2 days') = 1"));
    assert_eq!(value(&condition), (decimal("1"), Some(2)));
    // The number 1 becomes 0 tomorrow: the end that is kept is that of the number.
    let shown = evidence(&condition);
    assert!(shown.len() == 2 && shown.iter().all(|(created_at, _, _)| created_at.is_none()), "{shown:?}");
}

#[test]
fn a_best_value_shows_its_event() {
    for (clause, day, shown) in [
        ("max(order_total) = 30", 3, "30"),
        ("min(order_total) = 10", 1, "10"),
        ("first(url) = '/a'", 1, "/a"),
        ("last(order_total) = 30", 3, "30"),
        ("bool_or(url = '/b')", 2, "true"),
    ] {
        let condition = only(clause);
        assert_eq!((condition.truth, value(&condition).1), (Some(true), None), "{clause}");
        assert_eq!(evidence(&condition), [(Some(day), text(shown), None)], "{clause}");
    }
    let recent = only("min(order_total) FILTER (WHERE created_at > now() - INTERVAL '2 days') = 20");
    assert_eq!(evidence(&recent), [(Some(2), text("20"), Some(4))]);
}

#[test]
fn distinct_values_show_the_newest_event_of_each() {
    let recent = only("count(DISTINCT url) FILTER (WHERE created_at > now() - INTERVAL '9 days') >= 2");
    assert_eq!(value(&recent), (int(2), Some(2)));
    assert_eq!(evidence(&recent), [(Some(3), text("/a"), Some(12)), (Some(2), text("/b"), Some(11))]);
    let ever = only("count(DISTINCT url) >= 2");
    assert_eq!(evidence(&ever), [(None, text("/a"), None), (None, text("/b"), None)]);
}

#[test]
fn a_funnel_shows_the_event_of_each_step() {
    // The order of 20 is the last start from which the order of 30 follows in time.
    let condition = only("funnel(INTERVAL '1 day', order_total < 30, order_total = 30) = 2");
    assert_eq!((condition.truth, value(&condition)), (Some(true), (int(2), None)));
    assert_eq!(evidence(&condition), [(Some(2), text("1"), None), (Some(3), text("2"), None)]);
    assert_eq!(condition.next_change, None);

    let recent = "FILTER (WHERE created_at > now() - INTERVAL '3 days')";
    let condition = only(&format!("funnel(INTERVAL '9 days', url = '/a', url = '/b', url = '/a') {recent} = 3"));
    let expected = [(Some(1), text("1"), Some(4)), (Some(2), text("2"), Some(5)), (Some(3), text("3"), Some(6))];
    assert_eq!((value(&condition), evidence(&condition)), ((int(3), None), expected.to_vec()));
    assert_eq!(condition.next_change, Some(Timestamp(4 * DAY)));

    // An unfinished funnel shows how far the user came. On day 4 the first event leaves the window,
    // and with it the chain.
    let condition = only(&format!("funnel(INTERVAL '9 days', url = '/a', url = '/b', url = '/c') {recent} = 2"));
    let expected = [(Some(1), text("1"), Some(4)), (Some(2), text("2"), Some(5))];
    assert_eq!((value(&condition), evidence(&condition)), ((int(2), None), expected.to_vec()));
    assert_eq!(condition.next_change, Some(Timestamp(4 * DAY)));
    let none = only("funnel(INTERVAL '9 days', url = '/c', url = '/a') = 0");
    assert_eq!((none.truth, value(&none), evidence(&none)), (Some(true), (int(0), None), Vec::new()));
}

#[test]
fn an_aggregate_with_user_terms_shows_the_case_of_the_user() {
    let condition = only("count(*) FILTER (WHERE url = '/a' OR traits->>'plan' = 'pro') >= 3");
    let values: Vec<&Value> = condition.values.iter().map(|value| &value.value).collect();
    assert_eq!(values, [&int(3), &Value::Text("pro".into())]);
    let condition = only("sum(order_total) FILTER (WHERE url = '/a' AND traits->>'plan' <> 'pro') IS NULL");
    assert_eq!((condition.truth, &condition.values[0].value), (Some(true), &Value::Null));
}

#[test]
fn a_trait_shows_since_when_it_has_its_value() {
    let condition = only("traits->>'plan' = 'pro'");
    assert_eq!(value(&condition), (Value::Text("pro".into()), None));
    assert_eq!(evidence(&condition), [(Some(2), text("pro"), None)]);
    let removed = only("traits->>'gone' IS NULL");
    assert_eq!(evidence(&removed), [(Some(2), text("NULL"), None)]);
    let conditions = explained("traits->>'never' IS NULL AND users.created_at IS NULL AND NOT segment('t')");
    for condition in &conditions {
        let expected = if condition.condition == "segment('t')" { Value::Bool(false) } else { Value::Null };
        assert_eq!((value(condition), evidence(condition)), ((expected, None), Vec::new()), "{condition:?}");
    }
    assert_eq!(conditions.len(), 3);
}

#[test]
fn only_a_few_events_are_shown() {
    let mut machine = Machine::new(Settings::default());
    let clause = "sum(order_total) FILTER (WHERE created_at > now() - INTERVAL '2 days') > 0";
    let rule = Rule::from(compile(clause).unwrap());
    let definition = Definition {
        id: SegmentId(1),
        tag: "s".to_owned(),
        version: SegmentVersion(1),
        where_statement: clause.to_owned(),
        rule,
    };
    machine.define(definition, 0, Timestamp(0));
    machine.activate(SegmentId(1), SegmentVersion(1), Timestamp(0));
    for second in 1..=25 {
        event(&mut machine, "/", "1", second, second);
    }
    let condition = machine.explain(ANN, "s").unwrap().conditions.remove(0);
    assert_eq!(value(&condition), (decimal("25"), Some(25)));
    let shown: Vec<i64> = condition.evidence.iter().map(|evidence| evidence.created_at.unwrap().0).collect();
    assert_eq!(shown, (16..=25).rev().collect::<Vec<i64>>());
}
