//! Tests the output streams and exit statuses of the commands.

use std::error::Error;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn uss(arguments: &[&str], input: &str) -> Result<Output, Box<dyn Error>> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uss"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().ok_or("no standard input")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

fn text(bytes: Vec<u8>) -> Result<String, Box<dyn Error>> {
    Ok(String::from_utf8(bytes)?)
}

#[test]
fn replay_reads_standard_input_and_writes_the_output_of_the_lines_before_a_bad_one() -> Result<(), Box<dyn Error>> {
    let input = r#"{"at":"2026-01-01T00:00:00Z","segment":{"tag":"all","whereStatement":""}}
{"at":"2026-01-01T00:00:00Z","members":["all"]}
{"at":"2026-01-02T00:00:00Z","members":["none"]}
"#;
    let output = uss(&["replay"], input)?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(output.stdout)?, "{\"at\":\"2026-01-01T00:00:00.000000Z\",\"members\":{\"all\":[]}}\n");
    assert_eq!(text(output.stderr)?, "line 3: there is no segment `none`\n");
    Ok(())
}

#[test]
fn replay_of_a_missing_file_fails() -> Result<(), Box<dyn Error>> {
    let output = uss(&["replay", "/nowhere/history.ndjson"], "")?;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(output.stderr)?.starts_with("/nowhere/history.ndjson: "));
    Ok(())
}

#[test]
fn validate_prints_the_normal_form_and_the_cost() -> Result<(), Box<dyn Error>> {
    let cases = [
        ("0 < count(*)", "count(*) > 0\ncost: O(1), one value per aggregate and user\n"),
        (
            "count(*) FILTER (WHERE created_at >= now() - INTERVAL '7 days') >= 3",
            "count(*) FILTER (WHERE created_at >= now() - INTERVAL '7 days') >= 3\n\
             cost: O(k), k = 4, at most k entries per aggregate and user\n",
        ),
        (
            "count(DISTINCT url) > avg(order_total)",
            "avg(order_total) < count(DISTINCT url)::numeric\n\
             cost: O(distinct), an entry per distinct value, at most 100000 per user\n",
        ),
        (
            "sum(order_total) FILTER (WHERE created_at >= now() - INTERVAL '7 days') > 5",
            "sum(order_total) FILTER (WHERE created_at >= now() - INTERVAL '7 days') > 5\n\
             cost: O(window), an entry per event in the window, at most 100000 per user\n",
        ),
    ];
    for (clause, expected) in cases {
        let output = uss(&["validate", clause], "")?;
        assert_eq!((output.status.code(), &*text(output.stdout)?), (Some(0), expected));
    }
    Ok(())
}

#[test]
fn validate_points_at_the_place_of_a_refusal() -> Result<(), Box<dyn Error>> {
    let output = uss(&["validate", "count(*) > 3 AND regoin = 'x'"], "")?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(output.stderr)?,
        "count(*) > 3 AND regoin = 'x'\n                 ^\n\
         WHERE_UNKNOWN_COLUMN: there is no column regoin\n  Did you mean region?\n"
    );
    Ok(())
}

/// `| head -1` closes the stream when it has its line. The command has done its work all the same.
#[test]
fn a_closed_output_does_not_change_the_exit_status() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::TempDir::new()?;
    let file = folder.path().join("a.csv");
    std::fs::write(&file, "id,created_at\na,2026-01-01\n")?;
    let file = file.to_str().ok_or("the path is not UTF-8")?;
    let cases: [(&[&str], i32); 4] = [
        (&["validate", "region = 'x'"], 0),
        (&["validate", "region ="], 1),
        (&["import", "--dry-run", file], 0),
        (&["import", "--dry-run", "--map", "id=none", file], 1),
    ];
    for (arguments, status) in cases {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_uss"));
        let ended = command.args(arguments).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).status()?;
        assert_eq!(ended.code(), Some(status), "{arguments:?}");
    }
    Ok(())
}
