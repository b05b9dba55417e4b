//! Transitions by time alone: deadlines one after the other, and very many at one instant.

use std::path::Path;
use std::time::Duration;

use segment_engine::time::Timestamp;

use crate::posts::{EMITTED, READ};
use crate::results::{Results, Spread};
use crate::server::{Server, settle};
use crate::stream::{Seen, Subscriber, between, now};
use crate::units::{Unit, grouped};
use crate::workload::{Clauses, clauses, plain_event};
use crate::{Result, Scale, disk, load};

const SEGMENTS: usize = 1_000;
/// Users that send events meanwhile. Each event makes its user enter a segment, and leave it after
/// [`ONLINE`].
const PINGED: u64 = 100_000;
const ONLINE: Duration = Duration::from_secs(3);
pub(crate) const ONLINE_CLAUSE: &str =
    "count(*) FILTER (WHERE activity_type = 'ping' AND created_at >= now() - INTERVAL '3 seconds') >= 1";
const PINGS_PER_SECOND: f64 = 1_000.0;
const CONNECTIONS: usize = 64;
const DURATION: Duration = Duration::from_secs(10);
/// How long before their deadline the wave's users are filled, and how many of them in a second more.
const AHEAD: Duration = Duration::from_secs(15);
const FILLED_PER_SECOND: u64 = 20_000;
/// The subscriber reads at least so many transitions in a second.
const READ_PER_SECOND: u64 = 20_000;
const HOUR_MICROS: i64 = 3_600_000_000;
pub(crate) const DEADLINE: &str = "deadline → transition emitted";
pub(crate) const WAVE: &str = "wave: deadline → all emitted";
pub(crate) const DURING: &str = "event appended → transition emitted, during the wave";

/// Measures both kinds, with events at a fixed rate meanwhile. The windows of all the size's users end
/// together.
pub(crate) async fn run(binary: &Path, scale: Scale, results: &mut Results) -> Result<()> {
    let server = Server::with_segments(binary, &clauses(SEGMENTS, Clauses::MANY_CHANGES)).await?;
    server.segment("online", ONLINE_CLAUSE).await?;
    let wave_clause = "count(*) FILTER (WHERE activity_type = 'wave' AND created_at >= now() - INTERVAL '1 hour') >= 1";
    server.segment("wave", wave_clause).await?;
    let (wave, pinged) = (scale.users, scale.count(PINGED));
    server.create_users(0, wave + pinged).await?;
    results.spread("disk: append of 4 KiB and fdatasync", "before the deadlines", &disk::sync_time(server.data())?);
    let watch = server.watch()?;
    let mut pinged = wave..wave + pinged;
    one_by_one(&server, &mut pinged, "", scale, results).await?;
    at_one_instant(&server, &mut pinged, scale, results).await?;
    let (wall, threads) = watch.stop()?;
    results.processor("deadlines", wall, threads);
    server.stop()
}

/// Sends events at a fixed rate, each from another user.
async fn ping(server: &Server, users: &mut impl Iterator<Item = u64>, duration: Duration) -> Result<()> {
    let next = || plain_event(users.next().unwrap_or_default(), "ping", None);
    load::at_rate(&server.ingestion, CONNECTIONS, PINGS_PER_SECOND, duration, next).await.map(drop)
}

/// Measures deadlines one after the other, `beside` what else the server has.
pub(crate) async fn one_by_one(
    server: &Server,
    users: &mut impl Iterator<Item = u64>,
    beside: &str,
    scale: Scale,
    results: &mut Results,
) -> Result<()> {
    let subscriber = Subscriber::start(server).await?;
    ping(server, users, scale.duration(DURATION)).await?;
    settle(ONLINE + Duration::from_secs(1)).await;
    let seen = subscriber.finish().await?;
    let conditions = format!("{} events/s and as many deadlines{beside}", grouped(PINGS_PER_SECOND));
    for (cause, emitted, read) in [("event", EMITTED, READ), ("time", DEADLINE, "deadline → read from the stream")] {
        let ours: Vec<&Seen> = seen.iter().filter(|seen| seen.cause == cause).collect();
        results.spread(emitted, &conditions, &Spread::of(ours.iter().map(|seen| seen.emitted_after()).collect()));
        results.spread(read, &conditions, &Spread::of(ours.iter().map(|seen| seen.read_after()).collect()));
    }
    Ok(())
}

async fn at_one_instant(
    server: &Server,
    pinged: &mut impl Iterator<Item = u64>,
    scale: Scale,
    results: &mut Results,
) -> Result<()> {
    let users = scale.users;
    let [ahead, duration] = [AHEAD, DURATION].map(|real| if scale.quick { real / 2 } else { real });
    let ahead = ahead + Duration::from_secs(users / FILLED_PER_SECOND);
    let last_inside = now() + i64::try_from(ahead.as_micros())?;
    let happened = Some(Timestamp(last_inside - HOUR_MICROS));
    server.lines((0..users).map(|user| plain_event(user, "wave", happened) + "\n").collect()).await?;
    server.wait_until_applied().await?;
    if now() > last_inside {
        return Err(format!("{users} users could not be filled in {ahead:?}").into());
    }
    let subscriber = Subscriber::start(server).await?;
    settle(between(now(), last_inside).saturating_sub(duration / 4)).await;
    ping(server, pinged, duration).await?;
    settle(ONLINE + Duration::from_secs(1 + users / READ_PER_SECOND)).await;
    let seen = subscriber.finish().await?;

    // The window includes its ends, so the deadline is the microsecond after.
    let deadline = last_inside + 1;
    let (wave, others): (Vec<&Seen>, Vec<&Seen>) =
        seen.iter().partition(|seen| seen.cause == "time" && seen.effective_at == deadline);
    if wave.len() as u64 != users {
        return Err(format!("{} of {users} users left at the wave's instant", wave.len()).into());
    }
    let last = |of: fn(&Seen) -> Duration| wave.iter().map(|seen| of(seen)).max().unwrap_or_default();
    let conditions = format!("{} users at one instant", grouped(users as f64));
    let emitted = last(Seen::emitted_after);
    results.one(WAVE, &conditions, Unit::Seconds, emitted.as_secs_f64());
    let read = last(Seen::read_after).as_secs_f64();
    results.one("wave: deadline → all read from the stream", &conditions, Unit::Seconds, read);
    let end = deadline + i64::try_from(emitted.as_micros())?;
    let meanwhile = others.iter().filter(|seen| seen.cause == "event" && (deadline..end).contains(&seen.effective_at));
    let delays = Spread::of(meanwhile.map(|seen| seen.emitted_after()).collect());
    results.spread(DURING, conditions, &delays);
    Ok(())
}
