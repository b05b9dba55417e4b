//! The cost of a server when nothing happens, and when many segments are saved.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::results::Results;
use crate::server::{Installation, settle};
use crate::units::{Unit, grouped};
use crate::workload::clauses_with_rare;
use crate::{Result, Scale};

/// Long enough after the sample data for a checkpoint of each partition, and the archive.
const SETTLED: Duration = Duration::from_secs(15);
const WATCHED: Duration = Duration::from_secs(30);
const SAVED: u64 = 5_000;
pub(crate) const MANY_SAVED: &str = "saving many segments";
pub(crate) const SHARE: &str = "idle: share of one core";

/// Measures the share of one core that a server with the sample data takes, and how long it takes
/// to save many segments.
pub(crate) async fn run(binary: &Path, scale: Scale, results: &mut Results) -> Result<()> {
    let server = Installation::new(binary)?.start()?;
    server.post("/db-actions/seed/data", &json!({})).await?;
    server.post("/db-actions/seed/analytics", &json!({})).await?;
    server.wait_until_applied().await?;
    settle(SETTLED).await;
    let watched = scale.duration(WATCHED);
    let watch = server.watch()?;
    settle(watched).await;
    let (wall, threads) = watch.stop()?;
    let conditions = format!("sample data, {} s", watched.as_secs());
    results.one(SHARE, conditions, Unit::Percent, threads.values().sum::<f64>() / wall * 100.0);
    results.processor("idle", wall, threads);
    let count = if scale.quick { SAVED / 20 } else { SAVED };
    let started = Instant::now();
    for (number, clause) in clauses_with_rare(1_000, count as usize).iter().enumerate() {
        server.segment(&format!("saved-{number}"), clause).await?;
    }
    let conditions = format!("{} segments, one after another, sample data", grouped(count as f64));
    results.one(MANY_SAVED, conditions, Unit::Seconds, started.elapsed().as_secs_f64());
    let started = Instant::now();
    // Deleting the folder takes time too.
    let _kept = server.stop_and_keep()?;
    results.one(
        "idle: time to stop in order",
        "sample data",
        Unit::Milliseconds,
        started.elapsed().as_secs_f64() * 1e3,
    );
    Ok(())
}
