//! What happens to the unread rest of a request body.
#![allow(clippy::unwrap_used)]

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

/// Whether the answer says that the connection ends.
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

/// A body whose length is not known before.
fn pieces(count: usize) -> Body {
    let pieces = (0..count).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1 << 10])));
    Body::from_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()))
}

#[tokio::test]
async fn a_short_rest_is_read_and_the_connection_goes_on() {
    for path in ["/unread", "/read", "/nowhere", "/slow"] {
        assert!(!closes(path, None, Body::empty()).await, "{path}: no body");
    }
    for path in ["/unread", "/read", "/nowhere"] {
        assert!(!closes(path, None, Body::from("{}")).await, "{path}: a small body");
        assert!(!closes(path, None, pieces(256)).await, "{path}: as much as is read");
    }
    assert!(!closes("/read", None, pieces(1_000)).await, "read by its handler");
    assert!(!closes("/read", Some("expect"), Body::from("{}")).await, "read by its handler");
}

#[tokio::test]
async fn an_answer_before_the_end_of_a_long_body_says_that_it_closes() {
    for path in ["/unread", "/nowhere"] {
        assert!(closes(path, None, pieces(257)).await, "{path}: more than is read");
        assert!(closes(path, None, Body::from(vec![b' '; 1 << 20])).await, "{path}: more than is read, as is known");
        assert!(closes(path, Some("expect"), Body::from("{}")).await, "{path}: the client has sent nothing yet");
        let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        assert!(closes(path, None, Body::from_stream(broken)).await, "{path}: broken off");
        let endless = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        assert!(closes(path, None, Body::from_stream(endless)).await, "{path}: no end in sight");
    }
    assert!(closes("/slow", None, Body::from("{}")).await, "it is not waited for any longer");
}
