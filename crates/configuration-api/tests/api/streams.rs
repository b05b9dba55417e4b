//! Live transitions with many partitions and many subscribers: each receives everything once, and
//! the bytes read are counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use configuration_api::{Api, router};
use http_body_util::BodyExt;
use ports::log::{Appended, Batch, Commit, HighestIds, Log, LogError, NewRecord, Progress, Topic};
use ports_testkit::memory::MemoryLog;
use segment_engine::ids::PartitionId;
use tower::ServiceExt;

use crate::world::World;

/// The most that a log may have.
const PARTITIONS: u32 = 1_024;
/// What a subscriber that is behind reads at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Counts the bytes that are read.
struct CountingLog {
    log: MemoryLog,
    bytes_read: AtomicUsize,
}

#[async_trait]
impl Log for CountingLog {
    fn partitions(&self) -> u32 {
        self.log.partitions()
    }

    async fn ping(&self) -> Result<(), LogError> {
        self.log.ping().await
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, LogError> {
        self.log.append(records).await
    }

    async fn append_once(&self, producer: &str, sequence: u64, records: Vec<NewRecord>) -> Result<bool, LogError> {
        self.log.append_once(producer, sequence, records).await
    }

    async fn producer_sequence(&self, producer: &str) -> Result<u64, LogError> {
        self.log.producer_sequence(producer).await
    }

    async fn read(&self, topic: Topic, partition: PartitionId, from: u64, bytes_max: usize) -> Result<Batch, LogError> {
        let batch = self.log.read(topic, partition, from, bytes_max).await?;
        let bytes = batch.records.iter().map(|record| record.value.len()).sum();
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        Ok(batch)
    }

    async fn wait_for(&self, topic: Topic, partition: PartitionId, offset: u64) {
        self.log.wait_for(topic, partition, offset).await;
    }

    async fn bounds(&self, topic: Topic, partition: PartitionId) -> Result<(u64, u64), LogError> {
        self.log.bounds(topic, partition).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), LogError> {
        self.log.commit(commit).await
    }

    async fn committed(&self, partition: PartitionId) -> Result<Option<Progress>, LogError> {
        self.log.committed(partition).await
    }

    async fn highest_ids(&self) -> Result<HighestIds, LogError> {
        self.log.highest_ids().await
    }

    async fn skip_to(&self, topic: Topic, partition: PartitionId, offset: u64) -> Result<(), LogError> {
        self.log.skip_to(topic, partition, offset).await
    }

    async fn trim(&self, topic: Topic, partition: PartitionId, before: u64) -> Result<(), LogError> {
        self.log.trim(topic, partition, before).await
    }
}

struct Streams {
    world: World,
    log: Arc<CountingLog>,
    router: Router,
}

/// Reads a stream.
struct Subscriber {
    body: Body,
    /// What came and was not read: a piece may have several events.
    unread: String,
}

/// What a subscriber was sent: the position after the notification, and its value.
type Sent = (String, String);

impl Streams {
    fn new(partitions: u32) -> Self {
        let world = World::new();
        let log = Arc::new(CountingLog {
            log: MemoryLog::new(partitions, world.clock.clone()),
            bytes_read: AtomicUsize::new(0),
        });
        let router = router(Api { log: log.clone(), ..world.api() }, &world.keys);
        Self { world, log, router }
    }

    /// Appends a notification to a partition.
    async fn append(&self, partition: u32, value: String) {
        let partition = PartitionId(partition);
        let record =
            NewRecord { topic: Topic::Notifications, partition, key: String::new(), value: value.into_bytes() };
        self.log.append(vec![record]).await.unwrap();
    }

    async fn request(&self, from: Option<&str>) -> Response<Body> {
        let request = Request::get("/api/v1/transitions/stream");
        let request = from.iter().fold(request, |request, from| request.header("last-event-id", *from));
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn subscribe(&self, from: Option<&str>) -> Subscriber {
        let response = self.request(from).await;
        assert_eq!(response.status(), 200);
        Subscriber { body: response.into_body(), unread: String::new() }
    }

    fn beginning(&self) -> String {
        positions(&HashMap::new(), self.log.partitions())
    }

    fn bytes_read(&self) -> usize {
        self.log.bytes_read.load(Ordering::Relaxed)
    }
}

/// Formats a position.
fn positions(known: &HashMap<u32, u64>, partitions: u32) -> String {
    let pairs = (0..partitions).map(|at| format!("{at}:{}", known.get(&at).copied().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(",")
}

/// Returns the next notification; `None` at the end.
async fn next(subscriber: &mut Subscriber) -> Option<Sent> {
    loop {
        if let Some(sent) = subscriber.received() {
            return Some(sent);
        }
        let piece = subscriber.body.frame().await?.unwrap().into_data().unwrap();
        subscriber.unread.push_str(std::str::from_utf8(&piece).unwrap());
    }
}

impl Subscriber {
    /// Returns the next notification of those that have come.
    fn received(&mut self) -> Option<Sent> {
        loop {
            let (event, rest) = self.unread.split_once("\n\n")?;
            let (event, rest) = (event.to_owned(), rest.to_owned());
            self.unread = rest;
            // On a busy machine keep-alive comments may come first.
            if !event.starts_with(':') {
                let line = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
                assert_eq!(line("event: "), "transition");
                return Some((line("id: "), line("data: ")));
            }
        }
    }
}

async fn take(subscriber: &mut Subscriber, count: usize) -> Vec<Sent> {
    let mut sent = Vec::with_capacity(count);
    for _ in 0..count {
        sent.push(next(subscriber).await.unwrap());
    }
    sent
}

/// Asserts that each record was sent once, in the order of its partition, with the position after
/// all that was sent. Values are `PARTITION/NUMBER/…`.
fn assert_complete(sent: &[Sent], mut at: HashMap<u32, u64>, partitions: u32) -> HashMap<u32, u64> {
    for (position, value) in sent {
        let mut parts = value.split('/').map(|part| part.parse::<u64>().unwrap_or_default());
        let (partition, number) = (parts.next().unwrap() as u32, parts.next().unwrap());
        let expected = at.entry(partition).or_default();
        assert_eq!(number, *expected, "of partition {partition}");
        *expected += 1;
        assert_eq!(*position, positions(&at, partitions));
    }
    at
}

#[tokio::test]
async fn each_notification_is_read_once_for_all_that_keep_up() {
    let streams = Streams::new(PARTITIONS);
    streams.append(3, "3/0/before anybody came".to_owned()).await;
    let mut subscribers = Vec::new();
    for _ in 0..50 {
        subscribers.push(streams.subscribe(None).await);
    }
    let mut bytes = 0;
    for number in 0..100_u32 {
        let value = format!("{}/{}/{}", number % 50 + 10, number / 50, "x".repeat(500));
        bytes += value.len();
        streams.append(number % 50 + 10, value).await;
    }
    let first = take(&mut subscribers[0], 100).await;
    assert_complete(&first, HashMap::from([(3, 1)]), PARTITIONS);
    for subscriber in &mut subscribers[1..] {
        assert_eq!(take(subscriber, 100).await, first, "all receive the same");
    }
    assert_eq!(streams.bytes_read(), bytes, "each notification is read once, not once for each subscriber");
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_holds_little() {
    let streams = Streams::new(PARTITIONS);
    let each = 40;
    for partition in 0..PARTITIONS {
        for number in 0..each {
            streams.append(partition, format!("{partition}/{number}/{}", "x".repeat(4_000))).await;
        }
    }
    let mut subscribers = Vec::new();
    for _ in 0..20 {
        let mut subscriber = streams.subscribe(Some(&streams.beginning())).await;
        assert!(next(&mut subscriber).await.unwrap().1.starts_with("0/0/"));
        subscribers.push(subscriber);
    }
    let most = 20 * (PIECE_BYTES + 5_000);
    assert!(
        streams.bytes_read() <= most,
        "{} bytes of 160 MB read for 20 subscribers of one notification each",
        streams.bytes_read()
    );
    let rest = take(&mut subscribers[0], (PARTITIONS * each - 1) as usize).await;
    let at = assert_complete(&rest, HashMap::from([(0, 1)]), PARTITIONS);
    assert!((0..PARTITIONS).all(|partition| at[&partition] == u64::from(each)));
}

#[tokio::test]
async fn a_subscriber_that_falls_behind_reads_by_itself_and_catches_up() {
    let streams = Streams::new(4);
    let (mut slow, mut quick) = (streams.subscribe(None).await, streams.subscribe(None).await);
    // More than the ring buffer holds.
    let count = 100_u32;
    for number in 0..count {
        let value = format!("{}/{}/{}", number % 4, number / 4, "x".repeat(400_000));
        streams.append(number % 4, value).await;
        next(&mut quick).await.unwrap();
    }
    let sent = take(&mut slow, 60).await;
    let at = assert_complete(&sent, HashMap::new(), 4);
    // It goes on with the ring buffer, and another subscriber can go on from any of its positions.
    let mut resumed = streams.subscribe(Some(&sent[30].0)).await;
    for partition in 0..4 {
        streams.append(partition, format!("{partition}/25/")).await;
    }
    assert_complete(&take(&mut slow, 44).await, at, 4);
    let at = assert_complete(&sent[..31], HashMap::new(), 4);
    assert_complete(&take(&mut resumed, 73).await, at, 4);
    streams.append(1, "1/26/".to_owned()).await;
    take(&mut quick, 5).await;
    assert_eq!(next(&mut slow).await.unwrap(), next(&mut resumed).await.unwrap(), "both have caught up");
}

#[tokio::test]
async fn a_position_beyond_the_end_skips_what_is_before_it() {
    let streams = Streams::new(2);
    streams.append(0, "0/0/".to_owned()).await;
    let mut subscriber = streams.subscribe(Some("0:3,1:0")).await;
    for number in 1..5 {
        streams.append(0, format!("0/{number}/")).await;
    }
    streams.append(1, "1/0/".to_owned()).await;
    let mut sent = take(&mut subscriber, 3).await;
    sent.sort_by_key(|(_, value)| value.clone());
    let values: Vec<&str> = sent.iter().map(|(_, value)| &**value).collect();
    assert_eq!(values, ["0/3/", "0/4/", "1/0/"]);
    assert!(sent.iter().any(|(position, _)| position == "0:5,1:1"), "{sent:?}");
}

#[tokio::test]
async fn one_subscriber_too_many_is_refused_until_another_goes() {
    let streams = Streams::new(1);
    let mut subscribers = Vec::new();
    for _ in 0..2_048 {
        subscribers.push(streams.subscribe(None).await);
    }
    let refused = streams.request(None).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("TOO_MANY_STREAMS"));
    drop(subscribers.pop());
    assert_eq!(streams.request(None).await.status(), 200);
}

#[tokio::test]
async fn a_subscriber_after_all_others_have_gone_receives_what_comes() {
    let streams = Streams::new(2);
    for round in 0..3 {
        let mut subscriber = streams.subscribe(None).await;
        streams.append(1, format!("1/{round}/")).await;
        assert_eq!(next(&mut subscriber).await.unwrap(), (format!("0:0,1:{}", round + 1), format!("1/{round}/")));
        drop(subscriber);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stop_ends_every_stream_at_once_and_each_can_go_on_where_it_was() {
    let streams = Streams::new(2);
    let mut waiting = streams.subscribe(None).await;
    for number in 0..40 {
        streams.append(0, format!("0/{number}/")).await;
        streams.append(1, format!("1/{number}/{}", "x".repeat(PIECE_BYTES))).await;
    }
    // `waiting` reads everything, `kept_up` none of the newest, `slow` a little by itself, `silent`
    // nothing.
    let mut kept_up = streams.subscribe(None).await;
    take(&mut waiting, 80).await;
    let mut slow = streams.subscribe(Some(&streams.beginning())).await;
    let mut sent = take(&mut slow, 3).await;
    sent.extend(std::iter::from_fn(|| slow.received()));
    let mut silent = streams.subscribe(Some(&streams.beginning())).await;
    streams.append(0, "0/40/".to_owned()).await;
    streams.world.stop.send_replace(true);
    for stream in [&mut waiting, &mut kept_up, &mut slow, &mut silent] {
        assert_eq!(next(stream).await, None);
    }

    streams.world.stop.send_replace(false);
    let at = assert_complete(&sent, HashMap::new(), 2);
    let (position, _) = sent.last().unwrap();
    let mut again = streams.subscribe(Some(position)).await;
    let rest = take(&mut again, 81 - sent.len()).await;
    let at = assert_complete(&rest, at, 2);
    assert_eq!((at[&0], at[&1]), (41, 40), "none is missing");
}
