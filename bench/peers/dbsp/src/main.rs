//! Keeps the memberships of a workload current in a DBSP circuit: `dbsp-peer WORKLOAD OUTPUT RUNS`.
//!
//! An event and each segment that it counts for make a row that is valid until the event leaves the
//! segment's window. Rows that are valid now are counted by user and segment. The window operator
//! drops a row when its time is over.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use dbsp::dynamic::DynData;
use dbsp::typed_batch::{IndexedZSetReader as _, SpineSnapshot, TypedBox};
use dbsp::utils::{Tup2, Tup3};
use dbsp::{DBSPHandle, InputHandle, OrdZSet, OutputHandle, Runtime, ZSetHandle};
use serde::Deserialize;
use serde_json::json;

const DAY_MICROS: i64 = 86_400_000_000;
/// Events of one transaction: enough that the fixed cost of one does not count.
const BATCH: usize = 2_000;

/// The code of an activity and a category, as one number.
type Pair = u32;
/// User, segment, and the count that makes a member.
type Counted = Tup3<i64, i32, i64>;

#[derive(Deserialize)]
struct Event {
    user: i64,
    activity: String,
    category: String,
    at: i64,
}

#[derive(Deserialize)]
struct Segment {
    id: i32,
    activity: String,
    category: String,
    days: i64,
    at_least: i64,
}

#[derive(Deserialize)]
struct Segments {
    until: i64,
    segments: Vec<Segment>,
}

struct Peer {
    circuit: DBSPHandle,
    events: ZSetHandle<Tup3<Pair, i64, i64>>,
    segments: ZSetHandle<Tup2<Pair, Tup3<i32, i64, i64>>>,
    now: InputHandle<i64>,
    changes: OutputHandle<SpineSnapshot<OrdZSet<Tup2<i32, i64>>>>,
}

fn build() -> Result<Peer> {
    let (circuit, (events, segments, now, changes)) = Runtime::init_circuit(1, |circuit| {
        let (events, events_handle) = circuit.add_input_zset::<Tup3<Pair, i64, i64>>();
        let (segments, segments_handle) = circuit.add_input_zset::<Tup2<Pair, Tup3<i32, i64, i64>>>();
        let (now, now_handle) = circuit.add_input_stream::<i64>();
        let by_pair = events.map_index(|Tup3(pair, user, at)| (*pair, Tup2(*user, *at)));
        // The segments are there before the first event, so the join needs to remember only them.
        let segments = segments.map_index(|Tup2(pair, segment)| (*pair, segment.clone())).integrate();
        let valid_until = by_pair.stream_join(&segments, |_, Tup2(user, at), Tup3(segment, window, at_least)| {
            Tup2(at + window, Tup3(*user, *segment, *at_least))
        });
        let bounds = now.apply(|now| (TypedBox::<i64, DynData>::new(*now), TypedBox::<i64, DynData>::new(i64::MAX)));
        let counts = valid_until
            .map_index(|Tup2(until, counted)| (*until, counted.clone()))
            .window((true, false), &bounds)
            .map_index(|(_, counted): (&i64, &Counted)| (counted.clone(), ()))
            .weighted_count();
        let members = counts
            .filter(|(Tup3(_, _, at_least), count)| *count >= *at_least)
            .map(|(Tup3(user, segment, _), _)| Tup2(*segment, *user));
        Ok((events_handle, segments_handle, now_handle, members.accumulate_output()))
    })?;
    Ok(Peer { circuit, events, segments, now, changes })
}

/// Seconds of the wall clock and of the processor.
type Times = (f64, f64);

/// Returns the processor time of all threads of this process. Linux counts nanoseconds there.
fn processor_time() -> Result<f64> {
    let mut nanos = 0.0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += stat.split(' ').next().unwrap_or_default().parse::<f64>()?;
    }
    Ok(nanos / 1e9)
}

/// Runs all events through a new circuit. Returns the times from the first event on, and the
/// members at the end.
fn run(events: &[(Pair, i64, i64)], segments: &[(Pair, &Segment)], until: i64) -> Result<(Times, HashSet<(i32, i64)>)> {
    let mut peer = build()?;
    for (pair, segment) in segments {
        peer.segments.push(Tup2(*pair, Tup3(segment.id, segment.days * DAY_MICROS, segment.at_least)), 1);
    }
    peer.now.set_for_all(0);
    peer.circuit.transaction()?;
    let mut members = HashSet::new();
    let (started, processor_started) = (Instant::now(), processor_time()?);
    let batches = events.chunks(BATCH).map(|batch| (batch, batch.last().map_or(0, |last| last.2)));
    for (batch, now) in batches.chain([(&[][..], until)]) {
        let mut rows = batch.iter().map(|(pair, user, at)| Tup2(Tup3(*pair, *user, *at), 1)).collect();
        peer.events.append(&mut rows);
        peer.now.set_for_all(now);
        peer.circuit.transaction()?;
        for (Tup2(segment, user), (), weight) in peer.changes.concat().consolidate().iter() {
            match weight {
                1.. => members.insert((segment, user)),
                _ => members.remove(&(segment, user)),
            };
        }
    }
    let times = (started.elapsed().as_secs_f64(), processor_time()? - processor_started);
    peer.circuit.kill().map_err(|_| anyhow::anyhow!("the circuit does not stop"))?;
    Ok((times, members))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, output, runs] = &arguments[..] else { anyhow::bail!("usage: dbsp-peer WORKLOAD OUTPUT RUNS") };
    let folder = Path::new(folder);
    let Segments { until, segments } = serde_json::from_slice(&std::fs::read(folder.join("segments.json"))?)?;
    let lines = std::fs::read_to_string(folder.join("events.ndjson"))?;
    let mut codes: HashMap<(String, String), Pair> = HashMap::new();
    let mut code = |activity: &str, category: &str| {
        let next = codes.len() as Pair;
        *codes.entry((activity.to_owned(), category.to_owned())).or_insert(next)
    };
    let mut events = Vec::new();
    for line in lines.lines() {
        let event: Event = serde_json::from_str(line).with_context(|| line.to_owned())?;
        events.push((code(&event.activity, &event.category), event.user, event.at));
    }
    let coded: Vec<(Pair, &Segment)> =
        segments.iter().map(|segment| (code(&segment.activity, &segment.category), segment)).collect();
    let (mut seconds, mut processor_seconds) = (Vec::new(), Vec::new());
    let mut by_segment = BTreeMap::<i32, Vec<i64>>::new();
    for _ in 0..runs.parse::<usize>()? {
        let (times, members) = run(&events, &coded, until)?;
        seconds.push(times.0);
        processor_seconds.push(times.1);
        by_segment.clear();
        for (segment, user) in members {
            by_segment.entry(segment).or_default().push(user);
        }
    }
    let answer = json!([{
        "method": "DBSP, a circuit with a window",
        "kind": "stream",
        "events": events.len(),
        "note": format!("0.349.0, 1 worker, {BATCH} events in a transaction, without transitions inside one"),
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "members": by_segment,
    }]);
    Ok(std::fs::write(output, answer.to_string())?)
}
