//! Memory per user, and how soon a killed server is back.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Result;
use crate::server::{Server, settle};
use crate::table::{Table, grouped, mib};
use crate::workload::{self, Clauses, Lines};

const SEGMENTS: usize = 1_000;
const USERS: u64 = 100_000;
const EVENTS: usize = 500_000;
const EVENTS_PER_REQUEST: usize = 100_000;
/// Longer than the interval between two checkpoints of a partition.
const CHECKPOINTED: Duration = Duration::from_secs(12);
/// Sent right before the kill, so that the log has them and no checkpoint does.
const EVENTS_AT_RISK: usize = 100_000;

/// Measures memory with many users, kills the server, and measures how soon it is back, and with
/// how much memory.
pub(crate) async fn run(binary: &Path, table: &mut Table) -> Result<()> {
    let server = Server::with_segments(binary, &workload::clauses(SEGMENTS, Clauses::MANY_CHANGES)).await?;
    let empty = server.memory()?;
    server.create_users(0, USERS).await?;
    let mut lines = Lines::new(1, 0, USERS, false);
    for _ in 0..EVENTS / EVENTS_PER_REQUEST {
        server.lines(lines.body(EVENTS_PER_REQUEST)).await?;
    }
    server.wait_until_applied().await?;
    server.mark("filled", 0).await?;
    server.wait_until_archived("filled").await?;
    settle(CHECKPOINTED).await;
    let full = server.memory()?;
    server.lines(lines.body(EVENTS_AT_RISK)).await?;

    let started = Instant::now();
    let server = server.kill_and_start()?;
    let serving = started.elapsed();
    server.wait_until_applied().await?;
    let applied = started.elapsed();
    let again = server.memory()?;

    let conditions = format!("{} users, {} events, {SEGMENTS} segments", grouped(USERS as f64), grouped(EVENTS as f64));
    let per_user = |bytes: f64| format!("{:.2} KiB a user", (bytes - empty) / USERS as f64 / 1024.0);
    table.add("memory without users", format!("{SEGMENTS} segments"), mib(empty));
    table.add("memory after the load", &conditions, format!("{}: {}", mib(full), per_user(full)));
    table.add("memory after a restart", &conditions, format!("{}: {}", mib(again), per_user(again)));
    let conditions = format!("{conditions}, {} of them not in a checkpoint", grouped(EVENTS_AT_RISK as f64));
    table.add("kill -9 → serving", &conditions, format!("{:.1} s", serving.as_secs_f64()));
    table.add("kill -9 → all memberships stored", conditions, format!("{:.1} s", applied.as_secs_f64()));
    server.stop()
}
