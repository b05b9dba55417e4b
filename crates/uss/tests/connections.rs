//! Who may connect, from where, for how long: pages of browsers, idle and slow clients, subscribers who do not read.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::{Launch, answer};

#[tokio::test]
async fn a_page_cannot_drive_a_server_without_keys() {
    let data = tempfile::tempdir().unwrap();
    let shop = "https://shop.example";
    let server = Launch::new(data.path()).set("USS_ALLOWED_ORIGINS", shop).set("USS_UNKNOWN_USERS", "create").start();
    let (ingestion, configuration) =
        (format!("{}/api/v1", server.ingestion), format!("{}/api/v1", server.configuration));
    let evil = "https://evil.example";
    let changes = [
        ("POST", format!("{configuration}/db-actions/seed/data")),
        ("POST", format!("{configuration}/db-actions/seed/analytics")),
        ("DELETE", format!("{configuration}/users/1")),
        ("POST", format!("{ingestion}/events?unknown_users=create")),
        ("POST", format!("{ingestion}/errors/0/replay")),
        ("POST", format!("{ingestion}/errors/replay")),
    ];
    for (method, url) in changes {
        let request = server.client().request(method.parse().unwrap(), &url).header("sec-fetch-site", "cross-site");
        let refused = answer(request.header("origin", evil).body(r#"{"id":"injected"}"#)).await.unwrap();
        assert_eq!((refused.status, &refused.body["code"]), (403, &json!("ORIGIN_NOT_ALLOWED")), "{method} {url}");
    }
    let pages = server.metrics.iter().map(|address| format!("{address}/metrics"));
    for url in pages.chain([format!("{configuration}/users"), format!("{ingestion}/errors")]) {
        let request = server.client().get(&url).header("host", "evil.example:3000");
        let refused = answer(request).await.unwrap();
        assert_eq!((refused.status, &refused.body["code"]), (421, &json!("HOST_NOT_ALLOWED")), "{url}");
    }
    let beacon = server.client().post(format!("{ingestion}/events")).header("content-type", "text/plain");
    let beacon = beacon.header("origin", shop).header("sec-fetch-site", "cross-site").body(r#"{"id":"a"}"#);
    assert_eq!(answer(beacon).await.unwrap().status, 200, "pages that are allowed go on sending");
    let users = server.get("/users").await.body;
    assert_eq!(users["data"].as_array().unwrap().len(), 1, "only the beacon's: {users}");
}

#[test]
fn a_list_of_keys_that_holds_none_opens_no_address() {
    let data = tempfile::tempdir().unwrap();
    for keys in ["", ",", " , ,", "  "] {
        let launch = Launch::new(data.path()).set("USS_BIND", "0.0.0.0").set("USS_API_KEYS", keys);
        let refused = launch.try_start().err().unwrap_or_else(|| panic!("it serves with the keys `{keys}`"));
        assert!(refused.message.contains("USS_API_KEYS"), "{}", refused.message);
    }
}
