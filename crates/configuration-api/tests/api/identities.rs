//! Identities: of users, links, and what ingestion resolves.

use configuration_api::StoreIdentities;
use ports::identities::{Identities, Identity};
use segment_engine::ids::UserId;
use serde_json::{Value, json};

use crate::world::{STARTED, World};

#[tokio::test]
async fn linking_merges_two_users_and_the_absorbed_id_finds_the_survivor() {
    let world = World::new();
    for id in ["x", "y"] {
        world.data("POST", "/api/v1/users", json!({"clientRefId": id})).await;
    }
    let identity = json!({"idType": "email", "id": "a@b.c"});
    let (status, response) = world.call("POST", "/api/v1/users/1/identities", identity.clone()).await;
    let expected = json!({"userId": 1, "idType": "email", "id": "a@b.c", "createdAt": STARTED});
    assert_eq!((status, &response["data"]), (201, &expected));
    let (status, response) = world.call("POST", "/api/v1/users/1/identities", identity.clone()).await;
    assert_eq!((status, &response["data"]), (200, &expected), "a repeat changes nothing");
    assert_eq!(world.data("GET", "/api/v1/users/1/identities", Value::Null).await, json!([expected]));

    let link = json!({"from": {"idType": "cookie", "id": "y"}, "to": {"id_type": "email", "id": "a@b.c"}});
    let linked = world.data("POST", "/api/v1/identities/link", link.clone()).await;
    assert_eq!(linked, json!({"userId": 1, "absorbed": 2}));
    let again = world.data("POST", "/api/v1/identities/link", link).await;
    assert_eq!(again, json!({"userId": 1, "absorbed": null}));
    let survivor = world.data("GET", "/api/v1/users/2", Value::Null).await;
    assert_eq!((&survivor["id"], &survivor["mergedFrom"]), (&json!(1), &json!(2)));
    assert_eq!(world.data("GET", "/api/v1/users", Value::Null).await.as_array().unwrap().len(), 1);

    world.data("POST", "/api/v1/users", json!({"clientRefId": "z"})).await;
    let other = json!({"idType": "email", "id": "other@b.c"});
    let both = json!({"from": {"idType": "cookie", "id": "p"}, "to": {"idType": "cookie", "id": "q"}});
    world
        .refuses(&[
            ("POST", "/api/v1/users/3/identities", identity, 409, "IDENTITY_TAKEN"),
            ("POST", "/api/v1/users/1/identities", other, 409, "IDENTITY_EXCLUSIVE"),
            ("POST", "/api/v1/users/1/identities", json!({"id": "x"}), 400, "INVALID_FIELD"),
            ("POST", "/api/v1/users/1/identities", json!({"idType": "x"}), 400, "INVALID_BODY"),
            ("POST", "/api/v1/identities/link", both, 404, "IDENTITY_NOT_FOUND"),
            ("POST", "/api/v1/identities/link", json!({}), 400, "INVALID_BODY"),
        ])
        .await;
}

#[tokio::test]
async fn deleting_by_an_absorbed_id_forgets_both_users() {
    let world = World::new();
    for id in ["x", "y", "z"] {
        world.data("POST", "/api/v1/users", json!({"clientRefId": id})).await;
    }
    let link = json!({"from": {"idType": "cookie", "id": "y"}, "to": {"idType": "cookie", "id": "x"}});
    assert_eq!(world.data("POST", "/api/v1/identities/link", link).await, json!({"userId": 1, "absorbed": 2}));
    assert_eq!(world.data("DELETE", "/api/v1/users/2", Value::Null).await, json!(true));
    for id in ["x", "y"] {
        assert_eq!(world.store.known("cookie", id), None);
    }
}

#[tokio::test]
async fn many_identities_are_resolved_at_once() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({"clientRefId": "x"})).await;
    let keys = json!([{"idType": "cookie", "id": "x"}, {"id": "new"}]);
    let path = "/api/v1/identities/resolve";
    let known = world.data("POST", path, json!({"identities": keys})).await;
    assert_eq!(known, json!([{"userId": 1, "new": null}, null]));
    let created = world.data("POST", path, json!({"identities": keys, "create": true})).await;
    assert_eq!((&created[0]["new"], &created[1]["userId"]), (&Value::Null, &json!(2)));
    assert_eq!(created[1]["new"]["type"], "user");
    let again = world.data("POST", path, json!({"identities": keys})).await;
    assert_eq!(again[1], json!({"userId": 2, "new": null}));
    // An event may have such ids, but none with NUL, which no reader of the user's records would
    // accept.
    let odd = json!([{"idType": "a\tb", "id": "line\nbreak"}]);
    assert_eq!(world.data("POST", path, json!({"identities": odd, "create": true})).await[0]["userId"], 3);
    for nul in [json!([{"id": "a\0b"}]), json!([{"idType": "a\0b", "id": "x"}])] {
        let body = json!({"identities": nul, "create": true});
        world.refuses(&[("POST", path, body, 400, "INVALID_FIELD")]).await;
    }
    assert_eq!(world.data("GET", "/api/v1/users", Value::Null).await.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn ingestion_in_the_same_process_resolves_in_the_store() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({"clientRefId": "x"})).await;
    let identities = StoreIdentities::new(world.store.clone(), world.clock.clone(), world.holds.clone());
    let wanted =
        [Identity { id_type: Some("cookie".into()), id: "x".into() }, Identity { id_type: None, id: "new".into() }];
    assert_eq!(identities.resolve(&wanted).await.unwrap(), [Some(UserId(1)), None]);
    let created = identities.create(&wanted).await.unwrap();
    assert_eq!(
        created.users.iter().map(|one| (one.user_id.0, one.new.is_some())).collect::<Vec<_>>(),
        [(1, false), (2, true)]
    );
    let spelled = ["Ann@x", "ann@x"].map(|id| Identity { id_type: Some("email".into()), id: id.into() });
    let created = identities.create(&spelled).await.unwrap().users;
    let created: Vec<_> = created.iter().map(|one| (one.user_id.0, one.new.is_some())).collect();
    assert_eq!(created, [(3, true), (3, false)], "one user, introduced once");
    assert_eq!(identities.profile("x").await.unwrap().unwrap().id, UserId(1));
    assert_eq!(identities.profile("nobody").await.unwrap(), None);
}

#[tokio::test]
async fn an_email_is_an_identity_of_its_user() {
    let world = World::new();
    world.data("POST", "/api/v1/users", json!({"clientRefId": "crm-7", "email": "Ann@x"})).await;
    world.data("POST", "/api/v1/users", json!({"clientRefId": "crm-8"})).await;
    let resolve = async |email: &str| {
        let body = json!({"identities": [{"idType": "email", "id": email}]});
        world.data("POST", "/api/v1/identities/resolve", body).await[0]["userId"].clone()
    };
    let own = world.data("GET", "/api/v1/users/1/identities", Value::Null).await;
    assert_eq!(own, json!([{"userId": 1, "idType": "email", "id": "Ann@x", "createdAt": STARTED}]));
    let email = |email: &str| json!({"idType": "email", "id": email});
    let (status, _) = world.call("POST", "/api/v1/users/1/identities", email("ANN@x")).await;
    assert_eq!(status, 200, "another spelling is a repeat");
    let two_people = json!({"from": email("ann@X"), "to": {"idType": "email", "id": "crm-8"}});
    world
        .refuses(&[
            ("POST", "/api/v1/users", json!({"email": "ann@X"}), 409, "EMAIL_TAKEN"),
            ("PUT", "/api/v1/users/2", json!({"email": "ann@x"}), 409, "EMAIL_TAKEN"),
            ("POST", "/api/v1/users/2/identities", email("ann@x"), 409, "IDENTITY_TAKEN"),
            ("POST", "/api/v1/users/1/identities", email("other@x"), 409, "IDENTITY_EXCLUSIVE"),
            ("POST", "/api/v1/identities/link", two_people, 409, "IDENTITY_EXCLUSIVE"),
        ])
        .await;
    let (_, response) = world.call("POST", "/api/v1/users", json!({"email": "ann@x"})).await;
    assert!(response["message"].as_str().unwrap().contains("belongs to user 1"), "{response}");
    // A change frees the old email.
    world.data("PUT", "/api/v1/users/1", json!({"email": "new@x"})).await;
    assert_eq!((resolve("ann@x").await, resolve("NEW@x").await), (Value::Null, json!(1)));
    // The survivor of a merge takes the email of the absorbed user.
    let mine = json!({"from": email("New@x"), "to": {"idType": "cookie", "id": "crm-8"}, "survivor": "to"});
    assert_eq!(world.data("POST", "/api/v1/identities/link", mine).await, json!({"userId": 2, "absorbed": 1}));
    assert_eq!(world.data("GET", "/api/v1/users/2", Value::Null).await["email"], "new@x");
    assert_eq!(world.data("DELETE", "/api/v1/users/1", Value::Null).await, json!(true));
    assert_eq!(resolve("new@x").await, Value::Null);
    assert_eq!(world.data("POST", "/api/v1/users", json!({"email": "NEW@x"})).await["id"], 3);
    assert_eq!(resolve("new@x").await, 3);
}
