//! A history that is imported, and the same events as posts.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use segment_engine::time::Timestamp;

use crate::results::Results;
use crate::server::{Server, peak_memory};
use crate::site::{SEGMENTS, Size};
use crate::stream::now;
use crate::units::{MIB, Unit};
use crate::workload::{Clauses, History, clauses};
use crate::{Result, site};

/// The percentage of events that are late by up to a day.
const LATE_PERCENT: u64 = 1;
/// How often to look at the importer's memory.
const POLL: Duration = Duration::from_millis(20);
const LINES_PER_REQUEST: usize = 50_000;
const ON_DISK: &str = "import: until all events are on disk";
const STORED: &str = "import: until all memberships are stored";
const ARCHIVED: &str = "import: until all events are archived too";

/// Imports the history of a site with `uss import`.
pub(crate) async fn import(binary: &Path, server: &Server, size: Size, results: &mut Results) -> Result<()> {
    let file = server.data().join("history.ndjson");
    write_history(&file, size)?;
    let started = Instant::now();
    let mut command = Command::new(binary);
    command.args(["import", "--url", &server.ingestion]).arg(&file);
    command.arg("--rejected").arg(file.with_extension("rejected"));
    let memory = tokio::task::spawn_blocking(move || run_to_end(&mut command)).await??;
    let accepted = started.elapsed();
    let applied = applied(server, started).await?;
    let archived = started.elapsed();
    std::fs::remove_file(&file)?;
    let conditions = format!("{size}, {SEGMENTS} segments");
    let rate = |took: Duration| size.events as f64 / took.as_secs_f64();
    for (what, took) in [(ON_DISK, accepted), (STORED, applied), (ARCHIVED, archived)] {
        results.one(what, &conditions, Unit::EventsPerSecond, rate(took));
    }
    results.one("import: memory of the importer at most", &conditions, Unit::Mebibytes, memory / MIB);
    let memory = server.memory()?;
    results.one("memory after the import", &conditions, Unit::Mebibytes, memory / MIB);
    let of_a_user = memory / 1024.0 / size.users as f64;
    results.one("memory after the import, of a user", conditions, Unit::KibibytesPerUser, of_a_user);
    Ok(())
}

/// Posts the same events as lines to another server, in a few large requests at a time.
pub(crate) async fn post(binary: &Path, size: Size, results: &mut Results) -> Result<()> {
    let server = Server::with_segments(binary, &clauses(SEGMENTS, Clauses::FEW_CHANGES)).await?;
    let file = server.data().join("history.ndjson");
    write_history(&file, size)?;
    let started = Instant::now();
    let mut lines = BufReader::new(File::open(&file)?).lines();
    loop {
        let mut bodies = vec![String::new(); site::CONNECTIONS as usize];
        for body in &mut bodies {
            for line in lines.by_ref().take(LINES_PER_REQUEST) {
                body.push_str(&line?);
                body.push('\n');
            }
        }
        bodies.retain(|body| !body.is_empty());
        if bodies.is_empty() {
            break;
        }
        try_join_all(bodies.into_iter().map(|body| server.lines(body))).await?;
    }
    applied(&server, started).await?;
    let took = started.elapsed().as_secs_f64();
    let conditions = format!("{size}, {SEGMENTS} segments");
    let rate = size.events as f64 / took;
    results.one(
        "the same events as lines: until all events are archived too",
        &conditions,
        Unit::EventsPerSecond,
        rate,
    );
    server.stop()
}

/// Waits until the server has stored all memberships, and then until it has archived all events. Returns
/// when the first was the case.
async fn applied(server: &Server, started: Instant) -> Result<Duration> {
    server.mark("imported", 0).await?;
    server.wait_until_applied().await?;
    let applied = started.elapsed();
    server.wait_until_archived("imported").await?;
    Ok(applied)
}

/// Runs a command, and returns the bytes of memory that it had at most.
fn run_to_end(command: &mut Command) -> Result<f64> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut memory = 0.0;
    let status = loop {
        // Without its memory, a process has ended.
        memory = peak_memory(child.id()).unwrap_or(memory);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(POLL);
    };
    if status.success() {
        return Ok(memory);
    }
    let said = child.stderr.take().map(std::io::read_to_string).transpose()?;
    Err(format!("the import failed: {}", said.unwrap_or_default()).into())
}

fn write_history(file: &Path, size: Size) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    for line in History::new(size.users, size.events, LATE_PERCENT, Timestamp(now())) {
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
