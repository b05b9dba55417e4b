//! Single events, each with a response when it is on disk.

use std::path::Path;
use std::time::Duration;

use crate::bound::Bound;
use crate::results::{Results, Spread};
use crate::server::{Server, settle};
use crate::stream::{Seen, Subscriber};
use crate::units::{Unit, grouped};
use crate::workload::{Clauses, Lines, clauses};
use crate::{Result, Scale, disk, load};

const SEGMENTS: usize = 1_000;
const USERS: u64 = 50_000;
/// Enough that a stall of the server does not keep the client from sending at a fixed rate.
const CONNECTIONS: usize = 256;
const DURATION: Duration = Duration::from_secs(8);
pub(crate) const BOUND: &str = "single POST: rate of a server that only responds";
pub(crate) const RATE: &str = "single POST: rate";
pub(crate) const RESPONSE: &str = "single POST: time to the response";
pub(crate) const EMITTED: &str = "event appended → transition emitted";
pub(crate) const READ: &str = "event appended → read from the stream";
/// Part of the conditions with few changes.
pub(crate) const FEW_CHANGES: &str = "few changes";
/// Part of the conditions at half of the full rate.
pub(crate) const AT_HALF: &str = "half of the full rate";

/// Measures the rate that the connections reach, and at half of it the time to a response and to a
/// subscriber.
pub(crate) async fn run(binary: &Path, scale: Scale, results: &mut Results) -> Result<()> {
    let bound = Bound::start().await?;
    let rate = full_rate(&bound.address, scale.count(USERS), scale.duration(DURATION)).await?;
    drop(bound);
    results.one(BOUND, format!("{CONNECTIONS} connections"), Unit::EventsPerSecond, rate);
    for (what, kind) in [(FEW_CHANGES, Clauses::FEW_CHANGES), ("many changes", Clauses::MANY_CHANGES)] {
        run_with(binary, scale, what, kind, results).await?;
    }
    Ok(())
}

async fn run_with(binary: &Path, scale: Scale, what: &str, kind: Clauses, results: &mut Results) -> Result<()> {
    let server = Server::with_segments(binary, &clauses(SEGMENTS, kind)).await?;
    let (users, duration) = (scale.count(USERS), scale.duration(DURATION));
    server.create_users(0, users).await?;
    results.spread("disk: append of 4 KiB and fdatasync", "before the posts", &disk::sync_time(server.data())?);
    let watch = server.watch()?;
    let rate = full_rate(&server.ingestion, users, duration).await?;
    let (wall, threads) = watch.stop()?;
    let conditions = format!("{CONNECTIONS} connections, {SEGMENTS} segments, {what}");
    results.one(RATE, conditions, Unit::EventsPerSecond, rate);
    results.processor(&format!("posts, {what}"), wall, threads);
    server.wait_until_applied().await?;

    let at_half = format!("{} events/s, {AT_HALF}, {what}", grouped(rate / 2.0));
    let mut lines = Lines::new(1, 0, users, false);
    let times = load::at_rate(&server.ingestion, CONNECTIONS, rate / 2.0, duration, || lines.next()).await?;
    results.spread(RESPONSE, &at_half, &Spread::of(times));

    let subscriber = Subscriber::start(&server).await?;
    load::at_rate(&server.ingestion, CONNECTIONS, rate / 2.0, duration, || lines.next()).await?;
    server.wait_until_applied().await?;
    settle(Duration::from_secs(1)).await;
    let seen = subscriber.finish().await?;
    let conditions = format!("{at_half}, {} transitions", grouped(seen.len() as f64));
    results.spread(EMITTED, &conditions, &Spread::of(seen.iter().map(Seen::emitted_after).collect()));
    results.spread(READ, &conditions, &Spread::of(seen.iter().map(Seen::read_after).collect()));
    server.stop()
}

/// Returns the events per second if each connection waits for its responses.
async fn full_rate(address: &str, users: u64, duration: Duration) -> Result<f64> {
    let events = |number: usize| -> Box<dyn FnMut() -> String> {
        let mut lines = Lines::new(1_000 + number as u64, 0, users, false);
        Box::new(move || lines.next())
    };
    load::closed_loop(address, CONNECTIONS, duration, events).await
}
