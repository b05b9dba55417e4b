//! A site with a long history: it is imported, and then there are new segments over all of it,
//! questions, and users who come for the first time.

use std::cell::Cell;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use duckdb::{AccessMode, Config, Connection};
use futures_util::future::try_join_all;
use segment_engine::language::compile;
use segment_engine::sql::size_query;
use segment_engine::time::Timestamp;
use serde_json::{Value, json};

use crate::picture::{Curve, draw};
use crate::posts::{EMITTED, READ};
use crate::results::{Results, Spread, median};
use crate::server::{Server, settle};
use crate::stream::{Seen, Subscriber, now};
use crate::units::{Unit, grouped};
use crate::workload::{Clauses, Lines, clauses};
use crate::{Result, Scale, import, pictures, restart};

pub(crate) const SEGMENTS: usize = 1_000;
/// A segment that is not in force by then is reported with its progress.
const IN_FORCE_MAX: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(20);
const SAVED: usize = 50;
const ASKED: u64 = 200;
const PREVIEWS: u64 = 10;
/// Events a second while questions are asked, and while a new segment reads its history.
const ASKED_UNDER: usize = 50_000;
const SAVED_UNDER: usize = 20_000;
/// They come in a hundred requests a second, over [`CONNECTIONS`], and are of users who are known.
const LOAD_INTERVAL: Duration = Duration::from_millis(40);
const ONE_SHOTS: usize = 5;
/// Concurrent requests with lines.
pub(crate) const CONNECTIONS: u64 = 4;
/// The sites for the growth of a backfill, besides the site itself, as parts of it.
const SMALLER: [u64; 4] = [100, 33, 10, 3];
/// The part whose events are also posted as lines.
const POSTED_PART: usize = 10;
pub(crate) const SAVING: &str = "saving a segment";
pub(crate) const PREVIEW: &str = "preview";
pub(crate) const MEMBERS: &str = "a page of members";
pub(crate) const USER: &str = "a user";
pub(crate) const EXPLAIN: &str = "explain";
pub(crate) const ONE_NEW: &str = "one new segment";
pub(crate) const ONE_NEW_LOADED: &str = "one new segment under load";
pub(crate) const IN_FORCE: &str = ": until in force";
const STORED: &str = ": until its memberships are stored";
pub(crate) const BEYOND_TWICE: &str = "one new segment: beyond twice DuckDB's one query";
pub(crate) const LOADED_BEYOND_TWICE: &str = "one new segment under load: beyond twice DuckDB's one query";
pub(crate) const ONE_SHOT: &str = "the same question as one SQL query in DuckDB";
pub(crate) const ONE_NEW_RATIO: &str = "one new segment: in terms of DuckDB's one query";
pub(crate) const TEN_NEW_RATIO: &str = "ten new segments at once: in terms of one";
/// Part of the conditions of events that come while a new segment reads its history.
pub(crate) const BESIDE_HISTORY: &str = "while a new segment reads its history";
pub(crate) const FIRST_CONTACT: &str = "first contact: until on disk";

/// How many users and events a site has.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Different users.
    pub users: u64,
    /// Events of the past.
    pub events: usize,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users, {} events", grouped(self.users as f64), grouped(self.events as f64))
    }
}

/// Loads the history, and measures what a site meets that has one; then draws how a backfill grows.
pub(crate) async fn run(binary: &Path, scale: Scale, results: &mut Results) -> Result<()> {
    let mut curves = ["until a new segment is in force", "one SQL query in DuckDB on the same rows"]
        .map(|label| Curve { label: label.to_owned(), points: Vec::new() });
    let full = Size { users: scale.users, events: scale.events };
    let smaller = SMALLER.map(|part| Size { users: full.users / part, events: full.events / part as usize });
    // The smallest of a short run would have hardly any users.
    let skipped = if scale.quick { 2 } else { 0 };
    for size in smaller.into_iter().skip(skipped).chain([full]) {
        if size.events == full.events / POSTED_PART {
            import::post(binary, size, results).await?;
        }
        let site = Site::imported(binary, size, results).await?;
        let is_full = size.events == full.events;
        if is_full {
            site.save(results).await?;
            site.ask("idle", results).await;
        }
        let alone = site.in_force("alone", ONE_NEW, &[clause(0)], results).await?;
        let (loaded, together) = match is_full {
            true => (Some(site.save_under_load(results).await?), Some(site.busy(results).await?)),
            false => (None, None),
        };
        let site = site.kill(results).await?;
        if is_full {
            // At the end: what it leaves behind would be measured with everything after it.
            site.ask_beside_history(results).await?;
        }
        let installation = site.server.stop_and_keep()?;
        let one_shot = one_shot(&installation.path().join("warehouse.duckdb"), &clause(0), size, results)?;
        let of_ten = together.map(|took| ("ten new segments: in terms of DuckDB's one query", took));
        if let (Some(Some(ten)), Some(one)) = (together, alone) {
            results.one(TEN_NEW_RATIO, size.to_string(), Unit::Times, ten / one);
        }
        for (name, took) in [Some((ONE_NEW_RATIO, alone)), of_ten].into_iter().flatten() {
            match took {
                Some(took) => results.one(name, size.to_string(), Unit::Times, took / one_shot),
                None => results.missing(name, size.to_string(), "not in force in time"),
            }
        }
        let beyond = [Some((BEYOND_TWICE, alone)), loaded.map(|took| (LOADED_BEYOND_TWICE, took))];
        for (name, took) in beyond.into_iter().flatten() {
            match took {
                Some(took) => results.one(name, size.to_string(), Unit::Seconds, took - 2.0 * one_shot),
                None => results.missing(name, size.to_string(), "not in force in time"),
            }
        }
        curves[0].points.extend(alone.map(|took| (size.events as f64, took)));
        curves[1].points.push((size.events as f64, one_shot));
    }
    let axes = ("events of the past", "seconds");
    draw(&pictures(scale)?.join("backfill.svg"), "A new segment over the whole history", axes, &curves)
}

/// A clause over the whole history that no other segment has.
fn clause(number: usize) -> String {
    format!(
        "count(*) FILTER (WHERE activity_type = 'a{}' AND element_id <> 'c{number}' \
         AND created_at >= now() - INTERVAL '60 days') >= 3",
        number % 5
    )
}

struct Site {
    server: Server,
    size: Size,
}

impl Site {
    /// Starts a server, and imports the history.
    async fn imported(binary: &Path, size: Size, results: &mut Results) -> Result<Self> {
        let server = Server::with_segments(binary, &clauses(SEGMENTS, Clauses::FEW_CHANGES)).await?;
        let site = Self { server, size };
        let watch = site.server.watch()?;
        import::import(binary, &site.server, size, results).await?;
        let (wall, threads) = watch.stop()?;
        results.processor("import", wall, threads);
        Ok(site)
    }

    /// Saves ten segments at once, lets new users come, and asks under load. Returns the seconds of the
    /// first.
    async fn busy(&self, results: &mut Results) -> Result<Option<f64>> {
        let ten: Vec<String> = (1..=10).map(clause).collect();
        let together = self.in_force("ten", "ten new segments at once", &ten, results).await?;
        self.first_contact(results).await?;
        self.server.wait_until_applied().await?;
        self.ask_under_load(results).await?;
        self.server.wait_until_applied().await?;
        Ok(together)
    }

    /// Kills the server, and measures how soon it is back.
    async fn kill(self, results: &mut Results) -> Result<Self> {
        let started = Instant::now();
        let server = self.server.kill_and_start()?;
        results.one(restart::SERVING, self.size.to_string(), Unit::Seconds, started.elapsed().as_secs_f64());
        server.wait_until_applied().await?;
        results.one(restart::STORED, self.size.to_string(), Unit::Seconds, started.elapsed().as_secs_f64());
        Ok(Self { server, ..self })
    }

    /// Saves segments that need no history, one after another: others have the same clauses.
    async fn save(&self, results: &mut Results) -> Result<()> {
        let mut times = Vec::with_capacity(SAVED);
        for (number, clause) in clauses(SEGMENTS, Clauses::FEW_CHANGES).iter().take(SAVED).enumerate() {
            let started = Instant::now();
            self.server.segment(&format!("saved-{number}"), clause).await?;
            times.push(started.elapsed());
        }
        results.spread(SAVING, self.size.to_string(), &Spread::of(times));
        Ok(())
    }

    /// Saves a segment while events come in, and measures how soon their transitions are there
    /// meanwhile. Returns the seconds until the segment is in force.
    async fn save_under_load(&self, results: &mut Results) -> Result<Option<f64>> {
        let subscriber = Subscriber::start(&self.server).await?;
        let began = now();
        let clauses = [clause(15)];
        let saved = self.in_force("loaded", ONE_NEW_LOADED, &clauses, results);
        let (took, came) = self.under_load(SAVED_UNDER, saved).await?;
        let (took, end) = (took?, now());
        settle(Duration::from_secs(2)).await;
        let mut seen = subscriber.finish().await?;
        seen.retain(|seen| seen.cause == "event" && (began..end).contains(&seen.effective_at));
        let transitions = grouped(seen.len() as f64);
        let conditions = format!("{}, {BESIDE_HISTORY}, {transitions} transitions", self.size);
        self.came(SAVED_UNDER, came, results);
        results.spread(EMITTED, &conditions, &Spread::of(seen.iter().map(Seen::emitted_after).collect()));
        results.spread(READ, &conditions, &Spread::of(seen.iter().map(Seen::read_after).collect()));
        // What follows is measured without what waits.
        self.server.mark("loaded", 0).await?;
        self.server.wait_until_archived("loaded").await?;
        Ok(took)
    }

    /// Asks while ten new segments at a time read their history.
    async fn ask_beside_history(&self, results: &mut Results) -> Result<()> {
        let is_over = Cell::new(false);
        let histories = async {
            let mut first = 200;
            while !is_over.get() {
                let ten: Vec<String> = (first..first + 10).map(clause).collect();
                let tag = format!("asked-{first}");
                self.in_force(&tag, "ten new segments beside questions", &ten, &mut Results::default()).await?;
                first += 10;
            }
            Ok(())
        };
        let asked = async {
            self.ask("while ten new segments read their history", results).await;
            is_over.set(true);
        };
        let (read, ()) = futures_util::join!(histories, asked);
        read
    }

    async fn ask_under_load(&self, results: &mut Results) -> Result<()> {
        let when = format!("while {} events/s come in", grouped(ASKED_UNDER as f64));
        let ((), came) = self.under_load(ASKED_UNDER, self.ask(&when, results)).await?;
        self.came(ASKED_UNDER, came, results);
        Ok(())
    }

    /// Reports how many events a second really came: a slow server gets fewer than are due.
    fn came(&self, due: usize, came: f64, results: &mut Results) {
        let conditions = format!("{}, {} events/s were due", self.size, grouped(due as f64));
        results.one("load: events that came", conditions, Unit::EventsPerSecond, came);
    }

    /// Does something while so many events a second are due. Returns how many came, too.
    async fn under_load<T>(&self, per_second: usize, act: impl Future<Output = T>) -> Result<(T, f64)> {
        let count = (per_second as f64 * LOAD_INTERVAL.as_secs_f64()) as usize / CONNECTIONS as usize;
        let came = Cell::new(0);
        let (came, started) = (&came, Instant::now());
        let connection = async |number: u64| -> Result<()> {
            let mut lines = Lines::new(3 + number, 0, self.size.users, false);
            let first = tokio::time::Instant::now() + LOAD_INTERVAL * number as u32 / CONNECTIONS as u32;
            let mut ticks = tokio::time::interval_at(first, LOAD_INTERVAL);
            loop {
                ticks.tick().await;
                self.server.lines(lines.body(count)).await?;
                came.set(came.get() + count);
            }
        };
        tokio::select! {
            done = act => Ok((done, came.get() as f64 / started.elapsed().as_secs_f64())),
            failed = try_join_all((0..CONNECTIONS).map(connection)) => Err(failed.err().unwrap_or_else(|| "the load ended".into())),
        }
    }

    async fn ask(&self, when: &str, results: &mut Results) {
        let previews = async |number: u64| {
            let body = json!({"whereStatement": clause(100 + number as usize), "sample": 5});
            self.server.post("/segments/preview", &body).await
        };
        self.times(PREVIEW, when, PREVIEWS, previews, results).await;
        let page = async |number: u64| self.server.get(&format!("/users/segment/s{number}?limit=100")).await;
        self.times(MEMBERS, when, ASKED, page, results).await;
        let user = async |number: u64| self.server.get(&format!("/users/{}", 1 + number * 37)).await;
        self.times(USER, when, ASKED, user, results).await;
        let explain = async |number: u64| {
            self.server.get(&format!("/users/{}/segments/s{number}/explain", 1 + number * 37)).await
        };
        self.times(EXPLAIN, when, ASKED, explain, results).await;
    }

    /// Asks so many questions one after another. A server that refuses one has no result.
    async fn times(
        &self,
        name: &str,
        when: &str,
        count: u64,
        ask: impl AsyncFn(u64) -> Result<Value>,
        results: &mut Results,
    ) {
        let conditions = format!("{}, {when}", self.size);
        let mut times = Vec::new();
        for number in 0..count {
            let started = Instant::now();
            if let Err(error) = ask(number).await {
                return results.missing(name, conditions, format!("refused: {error:.200}"));
            }
            times.push(started.elapsed());
        }
        results.spread(name, conditions, &Spread::of(times));
    }

    /// Saves segments at once, and returns the seconds until all are in force: until every change that
    /// they bring about is emitted. `None` if that takes too long.
    async fn in_force(&self, tag: &str, what: &str, clauses: &[String], results: &mut Results) -> Result<Option<f64>> {
        let started = Instant::now();
        let saved = clauses.iter().enumerate().map(|(number, clause)| {
            let tag = format!("{tag}-{number}");
            async move { self.server.segment(&tag, clause).await }
        });
        let segments = try_join_all(saved).await?;
        let mut took = None;
        for stage in [IN_FORCE, STORED] {
            let is_over = |progress: &Value| match stage {
                IN_FORCE => progress["partitions"]["inForce"] == progress["partitions"]["total"],
                _ => progress["ratio"] == 1.0,
            };
            let (mut waiting, mut reached) = (segments.clone(), 0.0);
            while let Some(segment) = waiting.last() {
                match self.server.get(&format!("/segments/{segment}/progress")).await {
                    Ok(body) if is_over(&body["data"]) => drop(waiting.pop()),
                    body => reached = body.ok().and_then(|body| body["data"]["ratio"].as_f64()).unwrap_or(reached),
                }
                if started.elapsed() > IN_FORCE_MAX {
                    let result = format!("not after {} s: {:.0} % done", IN_FORCE_MAX.as_secs(), reached * 100.0);
                    results.missing(format!("{what}{stage}"), self.size.to_string(), result);
                    return Ok(took);
                }
                tokio::time::sleep(POLL).await;
            }
            let seconds = started.elapsed().as_secs_f64();
            results.one(format!("{what}{stage}"), self.size.to_string(), Unit::Seconds, seconds);
            took = took.or(Some(seconds));
        }
        Ok(took)
    }

    /// Sends an event each of users that were never seen.
    async fn first_contact(&self, results: &mut Results) -> Result<()> {
        let (first, count) = (self.size.users, self.size.users / 5);
        let share = count / CONNECTIONS;
        let started = Instant::now();
        let senders = (0..CONNECTIONS).map(|number| async move {
            let mut lines = Lines::new(number, first + number * share, share, false);
            let body = lines.one_of_each();
            self.server.lines(body).await
        });
        let outcome = try_join_all(senders).await;
        let took = started.elapsed().as_secs_f64();
        let conditions = format!("{} new users, one event of each", grouped(count as f64));
        match outcome {
            Ok(_) => results.one(FIRST_CONTACT, conditions, Unit::UsersPerSecond, count as f64 / took),
            Err(error) => {
                results.missing(FIRST_CONTACT, conditions, format!("refused after {took:.0} s: {error:.200}"))
            }
        }
        Ok(())
    }
}

/// Returns the seconds that DuckDB takes for the members of a clause: the median of some runs, on the
/// file of the stopped server.
fn one_shot(warehouse: &Path, clause: &str, size: Size, results: &mut Results) -> Result<f64> {
    let plan = compile(clause).map_err(|error| error.to_string())?;
    let sql = size_query(&plan, &|_| None, Timestamp(now()))?;
    let connection = Connection::open_with_flags(warehouse, Config::default().access_mode(AccessMode::ReadOnly)?)?;
    connection.execute_batch("SET TimeZone = 'UTC'")?;
    let mut times = Vec::with_capacity(ONE_SHOTS);
    for _ in 0..ONE_SHOTS {
        let started = Instant::now();
        let _members: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
        times.push(started.elapsed().as_secs_f64());
    }
    results.runs(ONE_SHOT, size.to_string(), Unit::Seconds, times.iter().copied());
    Ok(median(times))
}
