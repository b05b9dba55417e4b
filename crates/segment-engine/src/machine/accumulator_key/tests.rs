//! The names of accumulators, which checkpoints hold, are those in
//! `tests/checkpoints/fingerprints.txt`.
#![expect(clippy::disallowed_methods, reason = "the tables are files")]

use std::fmt::Write;
use std::path::Path;

use super::super::index::SegmentIndex;
use super::*;
use crate::language::compile;
use crate::machine::{format_3, lower};

#[test]
fn names_of_accumulators_do_not_change() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
    let clauses = std::fs::read_to_string(folder.join("clauses.txt")).unwrap();
    let mut found = String::new();
    for clause in clauses.lines() {
        let plan = compile(clause).unwrap();
        lower::lower(&plan, &vec![SegmentIndex(0); plan.segments.len()], &mut |key| {
            let (name, name_3) = (key.fingerprint(), format_3::fingerprint(&key));
            writeln!(found, "{name:016x} {name_3:016x} {}", key.canonical_text()).unwrap();
            AccumulatorId(0)
        });
    }
    let stored = std::fs::read_to_string(folder.join("fingerprints.txt")).unwrap();
    for (found, stored) in found.lines().zip(stored.lines()) {
        assert_eq!(found, stored);
    }
    assert_eq!(found.lines().count(), stored.lines().count());
}

#[test]
fn each_activity_that_an_accumulator_keeps_is_returned_once() {
    let cases: [(&str, Option<&[&str]>); 7] = [
        ("activity_type = 'a'", Some(&["a"])),
        ("activity_type IN ('b', 'a') AND url = '/'", Some(&["a", "b"])),
        ("activity_type = 'a' AND url = '/' OR activity_type IN ('a', 'b') AND url = '/b'", Some(&["a", "b"])),
        ("activity_type = 'a' OR url = '/'", None),
        ("activity_type <> 'a'", None),
        (
            "funnel(INTERVAL '1 day', activity_type = 'b', activity_type IN ('a', 'b'), activity_type = 'a') > 0",
            Some(&["a", "b"]),
        ),
        ("funnel(INTERVAL '1 day', activity_type = 'a', url = '/') > 0", None),
    ];
    for (clause, activities) in cases {
        let mut accumulators = Vec::new();
        lower::lower(&compile(clause).unwrap(), &[], &mut |key| {
            accumulators.push(key);
            AccumulatorId(0)
        });
        assert_eq!(accumulators[0].activities().as_deref(), activities, "{clause}");
    }
}

/// `tests/checkpoints/clauses.txt` is older than funnels.
#[test]
fn names_of_funnels_do_not_change() {
    let clause = "funnel(INTERVAL '36 hours', url = '/a', url = '/b' OR region = 'x') \
                  FILTER (WHERE country = 'DE' AND created_at > now() - INTERVAL '7 days') > 0";
    let mut names = Vec::new();
    lower::lower(&compile(clause).unwrap(), &[], &mut |key| {
        names.push((key.fingerprint(), key.canonical_text()));
        AccumulatorId(0)
    });
    let text = "funnel 129600000000 OF url = '/a', region = 'x' OR url = '/b' WHERE country = 'DE' \
                WHERE url = '/a' OR (region = 'x' OR url = '/b') WHILE created_at > now() - INTERVAL '7 days'";
    assert_eq!(names, [(0x5dff_ea05_7a25_6628, text.to_owned())]);
}
