//! Memory per user, and how soon it is back after being killed.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Result;
use crate::server::{Server, settle};
use crate::table::{Table, grouped};
use crate::workload::{self, Clauses, Lines};

const SEGMENTS: usize = 1_000;
const USERS: u64 = 100_000;
const EVENTS: usize = 500_000;
const EVENTS_PER_REQUEST: usize = 100_000;
/// Longer than between two checkpoints of a partition.
const CHECKPOINTED: Duration = Duration::from_secs(12);
/// Sent right before the kill: the log has them, a checkpoint has not.
const EVENTS_AT_RISK: usize = 100_000;

/// Fills, weighs, kills, starts, weighs again.
pub async fn run(binary: &Path, table: &mut Table) -> Result<()> {
    let server = Server::with_segments(binary, &workload::clauses(SEGMENTS, Clauses::MANY_CHANGES)).await?;
    let empty = server.memory()?;
    server.make_users(0, USERS).await?;
    let mut lines = Lines::new(1, 0, USERS, false);
    for _ in 0..EVENTS / EVENTS_PER_REQUEST {
        server.lines(lines.body(EVENTS_PER_REQUEST)).await?;
    }
    server.told().await?;
    server.mark("filled", 0).await?;
    server.archived("filled").await?;
    settle(CHECKPOINTED).await;
    let full = server.memory()?;
    server.lines(lines.body(EVENTS_AT_RISK)).await?;

    let started = Instant::now();
    let server = server.kill_and_start()?;
    let serving = started.elapsed();
    server.told().await?;
    let exact = started.elapsed();
    let again = server.memory()?;

    let conditions = format!("{} users, {} events, {SEGMENTS} segments", grouped(USERS as f64), grouped(EVENTS as f64));
    let mib = |bytes: f64| format!("{:.0} MiB", bytes / 1024.0 / 1024.0);
    let per_user = |bytes: f64| format!("{:.2} KiB a user", (bytes - empty) / USERS as f64 / 1024.0);
    table.add("memory without users", format!("{SEGMENTS} segments"), mib(empty));
    table.add("memory after the load", &conditions, format!("{}: {}", mib(full), per_user(full)));
    table.add("memory after a restart", &conditions, format!("{}: {}", mib(again), per_user(again)));
    let conditions = format!("{conditions}, {} of them not in a checkpoint", grouped(EVENTS_AT_RISK as f64));
    table.add("kill -9 → serving", &conditions, format!("{:.1} s", serving.as_secs_f64()));
    table.add("kill -9 → all told and stored", conditions, format!("{:.1} s", exact.as_secs_f64()));
    server.stop()
}
