//! An answer means that the event is on the disk: seen from outside, by the system calls of the built binary.
//!
//! `strace` writes down when the journal is written and synced, and when an answer leaves. `scripts/strace.sh` installs it.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::{Launch, eventually};

/// What a thread of the server did, in the order in which it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    /// Bytes of this event were handed to the system for the journal.
    Written(String),
    /// A journal was synced; the sync began after this many calls.
    Synced { began: usize },
    /// An answer of 200 left.
    Answered,
}

#[tokio::test]
async fn an_event_is_acknowledged_after_the_sync_that_follows_it() {
    let data = tempfile::tempdir().unwrap();
    let trace = data.path().join("trace");
    let calls = "trace=openat,write,writev,pwrite64,fsync,fdatasync,sendto,sendmsg";
    // -D: the tracer is not in the way of signals; the process that is stopped is the server.
    let under = ["strace", "-D", "-f", "-y", "-s", "100000", "-e", calls, "-o", trace.to_str().unwrap()];
    let server = Launch::new(&data.path().join("data")).under(&under).start();
    server.user("known").await;
    // One after the other, so that each answer belongs to the event before it.
    const EVENTS: usize = 20;
    for number in 0..EVENTS {
        let answer = server.event(&json!({"id": "known", "event_id": marker(number)})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
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
    let answers = calls.iter().enumerate().filter(|(_, call)| **call == Call::Answered).map(|(at, _)| at);
    let answers: Vec<usize> = answers.collect();
    assert_eq!(answers.len(), EVENTS + 1);
    for (number, answered) in answers.into_iter().enumerate() {
        let marker = marker(number);
        let written = calls[..answered].iter().position(|call| *call == Call::Written(marker.clone()));
        let written = written.unwrap_or_else(|| panic!("{marker} was acknowledged before it was written"));
        let is_synced =
            calls[written..answered].iter().any(|call| matches!(call, Call::Synced { began } if *began > written));
        assert!(is_synced, "{marker} was acknowledged without a sync: {:?}", &calls[written..=answered]);
    }
}

fn marker(number: usize) -> String {
    format!("delivery-{number:04}")
}

/// The calls that matter. A call that others interrupt has two lines: it takes its place where it ends, and a sync also
/// remembers where it began, since it covers only what was written before.
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
        calls.extend(understood(&call, began));
    }
    calls
}

fn understood(call: &str, began: usize) -> Option<Call> {
    let (name, rest) = call.split_once('(')?;
    let is_journal = rest.split(',').next()?.contains(".jnl");
    match name {
        "fsync" | "fdatasync" if is_journal => rest.ends_with("= 0").then_some(Call::Synced { began }),
        "write" | "writev" | "pwrite64" if is_journal => {
            let at = rest.find("delivery-")?;
            Some(Call::Written(rest[at..].chars().take(marker(0).len()).collect()))
        }
        "write" | "writev" | "sendto" | "sendmsg" => rest.contains("HTTP/1.1 200").then_some(Call::Answered),
        _ => None,
    }
}
