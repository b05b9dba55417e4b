//! Ids: none is assigned twice.

use segment_engine::ids::{SegmentId, UserId};

use super::{Store, at, clause, user};
use ports::config_store::{LastIds, OutboxEntry, SegmentKind};

pub(super) async fn last_ids_count_deleted_rows(store: Store) {
    assert_eq!(store.last_ids().await.unwrap(), LastIds::default());
    user(&store, "a").await;
    let two = user(&store, "b").await.id;
    store.create_segment(clause("one", SegmentKind::Computed, &[]), at(1)).await.unwrap();
    let outbox = store.outbox_end().await.unwrap();
    assert_eq!(store.last_ids().await.unwrap(), LastIds { user: 2, segment: 1, outbox });
    store.delete_user(two).await.unwrap();
    store.delete_segment(SegmentId(1)).await.unwrap();
    let outbox = store.outbox_end().await.unwrap();
    assert_eq!(store.last_ids().await.unwrap(), LastIds { user: 2, segment: 1, outbox }, "deleted rows count");
    store.outbox_sent(outbox).await.unwrap();
    assert_eq!(store.last_ids().await.unwrap().outbox, outbox);
}

pub(super) async fn ids_go_on_after_lost_rows(store: Store) {
    user(&store, "a").await;
    let lost = LastIds { user: 40, segment: 7, outbox: 100 };
    let entry = OutboxEntry::segment_deleted(SegmentId(3));
    store.go_on_after(lost, vec![entry.clone()]).await.unwrap();
    assert_eq!(store.last_ids().await.unwrap(), LastIds { outbox: 101, ..lost });
    assert_eq!(store.outbox_end().await.unwrap(), 101);
    let rows = store.outbox(100, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| (row.id, &row.entry)).collect::<Vec<_>>(), [(101, &entry)]);
    assert_eq!(user(&store, "b").await.id, UserId(41));
    assert_eq!(store.create_segment(clause("one", SegmentKind::Computed, &[]), at(1)).await.unwrap().id, SegmentId(8));

    store.go_on_after(lost, vec![]).await.unwrap();
    let last = store.last_ids().await.unwrap();
    assert_eq!((last.user, last.segment, last.outbox), (41, 8, 103), "greater ids stay");
    assert_eq!(store.user(UserId(1)).await.unwrap().unwrap().client_ref_id.as_deref(), Some("a"), "rows stay");
}
