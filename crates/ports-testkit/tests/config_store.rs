//! The in-memory config store passes the contract suite.

use std::sync::Arc;

use ports::config_store::ConfigStore;
use ports_testkit::memory::MemoryConfigStore;

#[tokio::test]
async fn memory_config_store() {
    ports_testkit::contract::config_store::run(|rules| async {
        Arc::new(MemoryConfigStore::new(rules)) as Arc<dyn ConfigStore>
    })
    .await;
}
