//! Measures how fast USS is, and prints one table.
//!
//! ```text
//! make bench BENCH="engine idle"   # some parts
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints a table, and its progress")]

mod deadlines;
mod disk;
mod engine;
mod idle;
mod ingest;
mod load;
mod posts;
mod restart;
mod server;
mod stream;
mod table;
mod workload;

use std::path::{Path, PathBuf};
use std::time::Instant;

use table::Table;

/// An error ends the run with its reason.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// In the order in which they run.
const PARTS: [&str; 6] = ["engine", "ingest", "posts", "deadlines", "idle", "restart"];

/// One thread, since the client shares the cores with the server it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(binary) = arguments.next() else {
        return Err(format!("usage: bench PATH_OF_USS [PART…], where a part is one of {}", PARTS.join(", ")).into());
    };
    let binary = PathBuf::from(binary);
    let wanted: Vec<String> = arguments.collect();
    if let Some(unknown) = wanted.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(format!("there is no part `{unknown}`; there are {}", PARTS.join(", ")).into());
    }
    let wanted: Vec<&str> =
        PARTS.into_iter().filter(|part| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part)).collect();
    let mut table = Table::default();
    if wanted.contains(&"engine") {
        engine::run(&mut table)?;
    }
    // An interrupt drops the running part, which kills its server and deletes the data folder.
    tokio::select! {
        done = run_served(&wanted, &binary, &mut table) => done?,
        _ = tokio::signal::ctrl_c() => return Err("interrupted".into()),
    }
    println!("{table}");
    Ok(())
}

/// Runs the parts that need the built binary.
async fn run_served(wanted: &[&str], binary: &Path, table: &mut Table) -> Result<()> {
    for part in wanted.iter().filter(|part| **part != "engine") {
        let started = Instant::now();
        match *part {
            "ingest" => ingest::run(binary, table).await,
            "posts" => posts::run(binary, table).await,
            "deadlines" => deadlines::run(binary, table).await,
            "idle" => idle::run(binary, table).await,
            _ => restart::run(binary, table).await,
        }
        .map_err(|error| format!("{part}: {error}"))?;
        eprintln!("{part}: {:.0} s", started.elapsed().as_secs_f64());
    }
    Ok(())
}
