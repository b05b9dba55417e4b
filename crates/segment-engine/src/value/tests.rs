//! Expected values are those of PostgreSQL 15, except where "Whose SQL" in the language's reference
//! says otherwise (NULL for errors).

use super::*;
use crate::value::ArithmeticOp;

fn interval(text: &str) -> Value {
    Value::Interval(Interval::parse(text).unwrap())
}

fn time(text: &str) -> Value {
    Value::Timestamp(Timestamp::parse(text).unwrap())
}

fn local(text: &str) -> Value {
    Value::LocalTimestamp(crate::time::parse_local(text).unwrap())
}

fn date(text: &str) -> Value {
    Value::Date(crate::time::parse_date(text).unwrap())
}

fn decimal(text: &str) -> Value {
    Value::Decimal(Decimal::parse(text).unwrap())
}

#[test]
fn casts_text_to_every_type() {
    let null = || Value::Null;
    let cases = [
        ("12", Type::Int, Value::Int(12)),
        (" +12\n", Type::Int, Value::Int(12)),
        ("1.7", Type::Int, null()),
        ("1e3", Type::Int, null()),
        ("", Type::Int, null()),
        ("9223372036854775807", Type::Int, Value::Int(i64::MAX)),
        ("9223372036854775808", Type::Int, null()),
        ("1.7", Type::Decimal, decimal("1.7")),
        ("abc", Type::Decimal, null()),
        (" TRUE ", Type::Bool, Value::Bool(true)),
        ("tru", Type::Bool, Value::Bool(true)),
        ("n", Type::Bool, Value::Bool(false)),
        ("of", Type::Bool, Value::Bool(false)),
        ("on", Type::Bool, Value::Bool(true)),
        ("o", Type::Bool, null()),
        ("0", Type::Bool, Value::Bool(false)),
        ("2", Type::Bool, null()),
        ("truee", Type::Bool, null()),
        ("", Type::Bool, null()),
        ("2026-01-01T10:00:00+02:00", Type::Timestamp, time("2026-01-01T08:00:00Z")),
        ("2026-01-01T10:00:00+02:00", Type::LocalTimestamp, local("2026-01-01 10:00")),
        ("2026-01-01T10:00:00+02:00", Type::Date, date("2026-01-01")),
        ("soon", Type::Timestamp, null()),
        ("7 days", Type::Interval, interval("7 days")),
        ("{}", Type::Json, null()),
    ];
    for (text, to, expected) in cases {
        assert_eq!(Value::from(text).cast(to), expected, "{text:?}::{to:?}");
    }
}

#[test]
fn casts_every_type_to_text() {
    let cases = [
        (Value::Bool(true), "true"),
        (Value::Int(-3), "-3"),
        (decimal("12.50"), "12.5"),
        (time("2026-01-01T10:00:00.5Z"), "2026-01-01 10:00:00.5+00"),
        (local("2026-01-01 10:00"), "2026-01-01 10:00:00"),
        (date("2026-01-01"), "2026-01-01"),
        (interval("36 hours"), "36:00:00"),
        (Value::Json("\"a\"".into()), "\"a\""),
    ];
    for (value, text) in cases {
        assert_eq!(value.cast(Type::Text), Value::from(text), "{value:?}");
    }
}

#[test]
fn casts_between_the_other_types() {
    let cases = [
        (decimal("2.5"), Type::Int, Value::Int(3)),
        (decimal("-2.5"), Type::Int, Value::Int(-3)),
        (decimal("1e28"), Type::Int, Value::Null),
        (Value::Int(2), Type::Decimal, decimal("2")),
        (Value::Bool(true), Type::Int, Value::Int(1)),
        (Value::Int(7), Type::Bool, Value::Bool(true)),
        (time("2026-01-01T23:59:59Z"), Type::Date, date("2026-01-01")),
        (time("1969-12-31T23:59:59.999999Z"), Type::Date, date("1969-12-31")),
        (date("2026-01-01"), Type::Timestamp, time("2026-01-01")),
        (local("2026-01-01 10:00"), Type::Timestamp, time("2026-01-01T10:00:00Z")),
        (Value::Date(i32::MAX), Type::Timestamp, Value::Null),
        (time("2026-01-01"), Type::Int, Value::Null),
        (interval("1 day"), Type::Date, Value::Null),
        (Value::Null, Type::Text, Value::Null),
    ];
    for (value, to, expected) in cases {
        assert_eq!(value.cast(to), expected, "{value:?}::{to:?}");
    }
}

#[test]
fn small_integers_have_their_range() {
    let cases = [
        (Value::Int(32_767), 2, true),
        (Value::Int(32_768), 2, false),
        (Value::Int(-32_768), 2, true),
        (Value::Int(-32_769), 2, false),
        (Value::Int(2_147_483_647), 4, true),
        (Value::Int(2_147_483_648), 4, false),
        (Value::Int(i64::MIN), 8, true),
        (decimal("32767.4"), 2, true),
        (decimal("32767.5"), 2, false),
        (Value::from("12"), 4, true),
        (Value::from("x"), 4, false),
    ];
    for (value, bytes, fits) in cases {
        assert_eq!(!value.cast_int(bytes).is_null(), fits, "{value:?} in {bytes} bytes");
    }
}

#[test]
fn arithmetic_gives_what_postgres_gives_or_null() {
    use ArithmeticOp::{Add, Div, Mul, Sub};
    let int = Value::Int;
    let cases = [
        (int(7), Div, int(2), decimal("3.5")),
        (int(2), Div, int(3), decimal("0.666666667")),
        (int(1), Div, int(0), Value::Null),
        (int(i64::MAX), Add, int(1), Value::Null),
        (int(i64::MIN), Mul, int(-1), Value::Null),
        (int(2), Mul, decimal("1.5"), decimal("3")),
        (int(2), Sub, Value::Null, Value::Null),
        (time("2026-01-31"), Add, interval("1 month"), time("2026-02-28")),
        (interval("1 month"), Add, time("2026-01-31"), time("2026-02-28")),
        (time("2026-03-31"), Sub, interval("1 month"), time("2026-02-28")),
        (date("2026-01-01"), Add, interval("1 hour"), local("2026-01-01 01:00")),
        (date("2026-01-01"), Add, int(31), date("2026-02-01")),
        (int(31), Add, date("2026-01-01"), date("2026-02-01")),
        (date("2026-02-01"), Sub, int(31), date("2026-01-01")),
        (date("2026-02-01"), Sub, date("2026-01-01"), int(31)),
        (time("2026-01-02T01:00:00Z"), Sub, time("2026-01-01"), interval("1 day 01:00")),
        (time("2026-01-01"), Sub, time("2026-01-02T01:00:00Z"), interval("-1 days -01:00")),
        (local("2026-03-01 00:00"), Sub, local("2026-01-01 00:00"), interval("59 days")),
        (interval("1 month"), Add, interval("1 day -01:00"), interval("1 month 1 day -01:00")),
        (interval("1 month"), Sub, interval("30 days"), interval("1 month -30 days")),
        (Value::Timestamp(Timestamp::MAX), Add, interval("1 us"), Value::Null),
        (Value::Date(i32::MAX), Add, int(1), Value::Null),
        (interval("1 day"), Mul, interval("1 day"), Value::Null),
        (interval("1 day"), Sub, time("2026-01-01"), Value::Null),
    ];
    for (left, op, right, expected) in cases {
        assert_eq!(Value::arithmetic(op, &left, &right), expected, "{left:?} {op:?} {right:?}");
    }
    assert_eq!(int(i64::MIN).negate(), Value::Null);
    assert_eq!(int(i64::MIN).abs(), Value::Null);
    assert_eq!(decimal("-1.5").abs(), decimal("1.5"));
    assert_eq!(interval("1 month -1 day").negate(), interval("-1 month 1 day"));
    assert_eq!(decimal("2.345").round(2), decimal("2.35"));
}

#[test]
fn compares_as_sql_does() {
    use Ordering::{Equal, Greater, Less};
    let cases = [
        (Value::Int(2), Value::Int(10), Some(Less)),
        (Value::Int(2), decimal("1.5"), Some(Greater)),
        (Value::from("Z"), Value::from("a"), Some(Less)),
        (Value::from("é"), Value::from("z"), Some(Greater)),
        (Value::from(""), Value::from("a"), Some(Less)),
        (Value::Bool(false), Value::Bool(true), Some(Less)),
        (date("2026-01-01"), time("2026-01-01T00:00:00Z"), Some(Equal)),
        (date("2026-01-01"), time("2026-01-01T00:00:00.000001Z"), Some(Less)),
        (Value::Date(i32::MAX), Value::Timestamp(Timestamp::MAX), Some(Greater)),
        (interval("1 month"), interval("30 days"), Some(Equal)),
        (Value::Null, Value::Int(1), None),
        (Value::Null, Value::Null, None),
    ];
    for (left, right, expected) in cases {
        assert_eq!(left.sql_cmp(&right), expected, "{left:?} ? {right:?}");
        assert_eq!(right.sql_cmp(&left), expected.map(Ordering::reverse));
        assert_eq!(left.compare(CompareOp::LtEq, &right), expected.map(Ordering::is_le).into());
    }
    assert!(Value::Null.not_distinct(&Value::Null));
    assert!(!Value::Null.not_distinct(&Value::Int(1)));
    assert!(interval("1 month").not_distinct(&interval("30 days")));
    assert_eq!(interval("1 month").distinct_key(), interval("720 hours").distinct_key());
}

#[test]
fn logic_has_three_values() {
    let (yes, no, null) = (Value::Bool(true), Value::Bool(false), Value::Null);
    let cases = [
        (&yes, &yes, &yes, &yes),
        (&yes, &no, &no, &yes),
        (&yes, &null, &null, &yes),
        (&no, &no, &no, &no),
        (&no, &null, &no, &null),
        (&null, &null, &null, &null),
    ];
    for (left, right, and, or) in cases {
        for (left, right) in [(left, right), (right, left)] {
            assert_eq!(&left.and(right), and, "{left:?} AND {right:?}");
            assert_eq!(&left.or(right), or, "{left:?} OR {right:?}");
        }
    }
    assert_eq!((yes.negation(), no.negation(), null.negation()), (no, yes, Value::Null));
}
