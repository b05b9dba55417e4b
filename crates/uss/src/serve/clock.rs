//! The clock of the process: the system's clock, checked against the time since boot, and at the
//! start against the log.

use std::sync::Arc;

use ports::clock::{GuardedClock, Limits, Monotonic, SystemClock};
use ports::log::{Log, LogError, Topic};
use rustix::time::ClockId;
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;

use super::StartError;
use crate::settings::Settings;

const SECOND_MICROS: i64 = 1_000_000;
const TOPICS: [Topic; 4] = [Topic::Events, Topic::Errors, Topic::Notifications, Topic::Config];

/// Returns the clock of the process.
pub(crate) fn guarded(settings: &Settings) -> Arc<GuardedClock> {
    let limits = Limits {
        tolerance_micros: i64::from(settings.clock_tolerance_seconds) * SECOND_MICROS,
        settle_micros: i64::from(settings.clock_settle_seconds) * SECOND_MICROS,
    };
    Arc::new(GuardedClock::new(Arc::new(SystemClock), Arc::new(SinceBoot), limits))
}

/// Compares the clock with the last time in the log, since a start has no other evidence.
pub(crate) async fn start(log: &dyn Log, clock: &GuardedClock, accept: bool) -> Result<(), StartError> {
    let reached = last_time(log).await.map_err(|error| StartError::new(format!("the log cannot be read: {error}")))?;
    if accept {
        clock.start_accepted(reached);
        return Ok(());
    }
    clock.start(reached).map_err(|error| {
        StartError::new(format!(
            "{error}. Nothing was started: set the clock of this machine, or confirm with `uss serve --accept-clock` that it is right"
        ))
    })
}

/// Returns the latest time of all records and commits of the log; `None` if it is new.
async fn last_time(log: &dyn Log) -> Result<Option<Timestamp>, LogError> {
    let mut latest = None;
    for topic in TOPICS {
        for partition in PartitionId::all(topic.partitions(log.partitions())) {
            let (first, end) = log.bounds(topic, partition).await?;
            if first < end {
                let last = log.read_piece(topic, partition, end - 1, 0).await?;
                latest = latest.max(last.last().map(|record| record.appended_at));
            }
        }
    }
    for partition in PartitionId::all(log.partitions()) {
        let committed = log.committed(partition).await?.map(|committed| committed.time);
        // A worker that has read nothing yet commits the first of all times.
        latest = latest.max(committed.filter(|time| *time > Timestamp::MIN));
    }
    Ok(latest)
}

/// The time since the machine's boot.
struct SinceBoot;

impl Monotonic for SinceBoot {
    /// The clock goes on while the machine is suspended; the standard library's stands still.
    fn elapsed_micros(&self) -> i64 {
        #[cfg(target_os = "linux")]
        const CLOCK: ClockId = ClockId::Boottime;
        // On other systems this clock goes on during a suspension.
        #[cfg(not(target_os = "linux"))]
        const CLOCK: ClockId = ClockId::Monotonic;
        let time = rustix::time::clock_gettime(CLOCK);
        time.tv_sec * SECOND_MICROS + time.tv_nsec / 1_000
    }
}
