//! Measures how fast USS is: prints all results and the goals they meet, writes them as JSON, and
//! draws how cost grows.
//!
//! ```text
//! make bench BENCH="engine idle"   # some parts
//! make bench QUICK=1               # everything, at small sizes
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints a table, and its progress")]

mod alone;
mod bound;
mod comparison;
mod deadlines;
mod disk;
mod engine;
mod goals;
mod growth;
mod idle;
mod import;
mod ingest;
mod large;
mod load;
mod memory;
mod peers;
mod picture;
mod posts;
mod restart;
mod results;
mod scale;
mod server;
mod site;
mod stream;
mod sustained;
mod units;
mod watch;
mod workload;

use std::path::{Path, PathBuf};
use std::time::Instant;

use results::Results;
use scale::Scale;
use serde_json::json;

/// As in `uss`, whose engine is measured in this process too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// An error ends the run with its reason.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// In the order in which they run. `peers:NAME` is one of the peers.
const PARTS: [&str; 10] =
    ["engine", "growth", "peers", "ingest", "posts", "deadlines", "idle", "restart", "site", "large"];
/// Parts that run only if they are named: they take half an hour.
const LONG: [&str; 1] = ["sustained"];
const USAGE: &str = "usage: bench PATH_OF_USS [--quick] [PART…] | bench workload FOLDER EVENTS SEGMENTS";
/// Where the results go, as JSON.
const RESULTS: &str = "target/bench/results.json";

/// One thread, since the client shares the cores with the server it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        ["workload", folder, events, segments] => {
            let workload = peers::Workload::new(events.parse()?, segments.parse()?);
            workload.write(Path::new(folder)).map(drop)
        }
        [binary, ref options @ ..] => measure(Path::new(binary), options).await,
        [] => Err(USAGE.into()),
    }
}

async fn measure(binary: &Path, arguments: &[&str]) -> Result<()> {
    let (options, wanted): (Vec<&str>, Vec<&str>) = arguments.iter().partition(|argument| **argument == "--quick");
    let scale = if options.is_empty() { Scale::REAL } else { Scale::QUICK };
    let is_part = |part: &str| PARTS.contains(&part) || LONG.contains(&part) || part.starts_with("peers:");
    if let Some(unknown) = wanted.iter().find(|part| !is_part(part)) {
        return Err(format!(
            "there is no part `{unknown}`; there are {}. {USAGE}",
            [&PARTS[..], &LONG].concat().join(", ")
        )
        .into());
    }
    let parts = if wanted.is_empty() { PARTS.to_vec() } else { wanted };
    let mut results = Results::default();
    // An interrupt drops the running part, which kills its server and deletes the data folder.
    let outcome = tokio::select! {
        outcome = run(&parts, binary, scale, &mut results) => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    // What was measured before an error is shown too.
    let goals = goals::rows(&results);
    println!("{results}\n{}{}", comparison::table(&results.comparisons), goals::table(&goals));
    std::fs::create_dir_all(Path::new(RESULTS).parent().unwrap_or(Path::new(".")))?;
    let whole = json!({"quick": scale.quick, "goals": goals, "comparisons": results.comparisons, "measurements": results.measurements});
    std::fs::write(RESULTS, serde_json::to_string_pretty(&whole)? + "\n")?;
    outcome
}

async fn run(parts: &[&str], binary: &Path, scale: Scale, results: &mut Results) -> Result<()> {
    for part in parts {
        let started = Instant::now();
        memory::measure(part, results);
        match *part {
            "engine" => engine::run(scale, results),
            "growth" => growth::run(scale, results),
            "ingest" => ingest::run(binary, scale, results).await,
            "posts" => posts::run(binary, scale, results).await,
            "deadlines" => deadlines::run(binary, scale, results).await,
            "idle" => idle::run(binary, scale, results).await,
            "restart" => restart::run(binary, scale, results).await,
            "large" => large::run(binary, scale, results).await,
            "sustained" => sustained::run(binary, scale, results).await,
            "site" => site::run(binary, scale, results).await,
            peers => peers::run(peers.strip_prefix("peers:"), scale, results),
        }
        .map_err(|error| format!("{part}: {error}"))?;
        eprintln!("{part}: {:.0} s", started.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Returns the folder of the pictures. Those of a short run do not replace the real ones.
fn pictures(scale: Scale) -> Result<PathBuf> {
    let folder = if scale.quick { "target/bench/pictures" } else { "bench/pictures" };
    std::fs::create_dir_all(folder)?;
    Ok(folder.into())
}
