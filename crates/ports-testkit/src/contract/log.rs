//! The suite of the log port.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;

use super::log_time;
use ports::clock::{Clock, ManualClock};
use ports::log::{Batch, Commit, HighestIds, Log, LogError, NewRecord, Progress, Record, Topic};

/// How long a wait may take before it counts as lost.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The number of partitions of the suite's logs.
pub(super) const PARTITIONS: u32 = 4;
/// Reads everything in one batch.
pub(super) const ALL: usize = usize::MAX;

/// A place for one log. Opening it again, after the previous handle was dropped, finds what was
/// stored.
#[async_trait]
pub trait LogPlace: Send + Sync + 'static {
    /// Opens the log, or creates it.
    async fn open(&self, partitions: u32, clock: Arc<dyn Clock>) -> Result<Arc<dyn Log>, LogError>;
}

/// Runs the whole suite; `place` returns an empty place at each call.
pub async fn suite<P: LogPlace>(place: impl Fn() -> P) {
    // The place must outlive its log, which may write new files at any time.
    let open = async || {
        let place = place();
        (open_log(&place).await, place)
    };
    appended_records_are_read_back(&*open().await.0).await;
    a_call_is_atomic(&*open().await.0).await;
    partitions_and_topics_are_independent(&*open().await.0).await;
    batches_follow_each_other_without_gaps(&*open().await.0).await;
    append_once_is_idempotent(open().await.0.clone()).await;
    a_commit_stores_progress_and_records(&*open().await.0).await;
    bounds_and_trim(&*open().await.0).await;
    a_wipe_changes_no_record(&*open().await.0).await;
    lost_offsets_are_skipped(&place()).await;
    the_highest_ids_count_trimmed_records(&place()).await;
    a_wait_ends_when_the_record_comes(open().await.0.clone()).await;
    no_wake_up_is_lost(open().await.0.clone()).await;
    a_cancelled_wait_does_no_harm(open().await.0.clone()).await;
    reopening_keeps_everything(&place()).await;
    another_number_of_partitions_is_refused(&place()).await;
    log_time::suite(&place).await;
}

pub(super) async fn open_log(place: &impl LogPlace) -> Arc<dyn Log> {
    place.open(PARTITIONS, Arc::new(ManualClock::at(Timestamp(1_000)))).await.unwrap()
}

pub(super) fn record(topic: Topic, partition: u32, value: impl ToString) -> NewRecord {
    let value = value.to_string();
    NewRecord { topic, partition: PartitionId(partition), key: format!("key of {value}"), value: value.into_bytes() }
}

pub(super) fn event(partition: u32, value: impl ToString) -> NewRecord {
    record(Topic::Events, partition, value)
}

pub(super) async fn read(log: &dyn Log, topic: Topic, partition: u32) -> Batch {
    log.read(topic, PartitionId(partition), 0, ALL).await.unwrap()
}

pub(super) fn values(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.value.clone()).unwrap()).collect()
}

pub(super) fn progress(next_offset: u64, time: i64) -> Progress {
    Progress { next_offset, time: Timestamp(time), behind: 5, notifications_offset: 0 }
}

async fn lost_offsets_are_skipped(place: &impl LogPlace) {
    let log = open_log(place).await;
    log.append(vec![event(1, "a"), event(1, "b")]).await.unwrap();
    log.skip_to(Topic::Events, PartitionId(1), 1).await.unwrap();
    assert_eq!(log.bounds(Topic::Events, PartitionId(1)).await.unwrap(), (0, 2), "the end is beyond it already");
    for to in [10, 20] {
        log.skip_to(Topic::Events, PartitionId(1), to).await.unwrap();
        assert_eq!(log.bounds(Topic::Events, PartitionId(1)).await.unwrap(), (0, to));
    }
    drop(log);
    let log = open_log(place).await;
    assert_eq!(log.bounds(Topic::Events, PartitionId(1)).await.unwrap(), (0, 20), "after a restart too");
    assert_eq!(log.append(vec![event(1, "c"), event(1, "d")]).await.unwrap()[0].offset, 20);
    log.skip_to(Topic::Events, PartitionId(1), 30).await.unwrap();
    for (from, expected) in
        [(0, &["a", "b", "c", "d"][..]), (1, &["b", "c", "d"]), (2, &["c", "d"]), (15, &["c", "d"]), (21, &["d"])]
    {
        let batch = log.read(Topic::Events, PartitionId(1), from, ALL).await.unwrap();
        assert_eq!(
            (values(&batch.records), batch.next_offset),
            (expected.iter().map(|value| (*value).to_owned()).collect(), 30),
            "from {from}"
        );
    }
    for from in [22, 29, 30] {
        let batch = log.read(Topic::Events, PartitionId(1), from, ALL).await.unwrap();
        assert_eq!((batch.records.len(), batch.next_offset), (0, 30), "from {from}");
    }
    log.trim(Topic::Events, PartitionId(1), 15).await.unwrap();
    assert_eq!(values(&read(&*log, Topic::Events, 1).await.records), ["c", "d"]);
    assert_eq!(log.bounds(Topic::Events, PartitionId(1)).await.unwrap(), (15, 30));
}

async fn appended_records_are_read_back(log: &dyn Log) {
    assert_eq!(log.partitions(), PARTITIONS);
    let batch = read(log, Topic::Events, 0).await;
    assert_eq!((batch.records, batch.next_offset), (vec![], 0), "an empty log");

    let unusual =
        NewRecord {
            topic: Topic::Events, partition: PartitionId(0), key: "ключ\0".into(), value: vec![0, 255, 10]
        };
    let empty = NewRecord { topic: Topic::Events, partition: PartitionId(0), key: String::new(), value: vec![] };
    let appended = log.append(vec![event(0, "a"), unusual.clone(), empty.clone()]).await.unwrap();
    let batch = read(log, Topic::Events, 0).await;
    assert_eq!(batch.records.len(), 3);
    for (record, (place, new)) in batch.records.iter().zip(appended.iter().zip([event(0, "a"), unusual, empty])) {
        assert_eq!((record.offset, record.appended_at), (place.offset, place.appended_at));
        assert_eq!((&record.key, &record.value), (&new.key, &new.value));
    }
    assert!(batch.records.is_sorted_by(|a, b| a.offset < b.offset), "offsets ascend");
    assert!(log.append(vec![]).await.unwrap().is_empty(), "an empty call appends nothing");
}

async fn a_call_is_atomic(log: &dyn Log) {
    for bad in [event(PARTITIONS, "bad"), record(Topic::Errors, 1, "bad"), record(Topic::Config, 1, "bad")] {
        let refused = log.append(vec![event(0, "good"), bad.clone()]).await;
        assert!(matches!(refused, Err(LogError::NoSuchPartition { .. })), "append to {bad:?}: {refused:?}");
        let refused = log.append_once("p", 1, vec![event(0, "good"), bad.clone()]).await;
        assert!(matches!(refused, Err(LogError::NoSuchPartition { .. })), "append_once to {bad:?}: {refused:?}");
        let commit =
            Commit { partition: PartitionId(0), progress: progress(1, 1), records: vec![event(0, "good"), bad] };
        assert!(matches!(log.commit(commit).await, Err(LogError::NoSuchPartition { .. })));
    }
    assert!(read(log, Topic::Events, 0).await.records.is_empty(), "a refused call stores nothing");
    assert_eq!(log.producer_sequence("p").await.unwrap(), 0);
    assert_eq!(log.committed(PartitionId(0)).await.unwrap(), None);
    assert!(matches!(log.read(Topic::Errors, PartitionId(1), 0, ALL).await, Err(LogError::NoSuchPartition { .. })));
    assert!(matches!(log.bounds(Topic::Events, PartitionId(PARTITIONS)).await, Err(LogError::NoSuchPartition { .. })));
}

async fn a_wipe_changes_no_record(log: &dyn Log) {
    log.wipe(Timestamp(0), 0).await.unwrap();
    for number in 0..5 {
        log.append(vec![event(1, number), record(Topic::Config, 0, number)]).await.unwrap();
    }
    log.commit(Commit { partition: PartitionId(1), progress: progress(2, 0), records: vec![] }).await.unwrap();
    log.trim(Topic::Events, PartitionId(1), 2).await.unwrap();
    for minute in 1..3 {
        log.wipe(Timestamp(minute * 60_000_000), 0).await.unwrap();
        assert_eq!(values(&read(log, Topic::Events, 1).await.records), ["2", "3", "4"]);
        assert_eq!(values(&read(log, Topic::Config, 0).await.records).len(), 5);
        assert_eq!(log.bounds(Topic::Events, PartitionId(1)).await.unwrap(), (2, 5));
        assert_eq!(log.committed(PartitionId(1)).await.unwrap().map(|progress| progress.next_offset), Some(2));
    }
    assert_eq!(log.append(vec![event(1, 5)]).await.unwrap()[0].offset, 5);
}

async fn the_highest_ids_count_trimmed_records(place: &impl LogPlace) {
    let log = open_log(place).await;
    let about = |topic, partition, key: &str| NewRecord { key: key.to_owned(), ..record(topic, partition, "") };
    let highest = async |log: &Arc<dyn Log>| log.highest_ids().await.unwrap();
    assert_eq!(highest(&log).await, HighestIds::default());
    log.append(vec![about(Topic::Events, 3, "12"), about(Topic::Events, 0, "5")]).await.unwrap();
    assert_eq!(highest(&log).await, HighestIds { user: 12, segment: 0 });
    log.append_once("p", 1, vec![about(Topic::Config, 0, "7"), about(Topic::Events, 1, "13")]).await.unwrap();
    log.append_once("p", 1, vec![about(Topic::Events, 1, "99")]).await.unwrap();
    assert_eq!(highest(&log).await, HighestIds { user: 13, segment: 7 }, "only what was appended");
    let records = vec![about(Topic::Notifications, 2, "14"), about(Topic::Errors, 0, "77")];
    log.commit(Commit { partition: PartitionId(2), progress: progress(1, 2_000), records }).await.unwrap();
    for key in ["segment:88", "", "c-99", "-1"] {
        log.append(vec![about(Topic::Events, 0, key), about(Topic::Config, 0, key)]).await.unwrap();
    }
    let expected = HighestIds { user: 14, segment: 7 };
    assert_eq!(highest(&log).await, expected, "keys that are not ids do not count");
    for partition in 0..PARTITIONS {
        log.trim(Topic::Events, PartitionId(partition), u64::MAX).await.unwrap();
    }
    assert_eq!(highest(&log).await, expected, "trimmed records count");
    drop(log);
    assert_eq!(highest(&open_log(place).await).await, expected, "after a restart too");
}

async fn partitions_and_topics_are_independent(log: &dyn Log) {
    let places =
        [(Topic::Events, 0), (Topic::Events, 3), (Topic::Notifications, 3), (Topic::Errors, 0), (Topic::Config, 0)];
    let records = places.iter().map(|(topic, partition)| record(*topic, *partition, format!("{topic:?} {partition}")));
    let appended = log.append(records.collect()).await.unwrap();
    assert!(appended.iter().all(|place| place.appended_at == appended[0].appended_at), "one call, one instant");
    for (topic, partition) in places {
        let batch = read(log, topic, partition).await;
        assert_eq!(values(&batch.records), [format!("{topic:?} {partition}")]);
    }
    assert!(read(log, Topic::Events, 1).await.records.is_empty());
}

async fn batches_follow_each_other_without_gaps(log: &dyn Log) {
    for call in 0..20 {
        let records = (0..call % 4 + 1).map(|n| event(1, format!("{call}.{n}")));
        log.append(records.collect()).await.unwrap();
    }
    let all = read(log, Topic::Events, 1).await;
    assert_eq!(all.records.len(), 50);
    for bytes_max in [0, 1, 30, 100, 1_000, ALL] {
        let (mut from, mut seen) = (0, Vec::new());
        loop {
            let batch = log.read(Topic::Events, PartitionId(1), from, bytes_max).await.unwrap();
            if batch.records.is_empty() {
                break;
            }
            assert!(batch.next_offset > batch.records.last().unwrap().offset);
            from = batch.next_offset;
            seen.extend(batch.records);
        }
        assert_eq!(seen, all.records, "with {bytes_max} bytes a batch");
    }
    let small = log.read(Topic::Events, PartitionId(1), 0, 100).await.unwrap();
    assert!(small.records.len() < 15, "the limit holds: {}", small.records.len());
    for (index, record) in all.records.iter().enumerate() {
        let rest = log.read(Topic::Events, PartitionId(1), record.offset, ALL).await.unwrap();
        assert_eq!(rest.records, all.records[index..], "also from the middle of a call");
    }
    let beyond = log.read(Topic::Events, PartitionId(1), all.next_offset + 100, ALL).await.unwrap();
    assert_eq!((beyond.records, beyond.next_offset), (vec![], all.next_offset + 100));
}

async fn append_once_is_idempotent(log: Arc<dyn Log>) {
    assert_eq!(log.producer_sequence("p").await.unwrap(), 0);
    assert!(log.append_once("p", 7, vec![event(0, "7")]).await.unwrap());
    assert!(!log.append_once("p", 7, vec![event(0, "7 again")]).await.unwrap());
    assert!(!log.append_once("p", 3, vec![event(0, "3, late")]).await.unwrap());
    assert!(log.append_once("p", 8, vec![]).await.unwrap(), "the sequence moves without records too");
    assert!(log.append_once("q", 1, vec![event(0, "q")]).await.unwrap(), "producers are independent");
    assert_eq!(values(&read(&*log, Topic::Events, 0).await.records), ["7", "q"]);
    assert_eq!(log.producer_sequence("p").await.unwrap(), 8);

    let racing = (0..16).map(|n| {
        let log = log.clone();
        tokio::spawn(async move { log.append_once("r", 1, vec![event(2, n)]).await.unwrap() })
    });
    let mut winners = 0;
    for task in racing.collect::<Vec<_>>() {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!(winners, 1, "one of several concurrent calls appends");
    assert_eq!(read(&*log, Topic::Events, 2).await.records.len(), 1);
}

async fn a_commit_stores_progress_and_records(log: &dyn Log) {
    assert_eq!(log.committed(PartitionId(2)).await.unwrap(), None);
    let notification = |n: u32| record(Topic::Notifications, 2, n);
    let records = vec![notification(0), record(Topic::Errors, 0, "error"), event(1, "transfer"), notification(1)];
    log.commit(Commit { partition: PartitionId(2), progress: progress(10, 900), records }).await.unwrap();
    let end = log.bounds(Topic::Notifications, PartitionId(2)).await.unwrap().1;
    let committed = log.committed(PartitionId(2)).await.unwrap().unwrap();
    assert_eq!(committed, Progress { notifications_offset: end, ..progress(10, 900) }, "the log fills in the offset");
    assert_eq!(values(&read(log, Topic::Notifications, 2).await.records), ["0", "1"]);
    assert_eq!(values(&read(log, Topic::Errors, 0).await.records), ["error"]);
    assert_eq!(values(&read(log, Topic::Events, 1).await.records), ["transfer"]);

    let only_time = Commit { partition: PartitionId(2), progress: progress(11, 950), records: vec![] };
    log.commit(only_time).await.unwrap();
    let committed = log.committed(PartitionId(2)).await.unwrap().unwrap();
    assert_eq!(committed, Progress { notifications_offset: end, ..progress(11, 950) });
    assert_eq!(log.committed(PartitionId(1)).await.unwrap(), None, "partitions are independent");

    log.commit(Commit { partition: PartitionId(2), progress: progress(12, 960), records: vec![notification(2)] })
        .await
        .unwrap();
    let from_committed =
        log.read(Topic::Notifications, PartitionId(2), committed.notifications_offset, ALL).await.unwrap();
    assert_eq!(values(&from_committed.records), ["2"], "the next notification is at the committed offset");
}

async fn bounds_and_trim(log: &dyn Log) {
    assert_eq!(log.bounds(Topic::Events, PartitionId(0)).await.unwrap(), (0, 0));
    for call in 0..10 {
        log.append(vec![event(0, call * 2), event(0, call * 2 + 1), event(1, "other")]).await.unwrap();
    }
    let all = read(log, Topic::Events, 0).await.records;
    let end = log.bounds(Topic::Events, PartitionId(0)).await.unwrap().1;
    assert_eq!(end, all[19].offset + 1);

    log.trim(Topic::Events, PartitionId(0), all[7].offset).await.unwrap();
    assert_eq!(log.bounds(Topic::Events, PartitionId(0)).await.unwrap(), (all[7].offset, end));
    assert_eq!(
        read(log, Topic::Events, 0).await.records,
        all[7..],
        "reading from the start starts at the first retained"
    );
    log.trim(Topic::Events, PartitionId(0), all[2].offset).await.unwrap();
    assert_eq!(
        log.bounds(Topic::Events, PartitionId(0)).await.unwrap(),
        (all[7].offset, end),
        "trimming restores nothing"
    );

    log.trim(Topic::Events, PartitionId(0), u64::MAX).await.unwrap();
    assert_eq!(log.bounds(Topic::Events, PartitionId(0)).await.unwrap(), (end, end));
    assert!(read(log, Topic::Events, 0).await.records.is_empty());
    let next = log.append(vec![event(0, "next")]).await.unwrap()[0].offset;
    assert!(next >= end, "offsets go on");
    assert_eq!(values(&read(log, Topic::Events, 0).await.records), ["next"]);
    assert_eq!(read(log, Topic::Events, 1).await.records.len(), 10, "partitions are independent");
}

async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_MAX, wait).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

async fn a_wait_ends_when_the_record_comes(log: Arc<dyn Log>) {
    log.append(vec![event(0, "there")]).await.unwrap();
    in_time("for a record that is there", log.wait_for(Topic::Events, PartitionId(0), 0)).await;
    let end = log.bounds(Topic::Events, PartitionId(0)).await.unwrap().1;

    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.wait_for(Topic::Events, PartitionId(0), end).await }
    });
    log.append(vec![event(1, "elsewhere"), record(Topic::Notifications, 0, "elsewhere")]).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "records in other partitions do not end the wait");
    log.commit(Commit { partition: PartitionId(3), progress: progress(0, 0), records: vec![event(0, "here")] })
        .await
        .unwrap();
    in_time("for a record of a commit", waiting).await.unwrap();
    let batch = log.read(Topic::Events, PartitionId(0), end, ALL).await.unwrap();
    assert_eq!(values(&batch.records), ["here"], "the record can be read after the wait");
}

async fn no_wake_up_is_lost(log: Arc<dyn Log>) {
    const ROUNDS: u64 = 200;
    let reader = tokio::spawn({
        let log = log.clone();
        async move {
            let (mut from, mut seen) = (0, 0);
            while seen < ROUNDS {
                log.wait_for(Topic::Events, PartitionId(0), from).await;
                let batch = log.read(Topic::Events, PartitionId(0), from, ALL).await.unwrap();
                assert!(!batch.records.is_empty(), "a wait ends with a record");
                seen += batch.records.len() as u64;
                from = batch.next_offset;
            }
        }
    });
    for round in 0..ROUNDS {
        log.append(vec![event(0, round)]).await.unwrap();
    }
    in_time("for the last of many records", reader).await.unwrap();
}

async fn a_cancelled_wait_does_no_harm(log: Arc<dyn Log>) {
    for _ in 0..10 {
        let cancelled = tokio::time::timeout(Duration::ZERO, log.wait_for(Topic::Events, PartitionId(0), 0)).await;
        assert!(cancelled.is_err(), "there is no record yet");
    }
    log.append(vec![event(0, "x")]).await.unwrap();
    in_time("after cancelled waits", log.wait_for(Topic::Events, PartitionId(0), 0)).await;
}

async fn reopening_keeps_everything(place: &impl LogPlace) {
    let log = open_log(place).await;
    log.append(vec![event(0, "a"), event(0, "b"), record(Topic::Config, 0, "c")]).await.unwrap();
    log.append_once("p", 9, vec![event(1, "d")]).await.unwrap();
    let notification = record(Topic::Notifications, 1, "n");
    log.commit(Commit { partition: PartitionId(1), progress: progress(4, 990), records: vec![notification] })
        .await
        .unwrap();
    log.append((0..8).map(|n| event(3, n)).collect()).await.unwrap();
    log.trim(Topic::Events, PartitionId(3), 8).await.unwrap();
    log.trim(Topic::Events, PartitionId(0), 1).await.unwrap();
    let before = everything(&*log).await;
    drop(log);

    let log = open_log(place).await;
    assert_eq!(everything(&*log).await, before);
    assert_eq!(log.producer_sequence("p").await.unwrap(), 9);
    assert!(!log.append_once("p", 9, vec![event(1, "again")]).await.unwrap());
    let next = log.append(vec![event(3, "next")]).await.unwrap()[0];
    assert!(next.offset >= 8, "offsets go on after a restart, even if no record is left: {next:?}");
}

/// Returns all bounds, records and commits.
async fn everything(log: &dyn Log) -> Vec<String> {
    let mut found = Vec::new();
    for topic in [Topic::Events, Topic::Errors, Topic::Notifications, Topic::Config] {
        for partition in 0..topic.partitions(PARTITIONS) {
            let bounds = log.bounds(topic, PartitionId(partition)).await.unwrap();
            found.push(format!("{topic:?} {partition} {bounds:?} {:?}", read(log, topic, partition).await.records));
        }
    }
    for partition in 0..PARTITIONS {
        found.push(format!("{:?}", log.committed(PartitionId(partition)).await.unwrap()));
    }
    found
}

async fn another_number_of_partitions_is_refused(place: &impl LogPlace) {
    drop(open_log(place).await);
    match place.open(PARTITIONS + 1, Arc::new(ManualClock::default())).await.map(drop) {
        Err(LogError::Partitions { found, asked }) => assert_eq!((found, asked), (PARTITIONS, PARTITIONS + 1)),
        other => panic!("opened with another number of partitions: {other:?}"),
    }
    drop(open_log(place).await);
}
