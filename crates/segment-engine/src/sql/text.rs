//! The one place that puts names and strings into SQL.

/// Returns a text constant. DuckDB reads everything between the quotes literally, except that a
/// statement ends at a NUL.
pub(super) fn quoted(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match doubled.contains('\0') {
        true => format!("('{}')", doubled.replace('\0', "' || chr(0) || '")),
        false => format!("'{doubled}'"),
    }
}

/// Returns a JSON pointer (RFC 6901) with these keys.
pub(super) fn json_pointer(keys: &[impl AsRef<str>]) -> String {
    quoted(
        &keys.iter().map(|key| format!("/{}", key.as_ref().replace('~', "~0").replace('/', "~1"))).collect::<String>(),
    )
}

/// Returns a call of one of our macros.
pub(super) fn call(name: &str, arguments: &[&str]) -> String {
    format!("user_segment_analytics.uss_{name}({})", arguments.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_leave_their_quotes() {
        assert_eq!(quoted("it's"), "'it''s'");
        assert_eq!(quoted(r"a\'); DROP TABLE users; --"), r"'a\''); DROP TABLE users; --'");
        assert_eq!(quoted("a\0b"), "('a' || chr(0) || 'b')");
    }

    #[test]
    fn any_key_is_one_step_of_a_pointer() {
        assert_eq!(json_pointer(&["a/b", "~", "0"]), "'/a~1b/~0/0'");
    }
}
