//! The outbox: the records of each write.

use segment_engine::ids::{SegmentId, UserId};
use serde_json::{Value, json};

use super::{Store, at, clause, key, traits, user};
use ports::config_store::{IdentityKey, Link, OutboxEntry, SegmentChange, SegmentKind, Survivor, Unknown, UserChange};
use ports::log::Topic;

async fn records(store: &Store, after: u64) -> Vec<(Topic, i64, Value)> {
    let rows = store.outbox(after, 1_000).await.unwrap();
    assert!(rows.is_sorted_by_key(|row| row.id));
    rows.into_iter()
        .map(|row| (row.entry.topic, row.entry.key, serde_json::from_str(&row.entry.value).unwrap()))
        .collect()
}

fn segment(version: u64, clause: &str, manual: bool, id: i64, tag: &str) -> Value {
    json!({"type": "segment", "id": id, "tag": tag, "version": version, "where_statement": clause, "manual": manual})
}

pub(super) async fn records_every_change_in_order(store: Store) {
    assert_eq!(store.outbox_end().await.unwrap(), 0);
    user(&store, "x").await;
    user(&store, "y").await;
    let named = UserChange { name: Some(Some("N".into())), ..UserChange::default() };
    store.update_user(UserId(2), named, at(2)).await.unwrap();
    store.set_traits(UserId(1), traits(r#"{"plan": "pro"}"#), at(3)).await.unwrap();
    store.create_segment(clause("vip", SegmentKind::Manual, &[]), at(4)).await.unwrap();
    store.create_segment(clause("top", SegmentKind::Computed, &["vip"]), at(4)).await.unwrap();
    let title = SegmentChange { title: Some("T".into()), ..SegmentChange::default() };
    store.update_segment(SegmentId(2), title, at(5)).await.unwrap();
    let edit = SegmentChange { clause: Some((String::new(), Vec::new())), ..SegmentChange::default() };
    store.update_segment(SegmentId(2), edit, at(5)).await.unwrap();
    for _ in 0..2 {
        store.set_manual_memberships(UserId(2), &[SegmentId(1)], at(6)).await.unwrap();
    }
    store.attach_identity(UserId(1), key("cookie", "z"), at(7)).await.unwrap();
    let link = Link { from: key("c", "y"), to: key("c", "x"), survivor: Survivor::Older };
    store.link(link, at(8)).await.unwrap();
    store.delete_segment(SegmentId(2)).await.unwrap();
    store.delete_user(UserId(1)).await.unwrap();

    let created = |id: i64, client_id: &str, name: Value| {
        let user = json!({"type": "user", "user_id": id, "client_ref_id": client_id, "email": null, "name": name,
            "created_at": 1_000_000});
        (Topic::Events, id, user)
    };
    let list = json!({"version": 1, "segments": [1]});
    let merge = json!({"type": "merge", "user_id": 2, "survivor": 1, "manual": list});
    let expected = [
        created(1, "x", Value::Null),
        created(2, "y", Value::Null),
        created(2, "y", json!("N")),
        (Topic::Events, 1, json!({"type": "traits", "user_id": 1, "traits": {"plan": "pro"}, "created_at": 3_000_000})),
        (Topic::Config, 1, segment(1, "", true, 1, "vip")),
        (Topic::Config, 2, segment(1, "segment('vip')", false, 2, "top")),
        (Topic::Config, 2, segment(2, "", false, 2, "top")),
        (Topic::Events, 2, json!({"type": "manual", "user_id": 2, "version": 1, "segments": [1]})),
        (Topic::Events, 2, merge),
        (Topic::Config, 2, json!({"type": "segment_deleted", "id": 2})),
        (Topic::Events, 2, json!({"type": "delete", "user_id": 2})),
        (Topic::Events, 1, json!({"type": "delete", "user_id": 1})),
    ];
    assert_eq!(records(&store, 0).await, expected);
}

pub(super) async fn deletes_sent_rows(store: Store) {
    for id in ["a", "b", "c"] {
        user(&store, id).await;
    }
    let rows = store.outbox(0, 2).await.unwrap();
    assert_eq!(rows.len(), 2);
    let sent = rows[1].id;
    store.outbox_sent(sent).await.unwrap();
    assert_eq!(records(&store, sent).await.len(), 1);
    let end = store.outbox_end().await.unwrap();
    for _ in 0..2 {
        store.outbox_sent(end).await.unwrap();
    }
    assert_eq!(records(&store, end).await, []);
    assert_eq!(store.outbox_end().await.unwrap(), end, "the end stays after its rows are deleted");
    user(&store, "d").await;
    assert_eq!(store.outbox(end, 9).await.unwrap()[0].id, store.outbox_end().await.unwrap());
    assert!(store.outbox_end().await.unwrap() > end);
}

pub(super) async fn has_an_entry_for_each_of_many_new_users(store: Store) {
    user(&store, "x").await;
    let keys: Vec<IdentityKey> = (0..30).map(|number| key("cookie", &number.to_string())).collect();
    let created = store.resolve(&keys, Unknown::Create, at(5)).await.unwrap();
    assert_eq!(created.entries.end - created.entries.start, 30);
    assert_eq!(store.outbox_end().await.unwrap() + 1, created.entries.end);
    let none = store.resolve(&keys, Unknown::Create, at(6)).await.unwrap().entries;
    assert!(none.is_empty());
    user(&store, "y").await;
    let expected: Vec<OutboxEntry> = created.created.iter().map(OutboxEntry::user).collect();
    // A page may end between two of them, and so may what was sent.
    let (mut found, mut after) = (Vec::new(), created.entries.start - 1);
    while found.len() < 30 {
        let page = store.outbox(after, 7).await.unwrap();
        assert_eq!(page.len(), 7.min(31 - found.len()));
        assert!(page.iter().map(|row| row.id).eq(after + 1..=after + page.len() as u64));
        after += page.len() as u64;
        found.extend(page.into_iter().map(|row| row.entry));
        store.outbox_sent(after.min(created.entries.end - 1)).await.unwrap();
    }
    assert_eq!(found[..30], expected);
    assert_eq!(records(&store, created.entries.end - 1).await.len(), 1, "user y");
}

pub(super) async fn records_nothing_of_refused_writes(store: Store) {
    user(&store, "a").await;
    let end = store.outbox_end().await.unwrap();
    let taken = ports::config_store::NewUser { client_ref_id: Some("a".into()), ..Default::default() };
    store.create_user(taken, at(2)).await.unwrap_err();
    store.create_segment(clause("s", SegmentKind::Computed, &["unknown"]), at(2)).await.unwrap_err();
    store.delete_user(UserId(7)).await.unwrap_err();
    store.set_manual_memberships(UserId(1), &[SegmentId(4)], at(2)).await.unwrap();
    assert_eq!(store.outbox_end().await.unwrap(), end);
}
