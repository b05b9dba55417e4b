//! The DuckDB warehouse passes the suites of its port.

use std::sync::Arc;

use adapters::duckdb::DuckDbWarehouse;
use async_trait::async_trait;
use ports::contract;
use ports::contract::warehouse::WarehousePlace;
use ports::warehouse::Warehouse;
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
