//! Ids: none is given twice.

use segment_engine::event::UserId;

use super::{Store, at, clause, user};
use ports::config_store::{LastIds, OutboxEntry, SegmentKind};

pub(super) async fn begin_after_what_was_given(store: Store) {
    assert_eq!(store.last_ids().await.unwrap(), LastIds::default());
    user(&store, "a").await;
    let two = user(&store, "b").await.id;
    store.create_segment(clause("one", SegmentKind::Computed, &[]), at(1)).await.unwrap();
    let outbox = store.outbox_end().await.unwrap();
    assert_eq!(store.last_ids().await.unwrap(), LastIds { user: 2, segment: 1, outbox });
    store.delete_user(two).await.unwrap();
    store.delete_segment(1).await.unwrap();
    let outbox = store.outbox_end().await.unwrap();
    assert_eq!(store.last_ids().await.unwrap(), LastIds { user: 2, segment: 1, outbox }, "also those that are gone");
    store.outbox_sent(outbox).await.unwrap();
    assert_eq!(store.last_ids().await.unwrap().outbox, outbox);
}

pub(super) async fn go_on_after_what_was_lost(store: Store) {
    user(&store, "a").await;
    let lost = LastIds { user: 40, segment: 7, outbox: 100 };
    let told = OutboxEntry::segment_deleted(3);
    store.go_on_after(lost, vec![told.clone()]).await.unwrap();
    assert_eq!(store.last_ids().await.unwrap(), LastIds { outbox: 101, ..lost });
    assert_eq!(store.outbox_end().await.unwrap(), 101);
    let rows = store.outbox(100, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| (row.id, &row.entry)).collect::<Vec<_>>(), [(101, &told)]);
    assert_eq!(user(&store, "b").await.id, UserId(41));
    assert_eq!(store.create_segment(clause("one", SegmentKind::Computed, &[]), at(1)).await.unwrap().id, 8);

    store.go_on_after(lost, vec![]).await.unwrap();
    let last = store.last_ids().await.unwrap();
    assert_eq!((last.user, last.segment, last.outbox), (41, 8, 103), "where ids are further, they stay");
    assert_eq!(store.user(UserId(1)).await.unwrap().unwrap().client_ref_id.as_deref(), Some("a"), "rows stay");
}
