use serde_json::json;

use super::*;
use crate::decimal::Decimal;
use crate::event::Position;
use crate::ids::{PartitionId, UserId};
use crate::plan::{ArithmeticOp, CompareOp, Function, NowExpr, NowStep, Pattern, PatternKind, Unit, Zone};
use crate::time::Interval;
use crate::value::Type;

fn purchase() -> Event {
    Event {
        user_id: UserId(7),
        event_id: None,
        client_ref_id: "c-7".into(),
        id_type: Some("cookie".into()),
        region: Some("California".into()),
        device_type: Some("".into()),
        country: None,
        activity_type: Some("product_purchased".into()),
        url: None,
        order_total: Decimal::parse("19.99"),
        order_id: None,
        element_id: None,
        created_at: Timestamp::parse("2026-01-01T12:00:00Z").unwrap(),
        processed_at: Timestamp::parse("2026-01-01T12:00:01Z").unwrap(),
        payload: json!({
            "coupon": "X1", "empty": "", "nothing": null, "seats": 3, "price": 1.5, "gift": true,
            "cart": { "size": 2, "items": [{ "sku": "a" }, { "sku": "b" }] },
        })
        .into(),
        position: Position { partition: PartitionId(0), offset: 0 },
    }
}

/// An event, and a user with aggregates and segments. `aggregate` counts its calls.
struct UserScope {
    event: Event,
    aggregates: Vec<Value>,
    asked: usize,
}

impl Scope for UserScope {
    fn event(&self, column: EventColumn) -> Value {
        self.event.column(column)
    }
    fn payload(&self, path: &JsonPath) -> Value {
        read_path(&self.event.payload, path)
    }
    fn user_trait(&self, path: &JsonPath) -> Value {
        read_path(&json!({ "plan": "pro" }), path)
    }
    fn user(&self, column: UserColumn) -> Value {
        match column {
            UserColumn::Email => "a@b.c".into(),
            UserColumn::Name | UserColumn::CreatedAt => Value::Null,
        }
    }
    fn aggregate(&mut self, index: usize) -> Value {
        self.asked += 1;
        self.aggregates[index].clone()
    }
    fn segment(&mut self, index: usize) -> bool {
        index == 1
    }
    fn time_compare(&mut self, compare: &TimeCompare, x: &Value) -> Value {
        compare.truth(x, Timestamp::parse("2026-01-08T12:00:00Z").unwrap())
    }
}

fn scope() -> UserScope {
    UserScope { event: purchase(), aggregates: (0..9).map(Value::Int).collect(), asked: 0 }
}

fn value_of(expr: Expr) -> Value {
    evaluate(&expr, &mut scope())
}

fn literal(value: impl Into<Value>, ty: Type) -> Expr {
    Expr::Literal(value.into(), ty)
}

fn int(number: i64) -> Expr {
    literal(Value::Int(number), Type::Int)
}

fn text(text: &str) -> Expr {
    literal(text, Type::Text)
}

fn truth(truth: Option<bool>) -> Expr {
    literal(truth, Type::Bool)
}

fn null() -> Expr {
    literal(Value::Null, Type::Text)
}

fn path(keys: &[&str], as_text: bool) -> JsonPath {
    JsonPath { keys: keys.iter().map(|key| (*key).into()).collect(), as_text }
}

fn compare(op: CompareOp, left: Expr, right: Expr) -> Expr {
    Expr::Compare(op, Box::new(left), Box::new(right))
}

fn call(function: Function, arguments: impl Into<Vec<Expr>>) -> Expr {
    Expr::Call(function, arguments.into())
}

#[test]
fn reads_columns_of_event_and_user() {
    let cases = [
        (Expr::Event(EventColumn::UserId), Value::Int(7)),
        (Expr::Event(EventColumn::ClientRefId), "c-7".into()),
        (Expr::Event(EventColumn::DeviceType), "".into()),
        (Expr::Event(EventColumn::Country), Value::Null),
        (Expr::Event(EventColumn::OrderTotal), Decimal::parse("19.99").into()),
        (Expr::Event(EventColumn::CreatedAt), Value::Timestamp(purchase().created_at)),
        (Expr::User(UserColumn::Email), "a@b.c".into()),
        (Expr::User(UserColumn::Name), Value::Null),
        (Expr::Trait(path(&["plan"], true)), "pro".into()),
        (Expr::Segment(1), Value::Bool(true)),
        (Expr::Segment(0), Value::Bool(false)),
        (Expr::Aggregate(4, Type::Int), Value::Int(4)),
    ];
    for (expr, expected) in cases {
        assert_eq!(value_of(expr.clone()), expected, "{expr:?}");
    }
}

#[test]
fn reads_json_as_postgres_does() {
    let json = |text: &str| Value::Json(text.into());
    let cases: [(&[&str], bool, Value); 17] = [
        (&["coupon"], true, "X1".into()),
        (&["coupon"], false, json("\"X1\"")),
        (&["empty"], true, "".into()),
        (&["nothing"], true, Value::Null),
        (&["nothing"], false, json("null")),
        (&["missing"], true, Value::Null),
        (&["missing"], false, Value::Null),
        (&["seats"], true, "3".into()),
        (&["price"], true, "1.5".into()),
        (&["gift"], true, "true".into()),
        (&["cart", "size"], true, "2".into()),
        (&["cart", "items", "0"], true, Value::Null),
        (&["cart", "items", "-1", "sku"], true, Value::Null),
        (&["cart", "items", "2", "sku"], true, Value::Null),
        (&["cart", "items", "-3", "sku"], true, Value::Null),
        (&["cart", "items", "sku"], true, Value::Null),
        (&["coupon", "deeper"], true, Value::Null),
    ];
    for (keys, as_text, expected) in cases {
        assert_eq!(value_of(Expr::Payload(path(keys, as_text))), expected, "{keys:?} as text: {as_text}");
    }
}

#[test]
fn conditions_have_three_values() {
    let (yes, no, unknown) = (Some(true), Some(false), None);
    let junction = |items: &[Option<bool>]| items.iter().map(|item| truth(*item)).collect::<Vec<_>>();
    let in_list = |x: Expr, items: Vec<Expr>| Expr::InList(Box::new(x), items.into());
    let cases = [
        (Expr::And(junction(&[yes, unknown, no])), no),
        (Expr::And(junction(&[yes, unknown])), unknown),
        (Expr::And(junction(&[yes, yes])), yes),
        (Expr::Or(junction(&[no, unknown, yes])), yes),
        (Expr::Or(junction(&[no, unknown])), unknown),
        (Expr::Or(junction(&[no, no])), no),
        (Expr::Not(Box::new(truth(unknown))), unknown),
        (Expr::Not(Box::new(truth(no))), yes),
        (Expr::IsTrue(Box::new(truth(unknown))), no),
        (Expr::IsNull(Box::new(null())), yes),
        (compare(CompareOp::NotEq, int(1), int(2)), yes),
        (compare(CompareOp::Eq, null(), null()), unknown),
        (compare(CompareOp::Lt, int(1), null()), unknown),
        (Expr::NotDistinct(Box::new(null()), Box::new(null())), yes),
        (Expr::NotDistinct(Box::new(int(1)), Box::new(null())), no),
        (in_list(int(2), vec![int(1), int(2)]), yes),
        (in_list(int(3), vec![int(1), int(2)]), no),
        (in_list(int(3), vec![int(1), null()]), unknown),
        (in_list(int(1), vec![null(), int(1)]), yes),
        (in_list(null(), vec![int(1)]), unknown),
    ];
    for (expr, expected) in cases {
        assert_eq!(value_of(expr.clone()), expected.into(), "{expr:?}");
    }
}

#[test]
fn operands_after_the_decisive_one_are_not_evaluated() {
    let ask = || compare(CompareOp::Eq, Expr::Aggregate(0, Type::Int), int(0));
    let cases = [
        (Expr::And(vec![truth(Some(false)), ask()]), 0),
        (Expr::And(vec![truth(None), ask()]), 1),
        (Expr::Or(vec![truth(Some(true)), ask()]), 0),
        (Expr::Or(vec![ask(), ask()]), 1),
        (Expr::Coalesce(vec![int(1), Expr::Aggregate(0, Type::Int)]), 0),
        (Expr::Coalesce(vec![null(), Expr::Aggregate(0, Type::Int)]), 1),
        (Expr::InList(Box::new(int(1)), vec![int(1), Expr::Aggregate(0, Type::Int)].into()), 0),
        (compare(CompareOp::Eq, null(), Expr::Aggregate(0, Type::Int)), 0),
        (Expr::Case { branches: vec![(truth(Some(true)), int(1)), (ask(), int(2))], otherwise: Box::new(int(3)) }, 0),
        (Expr::Case { branches: vec![(truth(None), ask()), (ask(), int(2))], otherwise: Box::new(ask()) }, 1),
    ];
    for (expr, expected) in cases {
        let mut scope = scope();
        evaluate(&expr, &mut scope);
        assert_eq!(scope.asked, expected, "{expr:?}");
    }
}

#[test]
fn chooses_the_aggregate_by_the_truths_of_the_terms() {
    let cases = [
        (Some(true), Some(true), 0),
        (Some(true), None, 2),
        (Some(false), Some(true), 3),
        (Some(false), Some(false), 4),
        (None, Some(false), 7),
        (None, None, 8),
    ];
    for (first, second, expected) in cases {
        let terms = vec![truth(first), truth(second)];
        let expr = Expr::AggregateBy { terms, cases: (0..9).collect(), ty: Type::Int };
        assert_eq!(value_of(expr), Value::Int(expected), "{first:?}, {second:?}");
    }
}

#[test]
fn functions_give_what_postgres_gives() {
    let created = || Expr::Event(EventColumn::CreatedAt);
    let decimal = |text: &str| literal(Decimal::parse(text), Type::Decimal);
    let athens = || Function::AtTimeZone(Zone::parse("Europe/Athens").unwrap());
    let cases = [
        (call(Function::Lower, [text("ÀB")]), "àb"),
        (call(Function::Upper, [text("àb")]), "ÀB"),
        (call(Function::Length, [text("añb")]), "3"),
        (call(Function::Length, [null()]), "NULL"),
        (call(Function::StartsWith, [text("abc"), text("ab")]), "true"),
        (call(Function::StartsWith, [text("abc"), null()]), "NULL"),
        (call(Function::Round(1), [decimal("-2.25")]), "-2.3"),
        (call(Function::Round(0), [int(5)]), "5"),
        (call(Function::Abs, [int(-5)]), "5"),
        (call(Function::NullIf, [int(5), int(5)]), "NULL"),
        (call(Function::NullIf, [int(5), int(6)]), "5"),
        (call(Function::NullIf, [int(5), null()]), "5"),
        (call(Function::NullIf, [null(), int(5)]), "NULL"),
        (call(Function::DateTrunc(Unit::Month), [created()]), "2026-01-01 00:00:00+00"),
        (call(Function::Extract(crate::plan::Field::Hour), [created()]), "12"),
        (call(athens(), [created()]), "2026-01-01 14:00:00"),
        (call(athens(), [call(athens(), [created()])]), "2026-01-01 12:00:00+00"),
        (call(athens(), [null()]), "NULL"),
        (Expr::Cast(Box::new(created()), Type::Date), "2026-01-01"),
        (Expr::Cast(Box::new(text("x")), Type::Int), "NULL"),
        (Expr::CastInt(Box::new(int(40_000)), 2), "NULL"),
        (Expr::Negate(Box::new(int(3))), "-3"),
        (Expr::Arithmetic(ArithmeticOp::Div, Box::new(int(1)), Box::new(int(8))), "0.125"),
        (Expr::Arithmetic(ArithmeticOp::Add, Box::new(null()), Box::new(int(8))), "NULL"),
        (Expr::Case { branches: vec![(truth(None), int(1))], otherwise: Box::new(null()) }, "NULL"),
    ];
    for (expr, expected) in cases {
        let printed = match value_of(expr.clone()).cast(Type::Text) {
            Value::Text(text) => text.to_string(),
            _ => "NULL".to_owned(),
        };
        assert_eq!(printed, expected, "{expr:?}");
    }
}

#[test]
fn matches_patterns() {
    let like = |x: Expr, pattern| Expr::Match(Box::new(x), Pattern::new(pattern, PatternKind::Like, false).unwrap());
    assert_eq!(value_of(like(Expr::Event(EventColumn::Region), "Cali%")), Value::Bool(true));
    assert_eq!(value_of(like(Expr::Event(EventColumn::Region), "Texas%")), Value::Bool(false));
    assert_eq!(value_of(like(Expr::Event(EventColumn::Url), "%")), Value::Null);
}

/// Borrowed text is compared in place, which must not change the result.
#[test]
fn borrowed_text_gives_the_same_results() {
    let like = Pattern::new("%1", PatternKind::Like, false).unwrap();
    let columns = [
        Expr::Event(EventColumn::Region),
        Expr::Event(EventColumn::DeviceType),
        Expr::Event(EventColumn::Country),
        Expr::Payload(path(&["coupon"], true)),
        Expr::Payload(path(&["nothing"], true)),
        Expr::Payload(path(&["seats"], true)),
    ];
    let event = purchase();
    for x in columns {
        let conditions = [
            compare(CompareOp::Eq, x.clone(), text("California")),
            compare(CompareOp::Lt, x.clone(), text("X")),
            compare(CompareOp::GtEq, x.clone(), x.clone()),
            compare(CompareOp::NotEq, x.clone(), null()),
            Expr::InList(Box::new(x.clone()), vec![text("3"), text("X1")].into()),
            Expr::InList(Box::new(x.clone()), vec![null(), text("")].into()),
            Expr::InList(Box::new(x.clone()), vec![text("a"), x.clone()].into()),
            Expr::Match(Box::new(x.clone()), like.clone()),
        ];
        for condition in conditions {
            let borrowed = evaluate(&condition, &mut EventScope { event: &event, now: Timestamp(0) });
            assert_eq!(borrowed, value_of(condition.clone()), "{condition:?}");
        }
    }
}

#[test]
fn compares_with_now() {
    let week = NowStep::Add(Interval { months: 0, days: -7, micros: 0 });
    let x = Expr::Event(EventColumn::CreatedAt);
    let within = TimeCompare { x, op: CompareOp::GtEq, bound: NowExpr { steps: vec![week] } };
    let expr = Expr::TimeCompare(Box::new(within));
    assert_eq!(value_of(expr.clone()), Value::Bool(true));
    let event = purchase();
    let last = Timestamp::parse("2026-01-08T12:00:00Z").unwrap();
    for (now, expected) in [(last, true), (Timestamp(last.0 + 1), false)] {
        let mut scope = EventScope { event: &event, now };
        assert_eq!(evaluate(&expr, &mut scope), Value::Bool(expected), "at {now}");
    }
}
