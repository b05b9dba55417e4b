//! The suite of the checkpoint port.

use std::sync::Arc;

use async_trait::async_trait;
use segment_engine::event::UserId;
use segment_engine::time::Timestamp;

use crate::checkpoints::{Checkpoint, CheckpointStore};
use crate::log::Progress;

/// Where checkpoints lie: opening them again, after the handle before was dropped, finds what they held.
#[async_trait]
pub trait CheckpointPlace: Send + Sync {
    /// Opens the checkpoints, or creates them.
    async fn open(&self) -> Arc<dyn CheckpointStore>;
}

/// Runs the whole suite; `place` gives an empty place at each call.
pub async fn suite<P: CheckpointPlace>(place: impl Fn() -> P) {
    checkpoints_add_up(&*place().open().await).await;
    partitions_are_apart(&*place().open().await).await;
    discarding_leaves_nothing(&*place().open().await).await;
    reopening_keeps_everything(&place()).await;
}

fn marker(next_offset: u64) -> Progress {
    Progress { next_offset, time: Timestamp(-5), config_offset: 2, notifications_offset: u64::MAX }
}

fn checkpoint(partition: u32, next_offset: u64, users: &[(i64, Option<&[u8]>)]) -> Checkpoint {
    let users = users.iter().map(|(user, block)| (UserId(*user), block.map(<[u8]>::to_vec))).collect();
    Checkpoint { partition, users, partition_state: next_offset.to_string().into_bytes(), marker: marker(next_offset) }
}

/// Asserts what a partition restores to.
async fn expect(store: &dyn CheckpointStore, partition: u32, next_offset: u64, users: &[(i64, &[u8])]) {
    let restored = store.load(partition).await.unwrap().expect("it has a marker");
    assert_eq!(restored.marker, marker(next_offset));
    assert_eq!(restored.partition_state, next_offset.to_string().into_bytes());
    let expected: Vec<_> = users.iter().map(|(user, block)| (UserId(*user), block.to_vec())).collect();
    assert_eq!(restored.users, expected);
}

async fn checkpoints_add_up(store: &dyn CheckpointStore) {
    assert!(store.load(0).await.unwrap().is_none(), "nothing yet");
    store.write(checkpoint(0, 1, &[])).await.unwrap();
    expect(store, 0, 1, &[]).await;
    store.write(checkpoint(0, 2, &[(300, Some(b"c")), (-1, Some(b"")), (2, Some(b"b"))])).await.unwrap();
    expect(store, 0, 2, &[(-1, b""), (2, b"b"), (300, b"c")]).await;
    store.write(checkpoint(0, 3, &[(2, Some(b"b2")), (300, None), (9, None)])).await.unwrap();
    expect(store, 0, 3, &[(-1, b""), (2, b"b2")]).await;
    let large = vec![7; 3 << 20];
    store.write(checkpoint(0, 4, &[(2, Some(&large))])).await.unwrap();
    expect(store, 0, 4, &[(-1, b""), (2, &large)]).await;
}

async fn partitions_are_apart(store: &dyn CheckpointStore) {
    store.write(checkpoint(1, 10, &[(1, Some(b"one"))])).await.unwrap();
    store.write(checkpoint(256, 20, &[(1, Some(b"two"))])).await.unwrap();
    expect(store, 1, 10, &[(1, b"one")]).await;
    expect(store, 256, 20, &[(1, b"two")]).await;
    assert!(store.load(0).await.unwrap().is_none());
}

async fn discarding_leaves_nothing(store: &dyn CheckpointStore) {
    store.discard(0).await.unwrap();
    store.write(checkpoint(0, 1, &[(1, Some(b"old")), (2, Some(b"old"))])).await.unwrap();
    store.write(checkpoint(1, 1, &[(1, Some(b"kept"))])).await.unwrap();
    store.discard(0).await.unwrap();
    assert!(store.load(0).await.unwrap().is_none());
    expect(store, 1, 1, &[(1, b"kept")]).await;
    store.write(checkpoint(0, 5, &[(2, Some(b"new"))])).await.unwrap();
    expect(store, 0, 5, &[(2, b"new")]).await;
}

async fn reopening_keeps_everything(place: &impl CheckpointPlace) {
    let store = place.open().await;
    store.write(checkpoint(3, 1, &[(1, Some(b"a")), (2, Some(b"b"))])).await.unwrap();
    store.write(checkpoint(3, 2, &[(1, None)])).await.unwrap();
    drop(store);
    expect(&*place.open().await, 3, 2, &[(2, b"b")]).await;
}
