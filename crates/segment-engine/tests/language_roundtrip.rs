//! Any clause that the grammar can make compiles, and its normal form compiles to the same plan.

use proptest::prelude::*;
use segment_engine::language::compile;

/// An expression of type text over the event or constants.
fn text() -> impl Strategy<Value = String> {
    let base = prop_oneof![
        Just("region"),
        Just("url"),
        Just("'x'"),
        Just("'it''s'"),
        Just("payload->>'a'"),
        Just("payload->'b'->>'c'"),
    ];
    base.prop_map(str::to_owned).prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|x| format!("lower({x})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("coalesce({x}, {y})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("nullif({x}, {y})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x} || ({y}))")),
            inner.clone().prop_map(|x| format!("(length({x}) || ({x}))")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("trim(LEADING {x} FROM {y})")),
            inner.clone().prop_map(|x| format!("trim({x})")),
            inner.clone().prop_map(|x| format!("left({x}, -2)")),
            inner.clone().prop_map(|x| format!("substring({x} FROM 2 FOR length({x}) - 1)")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("split_part({x}, {y}, -1)")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("replace({x}, 'a', {y})")),
            inner.clone().prop_map(|x| format!("CASE WHEN {x} = 'a' THEN {x} END")),
            inner.prop_map(|x| format!("({x})::text")),
        ]
    })
}

fn number() -> impl Strategy<Value = String> {
    let base = prop_oneof![
        Just("order_total"),
        Just("3"),
        Just("-2"),
        Just("1.5"),
        Just("(payload->>'n')::int"),
        Just("length(url)"),
        Just("(payload->>'p')::numeric"),
        Just("extract(hour FROM created_at)"),
        Just("user_id"),
        Just("jsonb_array_length(payload->'l')"),
        Just("(payload->'l'->-1->>'n')::numeric"),
    ];
    base.prop_map(str::to_owned).prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x} + {y})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("{x} - {y}")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x}) * ({y})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x}) / ({y})")),
            inner.clone().prop_map(|x| format!("-({x})")),
            inner.clone().prop_map(|x| format!("abs({x})")),
            inner.clone().prop_map(|x| format!("({x})::smallint")),
            inner.prop_map(|x| format!("round({x}, 2)")),
        ]
    })
}

fn time() -> impl Strategy<Value = String> {
    let base = prop_oneof![
        Just("created_at"),
        Just("processed_at"),
        Just("TIMESTAMPTZ '2026-01-01'"),
        Just("(payload->>'t')::timestamptz"),
        Just("to_timestamp((payload->>'n')::numeric)"),
        Just("to_timestamp(strpos(url, 'x'))"),
    ];
    base.prop_map(str::to_owned).prop_recursive(2, 4, 1, |inner| {
        prop_oneof![
            inner.clone().prop_map(|x| format!("({x} + INTERVAL '1 month 3 days')")),
            inner.clone().prop_map(|x| format!("({x} - INTERVAL '36 hours')")),
            inner.clone().prop_map(|x| format!("date_trunc('week', {x})")),
            inner.clone().prop_map(|x| format!("date_trunc('day', {x}, 'Europe/Berlin')")),
            inner.clone().prop_map(|x| format!("({x} AT TIME ZONE 'Asia/Tokyo')::date")),
            inner.prop_map(|x| format!("({x}::date + 3)")),
        ]
    })
}

fn now() -> impl Strategy<Value = String> {
    Just("now()".to_owned()).prop_recursive(3, 4, 1, |inner| {
        prop_oneof![
            inner.clone().prop_map(|x| format!("({x} - INTERVAL '1 month 3 days')")),
            inner.clone().prop_map(|x| format!("({x} + INTERVAL '30 hours')")),
            inner.clone().prop_map(|x| format!("date_trunc('month', {x})")),
            inner.clone().prop_map(|x| format!("({x} AT TIME ZONE 'Asia/Tokyo')")),
            inner.clone().prop_map(|x| format!("({x})::date")),
            inner.clone().prop_map(|x| format!("(({x})::date - 7)")),
            inner.prop_map(|x| format!("({x})::timestamptz")),
        ]
    })
}

fn comparison() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("="), Just("<>"), Just("<"), Just("<="), Just(">"), Just(">=")]
}

/// A condition on one event.
fn condition() -> impl Strategy<Value = String> {
    let base = prop_oneof![
        (text(), comparison(), text()).prop_map(|(x, op, y)| format!("{x} {op} {y}")),
        (number(), comparison(), number()).prop_map(|(x, op, y)| format!("{x} {op} {y}")),
        (time(), comparison(), time()).prop_map(|(x, op, y)| format!("{x} {op} {y}")),
        (time(), comparison(), now()).prop_map(|(x, op, y)| format!("{x} {op} {y}")),
        (now(), time(), time()).prop_map(|(x, y, z)| format!("{x} BETWEEN {y} AND {z}")),
        (number(), number(), number()).prop_map(|(x, y, z)| format!("{x} NOT BETWEEN {y} AND {z}")),
        (text(), text(), text()).prop_map(|(x, y, z)| format!("{x} IN ({y}, {z}, 'x')")),
        (number(), number()).prop_map(|(x, y)| format!("{x} NOT IN ({y}, 3, 1.5, NULL)")),
        (number(), number()).prop_map(|(x, y)| format!("{x} IS DISTINCT FROM {y}")),
        text().prop_map(|x| format!("{x} LIKE 'a%'")),
        text().prop_map(|x| format!(r"{x} NOT LIKE 'a!%\' ESCAPE '!'")),
        text().prop_map(|x| format!("{x} IN ('9', '8', '7', '6', '5', '4', '3', '2', NULL)")),
        text().prop_map(|x| format!("{x} !~* '^a'")),
        number().prop_map(|x| format!("{x} IS NOT NULL")),
        Just("TRUE".to_owned()),
        Just("NULL".to_owned()),
        Just("segment('s')".to_owned()),
        Just("traits->>'plan' = 'pro'".to_owned()),
        Just("payload->'l' ? 'it''s'".to_owned()),
        Just("payload->'l'->0 ?& array['b', 'a'::text, 'a']".to_owned()),
        Just("payload @> '{\"a\": [1.0, \"it''s\"]}'".to_owned()),
        Just("traits->'l' @> '[{\"b\": null}, [2]]'::jsonb".to_owned()),
        Just("traits @> '{\"a\": {\"b\": true}, \"c\": 1}'".to_owned()),
        Just("bucket('it''s') < 12.5".to_owned()),
        Just("users.created_at > now() - INTERVAL '7 days'".to_owned()),
    ];
    base.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x}) AND ({y})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x} OR {y})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(x, y, z)| format!("({x} OR {y} AND {z})")),
            inner.clone().prop_map(|x| format!("NOT ({x})")),
            inner.clone().prop_map(|x| format!("({x}) IS NOT TRUE")),
            inner.clone().prop_map(|x| format!("({x}) IS UNKNOWN")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("(({x}) = ({y}))")),
            (inner.clone(), inner).prop_map(|(x, y)| format!("CASE WHEN {x} THEN {y} ELSE FALSE END")),
        ]
    })
}

/// A condition on one event that is free of now.
fn step() -> impl Strategy<Value = String> {
    let base = prop_oneof![
        (text(), comparison(), text()).prop_map(|(x, op, y)| format!("{x} {op} {y}")),
        (time(), comparison(), time()).prop_map(|(x, op, y)| format!("{x} {op} {y}")),
        (number(), number()).prop_map(|(x, y)| format!("{x} NOT IN ({y}, 3, 1.5, NULL)")),
        Just("TRUE".to_owned()),
        Just("NULL".to_owned()),
        Just("segment('s')".to_owned()),
        Just("traits->>'plan' = 'pro'".to_owned()),
    ];
    base.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x}) AND ({y})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x}) OR ({y})")),
            inner.prop_map(|x| format!("NOT ({x})")),
        ]
    })
}

fn aggregate() -> impl Strategy<Value = String> {
    prop_oneof![
        condition().prop_map(|c| format!("count(*) FILTER (WHERE {c})")),
        (number(), condition()).prop_map(|(x, c)| format!("sum({x}) FILTER (WHERE {c})")),
        (text(), condition()).prop_map(|(x, c)| format!("count(DISTINCT {x}) FILTER (WHERE {c})")),
        number().prop_map(|x| format!("avg({x})")),
        (number(), condition()).prop_map(|(x, c)| format!("last({x}) FILTER (WHERE {c})")),
        (step(), step(), condition())
            .prop_map(|(a, b, c)| format!("funnel(INTERVAL '36 hours', {a}, {b}) FILTER (WHERE {c})")),
    ]
}

fn clause() -> impl Strategy<Value = String> {
    let formula = prop_oneof![
        (aggregate(), comparison()).prop_map(|(x, op)| format!("{x} {op} 3")),
        (aggregate(), comparison(), aggregate()).prop_map(|(x, op, y)| format!("{x} {op} {y} * 2 - 1")),
        (time(), comparison()).prop_map(|(x, op)| format!("max({x}) {op} now() - INTERVAL '7 days'")),
        Just("segment('t')".to_owned()),
        Just("extract(hour FROM now()) BETWEEN 9 AND 17".to_owned()),
        Just("extract(epoch FROM now()) < 1767225600.000001".to_owned()),
        Just("(traits->>'n')::int > 3".to_owned()),
    ];
    let formula = formula.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("{x} AND {y}")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x} OR {y})")),
            inner.prop_map(|x| format!("NOT ({x})")),
        ]
    });
    prop_oneof![condition(), formula]
}

/// A constant near an end of the range that can be written, and steps beyond it.
fn edge() -> impl Strategy<Value = String> {
    let day = prop_oneof![Just("0001-01-01"), Just("0001-12-31"), Just("9999-01-01"), Just("9999-12-31")];
    let time = prop_oneof![Just("00:00"), Just("23:59:59.999999"), Just("23:59:60"), Just("24:00")];
    let offset = prop_oneof![Just(""), Just("Z"), Just("-15:59"), Just("+15:59:59")];
    let ty = prop_oneof![Just("TIMESTAMPTZ "), Just("TIMESTAMP "), Just("DATE ")];
    let base = (ty, day, time, offset).prop_map(|(ty, day, time, offset)| format!("{ty}'{day} {time}{offset}'"));
    base.prop_recursive(3, 4, 1, |inner| {
        let interval = prop_oneof![
            Just("1 us"),
            Just("-1 us"),
            Just("1 month"),
            Just("-2 days"),
            Just("290000 years"),
            Just("-9223372036854775808 us"),
        ];
        prop_oneof![
            (inner.clone(), interval).prop_map(|(x, length)| format!("({x} + INTERVAL '{length}')")),
            inner.clone().prop_map(|x| format!("({x}::date - 1)")),
            inner.clone().prop_map(|x| format!("({x}::date + 2147483647)")),
            inner.clone().prop_map(|x| format!("({x} AT TIME ZONE 'Pacific/Kiritimati')")),
            inner.clone().prop_map(|x| format!("({x} AT TIME ZONE 'America/New_York')")),
            inner.clone().prop_map(|x| format!("date_trunc('week', {x})")),
            inner.clone().prop_map(|x| format!("coalesce(NULL, {x})")),
            inner.prop_map(|x| format!("({x})::text::timestamptz")),
        ]
    })
}

fn clause_at_an_edge() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Just("9223372036854775807"),
        Just("-9223372036854775808"),
        Just("(-9223372036854775807 - 1)"),
        Just("'-9223372036854775808'::bigint"),
        Just("'-9223372036854775808'"),
        Just("-99999999999999999999999999999.999999999"),
        Just("0.000000001"),
    ];
    let interval = prop_oneof![
        Just("INTERVAL '-9223372036854775808 us'"),
        Just("(INTERVAL '-9223372036854775807 us' - INTERVAL '1 us')"),
        Just("INTERVAL '-2147483648 months -2147483648 days'"),
        Just("INTERVAL '178956970 years 7 months'"),
    ];
    prop_oneof![
        (comparison(), edge()).prop_map(|(op, x)| format!("created_at {op} {x}")),
        (comparison(), edge()).prop_map(|(op, x)| format!("now() {op} {x}")),
        (comparison(), edge()).prop_map(|(op, x)| format!("now() - created_at {op} {x} - {x}")),
        (edge(), edge()).prop_map(|(x, y)| format!("created_at IN ({x}, {y}, '2026-01-01')")),
        (comparison(), edge(), edge()).prop_map(|(op, x, y)| format!("max(created_at) - {x} {op} {y} - {x}")),
        (comparison(), number.clone()).prop_map(|(op, x)| format!("user_id {op} {x}")),
        (comparison(), number.clone()).prop_map(|(op, x)| format!("count(*) {op} {x}")),
        (number.clone(), number).prop_map(|(x, y)| format!("sum(order_total) + {x} IN ({y}, {x}, 3)")),
        (comparison(), interval.clone()).prop_map(|(op, x)| format!("max(created_at) - min(created_at) {op} {x}")),
        (comparison(), interval).prop_map(|(op, x)| format!("created_at {op} now() + {x}")),
    ]
}

/// Codes of bounds that a generated clause, or its longer normal form, may exceed.
fn is_bound(code: &str) -> bool {
    code.starts_with("WHERE_TOO_")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_normal_form_compiles_to_the_same_plan(clause in clause()) {
        let plan = match compile(&clause) {
            Ok(plan) => plan,
            Err(error) if is_bound(error.code) => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(format!("{clause}\n{error}"))),
        };
        match compile(&plan.normal_form) {
            Ok(again) => prop_assert_eq!(&again, &plan, "{}\n{}\n{}", clause, plan.normal_form, again.normal_form),
            Err(error) if is_bound(error.code) => {}
            Err(error) => return Err(TestCaseError::fail(format!("{clause}\n{}\n{error}", plan.normal_form))),
        }
    }

    /// A clause whose normal form cannot be read again would be saved, and lost at the next start.
    #[test]
    fn at_the_edges_a_clause_is_refused_or_its_normal_form_compiles_to_the_same_plan(clause in clause_at_an_edge()) {
        let Ok(plan) = compile(&clause) else { return Ok(()) };
        match compile(&plan.normal_form) {
            Ok(again) => prop_assert_eq!(&again, &plan, "{}\n{}\n{}", clause, plan.normal_form, again.normal_form),
            Err(error) => return Err(TestCaseError::fail(format!("{clause}\n{}\n{error}", plan.normal_form))),
        }
    }
}
