//! NDJSON over HTTP, from the client's first byte to the log, the memberships and the archive.

use std::path::Path;
use std::time::Instant;

use futures_util::future::try_join_all;

use crate::results::{Results, median};
use crate::server::Server;
use crate::units::Unit;
use crate::workload::{Clauses, Lines, clauses};
use crate::{Result, Scale};

const SEGMENTS: usize = 1_000;
const EVENTS: u64 = 150_000;
const USERS: u64 = 30_000;
/// Concurrent requests: while one waits for the disk, the server reads another.
const CONNECTIONS: usize = 4;
pub(crate) const ON_DISK: &str = "NDJSON: until all events are on disk";
pub(crate) const STORED: &str = "NDJSON: until all memberships are stored";
pub(crate) const ARCHIVED: &str = "NDJSON: until all events are archived too";
/// Part of the conditions without event ids.
pub(crate) const WITHOUT_IDS: &str = "no event ids";
/// Part of the conditions with few changes.
pub(crate) const FEW_CHANGES: &str = "few changes";

/// The seconds of one run.
struct Times {
    accepted: f64,
    applied: f64,
    archived: f64,
    changes_per_event: f64,
}

/// Measures two change rates, each without and with event ids.
pub(crate) async fn run(binary: &Path, scale: Scale, results: &mut Results) -> Result<()> {
    for (what, kind) in [(FEW_CHANGES, Clauses::FEW_CHANGES), ("many changes", Clauses::MANY_CHANGES)] {
        let server = Server::with_segments(binary, &clauses(SEGMENTS, kind)).await?;
        let mut next_user = 0;
        let watch = server.watch()?;
        for with_ids in [false, true] {
            let mut runs = Vec::new();
            for seed in 0..scale.served_runs {
                // Each run has its own users, since users that are in a segment already do not
                // enter it again.
                runs.push(run_once(&server, scale, seed, next_user, with_ids).await?);
                next_user += USERS;
            }
            report(results, scale, &runs, what, with_ids);
        }
        let (wall, threads) = watch.stop()?;
        results.processor(&format!("NDJSON, {what}"), wall, threads);
        server.stop()?;
    }
    Ok(())
}

async fn run_once(server: &Server, scale: Scale, seed: u64, first_user: u64, with_ids: bool) -> Result<Times> {
    let (users, events) = (scale.count(USERS), scale.count(EVENTS) as usize);
    let made = format!("made-{first_user}");
    server.create_users(first_user, users).await?;
    server.mark(&made, first_user).await?;
    server.wait_until_archived(&made).await?;
    let mut lines = Lines::new(seed, first_user, users, with_ids);
    let bodies: Vec<String> = (0..CONNECTIONS).map(|_| lines.body(events / CONNECTIONS)).collect();
    let changes_before = server.transitions().await?;

    let started = Instant::now();
    let seconds = || started.elapsed().as_secs_f64();
    try_join_all(bodies.into_iter().map(|body| server.lines(body))).await?;
    let accepted = seconds();
    let sent = format!("sent-{first_user}");
    server.mark(&sent, first_user).await?;
    let applied = async { server.wait_until_applied().await.map(|()| seconds()) };
    let archived = async { server.wait_until_archived(&sent).await.map(|()| seconds()) };
    let (applied, archived) = tokio::try_join!(applied, archived)?;
    let changes = server.transitions().await? - changes_before;
    Ok(Times { accepted, applied, archived, changes_per_event: changes / events as f64 })
}

fn report(results: &mut Results, scale: Scale, runs: &[Times], what: &str, with_ids: bool) {
    let ids = if with_ids { "event ids" } else { WITHOUT_IDS };
    let changes = median(runs.iter().map(|run| run.changes_per_event).collect());
    let conditions = format!("{SEGMENTS} segments, {what}: {changes:.2} an event, {ids}");
    let mut add = |name, seconds: fn(&Times) -> f64| {
        let rates = runs.iter().map(|run| scale.count(EVENTS) as f64 / seconds(run));
        results.runs(name, &conditions, Unit::EventsPerSecond, rates);
    };
    add(ON_DISK, |run| run.accepted);
    add(STORED, |run| run.applied);
    add(ARCHIVED, |run| run.applied.max(run.archived));
}
