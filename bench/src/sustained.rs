//! Half an hour of events at 80 % of what the server keeps up with: memory, what is behind, and the time
//! to a response, minute by minute.
//!
//! What it keeps up with is measured for minutes, with checkpoints, merges and compactions: for some
//! seconds a server takes twice as much, and leaves the work for later.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::time::{MissedTickBehavior, interval, interval_at};

use crate::load::Connection;
use crate::picture::{Curve, draw};
use crate::results::{Results, Spread};
use crate::server::Server;
use crate::units::{MIB, Unit, grouped};
use crate::workload::{Clauses, Lines, clauses};
use crate::{Result, Scale, pictures};

const SEGMENTS: usize = 1_000;
const SHARE: f64 = 0.8;
/// The capacity is measured for so long, after the same time to warm up.
const CAPACITY_MEASURED: Duration = Duration::from_secs(120);
/// Meanwhile nothing is sent while more records than this wait for the archive or the config store.
const WAITING_MAX: f64 = 400_000.0;
const LINES_PER_REQUEST: usize = 10_000;
const LOOK_EVERY: Duration = Duration::from_millis(100);
const MINUTES: u32 = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// Requests with lines, of all senders together, and how often a single event comes beside them.
const REQUESTS_A_MINUTE: u32 = 600;
const SENDERS: u32 = 4;
const PROBED_EVERY: Duration = Duration::from_millis(50);
/// From then on memory and times should stay as they are.
const STEADY_AFTER: usize = 5;
const ARCHIVER_BEHIND: &str = "uss_archiver_backlog_records";
const MEMBERSHIPS_BEHIND: &str = "uss_membership_backlog_records";

/// What was seen in a minute.
struct Minute {
    /// Events a second that came.
    rate: f64,
    memory: f64,
    /// What the engine counts of it.
    state: f64,
    /// Records that the archiver has not taken, and notifications whose memberships are not stored.
    archiver_behind: f64,
    memberships_behind: f64,
    response: Spread,
}

/// A name, a unit, and the value of a minute.
type Row = (&'static str, Unit, fn(&Minute) -> f64);

/// Measures the capacity, and then the server under a share of it.
pub(crate) async fn run(binary: &Path, scale: Scale, results: &mut Results) -> Result<()> {
    let server = Server::with_segments(binary, &clauses(SEGMENTS, Clauses::FEW_CHANGES)).await?;
    server.create_users(0, scale.users).await?;
    let capacity = Capacity { server: &server, users: scale.users, waits: Cell::new(false), sent: Cell::new(0) };
    let capacity = capacity.measure(scale.duration(CAPACITY_MEASURED)).await?;
    let of = format!("{} users, {SEGMENTS} segments", grouped(scale.users as f64));
    results.one("sustained: events stored, archived, and memberships too", &of, Unit::EventsPerSecond, capacity);
    let load = Load { server: &server, users: scale.users, accepted: Cell::new(0), responses: RefCell::default() };
    let mut minutes = Vec::new();
    let watch = server.watch()?;
    let senders = try_join_all((0..SENDERS).map(|sender| load.send(sender, capacity * SHARE)));
    let outcome = tokio::select! {
        failed = async { tokio::try_join!(senders, load.probe()).map(drop) } => failed,
        seen = load.watch(if scale.quick { 2 } else { MINUTES }, &mut minutes) => seen,
    };
    let (wall, threads) = watch.stop()?;
    results.processor("sustained", wall, threads);
    // What was seen before a failure is reported too.
    let reported = report(&minutes, capacity, scale, results);
    outcome.and(reported)?;
    server.stop()
}

/// Events that come all the time, and what is seen of them.
struct Load<'a> {
    server: &'a Server,
    users: u64,
    /// Since the last look.
    accepted: Cell<usize>,
    responses: RefCell<Vec<Duration>>,
}

impl Load<'_> {
    /// Sends the share of one sender, until it is dropped. The senders take turns; one whose request
    /// takes long sends the next ones at once.
    async fn send(&self, sender: u32, per_second: f64) -> Result<()> {
        let mut lines = Lines::new(u64::from(sender), 0, self.users, false);
        let pause = MINUTE / REQUESTS_A_MINUTE;
        let count = (per_second * pause.as_secs_f64()) as usize;
        let mut ticks = interval_at((Instant::now() + pause * sender).into(), pause * SENDERS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            ticks.tick().await;
            self.server.lines(lines.body(count)).await?;
            self.accepted.set(self.accepted.get() + count);
        }
    }

    /// Sends single events, until it is dropped.
    async fn probe(&self) -> Result<()> {
        let mut connection = Connection::open(&self.server.ingestion).await?;
        let (mut lines, mut ticks) = (Lines::new(1_000, 0, self.users, false), interval(PROBED_EVERY));
        loop {
            ticks.tick().await;
            let started = Instant::now();
            connection.post(&lines.next()).await?;
            self.responses.borrow_mut().push(started.elapsed());
        }
    }

    /// Looks once a minute.
    async fn watch(&self, count: u32, minutes: &mut Vec<Minute>) -> Result<()> {
        let mut looked = Instant::now();
        for _ in 0..count {
            tokio::time::sleep_until((looked + MINUTE).into()).await;
            let rate = self.accepted.take() as f64 / looked.elapsed().as_secs_f64();
            looked = Instant::now();
            minutes.push(Minute {
                rate,
                memory: self.server.memory()? / MIB,
                state: self.server.metric("uss_state_bytes").await? / MIB,
                archiver_behind: self.server.metric(ARCHIVER_BEHIND).await?,
                memberships_behind: self.server.metric(MEMBERSHIPS_BEHIND).await?,
                response: Spread::of(self.responses.take()),
            });
        }
        Ok(())
    }
}

/// How many events a second the server takes to the end: until they are archived, and their memberships
/// stored.
struct Capacity<'a> {
    server: &'a Server,
    users: u64,
    /// Whether too much waits in the server.
    waits: Cell<bool>,
    sent: Cell<usize>,
}

impl Capacity<'_> {
    /// Measures for so long, after as long to warm up.
    async fn measure(&self, duration: Duration) -> Result<f64> {
        let measured = async {
            tokio::time::sleep(duration).await;
            let (before, started) = (self.done().await?, Instant::now());
            tokio::time::sleep(duration).await;
            Ok((self.done().await? - before) / started.elapsed().as_secs_f64())
        };
        tokio::select! {
            rate = measured => rate,
            failed = async { tokio::try_join!(try_join_all((0..SENDERS).map(|sender| self.send(sender))), self.look()) } =>
                Err(failed.err().unwrap_or_else(|| "the load ended".into())),
        }
    }

    /// Returns how many of the events that were sent are archived.
    async fn done(&self) -> Result<f64> {
        Ok(self.sent.get() as f64 - self.server.metric(ARCHIVER_BEHIND).await?)
    }

    /// Sends as much as the server takes, until it is dropped.
    async fn send(&self, sender: u32) -> Result<()> {
        let mut lines = Lines::new(100 + u64::from(sender), 0, self.users, false);
        loop {
            while self.waits.get() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            self.server.lines(lines.body(LINES_PER_REQUEST)).await?;
            self.sent.set(self.sent.get() + LINES_PER_REQUEST);
        }
    }

    /// Looks at what waits, until it is dropped.
    async fn look(&self) -> Result<()> {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let archive = self.server.metric(ARCHIVER_BEHIND).await?;
            self.waits.set(archive.max(self.server.metric(MEMBERSHIPS_BEHIND).await?) > WAITING_MAX);
        }
    }
}

/// Reports the minutes, and draws them.
fn report(minutes: &[Minute], capacity: f64, scale: Scale, results: &mut Results) -> Result<()> {
    let rate = format!("{} events/s, {:.0} % of that", grouped(capacity * SHARE), SHARE * 100.0);
    // A short run has no others.
    let skipped = if minutes.len() > STEADY_AFTER { STEADY_AFTER } else { 0 };
    let steady = &minutes[skipped..];
    let rows: [Row; 6] = [
        ("sustained: events/s that came", Unit::EventsPerSecond, |minute| minute.rate),
        ("sustained: memory", Unit::Mebibytes, |minute| minute.memory),
        ("sustained: memory of the users' state, by the engine's count", Unit::Mebibytes, |minute| minute.state),
        ("sustained: records that the archiver has not taken", Unit::Records, |minute| minute.archiver_behind),
        ("sustained: notifications whose memberships are not stored", Unit::Records, |minute| {
            minute.memberships_behind
        }),
        ("sustained: time to a response, p99, ms", Unit::Milliseconds, |minute| minute.p99()),
    ];
    let mut curves = Vec::new();
    for (name, unit, of) in rows {
        let when = format!("{rate}, minutes {} to {}", skipped + 1, minutes.len());
        results.runs(name, when, unit, steady.iter().map(of));
        let points = (1..).map(f64::from).zip(minutes.iter().map(of)).filter(|(_, value)| *value > 0.0);
        curves.push(points.collect::<Vec<_>>());
    }
    let curve = |place: usize, label: &str| Curve { label: label.to_owned(), points: curves[place].clone() };
    let shown = [
        curve(1, "memory, MiB"),
        curve(2, "of that users' state, MiB"),
        curve(3, "records not archived yet"),
        curve(5, "p99 of a response, ms"),
    ];
    let title = format!("{} events a second for {} minutes", grouped(capacity * SHARE), minutes.len());
    draw(&pictures(scale)?.join("sustained.svg"), &title, ("minutes", ""), &shown)
}

impl Minute {
    fn p99(&self) -> f64 {
        self.response.percentiles().map_or(0.0, |percentiles| percentiles.p99)
    }
}
