//! Requests while the readers of the log are behind.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use ingestion_api::Limits;
use ports::readers::Readers;
use serde_json::{Value, json};
use support::{SAMPLE, World, read};

/// Readers that are behind by as much as the test says.
#[derive(Default)]
struct Behind {
    records: AtomicU64,
    asked: AtomicUsize,
}

impl Behind {
    fn set(&self, records: u64) {
        self.records.store(records, Ordering::Relaxed);
    }

    /// Waits until they were asked so many times more.
    async fn asked(&self, times: usize) {
        let asked = || self.asked.load(Ordering::Relaxed);
        let before = asked();
        while asked() < before + times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[async_trait]
impl Readers for Behind {
    async fn behind(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.records.load(Ordering::Relaxed)
    }
}

fn world(limits: Limits) -> (Arc<World>, Arc<Behind>) {
    let (world, behind) = (World::with(limits), Arc::new(Behind::default()));
    let ingestion = Arc::into_inner(world.ingestion).unwrap().with_readers(behind.clone());
    (Arc::new(World { ingestion: Arc::new(ingestion), ..world }), behind)
}

/// Sends a body that says how long it is.
async fn post(world: &World, media: &str, body: String) -> (u16, Value) {
    let request = Request::post("/api/v1/events").header("content-type", media).header("content-length", body.len());
    read(world.send(request.body(Body::from(body)).unwrap()).await).await
}

fn many() -> String {
    format!("[{}]", vec![SAMPLE; 500].join(","))
}

#[tokio::test]
async fn requests_wait_while_the_readers_are_far_behind_and_short_ones_later() {
    let (world, behind) = world(Limits::default());
    let Limits { behind_max, behind_short_max, .. } = Limits::default();
    let lines = format!("{SAMPLE}\n").repeat(500);
    for (media, long) in [("application/json", many()), ("application/x-ndjson", lines)] {
        for (body, max) in [(long, behind_max), (format!("{SAMPLE}\n"), behind_short_max)] {
            behind.set(max);
            assert_eq!(post(&world, media, body.clone()).await.0, 200, "{media}: the bound itself is near enough");
            behind.set(max + 1);
            let before = world.events().await.len();
            let waiting = tokio::spawn({
                let world = world.clone();
                async move { post(&world, media, body).await }
            });
            behind.asked(3).await;
            assert!(!waiting.is_finished() && world.events().await.len() == before, "{media}: it waits");
            behind.set(max);
            assert_eq!(waiting.await.unwrap().0, 200);
            assert!(world.events().await.len() > before);
        }
    }
}

#[tokio::test]
async fn a_request_that_waited_in_vain_is_refused_and_stores_nothing() {
    let (world, behind) = world(Limits { behind_wait_max: Duration::from_millis(120), ..Limits::default() });
    behind.set(u64::MAX);
    for (media, body) in [("application/json", many()), ("application/x-ndjson", format!("{SAMPLE}\n"))] {
        let (status, answer) = post(&world, media, body).await;
        assert_eq!((status, &answer["code"]), (429, &json!("OVER_CAPACITY")), "{answer}");
        assert!(behind.asked.swap(0, Ordering::Relaxed) > 1, "{media}: it asked again before it gave up");
    }
    assert_eq!(world.events().await.len(), 0);
}

#[tokio::test]
async fn no_more_requests_wait_than_there_are_places() {
    let (world, behind) = world(Limits { held_up_max: 1, ..Limits::default() });
    behind.set(u64::MAX);
    let waiting = tokio::spawn({
        let world = world.clone();
        async move { post(&world, "application/json", many()).await }
    });
    behind.asked(2).await;
    let (status, answer) = post(&world, "application/json", many()).await;
    assert_eq!((status, &answer["code"]), (429, &json!("OVER_CAPACITY")));
    behind.set(0);
    assert_eq!(waiting.await.unwrap().0, 200);
    assert_eq!(post(&world, "application/json", many()).await.0, 200, "the place is free again");
}

#[tokio::test]
async fn lines_that_were_read_to_their_end_do_not_wait() {
    let limits = Limits { chunk_events_max: 3, behind_wait_max: Duration::from_millis(1), ..Limits::default() };
    let (world, behind) = world(limits);
    let (sender, body) = support::channel();
    let answer = tokio::spawn({
        let world = world.clone();
        async move { world.post("application/x-ndjson", body).await }
    });
    sender.send(Ok(format!("{SAMPLE}\n").repeat(3).into())).await.unwrap();
    while world.events().await.is_empty() {
        tokio::task::yield_now().await;
    }
    behind.set(u64::MAX);
    drop(sender);
    assert_eq!(answer.await.unwrap(), (200, json!({"rejected": [], "not_admitted": [], "accepted": 3, "ok": true})));
}

#[tokio::test]
async fn lines_that_are_being_sent_wait_too() {
    let (world, behind) = world(Limits { behind_wait_max: Duration::from_millis(1), ..Limits::default() });
    let (sender, body) = support::channel();
    let answer = tokio::spawn({
        let world = world.clone();
        async move { world.post("application/x-ndjson", body).await }
    });
    let line = || Ok(format!("{SAMPLE}\n").into());
    sender.send(line()).await.unwrap();
    while world.events().await.is_empty() {
        tokio::task::yield_now().await;
    }
    behind.set(u64::MAX);
    // Either it has asked before, and takes one more line, or it asks now, and reads no more.
    let _ended = sender.send(line()).await;
    let (status, answer) = answer.await.unwrap();
    let stored = world.events().await.len();
    assert_eq!((status, &answer["code"], &answer["ok"]), (200, &json!("OVER_CAPACITY"), &json!(false)));
    assert_eq!((&answer["not_read_from"], &answer["accepted"]), (&json!(stored), &json!(stored)));
    assert!(stored <= 2);
}
