//! Other systems on the same machine: they get the same events and segments as the engine, and
//! their answers are compared before their speed is shown. `bench/peers` has a script for each.

mod check;
mod workload;

use std::path::Path;
use std::process::Command;

use crate::alone::{self, Run, machine_with};
use crate::comparison::Comparison;
use crate::results::{Measurement, Results, median};
use crate::units::Unit;
use crate::{Result, Scale};
use check::{Answer, Kind};
pub(crate) use workload::Workload;

const INSTALL: &str = "scripts/peers.sh";
/// Where it installs.
const PYTHON: &str = ".tools/peers/bin/python";
const SCRIPTS: &str = "bench/peers";
const FOLDER: &str = "target/bench/peers";

/// A script, and the sizes that it gets.
struct Peer {
    script: &'static str,
    segments: &'static [usize],
    events: usize,
    events_quick: usize,
    /// A program that takes minutes to build, so that a short run needs it to be there.
    built: Option<&'static str>,
}

impl Peer {
    const fn new(script: &'static str, events: usize, events_quick: usize) -> Self {
        Self { script, segments: &[100, 1_000], events, events_quick, built: None }
    }
}

const PEERS: [Peer; 7] = [
    Peer::new("flink_stream.py", 500_000, 50_000),
    Peer { built: Some("target/bench/dbsp/release/dbsp-peer"), ..Peer::new("dbsp_stream.py", 500_000, 50_000) },
    Peer::new("duckdb_recompute.py", 500_000, 50_000),
    Peer::new("chdb_recompute.py", 500_000, 50_000),
    Peer::new("postgres_recompute.py", 500_000, 50_000),
    Peer::new("postgres_stream.py", 20_000, 5_000),
    Peer { segments: &[100], ..Peer::new("original_method.py", 500_000, 50_000) },
];

/// Installs the peers, and runs all of them or only those whose names start like this.
pub(crate) fn run(only: Option<&str>, scale: Scale, results: &mut Results) -> Result<()> {
    if !Command::new(INSTALL).status()?.success() {
        results.missing("peers", "all", format!("left out: {INSTALL} failed"));
        return Ok(());
    }
    for peer in PEERS.iter().filter(|peer| only.is_none_or(|only| peer.script.starts_with(only))) {
        let events = if scale.quick { peer.events_quick } else { peer.events };
        if scale.quick && peer.built.is_some_and(|program| !Path::new(program).exists()) {
            results.missing(peer.script, "a short run", "left out: it takes minutes to build");
            continue;
        }
        // A short run has the first size only.
        for segments in peer.segments.iter().take(if scale.quick { 1 } else { usize::MAX }) {
            compare(peer, &Workload::new(events, *segments), scale, results)
                .map_err(|error| format!("{} with {segments} segments: {error}", peer.script))?;
        }
    }
    Ok(())
}

fn compare(peer: &Peer, workload: &Workload, scale: Scale, results: &mut Results) -> Result<()> {
    let folder = Path::new(FOLDER).join(workload.name());
    let expected = workload.write(&folder)?;
    let file = folder.join(format!("{}.answer.json", peer.script));
    let Some(answers) = run_script(peer, &folder, &file, scale)? else {
        results.missing(peer.script, workload.name(), "left out: the script failed");
        return Ok(());
    };
    // The engine runs right after its peer, under the same load of the machine.
    let runs: Vec<Run> = (0..scale.runs).map(|_| workload.measure()).collect();
    for answer in answers {
        answer.check(&expected)?;
        results.compare(comparison(answer, workload, expected.transitions, &runs));
    }
    Ok(())
}

/// Runs a script, and returns its answers, or `None` if it failed and said why.
fn run_script(peer: &Peer, folder: &Path, file: &Path, scale: Scale) -> Result<Option<Vec<Answer>>> {
    let mut command = Command::new(PYTHON);
    command.arg(Path::new(SCRIPTS).join(peer.script)).args([folder, file]);
    command.args(["--runs", &scale.runs.min(3).to_string(), "--sample", if scale.quick { "5" } else { "20" }]);
    if !command.status()?.success() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&std::fs::read(file)?)?))
}

fn comparison(answer: Answer, workload: &Workload, transitions: usize, engine: &[Run]) -> Comparison {
    let of_engine =
        |seconds: fn(&Run) -> f64| median(engine.iter().map(|run| seconds(run) / run.events as f64).collect());
    // What the engine's time for one event is compared with.
    let (unit, runs, each) = match answer.kind {
        Kind::Recompute => (Unit::Seconds, answer.seconds.clone(), 1.0),
        Kind::Stream | Kind::EachEvent => {
            let events = answer.events as f64;
            (Unit::EventsPerSecond, answer.seconds.iter().map(|seconds| events / seconds).collect(), events)
        }
    };
    let rates = engine.iter().map(Run::rate).collect();
    Comparison {
        peer: Measurement::new(&answer.method, "", unit, runs),
        uss: Measurement::new("USS", "", Unit::EventsPerSecond, rates),
        method: answer.method,
        configuration: answer.note,
        segments: workload.segments.len(),
        events: workload.events,
        changes_per_event: transitions as f64 / workload.events as f64,
        ratio: median(answer.seconds) / each / of_engine(|run| run.seconds),
        processor_ratio: median(answer.processor_seconds) / each / of_engine(|run| run.processor_seconds),
    }
}

impl Workload {
    /// Runs the engine alone.
    fn measure(&self) -> Run {
        alone::run(machine_with(&self.clauses()), self.events(), Some(self.until())).0
    }
}
