//! Tests that bad rows are rejected and the other rows are imported.

use super::*;

const GOOD: &str = r#"{"id":"a","created_at":"2026-01-01T00:00:00Z"}"#;

fn rejected(rows: &[(u64, &str, &str)]) -> Vec<(u64, String, String)> {
    rows.iter().map(|(line, code, text)| (*line, (*code).to_owned(), (*text).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_around_a_bad_row_are_imported() {
    let other = r#"{"id":"b","created_at":"2026-01-02T00:00:00Z"}"#;
    let cut = r#"{"id":"x","created_at":"2026-01-01T00:00:00Z","q":"a\ud8"}"#;
    let nan = r#"{"id":"x","created_at":"2026-01-01T00:00:00Z","q":NaN}"#;
    let nul = r#"{"id":"x","created_at":"2026-01-01T00:00:00Z","payload":5}"#;
    let lines = |bad: &str| format!("{GOOD}\n\n{bad}\n{other}\n");
    let array = |bad: &str| format!("[{GOOD},\n\n{bad},\n{other}]\n");
    let csv = |bad: &str| format!("id,created_at,q\na,2026-01-01,1\n{bad}\nb,2026-01-02,1\n");
    let cases = [
        ("guest.csv", csv(",2026-01-01,1"), 3, "MISSING_ID", ",2026-01-01,1"),
        ("blank.csv", csv("  ,2026-01-01,1"), 3, "MISSING_ID", "  ,2026-01-01,1"),
        ("na.csv", csv("x,N/A,1"), 3, "INVALID_CREATED_AT", "x,N/A,1"),
        ("no-time.csv", csv("x,,1"), 3, "INVALID_CREATED_AT", "x,,1"),
        ("short.csv", csv("x,2026-01-01"), 3, "UNREADABLE_ROW", "x,2026-01-01"),
        ("long.csv", csv("x,2026-01-01,\"1,2\",3"), 3, "UNREADABLE_ROW", "x,2026-01-01,\"1,2\",3"),
        (
            "guest.ndjson",
            lines(r#"{"id":null,"created_at":"2026-01-01"}"#),
            3,
            "MISSING_ID",
            r#"{"id":null,"created_at":"2026-01-01"}"#,
        ),
        ("cut.ndjson", lines(cut), 3, "UNREADABLE_ROW", cut),
        ("nan.ndjson", lines(nan), 3, "UNREADABLE_ROW", nan),
        ("half.ndjson", lines("{\"id\":\"x\""), 3, "UNREADABLE_ROW", "{\"id\":\"x\""),
        ("five.ndjson", lines("5"), 3, "UNREADABLE_ROW", "5"),
        ("payload.ndjson", lines(nul), 3, "INVALID_FIELD", nul),
        ("cut.json", array(cut), 3, "UNREADABLE_ROW", cut),
        ("nan.json", array(nan), 3, "UNREADABLE_ROW", nan),
        ("five.json", array("5"), 3, "UNREADABLE_ROW", "5"),
    ];
    for (name, content, line, code, text) in cases {
        let world = World::new().await;
        let summary = world.import(&world.file(name, content.as_bytes()), &[]).await.unwrap();
        assert_eq!((summary.accepted, summary.rejected.rows, summary.rejected.by_api), (2, 1, 0), "{name}: {summary}");
        assert_eq!(world.rejected(), rejected(&[(line, code, text)]), "{name}");
        assert_eq!(world.users().await, ["a", "b"], "{name}");
        let shown = summary.to_string();
        assert!(shown.contains(&format!("{name}, line {line}: ")) && shown.contains(code), "{shown}");
        assert!(shown.contains("The rejected rows are in ") && !shown.contains("uss errors"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_utf8_are_shown_as_replacement_characters() {
    let world = World::new().await;
    let latin1 = world.file("latin1.csv", b"id,created_at,q\na,2026-01-01,1\nx,2026-01-01,caf\xe9\nb,2026-01-02,1\n");
    let lines = world.file(
        "latin1.ndjson",
        format!("{GOOD}\n").as_bytes().iter().chain(b"{\"id\":\"\xe9\"}\n").copied().collect::<Vec<_>>().as_slice(),
    );
    let summary = run(&world.args(&[&latin1, &lines], &[]), NOW).await.unwrap();
    assert_eq!((summary.accepted, summary.rejected.rows), (3, 2), "{summary}");
    let expected = [(3, "UNREADABLE_ROW", "x,2026-01-01,caf\u{fffd}"), (2, "UNREADABLE_ROW", "{\"id\":\"\u{fffd}\"}")];
    assert_eq!(world.rejected(), rejected(&expected));
    assert!(summary.to_string().contains("not UTF-8; convert the file first"), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_api_rejects_are_in_the_same_file() {
    let world = World::new().await;
    let text = "id,created_at,order_total\na,2026-01-01,ten\n,2026-01-01,1\nb,2026-01-02,\"1,5\"\nc,2026-01-03,2\n";
    let summary = world.import(&world.file("o.csv", text.as_bytes()), &[]).await.unwrap();
    assert_eq!((summary.accepted, summary.rejected.rows, summary.rejected.by_api), (1, 3, 2));
    let mut found = world.rejected();
    found.sort();
    let expected = [
        (2, "INVALID_ORDER_TOTAL", "a,2026-01-01,ten"),
        (3, "MISSING_ID", ",2026-01-01,1"),
        (4, "INVALID_ORDER_TOTAL", "b,2026-01-02,\"1,5\""),
    ];
    assert_eq!(found, rejected(&expected));
    let shown = summary.to_string();
    assert!(
        shown.contains("Those that the API rejected are dead letters on the error topic, too: `uss errors list`"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_rejected_rows_stop_the_import() {
    let world = World::new().await;
    let good = |n: usize| format!("u{n},2026-01-01\n");
    let rows: String = (0..20_000).map(|n| if n % 5 == 4 { ",2026-01-01\n".to_owned() } else { good(n) }).collect();
    let file = world.file("o.csv", format!("id,created_at\n{rows}").as_bytes());
    let error = world.import(&file, &["--max-rejected", "3"]).await.unwrap_err().to_string();
    assert!(error.contains("more than 3 rows were rejected") && error.contains("o.csv, line 6: no user id"), "{error}");
    let lines: Vec<u64> = world.rejected().into_iter().map(|(line, ..)| line).collect();
    assert_eq!(lines, [6, 11, 16, 21], "the file has all rows that were counted");
    let accepted = world.deliveries().await.len();
    assert!(accepted < 16_000, "{accepted} were sent");

    let few = world.file("few.csv", format!("id,created_at\n{}\n,2026-01-01\n", good(1)).as_bytes());
    assert_eq!(world.import(&few, &["--max-rejected", "1"]).await.unwrap().rejected.rows, 1);
    assert!(world.import(&few, &["--max-rejected", "0"]).await.is_err());
    let refused = world.file("refused.csv", b"id,created_at,order_total\na,2026-01-01,ten\n");
    let error = world.import(&refused, &["--max-rejected", "0"]).await.unwrap_err().to_string();
    assert!(error.contains("more than 0 rows") && error.contains("INVALID_ORDER_TOTAL"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_rejected_rows_is_created_with_the_first_row_only() {
    let world = World::new().await;
    let file = world.file("o.csv", b"id,created_at\na,2026-01-01\n");
    world.import(&file, &[]).await.unwrap();
    assert!(!world.folder.path().join("rejected").exists());
    let over = file.to_str().unwrap();
    let args = ImportArgs { rejected: Some(over.into()), ..world.args(&[&file], &[]) };
    let error = run(&args, NOW).await.unwrap_err().to_string();
    assert!(error.contains("--rejected"), "{error}");
    let bad = world.file("bad.csv", b"id,created_at\na,2026-01-01\n,2026-01-01\n");
    let nowhere = world.folder.path().join("none/rejected");
    let args = ImportArgs { rejected: Some(nowhere), ..world.args(&[&bad], &[]) };
    let error = run(&args, NOW).await.unwrap_err().to_string();
    assert!(error.contains("cannot be written") && error.contains("--rejected"), "{error}");
    let by_name = super::super::rejected::Rejected::new(&ImportArgs { rejected: None, ..args }).unwrap();
    assert_eq!(by_name.finish().unwrap().path, Path::new("bad.csv.rejected"));
}

/// A file that cannot be read any further is an error, not a bad row.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_ends_the_import() {
    let world = World::new().await;
    let rows: String = (0..50_000).map(|n| format!("u{n},2026-01-01\n")).collect();
    let lines: String = (0..50_000).map(|n| format!("{{\"id\":\"u{n}\",\"created_at\":\"2026-01-01\"}}\n")).collect();
    for (name, text) in [("o.csv.gz", format!("id,created_at\n{rows}")), ("o.ndjson.gz", lines)] {
        let packed = gzip(text.as_bytes());
        let error = world.import(&world.file(name, &packed[..packed.len() / 2]), &[]).await.unwrap_err();
        assert!(matches!(error, ImportError::Row { line, .. } if line > 1), "{error:?}");
    }
    assert!(world.rejected().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_first_rows_are_all_bad_is_not_imported() {
    let world = World::new().await;
    let rows: String = (0..2_000).map(|_| "a,31/10/2023\n").collect();
    let file = world.file("o.csv", format!("id,created_at\n{rows}").as_bytes());
    let error = world.import(&file, &[]).await.unwrap_err().to_string();
    assert!(
        error.contains("none of its first 1000 rows is an event") && error.contains("line 2: `31/10/2023`"),
        "{error}"
    );
    assert!(world.rejected().is_empty() && world.deliveries().await.is_empty());
    assert_eq!(world.import(&file, &["--time-format", "%d/%m/%Y"]).await.unwrap().accepted, 2_000);
}
