//! What web pages can do to a server without keys: nothing.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::routing::any;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use uss_http::extract::JsonContentType;
use uss_http::serve::{Shape, finish};
use uss_http::{Access, AllowedHosts, AllowedOrigins, ApiKeys, CrossSiteGuard};

const SHOP: &str = "https://shop.example";

fn guard(keys: &str, bound: &str, hosts: &str, origins: &str) -> CrossSiteGuard {
    let hosts = AllowedHosts::new(bound, hosts).unwrap();
    CrossSiteGuard::new(&keys.parse::<ApiKeys>().unwrap(), hosts, origins.parse::<AllowedOrigins>().unwrap())
}

async fn send(guard: &CrossSiteGuard, method: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let router = finish(Router::new().route("/", any(|| async { "done" })), Shape::Configuration);
    let request = headers
        .iter()
        .fold(Request::builder().method(method).uri("/"), |request, (name, value)| request.header(*name, *value));
    guard.around(router, Shape::Configuration).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn status(guard: &CrossSiteGuard, method: &str, headers: &[(&str, &str)]) -> u16 {
    send(guard, method, headers).await.status().as_u16()
}

async fn code(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice::<Value>(&bytes).unwrap()["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_server_without_keys_accepts_only_its_own_names() {
    let own = [
        "localhost",
        "LOCALHOST:3000",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:3000",
        "127.8.9.1",
        "[::1]",
        "[::1]:3000",
    ];
    let foreign = [
        "evil.example:3000",
        "localhost.evil.example",
        "evillocalhost",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "192.0.2.1",
        "0.0.0.0:3000",
        "[2001:db8::1]:3000",
        "::1",
        "",
    ];
    // The bound address, the names of the setting, and those of the foreign hosts above that this
    // makes the server's own.
    let cases: [(&str, &str, &[&str]); 7] = [
        ("127.0.0.1", "", &[]),
        ("localhost", "", &[]),
        ("192.0.2.1", "", &["192.0.2.1"]),
        ("evil.example", "", &["evil.example:3000"]),
        ("0.0.0.0", "", &["192.0.2.1", "0.0.0.0:3000", "[2001:db8::1]:3000"]),
        ("127.0.0.1", " EVIL.example , 192.0.2.1,", &["evil.example:3000", "192.0.2.1"]),
        ("127.0.0.1", "*", &foreign),
    ];
    for (bound, names, also) in cases {
        let guard = guard("", bound, names, "");
        for host in own {
            assert_eq!(status(&guard, "GET", &[("host", host)]).await, 200, "{host} of {bound} with {names}");
        }
        for host in foreign {
            let response = send(&guard, "GET", &[("host", host)]).await;
            let expected = if also.contains(&host) { 200 } else { 421 };
            assert_eq!(response.status().as_u16(), expected, "{host} of {bound} with {names}");
            if expected == 421 {
                assert_eq!(code(response).await, "HOST_NOT_ALLOWED");
            }
        }
    }
    let local = guard("", "127.0.0.1", "", "");
    assert_eq!(status(&local, "GET", &[]).await, 200, "a client without a host is not a browser");
    assert_eq!(status(&local, "GET", &[("host", "localhost"), ("host", "evil.example")]).await, 421);
    let absolute = Request::get("http://evil.example/").header("host", "localhost").body(Body::empty()).unwrap();
    let response = local.around(Router::new(), Shape::Ingestion).oneshot(absolute).await.unwrap();
    assert_eq!(response.status().as_u16(), 421, "the host in the request target counts too");
    for refused in ["http://a.example", "a.example:80", "a b", "a/b"] {
        assert!(AllowedHosts::new("127.0.0.1", refused).is_err_and(|message| message.contains("USS_ALLOWED_HOSTS")));
    }
}

#[tokio::test]
async fn only_allowed_pages_can_change_anything() {
    let (host, evil) = (("host", "localhost:3000"), ("origin", "https://evil.example"));
    let (cross, same_site) = (("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"));
    let cases: [(&[(&str, &str)], bool); 13] = [
        (&[host], true),
        (&[host, ("sec-fetch-site", "none")], true),
        (&[host, ("origin", "http://localhost:3000"), ("sec-fetch-site", "same-origin")], true),
        (&[host, ("origin", "https://LOCALHOST:3000")], true),
        (&[host, ("origin", SHOP), cross], true),
        (&[host, ("origin", "https://SHOP.example")], true),
        (&[host, evil, cross], false),
        (&[host, evil], false),
        (&[host, cross], false),
        (&[host, ("origin", "http://localhost:8080"), same_site], false),
        (&[host, ("origin", "null")], false),
        (&[host, ("origin", "http://localhost:3000"), cross], false),
        (&[host, ("origin", SHOP), evil], false),
    ];
    let guarded = guard("", "127.0.0.1", "", SHOP);
    let keyed = guard("admin:0123456789abcdef", "127.0.0.1", "", SHOP);
    for (headers, passes) in cases {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let response = send(&guarded, method, headers).await;
            assert_eq!(response.status().as_u16(), if passes { 200 } else { 403 }, "{method} {headers:?}");
            if !passes {
                assert_eq!(code(response).await, "ORIGIN_NOT_ALLOWED");
            }
            assert_eq!(status(&keyed, method, headers).await, 200, "a browser adds no key by itself");
        }
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(status(&guarded, method, headers).await, 200, "{method} {headers:?} changes nothing");
        }
    }
    let any_host = [("host", "proxy.example"), evil, cross];
    assert_eq!(status(&keyed, "POST", &any_host).await, 200, "a proxy may call a server with keys by any name");
}

#[tokio::test]
async fn a_star_lets_all_pages_send_events_and_nothing_else() {
    let keys = ApiKeys::default();
    let route = |path| Router::new().route(path, any(|| async { "done" }));
    let router = keys.guard(route("/events"), Access::Ingest).merge(keys.guard(route("/errors/replay"), Access::Admin));
    let router = finish(router, Shape::Ingestion);
    let from =
        |origin: &'static str| [("host", "localhost:4000"), ("origin", origin), ("sec-fetch-site", "cross-site")];
    let evil = "https://evil.example";
    let named = format!("*,{SHOP}");
    // The setting, the origin of the page, and the statuses of sending events and of replaying dead
    // letters.
    for (setting, origin, events, replays) in [
        ("*", evil, 200, 403),
        ("*", SHOP, 200, 403),
        ("*", "null", 200, 403),
        ("*", "*", 200, 403),
        (&*named, evil, 200, 403),
        (&*named, SHOP, 200, 200),
        (SHOP, SHOP, 200, 200),
        (SHOP, evil, 403, 403),
        ("", evil, 403, 403),
    ] {
        let guarded = guard("", "127.0.0.1", "", setting).around(router.clone(), Shape::Ingestion);
        for (path, expected) in [("/events", events), ("/errors/replay", replays)] {
            let request = Request::post(path);
            let request = from(origin).iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let response = guarded.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status().as_u16(), expected, "{path} from {origin} with {setting}");
            if expected == 403 {
                assert_eq!(code(response).await, "ORIGIN_NOT_ALLOWED");
            }
        }
    }
    let any = guard("", "127.0.0.1", "", &named);
    assert_eq!(status(&any.for_admins(), "POST", &from(evil)).await, 403);
    assert_eq!(status(&any.for_admins(), "POST", &[("host", "localhost:3000"), ("origin", SHOP)]).await, 200);
}

#[tokio::test]
async fn a_call_without_a_body_can_require_the_json_content_type() {
    let router = finish(Router::new().route("/", any(|_: JsonContentType| async { "done" })), Shape::Configuration);
    let cases = [
        (Some("application/json"), 200),
        (Some("Application/JSON; charset=utf-8"), 200),
        (Some("application/problem+json"), 200),
        (Some("text/plain"), 415),
        (Some("text/plain;application/json"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some(""), 415),
        (None, 415),
    ];
    for (content_type, status) in cases {
        let request =
            content_type.iter().fold(Request::post("/"), |request, value| request.header("content-type", *value));
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{content_type:?}");
    }
}
