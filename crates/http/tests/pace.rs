//! The least speed of a body.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use axum::routing::post;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use uss_http::extract::Json;
use uss_http::pace::Pace;
use uss_http::serve::{Shape, finish};

async fn response(pace: Pace, path: &str, body: Body) -> (u16, String) {
    let router = Router::new()
        .route("/bytes", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/json", post(|Json(body): Json<Value>| async move { body.to_string() }))
        .route("/unread", post(|| async { "done" }));
    let router = finish(pace.hold(router), Shape::Configuration);
    let request = Request::post(path).header("content-type", "application/json").body(body).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

fn pieces(pieces: &[&'static str]) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + use<> {
    stream::iter(pieces.iter().map(|piece| Ok(Bytes::from(*piece))).collect::<Vec<_>>())
}

/// Returns a body that starts with `beginning` and never ends.
fn stuck(beginning: &[&'static str]) -> Body {
    Body::from_stream(pieces(beginning).chain(stream::pending()))
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_408_for_every_reader() {
    let no_grace = Pace { grace: Duration::ZERO, ..Pace::default() };
    let no_time = Pace { time_max: Duration::ZERO, ..Pace::default() };
    for pace in [no_grace, no_time] {
        for path in ["/bytes", "/json"] {
            for body in [stuck(&[]), stuck(&["{"]), stuck(&["{}", " "])] {
                let (status, body) = response(pace, path, body).await;
                let body: Value = serde_json::from_str(&body).unwrap();
                assert_eq!((status, &body["code"]), (408, &"BODY_TOO_SLOW".into()), "{path}: {body}");
            }
        }
    }
}

#[tokio::test]
async fn complete_bodies_are_read_and_unread_ones_are_not_waited_for() {
    let strict = Pace { grace: Duration::ZERO, ..Pace::default() };
    assert_eq!(response(strict, "/json", Body::from("{}")).await, (200, "{}".to_owned()));
    assert_eq!(response(strict, "/bytes", Body::empty()).await, (200, "0".to_owned()));
    let whole = Body::from_stream(pieces(&["{", "}", " "]));
    assert_eq!(response(strict, "/bytes", whole).await, (200, "3".to_owned()));
    assert_eq!(response(strict, "/unread", stuck(&["{"])).await, (200, "done".to_owned()));
    let (status, _) = response(strict, "/json", Body::from("{")).await;
    assert_eq!(status, 400, "other errors stay as they are");
}
