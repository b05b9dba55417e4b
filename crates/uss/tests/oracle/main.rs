//! Who is in which segment at which instant, answered independently several times over and compared.
//!
//! `USS_ORACLE_COMPARISONS` sets how many (user, segment, instant)s are compared with each source but PostgreSQL, which
//! gets a tenth; `USS_ORACLE_SEED` where the seeds start, so that a disagreement's seed alone repeats it.
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

use answers::Answers;
use clauses::Dialect;

const COMPARISONS: usize = 100_000;

/// PostgreSQL is asked one question in this many.
const POSTGRES_SHARE: usize = 10;

fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")),
        Err(_) => default,
    }
}

fn agree(dialect: Dialect, wanted: usize, mut sources: Vec<Box<dyn Answers>>) -> harness::Report {
    let seed = setting("USS_ORACLE_SEED", 1) as u64;
    match harness::run(seed, dialect, wanted, &mut sources) {
        Ok(report) => {
            eprintln!("{} cases from seed {seed}: compared {:?}, skipped {:?}", report.cases, report.compared, report.skipped);
            for (why, times) in &report.reasons {
                eprintln!("  skipped {times} times: {why}");
            }
            report
        }
        Err(disagreement) => panic!("{disagreement}"),
    }
}

#[test]
fn the_naive_reading_and_the_generated_sql_agree() {
    let wanted = setting("USS_ORACLE_COMPARISONS", COMPARISONS);
    agree(Dialect::Whole, wanted, vec![Box::new(naive::Naive), Box::new(engine::Engine), Box::new(duckdb::DuckDb::open())]);
}

#[test]
fn postgresql_reading_the_clause_itself_agrees() {
    let wanted = setting("USS_ORACLE_COMPARISONS", COMPARISONS) / POSTGRES_SHARE;
    let sources: Vec<Box<dyn Answers>> =
        vec![Box::new(naive::Naive), Box::new(postgres::Postgres::start()), Box::new(engine::Engine)];
    agree(Dialect::Portable, wanted, sources);
}
