//! Tests that an event is on disk before the response is sent, by the system calls of the built
//! binary.
//!
//! `strace` records when the journal is written and synced, and when a response is sent.
//! `scripts/strace.sh` installs it.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use serde_json::json;
use support::{Launch, eventually};

/// A system call of the server. Calls are in the order in which they ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    /// This event was written to the journal.
    Written(String),
    /// The journal was synced. The sync began after this many calls.
    Synced { began: usize },
    /// A response with status 200 was sent.
    Responded,
}

#[tokio::test]
async fn an_event_is_acknowledged_after_the_sync_that_follows_it() {
    let data = tempfile::tempdir().unwrap();
    let trace = data.path().join("trace");
    let calls = "trace=openat,write,writev,pwrite64,fsync,fdatasync,sendto,sendmsg";
    // With -D, signals go to the server, not to the tracer.
    let under = ["strace", "-D", "-f", "-y", "-s", "100000", "-e", calls, "-o", trace.to_str().unwrap()];
    let server = Launch::new(&data.path().join("data")).under(&under).start();
    server.user("known").await;
    // One after the other, so that each response belongs to the event before it.
    const EVENTS: usize = 20;
    for number in 0..EVENTS {
        let response = server.event(&json!({"id": "known", "event_id": marker(number)})).await;
        assert_eq!(response.status, 200, "{}", response.body);
    }
    let lines = format!("{}\n", json!({"id": "known", "event_id": marker(EVENTS)}));
    assert_eq!(server.send("application/x-ndjson", lines).await.unwrap().status, 200);
    server.stop();
    let text = eventually("the trace is complete", async || {
        let text = std::fs::read_to_string(&trace).unwrap();
        text.trim_end().ends_with("+++ exited with 0 +++").then_some(text)
    })
    .await;

    let calls = read(&text);
    let responses = calls.iter().enumerate().filter(|(_, call)| **call == Call::Responded).map(|(at, _)| at);
    let responses: Vec<usize> = responses.collect();
    assert_eq!(responses.len(), EVENTS + 1);
    for (number, responded) in responses.into_iter().enumerate() {
        let marker = marker(number);
        let written = calls[..responded].iter().position(|call| *call == Call::Written(marker.clone()));
        let written = written.unwrap_or_else(|| panic!("{marker} was acknowledged before it was written"));
        let is_synced =
            calls[written..responded].iter().any(|call| matches!(call, Call::Synced { began } if *began > written));
        assert!(is_synced, "{marker} was acknowledged without a sync: {:?}", &calls[written..=responded]);
    }
}

fn marker(number: usize) -> String {
    format!("delivery-{number:04}")
}

/// Returns the calls of [`Call`]. A call that others interrupt has two lines, and its place is
/// where it ends. A sync also has the place where it began, since it covers only earlier writes.
fn read(text: &str) -> Vec<Call> {
    let (mut calls, mut unfinished) = (Vec::new(), std::collections::HashMap::new());
    for line in text.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if let Some(begun) = call.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread.to_owned(), (begun.to_owned(), calls.len()));
            continue;
        }
        let (call, began) = match call.split_once(" resumed>") {
            Some((_, rest)) => {
                let Some((begun, began)) = unfinished.remove(thread) else { continue };
                (begun + rest, began)
            }
            None => (call.to_owned(), calls.len()),
        };
        calls.extend(parse_call(&call, began));
    }
    calls
}

fn parse_call(call: &str, began: usize) -> Option<Call> {
    let (name, rest) = call.split_once('(')?;
    let is_journal = rest.split(',').next()?.contains(".jnl");
    match name {
        "fsync" | "fdatasync" if is_journal => rest.ends_with("= 0").then_some(Call::Synced { began }),
        "write" | "writev" | "pwrite64" if is_journal => {
            let at = rest.find("delivery-")?;
            Some(Call::Written(rest[at..].chars().take(marker(0).len()).collect()))
        }
        "write" | "writev" | "sendto" | "sendmsg" => rest.contains("HTTP/1.1 200").then_some(Call::Responded),
        _ => None,
    }
}
