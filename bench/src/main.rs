//! `make bench`: what is fast and what is not, as one table. Each part stands alone: `make bench BENCH="engine idle"`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints a table, and beside it how far it is")]

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

/// A failed step ends the run with its reason.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// In the order they run. All but the first need the built binary.
const PARTS: [&str; 6] = ["engine", "ingest", "posts", "deadlines", "idle", "restart"];

/// One thread, so that the client takes as little as it can from the server it shares the cores with.
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
    let mut table = Table::default();
    for part in PARTS.iter().filter(|part| wanted.is_empty() || wanted.iter().any(|wanted| wanted == *part)) {
        let started = Instant::now();
        run(part, &binary, &mut table).await.map_err(|error| format!("{part}: {error}"))?;
        eprintln!("{part}: {:.0} s", started.elapsed().as_secs_f64());
    }
    println!("{table}");
    Ok(())
}

async fn run(part: &str, binary: &Path, table: &mut Table) -> Result<()> {
    match part {
        "engine" => engine::run(table),
        "ingest" => return ingest::run(binary, table).await,
        "posts" => return posts::run(binary, table).await,
        "deadlines" => return deadlines::run(binary, table).await,
        "idle" => return idle::run(binary, table).await,
        _ => return restart::run(binary, table).await,
    }
    Ok(())
}
