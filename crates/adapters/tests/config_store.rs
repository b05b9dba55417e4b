//! The config store on SQLite passes the contract, and keeps what it was told.

use std::sync::Arc;

use adapters::sql::SqlConfigStore;
use ports::config_store::{ConfigStore, IdentityRules, NewUser, UserStore};
use segment_engine::event::UserId;
use segment_engine::time::Timestamp;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_config_store() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let count = std::sync::atomic::AtomicUsize::new(0);
    ports::contract::config_store::run(|rules| async {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = folder.path().join(format!("config #{number}?.db"));
        Arc::new(SqlConfigStore::open_sqlite(&path, rules).await.expect("a fresh file opens")) as Arc<dyn ConfigStore>
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn a_reopened_file_has_everything() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config.db");
    let store = SqlConfigStore::open_sqlite(&path, IdentityRules::default()).await?;
    let created = store.create_user(NewUser::default(), Timestamp(7)).await?;
    drop(store);
    let store = SqlConfigStore::open_sqlite(&path, IdentityRules::default()).await?;
    assert_eq!(store.user(UserId(1)).await?, Some(created));
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_an_error() {
    let missing = std::path::Path::new("/nonexistent/folder/config.db");
    assert!(SqlConfigStore::open_sqlite(missing, IdentityRules::default()).await.is_err());
}
