//! Reads rows of Parquet with DuckDB.

use std::borrow::Cow;
use std::path::Path;

use duckdb::Connection;
use indicatif::ProgressBar;
use tempfile::NamedTempFile;

use super::lines::{Lines, object_fields};
use super::{Source, text};

/// What DuckDB writes for floats that JSON does not have. Longer words first.
const NON_FINITE: [&str; 6] = ["-Infinity", "Infinity", "-NaN", "NaN", "-inf", "inf"];

/// DuckDB rewrites the file as lines of JSON in a temporary file. It reads every type and version
/// of Parquet in bounded memory.
pub(super) fn rows(file: &Path, bar: &ProgressBar) -> Result<Source, String> {
    let lines = NamedTempFile::new().map_err(|error| format!("no temporary file: {error}"))?;
    let quoted = |path: &Path| path.to_str().map(|path| path.replace('\'', "''")).ok_or("its path is not UTF-8");
    let table = format!("read_parquet('{}')", quoted(file)?);
    let database = Connection::open_in_memory().map_err(|error| error.to_string())?;
    let columns = columns_of(&database, &table).map_err(|error| error.to_string())?;
    let sql = format!("COPY (SELECT * FROM {table}) TO '{}' (FORMAT json)", quoted(lines.path())?);
    database.execute_batch(&sql).map_err(|error| error.to_string())?;
    bar.set_length(lines.as_file().metadata().map_err(|error| error.to_string())?.len());
    let text = text(lines.path(), bar)?;
    let rows = Lines::of_temporary(text, lines).rows(|line| object_fields(&only_numbers(line)));
    Ok(Source { columns: Some(columns), nested: true, whole_floats: true, rows: Box::new(rows) })
}

fn columns_of(database: &Connection, table: &str) -> duckdb::Result<Vec<String>> {
    let mut statement = database.prepare(&format!("SELECT column_name FROM (DESCRIBE SELECT * FROM {table})"))?;
    let names = statement.query_map([], |row| row.get(0))?;
    names.collect()
}

/// Replaces NaN and infinities with null.
fn only_numbers(line: &str) -> Cow<'_, str> {
    replace_outside_strings(line, |token| {
        NON_FINITE.into_iter().find(|word| token.starts_with(word)).map(|word| (word.len(), "null"))
    })
}

/// Removes the `.0` of whole numbers in JSON that were kept as floats.
pub(crate) fn whole_numbers(value: &str) -> Cow<'_, str> {
    let mut last = ' ';
    replace_outside_strings(value, move |token| {
        let before = std::mem::replace(&mut last, token.chars().next().unwrap_or(' '));
        let whole = before.is_ascii_digit()
            && token
                .strip_prefix(".0")
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit() || "eE".contains(c)));
        whole.then_some((2, ""))
    })
}

/// Replaces parts of JSON outside of strings. `replacement` gets the rest of the JSON at each
/// place, and returns how many bytes to remove there and what to put in their place.
fn replace_outside_strings(
    json: &str,
    mut replacement: impl FnMut(&str) -> Option<(usize, &'static str)>,
) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut copied, mut at, mut in_string, mut escaped) = (0, 0, false, false);
    let bytes = json.as_bytes();
    while at < bytes.len() {
        let byte = bytes[at];
        if in_string {
            (in_string, escaped) = (escaped || byte != b'"', byte == b'\\' && !escaped);
        } else if byte == b'"' {
            in_string = true;
        } else if let Some((length, new)) = json.get(at..).and_then(&mut replacement) {
            out.push_str(&json[copied..at]);
            out.push_str(new);
            at += length;
            copied = at;
            continue;
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_and_infinities_become_null_and_strings_stay() {
        let cases = [
            (
                r#"{"a":NaN,"b":[-Infinity,Infinity,1.0],"c":{"d":-NaN}}"#,
                r#"{"a":null,"b":[null,null,1.0],"c":{"d":null}}"#,
            ),
            (r#"{"a":"NaN","b":"\"Infinity\\","c":inf}"#, r#"{"a":"NaN","b":"\"Infinity\\","c":null}"#),
            (r#"{"NaN":1,"é":"ünf inf"}"#, r#"{"NaN":1,"é":"ünf inf"}"#),
        ];
        for (line, expected) in cases {
            assert_eq!(only_numbers(line), expected);
        }
    }

    #[test]
    fn whole_numbers_lose_their_fraction_and_nothing_else_changes() {
        let cases = [
            ("123.0", "123"),
            ("-1698753540000.0", "-1698753540000"),
            ("0.0", "0"),
            ("123.05", "123.05"),
            ("1.00", "1.00"),
            ("1.0e5", "1.0e5"),
            ("\"123.0\"", "\"123.0\""),
            (r#"{"size":12.0,"s":"1.0","l":[1.0,2.5,"\"3.0"]}"#, r#"{"size":12,"s":"1.0","l":[1,2.5,"\"3.0"]}"#),
            ("null", "null"),
        ];
        for (value, expected) in cases {
            assert_eq!(whole_numbers(value), expected);
        }
    }
}
