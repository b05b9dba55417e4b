//! The cost of a server when nothing happens.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Result;
use crate::server::{Installation, settle};
use crate::table::{Table, millis};

/// Long enough after the sample data for a checkpoint of each partition, and the archive.
const SETTLED: Duration = Duration::from_secs(15);
const WATCHED: Duration = Duration::from_secs(30);

/// Measures the share of one core that a server with the sample data takes.
pub(crate) async fn run(binary: &Path, table: &mut Table) -> Result<()> {
    let server = Installation::new(binary)?.start()?;
    server.post("/db-actions/seed/data", &json!({})).await?;
    server.post("/db-actions/seed/analytics", &json!({})).await?;
    server.wait_until_applied().await?;
    settle(SETTLED).await;
    let (before, started) = (server.processor_time()?, Instant::now());
    settle(WATCHED).await;
    let share = (server.processor_time()? - before) / started.elapsed().as_secs_f64();
    let conditions = format!("sample data, {} s", WATCHED.as_secs());
    table.add("idle: share of one core", conditions, format!("{:.2} %", share * 100.0));
    let started = Instant::now();
    server.stop()?;
    table.add("idle: time to stop in order", "sample data", format!("{} ms", millis(started.elapsed())));
    Ok(())
}
