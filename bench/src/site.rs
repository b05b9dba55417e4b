//! A site with a long history: it is imported, and then there are new segments over all of it,
//! questions, and users who come for the first time.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use duckdb::{AccessMode, Config, Connection};
use futures_util::future::try_join_all;
use segment_engine::language::compile;
use segment_engine::sql::size_query;
use segment_engine::time::Timestamp;
use serde_json::json;

use crate::server::Server;
use crate::stream::now;
use crate::table::{Spread, Table, grouped, median, mib};
use crate::workload::{self, Clauses, History, Lines};
use crate::{Result, Size};

const SEGMENTS: usize = 1_000;
/// The percentage of events that are late by up to a day.
const LATE_PERCENT: u64 = 1;
/// A segment that is not in force by then is reported with its progress.
const IN_FORCE_MAX: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(20);
const SAVED: usize = 50;
const ASKED: u64 = 200;
const PREVIEWS: usize = 10;
const ONE_SHOTS: usize = 5;
/// Concurrent requests with lines of new users.
const CONNECTIONS: u64 = 4;

/// Loads the history, and measures what a site meets that has one.
pub(crate) async fn run(binary: &Path, size: Size, table: &mut Table) -> Result<()> {
    let server = Server::with_segments(binary, &workload::clauses(SEGMENTS, Clauses::FEW_CHANGES)).await?;
    let site = Site { server, size };
    site.import(binary, table).await?;
    site.save(table).await?;
    site.ask(table).await?;
    let alone = site.in_force("one new segment: until in force", &[clause(0)], table).await?;
    let ten: Vec<String> = (1..=10).map(clause).collect();
    let together = site.in_force("ten new segments at once: until in force", &ten, table).await?;
    site.first_contact(table).await?;
    let installation = site.server.stop_and_keep()?;
    let one_shot = one_shot(&installation.path().join("warehouse.duckdb"), &clause(0))?;
    let conditions = size.to_string();
    table.add("the same question as one SQL query in DuckDB", &conditions, seconds(one_shot));
    for (what, took) in [("one new segment", alone), ("ten new segments", together)] {
        let Some(took) = took else { continue };
        let ratio = took.as_secs_f64() / one_shot.as_secs_f64();
        table.add(format!("{what}: times DuckDB's one query"), &conditions, format!("{ratio:.1}"));
    }
    Ok(())
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
    async fn import(&self, binary: &Path, table: &mut Table) -> Result<()> {
        let file = self.server.data().join("history.ndjson");
        write_history(&file, self.size)?;
        let started = Instant::now();
        let mut command = std::process::Command::new(binary);
        command.args(["import", "--url", &self.server.ingestion]).arg(&file);
        command.arg("--rejected").arg(file.with_extension("rejected"));
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            return Err(format!("the import failed: {}", String::from_utf8_lossy(&said)).into());
        }
        let accepted = started.elapsed();
        self.server.mark("imported", 0).await?;
        self.server.wait_until_applied().await?;
        let applied = started.elapsed();
        self.server.wait_until_archived("imported").await?;
        let archived = started.elapsed();
        std::fs::remove_file(&file)?;
        let conditions = format!("{}, {SEGMENTS} segments", self.size);
        let rate = |took: Duration| {
            let per_second = self.size.events as f64 / took.as_secs_f64();
            format!("{} events/s ({})", grouped(per_second), seconds(took))
        };
        table.add("import: until all events are on disk", &conditions, rate(accepted));
        table.add("import: until all memberships are stored", &conditions, rate(applied));
        table.add("import: until all events are archived too", &conditions, rate(applied.max(archived)));
        let memory = self.server.memory()?;
        let per_user = memory / 1024.0 / self.size.users as f64;
        table.add("memory after the import", conditions, format!("{}: {per_user:.2} KiB a user", mib(memory)));
        Ok(())
    }

    /// Saves segments that need no history, one after another: others have the same clauses.
    async fn save(&self, table: &mut Table) -> Result<()> {
        let mut times = Vec::with_capacity(SAVED);
        for (number, clause) in workload::clauses(SEGMENTS, Clauses::FEW_CHANGES).iter().take(SAVED).enumerate() {
            let started = Instant::now();
            self.server.segment(&format!("saved-{number}"), clause).await?;
            times.push(started.elapsed());
        }
        table.add("saving a segment", self.size.to_string(), Spread::of(times).to_string());
        Ok(())
    }

    async fn ask(&self, table: &mut Table) -> Result<()> {
        let conditions = self.size.to_string();
        let mut previews = Vec::with_capacity(PREVIEWS);
        for number in 0..PREVIEWS {
            let body = json!({"whereStatement": clause(100 + number), "sample": 5});
            let started = Instant::now();
            self.server.post("/segments/preview", &body).await?;
            previews.push(started.elapsed());
        }
        table.add("preview", &conditions, Spread::of(previews).to_string());
        type PathOf = fn(u64) -> String;
        let paths: [(&str, PathOf); 3] = [
            ("a page of members", |number| format!("/users/segment/s{number}?limit=100")),
            ("a user", |number| format!("/users/{}", 1 + number * 37)),
            ("explain", |number| format!("/users/{}/segments/s{number}/explain", 1 + number * 37)),
        ];
        for (what, path) in paths {
            let mut times = Vec::new();
            for number in 0..ASKED {
                let started = Instant::now();
                self.server.get(&path(number)).await?;
                times.push(started.elapsed());
            }
            table.add(what, &conditions, Spread::of(times).to_string());
        }
        Ok(())
    }

    /// Saves segments at once, and returns when all are in force, or `None` if that takes too long.
    async fn in_force(&self, what: &str, clauses: &[String], table: &mut Table) -> Result<Option<Duration>> {
        let started = Instant::now();
        let saved = clauses.iter().enumerate().map(|(number, clause)| {
            let tag = format!("new-{}-{number}", clauses.len());
            async move { self.server.segment(&tag, clause).await }
        });
        let mut waiting = try_join_all(saved).await?;
        let mut reached = 0.0;
        while let Some(segment) = waiting.last() {
            let progress = self.server.get(&format!("/segments/{segment}/progress")).await;
            match progress.map(|body| body["data"]["ratio"].as_f64().unwrap_or_default()) {
                Ok(ratio) if ratio >= 1.0 => drop(waiting.pop()),
                outcome => reached = outcome.unwrap_or(reached),
            }
            if started.elapsed() > IN_FORCE_MAX {
                let result = format!("not after {}: {:.0} % done", seconds(IN_FORCE_MAX), reached * 100.0);
                table.add(what, self.size.to_string(), result);
                return Ok(None);
            }
            tokio::time::sleep(POLL).await;
        }
        let took = started.elapsed();
        table.add(what, self.size.to_string(), seconds(took));
        Ok(Some(took))
    }

    /// Sends an event each of users that were never seen.
    async fn first_contact(&self, table: &mut Table) -> Result<()> {
        let (first, count) = (self.size.users, self.size.users / 5);
        let share = count / CONNECTIONS;
        let started = Instant::now();
        let senders = (0..CONNECTIONS).map(|number| async move {
            let mut lines = Lines::new(number, first + number * share, share, false);
            let body = lines.one_of_each();
            self.server.lines(body).await
        });
        let outcome = try_join_all(senders).await;
        let took = started.elapsed();
        let result = match outcome {
            Ok(_) => format!("{} users/s", grouped(count as f64 / took.as_secs_f64())),
            Err(error) => format!("refused after {}: {error:.200}", seconds(took)),
        };
        let conditions = format!("{} new users, one event of each", grouped(count as f64));
        table.add("first contact: until on disk", conditions, result);
        Ok(())
    }
}

fn write_history(file: &PathBuf, size: Size) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    for line in History::new(size.users, size.events, LATE_PERCENT, Timestamp(now())) {
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Returns the time that DuckDB takes for the members of a clause: the median of some runs, on the
/// file of the stopped server.
fn one_shot(warehouse: &Path, clause: &str) -> Result<Duration> {
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
    Ok(Duration::from_secs_f64(median(times)))
}

fn seconds(took: Duration) -> String {
    let took = took.as_secs_f64();
    if took < 10.0 { format!("{took:.2} s") } else { format!("{took:.0} s") }
}
