//! NDJSON over HTTP, from the client's first byte to the log, the memberships and the archive.

use std::path::Path;
use std::time::Instant;

use futures_util::future::try_join_all;

use crate::Result;
use crate::server::Server;
use crate::table::{Table, grouped, median};
use crate::workload::{self, Clauses, Lines};

const SEGMENTS: usize = 1_000;
const EVENTS: usize = 150_000;
const USERS: u64 = 30_000;
const RUNS: u64 = 3;
/// Concurrent requests: while one waits for the disk, the server reads another.
const CONNECTIONS: usize = 4;

/// The seconds of one run.
struct Times {
    accepted: f64,
    applied: f64,
    archived: f64,
    changes_per_event: f64,
}

/// Measures two change rates, each without and with event ids.
pub(crate) async fn run(binary: &Path, table: &mut Table) -> Result<()> {
    for kind in [Clauses::FEW_CHANGES, Clauses::MANY_CHANGES] {
        let server = Server::with_segments(binary, &workload::clauses(SEGMENTS, kind)).await?;
        let mut next_user = 0;
        for with_ids in [false, true] {
            let mut runs = Vec::new();
            for seed in 0..RUNS {
                // Each run has its own users, since users that are in a segment already do not
                // enter it again.
                runs.push(run_once(&server, seed, next_user, with_ids).await?);
                next_user += USERS;
            }
            report(table, &runs, with_ids);
        }
        server.stop()?;
    }
    Ok(())
}

async fn run_once(server: &Server, seed: u64, first_user: u64, with_ids: bool) -> Result<Times> {
    let made = format!("made-{first_user}");
    server.create_users(first_user, USERS).await?;
    server.mark(&made, first_user).await?;
    server.wait_until_archived(&made).await?;
    let mut lines = Lines::new(seed, first_user, USERS, with_ids);
    let bodies: Vec<String> = (0..CONNECTIONS).map(|_| lines.body(EVENTS / CONNECTIONS)).collect();
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
    Ok(Times { accepted, applied, archived, changes_per_event: changes / EVENTS as f64 })
}

fn report(table: &mut Table, runs: &[Times], with_ids: bool) {
    let middle = |of: fn(&Times) -> f64| median(runs.iter().map(of).collect());
    let rate = |seconds: f64| format!("{} events/s", grouped(EVENTS as f64 / seconds));
    let ids = if with_ids { "event ids" } else { "no event ids" };
    let conditions = format!("{SEGMENTS} segments, {:.2} changes/event, {ids}", middle(|run| run.changes_per_event));
    table.add("NDJSON: until all events are on disk", &conditions, rate(middle(|run| run.accepted)));
    table.add("NDJSON: until all memberships are stored", &conditions, rate(middle(|run| run.applied)));
    table.add(
        "NDJSON: until all events are archived too",
        &conditions,
        rate(middle(|run| run.applied.max(run.archived))),
    );
}
