//! The one place where names and texts become SQL.

/// Returns a text constant. DuckDB takes everything between the quotes literally, but a statement ends at a NUL.
pub fn quoted(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match doubled.contains('\0') {
        true => format!("('{}')", doubled.replace('\0', "' || chr(0) || '")),
        false => format!("'{doubled}'"),
    }
}

/// Returns a JSON pointer (RFC 6901) to the keys: steps into arrays by their decimal index.
pub fn json_pointer(keys: &[impl AsRef<str>]) -> String {
    quoted(
        &keys.iter().map(|key| format!("/{}", key.as_ref().replace('~', "~0").replace('/', "~1"))).collect::<String>(),
    )
}

/// A call of one of our macros.
pub fn call(name: &str, arguments: &[&str]) -> String {
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
    fn keys_are_steps_whatever_they_contain() {
        assert_eq!(json_pointer(&["a/b", "~", "0"]), "'/a~1b/~0/0'");
    }
}
