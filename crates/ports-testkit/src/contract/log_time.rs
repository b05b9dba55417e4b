//! The log's suite, continued: append times, and what `complete_until` promises about those to
//! come.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;

use super::log::{ALL, LogPlace, PARTITIONS, event, open_log, progress, read, values};
use ports::clock::{Clock, ManualClock, SystemClock};
use ports::log::{Commit, Log, Topic};

pub(super) async fn suite<P: LogPlace>(place: &impl Fn() -> P) {
    each_call_has_a_later_instant(&place()).await;
    a_batch_never_splits_an_instant(&*open_log(&place()).await).await;
    a_piece_may_split_an_instant(&*open_log(&place()).await).await;
    concurrent_calls_keep_order(open(&place(), Arc::new(SystemClock)).await).await;
    nothing_comes_at_or_before_complete_until(&place()).await;
    complete_until_holds_under_load(open(&place(), Arc::new(SystemClock)).await).await;
    a_restart_goes_on_after_the_last_instant(&place()).await;
}

async fn open(place: &impl LogPlace, clock: Arc<dyn Clock>) -> Arc<dyn Log> {
    place.open(PARTITIONS, clock).await.unwrap()
}

async fn append_at(log: &dyn Log, partition: u32) -> Timestamp {
    log.append(vec![event(partition, "x")]).await.unwrap()[0].appended_at
}

async fn each_call_has_a_later_instant(place: &impl LogPlace) {
    let clock = Arc::new(ManualClock::at(Timestamp(5_000)));
    let log = open(place, clock.clone()).await;
    let mut last = Timestamp::MIN;
    for (call, now) in [5_000, 5_000, 6_000, 4_000, 4_000, 7_000].into_iter().enumerate() {
        clock.set(Timestamp(now));
        let at = append_at(&*log, call as u32 % PARTITIONS).await;
        assert!(at > last, "call {call} at {now}: {at:?} after {last:?}, also in another partition");
        last = at;
    }
}

async fn a_batch_never_splits_an_instant(log: &dyn Log) {
    for call in 1..8 {
        log.append((0..call).map(|n| event(0, n)).collect()).await.unwrap();
    }
    let mut from = 0;
    let end = log.bounds(Topic::Events, PartitionId(0)).await.unwrap().1;
    while from < end {
        let batch = log.read(Topic::Events, PartitionId(0), from, 1).await.unwrap();
        let next = log.read(Topic::Events, PartitionId(0), batch.next_offset, ALL).await.unwrap();
        let last = batch.records.last().expect("the end is not reached").appended_at;
        assert!(next.records.first().is_none_or(|next| next.appended_at > last));
        assert!(batch.complete_until >= last, "the batch itself is complete");
        assert!(next.records.first().is_none_or(|next| next.appended_at > batch.complete_until));
        from = batch.next_offset;
    }
}

/// A piece is bounded, however many records have one instant, and pieces follow each other without
/// gaps or repetition.
async fn a_piece_may_split_an_instant(log: &dyn Log) {
    const VALUE_BYTES: usize = 1_000;
    let value = |number: usize| format!("{number:0>VALUE_BYTES$}");
    log.append((0..20).map(|number| event(0, value(number))).collect()).await.unwrap();
    log.append(vec![event(0, value(20))]).await.unwrap();
    for bytes_max in [0, 1, 5 * VALUE_BYTES, 100 * VALUE_BYTES] {
        let (mut from, mut read) = (0, Vec::new());
        loop {
            let piece = log.read_piece(Topic::Events, PartitionId(0), from, bytes_max).await.unwrap();
            let Some(last) = piece.last() else { break };
            from = last.offset + 1;
            let before_last: usize = piece[..piece.len() - 1].iter().map(|record| record.value.len()).sum();
            assert!(before_last <= bytes_max, "{} records for {bytes_max} bytes", piece.len());
            read.extend(piece);
        }
        assert_eq!(values(&read), (0..21).map(value).collect::<Vec<_>>(), "by {bytes_max} bytes");
    }
}

async fn concurrent_calls_keep_order(log: Arc<dyn Log>) {
    const CALLS: u64 = 64;
    let calls = (0..CALLS).map(|call| {
        let log = log.clone();
        let records = (0..3).map(|_| event(0, call)).chain([event(1, call)]);
        let records = records.collect::<Vec<_>>();
        tokio::spawn(async move { log.append(records).await.unwrap() })
    });
    let mut instants = HashSet::new();
    for call in calls.collect::<Vec<_>>() {
        let places = call.await.unwrap();
        assert!(places.iter().all(|place| place.appended_at == places[0].appended_at), "one call, one instant");
        assert!(instants.insert(places[0].appended_at), "each call has its own instant");
    }
    for (partition, per_call) in [(0, 3), (1, 1)] {
        let records = read(&*log, Topic::Events, partition).await.records;
        assert_eq!(records.len() as u64, CALLS * per_call);
        assert!(records.is_sorted_by(|a, b| a.offset < b.offset && a.appended_at <= b.appended_at));
    }
}

async fn nothing_comes_at_or_before_complete_until(place: &impl LogPlace) {
    let clock = Arc::new(ManualClock::at(Timestamp(10_000)));
    let log = open(place, clock.clone()).await;
    for (now, then) in [(10_000, 10_000), (20_000, 10_000), (15_000, 15_000), (30_000, 1)] {
        clock.set(Timestamp(now));
        let complete_until = read(&*log, Topic::Events, 1).await.complete_until;
        assert!(complete_until >= read_last(&*log, 1).await, "what has been read is complete");
        clock.set(Timestamp(then));
        let at = append_at(&*log, 1).await;
        assert!(
            at > complete_until,
            "complete until {complete_until:?}; with the clock at {then} came a record of {at:?}"
        );
    }
    clock.set(Timestamp(50_000));
    let idle = read(&*log, Topic::Events, 2).await.complete_until;
    assert!(idle > Timestamp(30_000), "time goes on in a partition without records: {idle:?}");
}

async fn read_last(log: &dyn Log, partition: u32) -> Timestamp {
    read(log, Topic::Events, partition).await.records.last().map_or(Timestamp::MIN, |record| record.appended_at)
}

/// Writers append while readers at the end read `complete_until` again and again. No record that a
/// reader finds later may be at or before it.
async fn complete_until_holds_under_load(log: Arc<dyn Log>) {
    const CALLS: u32 = 150;
    let stop = Arc::new(AtomicBool::new(false));
    let readers = (0..PARTITIONS).map(|partition| {
        let (log, stop) = (log.clone(), stop.clone());
        tokio::spawn(async move {
            let (mut from, mut complete_until, mut seen) = (0, Timestamp::MIN, 0);
            loop {
                let stopping = stop.load(Ordering::SeqCst);
                let batch = log.read(Topic::Events, PartitionId(partition), from, 64).await.unwrap();
                for record in &batch.records {
                    assert!(record.appended_at > complete_until, "complete until {complete_until:?}, then {record:?}");
                    assert!(record.appended_at <= batch.complete_until);
                }
                assert!(batch.complete_until >= complete_until, "time goes forward");
                (from, complete_until) = (batch.next_offset, batch.complete_until);
                seen += batch.records.len();
                if stopping && batch.records.is_empty() {
                    return seen;
                }
                tokio::task::yield_now().await;
            }
        })
    });
    let readers = readers.collect::<Vec<_>>();
    let writers = (0..4).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            for call in 0..CALLS {
                log.append(vec![event((call + writer) % PARTITIONS, call)]).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let mut seen = 0;
    for reader in readers {
        seen += reader.await.unwrap();
    }
    assert_eq!(seen, 4 * CALLS as usize);
}

async fn a_restart_goes_on_after_the_last_instant(place: &impl LogPlace) {
    let log = open(place, Arc::new(ManualClock::at(Timestamp(70_000)))).await;
    let last = append_at(&*log, 3).await;
    drop(log);
    let back = Arc::new(ManualClock::at(Timestamp(1_000)));
    let log = open(place, back.clone()).await;
    assert!(append_at(&*log, 0).await > last, "after the last record of any partition");
    log.commit(Commit { partition: PartitionId(0), progress: progress(1, 90_000), records: vec![] }).await.unwrap();
    let at = append_at(&*log, 1).await;
    assert!(at > Timestamp(90_000), "committed time has passed");
    log.trim(Topic::Events, PartitionId(1), u64::MAX).await.unwrap();
    log.commit(Commit { partition: PartitionId(0), progress: progress(1, 95_000), records: vec![] }).await.unwrap();
    drop(log);
    let log = open(place, back).await;
    assert!(append_at(&*log, 2).await > Timestamp(95_000), "after a restart too");
}
