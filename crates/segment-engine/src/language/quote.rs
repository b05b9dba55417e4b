//! Text constants of SQL.

/// Returns a text as a constant: in single quotes, with quotes inside it doubled.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
