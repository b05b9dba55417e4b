//! Identities and merges.

use segment_engine::ids::UserId;

use super::{Store, at, code, key, traits, user};
use ports::config_store::{
    Attached, Identity, IdentityKey, Link, NewUser, Page, Resolution, Survivor, Unknown, UserChange,
};

fn link(from: IdentityKey, to: IdentityKey, survivor: Survivor) -> Link {
    Link { from, to, survivor }
}

async fn owner(store: &Store, id_type: &str, id: &str) -> Option<i64> {
    let resolution = store.resolve(&[key(id_type, id)], Unknown::Reject, at(9)).await.unwrap();
    resolution.owners[0].map(|user| user.0)
}

pub(super) async fn the_pair_decides_before_the_client_id(store: Store) {
    let first = user(&store, "x").await.id;
    let second = user(&store, "y").await.id;
    store.attach_identity(second, key("cookie", "z"), at(2)).await.unwrap();
    let keys = [key("cookie", "x"), key("cookie", "z"), key("email", "z"), key("", "y"), key("cookie", "x")];
    let expected = [Some(first), Some(second), None, Some(second), Some(first)];
    for _ in 0..2 {
        assert_eq!(store.resolve(&keys, Unknown::Reject, at(3)).await.unwrap().owners, expected);
    }
    let pairs: Vec<IdentityKey> = store.identities(first).await.unwrap().into_iter().map(|own| own.key).collect();
    assert_eq!(pairs, [key("cookie", "x")], "the user got the pair");
    // From now on the pair decides, not the client id.
    let change = UserChange { client_ref_id: Some(Some("other".into())), ..Default::default() };
    store.update_user(first, change, at(4)).await.unwrap();
    assert_eq!(owner(&store, "cookie", "x").await, Some(1));
    // That an identity is unknown is not stored.
    assert_eq!(owner(&store, "cookie", "late").await, None);
    user(&store, "late").await;
    assert_eq!(owner(&store, "cookie", "late").await, Some(3));
    assert_eq!(store.resolve(&[], Unknown::Create, at(5)).await.unwrap(), Resolution::default());
}

pub(super) async fn unknown_identities_become_users(store: Store) {
    let keys = [key("cookie", "a"), key("email", "a"), key("cookie", "a")];
    let first = store.resolve(&keys, Unknown::Create, at(1)).await.unwrap();
    assert_eq!(first.created.iter().map(|user| user.id.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(first.owners, [Some(UserId(1)), Some(UserId(2)), Some(UserId(1))]);
    let again = store.resolve(&keys, Unknown::Create, at(2)).await.unwrap();
    assert_eq!((again.owners, again.created), (first.owners, Vec::new()));
    let found = store.user_by_client_id("a").await.unwrap().unwrap();
    assert_eq!((found.id, found.client_id()), (UserId(1), Some("a")), "the oldest with that identity");
    // Equal ids of different types can belong to different people. So the id does not become the
    // client id, which matches ids of every type.
    assert_eq!(found.client_ref_id, None);
    let listed = store.users(Page::ALL).await.unwrap();
    assert_eq!(listed.iter().map(|user| user.client_id()).collect::<Vec<_>>(), [Some("a"), Some("a")]);
    store.attach_identity(UserId(1), key("account", "0"), at(3)).await.unwrap();
    assert_eq!(store.user(UserId(1)).await.unwrap().unwrap().client_id(), Some("a"), "the first identity stays");
    let change = UserChange { client_ref_id: Some(Some("own".into())), ..UserChange::default() };
    assert_eq!(store.update_user(UserId(1), change, at(4)).await.unwrap().user.client_id(), Some("own"));
    let change = UserChange { client_ref_id: Some(None), ..UserChange::default() };
    assert_eq!(store.update_user(UserId(1), change, at(5)).await.unwrap().user.client_id(), Some("a"));
    assert_eq!(store.users(Page::ALL).await.unwrap().len(), 2);
}

pub(super) async fn many_unknown_identities_become_users(store: Store) {
    let known = user(&store, "x").await.id;
    // Some are known, some come twice, in another spelling too, and some are spelled with capitals.
    let one = |number: usize| match number % 13 {
        0 => key("any", "x"),
        1 => key("email", &format!("U{}@x", number / 26)),
        2 => key("email", &format!("u{}@X", number / 26)),
        _ => key(["cookie", "", "é\u{0}"][number % 3], &format!("{number}\u{0}'")),
    };
    let keys: Vec<IdentityKey> = (0..1_300).map(one).collect();
    let created = store.resolve(&keys, Unknown::Create, at(2)).await.unwrap();
    let mut expected: Vec<(IdentityKey, UserId)> = vec![(key("any", "x"), known)];
    let mut owners = Vec::new();
    for key in &keys {
        let form = |key: &IdentityKey| match key.id_type == "email" {
            true => key.id.to_lowercase(),
            false => key.id.clone(),
        };
        let same = expected.iter().find(|(own, _)| own.id_type == key.id_type && form(own) == form(key));
        let owner = same.map_or(UserId(expected.len() as i64 + 1), |(_, owner)| *owner);
        if same.is_none() {
            expected.push((key.clone(), owner));
        }
        owners.push(Some(owner));
    }
    assert_eq!(expected.len(), 1 + 1_000 + 50);
    assert_eq!(created.owners, owners);
    assert_eq!(created.created.len(), 1_050);
    assert!(created.created.iter().map(|user| user.id.0).eq(2..=1_051));
    assert_eq!(store.resolve(&keys, Unknown::Create, at(3)).await.unwrap().created, []);
    for (key, owner) in expected.iter().step_by(7) {
        let own = store.identities(*owner).await.unwrap();
        assert_eq!(own.into_iter().map(|own| own.key).collect::<Vec<_>>(), std::slice::from_ref(key));
    }
    assert_eq!(user(&store, "y").await.id, UserId(1_052));
}

pub(super) async fn what_is_known_is_true(store: Store) {
    let known = |key: IdentityKey| store.known(&key.id_type, &key.id).map(|user| user.0);
    let (one, two) = (user(&store, "x").await.id, user(&store, "y").await.id);
    assert_eq!(known(key("cookie", "x")), None, "the user has the client id, but not the pair yet");
    assert_eq!(owner(&store, "cookie", "x").await, Some(one.0));
    store.attach_identity(two, key("email", "Ann@x"), at(2)).await.unwrap();
    store.resolve(&[key("cookie", "new")], Unknown::Create, at(2)).await.unwrap();
    // What is known may be nothing, but not something else.
    let is = |key: IdentityKey, owner: Option<i64>| {
        let known = known(key.clone());
        assert!(known.is_none() || known == owner, "{key}: {known:?}, not {owner:?}");
    };
    is(key("cookie", "x"), Some(1));
    is(key("email", "aNN@x"), Some(2));
    is(key("cookie", "new"), Some(3));
    is(key("cookie", "NEW"), None);
    is(key("", "new"), None);
    store.link(link(key("cookie", "new"), key("cookie", "x"), Survivor::To), at(3)).await.unwrap();
    is(key("cookie", "new"), Some(1));
    let change = UserChange { email: Some(Some("bob@x".into())), ..UserChange::default() };
    store.update_user(two, change, at(4)).await.unwrap();
    is(key("email", "ann@x"), None);
    is(key("email", "Bob@x"), Some(2));
    store.delete_user(one).await.unwrap();
    for gone in [key("cookie", "x"), key("cookie", "new")] {
        is(gone.clone(), None);
        assert_eq!(owner(&store, &gone.id_type, &gone.id).await, None);
    }
    assert_eq!(owner(&store, "email", "bob@x").await, Some(2));
    user(&store, "new").await;
    assert_eq!(owner(&store, "cookie", "new").await, Some(4), "an identity of a deleted user is free");
}

pub(super) async fn attach_conflicts(store: Store) {
    let (one, two) = (user(&store, "x").await.id, user(&store, "y").await.id);
    let given = store.attach_identity(one, key("email", "a@b.c"), at(2)).await.unwrap();
    let expected = Identity { key: key("email", "a@b.c"), user_id: one, created_at: at(2) };
    assert_eq!(given, Attached::New(expected.clone()));
    let again = store.attach_identity(one, key("email", "a@b.c"), at(3)).await.unwrap();
    assert_eq!(again, Attached::Known(expected), "idempotent");
    // So far only the client id said that the identity is this user's. Now it is stored.
    let own = store.attach_identity(one, key("cookie", "x"), at(3)).await.unwrap();
    assert!(matches!(own, Attached::New(_)), "{own:?}");
    let cases = [
        (two, key("email", "a@b.c"), "IDENTITY_TAKEN"),
        (two, key("cookie", "x"), "IDENTITY_TAKEN"),
        (one, key("email", "other@b.c"), "IDENTITY_EXCLUSIVE"),
        (UserId(9), key("cookie", "new"), "NOT_FOUND"),
    ];
    for (user, key, expected) in cases {
        assert_eq!(code(store.attach_identity(user, key, at(4)).await.unwrap_err()), expected);
    }
}

pub(super) async fn a_link_merges_once(store: Store) {
    let (old, new) = (user(&store, "x").await.id, user(&store, "y").await.id);
    store.set_traits(old, traits(r#"{"a": 1, "b": 1}"#), at(5)).await.unwrap();
    store.set_traits(new, traits(r#"{"a": 2, "b": 2}"#), at(5)).await.unwrap();
    store.set_traits(new, traits(r#"{"b": 3}"#), at(6)).await.unwrap();

    let both = link(key("cookie", "y"), key("cookie", "x"), Survivor::Older);
    let linked = store.link(both.clone(), at(7)).await.unwrap();
    assert_eq!((linked.user_id, linked.absorbed), (old, Some(new)));
    let sent = store.outbox_end().await.unwrap();
    let again = store.link(both, at(8)).await.unwrap();
    assert_eq!((again.user_id, again.absorbed), (old, None));
    assert_eq!(store.outbox_end().await.unwrap(), sent, "repeating a link changes nothing");

    let found = store.user(new).await.unwrap().unwrap();
    assert_eq!((found.id, found.merged_from), (old, Some(new)));
    let found = store.user_by_client_id("y").await.unwrap().unwrap();
    assert_eq!(found.id, old, "both client ids resolve to the survivor");
    assert_eq!(owner(&store, "email", "y").await, Some(old.0));
    let merged = store.traits(new).await.unwrap();
    let values: Vec<&str> = merged.values().map(|kept| kept.value.as_str()).collect();
    assert_eq!(values, ["1", "3"], "the newer wins, of two equally new the survivor's");
    let listed: Vec<UserId> = store.users(Page::ALL).await.unwrap().iter().map(|user| user.id).collect();
    assert_eq!((listed, store.count_users().await.unwrap()), (vec![old], 1));

    // If one side is unknown, it goes to the other's user. If both are unknown, there is no user to
    // give them to.
    let linked = store.link(link(key("fb", "1"), key("cookie", "y"), Survivor::From), at(9)).await.unwrap();
    assert_eq!((linked.user_id, linked.absorbed), (old, None));
    assert_eq!(owner(&store, "fb", "1").await, Some(old.0));
    let nobody = link(key("fb", "2"), key("fb", "3"), Survivor::Older);
    assert_eq!(code(store.link(nobody, at(9)).await.unwrap_err()), "NOT_FOUND");

    let mut deleted = store.delete_user(new).await.unwrap();
    deleted.sort_unstable();
    assert_eq!(deleted, [old, new], "the survivor and the absorbed user");
    assert_eq!((store.user(old).await.unwrap(), store.user(new).await.unwrap()), (None, None));
    assert_eq!(owner(&store, "cookie", "y").await, None);
    user(&store, "y").await;
}

pub(super) async fn chains_of_merges_stay_flat(store: Store) {
    for id in ["1", "2", "3"] {
        user(&store, id).await;
    }
    // 1 into 2, then 2 into 3; each call names the survivor.
    for (from, to) in [("1", "2"), ("2", "3")] {
        let linked = store.link(link(key("c", from), key("c", to), Survivor::To), at(2)).await.unwrap();
        assert_eq!(linked.user_id.0.to_string(), to);
    }
    // And back again: they are one user already.
    let back = link(key("c", "3"), key("c", "1"), Survivor::To);
    assert_eq!(store.link(back, at(3)).await.unwrap().absorbed, None);
    for id in [1, 2, 3] {
        assert_eq!(store.user(UserId(id)).await.unwrap().unwrap().id, UserId(3));
        assert_eq!(owner(&store, "c", &id.to_string()).await, Some(3));
    }
    assert_eq!(store.identities(UserId(1)).await.unwrap().len(), 3);
    let taken = NewUser { client_ref_id: Some("1".into()), ..NewUser::default() };
    assert_eq!(code(store.create_user(taken, at(4)).await.unwrap_err()), "CLIENT_REF_ID_TAKEN");
}

pub(super) async fn links_that_break_an_exclusive_type_are_refused(store: Store) {
    let (one, two) = (user(&store, "x").await.id, user(&store, "y").await.id);
    store.attach_identity(one, key("email", "a@b.c"), at(2)).await.unwrap();
    store.attach_identity(two, key("email", "d@e.f"), at(2)).await.unwrap();
    let cases = [
        link(key("cookie", "x"), key("cookie", "y"), Survivor::Older),
        link(key("email", "a@b.c"), key("email", "d@e.f"), Survivor::To),
        link(key("cookie", "x"), key("email", "new@e.f"), Survivor::Older),
    ];
    for refused in cases {
        assert_eq!(code(store.link(refused, at(3)).await.unwrap_err()), "IDENTITY_EXCLUSIVE");
    }
    assert_eq!(store.users(Page::ALL).await.unwrap().len(), 2);
}

pub(super) async fn types_that_are_not_exclusive_merge(store: Store) {
    let (one, two) = (user(&store, "x").await.id, user(&store, "y").await.id);
    store.attach_identity(one, key("email", "a@b.c"), at(2)).await.unwrap();
    store.attach_identity(two, key("email", "d@e.f"), at(2)).await.unwrap();
    let allowed = link(key("cookie", "x"), key("cookie", "y"), Survivor::Older);
    assert_eq!(store.link(allowed, at(4)).await.unwrap().absorbed, Some(two));
    assert_eq!(owner(&store, "email", "d@e.f").await, Some(one.0));
}
