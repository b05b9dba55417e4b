//! The in-memory references pass the contract suites.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ports::checkpoints::CheckpointStore;
use ports::clock::Clock;
use ports::log::{Log, LogError};
use ports::warehouse::Warehouse;
use ports_testkit::contract;
use ports_testkit::contract::checkpoints::CheckpointPlace;
use ports_testkit::contract::log::LogPlace;
use ports_testkit::contract::warehouse::WarehousePlace;
use ports_testkit::memory::{MemoryCheckpoints, MemoryLog, MemoryWarehouse};

#[derive(Default)]
struct InMemory {
    log: Mutex<Option<MemoryLog>>,
    checkpoints: MemoryCheckpoints,
    warehouse: MemoryWarehouse,
}

#[async_trait]
impl LogPlace for InMemory {
    async fn open(&self, partitions: u32, clock: Arc<dyn Clock>) -> Result<Arc<dyn Log>, LogError> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = match log.as_ref() {
            Some(before) => before.reopen(partitions, clock.clone())?,
            None => MemoryLog::new(partitions, clock.clone()),
        };
        *log = Some(opened.reopen(partitions, clock)?);
        Ok(Arc::new(opened))
    }
}

#[async_trait]
impl CheckpointPlace for InMemory {
    async fn open(&self) -> Arc<dyn CheckpointStore> {
        Arc::new(self.checkpoints.clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn log() {
    contract::log::suite(InMemory::default).await;
}

#[tokio::test]
async fn checkpoints() {
    contract::checkpoints::suite(InMemory::default).await;
}

#[async_trait]
impl WarehousePlace for InMemory {
    async fn open(&self) -> Arc<dyn Warehouse> {
        Arc::new(self.warehouse.clone())
    }
}

#[tokio::test]
async fn warehouse() {
    contract::warehouse::suite(InMemory::default).await;
}
