//! Memory per user, and how soon a killed server is back.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::results::Results;
use crate::server::{Server, settle};
use crate::units::{MIB, Unit, grouped};
use crate::workload::{Clauses, Lines, clauses};
use crate::{Result, Scale};

const SEGMENTS: usize = 1_000;
const USERS: u64 = 100_000;
const EVENTS: u64 = 500_000;
/// One request has so many of the events.
const REQUESTS: u64 = 5;
/// Longer than the interval between two checkpoints of a partition.
const CHECKPOINTED: Duration = Duration::from_secs(12);
/// Sent right before the kill, so that the log has them and no checkpoint does.
const EVENTS_AT_RISK: u64 = 100_000;
pub(crate) const SERVING: &str = "kill -9 → serving";
pub(crate) const STORED: &str = "kill -9 → all memberships stored";

/// Measures memory with many users, kills the server, and measures how soon it is back, and with
/// how much memory.
pub(crate) async fn run(binary: &Path, scale: Scale, results: &mut Results) -> Result<()> {
    let [users, events, at_risk] = [USERS, EVENTS, EVENTS_AT_RISK].map(|count| scale.count(count));
    let server = Server::with_segments(binary, &clauses(SEGMENTS, Clauses::MANY_CHANGES)).await?;
    let empty = server.memory()?;
    let watch = server.watch()?;
    server.create_users(0, users).await?;
    let mut lines = Lines::new(1, 0, users, false);
    for _ in 0..REQUESTS {
        server.lines(lines.body((events / REQUESTS) as usize)).await?;
    }
    server.wait_until_applied().await?;
    server.mark("filled", 0).await?;
    server.wait_until_archived("filled").await?;
    settle(CHECKPOINTED).await;
    let (wall, threads) = watch.stop()?;
    results.processor("restart", wall, threads);
    let full = server.memory()?;
    server.lines(lines.body(at_risk as usize)).await?;

    let started = Instant::now();
    let server = server.kill_and_start()?;
    let serving = started.elapsed().as_secs_f64();
    server.wait_until_applied().await?;
    let stored = started.elapsed().as_secs_f64();
    let again = server.memory()?;

    let conditions = format!("{} users, {} events, {SEGMENTS} segments", grouped(users as f64), grouped(events as f64));
    results.one("memory without users", format!("{SEGMENTS} segments"), Unit::Mebibytes, empty / MIB);
    for (when, bytes) in [("after the load", full), ("after a restart", again)] {
        results.one(format!("memory {when}"), &conditions, Unit::Mebibytes, bytes / MIB);
        let of_a_user = (bytes - empty) / users as f64 / 1024.0;
        results.one(format!("memory {when}, of a user"), &conditions, Unit::KibibytesPerUser, of_a_user);
    }
    let conditions = format!("{conditions}, {} of them not in a checkpoint", grouped(at_risk as f64));
    results.one(SERVING, &conditions, Unit::Seconds, serving);
    results.one(STORED, conditions, Unit::Seconds, stored);
    server.stop()
}
