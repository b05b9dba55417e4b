//! JSON in SQL: values at paths, and tests of them.

use std::fmt::Write;

use serde_json::{Number, Value as Json};

use crate::plan::{JsonPath, JsonStep, JsonTest};
use crate::sql::text::{call, json_pointer, quoted};

/// Returns the value at a path below `root`.
///
/// With `->>` JSON's null is NULL, like a missing key. DuckDB takes a key of digits as an index of
/// an array; in the language, as in Postgres, a key applies to an object only.
pub(super) fn at_path(root: &str, path: &JsonPath) -> String {
    let mut object = root.to_owned();
    let mut pending: Vec<&str> = Vec::new();
    for (place, step) in path.keys.iter().enumerate() {
        let is_number = match step {
            JsonStep::Key(key) => key.bytes().all(|byte| byte.is_ascii_digit()),
            JsonStep::Index(_) => true,
        };
        if is_number && !pending.is_empty() {
            object = extracted(&object, &pending);
            pending.clear();
        }
        match step {
            JsonStep::Index(index) => object = call("json_element", &[&object, &format!("({index})")]),
            JsonStep::Key(key) => {
                if is_number && place > 0 {
                    object = format!("(CASE WHEN json_type({object}) = 'OBJECT' THEN {object} END)");
                }
                pending.push(key);
            }
        }
    }
    match (path.as_text, pending.is_empty()) {
        (true, true) => call("json_text", &[&object, "'$'"]),
        (true, false) => call("json_text", &[&object, &json_pointer(&pending)]),
        (false, true) => object,
        (false, false) => extracted(&object, &pending),
    }
}

fn extracted(object: &str, keys: &[&str]) -> String {
    format!("json_extract({object}, {})", json_pointer(keys))
}

/// Returns the result of a test of the JSON `x`. It is NULL for NULL, except for a member: a
/// missing value holds none.
pub(super) fn tested(x: &str, test: &JsonTest) -> String {
    let root = Place { variable: "j0".to_owned(), keys: Vec::new() };
    let joined = |texts: &[String], operator: &str| {
        let each = texts.iter().map(|text| call("json_has", &["j0", &json_pointer(&[text]), &quoted(text)]));
        each.collect::<Vec<_>>().join(operator)
    };
    let condition = match test {
        JsonTest::HasAny(texts) => joined(texts, " OR "),
        JsonTest::HasAll(texts) => joined(texts, " AND "),
        JsonTest::HoldsAsMember(constant) => within(constant.json(), &root, 1),
        JsonTest::Contains(constant) => match constant.json() {
            whole @ (Json::Array(_) | Json::Object(_)) => within(whole, &root, 1),
            alone => format!("({} OR {})", within(alone, &root, 1), any_element(alone, &root, 1)),
        },
    };
    // Bound to a name, because the test reads it many times.
    let tested =
        format!("list_transform([{x}], lambda j0: CASE WHEN j0 IS NOT NULL THEN coalesce({condition}, FALSE) END)[1]");
    match test {
        JsonTest::HoldsAsMember(_) => format!("coalesce({tested}, FALSE)"),
        _ => format!("({tested})"),
    }
}

/// A JSON value at keys below a variable.
struct Place {
    variable: String,
    keys: Vec<String>,
}

impl Place {
    fn sql(&self) -> String {
        match self.keys.is_empty() {
            true => self.variable.clone(),
            false => format!("json_extract({}, {})", self.variable, json_pointer(&self.keys)),
        }
    }

    fn member(&self, key: &str) -> Place {
        let keys = self.keys.iter().map(String::as_str).chain([key]).map(str::to_owned).collect();
        Place { variable: self.variable.clone(), keys }
    }
}

/// Returns SQL for whether the constant is in the value, by the rules of jsonb. `depth` makes names
/// of variables unique.
fn within(constant: &Json, place: &Place, depth: usize) -> String {
    let value = place.sql();
    match constant {
        Json::Null => format!("json_type({value}) = 'NULL'"),
        Json::Bool(truth) => format!("(json_type({value}) = 'BOOLEAN' AND CAST({value} AS VARCHAR) = '{truth}')"),
        Json::String(text) => {
            format!("(json_type({value}) = 'VARCHAR' AND json_extract_string({value}, '$') = {})", quoted(text))
        }
        Json::Number(number) => is_number(&value, number),
        Json::Object(members) => {
            let mut sql = format!("(json_type({value}) = 'OBJECT'");
            for (key, member) in members {
                // Writing to a String cannot fail.
                let _ = write!(sql, " AND {}", within(member, &place.member(key), depth));
            }
            sql + ")"
        }
        Json::Array(items) => {
            let mut sql = format!("(json_type({value}) = 'ARRAY'");
            for item in items {
                let _ = write!(sql, " AND {}", any_element(item, place, depth));
            }
            sql + ")"
        }
    }
}

/// Returns SQL for whether the constant is in any element of a list.
fn any_element(constant: &Json, list: &Place, depth: usize) -> String {
    let element = Place { variable: format!("j{depth}"), keys: Vec::new() };
    format!(
        "(json_type({list}) = 'ARRAY' AND len(list_filter(json_extract({list}, '$[*]'), lambda {variable}: {})) > 0)",
        within(constant, &element, depth + 1),
        list = list.sql(),
        variable = element.variable,
    )
}

/// Returns SQL for whether the value equals the number. DuckDB has whole numbers of 64 bits, and
/// floats for all others.
fn is_number(value: &str, number: &Number) -> String {
    let exact = |whole: i128| whole as f64 as i128 == whole;
    let (whole, float) = match (number.as_i128(), number.as_f64()) {
        (Some(whole), _) => (Some(whole), exact(whole).then_some(whole as f64)),
        (None, Some(float)) => (Some(float as i128).filter(|_| float.fract() == 0.0), Some(float)),
        (None, None) => (None, None),
    };
    let whole = whole.map_or("NULL".to_owned(), |whole| format!("'{whole}'::HUGEINT"));
    let float = float.map_or("NULL".to_owned(), |float| format!("'{float:e}'::DOUBLE"));
    call("json_is_number", &[value, &whole, &float])
}
