//! A user's email is an identity, and emails compare without case.

use segment_engine::ids::UserId;
use serde_json::Value;

use super::{Store, at, code, key, user};
use ports::config_store::{
    Attached, Identity, IdentityKey, Link, NewUser, Page, Survivor, Unknown, UpdatedUser, User, UserChange,
};

fn new(client_id: Option<&str>, email: &str) -> NewUser {
    NewUser { client_ref_id: client_id.map(str::to_owned), name: None, email: Some(email.to_owned()) }
}

async fn with_email(store: &Store, client_id: &str, email: &str) -> User {
    store.create_user(new(Some(client_id), email), at(1)).await.unwrap()
}

async fn set_email(store: &Store, user: i64, email: Option<&str>) -> UpdatedUser {
    let change = UserChange { email: Some(email.map(str::to_owned)), ..UserChange::default() };
    store.update_user(UserId(user), change, at(5)).await.unwrap()
}

async fn refused_email(store: &Store, user: i64, email: &str) -> &'static str {
    let change = UserChange { email: Some(Some(email.to_owned())), ..UserChange::default() };
    code(store.update_user(UserId(user), change, at(5)).await.unwrap_err())
}

/// Returns the user that events with this email belong to.
async fn owner(store: &Store, email: &str) -> Option<i64> {
    let resolution = store.resolve(&[key("email", email)], Unknown::Reject, at(9)).await.unwrap();
    resolution.owners[0].map(|user| user.0)
}

/// Returns the identities of a user in their first spelling.
async fn identities(store: &Store, user: i64) -> Vec<String> {
    let own = store.identities(UserId(user)).await.unwrap();
    own.into_iter().map(|identity| identity.key.to_string()).collect()
}

pub(super) async fn are_identities(store: Store) {
    let ann = with_email(&store, "crm-7", "ann@x").await;
    let own = store.identities(ann.id).await.unwrap();
    assert_eq!(own, [Identity { key: key("email", "ann@x"), user_id: ann.id, created_at: at(1) }]);
    assert_eq!(owner(&store, "ann@x").await, Some(1));
    let created = store.resolve(&[key("email", "ann@x")], Unknown::Create, at(2)).await.unwrap();
    assert_eq!((created.owners, created.created), (vec![Some(ann.id)], Vec::new()), "no second person");
    assert_eq!(store.user_by_client_id("ann@x").await.unwrap(), Some(ann.clone()));
    // A user without a client id is shown by their email.
    let nameless = store.create_user(new(None, "bob@x"), at(3)).await.unwrap();
    assert_eq!((nameless.client_ref_id.as_deref(), nameless.client_id()), (None, Some("bob@x")));
    assert_eq!(store.user(nameless.id).await.unwrap(), Some(nameless));
    let other = user(&store, "other").await.id;
    let taken = store.attach_identity(other, key("email", "ann@x"), at(4)).await.unwrap_err();
    assert_eq!(code(taken), "IDENTITY_TAKEN");
    let second = store.attach_identity(ann.id, key("email", "second@x"), at(4)).await.unwrap_err();
    assert_eq!(code(second), "IDENTITY_EXCLUSIVE");
    // A link of a cookie to the email merges the visitor into the user with that email.
    let link = Link { from: key("cookie", "k"), to: key("email", "ann@x"), survivor: Survivor::Older };
    assert_eq!(store.link(link, at(5)).await.unwrap().user_id, ann.id);
    assert_eq!(identities(&store, 1).await, ["cookie:k", "email:ann@x"]);
}

pub(super) async fn come_before_or_after_their_events(store: Store) {
    // The event comes first. Creating a second user names the event's user, which can then be given
    // the rest.
    let seen = store.resolve(&[key("email", "ann@x")], Unknown::Create, at(1)).await.unwrap().created[0].id;
    let error = store.create_user(new(Some("crm-7"), "ann@x"), at(2)).await.unwrap_err();
    assert!(error.to_string().contains(&format!("belongs to user {seen}")), "{error}");
    assert_eq!(code(error), "EMAIL_TAKEN");
    let change = UserChange {
        client_ref_id: Some(Some("crm-7".into())),
        email: Some(Some("ann@x".into())),
        name: Some(Some("Ann".into())),
    };
    let ann = store.update_user(seen, change, at(3)).await.unwrap();
    assert_eq!((ann.user.email.as_deref(), ann.freed), (Some("ann@x"), Vec::new()));
    assert_eq!(identities(&store, seen.0).await, ["email:ann@x"]);
    // An equal client id matches identities of every type, emails too.
    let login = user(&store, "bob@x").await.id;
    let error = store.create_user(new(Some("crm-8"), "bob@x"), at(4)).await.unwrap_err();
    assert!(error.to_string().contains(&format!("belongs to user {login}")), "{error}");
    assert_eq!(code(error), "EMAIL_TAKEN");
    set_email(&store, login.0, Some("bob@x")).await;
    assert_eq!(store.users(Page::ALL).await.unwrap().len(), 2);
}

pub(super) async fn change_and_are_freed(store: Store) {
    with_email(&store, "a", "old@x").await;
    let other = with_email(&store, "b", "other@x").await.id;
    let changed = set_email(&store, 1, Some("new@x")).await;
    assert_eq!(changed.freed, [key("email", "old@x")]);
    assert_eq!((owner(&store, "old@x").await, owner(&store, "new@x").await), (None, Some(1)));
    assert_eq!(identities(&store, 1).await, ["email:new@x"]);
    assert_eq!(refused_email(&store, 1, "other@x").await, "EMAIL_TAKEN");
    assert_eq!(identities(&store, 1).await, ["email:new@x"], "a refused change changes nothing");
    // Another user can take the old email.
    set_email(&store, other.0, Some("old@x")).await;
    assert_eq!(owner(&store, "old@x").await, Some(other.0));
    // A change of other fields leaves the email alone.
    let named = UserChange { name: Some(Some("N".into())), ..UserChange::default() };
    assert_eq!(store.update_user(UserId(1), named, at(6)).await.unwrap().freed, []);
    assert_eq!(set_email(&store, 1, Some("new@x")).await.freed, [], "the same again");
    assert_eq!(owner(&store, "new@x").await, Some(1));
    assert_eq!(set_email(&store, 1, None).await.freed, [key("email", "new@x")]);
    assert_eq!((owner(&store, "new@x").await, identities(&store, 1).await), (None, Vec::new()));
    assert_eq!(set_email(&store, 1, None).await.freed, []);
    // A user can have only one email, so a new one also replaces an email that came as an identity.
    store.attach_identity(UserId(1), key("email", "seen@x"), at(7)).await.unwrap();
    store.attach_identity(UserId(1), key("cookie", "seen@x"), at(7)).await.unwrap();
    assert_eq!(set_email(&store, 1, None).await.freed, [], "the user had no email to lose");
    assert_eq!(set_email(&store, 1, Some("new@x")).await.freed, [key("email", "seen@x")]);
    assert_eq!(identities(&store, 1).await, ["cookie:seen@x", "email:new@x"]);
    // A deleted user's email is free.
    store.delete_user(UserId(1)).await.unwrap();
    assert_eq!(owner(&store, "new@x").await, None);
    assert_eq!(with_email(&store, "a", "new@x").await.id, UserId(3));
    assert_eq!(owner(&store, "new@x").await, Some(3));
}

pub(super) async fn compare_without_case(store: Store) {
    let ann = with_email(&store, "a", "Ann@Exämple.com").await;
    assert_eq!(ann.email.as_deref(), Some("Ann@Exämple.com"));
    let spellings = ["Ann@Exämple.com", "ann@exämple.com", "ANN@EXÄMPLE.COM"];
    for spelling in spellings {
        assert_eq!(owner(&store, spelling).await, Some(1), "{spelling}");
        assert_eq!(store.user_by_client_id(spelling).await.unwrap().map(|user| user.id), Some(ann.id), "{spelling}");
        assert_eq!(code(store.create_user(new(None, spelling), at(2)).await.unwrap_err()), "EMAIL_TAKEN", "{spelling}");
        let again = store.attach_identity(ann.id, key("email", spelling), at(3)).await.unwrap();
        let first = Identity { key: key("email", "Ann@Exämple.com"), user_id: ann.id, created_at: at(1) };
        assert_eq!(again, Attached::Known(first), "{spelling}");
        let link = Link { from: key("email", spelling), to: key("cookie", "k"), survivor: Survivor::Older };
        assert_eq!(store.link(link, at(4)).await.unwrap().user_id, ann.id, "{spelling}");
    }
    assert_eq!(identities(&store, 1).await, ["cookie:k", "email:Ann@Exämple.com"]);
    // Blanks are part of an id, and other types and client ids compare exactly.
    assert_eq!(owner(&store, " ann@exämple.com").await, None);
    assert_eq!(owner(&store, "A").await, None, "client ids compare exactly");
    let cookies = store.resolve(&[key("cookie", "K"), key("cookie", "k")], Unknown::Reject, at(5)).await.unwrap();
    assert_eq!(cookies.owners, [None, Some(ann.id)]);
    // Another spelling is the same email; the last spelling is kept.
    let respelled = set_email(&store, 1, Some("ann@exämple.com")).await;
    assert_eq!((respelled.user.email.as_deref(), respelled.freed), (Some("ann@exämple.com"), Vec::new()));
    assert_eq!(identities(&store, 1).await, ["cookie:k", "email:ann@exämple.com"]);
    assert_eq!(set_email(&store, 1, Some("Ann@y")).await.freed, [key("email", "ann@exämple.com")]);
    store.delete_user(ann.id).await.unwrap();
    assert_eq!((owner(&store, "ann@y").await, owner(&store, "Ann@y").await), (None, None));
}

pub(super) async fn are_found_in_any_spelling_of_a_batch(store: Store) {
    let keys = [key("email", "Ann@x"), key("email", "ann@x"), key("cookie", "Ann@x"), key("cookie", "ann@x")];
    let made = store.resolve(&keys, Unknown::Create, at(1)).await.unwrap();
    assert_eq!(made.owners.iter().map(|owner| owner.unwrap().0).collect::<Vec<_>>(), [1, 1, 2, 3]);
    assert_eq!(made.created[0].client_id(), None, "filled in only when the user is read");
    assert_eq!(store.user(UserId(1)).await.unwrap().unwrap().client_id(), Some("Ann@x"), "as first written");
    // One spelling is a user's client id. That user is found, wherever in the batch the spelling
    // comes.
    user(&store, "Bob@x").await;
    let keys = [key("email", "bob@x"), key("email", "Bob@x")];
    let found = store.resolve(&keys, Unknown::Create, at(2)).await.unwrap();
    assert_eq!((found.owners, found.created.len()), (vec![Some(UserId(4)), Some(UserId(4))], 0));
}

pub(super) async fn of_new_users_are_left_out_if_taken(store: Store) {
    with_email(&store, "a", "Ann@x").await;
    store.resolve(&[key("email", "seen@x")], Unknown::Create, at(1)).await.unwrap();
    let batch = [("b", "ann@x"), ("c", "SEEN@x"), ("d", "dan@x"), ("e", "Dan@x"), ("f", "a"), ("g", "d"), ("h", "h")];
    let batch = batch.map(|(client_id, email)| new(Some(client_id), email)).to_vec();
    assert_eq!(store.ensure_users(batch, at(2)).await.unwrap(), 7);
    let emails: Vec<Option<String>> =
        store.users(Page::ALL).await.unwrap().into_iter().skip(2).map(|user| user.email).collect();
    let expected = [None, None, Some("dan@x"), None, None, None, Some("h")];
    assert_eq!(emails, expected.map(|email| email.map(str::to_owned)));
    assert_eq!(owner(&store, "DAN@X").await, Some(5));
    assert_eq!(owner(&store, "h").await, Some(9));
}

pub(super) async fn merge(store: Store) {
    // Users with two different emails are not merged.
    with_email(&store, "a", "ann@x").await;
    with_email(&store, "b", "bob@x").await;
    let both = Link { from: key("cookie", "a"), to: key("cookie", "b"), survivor: Survivor::Older };
    assert_eq!(code(store.link(both, at(2)).await.unwrap_err()), "IDENTITY_EXCLUSIVE");
    // The survivor gets the email of the absorbed user, and the outbox a record of it.
    user(&store, "c").await;
    let end = store.outbox_end().await.unwrap();
    let link = Link { from: key("email", "BOB@x"), to: key("cookie", "c"), survivor: Survivor::To };
    assert_eq!(store.link(link, at(3)).await.unwrap().absorbed, Some(UserId(2)));
    let survivor = store.user(UserId(3)).await.unwrap().unwrap();
    assert_eq!((survivor.email.as_deref(), survivor.updated_at), (Some("bob@x"), at(3)));
    let rows = store.outbox(end, 9).await.unwrap().into_iter();
    let records: Vec<Value> = rows.map(|row| serde_json::from_str(&row.entry.value).unwrap()).collect();
    let records: Vec<_> =
        records.iter().map(|record| (&record["type"], &record["user_id"], &record["email"])).collect();
    let (merge, user_record) = (Value::from("merge"), Value::from("user"));
    let (two, three, email) = (Value::from(2), Value::from(3), Value::from("bob@x"));
    assert_eq!(records, [(&merge, &two, &Value::Null), (&user_record, &three, &email)]);
    assert_eq!(owner(&store, "Bob@x").await, Some(3));
    assert_eq!(identities(&store, 3).await, ["cookie:c", "email:bob@x"]);
    // From then on it is the survivor's like any other email.
    assert_eq!(set_email(&store, 2, Some("new@x")).await.freed, [key("email", "bob@x")]);
    with_email(&store, "d", "Bob@x").await;
    assert_eq!(owner(&store, "bob@x").await, Some(4));
}

pub(super) async fn stay_if_not_exclusive(store: Store) {
    with_email(&store, "a", "ann@x").await;
    with_email(&store, "b", "bob@x").await;
    let both = Link { from: key("cookie", "a"), to: key("cookie", "b"), survivor: Survivor::Older };
    assert_eq!(store.link(both, at(2)).await.unwrap().absorbed, Some(UserId(2)));
    assert_eq!(store.user(UserId(1)).await.unwrap().unwrap().email.as_deref(), Some("ann@x"), "the survivor's");
    assert_eq!((owner(&store, "ann@x").await, owner(&store, "bob@x").await), (Some(1), Some(1)));
    // A change of the email leaves the other one, which the user can still take.
    assert_eq!(set_email(&store, 1, Some("third@x")).await.freed, [key("email", "ann@x")]);
    assert_eq!(owner(&store, "bob@x").await, Some(1));
    assert_eq!(set_email(&store, 1, Some("bob@x")).await.freed, [key("email", "third@x")]);
    let emails: Vec<IdentityKey> = store.identities(UserId(1)).await.unwrap().into_iter().map(|own| own.key).collect();
    assert_eq!(emails, [key("cookie", "a"), key("cookie", "b"), key("email", "bob@x")]);
}

pub(super) async fn compare_exactly_if_set_so(store: Store) {
    with_email(&store, "a", "Ann@x").await;
    assert_eq!((owner(&store, "Ann@x").await, owner(&store, "ann@x").await), (Some(1), None));
    with_email(&store, "b", "ann@x").await;
    assert_eq!((owner(&store, "Ann@x").await, owner(&store, "ann@x").await), (Some(1), Some(2)));
    assert_eq!(identities(&store, 2).await, ["email:ann@x"]);
    assert_eq!(set_email(&store, 1, Some("ANN@x")).await.freed, [key("email", "Ann@x")]);
}
