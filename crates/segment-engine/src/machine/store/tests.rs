//! The names of stores, which checkpoints hold, are those that stand in `tests/checkpoints/fingerprints.txt`.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::Path;

use super::*;
use crate::language::compile;
use crate::machine::{format_3, lower};

#[test]
fn names_of_stores_do_not_change() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
    let clauses = std::fs::read_to_string(folder.join("clauses.txt")).unwrap();
    let mut found = String::new();
    for clause in clauses.lines() {
        let plan = compile(clause).unwrap();
        lower::lower(&plan, &vec![0; plan.segments.len()], &mut |key| {
            let (name, name_3) = (key.fingerprint(), format_3::fingerprint(&key));
            writeln!(found, "{name:016x} {name_3:016x} {}", key.canonical_text()).unwrap();
            StoreId(0)
        });
    }
    let stored = std::fs::read_to_string(folder.join("fingerprints.txt")).unwrap();
    for (found, stored) in found.lines().zip(stored.lines()) {
        assert_eq!(found, stored);
    }
    assert_eq!(found.lines().count(), stored.lines().count());
}
