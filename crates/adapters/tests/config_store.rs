//! The config store on SQLite passes the contract and survives being reopened.

use std::sync::Arc;

use adapters::sql::{IDENTITY_INDEX_BYTES_MAX, SqlConfigStore, VFS};
use ports::config_store::{
    Applied, ConfigStore, ConfigStoreError, IdentityRules, MembershipBatch, MembershipChange, MembershipStore, NewUser,
    UserStore,
};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr};
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use segment_engine::time::Timestamp;

/// Runs the suite on stores whose index of identities has at most so many bytes.
async fn suite(index_bytes_max: usize) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let count = std::sync::atomic::AtomicUsize::new(0);
    ports_testkit::contract::config_store::run(|rules| async {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = folder.path().join(format!("config #{number}?.db"));
        let store = SqlConfigStore::open_sqlite_with(&path, rules, index_bytes_max).await.expect("a new file opens");
        store.wait_until_indexed().await;
        Arc::new(store) as Arc<dyn ConfigStore>
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_config_store() -> Result<(), Box<dyn std::error::Error>> {
    suite(IDENTITY_INDEX_BYTES_MAX).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_config_store_without_an_index() -> Result<(), Box<dyn std::error::Error>> {
    suite(0).await
}

#[tokio::test]
async fn a_reopened_file_has_its_rows() -> Result<(), Box<dyn std::error::Error>> {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_batches_of_others_are_written_if_a_caller_goes_away() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config.db");
    let store = SqlConfigStore::open_sqlite(&path, IdentityRules::default()).await?;
    let other = hold_lock(&path).await?;
    let batch = |partition: u32| {
        let changes = vec![MembershipChange {
            user_id: UserId(i64::from(partition)),
            entered: vec![SegmentId(1)],
            left: vec![],
            effective_at: Timestamp(7),
        }];
        MembershipBatch { partition: PartitionId(partition), from: 0, to: 5, changes }
    };
    // The first one waits for the lock, and the others for the first one.
    let calls: Vec<_> = (0..6)
        .map(|partition| {
            let (store, batch) = (store.clone(), batch(partition));
            tokio::spawn(async move { store.apply_memberships(batch).await })
        })
        .collect();
    for call in calls.iter().step_by(2) {
        call.abort();
    }
    other.execute_unprepared("COMMIT").await?;
    for (partition, call) in (0..).zip(calls) {
        match call.await {
            Ok(outcome) => assert_eq!(outcome?, Applied::Now, "{partition}"),
            Err(gone) => assert!(gone.is_cancelled() && partition % 2 == 0, "{partition}: {gone}"),
        }
    }
    // Whether or not the batch of a caller that has gone was written, it is written once.
    for partition in 0..6 {
        let again = store.apply_memberships(batch(partition)).await?;
        assert!(again == Applied::Before(5) || partition % 2 == 0, "{partition}: {again:?}");
    }
    let positions = store.membership_positions().await?;
    assert_eq!(positions, (0..6).map(|partition| (PartitionId(partition), 5)).collect::<Vec<_>>());
    Ok(())
}

/// Holds SQLite's write lock, as another process would, until it commits.
async fn hold_lock(path: &std::path::Path) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(format!("sqlite:{}?vfs={VFS}", path.display()));
    options.max_connections(1);
    let other = Database::connect(options).await?;
    other.execute_unprepared("BEGIN IMMEDIATE").await?;
    Ok(other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_waits_for_the_lock_of_another_process() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config.db");
    let store = SqlConfigStore::open_sqlite(&path, IdentityRules::default()).await?;
    let other = hold_lock(&path).await?;
    let write = {
        let store = store.clone();
        tokio::spawn(async move { store.create_user(NewUser::default(), Timestamp(7)).await })
    };
    // Whether or not the write has reached the lock by then, it can neither have succeeded nor have
    // failed.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(!write.is_finished());
    other.execute_unprepared("COMMIT").await?;
    assert_eq!(write.await??.id, UserId(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_fails_while_another_process_holds_the_lock() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config.db");
    let store = SqlConfigStore::open_sqlite(&path, IdentityRules::default()).await?;
    let other = hold_lock(&path).await?;
    let refused = store.create_user(NewUser::default(), Timestamp(7)).await;
    assert!(matches!(refused, Err(ConfigStoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(store.users(ports::config_store::Page::ALL).await?, [], "reads work");
    other.execute_unprepared("COMMIT").await?;
    store.ping().await?;
    assert_eq!(store.create_user(NewUser::default(), Timestamp(7)).await?.id, UserId(1));
    Ok(())
}
