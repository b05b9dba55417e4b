//! Flips compared with the definition: `truth` at instants around every place where it might
//! change.

use proptest::prelude::*;
use proptest::sample::select;

use crate::decimal::Decimal;
use crate::plan::{CompareOp, EventColumn, Expr, Field, InstantSet, NowExpr, NowStep, TimeCompare, Unit, Zone};
use crate::time::calendar::{DAY, HOUR, MINUTE, SECOND};
use crate::time::{Interval, Timestamp};
use crate::value::{Type, Value};

const OPERATORS: [CompareOp; 6] =
    [CompareOp::Eq, CompareOp::NotEq, CompareOp::Lt, CompareOp::LtEq, CompareOp::Gt, CompareOp::GtEq];

/// Ends of months, a leap day, changes of the clock (one by half an hour), a skipped day.
const EDGES: [&str; 22] = [
    "1999-12-31T23:59:59.999999Z",
    "2011-12-30T10:00:00Z",
    "2012-02-29T00:00:00Z",
    "2019-10-27T01:00:00Z",
    "2023-02-28T12:00:00Z",
    "2024-02-28T23:59:59.999999Z",
    "2024-02-29T00:00:00Z",
    "2024-02-29T23:59:59.999999Z",
    "2024-03-01T00:00:00Z",
    "2024-03-10T07:00:00Z",
    "2024-11-03T06:00:00Z",
    "2025-03-28T10:30:00Z",
    "2025-03-29T00:00:00Z",
    "2025-03-30T01:00:00Z",
    "2025-03-31T23:59:59.999999Z",
    "2025-04-05T15:00:00Z",
    "2025-04-30T22:00:00Z",
    "2025-10-04T15:30:00Z",
    "2025-10-26T01:00:00Z",
    "2025-12-31T22:00:00Z",
    "2031-05-31T05:00:00Z",
    "2050-03-27T01:00:00Z",
];

const ZONES: [&str; 8] = [
    "Europe/Athens",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Africa/Casablanca",
    "UTC",
];

fn instant(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn edge() -> impl Strategy<Value = i64> {
    let offset = prop_oneof![
        select(vec![-1, 0, 1]),
        (-30..30_i64).prop_map(|half_hours| half_hours * 30 * MINUTE),
        (-3..4_i64, -1..2_i64).prop_map(|(days, micros)| days * DAY + micros),
        -40 * DAY..40 * DAY,
    ];
    (select(EDGES.to_vec()), offset).prop_map(|(text, offset)| instant(text).0 + offset)
}

fn zone() -> impl Strategy<Value = Zone> {
    select(ZONES.to_vec()).prop_map(|name| Zone::parse(name).unwrap())
}

fn interval() -> impl Strategy<Value = Interval> {
    let months = prop_oneof![Just(0), -14..15];
    let days = prop_oneof![Just(0), -40..40];
    let micros = prop_oneof![Just(0), select(vec![1, -1, HOUR, -HOUR, 30 * MINUTE, -25 * HOUR, SECOND / 2])];
    (months, days, micros).prop_map(|(months, days, micros)| Interval { months, days, micros })
}

fn unit() -> impl Strategy<Value = Unit> {
    select(vec![
        Unit::Microsecond,
        Unit::Millisecond,
        Unit::Second,
        Unit::Minute,
        Unit::Hour,
        Unit::Day,
        Unit::Week,
        Unit::Month,
        Unit::Quarter,
        Unit::Year,
    ])
}

fn step() -> impl Strategy<Value = NowStep> {
    prop_oneof![
        3 => interval().prop_map(NowStep::Add),
        2 => unit().prop_map(NowStep::Trunc),
        3 => zone().prop_map(NowStep::AtTimeZone),
        1 => select(vec![NowStep::ToDate, NowStep::ToLocal, NowStep::ToTimestamp]),
    ]
}

fn bound() -> impl Strategy<Value = NowExpr> {
    prop::collection::vec(step(), 0..5).prop_map(|mut steps| {
        // As in compiled clauses, zones and units apply to times only, not to dates.
        let mut typed = NowExpr { steps: Vec::new() };
        for step in steps.drain(..) {
            if typed.value_type() == Type::Date && matches!(step, NowStep::AtTimeZone(_) | NowStep::Trunc(_)) {
                typed.steps.push(NowStep::ToLocal);
            }
            typed.steps.push(step);
        }
        typed
    })
}

fn compare(op: CompareOp, bound: NowExpr) -> TimeCompare {
    TimeCompare { x: Expr::Event(EventColumn::CreatedAt), op, bound }
}

/// Whether it is an instant, not an end of the range, which stands for "always" or "never".
fn is_instant(now: Timestamp) -> bool {
    (-i64::MAX / 2..i64::MAX / 2).contains(&now.0)
}

/// Times at which the truth might change: those of the set, and others around them.
fn probes(center: i64, set: &InstantSet, random: &[i64]) -> Vec<Timestamp> {
    let edges = set.intervals().iter().flat_map(|(start, end)| [start.0, end.0]);
    let around = (-80..80).map(|half_days| center + half_days * (DAY / 2));
    let wanted = edges.chain(around).chain(random.iter().map(|offset| center + offset));
    let near = wanted.flat_map(|micros| [-1, 0, 1].map(|offset| micros.saturating_add(offset)));
    near.map(Timestamp).filter(|now| is_instant(*now)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn true_set_is_where_the_comparison_is_true(
        bound in bound(),
        op in select(OPERATORS.to_vec()),
        now in edge(),
        off in prop_oneof![Just(0_i64), select(vec![-1, 1, HOUR, -HOUR]), -3 * DAY..3 * DAY],
        random in prop::collection::vec(-60 * DAY..60 * DAY, 30),
    ) {
        // An x near the bound's value, of its type, so that now is near a flip.
        let x = match bound.value(Timestamp(now)) {
            Value::Timestamp(Timestamp(micros)) => Value::Timestamp(Timestamp(micros + off)),
            Value::LocalTimestamp(micros) => Value::LocalTimestamp(micros + off),
            Value::Date(days) => Value::Date(days + (off % 3) as i32),
            other => panic!("{other:?} is no time"),
        };
        let compare = compare(op, bound);
        let set = compare.true_set(&x);
        for now in probes(now, &set, &random) {
            let truth = compare.truth(&x, now).is_true();
            prop_assert_eq!(set.contains(now), truth, "at {}", now);
            let flip = compare.next_flip(&x, now);
            prop_assert!(flip > now);
            prop_assert_eq!(set.next_change(now), flip);
        }
        // Each end is a true flip, so `next_flip` is never too early either.
        for (start, end) in set.intervals() {
            for edge in [start, end].into_iter().filter(|edge| is_instant(**edge)) {
                prop_assert_ne!(compare.truth(&x, *edge), compare.truth(&x, Timestamp(edge.0 - 1)), "at {}", edge);
            }
        }
    }

    #[test]
    fn next_flip_of_a_field_is_never_late(
        mut bound in bound(),
        field in select(vec![
            Field::Epoch, Field::Microsecond, Field::Millisecond, Field::Second, Field::Minute, Field::Hour,
            Field::Day, Field::DayOfWeek, Field::IsoDayOfWeek, Field::DayOfYear, Field::IsoWeek, Field::IsoYear,
            Field::Month, Field::Quarter, Field::Year,
        ]),
        op in select(OPERATORS.to_vec()),
        now in edge(),
        off in select(vec![0, 1, -1, 1_000_000_000, -1_000_000_000, 500_000_000]),
        random in prop::collection::vec(0.0..1.0, 60),
    ) {
        bound.steps.push(NowStep::Extract(field));
        let Value::Decimal(number) = bound.value(Timestamp(now)) else { panic!("a field is a number") };
        let x = Value::Decimal(Decimal::from_scaled(number.scaled() + off).unwrap());
        let compare = compare(op, bound);
        let now = Timestamp(now);
        let truth = compare.truth(&x, now);
        let flip = compare.next_flip(&x, now);
        prop_assert!(flip > now);
        let span = (flip.0.min(now.0 + 800 * DAY) - now.0) as f64;
        let inside = random.iter().map(|share| now.0 + (share * span * 0.999_999) as i64);
        let inside = inside.chain([now.0 + 1, flip.0 - 1]).filter(|micros| (now.0..flip.0).contains(micros));
        for between in inside.filter(|micros| is_instant(Timestamp(*micros))) {
            prop_assert_eq!(&compare.truth(&x, Timestamp(between)), &truth, "at {}", Timestamp(between));
        }
    }
}

fn steps(steps: impl IntoIterator<Item = NowStep>) -> NowExpr {
    NowExpr { steps: steps.into_iter().collect() }
}

fn add(text: &str) -> NowStep {
    NowStep::Add(Interval::parse(text).unwrap())
}

fn in_zone(name: &str) -> NowStep {
    NowStep::AtTimeZone(Zone::parse(name).unwrap())
}

/// Time begins on 24 November 4714 BC, the astronomical year -4713.
#[test]
fn a_bound_is_null_until_it_reaches_the_beginning_of_time() {
    let x = Value::Timestamp(instant("2026-01-01T00:00:00Z"));
    let never = compare(CompareOp::Gt, steps([add("-999999999 days")]));
    assert_eq!(never.truth(&x, instant("2026-01-01T00:00:00Z")), Value::Null);
    assert_eq!(never.true_set(&x), InstantSet::empty());
    assert_eq!(never.next_flip(&x, instant("2026-01-01T00:00:00Z")), Timestamp::MAX);
    assert_eq!(never.created_at_window(), None);

    let beginning = instant("2027-11-24T00:00:00Z");
    for (op, truth) in [(CompareOp::Gt, true), (CompareOp::LtEq, false), (CompareOp::NotEq, true)] {
        let later = compare(op, steps([add("-6740 years")]));
        let before = Timestamp(beginning.0 - 1);
        assert_eq!((later.truth(&x, before), later.truth(&x, beginning)), (Value::Null, Value::Bool(truth)));
        assert_eq!(later.next_flip(&x, before), beginning, "{op:?}");
        assert_eq!(later.next_flip(&x, instant("2026-01-01T00:00:00Z")), beginning, "{op:?}");
        assert!(!later.true_set(&x).contains(before));
        assert_eq!(later.true_set(&x).contains(beginning), truth);
        assert!(later.edges(&x).contains(&beginning));
    }
}

#[test]
fn flips_at_the_exact_microsecond() {
    let month = || steps([add("-1 month")]);
    let athens_day = || steps([in_zone("Europe/Athens"), NowStep::Trunc(Unit::Day), in_zone("Europe/Athens")]);
    let cases = [
        // Rolling: up to and including the last microsecond of the seventh day.
        (CompareOp::GtEq, steps([add("-7 days")]), "2026-01-01", "-inf 2026-01-08T00:00:00.000001Z"),
        (CompareOp::Gt, steps([add("-7 days")]), "2026-01-01", "-inf 2026-01-08T00:00:00.000000Z"),
        (CompareOp::Lt, steps([add("-7 days")]), "2026-01-01", "2026-01-08T00:00:00.000001Z inf"),
        (CompareOp::LtEq, steps([add("-7 days")]), "2026-01-01", "2026-01-08T00:00:00.000000Z inf"),
        (CompareOp::Eq, steps([]), "2026-01-01", "2026-01-01T00:00:00.000000Z 2026-01-01T00:00:00.000001Z"),
        (CompareOp::NotEq, steps([]), "2026-01-01", "-inf 2026-01-01T00:00:00.000000Z 2026-01-01T00:00:00.000001Z inf"),
        // Calendar days: today and the six before it.
        (
            CompareOp::GtEq,
            steps([NowStep::Trunc(Unit::Day), add("-6 days")]),
            "2026-01-01T15:00:00Z",
            "-inf 2026-01-08T00:00:00.000000Z",
        ),
        // A month before 29 to 31 March is 28 February, so the bound passes noon of that day four
        // times.
        (
            CompareOp::GtEq,
            month(),
            "2025-02-28T12:00:00Z",
            "-inf 2025-03-28T12:00:00.000001Z 2025-03-29T00:00:00.000000Z 2025-03-29T12:00:00.000001Z \
             2025-03-30T00:00:00.000000Z 2025-03-30T12:00:00.000001Z 2025-03-31T00:00:00.000000Z \
             2025-03-31T12:00:00.000001Z",
        ),
        // A day of Athens with 23 hours.
        (CompareOp::GtEq, athens_day(), "2025-03-29T22:00:00Z", "-inf 2025-03-30T21:00:00.000000Z"),
        // An hour that the clock shows twice: local time reaches 03:30, goes back, and reaches it
        // again.
        (
            CompareOp::LtEq,
            steps([in_zone("Europe/Athens")]),
            "2025-10-26T03:30:00Z",
            "2025-10-26T00:30:00.000000Z 2025-10-26T01:00:00.000000Z 2025-10-26T01:30:00.000000Z inf",
        ),
    ];
    for (op, bound, x, expected) in cases {
        let x = instant(x);
        let x =
            if bound.value_type() == Type::LocalTimestamp { Value::LocalTimestamp(x.0) } else { Value::Timestamp(x) };
        let set = compare(op, bound.clone()).true_set(&x);
        let written: Vec<String> = set
            .intervals()
            .iter()
            .flat_map(|(start, end)| [*start, *end])
            .map(|edge| match edge {
                Timestamp::MIN => "-inf".to_owned(),
                Timestamp::MAX => "inf".to_owned(),
                edge => edge.to_string(),
            })
            .collect();
        assert_eq!(written.join(" "), expected, "{x:?} {op:?} {bound:?}");
    }
}

#[test]
fn null_is_never_true_and_never_flips() {
    for field in [None, Some(Field::Hour), Some(Field::Epoch)] {
        let compare = compare(CompareOp::NotEq, steps(field.map(NowStep::Extract)));
        assert_eq!(compare.truth(&Value::Null, Timestamp(0)), Value::Null);
        assert_eq!(compare.next_flip(&Value::Null, Timestamp(0)), Timestamp::MAX);
    }
}

#[test]
fn a_comparison_with_a_date_beyond_all_times_never_flips() {
    let compare = compare(CompareOp::GtEq, steps([add("-1 month"), NowStep::ToDate]));
    assert_eq!(compare.true_set(&Value::Date(i32::MAX)), InstantSet::all());
    assert_eq!(compare.true_set(&Value::Date(i32::MIN)), InstantSet::empty());
}

#[test]
fn a_field_flips_where_it_changes() {
    let extract = |field, x: i64, now: &str| {
        let compare = compare(CompareOp::Eq, steps([in_zone("America/New_York"), NowStep::Extract(field)]));
        compare.next_flip(&Value::Int(x), instant(now)).to_string()
    };
    // 09:00 in New York is 14:00 UTC in winter, 13:00 UTC in summer.
    assert_eq!(extract(Field::Hour, 9, "2025-03-08T20:00:00Z"), "2025-03-09T13:00:00.000000Z");
    assert_eq!(extract(Field::Hour, 9, "2025-03-09T13:00:00Z"), "2025-03-09T14:00:00.000000Z");
    assert_eq!(extract(Field::Day, 31, "2025-04-01T12:00:00Z"), "2025-05-31T04:00:00.000000Z");
    assert_eq!(extract(Field::Second, 30, "2025-01-01T00:00:00Z"), "2025-01-01T00:00:30.000000Z");
    assert_eq!(extract(Field::Second, 30, "2025-01-01T00:00:30Z"), "2025-01-01T00:00:30.000001Z");
}

#[test]
fn windows_on_created_at_are_recognised() {
    let day = DAY;
    let cases = [
        (CompareOp::GtEq, steps([add("-7 days")]), Some(7 * day + 1), None),
        (CompareOp::Gt, steps([add("-7 days")]), Some(7 * day), None),
        (CompareOp::GtEq, steps([add("-6 days"), NowStep::ToTimestamp, add("-24 hours")]), Some(7 * day + 1), None),
        (CompareOp::LtEq, steps([add("-30 days")]), None, Some(30 * day)),
        (CompareOp::Lt, steps([add("-30 days")]), None, Some(30 * day + 1)),
        (CompareOp::GtEq, steps([]), Some(1), None),
        (CompareOp::Eq, steps([add("-7 days")]), None, None),
        (CompareOp::GtEq, steps([add("-1 month")]), None, None),
        (CompareOp::GtEq, steps([NowStep::Trunc(Unit::Day)]), None, None),
        (CompareOp::GtEq, steps([in_zone("Europe/Athens")]), None, None),
        (CompareOp::GtEq, steps([NowStep::Extract(Field::Epoch)]), None, None),
    ];
    let created = instant("2024-02-29T12:00:00Z");
    for (op, bound, window, delay) in cases {
        let compare = compare(op, bound);
        assert_eq!(compare.created_at_window(), window, "{compare:?}");
        assert_eq!(compare.created_at_delay(), delay, "{compare:?}");
        let expected = match (window, delay) {
            (Some(window), _) => (Timestamp::MIN, Timestamp(created.0 + window)),
            (_, Some(delay)) => (Timestamp(created.0 + delay), Timestamp::MAX),
            _ => continue,
        };
        assert_eq!(compare.true_set(&Value::Timestamp(created)).intervals(), [expected]);
    }
    let mut other = compare(CompareOp::GtEq, steps([]));
    other.x = Expr::Event(EventColumn::ProcessedAt);
    assert_eq!(other.created_at_window(), None);
}

#[test]
fn only_months_and_zones_step_back() {
    let cases = [
        (steps([add("-7 days"), NowStep::Trunc(Unit::Week)]), true),
        (steps([NowStep::ToDate, add("-90 minutes")]), true),
        (steps([add("-1 month")]), false),
        (steps([in_zone("Europe/Athens")]), false),
        (steps([NowStep::Extract(Field::Hour)]), false),
    ];
    for (bound, expected) in cases {
        assert_eq!(bound.is_non_decreasing(), expected, "{bound:?}");
    }
}
