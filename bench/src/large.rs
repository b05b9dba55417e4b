//! A site of ten times as many users: half of them silent, the others with two deadlines each that are
//! still to come.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use segment_engine::time::Timestamp;

use crate::deadlines::{ONLINE_CLAUSE, one_by_one};
use crate::results::Results;
use crate::server::{Server, settle};
use crate::stream::now;
use crate::units::{MIB, Unit, grouped};
use crate::workload::{Clauses, clauses, plain_event};
use crate::{Result, Scale, restart};

const SEGMENTS: usize = 1_000;
/// How many times as many users as the usual site has.
const TIMES: u64 = 10;
/// Users that are not silent are in a segment for each of these windows.
const DAYS: [u32; 2] = [1, 2];
/// Events are this old at most, so that no deadline comes while this runs.
const OLDEST: Duration = Duration::from_secs(12 * 3_600);
const CONNECTIONS: u64 = 4;
const USERS_PER_REQUEST: u64 = 25_000;
/// Users that send events at a fixed rate.
const PINGED: u64 = 20_000;
/// By then checkpoints are written, and memory that is not used is given back.
const SETTLED: Duration = Duration::from_secs(60);
pub(crate) const MEMORY: &str = "memory of a large site";

/// Lets all users come, then measures memory, deadlines one by one, and a restart.
pub(crate) async fn run(binary: &Path, scale: Scale, results: &mut Results) -> Result<()> {
    let users = TIMES * scale.users;
    let server = Server::with_segments(binary, &clauses(SEGMENTS, Clauses::FEW_CHANGES)).await?;
    server.segment("online", ONLINE_CLAUSE).await?;
    for days in DAYS {
        let window = format!("created_at >= now() - INTERVAL '{days} days'");
        server
            .segment(
                &format!("seen-{days}"),
                &format!("count(*) FILTER (WHERE activity_type = 'seen' AND {window}) >= 1"),
            )
            .await?;
    }
    let conditions = format!("{} known users, half of them silent", grouped(users as f64));
    let watch = server.watch()?;
    let started = Instant::now();
    let share = users / CONNECTIONS;
    try_join_all((0..CONNECTIONS).map(|number| come(&server, number * share, share))).await?;
    let mut rate = |until: &str| {
        let rate = users as f64 / started.elapsed().as_secs_f64();
        results.one(format!("a large site comes: until {until}"), &conditions, Unit::UsersPerSecond, rate);
    };
    rate("all events are on disk");
    server.wait_until_applied().await?;
    rate("all memberships are stored");
    server.mark("came", 0).await?;
    server.wait_until_archived("came").await?;
    rate("all events are archived too");
    let (wall, threads) = watch.stop()?;
    results.processor("a large site comes", wall, threads);
    results.one("memory of a large site, after all came", &conditions, Unit::Mebibytes, server.memory()? / MIB);
    settle(scale.duration(SETTLED)).await;
    results.one(MEMORY, &conditions, Unit::Mebibytes, server.memory()? / MIB);
    let checkpoints = server.metric("uss_checkpoint_seconds_count").await?;
    // A short run ends before the first.
    if checkpoints > 0.0 {
        let mean = server.metric("uss_checkpoint_seconds_sum").await? / checkpoints;
        results.one("a large site comes: a partition's checkpoint, the mean", &conditions, Unit::Seconds, mean);
    }

    let armed = grouped((users / 2 * DAYS.len() as u64) as f64);
    let mut pinged = 0..PINGED;
    one_by_one(&server, &mut pinged, &format!(", {armed} to come"), scale, results).await?;

    let started = Instant::now();
    let server = server.kill_and_start()?;
    results.one(restart::SERVING, &conditions, Unit::Seconds, started.elapsed().as_secs_f64());
    server.wait_until_applied().await?;
    results.one(restart::STORED, &conditions, Unit::Seconds, started.elapsed().as_secs_f64());
    results.one("memory of a large site, after a restart", &conditions, Unit::Mebibytes, server.memory()? / MIB);
    let started = Instant::now();
    let installation = server.stop_and_keep()?;
    results.one("SIGTERM → stopped", conditions, Unit::Seconds, started.elapsed().as_secs_f64());
    // Deleting so much takes time.
    drop(installation);
    Ok(())
}

/// Sends an event of each of some users.
async fn come(server: &Server, first: u64, count: u64) -> Result<()> {
    let oldest = i64::try_from(OLDEST.as_micros())?;
    let event = |user: u64| match user % 2 {
        0 => plain_event(user, "signed_up", None) + "\n",
        _ => {
            let age = (user as i64).wrapping_mul(0x9e37_79b9).rem_euclid(oldest);
            plain_event(user, "seen", Some(Timestamp(now() - age))) + "\n"
        }
    };
    for from in (first..first + count).step_by(USERS_PER_REQUEST as usize) {
        server.lines((from..(from + USERS_PER_REQUEST).min(first + count)).map(event).collect()).await?;
    }
    Ok(())
}
