//! Replays each `tests/replay/cases/NAME.ndjson`, and compares the result with the files beside it:
//! `NAME.out` has the output, and for refused input `NAME.err` has the error. With `UPDATE_CASES=1`
//! the test writes these files instead. Read every difference before you commit it: expectations
//! follow from what a segment means, not from what the engine does.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ports::records::instant;
use segment_engine::time::Timestamp;

/// The expected or actual result of a case.
#[derive(PartialEq, Eq)]
struct Outcome {
    output: String,
    error: Option<String>,
}

#[test]
fn every_case_has_the_expected_output_or_error() -> Result<(), Box<dyn Error>> {
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let mut failures = String::new();
    let cases = cases()?;
    for case in &cases {
        let actual = replay(&fs::read(case)?)?;
        if update {
            write(case, &actual)?;
            continue;
        }
        let expected = expected(case)?;
        if actual != expected {
            writeln!(failures, "\n{}\n{}", case.display(), difference(&expected, &actual))?;
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(cases.len() >= 100, "only {} cases were found", cases.len());
    Ok(())
}

#[test]
fn the_guide_shows_its_example_and_the_output() -> Result<(), Box<dyn Error>> {
    let guides = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides");
    let guide = fs::read_to_string(guides.join("replay.md"))?;
    let example = fs::read_to_string(guides.join("replay.ndjson"))?;
    assert!(guide.contains(&format!("```json\n{example}```")), "the guide shows another example");
    let Outcome { output, error } = replay(example.as_bytes())?;
    assert_eq!((error, output.lines().count()), (None, 3));
    assert!(
        guide.contains(&format!("docs/guides/replay.ndjson\n{output}```")),
        "the guide shows another output:\n{output}"
    );
    Ok(())
}

/// A crash may change when transitions are emitted, never which. Restarts at the instants of all
/// lines and changes, and one microsecond before them, change nothing.
#[test]
fn restarts_at_the_worst_moments_change_nothing() -> Result<(), Box<dyn Error>> {
    let mut failures = String::new();
    for case in cases()? {
        let expected = expected(&case)?;
        if expected.error.is_some() {
            continue;
        }
        let mut lines: Vec<(Timestamp, String)> = Vec::new();
        let input = fs::read_to_string(&case)?;
        for line in input.lines() {
            lines.push((instant_of(line)?, line.to_owned()));
        }
        let at = input.lines().chain(expected.output.lines()).map(instant_of).collect::<Result<Vec<_>, _>>()?;
        let last = lines.last().map_or(Timestamp::MIN, |(at, _)| *at);
        for at in at.into_iter().flat_map(|at| [Timestamp(at.0 - 1), at]).filter(|at| *at <= last) {
            lines.push((at, format!(r#"{{"at":"{}","restart":true}}"#, instant::format(at))));
        }
        lines.sort_by_key(|(at, _)| *at);
        let input: String = lines.into_iter().map(|(_, line)| line + "\n").collect();
        let actual = replay(input.as_bytes())?;
        if actual != expected {
            writeln!(failures, "\n{}\n{}", case.display(), difference(&expected, &actual))?;
        }
    }
    assert!(failures.is_empty(), "{failures}");
    Ok(())
}

/// A segment that is defined at the end of a case, and filled from history, has the same members as
/// one that was defined before the events.
#[test]
fn a_segment_filled_from_history_has_the_same_members_as_a_live_one() -> Result<(), Box<dyn Error>> {
    let mut failures = String::new();
    for case in cases()? {
        if expected(&case)?.error.is_some() {
            continue;
        }
        let input = fs::read_to_string(&case)?;
        let (mut inputs, mut definitions) = (String::new(), BTreeMap::new());
        let mut at = String::new();
        for line in input.lines() {
            let value: serde_json::Value = serde_json::from_str(line)?;
            at = value["at"].as_str().ok_or("no instant")?.to_owned();
            match value["segment"]["tag"].as_str() {
                Some(tag) if value["segment"]["whereStatement"].is_null() => drop(definitions.remove(tag)),
                Some(tag) => drop(definitions.insert(tag.to_owned(), value["segment"].to_string())),
                None if value["members"].is_array() => {}
                None => writeln!(inputs, "{line}")?,
            }
        }
        for segment in definitions.values() {
            writeln!(inputs, r#"{{"at":"{at}","segment":{segment}}}"#)?;
        }
        let tags: Vec<&String> = definitions.keys().collect();
        let members_line = format!("{{\"at\":\"{at}\",\"members\":{}}}\n", serde_json::to_string(&tags)?);
        let live = replay((input + &members_line).as_bytes())?;
        let from_history = replay((inputs + &members_line).as_bytes())?;
        if live.output.lines().last() != from_history.output.lines().last() {
            writeln!(failures, "\n{}\n{}", case.display(), difference(&live, &from_history))?;
        }
    }
    assert!(failures.is_empty(), "{failures}");
    Ok(())
}

fn instant_of(line: &str) -> Result<Timestamp, Box<dyn Error>> {
    let line: serde_json::Value = serde_json::from_str(line)?;
    let at = line["at"].as_str().and_then(instant::parse);
    at.ok_or_else(|| format!("no instant in {line}").into())
}

fn cases() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay/cases");
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ndjson") {
            cases.push(path);
        }
    }
    cases.sort();
    Ok(cases)
}

fn replay(input: &[u8]) -> Result<Outcome, Box<dyn Error>> {
    let mut output = Vec::new();
    let error = uss::replay::run(input, &mut output).err().map(|error| format!("{error}\n"));
    Ok(Outcome { output: String::from_utf8(output)?, error })
}

fn expected(case: &Path) -> Result<Outcome, Box<dyn Error>> {
    let error = case.with_extension("err");
    let error = if error.exists() { Some(fs::read_to_string(error)?) } else { None };
    Ok(Outcome { output: fs::read_to_string(case.with_extension("out")).unwrap_or_default(), error })
}

fn write(case: &Path, outcome: &Outcome) -> Result<(), Box<dyn Error>> {
    let (output, error) = (case.with_extension("out"), case.with_extension("err"));
    for (path, text) in [(output, Some(&outcome.output)), (error, outcome.error.as_ref())] {
        match text {
            Some(text) if !text.is_empty() => fs::write(path, text)?,
            _ if path.exists() => fs::remove_file(path)?,
            _ => {}
        }
    }
    Ok(())
}

/// Returns the missing lines (`-`) and the surplus lines (`+`).
fn difference(expected: &Outcome, actual: &Outcome) -> String {
    let text = |outcome: &Outcome| format!("{}{}", outcome.output, outcome.error.as_deref().unwrap_or_default());
    let (expected, actual) = (text(expected), text(actual));
    let missing = expected.lines().filter(|line| !actual.lines().any(|other| other == *line));
    let surplus = actual.lines().filter(|line| !expected.lines().any(|other| other == *line));
    let lines: Vec<String> =
        missing.map(|line| format!("- {line}")).chain(surplus.map(|line| format!("+ {line}"))).collect();
    if lines.is_empty() { "the same lines in another order, or more than once".to_owned() } else { lines.join("\n") }
}
