//! Who is in which segment at which instant, answered independently several times over and compared.
//!
//! `USS_ORACLE_COMPARISONS` sets how many (user, segment, instant)s of the engine are compared with each of the naive
//! interpreter and PostgreSQL (DuckDB, which is slower to ask, gets a share); `USS_ORACLE_SEED` where the seeds start, so
//! that a disagreement's seed alone repeats it.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod answers;
mod clauses;
mod duckdb;
mod engine;
mod generate;
mod harness;
mod history;
mod minimise;
mod naive;
mod postgres;
mod postgres_server;
mod random;
mod replay;

use answers::{Answer, Answers};
use clauses::Dialect;
use duckdb::DuckDb;
use engine::Engine;
use history::{Case, World};
use naive::Naive;
use postgres::Postgres;
use segment_engine::time::Timestamp;

const COMPARISONS: usize = 100_000;

/// DuckDB is asked one question in this many: it takes ten times as long as all the others.
const DUCKDB_SHARE: usize = 2;

fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")),
        Err(_) => default,
    }
}

fn agree(dialect: Dialect, wanted: usize, mut sources: Vec<Box<dyn Answers>>) {
    let seed = setting("USS_ORACLE_SEED", 1) as u64;
    let report =
        harness::run(seed, dialect, wanted, &mut sources).unwrap_or_else(|disagreement| panic!("{disagreement}"));
    eprintln!("{} cases from seed {seed}", report.cases);
    for (source, compared) in &report.compared {
        let (members, skipped) = (report.members[source], report.skipped[source]);
        eprintln!(
            "  {source}: compared {compared}, of which {members} members; {skipped} segments at instants skipped"
        );
        assert!((compared / 10..compared - compared / 10).contains(&members), "the cases are too one-sided");
    }
    for (why, times) in &report.reasons {
        eprintln!("  skipped {times} times: {why}");
    }
    assert!(report.reasons.is_empty(), "every clause that is written is in the language");
}

fn wanted() -> usize {
    setting("USS_ORACLE_COMPARISONS", COMPARISONS)
}

#[test]
fn the_engine_agrees_with_the_naive_interpreter() {
    agree(Dialect::Whole, wanted(), vec![Box::new(Naive), Box::new(Engine)]);
}

#[test]
fn the_engine_agrees_with_postgresql_reading_the_clause_itself() {
    agree(Dialect::Portable, wanted(), vec![Box::new(Engine), Box::new(Postgres::start()), Box::new(Naive)]);
}

#[test]
fn the_generated_sql_agrees_with_the_naive_interpreter() {
    agree(Dialect::Whole, wanted() / DUCKDB_SHARE, vec![Box::new(Naive), Box::new(DuckDb::open())]);
}

/// Asks the naive interpreter about a microsecond too late.
struct TooLate;

impl Answers for TooLate {
    fn name(&self) -> &'static str {
        "too late"
    }

    fn answer(&mut self, case: &Case, worlds: &[World]) -> Result<Answer, String> {
        let late = case.instants.iter().map(|instant| Timestamp(instant.0 + 1)).collect();
        Naive.answer(&Case { instants: late, ..case.clone() }, worlds)
    }
}

#[test]
fn a_source_that_is_a_microsecond_late_is_found_and_told() {
    let told =
        harness::run(1, Dialect::Whole, COMPARISONS / 20, &mut [Box::new(Naive), Box::new(TooLate)]).unwrap_err();
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with('{')).collect();
    assert!(told.starts_with("seed "), "{told}");
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{told}");
    assert!((3..=6).contains(&lines.len()), "a user, a segment and a question are enough: {told}");
}
