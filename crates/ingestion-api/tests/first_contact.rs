//! Many new users at once: who came waits, who comes then is refused before the body is read.

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use futures_util::stream;
use ingestion_api::{AllowedOrigins, Ingestion, Limits, UnknownUsers, router};
use ports::clock::ManualClock;
use ports::identities::{Created, Identities, Identity, IdentityError, Profile};
use ports_testkit::memory::{MemoryIdentities, MemoryLog};
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;
use serde_json::json;
use support::{PARTITIONS, read};
use tokio::sync::{Semaphore, mpsc};
use tower::ServiceExt;
use uss_http::ApiKeys;

/// Identities that creates users only as far as it is let.
struct Slow {
    inner: MemoryIdentities,
    let_through: Semaphore,
    /// Told of each call.
    called: mpsc::UnboundedSender<usize>,
}

#[async_trait]
impl Identities for Slow {
    async fn ping(&self) -> Result<(), IdentityError> {
        Ok(())
    }

    fn known(&self, id_type: Option<&str>, id: &str) -> Option<UserId> {
        self.inner.known(id_type, id)
    }

    async fn resolve(&self, identities: &[Identity]) -> Result<Vec<Option<UserId>>, IdentityError> {
        self.inner.resolve(identities).await
    }

    async fn create(&self, identities: &[Identity]) -> Result<Created, IdentityError> {
        self.called.send(identities.len()).expect("the test listens");
        self.let_through.acquire().await.expect("it is never closed").forget();
        self.inner.create(identities).await
    }

    async fn profile(&self, client_ref_id: &str) -> Result<Option<Profile>, IdentityError> {
        self.inner.profile(client_ref_id).await
    }
}

fn world(limits: Limits) -> (Router, Arc<Slow>, mpsc::UnboundedReceiver<usize>) {
    let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
    let (called, calls) = mpsc::unbounded_channel();
    let inner = MemoryIdentities::new(clock.clone());
    let identities = Arc::new(Slow { inner, let_through: Semaphore::new(0), called });
    let log = Arc::new(MemoryLog::new(PARTITIONS, clock.clone()));
    let ingestion = Ingestion::new(log, identities.clone(), clock, limits, UnknownUsers::Create);
    let router = router(Arc::new(ingestion), &ApiKeys::default(), &AllowedOrigins::default());
    (router, identities, calls)
}

fn request(media: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post("/api/v1/events").header("content-type", media).body(body.into()).expect("a request")
}

fn lines(connection: usize) -> Body {
    (0..10).map(|user| format!("{{\"id\":\"{connection}-{user}\"}}\n")).collect::<String>().into()
}

/// A body that nobody may read.
fn unreadable() -> Body {
    Body::from_stream(stream::once(async { panic!("the body was read") as Result<Vec<u8>, std::io::Error> }))
}

#[tokio::test]
async fn more_new_users_than_may_wait_are_refused_before_their_body_is_read() {
    let limits = Limits { lookups_at_once_max: 2, unresolved_identities_max: 550, ..Limits::default() };
    let (router, identities, mut calls) = world(limits);
    let send = |request| {
        let router = router.clone();
        tokio::spawn(async move { router.oneshot(request).await.unwrap() })
    };
    let waiting: Vec<_> = (0..5).map(|connection| send(request("application/x-ndjson", lines(connection)))).collect();
    for _ in 0..2 {
        assert_eq!(calls.recv().await, Some(10));
    }
    while send(request("application/x-ndjson", Body::empty())).await.unwrap().status() != 429 {
        tokio::task::yield_now().await;
    }
    let refused = send(request("application/x-ndjson", unreadable())).await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "1");
    let (status, answer) = read(refused).await;
    assert_eq!((status, &answer["code"]), (429, &json!("OVER_CAPACITY")), "{answer}");
    assert!(calls.try_recv().is_err(), "two calls at once");
    identities.let_through.add_permits(5);
    for waiting in waiting {
        let (status, answer) = read(waiting.await.unwrap()).await;
        assert_eq!((status, &answer["accepted"]), (200, &json!(10)), "{answer}");
    }
    identities.let_through.add_permits(1);
    let (status, answer) = read(send(request("application/json", "{\"id\":\"last\"}")).await.unwrap()).await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)));
}
