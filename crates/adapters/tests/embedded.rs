//! The embedded log and checkpoints pass the contract suites of their ports.

use std::path::Path;
use std::sync::Arc;

use adapters::embedded;
use async_trait::async_trait;
use ports::checkpoints::CheckpointStore;
use ports::clock::{Clock, SystemClock};
use ports::log::{Log, LogError};
use ports_testkit::contract;
use ports_testkit::contract::checkpoints::CheckpointPlace;
use ports_testkit::contract::log::LogPlace;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }
}

#[async_trait]
impl LogPlace for Folder {
    async fn open(&self, partitions: u32, clock: Arc<dyn Clock>) -> Result<Arc<dyn Log>, LogError> {
        let (log, _) = embedded::open(self.0.path(), partitions, clock)?;
        Ok(Arc::new(log))
    }
}

#[async_trait]
impl CheckpointPlace for Folder {
    async fn open(&self) -> Arc<dyn CheckpointStore> {
        let (_, checkpoints) = embedded::open(self.0.path(), 4, Arc::new(SystemClock)).expect("it opens");
        Arc::new(checkpoints)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn log() {
    contract::log::suite(Folder::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn checkpoints() {
    contract::checkpoints::suite(Folder::new).await;
}

#[tokio::test]
async fn opening_an_open_log_fails_and_names_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = |path: &Path| embedded::open(path, 4, Arc::new(SystemClock));
    let first = open(folder.path()).expect("it opens");
    match open(folder.path()).map(drop) {
        Err(LogError::Unavailable(reason)) => assert!(reason.contains("another process"), "{reason}"),
        other => panic!("opened twice: {other:?}"),
    }
    drop(first);
    assert!(open(folder.path()).is_ok());
}
