//! Users and traits.

use segment_engine::ids::UserId;

use super::{Store, at, code, key, traits, user};
use ports::config_store::{NewUser, Page, TRAITS_BYTES_MAX, TRAITS_MAX, UserChange};

pub(super) async fn create_read_change_delete(store: Store) {
    let new = NewUser { client_ref_id: Some("c1".into()), name: Some("Ada".into()), email: Some("a@b.c".into()) };
    let created = store.create_user(new, at(5)).await.unwrap();
    assert_eq!(created.id, UserId(1), "ids start at 1");
    assert_eq!((created.created_at, created.updated_at), (at(5), at(5)));
    assert_eq!(store.user(UserId(1)).await.unwrap(), Some(created.clone()));
    assert_eq!(store.user_by_client_id("c1").await.unwrap(), Some(created.clone()));
    assert_eq!(store.user_by_client_id("c2").await.unwrap(), None);
    assert_eq!(store.user(UserId(2)).await.unwrap(), None);

    let change = UserChange { name: Some(None), client_ref_id: Some(Some("c2".into())), email: None };
    let changed = store.update_user(UserId(1), change, at(6)).await.unwrap().user;
    assert_eq!((changed.name.as_deref(), changed.email.as_deref()), (None, Some("a@b.c")));
    assert_eq!((changed.client_ref_id.as_deref(), changed.updated_at), (Some("c2"), at(6)));
    assert_eq!(changed.created_at, at(5));
    assert_eq!(store.user(UserId(1)).await.unwrap(), Some(changed));
    assert_eq!(store.user_by_client_id("c1").await.unwrap(), None);

    store.attach_identity(UserId(1), key("cookie", "k"), at(7)).await.unwrap();
    assert_eq!(store.delete_user(UserId(1)).await.unwrap(), [UserId(1)]);
    assert_eq!(store.user(UserId(1)).await.unwrap(), None);
    assert_eq!(code(store.delete_user(UserId(1)).await.unwrap_err()), "NOT_FOUND");
    let change = UserChange::default();
    assert_eq!(code(store.update_user(UserId(1), change, at(8)).await.unwrap_err()), "NOT_FOUND");

    let next = user(&store, "c2").await;
    assert_eq!(next.id, UserId(2), "ids are never reused");
    store.attach_identity(UserId(2), key("cookie", "k"), at(9)).await.expect("the identity was freed");
    assert_eq!(store.count_users().await.unwrap(), 1);
}

pub(super) async fn unique_fields_conflict(store: Store) {
    let ada = NewUser { client_ref_id: Some("a".into()), name: None, email: Some("a@b.c".into()) };
    store.create_user(ada.clone(), at(1)).await.unwrap();
    let other = user(&store, "b").await;
    let cases = [
        (NewUser { email: None, ..ada.clone() }, "CLIENT_REF_ID_TAKEN"),
        (NewUser { client_ref_id: None, ..ada.clone() }, "EMAIL_TAKEN"),
    ];
    for (new, expected) in cases {
        assert_eq!(code(store.create_user(new.clone(), at(2)).await.unwrap_err()), expected);
        let change = UserChange { client_ref_id: new.client_ref_id.map(Some), email: new.email.map(Some), name: None };
        assert_eq!(code(store.update_user(other.id, change, at(2)).await.unwrap_err()), expected);
    }
    // A user may keep their own client id.
    let own = UserChange { client_ref_id: Some(Some("b".into())), ..UserChange::default() };
    store.update_user(other.id, own, at(3)).await.unwrap();
    // Absent fields do not conflict with each other.
    store.create_user(NewUser::default(), at(3)).await.unwrap();
    store.create_user(NewUser::default(), at(3)).await.unwrap();
}

pub(super) async fn ensure_creates_only_unknown_users(store: Store) {
    let new = |id: &str, email: &str| NewUser {
        client_ref_id: Some(id.to_owned()),
        name: None,
        email: Some(email.to_owned()),
    };
    store.create_user(new("a", "a@b.c"), at(1)).await.unwrap();
    let batch = vec![new("a", "other@b.c"), new("b", "a@b.c"), new("c", "c@b.c"), new("c", "d@b.c")];
    assert_eq!(store.ensure_users(batch.clone(), at(2)).await.unwrap(), 2);
    assert_eq!(store.ensure_users(batch, at(3)).await.unwrap(), 0);
    let emails: Vec<Option<String>> =
        store.users(Page::ALL).await.unwrap().into_iter().map(|user| user.email).collect();
    assert_eq!(emails, [Some("a@b.c".to_owned()), None, Some("c@b.c".to_owned())]);
    assert_eq!(code(store.ensure_users(vec![NewUser::default()], at(4)).await.unwrap_err()), "CLIENT_REF_ID_MISSING");
}

pub(super) async fn pages_cover_all_users_in_order(store: Store) {
    for id in ["a", "b", "c", "d", "e"] {
        user(&store, id).await;
    }
    store.delete_user(UserId(3)).await.unwrap();
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let page = store.users(Page { after, limit: 2 }).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.id.0;
        seen.extend(page.iter().map(|user| user.id.0));
    }
    assert_eq!(seen, [1, 2, 4, 5]);
}

pub(super) async fn the_newer_trait_wins(store: Store) {
    let id = user(&store, "a").await.id;
    store.set_traits(id, traits(r#"{"plan": "free", "seats": 3}"#), at(10)).await.unwrap();
    store.set_traits(id, traits(r#"{"plan": "pro", "seats": null}"#), at(20)).await.unwrap();
    // Arrives late: older than the traits of these keys, but one key is new.
    let late = traits(r#"{"plan": "trial", "seats": 1, "home": {"zip": "1"}}"#);
    let all = store.set_traits(id, late, at(15)).await.unwrap();
    let values: Vec<(&str, &str)> = all.iter().map(|(key, kept)| (key.as_str(), kept.value.as_str())).collect();
    assert_eq!(values, [("home", r#"{"zip": "1"}"#), ("plan", r#""pro""#), ("seats", "null")]);
    assert_eq!(store.traits(id).await.unwrap(), all);
    // With equal instants the later call wins.
    let all = store.set_traits(id, traits(r#"{"plan": "max"}"#), at(20)).await.unwrap();
    assert_eq!(all["plan"].value.as_str(), r#""max""#);
    assert_eq!(code(store.set_traits(UserId(9), traits("{}"), at(1)).await.unwrap_err()), "NOT_FOUND");
    assert_eq!(code(store.traits(UserId(9)).await.unwrap_err()), "NOT_FOUND");
}

pub(super) async fn traits_of_a_user_are_bounded(store: Store) {
    let id = user(&store, "a").await.id;
    let many = |prefix: &str, count: usize| {
        let text: Vec<String> = (0..count).map(|n| format!(r#""{prefix}{n}":1"#)).collect();
        traits(&format!("{{{}}}", text.join(",")))
    };
    store.set_traits(id, many("a", TRAITS_MAX - 1), at(1)).await.unwrap();
    let sent = store.outbox_end().await.unwrap();
    let refused = store.set_traits(id, many("b", 2), at(2)).await.unwrap_err();
    assert_eq!(code(refused), "TRAITS_FULL");
    assert_eq!(store.traits(id).await.unwrap().len(), TRAITS_MAX - 1, "none was set");
    assert_eq!(store.outbox_end().await.unwrap(), sent, "and nothing put into the outbox");
    store.set_traits(id, many("b", 1), at(3)).await.unwrap();
    store.set_traits(id, traits(r#"{"a0": 2, "a1": null}"#), at(4)).await.unwrap();
    assert_eq!(code(store.set_traits(id, many("c", 1), at(5)).await.unwrap_err()), "TRAITS_FULL");

    let id = user(&store, "b").await.id;
    let long = |bytes: usize| traits(&format!(r#"{{"x": "{}"}}"#, "y".repeat(bytes - 3)));
    store.set_traits(id, long(TRAITS_BYTES_MAX), at(1)).await.unwrap();
    assert_eq!(code(store.set_traits(id, long(TRAITS_BYTES_MAX + 1), at(2)).await.unwrap_err()), "TRAITS_FULL");
    assert_eq!(code(store.set_traits(id, traits(r#"{"z": 1}"#), at(2)).await.unwrap_err()), "TRAITS_FULL");
    store.set_traits(id, traits(r#"{"x": null, "z": 1}"#), at(3)).await.unwrap();
}

pub(super) async fn traits_are_kept_as_they_were_sent(store: Store) {
    let id = user(&store, "a").await.id;
    let sent = store.outbox_end().await.unwrap();
    let texts = ["19.90", "123456789012345678901234567890", r#"{"z": [1e2, -0], "a": 0.10}"#];
    let body = format!(r#"{{"a":{},"b":{},"c":{}}}"#, texts[0], texts[1], texts[2]);
    store.set_traits(id, traits(&body), at(10)).await.unwrap();
    let kept = store.traits(id).await.unwrap();
    assert_eq!(kept.values().map(|kept| kept.value.as_str()).collect::<Vec<_>>(), texts);
    let record = store.outbox(sent, 10).await.unwrap().pop().unwrap().entry.value;
    assert!(record.contains(&format!(r#""traits":{body}"#)), "{record}");
}
