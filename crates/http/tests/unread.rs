//! What happens to the unread rest of a request body.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use axum::routing::post;
use tower::ServiceExt;
use uss_http::serve::{Shape, finish};
use uss_http::unread::dispose_unread;

fn router() -> Router {
    let router = Router::new()
        .route("/unread", post(|| async { StatusCode::FORBIDDEN }))
        .route("/slow", post(|| async { StatusCode::REQUEST_TIMEOUT }))
        .route("/read", post(|body: Bytes| async move { body.len().to_string() }));
    dispose_unread(finish(router, Shape::Configuration))
}

/// Whether the response says that the connection closes.
async fn closes(path: &str, header: Option<&str>, body: Body) -> bool {
    let mut request = Request::post(path);
    if let Some(header) = header {
        request = request.header(header, "100-continue");
    }
    let response = router().oneshot(request.body(body).unwrap()).await.unwrap();
    match response.headers().get("connection") {
        Some(value) => {
            assert_eq!(value, "close", "{path}");
            true
        }
        None => false,
    }
}

/// Returns a body of unknown length.
fn pieces(count: usize) -> Body {
    let pieces = (0..count).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1 << 10])));
    Body::from_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()))
}

#[tokio::test]
async fn a_short_rest_is_read_and_the_connection_stays_open() {
    for path in ["/unread", "/read", "/nowhere", "/slow"] {
        assert!(!closes(path, None, Body::empty()).await, "{path}: no body");
    }
    for path in ["/unread", "/read", "/nowhere"] {
        assert!(!closes(path, None, Body::from("{}")).await, "{path}: a small body");
        assert!(!closes(path, None, pieces(256)).await, "{path}: as much as is drained");
    }
    assert!(!closes("/read", None, pieces(1_000)).await, "read by its handler");
    assert!(!closes("/read", Some("expect"), Body::from("{}")).await, "read by its handler");
}

#[tokio::test]
async fn a_response_before_the_end_of_a_long_body_closes_the_connection() {
    for path in ["/unread", "/nowhere"] {
        assert!(closes(path, None, pieces(257)).await, "{path}: more than is drained");
        assert!(
            closes(path, None, Body::from(vec![b' '; 1 << 20])).await,
            "{path}: more than is drained, by its length"
        );
        assert!(closes(path, Some("expect"), Body::from("{}")).await, "{path}: the client has sent nothing yet");
        let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        assert!(closes(path, None, Body::from_stream(broken)).await, "{path}: broken off");
        let endless = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        assert!(closes(path, None, Body::from_stream(endless)).await, "{path}: endless");
    }
    assert!(closes("/slow", None, Body::from("{}")).await, "a slow body is not drained");
}
