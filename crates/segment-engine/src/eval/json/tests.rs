use super::*;
use crate::plan::JsonConstant;

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

/// Expected values are PostgreSQL 15's for the same jsonb.
#[test]
fn has_strings_as_in_postgres() {
    for (value, text, expected) in [
        (r#"["a", "b"]"#, "b", true),
        (r#"["a", "b"]"#, "c", false),
        ("[]", "", false),
        ("[5]", "5", false),
        ("[null]", "null", false),
        (r#"[["a"]]"#, "a", false),
        (r#"{"a": null}"#, "a", true),
        (r#"{"b": "a"}"#, "a", false),
        (r#""a""#, "a", true),
        (r#""ab""#, "a", false),
        ("5", "5", false),
        ("null", "null", false),
    ] {
        let test = JsonTest::HasAny(vec![text.to_owned()]);
        assert_eq!(tested(Some(&json(value)), &test), Value::Bool(expected), "{value} ? {text}");
    }
    let list = json(r#"["a", "b", "b"]"#);
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    for (wanted, any, all) in
        [(vec!["a", "c"], true, false), (vec!["a", "b"], true, true), (vec!["c", "d"], false, false)]
    {
        assert_eq!(tested(Some(&list), &JsonTest::HasAny(texts(&wanted))), Value::Bool(any), "{wanted:?}");
        assert_eq!(tested(Some(&list), &JsonTest::HasAll(texts(&wanted))), Value::Bool(all), "{wanted:?}");
    }
    assert_eq!(tested(None, &JsonTest::HasAny(texts(&["a"]))), Value::Null);
}

#[test]
fn contains_what_jsonb_contains() {
    for (value, constant, expected) in [
        (r#"["a", "b"]"#, r#"["b"]"#, true),
        (r#"["a", "b"]"#, r#"["b", "a", "a"]"#, true),
        (r#"["a"]"#, r#"["a", "b"]"#, false),
        (r#"["a"]"#, "[]", true),
        ("[]", "[]", true),
        ("[1]", "{}", false),
        ("{}", "[]", false),
        (r#""a""#, "[]", false),
        ("5", "{}", false),
        // A list contains a single value, only at the top and not the other way round.
        (r#"["a"]"#, r#""a""#, true),
        (r#""a""#, r#"["a"]"#, false),
        (r#""a""#, r#""a""#, true),
        ("[[1]]", "1", false),
        ("[[1]]", "[1]", false),
        ("[[1, 2]]", "[[1]]", true),
        (r#"{"a": ["x"]}"#, r#"{"a": "x"}"#, false),
        (r#"{"a": ["x"]}"#, r#"{"a": ["x"]}"#, true),
        (r#"{"a": 1, "b": 2}"#, r#"{"b": 2}"#, true),
        (r#"{"a": 1}"#, r#"{"b": null}"#, false),
        (r#"{"b": null}"#, r#"{"b": null}"#, true),
        (r#"{"a": [1, {"b": 2, "c": 3}]}"#, r#"{"a": [{"b": 2}]}"#, true),
        (r#"[{"a": 1}, {"b": 2}]"#, r#"[{"a": 1, "b": 2}]"#, false),
        ("[null]", "null", true),
        ("null", "null", true),
        ("[true]", "[false]", false),
        // Numbers by value.
        ("[1.0]", "[1]", true),
        ("[1]", "[1.00]", true),
        ("[100]", "[1e2]", true),
        ("[-0.0]", "[0]", true),
        ("[0.5]", "[0.50]", true),
        ("[1.5]", "[1]", false),
        (r#"["1"]"#, "[1]", false),
        ("[9007199254740993]", "[9007199254740992]", false),
        ("[18446744073709551615]", "[18446744073709551615]", true),
        ("[1e300]", "[1e300]", true),
        ("[1e300]", "[1e301]", false),
    ] {
        let test = JsonTest::Contains(JsonConstant::new(json(constant)));
        assert_eq!(tested(Some(&json(value)), &test), Value::Bool(expected), "{value} @> {constant}");
    }
}

#[test]
fn holding_as_a_member_has_no_exception_for_lists() {
    let member = |constant: &str| JsonTest::HoldsAsMember(JsonConstant::new(json(constant)));
    let list = json(r#"["x"]"#);
    assert_eq!(tested(Some(&list), &member(r#""x""#)), Value::Bool(false));
    assert_eq!(tested(Some(&list), &member(r#"["x"]"#)), Value::Bool(true));
    assert_eq!(tested(None, &member("null")), Value::Bool(false));
}

#[test]
fn paths_lead_to_the_same_values_as_in_postgres() {
    let root = json(r#"{"items": [{"sku": "a"}, "b", null, 7], "alone": "x", "0": "zero"}"#);
    let path = |steps: &[JsonStep]| read_steps(&root, steps, true);
    let key = |key: &str| JsonStep::from(key);
    let at = JsonStep::Index;
    for (steps, expected) in [
        (vec![key("items"), at(0), key("sku")], Value::from("a")),
        (vec![key("items"), at(1)], Value::from("b")),
        (vec![key("items"), at(2)], Value::Null),
        (vec![key("items"), at(-1)], Value::from("7")),
        (vec![key("items"), at(-4), key("sku")], Value::from("a")),
        (vec![key("items"), at(-5)], Value::Null),
        (vec![key("items"), at(4)], Value::Null),
        (vec![key("items"), at(i32::MIN)], Value::Null),
        (vec![key("items"), key("0")], Value::Null),
        (vec![at(0)], Value::Null),
        (vec![key("0")], Value::from("zero")),
        // A single value counts as a list of one.
        (vec![key("alone"), at(0)], Value::from("x")),
        (vec![key("alone"), at(-1)], Value::from("x")),
        (vec![key("alone"), at(1)], Value::Null),
    ] {
        assert_eq!(path(&steps), expected, "{steps:?}");
    }
}
