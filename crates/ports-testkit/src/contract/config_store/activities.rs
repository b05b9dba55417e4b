//! Activities and their links to segments.

use super::{Store, at, clause, code};
use ports::config_store::{ActivityChange, NewActivity, Page, SegmentKind};
use segment_engine::ids::SegmentId;

pub(super) async fn create_change_link_delete(store: Store) {
    let new = |code: &str| NewActivity { title: "Viewed".into(), description: None, code: code.to_owned() };
    let viewed = store.create_activity(new("page_viewed"), at(1)).await.unwrap();
    assert_eq!((viewed.id, viewed.created_at), (1, at(1)));
    let clicked = store.create_activity(new("clicked"), at(2)).await.unwrap();
    assert_eq!(code(store.create_activity(new("clicked"), at(2)).await.unwrap_err()), "CODE_TAKEN");
    assert_eq!(store.activity(1).await.unwrap(), Some(viewed.clone()));
    assert_eq!(store.activity_by_code("clicked").await.unwrap(), Some(clicked));
    assert_eq!(store.activity_by_code("nothing").await.unwrap(), None);
    assert_eq!(store.activities(Page { after: 1, limit: 5 }).await.unwrap().len(), 1);

    let change = ActivityChange { description: Some(Some("a page".into())), ..ActivityChange::default() };
    let changed = store.update_activity(1, change, at(3)).await.unwrap();
    assert_eq!((changed.title.as_str(), changed.description.as_deref()), ("Viewed", Some("a page")));
    assert_eq!(changed.updated_at, at(3));
    let taken = ActivityChange { code: Some("clicked".into()), ..ActivityChange::default() };
    assert_eq!(code(store.update_activity(1, taken, at(4)).await.unwrap_err()), "CODE_TAKEN");

    let segment = store.create_segment(clause("s", SegmentKind::Computed, &[]), at(5)).await.unwrap().id;
    for _ in 0..2 {
        store.link_activity(1, segment).await.expect("idempotent");
    }
    assert_eq!(store.activities_of(segment).await.unwrap(), [changed]);
    assert_eq!(code(store.link_activity(9, segment).await.unwrap_err()), "NOT_FOUND");
    assert_eq!(code(store.link_activity(1, SegmentId(9)).await.unwrap_err()), "NOT_FOUND");
    for _ in 0..2 {
        store.unlink_activity(1, segment).await.expect("idempotent");
    }
    assert_eq!(store.activities_of(segment).await.unwrap(), []);
    assert_eq!(code(store.activities_of(SegmentId(9)).await.unwrap_err()), "NOT_FOUND");

    store.link_activity(1, segment).await.unwrap();
    store.delete_activity(1).await.unwrap();
    assert_eq!(store.activities_of(segment).await.unwrap(), []);
    assert_eq!(code(store.delete_activity(1).await.unwrap_err()), "NOT_FOUND");
}
