//! The suite of the checkpoint port.

use std::sync::Arc;

use async_trait::async_trait;
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;

use Generation::{Kept, Latest};
use ports::checkpoints::{Checkpoint, CheckpointStore, Generation};
use ports::log::Progress;

/// A place for one checkpoint store. Opening it again, after the previous handle was dropped, finds
/// what was stored.
#[async_trait]
pub trait CheckpointPlace: Send + Sync {
    /// Opens the store, or creates it.
    async fn open(&self) -> Arc<dyn CheckpointStore>;
}

/// Runs the whole suite; `place` returns an empty place at each call.
pub async fn suite<P: CheckpointPlace>(place: impl Fn() -> P) {
    checkpoints_add_up(&*place().open().await).await;
    added_blocks_count_when_the_checkpoint_is_written(&place()).await;
    a_whole_checkpoint_replaces_those_before(&place()).await;
    partitions_are_independent(&*place().open().await).await;
    discarding_leaves_nothing(&*place().open().await).await;
    a_kept_checkpoint_stays_as_it_was(&*place().open().await).await;
    falling_back_removes_the_latest(&*place().open().await).await;
    reopening_keeps_everything(&place()).await;
}

fn marker(next_offset: u64) -> Progress {
    Progress { next_offset, time: Timestamp(-5), behind: 2, notifications_offset: u64::MAX }
}

fn checkpoint(partition: u32, next_offset: u64, users: &[(i64, Option<&[u8]>)]) -> Checkpoint {
    let users = users.iter().map(|(user, block)| (UserId(*user), block.map(<[u8]>::to_vec))).collect();
    Checkpoint {
        partition: PartitionId(partition),
        users,
        is_whole: false,
        partition_state: next_offset.to_string().into_bytes(),
        marker: marker(next_offset),
    }
}

/// Asserts what the latest checkpoint of a partition restores.
async fn expect(store: &dyn CheckpointStore, partition: u32, next_offset: u64, users: &[(i64, &[u8])]) {
    expect_generation(store, partition, Latest, next_offset, users).await;
}

async fn expect_generation(
    store: &dyn CheckpointStore,
    partition: u32,
    generation: Generation,
    next_offset: u64,
    users: &[(i64, &[u8])],
) {
    assert_eq!(store.marker(PartitionId(partition), generation).await.unwrap(), Some(marker(next_offset)));
    let restored = store.load(PartitionId(partition), generation).await.unwrap().expect("it has a marker");
    assert_eq!(restored.marker, marker(next_offset));
    assert_eq!(restored.partition_state, next_offset.to_string().into_bytes());
    let expected: Vec<_> = users.iter().map(|(user, block)| (UserId(*user), block.to_vec())).collect();
    assert_eq!(restored.users, expected);
}

async fn checkpoints_add_up(store: &dyn CheckpointStore) {
    assert!(is_absent(store, 0, Latest).await, "nothing yet");
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

async fn added_blocks_count_when_the_checkpoint_is_written(place: &impl CheckpointPlace) {
    let add = async |store: &dyn CheckpointStore, partition: u32, users: &[(i64, Option<&[u8]>)]| {
        store.add(PartitionId(partition), checkpoint(0, 0, users).users).await.unwrap();
    };
    let store = place.open().await;
    add(&*store, 0, &[(1, Some(b"a")), (2, Some(b"b"))]).await;
    add(&*store, 1, &[(1, Some(b"other"))]).await;
    assert!(store.marker(PartitionId(0), Latest).await.unwrap().is_none(), "not written yet");
    add(&*store, 0, &[(3, Some(b"c")), (4, None)]).await;
    store.write(checkpoint(0, 1, &[(5, Some(b"e"))])).await.unwrap();
    let users: [(i64, &[u8]); 4] = [(1, b"a"), (2, b"b"), (3, b"c"), (5, b"e")];
    expect(&*store, 0, 1, &users).await;
    add(&*store, 0, &[(1, None), (6, Some(b"never written"))]).await;
    expect(&*store, 0, 1, &users).await;
    store.forget_added(PartitionId(0)).await.unwrap();
    store.write(checkpoint(0, 2, &[])).await.unwrap();
    expect(&*store, 0, 2, &users).await;
    add(&*store, 0, &[(1, None), (6, Some(b"never written"))]).await;
    drop(store);
    let store = place.open().await;
    store.forget_added(PartitionId(0)).await.unwrap();
    expect(&*store, 0, 2, &users).await;
    store.write(checkpoint(0, 3, &[])).await.unwrap();
    expect(&*store, 0, 3, &users).await;
}

async fn a_whole_checkpoint_replaces_those_before(place: &impl CheckpointPlace) {
    let store = place.open().await;
    let whole = |next_offset, users| Checkpoint { is_whole: true, ..checkpoint(0, next_offset, users) };
    store.write(whole(1, &[(1, Some(b"a")), (2, Some(b"b")), (3, Some(b"c"))])).await.unwrap();
    store.write(checkpoint(0, 2, &[(2, Some(b"b2")), (4, Some(b"d"))])).await.unwrap();
    expect(&*store, 0, 2, &[(1, b"a"), (2, b"b2"), (3, b"c"), (4, b"d")]).await;
    store.keep(PartitionId(0)).await.unwrap();
    let added = checkpoint(0, 0, &[(1, Some(b"a3"))]).users;
    store.add(PartitionId(0), added).await.unwrap();
    store.write(whole(3, &[(2, None), (4, Some(b"d"))])).await.unwrap();
    expect(&*store, 0, 3, &[(1, b"a3"), (4, b"d")]).await;
    expect_generation(&*store, 0, Kept, 2, &[(1, b"a"), (2, b"b2"), (3, b"c"), (4, b"d")]).await;
    store.write(checkpoint(0, 4, &[(4, None)])).await.unwrap();
    store.write(whole(5, &[])).await.unwrap();
    store.write(checkpoint(0, 6, &[(5, Some(b"e"))])).await.unwrap();
    drop(store);
    let store = place.open().await;
    expect(&*store, 0, 6, &[(5, b"e")]).await;
}

async fn partitions_are_independent(store: &dyn CheckpointStore) {
    store.write(checkpoint(1, 10, &[(1, Some(b"one"))])).await.unwrap();
    store.write(checkpoint(256, 20, &[(1, Some(b"two"))])).await.unwrap();
    expect(store, 1, 10, &[(1, b"one")]).await;
    expect(store, 256, 20, &[(1, b"two")]).await;
    assert!(is_absent(store, 0, Latest).await);
}

async fn discarding_leaves_nothing(store: &dyn CheckpointStore) {
    store.discard(PartitionId(0)).await.unwrap();
    store.write(checkpoint(0, 1, &[(1, Some(b"old")), (2, Some(b"old"))])).await.unwrap();
    store.write(checkpoint(1, 1, &[(1, Some(b"kept"))])).await.unwrap();
    store.discard(PartitionId(0)).await.unwrap();
    assert!(is_absent(store, 0, Latest).await);
    expect(store, 1, 1, &[(1, b"kept")]).await;
    store.write(checkpoint(0, 5, &[(2, Some(b"new"))])).await.unwrap();
    expect(store, 0, 5, &[(2, b"new")]).await;
}

async fn a_kept_checkpoint_stays_as_it_was(store: &dyn CheckpointStore) {
    assert_eq!(store.keep(PartitionId(0)).await.unwrap(), None, "there is nothing to keep");
    assert!(is_absent(store, 0, Kept).await);
    store.write(checkpoint(0, 1, &[(-1, Some(b"a")), (2, Some(b"b"))])).await.unwrap();
    store.write(checkpoint(1, 7, &[(2, Some(b"other"))])).await.unwrap();
    assert!(is_absent(store, 0, Kept).await, "writing does not keep a checkpoint");
    assert_eq!(store.keep(PartitionId(0)).await.unwrap(), Some(marker(1)));
    assert!(is_absent(store, 1, Kept).await, "partitions are independent");
    store.write(checkpoint(0, 2, &[(-1, None), (2, Some(b"b2")), (3, Some(b"c"))])).await.unwrap();
    expect_generation(store, 0, Kept, 1, &[(-1, b"a"), (2, b"b")]).await;
    expect(store, 0, 2, &[(2, b"b2"), (3, b"c")]).await;
    for next_offset in 3..6 {
        assert_eq!(
            store.keep(PartitionId(0)).await.unwrap(),
            Some(marker(next_offset - 1)),
            "replaces the one kept before"
        );
        expect_generation(store, 0, Kept, next_offset - 1, &[(2, b"b2"), (3, b"c")]).await;
        store.write(checkpoint(0, next_offset, &[])).await.unwrap();
    }
    let large = vec![7; 3 << 20];
    let many: Vec<(i64, Option<&[u8]>)> = (0..9).map(|user| (user, Some(&large[..]))).collect();
    store.write(checkpoint(0, 9, &many)).await.unwrap();
    store.keep(PartitionId(0)).await.unwrap();
    let users: Vec<(i64, &[u8])> = (0..9).map(|user| (user, &large[..])).collect();
    expect_generation(store, 0, Kept, 9, &users).await;
    store.discard(PartitionId(0)).await.unwrap();
    assert!(is_absent(store, 0, Latest).await && is_absent(store, 0, Kept).await, "discarded with the latest");
    store.write(checkpoint(0, 1, &[(5, Some(b"new"))])).await.unwrap();
    store.keep(PartitionId(0)).await.unwrap();
    expect_generation(store, 0, Kept, 1, &[(5, b"new")]).await;
}

async fn falling_back_removes_the_latest(store: &dyn CheckpointStore) {
    store.write(checkpoint(0, 1, &[(1, Some(b"a")), (2, Some(b"b"))])).await.unwrap();
    store.fall_back(PartitionId(0)).await.unwrap();
    expect(store, 0, 1, &[(1, b"a"), (2, b"b")]).await;
    store.keep(PartitionId(0)).await.unwrap();
    for _ in 0..2 {
        store.write(checkpoint(0, 4, &[(1, None), (2, Some(b"b2")), (3, Some(b"c"))])).await.unwrap();
        store.fall_back(PartitionId(0)).await.unwrap();
        expect(store, 0, 1, &[(1, b"a"), (2, b"b")]).await;
        expect_generation(store, 0, Kept, 1, &[(1, b"a"), (2, b"b")]).await;
    }
    store.write(checkpoint(0, 2, &[(3, Some(b"c"))])).await.unwrap();
    expect(store, 0, 2, &[(1, b"a"), (2, b"b"), (3, b"c")]).await;
}

async fn is_absent(store: &dyn CheckpointStore, partition: u32, generation: Generation) -> bool {
    store.load(PartitionId(partition), generation).await.unwrap().is_none()
        && store.marker(PartitionId(partition), generation).await.unwrap().is_none()
}

async fn reopening_keeps_everything(place: &impl CheckpointPlace) {
    let store = place.open().await;
    store.write(checkpoint(3, 1, &[(1, Some(b"a")), (2, Some(b"b"))])).await.unwrap();
    store.keep(PartitionId(3)).await.unwrap();
    store.write(checkpoint(3, 2, &[(1, None)])).await.unwrap();
    drop(store);
    let store = place.open().await;
    expect(&*store, 3, 2, &[(2, b"b")]).await;
    expect_generation(&*store, 3, Kept, 1, &[(1, b"a"), (2, b"b")]).await;
}
