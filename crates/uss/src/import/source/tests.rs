//! Tests where rows end, and which rows are read around bad ones.

use super::*;

fn rows(text: &[u8]) -> Vec<(u64, Result<String, String>)> {
    let text: Text = without_mark(Cursor::new(text.to_vec())).unwrap_or_else(|error| panic!("{error}"));
    let source = json_rows(text).unwrap_or_else(|error| panic!("{error}"));
    source
        .rows
        .map(|row| match row {
            Ok(row) => (row.line, Ok(row.text)),
            Err(RowError::Bad(bad)) => (bad.line, Err(bad.reason)),
            Err(RowError::Broken { reason, .. }) => panic!("{reason}"),
        })
        .collect()
}

/// Expects the lines and texts of good rows, and the start of the reason of bad ones.
fn check(text: &str, expected: &[(u64, Result<&str, &str>)]) {
    let found = rows(text.as_bytes());
    assert_eq!(found.len(), expected.len(), "{text:?}: {found:?}");
    for ((line, found), (expected_line, expected)) in found.iter().zip(expected) {
        assert_eq!(line, expected_line, "{text:?}");
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text:?}"),
            (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{text:?}: {found}"),
            _ => panic!("{text:?}: {found:?}"),
        }
    }
}

#[test]
fn brackets_and_quotes_end_elements() {
    let too_early = Err("not JSON: the text ends too early");
    check("[]", &[]);
    check("\n\n [ ] \n", &[]);
    check("[{}]", &[(1, Ok("{}"))]);
    check("[{},{}]", &[(1, Ok("{}")), (1, Ok("{}"))]);
    check(
        "[\n{\"a\":\n[1,{\"b\":\"]},\\\"\"}]} ,\n\n {} ]",
        &[(2, Ok("{\"a\":\n[1,{\"b\":\"]},\\\"\"}]}")), (5, Ok("{}"))],
    );
    check("[{},5,{}]", &[(1, Ok("{}")), (1, Err("not a JSON object")), (1, Ok("{}"))]);
    check("[{},{\"a\":tru},{}]", &[(1, Ok("{}")), (1, Err("not JSON")), (1, Ok("{}"))]);
    check("[{},\n,{}]", &[(1, Ok("{}")), (2, too_early), (2, Ok("{}"))]);
    check("[{},]", &[(1, Ok("{}")), (1, too_early)]);
    check("[{}", &[(1, Err("the array ends within this element"))]);
    check("[{},", &[(1, Ok("{}")), (1, Err("the array ends without its closing bracket"))]);
    check("[", &[(1, Err("the array ends without its closing bracket"))]);
    check("[{\"a\":\"b},{}]", &[(1, Err("the array ends within this element"))]);
    check("[{}]\n[{}]", &[(1, Ok("{}")), (2, Err("more text after the array"))]);
    check("[[{}]]", &[(1, Err("not a JSON object"))]);
    check("[}},{}]", &[(1, Err("not JSON")), (1, Ok("{}"))]);
}

#[test]
fn blank_lines_count_in_line_numbers() {
    check("{}\n\n  \n{}", &[(1, Ok("{}")), (4, Ok("{}"))]);
    check("\n \n{}\n", &[(3, Ok("{}"))]);
    check("\u{feff}\n{}\r\n\u{feff}{}\n", &[(2, Ok("{}")), (3, Ok("\u{feff}{}"))]);
    check("{}\n[{}]\n", &[(1, Ok("{}")), (2, Err("not a JSON object"))]);
    check("", &[]);
}

#[test]
fn only_the_row_that_is_too_long_is_rejected() {
    let long = "x".repeat(ROW_BYTES_MAX + 1);
    check(&format!("{{}}\n{{\"a\":\"{long}\"}}\n{{}}\n"), &[(1, Ok("{}")), (2, Err("longer than")), (3, Ok("{}"))]);
    check(&format!("[{{}},\n{{\"a\":\"{long}\"}},\n{{}}]"), &[(1, Ok("{}")), (2, Err("longer than")), (3, Ok("{}"))]);
}

#[test]
fn the_name_of_a_file_implies_format_and_delimiter() {
    for (name, expected) in [
        ("a.csv", Some((Format::Csv, None))),
        ("a.CSV.gz", Some((Format::Csv, None))),
        ("a.tsv", Some((Format::Csv, Some('\t')))),
        ("a.tab.gz", Some((Format::Csv, Some('\t')))),
        ("a.json", Some((Format::Ndjson, None))),
        ("a.jsonl.gz", Some((Format::Ndjson, None))),
        ("a.parquet", Some((Format::Parquet, None))),
        ("a.csv.rejected", None),
        ("a", None),
    ] {
        assert_eq!(format_of(Path::new(name)), expected, "{name}");
    }
}
