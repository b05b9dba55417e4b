//! Changes the white space of JSON, for people or for lines. Values stay as they were sent, since a
//! number that goes through a float may change.

/// Returns the JSON on one line.
pub(crate) fn one_line(json: &str) -> String {
    lay_out(json, false)
}

/// Returns the JSON with one field per line, indented.
pub(crate) fn indented(json: &str) -> String {
    lay_out(json, true)
}

fn lay_out(json: &str, indent: bool) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut depth, mut just_opened) = (0, false);
    let (mut in_string, mut escaped) = (false, false);
    let line = |out: &mut String, depth: usize| {
        if indent {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        }
    };
    for character in json.chars() {
        if in_string {
            out.push(character);
            in_string = escaped || character != '"';
            escaped = character == '\\' && !escaped;
            continue;
        }
        if character.is_whitespace() {
            continue;
        }
        let closes = matches!(character, '}' | ']');
        depth -= usize::from(closes);
        if just_opened != closes {
            line(&mut out, depth);
        }
        just_opened = matches!(character, '{' | '[');
        depth += usize::from(just_opened);
        in_string = character == '"';
        out.push(character);
        match character {
            ':' if indent => out.push(' '),
            ',' => line(&mut out, depth),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_they_are() {
        let json = " {\"a\" : [1.10, {} ,[ ]],\n\"b\":{\"c {\":\"x, \\\"y\\\\\"}, \"d\":true}";
        assert_eq!(one_line(json), r#"{"a":[1.10,{},[]],"b":{"c {":"x, \"y\\"},"d":true}"#);
        let lines = r#"{
  "a": [
    1.10,
    {},
    []
  ],
  "b": {
    "c {": "x, \"y\\"
  },
  "d": true
}"#;
        assert_eq!(indented(json), lines);
        assert_eq!(indented("7"), "7");
    }
}
