//! Other systems on the same machine: they get the same events and segments as the engine, and
//! their answers are compared before their speed is shown. `bench/peers` has a script for each.

mod answer;
mod workload;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::alone::{self, machine_with};
use crate::results::{Results, median};
use crate::units::{Unit, grouped};
use crate::{Result, Scale};
use answer::{Answer, Kind};
pub(crate) use workload::Workload;

/// Prepared by `scripts/peers.sh`.
const PYTHON: &str = ".tools/peers/bin/python";
const SCRIPTS: &str = "bench/peers";
const FOLDER: &str = "target/bench/peers";

/// A script, and the sizes that it gets.
struct Peer {
    script: &'static str,
    segments: &'static [usize],
    events: usize,
    events_quick: usize,
}

const PEERS: [Peer; 7] = [
    Peer { script: "flink_stream.py", segments: &[100, 1_000], events: 500_000, events_quick: 50_000 },
    Peer { script: "dbsp_stream.py", segments: &[100, 1_000], events: 500_000, events_quick: 50_000 },
    Peer { script: "duckdb_recompute.py", segments: &[100, 1_000], events: 500_000, events_quick: 50_000 },
    Peer { script: "chdb_recompute.py", segments: &[100, 1_000], events: 500_000, events_quick: 50_000 },
    Peer { script: "postgres_recompute.py", segments: &[100, 1_000], events: 500_000, events_quick: 50_000 },
    Peer { script: "postgres_stream.py", segments: &[100, 1_000], events: 50_000, events_quick: 10_000 },
    Peer { script: "original_method.py", segments: &[100], events: 500_000, events_quick: 50_000 },
];

/// The name of the ratio of a method to USS.
pub(crate) fn ratio(method: &str) -> String {
    format!("{method}: USS is as many times as fast")
}

/// The name of a method's rate.
pub(crate) fn rate(method: &str) -> String {
    format!("{method}: events")
}

/// Runs every peer that is installed, or only that with the name.
pub(crate) fn run(only: Option<&str>, scale: Scale, results: &mut Results) -> Result<()> {
    for peer in PEERS.iter().filter(|peer| only.is_none_or(|only| peer.script.starts_with(only))) {
        let events = if scale.quick { peer.events_quick } else { peer.events };
        for segments in peer.segments {
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
    let answers = ask(peer, &folder, &file, scale)?;
    // The engine runs right after its peer, under the same load of the machine.
    let rates: Vec<f64> = (0..scale.runs.min(3)).map(|_| workload.measure()).collect();
    for answer in &answers {
        answer.check(&expected)?;
        let conditions = format!(
            "{} segments, {} events, {:.2} changes/event",
            grouped(workload.segments.len() as f64),
            grouped(workload.events as f64),
            expected.transitions as f64 / workload.events as f64
        );
        report(answer, &conditions, &rates, results);
    }
    Ok(())
}

/// Runs a script, and returns its answers.
fn ask(peer: &Peer, folder: &Path, file: &Path, scale: Scale) -> Result<Vec<Answer>> {
    let python = PathBuf::from(PYTHON);
    if !python.exists() {
        return Err("the peers are not installed: run scripts/peers.sh".into());
    }
    let mut command = Command::new(python);
    command.arg(Path::new(SCRIPTS).join(peer.script)).args([folder, file]);
    command.args(["--runs", &scale.runs.min(3).to_string(), "--sample", if scale.quick { "5" } else { "20" }]);
    if !command.status()?.success() {
        return Err("the script failed".into());
    }
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}

fn report(answer: &Answer, conditions: &str, engine: &[f64], results: &mut Results) {
    let method = &answer.method;
    let conditions = match &answer.note {
        Some(note) => format!("{conditions}; {note}"),
        None => conditions.to_owned(),
    };
    let Some(seconds) = (!answer.seconds.is_empty()).then(|| median(answer.seconds.clone())) else {
        return results.missing(rate(method), conditions, answer.note.clone().unwrap_or_default());
    };
    let engine_rate = median(engine.to_vec());
    results.runs(format!("{method}: USS beside it"), &conditions, Unit::EventsPerSecond, engine.iter().copied());
    match answer.kind {
        Kind::Stream | Kind::EachEvent => {
            let rates = answer.seconds.iter().map(|seconds| answer.events as f64 / seconds);
            results.runs(rate(method), &conditions, Unit::EventsPerSecond, rates);
            results.one(ratio(method), conditions, Unit::Times, engine_rate * seconds / answer.events as f64);
        }
        Kind::Recompute => {
            let name = format!("{method}: one recomputation");
            results.runs(name, &conditions, Unit::Seconds, answer.seconds.iter().copied());
            // Who wants the answer after each event recomputes it for each.
            results.one(ratio(method), conditions, Unit::Times, engine_rate * seconds);
        }
    }
}

impl Workload {
    /// Returns the events per second of the engine alone.
    fn measure(&self) -> f64 {
        alone::run(machine_with(&self.clauses()), self.events(), Some(self.until())).0.rate()
    }
}
