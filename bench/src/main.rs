//! Measures how fast USS is, and prints one table.
//!
//! ```text
//! make bench BENCH="engine idle"   # some parts
//! make bench QUICK=1               # everything, at a tenth of the size
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
mod site;
mod stream;
mod table;
mod workload;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use table::{Table, grouped};

/// An error ends the run with its reason.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// In the order in which they run.
const PARTS: [&str; 7] = ["engine", "ingest", "posts", "deadlines", "idle", "restart", "site"];

/// The size of the site.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Different users; a few of them have no event.
    users: u64,
    /// Events of the past.
    events: usize,
}

impl Size {
    const REAL: Self = Self { users: 1_000_000, events: 10_000_000 };
    const QUICK: Self = Self { users: 100_000, events: 1_000_000 };
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users, {} events", grouped(self.users as f64), grouped(self.events as f64))
    }
}

/// One thread, since the client shares the cores with the server it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(binary) = arguments.next() else {
        return Err(
            format!("usage: bench PATH_OF_USS [--quick] [PART…], where a part is one of {}", PARTS.join(", ")).into()
        );
    };
    let binary = PathBuf::from(binary);
    let (options, wanted): (Vec<String>, Vec<String>) = arguments.partition(|argument| argument == "--quick");
    let size = if options.is_empty() { Size::REAL } else { Size::QUICK };
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
        done = run_served(&wanted, &binary, size, &mut table) => done?,
        _ = tokio::signal::ctrl_c() => return Err("interrupted".into()),
    }
    println!("{table}");
    Ok(())
}

/// Runs the parts that need the built binary.
async fn run_served(wanted: &[&str], binary: &Path, size: Size, table: &mut Table) -> Result<()> {
    for part in wanted.iter().filter(|part| **part != "engine") {
        let started = Instant::now();
        match *part {
            "ingest" => ingest::run(binary, table).await,
            "posts" => posts::run(binary, table).await,
            "deadlines" => deadlines::run(binary, size, table).await,
            "idle" => idle::run(binary, table).await,
            "restart" => restart::run(binary, table).await,
            _ => site::run(binary, size, table).await,
        }
        .map_err(|error| format!("{part}: {error}"))?;
        eprintln!("{part}: {:.0} s", started.elapsed().as_secs_f64());
    }
    Ok(())
}
