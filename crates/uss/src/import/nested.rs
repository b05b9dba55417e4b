//! Finds values inside of objects by paths, names with points between them:
//! `ecommerce.purchase_revenue`.

use ports::records::json::{JsonError, Kind, Reader};

use super::source::Row;

/// How deep messages list names inside of objects.
const DEPTH_MAX: usize = 4;

/// Returns the value of the field `name`, else the value inside of an object whose name `name`
/// begins with. If several objects have such a value, the first one counts.
pub(crate) fn value(fields: &[(String, String)], name: &str) -> Option<String> {
    if let Some((_, value)) = fields.iter().find(|(key, _)| key == name) {
        return Some(value.clone());
    }
    outer_names(name).find_map(|outer| {
        let (_, object) = fields.iter().find(|(key, _)| key == outer)?;
        value(&fields_of(object)?, &name[outer.len() + 1..])
    })
}

/// Returns the objects that a path may lead into: `a` and `a.b` for `a.b.c`.
pub(crate) fn outer_names(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(at, _)| &name[..at])
}

/// Returns the names of a row's columns, including those inside of objects.
pub(crate) fn names(row: &Row) -> Vec<String> {
    let mut names = Vec::new();
    add_names(&row.fields, "", DEPTH_MAX, &mut names);
    names
}

fn add_names(fields: &[(String, String)], outer: &str, depth: usize, names: &mut Vec<String>) {
    for (key, value) in fields {
        let name = format!("{outer}{key}");
        match fields_of(value).filter(|_| depth > 1) {
            Some(inner) if !inner.is_empty() => add_names(&inner, &format!("{name}."), depth - 1, names),
            _ => names.push(name),
        }
    }
}

/// Returns the fields of an object, `None` for another value.
fn fields_of(value: &str) -> Option<Vec<(String, String)>> {
    let mut reader = Reader::lenient(value);
    if reader.kind() != Ok(Kind::Object) {
        return None;
    }
    let mut fields = Vec::new();
    let read = reader.object(|key, reader| {
        fields.push((key.text().unwrap_or_default().into_owned(), reader.value()?.raw().to_owned()));
        Ok::<_, JsonError>(())
    });
    read.ok().map(|()| fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Vec<(String, String)> {
        let object =
            r#"{"a":{"b":{"c":1},"b.c":2,"d":null,"e":"x"},"a.b":{"c":3,"f":4},"a.e":"y","g":[{"h":5}],"i":{}}"#;
        fields_of(object).unwrap_or_default()
    }

    #[test]
    fn a_name_that_contains_a_point_has_precedence_over_a_path() {
        let cases = [
            ("a.e", Some("\"y\"")),
            ("a.d", Some("null")),
            // `a` has a field named `b.c`.
            ("a.b.c", Some("2")),
            ("a.b.f", Some("4")),
            ("a.b", Some(r#"{"c":3,"f":4}"#)),
            ("i", Some("{}")),
            ("i.j", None),
            ("g.h", None),
            ("a.e.x", None),
            ("a.", None),
            (".a", None),
            ("", None),
            ("z", None),
        ];
        for (name, expected) in cases {
            assert_eq!(value(&row(), name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn names_include_those_inside_of_objects() {
        let names = names(&Row { line: 1, fields: row(), text: String::new() });
        assert_eq!(names, ["a.b.c", "a.b.c", "a.d", "a.e", "a.b.c", "a.b.f", "a.e", "g", "i"]);
    }
}
