//! The DuckDB warehouse passes the contract suites of its port.

use std::sync::Arc;
use std::time::Duration;

use adapters::duckdb::{DuckDbWarehouse, READERS_MAX};
use async_trait::async_trait;
use ports::warehouse::Warehouse;
use ports_testkit::contract;
use ports_testkit::contract::warehouse::WarehousePlace;
use segment_engine::ids::UserId;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }
}

#[async_trait]
impl WarehousePlace for Folder {
    async fn open(&self) -> Arc<dyn Warehouse> {
        Arc::new(DuckDbWarehouse::open(&self.0.path().join("warehouse.duckdb")).expect("it opens"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn warehouse() {
    contract::warehouse::suite(Folder::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn warehouse_sql() {
    contract::warehouse_sql::suite(Folder::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_query_ends_when_its_caller_has_gone() {
    let folder = Folder::new();
    let warehouse = folder.open().await;
    let endless = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b";
    for _ in 0..READERS_MAX {
        let result = tokio::time::timeout(Duration::from_millis(20), warehouse.members(endless)).await;
        assert!(result.is_err(), "it takes years: {result:?}");
    }
    // Each of them had a reader. While they run, no other query can.
    let result = tokio::time::timeout(Duration::from_secs(120), warehouse.members("SELECT 1")).await;
    assert_eq!(result.expect("the readers are free again").expect("the query succeeds"), [UserId(1)]);
}
