//! Tests emails as identities: a user created with an email and events sent by that email are one
//! person.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use serde_json::{Value, json};
use support::{Launch, Server, eventually};

/// Sends an event with an email as id. Returns the status and the code.
async fn track(server: &Server, email: &str) -> (u16, Value) {
    let response = server.event(&json!({"id": email, "id_type": "email", "payload": {"activity_type": "view"}})).await;
    (response.status, response.body["code"].clone())
}

async fn create(server: &Server, client_id: &str, email: &str) -> i64 {
    let created = server.post("/users", &json!({"clientRefId": client_id, "email": email})).await;
    assert_eq!(created.status, 201, "{}", created.body);
    created.body["data"]["id"].as_i64().unwrap()
}

async fn population(server: &Server) -> usize {
    server.get("/users").await.body["data"].as_array().unwrap().len()
}

fn unknown() -> (u16, Value) {
    (404, json!("USER_NOT_FOUND"))
}

#[tokio::test]
async fn an_email_is_one_person_whether_the_user_or_the_event_comes_first() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).set("USS_UNKNOWN_USERS", "create").start();
    let seen = server.segment("seen", "users.email IS NOT NULL AND count(*) >= 2").await;
    server.in_force(seen).await;
    // The user first.
    let ann = create(&server, "crm-1", "Ann@x").await;
    for email in ["ann@X", "Ann@x"] {
        assert_eq!(track(&server, email).await.0, 200);
    }
    assert_eq!(server.segments_of(ann).await, [seen]);
    // The event first: the refusal names the user, which can then be updated.
    for _ in 0..2 {
        assert_eq!(track(&server, "bob@x").await.0, 200);
    }
    let taken = server.post("/users", &json!({"clientRefId": "crm-2", "email": "Bob@x"})).await;
    assert_eq!((taken.status, taken.body["code"].as_str()), (409, Some("EMAIL_TAKEN")), "{}", taken.body);
    let bob = server.get("/users?clientRefId=BOB@x").await.body["data"]["id"].as_i64().unwrap();
    assert!(taken.body["message"].as_str().unwrap().contains(&format!("belongs to user {bob} ")), "{}", taken.body);
    assert!(server.segments_of(bob).await.is_empty(), "an identity does not fill in the email");
    let known = json!({"clientRefId": "crm-2", "email": "Bob@x"});
    assert_eq!(server.call("PUT", &format!("/users/{bob}"), &known).await.status, 200);
    assert_eq!(server.segments_of(bob).await, [seen]);
    assert_eq!(population(&server).await, 2);
    // The survivor of a merge takes over the email, and the engine gets it.
    let visitor = server.user("visitor").await;
    let link = json!({"from": {"idType": "email", "id": "BOB@X"}, "to": {"idType": "cookie", "id": "visitor"},
        "survivor": "to"});
    assert_eq!(server.post("/identities/link", &link).await.body["data"], json!({"userId": visitor, "absorbed": bob}));
    eventually("the state of the absorbed user has arrived", async || {
        (server.segments_of(visitor).await == [seen]).then_some(())
    })
    .await;
    let two_people = json!({"from": {"idType": "cookie", "id": "crm-1"}, "to": {"idType": "cookie", "id": "visitor"}});
    let refused = server.post("/identities/link", &two_people).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (409, Some("IDENTITY_EXCLUSIVE")), "{}", refused.body);
}

#[tokio::test]
async fn events_follow_an_email_that_moves_to_another_user() {
    let data = tempfile::tempdir().unwrap();
    let launch = Launch::new(data.path());
    let server = launch.start();
    let two = server.segment("two", "count(*) = 2").await;
    let one = server.segment("one", "count(*) = 1").await;
    server.in_force(two).await;
    server.in_force(one).await;
    let ann = create(&server, "ann", "ann@x").await;
    assert_eq!(track(&server, "ANN@x").await.0, 200);
    assert_eq!(server.call("PUT", &format!("/users/{ann}"), &json!({"email": "new@x"})).await.status, 200);
    for spelling in ["ANN@x", "ann@x"] {
        assert_eq!(track(&server, spelling).await, unknown(), "{spelling}: the email has no user");
    }
    assert_eq!(track(&server, "New@x").await.0, 200);
    assert_eq!(server.segments_of(ann).await, [two], "events of the old email stay");
    // Another user gets the old email, and is deleted.
    let other = create(&server, "other", "Ann@x").await;
    assert_eq!(track(&server, "ANN@x").await.0, 200);
    assert_eq!(server.segments_of(other).await, [one]);
    assert_eq!(server.call("DELETE", &format!("/users/{other}"), &Value::Null).await.status, 200);
    assert_eq!(track(&server, "ANN@x").await, unknown());
    let again = create(&server, "other", "ANN@X").await;
    assert!(again > other);
    assert_eq!(track(&server, "ANN@x").await.0, 200);
    assert_eq!(server.segments_of(again).await, [one]);
    assert_eq!(server.call("PUT", &format!("/users/{again}"), &json!({"email": null})).await.status, 200);
    assert_eq!(track(&server, "ANN@x").await, unknown());
    // A start with another setting changes which types of ids are caseless.
    let server = server.stop().set("USS_CASELESS_IDENTITIES", "cookie").start();
    assert_eq!((track(&server, "New@x").await, track(&server, "new@x").await.0), (unknown(), 200));
    assert_eq!(server.segments_of(ann).await, Vec::<i64>::new(), "this was the third event");
}
