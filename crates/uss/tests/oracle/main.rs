//! Compares independent sources that say which users are in which segment at which instant.
//!
//! The sources are the engine, the naive interpreter, DuckDB with the generated SQL, and PostgreSQL
//! for the clauses that it can read.
//!
//! `USS_ORACLE_COMPARISONS` sets how many (user, segment, instant)s are compared. `USS_ORACLE_SEED`
//! sets the first seed, so that the seed of a disagreement repeats it.
#![expect(clippy::unwrap_used, clippy::print_stderr)]

mod answers;
mod clauses;
mod duckdb;
mod edges;
mod engine;
mod generate;
mod harness;
mod history;
mod kinds;
mod lists;
mod minimise;
mod naive;
mod numbers;
mod postgres;
mod postgres_server;
mod random;
mod replay;
mod spellings;

use std::sync::{Mutex, PoisonError};

use answers::{Answer, Answers};
use clauses::Dialect;
use duckdb::DuckDb;
use engine::Engine;
use history::{Case, World};
use kinds::Kind;
use naive::Naive;
use postgres::Postgres;
use segment_engine::time::Timestamp;

const COMPARISONS: usize = 100_000;

/// PostgreSQL reads other spellings, so it must take part in at least one in this many comparisons.
const POSTGRES_SHARE: usize = 10;

/// Each kind of record must be in the history of at least one in this many comparisons.
const KIND_SHARE: usize = 200;

fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, not {text:?}")),
        Err(_) => default,
    }
}

/// All workers share one server, and lock it for a whole case at a time.
impl Answers for &Mutex<Postgres> {
    fn name(&self) -> &'static str {
        self.lock().unwrap_or_else(PoisonError::into_inner).name()
    }

    fn reads(&self, dialect: Dialect) -> bool {
        self.lock().unwrap_or_else(PoisonError::into_inner).reads(dialect)
    }

    fn answer(&mut self, case: &Case, worlds: &[World]) -> Result<Answer, String> {
        self.lock().unwrap_or_else(PoisonError::into_inner).answer(case, worlds)
    }
}

#[test]
fn the_engine_the_naive_interpreter_duckdb_and_postgresql_agree() {
    let (seed, wanted) = (setting("USS_ORACLE_SEED", 1) as u64, setting("USS_ORACLE_COMPARISONS", COMPARISONS));
    let postgres = Mutex::new(Postgres::start());
    let workers = (0..std::thread::available_parallelism().map_or(1, usize::from)).map(|_| {
        let sources: Vec<Box<dyn Answers + Send + '_>> =
            vec![Box::new(Engine), Box::new(Naive), Box::new(DuckDb::open()), Box::new(&postgres)];
        sources
    });
    let report = harness::run(seed, wanted, workers.collect()).unwrap_or_else(|disagreement| panic!("{disagreement}"));

    eprintln!("{} cases from seed {seed}, {} users in segments at instants", report.cases, report.asked);
    for (pair, compared) in &report.compared {
        eprintln!("  {} = {}: compared {compared}, of which {} members", pair.0, pair.1, report.members[pair]);
    }
    for (kind, times) in &report.kinds {
        eprintln!("  {kind:?} behind {times} of them");
    }
    assert!(report.reasons.is_empty(), "every generated clause must be in the language: {:?}", report.reasons);
    for pair in [("engine", "naive"), ("engine", "DuckDB"), ("naive", "DuckDB")] {
        assert!(report.compared[&pair] >= wanted, "{pair:?} is compared too rarely");
    }
    if wanted < COMPARISONS {
        return;
    }
    for pair in [("engine", "PostgreSQL"), ("naive", "PostgreSQL"), ("DuckDB", "PostgreSQL")] {
        assert!(report.compared[&pair] >= wanted / POSTGRES_SHARE, "{pair:?} is compared too rarely");
    }
    for (pair, compared) in &report.compared {
        assert!((compared / 10..compared - compared / 10).contains(&report.members[pair]), "the cases are one-sided");
    }
    for kind in Kind::ALL {
        let times = report.kinds.get(&kind).copied().unwrap_or_default();
        assert!(times >= wanted / KIND_SHARE, "too few histories have {kind:?}");
    }
}

/// The naive interpreter, evaluated a microsecond too late.
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
fn a_source_that_is_a_microsecond_late_is_reported_with_a_small_case() {
    let report = harness::run(1, COMPARISONS / 20, vec![vec![Box::new(Naive), Box::new(TooLate)]]).unwrap_err();
    let lines: Vec<&str> = report.lines().filter(|line| line.starts_with('{')).collect();
    assert!(report.starts_with("seed "), "{report}");
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{report}");
    assert!((3..=6).contains(&lines.len()), "a user, a segment and a members line are enough: {report}");
}
