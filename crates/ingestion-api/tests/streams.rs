//! Lines of events: taken as they come, answered when the request ends or cannot go on.

mod support;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use ingestion_api::Limits;
use ports::log::{Log, Topic, partition_of};
use segment_engine::ids::{PartitionId, UserId};
use serde_json::json;
use support::{PARTITIONS, SAMPLE, World, channel, gzip, post_gzip, read};

#[tokio::test]
async fn a_stream_that_cannot_go_on_answers_every_event() {
    let world = World::with(Limits { chunk_events_max: 2, ..Limits::default() });
    let (sender, body) = channel();
    let world = Arc::new(world);
    let answer = tokio::spawn({
        let world = world.clone();
        async move { world.post("application/x-ndjson", body).await }
    });
    sender.send(Ok(Bytes::from(format!("{SAMPLE}\n5\n")))).await.unwrap();
    world.log.wait_for(Topic::Errors, PartitionId::ONLY, 0).await;
    world.identities.set_down(true);
    sender.send(Ok(Bytes::from("{\"id\":\"b\"}\n{\"id\":\"c\"}\n{\"id\":\"d\"}\n"))).await.unwrap();
    let (status, answer) = answer.await.unwrap();
    assert_eq!((status, &answer["ok"], &answer["accepted"]), (200, &json!(false), &json!(1)));
    assert_eq!(answer["rejected"][0]["index"], 1);
    let indexes: Vec<u64> =
        answer["not_admitted"].as_array().unwrap().iter().map(|entry| entry["index"].as_u64().unwrap()).collect();
    assert_eq!((indexes, &answer["not_read_from"]), (vec![2, 3, 4], &json!(5)));
    assert_eq!(answer["code"], "USERS_UNAVAILABLE");
}

#[tokio::test]
async fn events_of_a_slow_stream_do_not_wait_for_a_full_chunk() {
    let world = Arc::new(World::with(Limits { chunk_linger: Duration::from_millis(1), ..Limits::default() }));
    let (sender, body) = channel();
    let answer = tokio::spawn({
        let world = world.clone();
        async move { world.post("application/x-ndjson", body).await }
    });
    let partition = partition_of(UserId(1), PARTITIONS);
    for offset in 0..3 {
        sender.send(Ok(Bytes::from(format!("{SAMPLE}\n")))).await.unwrap();
        world.log.wait_for(Topic::Events, partition, offset).await;
    }
    sender.send(Ok(Bytes::from("{\"id\":"))).await.unwrap();
    sender.send(Err(std::io::Error::other("gone"))).await.unwrap();
    let (status, answer) = answer.await.unwrap();
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (200, &json!(3), &json!([])));
    assert_eq!(
        (&answer["not_admitted"][0]["index"], &answer["not_admitted"][0]["code"]),
        (&json!(3), &json!("BODY_CUT_OFF"))
    );
}

#[tokio::test]
async fn a_long_answer_is_sent_while_the_request_is_read() {
    for held in [0, 100, 5_000] {
        let world = World::with(Limits { answer_bytes_held_max: held, chunk_events_max: 10, ..Limits::default() });
        let body: Vec<Result<Bytes, std::io::Error>> = (0..200).map(|_| Ok(Bytes::from("5\n"))).collect();
        let body = Body::from_stream(futures_util::stream::iter(body));
        let (status, answer) = world.post("application/x-ndjson", body).await;
        assert_eq!((status, &answer["ok"], &answer["accepted"]), (200, &json!(false), &json!(0)));
        let rejected = answer["rejected"].as_array().unwrap();
        assert!(rejected.iter().enumerate().all(|(index, entry)| entry["index"] == index));
        assert_eq!(rejected.len(), 200);
    }
}

#[tokio::test]
async fn a_request_of_bad_lines_is_not_read_without_end() {
    let world = World::with(Limits { rejected_max: 30, chunk_events_max: 20, ..Limits::default() });
    let packed = gzip(&b"x\n".repeat(1 << 20));
    assert!(packed.len() < 64 << 10);
    let (status, answer) = read(world.send(post_gzip("application/x-ndjson", packed)).await).await;
    assert_eq!((status, &answer["ok"], &answer["code"]), (200, &json!(false), &json!("TOO_MANY_REJECTED")));
    assert_eq!((&answer["accepted"], &answer["not_read_from"]), (&json!(0), &json!(30)));
    assert_eq!(answer["rejected"].as_array().unwrap().len(), 30);
    assert_eq!(world.errors().await.len(), 30);
}

#[tokio::test]
async fn good_lines_between_bad_ones_do_not_keep_a_request_going() {
    let world = World::with(Limits { rejected_max: 30, chunk_events_max: 7, ..Limits::default() });
    let lines = format!("{SAMPLE}\nx\n").repeat(1_000);
    let (status, answer) = world.post("application/x-ndjson", lines).await;
    assert_eq!((status, &answer["ok"], &answer["code"]), (200, &json!(false), &json!("TOO_MANY_REJECTED")));
    // Of the lines 0 to 60 those with odd numbers are bad. Line 61 would be the 31st of these.
    assert_eq!((&answer["accepted"], &answer["not_read_from"]), (&json!(31), &json!(61)));
    assert_eq!((world.events().await.len(), world.errors().await.len()), (31, 30));
    let at_the_bound = format!("{}{}", "x\n".repeat(30), format!("{SAMPLE}\n").repeat(100));
    let (_, answer) = world.post("application/x-ndjson", at_the_bound).await;
    assert_eq!((&answer["accepted"], answer["rejected"].as_array().unwrap().len()), (&json!(100), 30));
    assert!(answer.get("not_read_from").is_none() && answer.get("code").is_none(), "{answer}");
}

#[tokio::test]
async fn packed_blank_lines_end_the_request() {
    let limits = Limits { line_bytes_max: 1 << 20, unpacked_ratio_max: u64::MAX, ..Limits::default() };
    let world = World::with(limits);
    let mut lines = format!("{SAMPLE}\n").into_bytes();
    lines.resize(8 << 20, b'\n');
    let (status, answer) = read(world.send(post_gzip("application/x-ndjson", gzip(&lines))).await).await;
    assert_eq!((status, &answer["accepted"], &answer["not_read_from"]), (200, &json!(1), &json!(1)));
    assert_eq!((&answer["code"], &answer["rejected"]), (&json!("LINE_TOO_LONG"), &json!([])));
}

#[tokio::test]
async fn what_came_before_the_damage_of_a_packed_body_is_answered() {
    let lines = format!("{SAMPLE}\n").repeat(3);
    let whole = gzip(lines.as_bytes());
    let garbage = [&whole[..], b"garbage"].concat();
    let mut wrong_sum = whole.clone();
    let end = wrong_sum.len();
    wrong_sum[end - 6] ^= 1;
    for (body, what) in [(garbage, "garbage after it"), (wrong_sum, "its checksum")] {
        let world = World::new();
        let (status, answer) = read(world.send(post_gzip("application/x-ndjson", body)).await).await;
        assert_eq!((status, &answer["ok"], &answer["accepted"]), (200, &json!(false), &json!(3)), "{what}: {answer}");
        assert_eq!((&answer["code"], &answer["not_read_from"]), (&json!("INVALID_GZIP"), &json!(3)), "{what}");
    }
    let world = World::new();
    let (status, answer) =
        read(world.send(post_gzip("application/x-ndjson", whole[..whole.len() - 9].to_vec())).await).await;
    // Where the decoder stops depends on it, but nothing is said to be whole.
    assert!(status == 400 || answer["not_read_from"].is_u64(), "{answer}");
    assert_eq!(answer["code"], "INVALID_GZIP");
}

#[tokio::test]
async fn one_value_over_many_lines_is_refused_with_what_to_do() {
    let world = World::new();
    for body in ["[\n  {\n    \"id\": \"a\"\n  }\n]", "[{\"id\":\"a\"},\n{\"id\":\"a\"}]", "{\n  \"id\": \"a\"\n}"] {
        let (status, answer) = world.post("application/x-ndjson", body).await;
        assert_eq!((status, &answer["code"], &answer["accepted"]), (400, &json!("INVALID_JSON"), &json!(0)), "{body}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains("send an array with Content-Type: application/json"), "{message}");
    }
    assert_eq!((world.events().await.len(), world.errors().await.len()), (0, 0));
    let (_, answer) = world.post("application/x-ndjson", format!("[{SAMPLE}]\n{SAMPLE}\n")).await;
    assert_eq!((&answer["accepted"], &answer["rejected"][0]["code"]), (&json!(1), &json!("NOT_AN_OBJECT")));
    let message = answer["rejected"][0]["message"].as_str().unwrap();
    assert!(message.ends_with("send an array with Content-Type: application/json"), "{message}");
}

#[tokio::test]
async fn a_byte_order_mark_is_not_part_of_the_first_line() {
    let world = World::new();
    let (_, answer) = world.post("application/x-ndjson", format!("\u{feff}{SAMPLE}\n{SAMPLE}\n")).await;
    assert_eq!((&answer["ok"], &answer["accepted"]), (&json!(true), &json!(2)));
}

#[tokio::test]
async fn requests_that_wait_hold_no_capacity() {
    let world = Arc::new(World::with(Limits { in_flight_bytes_max: 4 << 10, ..Limits::default() }));
    let mut waiting = Vec::new();
    for _ in 0..64 {
        let (sender, body) = channel();
        let world = world.clone();
        let answer = tokio::spawn(async move { world.post("application/x-ndjson", body).await });
        // Taken out of the channel when the next one fits in: the request is being read.
        for _ in 0..2 {
            sender.send(Ok(Bytes::from("\n"))).await.unwrap();
        }
        waiting.push((sender, answer));
    }
    assert_eq!(world.post("application/json", SAMPLE).await.0, 200);
    for (sender, answer) in waiting {
        sender.send(Ok(Bytes::from(SAMPLE))).await.unwrap();
        drop(sender);
        assert_eq!(answer.await.unwrap().1["accepted"], 1);
    }
}

#[tokio::test]
async fn over_capacity_lines_are_accepted_as_far_as_there_is_room() {
    let world = World::with(Limits { in_flight_bytes_max: 4 << 10, ..Limits::default() });
    let pieces = |pieces: Vec<String>| {
        let pieces = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        Body::from_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()))
    };
    let line = format!("{SAMPLE}\n");
    let (status, answer) = world.post("application/x-ndjson", pieces(vec![line.clone(); 100])).await;
    assert_eq!((status, &answer["accepted"], &answer["ok"]), (200, &json!(100), &json!(true)), "piece by piece");
    let long = format!("{{\"id\":\"a\",\"x\":\"{}\"}}\n", "x".repeat(4 << 10));
    let (status, answer) = world.post("application/x-ndjson", pieces(vec![long.clone()])).await;
    assert_eq!((status, &answer["code"]), (429, &json!("OVER_CAPACITY")));
    let (status, answer) = world.post("application/x-ndjson", pieces(vec![line.clone(), long])).await;
    assert_eq!((status, &answer["accepted"], &answer["not_read_from"]), (200, &json!(1), &json!(1)));
    assert_eq!(answer["code"], "OVER_CAPACITY");
    assert_eq!(world.post("application/x-ndjson", line).await.0, 200, "what was held is given back");
}

#[tokio::test]
async fn a_request_that_was_taken_waits_for_room_that_another_holds() {
    let world = Arc::new(World::with(Limits { in_flight_bytes_max: 4 << 10, ..Limits::default() }));
    let start = || {
        let ((sender, body), world) = (channel(), world.clone());
        (sender, tokio::spawn(async move { world.post("application/x-ndjson", body).await }))
    };
    let (first, first_answer) = start();
    first.send(Ok(Bytes::from(format!("{SAMPLE}\n")))).await.unwrap();
    while world.events().await.is_empty() {
        tokio::task::yield_now().await;
    }
    let (other, other_answer) = start();
    let begun = format!("{{\"id\":\"a\",\"x\":\"{}", "x".repeat(1_900));
    other.send(Ok(Bytes::from(begun))).await.unwrap();
    // Taken when there is room for the next piece: then the first is held.
    other.send(Ok(Bytes::from("x"))).await.unwrap();
    first.send(Ok(Bytes::from(format!("{SAMPLE}\n").repeat(3)))).await.unwrap();
    drop(first);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!first_answer.is_finished(), "there is no room yet");
    other.send(Ok(Bytes::from("\"}\n"))).await.unwrap();
    drop(other);
    assert_eq!(other_answer.await.unwrap().1["accepted"], 1);
    let (status, answer) = first_answer.await.unwrap();
    assert_eq!((status, &answer["accepted"], &answer["ok"]), (200, &json!(4), &json!(true)), "{answer}");
}

#[tokio::test]
async fn a_line_that_does_not_end_in_time_is_refused() {
    let limits = Limits { body_pause_max: Duration::from_millis(20), ..Limits::default() };
    let world = Arc::new(World::with(limits));
    let (sender, body) = channel();
    let answer = tokio::spawn({
        let world = world.clone();
        async move { world.post("application/x-ndjson", body).await }
    });
    sender.send(Ok(Bytes::from(format!("{SAMPLE}\n{{\"id\":")))).await.unwrap();
    // Blanks go on coming, each in time; the line has its time as a whole.
    while sender.send(Ok(Bytes::from(" "))).await.is_ok() {}
    let (status, answer) = answer.await.unwrap();
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    assert_eq!((&answer["not_admitted"][0]["index"], &answer["code"]), (&json!(1), &json!("BODY_TOO_SLOW")));
    let (sender, body) = channel();
    let (status, answer) = world.post("application/x-ndjson", body).await;
    assert_eq!((status, &answer["code"]), (408, &json!("BODY_TOO_SLOW")));
    drop(sender);
}
