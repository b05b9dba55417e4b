//! Segments, and the tags that their clauses may name.

use super::{Store, at, clause, code};
use ports::config_store::{ConfigStoreError, NewActivity, NewSegment, Page, SegmentChange, SegmentKind};
use segment_engine::ids::{SegmentId, SegmentVersion};

fn uses(tag: &str) -> SegmentChange {
    SegmentChange { clause: Some((format!("segment('{tag}')"), vec![tag.to_owned()])), ..SegmentChange::default() }
}

pub(super) async fn create_change_delete(store: Store) {
    let created = store.create_segment(clause("a", SegmentKind::Computed, &[]), at(1)).await.unwrap();
    assert_eq!((created.id, created.version), (SegmentId(1), SegmentVersion(1)));
    assert_eq!(store.segment(SegmentId(1)).await.unwrap(), Some(created.clone()));
    assert_eq!(store.segment_by_tag("a").await.unwrap(), Some(created));
    assert_eq!(store.segment_by_tag("b").await.unwrap(), None);
    let again = clause("a", SegmentKind::Manual, &[]);
    assert_eq!(code(store.create_segment(again, at(2)).await.unwrap_err()), "TAG_TAKEN");

    let titled = SegmentChange { title: Some("A".into()), is_generic: Some(true), ..SegmentChange::default() };
    let titled = store.update_segment(SegmentId(1), titled, at(3)).await.unwrap();
    assert_eq!(
        (titled.title.as_str(), titled.is_generic, titled.version),
        ("A", true, SegmentVersion(1)),
        "means the same"
    );
    let edited = SegmentChange { clause: Some(("count(*) > 1".into(), Vec::new())), ..SegmentChange::default() };
    let edited = store.update_segment(SegmentId(1), edited, at(4)).await.unwrap();
    assert_eq!((edited.version, edited.where_statement.as_str()), (SegmentVersion(2), "count(*) > 1"));
    let retagged = SegmentChange { tag: Some("b".into()), ..SegmentChange::default() };
    let retagged = store.update_segment(SegmentId(1), retagged, at(5)).await.unwrap();
    assert_eq!((retagged.version, retagged.created_at, retagged.updated_at), (SegmentVersion(3), at(1), at(5)));
    assert_eq!(store.segments(Page::ALL).await.unwrap(), [retagged]);
    assert_eq!(store.count_segments().await.unwrap(), 1);

    store.delete_segment(SegmentId(1)).await.unwrap();
    assert_eq!(store.segment(SegmentId(1)).await.unwrap(), None);
    assert_eq!(code(store.delete_segment(SegmentId(1)).await.unwrap_err()), "NOT_FOUND");
    assert_eq!(
        code(store.update_segment(SegmentId(1), SegmentChange::default(), at(6)).await.unwrap_err()),
        "NOT_FOUND"
    );
    let next = store.create_segment(clause("b", SegmentKind::Manual, &[]), at(7)).await.unwrap();
    assert_eq!((next.id, next.kind), (SegmentId(2), SegmentKind::Manual), "ids are never reused");
}

pub(super) async fn tags_in_use_stay(store: Store) {
    for tag in ["base", "other"] {
        store.create_segment(clause(tag, SegmentKind::Computed, &[]), at(1)).await.unwrap();
    }
    let top = store.create_segment(clause("top", SegmentKind::Computed, &["other", "base"]), at(2)).await.unwrap();
    assert_eq!(store.segment(top.id).await.unwrap().unwrap().uses, ["base", "other"]);
    let Err(ConfigStoreError::Conflict { code: found, message }) = store.delete_segment(SegmentId(1)).await else {
        panic!("a segment in use was deleted")
    };
    assert_eq!(found.as_str(), "SEGMENT_IN_USE");
    assert!(message.contains("'top'"), "{message}");
    let retag = SegmentChange { tag: Some("new".into()), ..SegmentChange::default() };
    assert_eq!(code(store.update_segment(SegmentId(1), retag.clone(), at(3)).await.unwrap_err()), "SEGMENT_IN_USE");
    store.update_segment(top.id, uses("other"), at(4)).await.unwrap();
    store.update_segment(SegmentId(1), retag, at(5)).await.unwrap();
    store.delete_segment(top.id).await.unwrap();
    store.delete_segment(SegmentId(2)).await.unwrap();
}

pub(super) async fn cycles_are_refused(store: Store) {
    let unknown = clause("a", SegmentKind::Computed, &["nobody"]);
    assert_eq!(code(store.create_segment(unknown, at(1)).await.unwrap_err()), "UNKNOWN_SEGMENT");
    let own = clause("a", SegmentKind::Computed, &["a"]);
    assert_eq!(code(store.create_segment(own, at(1)).await.unwrap_err()), "SEGMENT_CYCLE");
    for (tag, named) in [("a", None), ("b", Some("a")), ("c", Some("b")), ("d", Some("c"))] {
        let new = clause(tag, SegmentKind::Computed, named.as_slice());
        store.create_segment(new, at(2)).await.unwrap();
    }
    let Err(ConfigStoreError::Invalid { code, message }) = store.update_segment(SegmentId(1), uses("d"), at(3)).await
    else {
        panic!("a cycle was accepted")
    };
    assert_eq!(code.as_str(), "SEGMENT_CYCLE");
    assert!(message.contains("a -> d -> c -> b -> a"), "{message}");
    assert_eq!(store.segment(SegmentId(1)).await.unwrap().unwrap().version, SegmentVersion(1));
}

pub(super) async fn a_new_tag_and_a_new_clause_are_checked_together(store: Store) {
    store.create_segment(clause("x", SegmentKind::Computed, &[]), at(1)).await.unwrap();
    let cases = [("x", "UNKNOWN_SEGMENT", "'x'"), ("y", "SEGMENT_CYCLE", "y -> y")];
    for (named, expected, shown) in cases {
        let retag = SegmentChange { tag: Some("y".into()), ..uses(named) };
        let Err(ConfigStoreError::Invalid { code, message }) = store.update_segment(SegmentId(1), retag, at(2)).await
        else {
            panic!("y was allowed to name segment('{named}')")
        };
        assert_eq!(code.as_str(), expected);
        assert!(message.contains(shown), "{message}");
    }
    let kept = store.segment(SegmentId(1)).await.unwrap().unwrap();
    assert_eq!((kept.tag.as_str(), kept.version, kept.uses), ("x", SegmentVersion(1), Vec::new()));
    store.create_segment(clause("z", SegmentKind::Computed, &[]), at(3)).await.unwrap();
    let retag = SegmentChange { tag: Some("y".into()), ..uses("z") };
    assert_eq!(store.update_segment(SegmentId(1), retag, at(4)).await.unwrap().uses, ["z"]);
}

pub(super) async fn generic_and_linked_segments_are_listed(store: Store) {
    let activity = NewActivity { title: "t".into(), description: None, code: "viewed".into() };
    let activity = store.create_activity(activity, at(1)).await.unwrap().id;
    for (tag, is_generic) in [("plain", false), ("generic", true), ("linked", false)] {
        let new = NewSegment { is_generic, ..clause(tag, SegmentKind::Computed, &[]) };
        store.create_segment(new, at(1)).await.unwrap();
    }
    store.link_activity(activity, SegmentId(2)).await.unwrap();
    store.link_activity(activity, SegmentId(3)).await.unwrap();
    for (code, expected) in [("viewed", vec!["generic", "linked"]), ("unknown", vec!["generic"])] {
        let tags: Vec<String> = store.generics_and_by(code).await.unwrap().into_iter().map(|s| s.tag).collect();
        assert_eq!(tags, expected, "{code}");
    }
}
