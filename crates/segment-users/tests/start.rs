//! The start of the service: partitions are opened concurrently, and a partition that cannot be
//! opened is reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ports::checkpoints::{Blocks, Checkpoint, CheckpointError, CheckpointStore, Generation, Restored};
use ports::clock::ManualClock;
use ports::log::Progress;
use ports_testkit::memory::{MemoryCheckpoints, MemoryConfigStore, MemoryLog, MemoryWarehouse};
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;
use segment_users::left_out::LeftOut;
use segment_users::partition::{Background, Ports};
use segment_users::plans::Plans;
use segment_users::service::Service;
use segment_users::settings::Settings;
use tokio::runtime::Handle;
use tokio::sync::Barrier;

const PARTITIONS: u32 = 8;
/// The number of threads of the test's runtime.
const THREADS: usize = 2;
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Checkpoints that can only be read by [`THREADS`] readers at once, or of which one cannot be
/// read.
struct BarrierCheckpoints {
    inner: MemoryCheckpoints,
    barrier: Barrier,
    reading: AtomicUsize,
    /// The most concurrent readers so far.
    reading_max: AtomicUsize,
    broken: Option<PartitionId>,
}

#[async_trait]
impl CheckpointStore for BarrierCheckpoints {
    async fn forget_added(&self, partition: PartitionId) -> Result<(), CheckpointError> {
        self.inner.forget_added(partition).await
    }

    async fn load(&self, partition: PartitionId, generation: Generation) -> Result<Option<Restored>, CheckpointError> {
        if self.broken == Some(partition) {
            return Err(CheckpointError::Unavailable("the disk of partition 5 failed".to_owned()));
        }
        let reading = self.reading.fetch_add(1, Ordering::SeqCst) + 1;
        self.reading_max.fetch_max(reading, Ordering::SeqCst);
        if self.broken.is_none() {
            self.barrier.wait().await;
        }
        self.reading.fetch_sub(1, Ordering::SeqCst);
        self.inner.load(partition, generation).await
    }

    async fn add(&self, partition: PartitionId, users: Blocks) -> Result<(), CheckpointError> {
        self.inner.add(partition, users).await
    }

    async fn write(&self, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        self.inner.write(checkpoint).await
    }

    async fn marker(
        &self,
        partition: PartitionId,
        generation: Generation,
    ) -> Result<Option<Progress>, CheckpointError> {
        self.inner.marker(partition, generation).await
    }

    async fn keep(&self, partition: PartitionId) -> Result<Option<Progress>, CheckpointError> {
        self.inner.keep(partition).await
    }

    async fn fall_back(&self, partition: PartitionId) -> Result<(), CheckpointError> {
        self.inner.fall_back(partition).await
    }

    async fn discard(&self, partition: PartitionId) -> Result<(), CheckpointError> {
        self.inner.discard(partition).await
    }
}

fn checkpoints(broken: Option<PartitionId>) -> Arc<BarrierCheckpoints> {
    let barrier = Barrier::new(THREADS);
    let (reading, reading_max) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Arc::new(BarrierCheckpoints { inner: MemoryCheckpoints::default(), barrier, reading, reading_max, broken })
}

async fn start(checkpoints: Arc<BarrierCheckpoints>) -> Result<Service, String> {
    let clock = Arc::new(ManualClock::at(Timestamp(1_000_000_000)));
    let ports = Ports {
        log: Arc::new(MemoryLog::new(PARTITIONS, clock.clone())),
        checkpoints,
        warehouse: Arc::new(MemoryWarehouse::default()),
        clock,
        plans: Plans::default(),
        left_out: LeftOut::default(),
        background: Background::default(),
    };
    let starting =
        Service::start(ports, Settings::default(), Arc::new(MemoryConfigStore::default()), Handle::current());
    let started = tokio::time::timeout(WAIT_MAX, starting).await.expect("the partitions wait for each other for ever");
    started.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_partitions_are_opened_at_once_as_there_are_threads() {
    let checkpoints = checkpoints(None);
    let service = start(checkpoints.clone()).await.unwrap();
    assert_eq!(checkpoints.reading_max.load(Ordering::SeqCst), THREADS);
    assert_eq!(service.handle().stats().await.unwrap().partitions.len(), PARTITIONS as usize);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_cannot_be_opened_ends_the_start_with_its_reason() {
    let error = start(checkpoints(Some(PartitionId(5)))).await.err().unwrap();
    assert!(error.contains("the disk of partition 5 failed"), "{error}");
}
