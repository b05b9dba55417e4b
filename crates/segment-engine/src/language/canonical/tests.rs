//! The canonical form and the split keep SQL's three-valued truth. The tests evaluate before and
//! after.

use proptest::prelude::*;

use super::*;
use crate::decimal::Decimal;
use crate::language::error::Pos;
use crate::language::split::split;
use crate::schema::EventColumn;

use crate::eval::{Scope, evaluate};
use crate::plan::JsonPath;

/// One event of two columns, and a user of two memberships and a trait.
#[derive(Debug)]
struct World {
    order_total: Value,
    region: Value,
    members: [bool; 2],
    plan: Value,
}

impl Scope for World {
    fn event(&self, column: EventColumn) -> Value {
        match column {
            EventColumn::OrderTotal => self.order_total.clone(),
            _ => self.region.clone(),
        }
    }

    fn user_trait(&self, _: &JsonPath) -> Value {
        self.plan.clone()
    }

    fn segment(&mut self, index: usize) -> bool {
        self.members[index]
    }

    fn time_compare(&mut self, _: &TimeCompare, _: &Value) -> Value {
        Value::Null
    }
}

fn decimal(number: i64) -> Value {
    Value::Decimal(Decimal::from(number))
}

fn nullable(values: Vec<Value>) -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 3 => proptest::sample::select(values)]
}

fn world() -> impl Strategy<Value = World> {
    let numbers = nullable(vec![decimal(1), decimal(2)]);
    let texts = || nullable(vec!["a".into(), "b".into()]);
    (numbers, texts(), any::<[bool; 2]>(), texts()).prop_map(|(order_total, region, members, plan)| World {
        order_total,
        region,
        members,
        plan,
    })
}

fn number() -> impl Strategy<Value = Expr> {
    let literal = nullable(vec![decimal(0), decimal(1), decimal(2)]).prop_map(|v| Expr::Literal(v, Type::Decimal));
    let base = prop_oneof![2 => Just(Expr::Event(EventColumn::OrderTotal)), 1 => literal];
    base.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::Coalesce),
            (inner.clone(), inner).prop_map(|(x, y)| Expr::Case {
                branches: vec![(Expr::IsNull(Box::new(x.clone())), y), (bool_literal(true), x.clone())],
                otherwise: Box::new(x),
            }),
        ]
    })
}

fn text() -> impl Strategy<Value = Expr> {
    let literal = nullable(vec!["a".into(), "b".into()]).prop_map(|v| Expr::Literal(v, Type::Text));
    prop_oneof![2 => Just(Expr::Event(EventColumn::Region)), 1 => literal]
}

fn op() -> impl Strategy<Value = CompareOp> {
    use CompareOp::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    proptest::sample::select(vec![Eq, NotEq, Lt, LtEq, Gt, GtEq])
}

fn condition() -> impl Strategy<Value = Expr> {
    let path = || JsonPath { keys: vec!["plan".into()], as_text: true };
    let of_trait = move |text: &str| {
        let right = Expr::Literal(text.into(), Type::Text);
        Expr::Compare(CompareOp::Eq, Box::new(Expr::Trait(path())), Box::new(right))
    };
    let base = prop_oneof![
        (op(), number(), number()).prop_map(|(op, x, y)| Expr::Compare(op, Box::new(x), Box::new(y))),
        (op(), text(), text()).prop_map(|(op, x, y)| Expr::Compare(op, Box::new(x), Box::new(y))),
        (text(), prop::collection::vec(text(), 1..4)).prop_map(|(x, items)| Expr::InList(Box::new(x), items.into())),
        (number(), number()).prop_map(|(x, y)| Expr::NotDistinct(Box::new(x), Box::new(y))),
        number().prop_map(|x| Expr::IsNull(Box::new(x))),
        any::<bool>().prop_map(bool_literal),
        Just(null_condition()),
        (0..2_usize).prop_map(Expr::Segment),
        Just(of_trait("a")),
    ];
    base.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::Or),
            inner.clone().prop_map(|x| Expr::Not(Box::new(x))),
            inner.clone().prop_map(|x| Expr::IsTrue(Box::new(x))),
            inner.clone().prop_map(|x| Expr::IsNull(Box::new(x))),
            (op(), inner.clone(), inner.clone()).prop_map(|(op, x, y)| Expr::Compare(op, Box::new(x), Box::new(y))),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(x, y, z)| Expr::Case { branches: vec![(x, y)], otherwise: Box::new(z) }),
        ]
    })
}

fn tags() -> Vec<String> {
    vec!["s0".to_owned(), "s1".to_owned()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_canonical_form_has_the_same_value(condition in condition(), mut world in world()) {
        let tags = tags();
        let names = Names { aggregates: &[], segments: &tags };
        let before = evaluate(&condition, &mut world);
        let canonical = canonical(condition, &names);
        prop_assert_eq!(evaluate(&canonical, &mut world), before.clone(), "{:?}", canonical);
        let filter = as_filter(canonical.clone(), &names);
        prop_assert_eq!(evaluate(&filter, &mut world).is_true(), before.is_true(), "{:?}", filter);
        prop_assert_eq!(super::canonical(canonical.clone(), &names), canonical, "not a fixed point");
    }

    #[test]
    fn the_split_counts_the_same_events(condition in condition(), mut world in world()) {
        let tags = tags();
        let names = Names { aggregates: &[], segments: &tags };
        let counts = evaluate(&condition, &mut world).is_true();
        let written = Aggregate { function: AggregateFunction::Count, argument: None, filter: Some(condition) };
        let written = [aggregate(written, &names)];
        let names = Names { aggregates: &written, segments: &tags };
        let formula = Expr::Aggregate(0, Type::Int);
        let Ok((formula, aggregates, segments)) = split(formula, &names, &[Pos::START]) else { return Ok(()) };
        for aggregate in &aggregates {
            let filter = aggregate.filter.clone().unwrap_or(bool_literal(true));
            prop_assert!(!filter.reads_user(), "{:?}", filter);
        }
        let chosen = match &formula {
            Expr::AggregateBy { terms, cases, .. } => {
                world.members = [0, 1].map(|i| segments.get(i).is_some_and(|tag| world.members[tags.iter().position(|t| t == tag).unwrap()]));
                let digits = terms.iter().map(|term| match evaluate(term, &mut world).as_bool() {
                    Some(true) => 0,
                    Some(false) => 1,
                    None => 2,
                });
                cases[digits.fold(0, |index, digit| index * 3 + digit)]
            }
            Expr::Aggregate(index, _) => *index,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        let filter = aggregates[chosen].filter.clone().unwrap_or(bool_literal(true));
        prop_assert_eq!(evaluate(&filter, &mut world).is_true(), counts, "{:?}", formula);
    }
}
