//! The processor time of a process by thread, from /proc.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::time::ClockId;

use crate::Result;

/// Linux counts processor time in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;
/// Threads that ended meanwhile took the rest of the process's time.
const ENDED: &str = "ended threads";

/// Watches a process from one instant to another.
pub(crate) struct Watch {
    process: u32,
    started: Instant,
    total: f64,
    threads: BTreeMap<String, f64>,
}

impl Watch {
    /// Starts to watch.
    pub(crate) fn start(process: u32) -> Result<Self> {
        Ok(Self { process, started: Instant::now(), total: processor_time(process)?, threads: threads(process)? })
    }

    /// Returns the seconds that passed, and the seconds of processor time of each name of threads.
    pub(crate) fn stop(self) -> Result<(f64, BTreeMap<String, f64>)> {
        let wall = self.started.elapsed().as_secs_f64();
        let mut now = threads(self.process)?;
        for (name, before) in self.threads {
            *now.entry(name).or_default() -= before;
        }
        let total = processor_time(self.process)? - self.total;
        let ended = total - now.values().sum::<f64>();
        now.insert(ENDED.to_owned(), ended);
        now.retain(|_, seconds| *seconds >= 1.0 / TICKS_PER_SECOND);
        Ok((wall, now))
    }
}

/// Returns the bytes of the pages that this process has in use. Those that it has freed and not given
/// back yet do not count.
pub(crate) fn own_memory() -> Result<f64> {
    tikv_jemalloc_ctl::epoch::advance()?;
    Ok(tikv_jemalloc_ctl::stats::active::read()? as f64)
}

/// Returns the seconds of processor time that a process has used.
fn processor_time(process: u32) -> Result<f64> {
    ticks(&Path::new("/proc").join(process.to_string()))
}

/// Returns the processor time that this thread has used. `/proc` is only brought up to date every few
/// milliseconds, in which the engine applies thousands of events.
pub(crate) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Returns the seconds of the threads that live, by their names without numbers at the end.
fn threads(process: u32) -> Result<BTreeMap<String, f64>> {
    let mut threads = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let folder = entry?.path();
        // A thread may end between the two.
        if let (Ok(name), Ok(seconds)) = (std::fs::read_to_string(folder.join("comm")), ticks(&folder)) {
            let name = name.trim().trim_end_matches(|last: char| last.is_ascii_digit() || last == '-');
            *threads.entry(name.to_owned()).or_default() += seconds;
        }
    }
    Ok(threads)
}

fn ticks(folder: &Path) -> Result<f64> {
    let stat = std::fs::read_to_string(folder.join("stat"))?;
    let after_name = stat.rsplit(')').next().ok_or("no name in /proc")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // utime and stime, fields 14 and 15 of the whole.
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / TICKS_PER_SECOND)
}
