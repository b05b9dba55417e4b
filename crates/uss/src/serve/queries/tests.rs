#![allow(clippy::unwrap_used)]

use configuration_api::{Holds, Relay};
use ports::checkpoints::{Checkpoint, CheckpointError, CheckpointStore, Generation, Restored};
use ports::clock::ManualClock;
use ports::config_store::{NewSegment, NewUser};
use ports::log::{NewRecord, Progress, Topic};
use ports_testkit::memory::{MemoryCheckpoints, MemoryConfigStore, MemoryLog, MemoryWarehouse};
use segment_engine::time::Timestamp;
use segment_users::partition::Ports;
use segment_users::plans::Plans;
use segment_users::service::Service;
use segment_users::settings::Settings;

use super::*;

const NOW: Timestamp = Timestamp(1_767_225_600_000_000);
const USER: UserId = UserId(1);
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checkpoints that are never written: a worker that comes to one is stuck.
#[derive(Default)]
struct Stuck {
    inner: MemoryCheckpoints,
    reached: Notify,
}

#[async_trait]
impl CheckpointStore for Stuck {
    async fn write(&self, _: Checkpoint) -> Result<(), CheckpointError> {
        self.reached.notify_one();
        std::future::pending().await
    }

    async fn load(&self, partition: u32, generation: Generation) -> Result<Option<Restored>, CheckpointError> {
        self.inner.load(partition, generation).await
    }

    async fn marker(&self, partition: u32, generation: Generation) -> Result<Option<Progress>, CheckpointError> {
        self.inner.marker(partition, generation).await
    }

    async fn keep(&self, partition: u32) -> Result<Option<Progress>, CheckpointError> {
        self.inner.keep(partition).await
    }

    async fn fall_back(&self, partition: u32) -> Result<(), CheckpointError> {
        self.inner.fall_back(partition).await
    }

    async fn discard(&self, partition: u32) -> Result<(), CheckpointError> {
        self.inner.discard(partition).await
    }
}

/// A service on memory, whose worker is stuck from the first record on.
async fn service() -> (Arc<Stuck>, Opened, Service) {
    let (clock, store) = (Arc::new(ManualClock::at(NOW)), Arc::new(MemoryConfigStore::default()));
    let stuck = Arc::new(Stuck::default());
    let opened = Opened {
        log: Arc::new(MemoryLog::new(1, clock.clone())),
        checkpoints: stuck.clone(),
        warehouse: Arc::new(MemoryWarehouse::default()),
        memberships: store.clone(),
        store,
        clock,
        written: Arc::default(),
        holds: Arc::new(Holds::new(Arc::default())),
    };
    let ports = Ports {
        log: opened.log.clone(),
        checkpoints: opened.checkpoints.clone(),
        warehouse: opened.warehouse.clone(),
        clock: opened.clock.clone(),
        plans: Plans::default(),
    };
    let settings = Settings { checkpoint_interval_micros: 0, ..Settings::default() };
    let service = Service::start(ports, settings, opened.memberships.clone()).await.unwrap();
    (stuck, opened, service)
}

async fn in_patience<T>(answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, answer).await.expect("an answer, or an error")
}

/// Queries that wait for a moment only.
fn impatient(service: &Service, opened: &Opened) -> EngineQueries {
    EngineQueries { engine_max: Duration::from_millis(20), ..EngineQueries::new(service.engine(), opened) }
}

#[tokio::test]
async fn a_stuck_worker_keeps_nobody_for_ever() {
    let (stuck, opened, service) = service().await;
    assert_eq!(in_patience(EngineQueries::new(service.engine(), &opened).await_fresh()).await, Ok(()));
    let saved = segment(&opened.store, "any", Some("count(*) > 0")).await;
    let relay = Relay::new(opened.store.clone(), opened.log.clone(), opened.holds.clone());
    relay.move_all().await.unwrap();
    let record = NewRecord { topic: Topic::Events, partition: 0, key: "1".to_owned(), value: b"any".to_vec() };
    opened.log.append(vec![record]).await.unwrap();
    in_patience(stuck.reached.notified()).await;
    let queries = impatient(&service, &opened);
    let behind = SegmentQueryError::Behind(queries.engine_max);
    assert_eq!(in_patience(queries.await_fresh()).await, Err(behind.clone()));
    assert_eq!(in_patience(queries.progress(saved)).await, Err(behind.clone()));
    assert_eq!(in_patience(queries.explain(USER, "any")).await, Err(behind));
}

#[tokio::test]
async fn an_outbox_that_nobody_empties_keeps_nobody_for_ever() {
    let (_, opened, service) = service().await;
    opened.store.create_user(NewUser::default(), NOW).await.unwrap();
    let queries = impatient(&service, &opened);
    assert_eq!(in_patience(queries.await_fresh()).await, Err(SegmentQueryError::Behind(queries.engine_max)));
}

/// Stores a segment: one with a clause, or a list kept by hand.
async fn segment(store: &Arc<dyn ConfigStore>, tag: &str, clause: Option<&str>) -> i64 {
    let new = NewSegment {
        title: String::new(),
        description: None,
        tag: tag.to_owned(),
        where_statement: clause.unwrap_or_default().to_owned(),
        is_generic: false,
        kind: if clause.is_some() { SegmentKind::Computed } else { SegmentKind::Manual },
        uses: clause.map(|clause| compile(clause).unwrap().segments).unwrap_or_default(),
    };
    store.create_segment(new, NOW).await.unwrap().id
}

#[tokio::test]
async fn a_preview_reads_only_what_its_clause_names() {
    let (_, opened, service) = service().await;
    let store = &opened.store;
    let user = store.create_user(NewUser::default(), NOW).await.unwrap().id;
    let (vip, other) = (segment(store, "vip", None).await, segment(store, "other", None).await);
    store.set_manual_memberships(user, &[vip, other], NOW).await.unwrap();
    segment(store, "busy", Some("count(*) > 1")).await;
    segment(store, "dear", Some("segment('vip') AND count(*) > 2")).await;
    segment(store, "dearest", Some("segment('dear') OR segment('vip')")).await;
    let queries = EngineQueries::new(service.engine(), &opened);
    let named = async |clause: &str| {
        let named = queries.named(&compile(clause).unwrap()).await.unwrap();
        let mut plans: Vec<String> = named.plans.into_keys().collect();
        plans.sort();
        (plans, named.lists.into_iter().collect::<Vec<_>>())
    };
    let texts = |tags: &[&str]| tags.iter().map(|&tag| tag.to_owned()).collect::<Vec<_>>();
    assert_eq!(named("count(*) > 0").await, (texts(&[]), vec![]));
    assert_eq!(named("segment('other')").await, (texts(&[]), vec![("other".to_owned(), vec![user])]));
    let vip = ("vip".to_owned(), vec![user]);
    assert_eq!(named("segment('dearest')").await, (texts(&["dear", "dearest"]), vec![vip.clone()]));
    assert_eq!(named("segment('busy') AND segment('vip') AND segment('none')").await, (texts(&["busy"]), vec![vip]));
}
