#![allow(clippy::unwrap_used)]

use ports::checkpoints::{Checkpoint, CheckpointError, CheckpointStore, Generation, Restored};
use ports::clock::ManualClock;
use ports::config_store::NewUser;
use ports::log::{NewRecord, Progress, Topic};
use ports::memory::{MemoryCheckpoints, MemoryConfigStore, MemoryLog, MemoryWarehouse};
use segment_engine::time::Timestamp;
use segment_users::partition::Ports;
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
    };
    let ports = Ports {
        log: opened.log.clone(),
        checkpoints: opened.checkpoints.clone(),
        warehouse: opened.warehouse.clone(),
        clock: opened.clock.clone(),
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
    let record = NewRecord { topic: Topic::Events, partition: 0, key: "1".to_owned(), value: b"any".to_vec() };
    opened.log.append(vec![record]).await.unwrap();
    in_patience(stuck.reached.notified()).await;
    let queries = impatient(&service, &opened);
    let behind = SegmentQueryError::Behind(queries.engine_max);
    assert_eq!(in_patience(queries.await_fresh()).await, Err(behind.clone()));
    assert_eq!(in_patience(queries.progress(1)).await, Err(behind.clone()));
    assert_eq!(in_patience(queries.explain(USER, "any")).await, Err(behind));
}

#[tokio::test]
async fn an_outbox_that_nobody_empties_keeps_nobody_for_ever() {
    let (_, opened, service) = service().await;
    opened.store.create_user(NewUser::default(), NOW).await.unwrap();
    let queries = impatient(&service, &opened);
    assert_eq!(in_patience(queries.await_fresh()).await, Err(SegmentQueryError::Behind(queries.engine_max)));
}
